//! Snapshots: the record that commits a push, `snap/<oid>`.

use minicbor::{Decode, Encode};

use crate::id::{BlockId, MachineId, OpId};

/// A root directory that a snapshot covers.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RootRecord {
    /// Label: the first components of its entries' paths.
    #[n(0)]
    pub label: String,
    /// The agent (adapter id) it belongs to; none for `--path`.
    #[n(1)]
    pub agent: Option<String>,
    /// The directory at the source, as bytes.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub dir: Vec<u8>,
}

/// Files and databases that the adapter wants from one moment, and whether they are.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct GroupRecord {
    /// Its name: the agent and the group, such as `codex/sessions`.
    #[n(0)]
    pub name: String,
    /// There was a moment at which all its members were what the snapshot holds.
    #[n(1)]
    pub consistent: bool,
}

/// Where a snapshot came from that another program made.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ImportRecord {
    /// The program.
    #[n(0)]
    pub from: String,
    /// Its name there.
    #[n(1)]
    pub name: String,
    /// SHA-256 of its list of files there: the same snapshot has the same, wherever it lies.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub manifest: [u8; 32],
}

/// What a push did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct PushStats {
    /// Entries in the tree, without what is gone from its source.
    #[n(0)]
    pub entries: u64,
    /// Bytes of their content.
    #[n(1)]
    pub bytes: u64,
    /// Files whose content was read.
    #[n(2)]
    pub files_read: u64,
    /// Bytes read.
    #[n(3)]
    pub bytes_read: u64,
    /// Bytes of chunks that were not in the repository.
    #[n(4)]
    pub bytes_new: u64,
    /// Bytes of packs, index objects and snapshot uploaded.
    #[n(5)]
    pub bytes_stored: u64,
    /// Items that could not be read or moved while they were read.
    #[n(6)]
    pub problems: u64,
    /// Files, directories and links that are new since the snapshot before.
    #[n(7)]
    pub entries_changed: u64,
    /// Entries in the tree that are gone from their source; not among `entries`.
    #[cbor(n(8), default, skip_if = "is_none")]
    pub gone_entries: u64,
    /// Bytes of their content; not among `bytes`.
    #[cbor(n(9), default, skip_if = "is_none")]
    pub gone_bytes: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that the codec calls")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// The reason of a safety snapshot.
pub const SAFETY: &str = "safety";

/// The highest count of a machine: a push every microsecond for nine years.
const COUNTER_MAX: u64 = 1 << 48;

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Snapshot {
    /// The operation that committed it; also its name.
    #[n(0)]
    pub id: OpId,
    /// The machine that pushed.
    #[n(1)]
    pub machine: MachineId,
    /// The machine's name at the time.
    #[n(2)]
    pub host: String,
    /// The user who pushed.
    #[n(3)]
    pub user: String,
    /// When the push began: nanoseconds since 1970, by the machine's clock.
    #[n(4)]
    pub started_nanos: i64,
    /// When it was committed, the same way.
    #[n(5)]
    pub finished_nanos: i64,
    /// Counts this machine's snapshots from 1.
    #[n(6)]
    pub counter: u64,
    /// This machine's snapshot before.
    #[n(7)]
    pub previous: Option<OpId>,
    /// BLAKE3 of the sealed object of the snapshot before.
    #[cbor(n(8), with = "minicbor::bytes")]
    pub previous_hash: Option<[u8; 32]>,
    /// Roots, sorted by label.
    #[n(9)]
    pub roots: Vec<RootRecord>,
    /// Root node of the tree.
    #[n(10)]
    pub tree: BlockId,
    /// What the push did.
    #[n(11)]
    pub stats: PushStats,
    /// Version of the program.
    #[n(12)]
    pub program: String,
    /// Tags.
    #[n(13)]
    pub tags: Vec<String>,
    /// Operating system of the source.
    #[n(14)]
    pub os: String,
    /// The home directory at the source, as bytes.
    #[cbor(n(15), with = "minicbor::bytes")]
    pub home: Option<Vec<u8>>,
    /// Why it was made, if not by a plain push, in words apart by a space: [`SAFETY`] before a restore.
    #[n(16)]
    pub reason: Option<String>,
    /// Groups of two members and more, sorted by name.
    #[cbor(n(17), default, skip_if = "Vec::is_empty")]
    pub groups: Vec<GroupRecord>,
    /// Paths of the databases in it that were found damaged, sorted.
    #[cbor(n(18), with = "byte_strings", default, skip_if = "Vec::is_empty")]
    pub damaged: Vec<Vec<u8>>,
    /// The snapshot in another repository that this is a copy of.
    #[n(19)]
    pub origin: Option<OpId>,
    /// The snapshot that this one took the place of: the same push without some of its entries.
    #[n(20)]
    pub instead_of: Option<OpId>,
    /// Roots of entries that are gone, as far as they are not among [`Snapshot::roots`].
    #[cbor(n(21), default, skip_if = "Vec::is_empty")]
    pub gone_roots: Vec<RootRecord>,
    /// Another program made it; fields 1 to 3, 14 and 15 are those of the import then.
    #[n(22)]
    pub imported: Option<ImportRecord>,
}

