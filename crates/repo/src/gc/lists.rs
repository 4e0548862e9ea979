//! The lists under `gc/`: what collectors tell each other and the pushers.
//!
//! ```text
//! gc/<g>.d         packs that collector g condemned: for ever
//! gc/<g>.o         operations that ran when g looked, after the lists it names were there
//! gc/<g>.s         snapshots there were when g marked
//! gc/bad-<oid>-<n> quarantine of a pack; only its name counts
//! ```
//! Each is written once, under the name of the collector that writes it. An adopter of another's
//! `.d` writes a `.o` of its own. A `.d` is deleted last, when its packs are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use minicbor::{Decode, Encode};

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::id::{OpId, PackId};
use crate::object::{self, ObjectKind};
use crate::repository::Repository;

/// Looks at `gc/` while others remove lists from it.
const LOOKS_MAX: usize = 4;

/// The record of `gc/<oid>.d`: packs that are condemned, irrevocably.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct CondemnedList {
    #[n(0)]
    pub(crate) packs: Vec<(OpId, u32)>,
}

/// The record of `gc/<oid>.o`: operations that had not ended when they were listed, after every
/// `.d` named here was there.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct ObservedList {
    #[n(0)]
    pub(crate) operations: Vec<OpId>,
    #[n(1)]
    pub(crate) lists: Vec<OpId>,
}

/// The record of `gc/<oid>.s`: the snapshots there were, so that the next collector notices when
/// some vanish without a forget record.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct SeenList {
    #[n(0)]
    pub(crate) snapshots: Vec<OpId>,
}

/// A condemned list as it lies in the store.
#[derive(Debug, Clone)]
pub(crate) struct Condemned {
    pub(crate) packs: BTreeSet<PackId>,
    pub(crate) modified: SystemTime,
}

/// Everything under `gc/`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lists {
    pub(crate) condemned: BTreeMap<OpId, Condemned>,
    pub(crate) observed: BTreeMap<OpId, ObservedList>,
    pub(crate) seen: BTreeMap<OpId, SeenList>,
    pub(crate) quarantined: BTreeMap<PackId, SystemTime>,
}

/// Which lists a reader wants; pushers know no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Condemned and quarantined packs; what else lies there is passed over.
    Packs,
    /// All; a name of another form is refused.
    All,
}

/// Name of a quarantine note.
pub(crate) fn quarantine_name(pack: &PackId) -> String {
    format!("gc/bad-{}-{}", pack.op, pack.n)
}

/// The pack that a name under `gc/` quarantines.
pub(crate) fn quarantined(name: &str) -> Option<PackId> {
    let pack = name.strip_prefix("gc/bad-")?;
    PackId::from_object_name(&format!("packs/{pack}"))
}

/// Is this the name of a list?
pub(crate) fn is_name(name: &str) -> bool {
    form(name).is_some_and(|form| matches!(form, "d" | "o" | "s"))
}

/// Is this the name of a list of condemned packs? One is there until all of it is swept.
pub fn is_condemning(name: &str) -> bool {
    form(name) == Some("d")
}

/// What stands behind the id in a name under `gc/`.
fn form(name: &str) -> Option<&str> {
    let (id, form) = name.strip_prefix("gc/")?.split_once('.')?;
    OpId::from_hex(id).map(|_| form)
}

/// Quarantines a pack: no push relies on it from the next survey on. Whoever does the same at the same
/// time writes the same.
pub(crate) fn quarantine(repo: &Repository, pack: &PackId) -> Result<()> {
    put(repo, &quarantine_name(pack), &CondemnedList { packs: vec![(pack.op, pack.n)] })
}

impl Lists {
    /// LIST `gc/`, then reads what is new.
    ///
    /// A collector that finds a list gone which was just listed looks again: whoever removed it
    /// wrote one of its own before, and that one says which snapshots there were.
    pub(crate) fn read(repo: &Repository, cache: Option<&Cache>, wanted: Wanted) -> Result<Self> {
        for _ in 0..LOOKS_MAX {
            let (lists, vanished) = Self::read_once(repo, cache, wanted)?;
            if !vanished || wanted == Wanted::Packs {
                return Ok(lists);
            }
        }
        let reason = "other collections remove lists faster than they can be read here".to_owned();
        Err(Error::Refused { reason })
    }

