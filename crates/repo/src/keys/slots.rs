//! The key slots of a repository as a set: list, open any, add, remove.
//!
//! In: a store and a secret. Out: the keyring. Few store calls: a machine key names its slot (one
//! GET); a passphrase or recovery code takes one LIST and a GET per slot until one opens.

use bytes::Bytes;
use store::Store;

use super::{Kdf, Keyring, Note, RecoveryCode, SecretInput, Slot};
use crate::error::{Error, Result};
use crate::id::{RepoId, SlotId};

/// Slots that are read to open a repository, at most: whoever can write to the store must not make
/// a client run scrypt for ever.
pub const SLOTS_TRIED_MAX: usize = 64;

const PREFIX: &str = "keys/";

/// The slots there are, in listing order. Names that are not of slots are left out.
pub fn list(store: &dyn Store) -> Result<Vec<SlotId>> {
    let items = store.list(PREFIX)?;
    Ok(items
        .iter()
        .filter_map(|item| {
            let id = Slot::id_of(&item.name);
            if id.is_none() {
                tracing::warn!(name = %item.name.escape_debug(), "not a key slot, left alone");
            }
            id
        })
        .collect())
}

/// Reads one slot, closed.
pub fn read(store: &dyn Store, id: SlotId) -> Result<Slot> {
    let name = Slot::object_name(id);
    match store.get(&name) {
        Ok(object) => Slot::parse(&name, &object),
        Err(store::Error::NotFound { .. }) => Err(Error::Missing { object: name }),
        Err(error) => Err(error.into()),
    }
}

/// Opens the repository's keyring with whichever slot the secret opens.
///
/// [`Error::WrongKey`] if it opens none. If every slot it could open is damaged or too new, the
/// first such error.
pub fn open_any(
    store: &dyn Store,
    repo: &RepoId,
    secret: &SecretInput,
) -> Result<(Keyring, SlotId)> {
    match secret {
        SecretInput::Machine(key) => {
            key.expect_repo(repo)?;
            let slot = read(store, key.slot).map_err(|error| match error {
                Error::Missing { object } => Error::WrongKey {
                    detail: format!("{object}, the slot of this machine, is gone"),
                },
                other => other,
            })?;
            slot.open(repo, secret).map(|(keyring, _)| (keyring, slot.id()))
        }
        SecretInput::Passphrase(_) | SecretInput::Recovery(_) => open_typed(store, repo, secret),
    }
}

fn open_typed(store: &dyn Store, repo: &RepoId, secret: &SecretInput) -> Result<(Keyring, SlotId)> {
    let ids = list(store)?;
    if ids.is_empty() {
        return Err(Error::Missing { object: PREFIX.to_owned() });
    }
    let (mut tried, mut unreadable) = (0_usize, Vec::new());
    for id in ids.iter().take(SLOTS_TRIED_MAX) {
        let opened = read(store, *id).and_then(|slot| {
            if slot.kind() != secret.kind() {
                return Ok(None);
            }
            tried += 1;
            slot.open(repo, secret).map(Some)
        });
        match opened {
            Ok(Some((keyring, _))) => return Ok((keyring, *id)),
            Ok(None) | Err(Error::WrongKey { .. }) => {}
            // removed since the listing, damaged or newer: another slot may still open
            Err(error @ (Error::Corrupt { .. } | Error::TooNew { .. } | Error::Missing { .. })) => {
                unreadable.push(error);
            }
            Err(error) => return Err(error),
        }
    }
    if tried == 0 && !unreadable.is_empty() {
        return Err(unreadable.swap_remove(0));
    }
    let kind = secret.kind();
    let mut detail = vec![match tried {
        0 => format!("no slot of this repository opens with a {kind}"),
        1 => format!("the one {kind} slot does not open"),
        n => format!("none of {n} {kind} slots opens"),
    }];
    if let SecretInput::Passphrase(text) = secret
        && let Some(mistake) = RecoveryCode::mistake(text)
    {
        detail.push(format!("if it was meant to be the recovery code: {mistake}"));
    }
    if let Some(first) = unreadable.first() {
        detail.push(format!("{} more could not be used ({first})", unreadable.len()));
    }
    if ids.len() > SLOTS_TRIED_MAX {
        detail.push(format!("only {SLOTS_TRIED_MAX} of {} slots were tried", ids.len()));
    }
    Err(Error::WrongKey { detail: detail.join("; ") })
}

/// Adds a slot: writes it, reads it back and opens it before it counts.
///
/// A slot that does not come back as it was written is removed again, and the error says so.
pub fn add(
    store: &dyn Store,
    repo: &RepoId,
    keyring: &Keyring,
    secret: &SecretInput,
    note: &Note,
    kdf: Kdf,
) -> Result<SlotId> {
    let slot = Slot::create(repo, keyring, secret, note, kdf)?;
    let name = Slot::object_name(slot.id());
    // a machine key brings its id, and no name is ever written twice
    if matches!(secret, SecretInput::Machine(_)) {
        match read(store, slot.id()) {
            Err(Error::Missing { .. }) => {}
            Err(error @ Error::Store(_)) => return Err(error),
            _ => return Err(Error::Refused { reason: format!("{name} is there already") }),
        }
    }
    store.put(&name, vec![Bytes::from(slot.encode())])?;
    let checked = read(store, slot.id()).and_then(|back| {
        let (opened, _) = back.open(repo, secret)?;
        if opened == *keyring {
            Ok(())
        } else {
            Err(Error::corrupt(&name, "it came back with another keyring"))
        }
    });
    if let Err(error) = checked {
        // the name is ours and new: nobody else relies on it
        let _ = store.delete(&name);
        return Err(error);
    }
    Ok(slot.id())
}

/// Removes a slot. [`Error::Refused`] unless another slot is there that can be read, because
/// without one the repository is lost for ever.
///
/// Two machines that each remove the other's slot at the same time are not stopped by this.
pub fn remove(store: &dyn Store, id: SlotId) -> Result<()> {
    let ids = list(store)?;
    if !ids.contains(&id) {
        return Err(Error::Missing { object: Slot::object_name(id) });
    }
    for other in ids.iter().filter(|other| **other != id) {
        match read(store, *other) {
            Ok(_) => return Ok(store.delete(&Slot::object_name(id))?),
            Err(error @ Error::Store(_)) => return Err(error),
            Err(_) => {}
        }
    }
    let reason = "this is the last usable key slot; add another one first".to_owned();
    Err(Error::Refused { reason })
}
