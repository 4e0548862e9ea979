//! Keys: the random keyring of a repository and every key that follows from it.
//!
//! ```text
//! keyring (random, made at init; wrapped by each slot)
//!   ids      32  -> ids of chunks and blocks          (BLAKE3 derive_key per type)
//!   chunker  32  -> gear table of the chunker
//!   control  32  -> control objects, trailers         (HKDF-SHA256 per kind)
//!   epochs   n * { meta 32, data 32 } -> one key per block (HKDF-SHA256 per type and block id)
//! ```

mod machine;
mod recovery;
mod rotate;
mod slot;
mod slots;
#[cfg(test)]
mod vectors;

use std::fmt;

use hkdf::Hkdf;
use minicbor::{Decode, Encode};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::error::Error;
use crate::id::{BlockId, ChunkId};

pub use machine::MachineKey;
pub use recovery::RecoveryCode;
pub use rotate::{Rotation, take_back};
pub use slot::{Kdf, Note, SecretInput, Slot, SlotKind};
pub use slots::{SLOTS_TRIED_MAX, add, list, open_any, read, remove};

/// 32 secret bytes: wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret(pub(crate) [u8; 32]);

impl Secret {
    /// From bytes that are secret.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// 32 random bytes.
    pub fn random() -> Self {
        Self(crate::random::bytes())
    }

    /// The bytes; whoever takes them keeps them secret.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<C> Encode<C> for Secret {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Secret {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.bytes()?
            .try_into()
            .map(Self)
            .map_err(|_| minicbor::decode::Error::message("a key is 32 bytes"))
    }
}

/// Keys of one epoch: metadata blocks (nodes, maps, patches) and data blocks apart.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Epoch {
    /// Wraps metadata blocks.
    #[n(0)]
    pub meta: Secret,
    /// Wraps data blocks.
    #[n(1)]
    pub data: Secret,
}

/// The keyring: everything secret about a repository.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Keyring {
    /// Root of all id keys.
    #[n(0)]
    pub ids: Secret,
    /// Root of the chunker's gear table.
    #[n(1)]
    pub chunker: Secret,
    /// Root of the keys of control objects and trailers.
    #[n(2)]
    pub control: Secret,
    /// Epochs, oldest first; the last one seals.
    #[n(3)]
    pub epochs: Vec<Epoch>,
}

impl Keyring {
    /// A fresh keyring with one epoch.
    pub fn random() -> Self {
        Self {
            ids: Secret::random(),
            chunker: Secret::random(),
            control: Secret::random(),
            epochs: vec![Epoch { meta: Secret::random(), data: Secret::random() }],
        }
    }
}

/// What a block holds. The number is in its id, its key and its associated data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum BlockKind {
    /// Chunks of file content.
    #[n(0)]
    Data,
    /// A node of a tree.
    #[n(1)]
    Node,
    /// A base content map.
    #[n(2)]
    Map,
    /// A patch over a base content map.
    #[n(3)]
    Patch,
}

impl BlockKind {
    /// The number as stored.
    pub fn code(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Node => 1,
            Self::Map => 2,
            Self::Patch => 3,
        }
    }

    /// True for nodes, maps and patches.
    pub fn is_meta(self) -> bool {
        self != Self::Data
    }
}

/// The keys in use, derived from a keyring once per run.
#[derive(Clone)]
pub struct Keys {
    keyring: Keyring,
    chunk_ids: Secret,
    block_ids: [Secret; 4],
    cache: Secret,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

impl Keys {
    /// Derives the working keys.
    pub fn new(keyring: Keyring) -> Self {
        let id_key =
            |context: &str| Secret(blake3::derive_key(context, keyring.ids.expose().as_slice()));
        Self {
            chunk_ids: id_key("agent-backup 1 chunk id"),
            block_ids: [
                id_key("agent-backup 1 block id data"),
                id_key("agent-backup 1 block id node"),
                id_key("agent-backup 1 block id map"),
                id_key("agent-backup 1 block id patch"),
            ],
            cache: Secret(blake3::derive_key(
                "agent-backup 1 local cache",
                keyring.control.expose().as_slice(),
            )),
            keyring,
        }
    }