/// An array of byte strings.
mod byte_strings {
    use minicbor::decode::Error as DecodeError;
    use minicbor::encode::Error as EncodeError;
    use minicbor::encode::Write;
    use minicbor::{Decoder, Encoder};

    pub(super) fn encode<C, W: Write>(
        items: &[Vec<u8>],
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.array(items.len() as u64)?;
        for item in items {
            e.bytes(item)?;
        }
        Ok(())
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<Vec<u8>>, DecodeError> {
        let len = d.array()?.ok_or_else(|| DecodeError::message("an array without a length"))?;
        (0..len).map(|_| Ok(d.bytes()?.to_vec())).collect()
    }
}

impl Snapshot {
    /// Object name.
    pub fn object_name(id: &OpId) -> String {
        format!("snap/{id}")
    }

    /// Made before something was replaced: no policy takes it, and `latest` does not mean it.
    pub fn is_safety(&self) -> bool {
        self.has_reason(SAFETY)
    }

    /// It is the push itself: no copy, no import, nothing that was brought back or took another's place.
    /// Only such a one says something of when it was written, and what its machine did last.
    pub fn is_original(&self) -> bool {
        self.origin.is_none()
            && self.instead_of.is_none()
            && self.imported.is_none()
            && !self.has_reason(crate::undelete::REASON)
    }

    /// By this a machine's snapshots sort as it made them: it counts them, as its clock may have been wrong.
    /// What it pushed to another repository is counted there, and sorts before its own when it is copied.
    pub fn order(&self) -> impl Ord + use<> {
        (self.origin.is_none(), self.count(), self.finished_nanos, self.id)
    }

    /// Its counter; none if no machine can have counted so far, so that nobody goes on from there.
    pub fn count(&self) -> u64 {
        if self.counter > COUNTER_MAX { 0 } else { self.counter }
    }

    /// Is this one of the words of its reason?
    pub fn has_reason(&self, word: &str) -> bool {
        self.reason.as_deref().is_some_and(|reason| reason.split(' ').any(|one| one == word))
    }

    /// The reason of a snapshot that is made of this one: a safety snapshot is one ever after.
    pub fn reason_with(&self, word: &str) -> String {
        if self.is_safety() { format!("{SAFETY} {word}") } else { word.to_owned() }
    }

    /// No group is known to be from several moments.
    pub fn is_consistent(&self) -> bool {
        self.groups.iter().all(|group| group.consistent)
    }

    /// Agents the snapshot holds, sorted, each once.
    pub fn agents(&self) -> Vec<&str> {
        let mut agents: Vec<&str> = self.roots.iter().filter_map(|r| r.agent.as_deref()).collect();
        agents.sort_unstable();
        agents.dedup();
        agents
    }
}
