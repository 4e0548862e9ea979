//! Rotation: the keyring gets one more epoch, with which blocks are sealed from then on.
//!
//! In: the keyring in use and the secrets at hand. Out: the keyring to write into new slots, and what
//! is to become of the old ones. A slot can only be written by whoever has its secret, so slots of
//! other secrets keep the old keyring: they open what was stored before, not what comes after.
//!
//! ```text
//! LIST keys/, try the secrets at hand on every slot      Rotation::plan
//! PUT new slots, each read back and opened               keys::add
//! LIST keys/: a slot that is none of these: stop         Rotation::settle
//! only now the new keyring is used; then the old slots are removed
//! ```
//! Two rotations at once would make two epochs of one number. Each writes its slots and then looks:
//! at least one sees the other, takes its slots back and stops before anything was sealed.

use store::Store;

use super::slots::{self, SLOTS_TRIED_MAX};
use super::{Epoch, Keyring, Secret, SecretInput, Slot};
use crate::error::{Error, Result};
use crate::id::{RepoId, SlotId};

/// Epochs of one keyring, at most: a slot of 64 KiB holds more.
const EPOCHS_MAX: usize = 256;

/// A rotation that is under way.
#[derive(Debug)]
pub struct Rotation {
    /// The keyring with the new epoch.
    pub keyring: Keyring,
    /// Slots that the secrets at hand open: new ones take their place.
    pub replaced: Vec<SlotId>,
    /// Slots that they do not open.
    pub others: Vec<SlotId>,
    known: Vec<SlotId>,
}

impl Rotation {
    /// Finds out which slots there are and makes the new epoch; writes nothing.
    ///
    /// A slot with a later keyring than the one in use is what an earlier rotation left that was
    /// interrupted: the new epoch comes after all of its. [`Error::Refused`] if two keyrings
    /// contradict each other.
    pub fn plan(
        store: &dyn Store,
        repo: &RepoId,
        keyring: &Keyring,
        secrets: &[SecretInput],
    ) -> Result<Self> {
        let known = slots::list(store)?;
        let (mut newest, mut replaced, mut others) = (keyring.clone(), Vec::new(), Vec::new());
        for (tried, id) in known.iter().enumerate() {
            let slot = match slots::read(store, *id) {
                Ok(slot) => slot,
                Err(Error::Missing { .. }) => continue, // removed meanwhile
                Err(Error::Corrupt { .. } | Error::TooNew { .. }) => {
                    others.push(*id);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let opened = if tried < SLOTS_TRIED_MAX { open(&slot, repo, secrets) } else { None };
            let Some(found) = opened else {
                others.push(*id);
                continue;
            };
            replaced.push(*id);
            if found.epochs.starts_with(&newest.epochs) {
                newest = found;
            } else if !newest.epochs.starts_with(&found.epochs) {
                let reason = format!(
                    "{} has other keys than the slot that was opened: two rotations ran at once; \
                     keep the slot that opens the newest snapshot and remove the other one",
                    Slot::object_name(*id)
                );
                return Err(Error::Refused { reason });
            }
        }
        if newest.epochs.len() >= EPOCHS_MAX {
            let reason = format!("there were {EPOCHS_MAX} rotations; start a new repository");
            return Err(Error::Refused { reason });
        }
        newest.epochs.push(Epoch { meta: Secret::random(), data: Secret::random() });
        Ok(Self { keyring: newest, replaced, others, known })
    }

    /// Looks for another rotation, or any slot that came meanwhile; `added` are the new slots of this
    /// one, and they are taken back if there is one.
    pub fn settle(&self, store: &dyn Store, added: &[SlotId]) -> Result<()> {
        let is_ours = |id: &SlotId| self.known.contains(id) || added.contains(id);
        match slots::list(store)?.iter().find(|id| !is_ours(id)) {
            None => Ok(()),
            Some(stranger) => {
                take_back(store, added);
                let name = Slot::object_name(*stranger);
                let reason = format!("{name} was added meanwhile; run it again");
                Err(Error::Refused { reason })
            }
        }
    }
}

/// Removes slots of a rotation that stops; what stays opens old blocks like any other slot.
pub fn take_back(store: &dyn Store, added: &[SlotId]) {
    for id in added {
        if let Err(error) = store.delete(&Slot::object_name(*id)) {
            tracing::warn!("a new key slot stays: {error}");
        }
    }
}

fn open(slot: &Slot, repo: &RepoId, secrets: &[SecretInput]) -> Option<Keyring> {
    let fits = |secret: &&SecretInput| match secret {
        SecretInput::Machine(key) => key.slot == slot.id(),
        _ => secret.kind() == slot.kind(),
    };
    let mut tried = secrets.iter().filter(fits);
    tried.find_map(|secret| slot.open(repo, secret).ok()).map(|(keyring, _)| keyring)
}