    /// Also whether a list was gone when it was to be read.
    fn read_once(repo: &Repository, cache: Option<&Cache>, wanted: Wanted) -> Result<(Self, bool)> {
        let (mut lists, mut vanished) = (Self::default(), false);
        for item in repo.store().list("gc/")? {
            let name = item.name.as_str();
            let rest = name.strip_prefix("gc/").expect("listed by this prefix");
            if rest.starts_with("bad-") {
                let pack = quarantined(name)
                    .ok_or_else(|| Error::corrupt(name, "its name holds no pack"))?;
                lists.quarantined.insert(pack, item.modified);
                continue;
            }
            let (id, form) = rest.split_once('.').unwrap_or((rest, ""));
            let (Some(id), "d" | "o" | "s") = (OpId::from_hex(id), form) else {
                match wanted {
                    Wanted::Packs if form != "d" => continue,
                    Wanted::Packs => return Err(Error::corrupt(name, "its name holds no id")),
                    Wanted::All => return Err(unknown(name)),
                }
            };
            match form {
                "d" => {
                    let Some(list) = open::<CondemnedList>(repo, cache, name)? else {
                        vanished = true;
                        continue;
                    };
                    let packs = list.packs.iter().map(|(op, n)| PackId { op: *op, n: *n });
                    let list = Condemned { packs: packs.collect(), modified: item.modified };
                    lists.condemned.insert(id, list);
                }
                "o" if wanted == Wanted::All => match open(repo, cache, name)? {
                    Some(list) => drop(lists.observed.insert(id, list)),
                    None => vanished = true,
                },
                "s" if wanted == Wanted::All => match open(repo, cache, name)? {
                    Some(list) => drop(lists.seen.insert(id, list)),
                    None => vanished = true,
                },
                _ => {}
            }
        }
        Ok((lists, vanished))
    }

    /// Packs that any list condemns.
    pub(crate) fn condemned_packs(&self) -> BTreeSet<PackId> {
        self.condemned.values().flat_map(|list| &list.packs).copied().collect()
    }

    /// Packs that nobody may rely on.
    pub(crate) fn unusable_packs(&self) -> BTreeSet<PackId> {
        let mut packs = self.condemned_packs();
        packs.extend(self.quarantined.keys());
        packs
    }

    /// An observation that covers a condemned list.
    pub(crate) fn observation_of(&self, list: &OpId) -> Option<&ObservedList> {
        self.observed.values().find(|observed| observed.lists.contains(list))
    }
}

fn unknown(name: &str) -> Error {
    let name = name.escape_debug();
    Error::Refused { reason: format!("\"{name}\" is of a form that this program does not know") }
}

/// Opens a list; `None` if it was deleted since it was listed.
fn open<T: for<'b> Decode<'b, ()>>(
    repo: &Repository,
    cache: Option<&Cache>,
    name: &str,
) -> Result<Option<T>> {
    let read =
        |bytes: &[u8]| object::open_record(repo.keys(), repo.id(), ObjectKind::Gc, name, bytes);
    if let Some(record) = cache.and_then(|c| c.object(name)).and_then(|bytes| read(&bytes).ok()) {
        return Ok(Some(record));
    }
    let bytes = match repo.store().get(name) {
        Err(store::Error::NotFound { .. }) => return Ok(None),
        other => other?,
    };
    let record = read(&bytes)?;
    if let Some(cache) = cache {
        cache.put_object(name, &bytes);
    }
    Ok(Some(record))
}

/// Writes a list.
pub(crate) fn put<T: Encode<()>>(repo: &Repository, name: &str, record: &T) -> Result<()> {
    let bytes = object::seal_record(repo.keys(), repo.id(), ObjectKind::Gc, name, record);
    Ok(repo.store().put(name, vec![bytes.into()])?)
}
