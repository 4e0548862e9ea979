//! Key rotation on this machine: new slots for this machine, a passphrase and a recovery code, all
//! with a keyring of one more epoch. See [`repo::keys::Rotation`] for the order.
//!
//! The new machine key takes the place of the old one only when its slot is there and no other
//! rotation runs; a crash before that leaves everything as it was, and a slot too many.

use repo::SlotId;
use repo::keys::{self, Kdf, MachineKey, Note, RecoveryCode, Rotation, SecretInput, take_back};

use crate::error::Result;
use crate::session::{Dirs, Session};
use crate::state::StateDir;

/// How to rotate.
#[derive(Debug, Clone)]
pub struct RotateOptions {
    /// A passphrase, new or in use, that opens the repository from then on.
    pub passphrase: Option<SecretInput>,
    /// Makes a recovery code.
    pub recovery: bool,
    /// Removes the slots whose secret is not at hand.
    pub drop_others: bool,
    /// Label of the new slot of this machine.
    pub label: String,
    /// Cost of the new slots.
    pub kdf: Kdf,
}

/// What a rotation did.
#[derive(Debug, Clone, Default)]
pub struct Rotated {
    /// Slots with the new keyring.
    pub added: Vec<SlotId>,
    /// Slots that are gone.
    pub removed: Vec<SlotId>,
    /// Slots that stay with the old keyring.
    pub left: Vec<SlotId>,
    /// Number of the new epoch, from 0.
    pub epoch: usize,
}

/// Rotates. `show` gets the recovery code before anything relies on it.
pub fn rotate(
    session: &Session,
    dirs: &Dirs,
    options: &RotateOptions,
    show: impl FnOnce(&RecoveryCode) -> Result<()>,
) -> Result<Rotated> {
    let repo = &session.repo;
    repo.config().writable()?;
    // no push of this machine may go on with the old keyring meanwhile
    let _lock = session.state.lock()?;
    let path = StateDir::machine_key(&dirs.state, repo.id());
    let old = path.exists().then(|| MachineKey::read(&path, repo.id())).transpose()?;
    let at_hand: Vec<SecretInput> =
        old.iter().cloned().map(SecretInput::Machine).chain(options.passphrase.clone()).collect();
    let rotation = Rotation::plan(repo.store(), repo.id(), repo.keys().keyring(), &at_hand)?;

    let created_secs = u64::try_from(session.clock.now_secs()).unwrap_or_default();
    let key = old.map(|_| MachineKey::random(*repo.id()));
    let code = options.recovery.then(RecoveryCode::random);
    let mut fresh: Vec<(SecretInput, &str)> = Vec::new();
    fresh.extend(options.passphrase.iter().map(|secret| (secret.clone(), "passphrase")));
    fresh.extend(code.iter().map(|code| (SecretInput::Recovery(code.clone()), "recovery code")));
    // last: a crash before its file is written leaves a slot that nobody can open
    fresh.extend(key.iter().map(|key| (SecretInput::Machine(key.clone()), &*options.label)));
    let mut rotated = Rotated { epoch: rotation.keyring.epochs.len() - 1, ..Rotated::default() };
    let write = |(secret, label): &(SecretInput, &str)| {
        let note = Note { label: (*label).to_owned(), created_secs };
        keys::add(repo.store(), repo.id(), &rotation.keyring, secret, &note, options.kdf)
    };
    let done: Result<()> = fresh.iter().try_for_each(|one| {
        rotated.added.push(write(one)?);
        Ok(())
    });
    let done = done.and_then(|()| code.as_ref().map_or(Ok(()), show));
    if let Err(error) = done {
        take_back(repo.store(), &rotated.added);
        return Err(error);
    }
    rotation.settle(repo.store(), &rotated.added)?;
    if let Some(key) = key {
        key.write(&path)?;
    }
    let mut going = rotation.replaced;
    if options.drop_others {
        going.extend(rotation.others);
    } else {
        rotated.left = rotation.others;
    }
    for id in going {
        keys::remove(repo.store(), id)?;
        rotated.removed.push(id);
    }
    Ok(rotated)
}