    /// The keyring they came from.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The chunker's key: gear tables follow from it.
    pub fn chunker_key(&self) -> [u8; 32] {
        blake3::derive_key("agent-backup 1 gear table", self.keyring.chunker.expose().as_slice())
    }

    /// The id of a chunk of plaintext.
    pub fn chunk_id(&self, plain: &[u8]) -> ChunkId {
        let hash = blake3::keyed_hash(self.chunk_ids.expose(), plain);
        let mut id = [0; ChunkId::LEN];
        id.copy_from_slice(&hash.as_bytes()[..ChunkId::LEN]);
        ChunkId(id)
    }

    /// The id of a block of plaintext.
    pub fn block_id(&self, kind: BlockKind, plain: &[u8]) -> BlockId {
        let key = &self.block_ids[usize::from(kind.code())];
        BlockId(*blake3::keyed_hash(key.expose(), plain).as_bytes())
    }

    /// The key that decides where a tree's nodes end.
    pub fn tree_key(&self) -> [u8; 32] {
        blake3::derive_key("agent-backup 1 tree cut", self.keyring.chunker.expose().as_slice())
    }

    /// The key under the hashes in marks, which stand in the place of secrets.
    pub fn mark_key(&self) -> [u8; 32] {
        blake3::derive_key("agent-backup 1 secret mark", self.keyring.ids.expose().as_slice())
    }

    /// A keyed 16-byte check over rows of the local cache.
    pub fn cache_mac(&self, row: &[u8]) -> [u8; 16] {
        let mut mac = [0; 16];
        mac.copy_from_slice(&blake3::keyed_hash(self.cache.expose(), row).as_bytes()[..16]);
        mac
    }

    /// The epoch that seals now.
    pub(crate) fn epoch_now(&self) -> u16 {
        u16::try_from(self.keyring.epochs.len() - 1).expect("the number of epochs is small")
    }

    /// The key of one block; `None` if the epoch is unknown to this keyring.
    pub(crate) fn block_key(&self, epoch: u16, kind: BlockKind, id: &BlockId) -> Option<Secret> {
        let epoch = self.keyring.epochs.get(usize::from(epoch))?;
        let root = if kind.is_meta() { &epoch.meta } else { &epoch.data };
        let mut info = [0; 15 + 1 + BlockId::LEN];
        info[..15].copy_from_slice(b"agent-backup 1 ");
        info[15] = kind.code();
        info[16..].copy_from_slice(&id.0);
        Some(expand(root, &info))
    }

    /// What a block of an epoch that this keyring does not have means.
    pub(crate) fn epoch_unknown(&self, epoch: u16) -> Error {
        let now = self.epoch_now();
        let detail = format!(
            "the repository has blocks of epoch {epoch}, and the key that opened it ends with epoch \
             {now}: the keys were rotated since that key was made"
        );
        Error::WrongKey { detail }
    }

    /// [`Error::WrongKey`] if another keyring of the repository has later epochs.
    pub fn refuse_older_than(&self, other: &Keyring) -> crate::error::Result<()> {
        match u16::try_from(other.epochs.len() - 1) {
            Ok(newest) if newest > self.epoch_now() => Err(self.epoch_unknown(newest)),
            _ => Ok(()),
        }
    }

    /// The key of control objects of one kind.
    pub(crate) fn control_key(&self, kind: u8) -> Secret {
        let mut info = *b"agent-backup 1 control ?";
        info[23] = kind;
        expand(&self.keyring.control, &info)
    }
}

/// HKDF-SHA256 expand step (RFC 5869): `root` is uniformly random, so no extract step is needed.
pub(crate) fn expand(root: &Secret, info: &[u8]) -> Secret {
    let mut out = Secret([0; 32]);
    Hkdf::<Sha256>::from_prk(root.expose())
        .expect("a key of 32 bytes is long enough")
        .expand(info, &mut out.0)
        .expect("32 bytes are within the limit");
    out
}
