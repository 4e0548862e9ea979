//! Packs: objects that hold many blocks.
//!
//! ```text
//! off  len  field
//! 0    8    "ABPACK" 00 01
//! 8    ..   blocks: sealed, back to back, nothing between them
//! ..   ..   padding: looks random, up to the padded length
//! ..   T    trailer: a sealed control object (kind 't') holding the pack's table
//! -4   4    T as u32 LE, XORed with a keyed hash of the pack's name
//! ```
//! Without the key no block boundary, no count and no trailer length is visible. The table also
//! travels in the operation's index object, so a damaged tail costs nothing.

use bytes::Bytes;
use minicbor::{Decode, Encode};

use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::id::{BlockId, ChunkId, OpId, PackId, RepoId};
use crate::keys::{BlockKind, Keys};
use crate::limits;
use crate::object::{self, ObjectKind};
use crate::padding::padded_len;
use crate::{seal, varint};

const MAGIC: [u8; 8] = *b"ABPACK\0\x01";
const TAIL_BYTES: u64 = 4;
/// Sealed length that most blocks stay below: a pack with less room than this is full.
const BLOCK_BYTES_USUAL: u64 = 1 << 20;
/// Room for a full pack, its last block and its trailer.
const PACK_CAPACITY: usize = 48 << 20;

/// One block in a pack's table.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct BlockRow {
    /// The block.
    #[n(0)]
    pub id: BlockId,
    /// What it holds.
    #[n(1)]
    pub kind: BlockKind,
    /// How its plaintext is coded.
    #[n(2)]
    pub codec: Codec,
    /// Envelope kind: 0, symmetric. Others are reserved.
    #[n(3)]
    pub envelope: u8,
    /// Epoch of the key.
    #[n(4)]
    pub epoch: u16,
    /// Bytes in the pack, tag included.
    #[n(5)]
    pub stored_len: u32,
    /// Bytes of plaintext.
    #[n(6)]
    pub plain_len: u32,
    /// Nonce of the seal.
    #[cbor(n(7), with = "minicbor::bytes")]
    pub nonce: [u8; 12],
    /// First 16 bytes of the BLAKE3 of the sealed bytes.
    #[cbor(n(8), with = "minicbor::bytes")]
    pub sealed_hash: [u8; 16],
    /// Data block: lengths of its chunks, as varints.
    #[cbor(n(9), with = "minicbor::bytes")]
    pub chunk_lens: Vec<u8>,
    /// Data block: ids of its chunks, 16 bytes each.
    #[cbor(n(10), with = "minicbor::bytes")]
    pub chunk_ids: Vec<u8>,
}

impl BlockRow {
    /// Bytes of its CBOR, at most: ten numbers and byte strings beside the chunk list.
    pub(crate) fn coded_len_max(&self) -> u64 {
        128 + (self.chunk_lens.len() + self.chunk_ids.len()) as u64
    }

    /// The chunks of a data block: id, offset and length in the block's plaintext.
    pub fn chunks(&self) -> Option<Vec<(ChunkId, u32, u32)>> {
        let count = self.chunk_ids.len() / ChunkId::LEN;
        if !self.chunk_ids.len().is_multiple_of(ChunkId::LEN)
            || count > limits::CHUNKS_PER_BLOCK_MAX
        {
            return None;
        }
        let mut lens = self.chunk_lens.as_slice();
        let (mut out, mut offset) = (Vec::with_capacity(count), 0_u32);
        for id in self.chunk_ids.chunks_exact(ChunkId::LEN) {
            let len = varint::take_u32(&mut lens).filter(|len| *len > 0)?;
            out.push((ChunkId::from_slice(id)?, offset, len));
            offset = offset.checked_add(len)?;
        }
        (lens.is_empty() && (count == 0 || offset == self.plain_len)).then_some(out)
    }
}

/// Lengths of chunks as a row codes them.
pub fn chunk_lens(coded: &[u8]) -> Option<Vec<u32>> {
    let (mut rest, mut out) = (coded, Vec::new());
    while !rest.is_empty() {
        out.push(varint::take_u32(&mut rest)?);
    }
    Some(out)
}

/// The first 16 bytes of the BLAKE3 of sealed bytes.
pub(crate) fn sealed_hash(sealed: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&blake3::hash(sealed).as_bytes()[..16]);
    out
}

/// The table of one pack: what its trailer and the index say of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PackTable {
    /// Operation in the pack's name.
    #[n(0)]
    pub op: OpId,
    /// Counter in the pack's name.
    #[n(1)]
    pub n: u32,
    /// Length of the whole object in bytes; 0 in the trailer, which cannot know it.
    #[n(2)]
    pub bytes: u64,
    /// Its blocks, in the order in which they lie.
    #[n(3)]
    pub blocks: Vec<BlockRow>,
}

impl PackTable {
    /// The pack's name.
    pub fn pack(&self) -> PackId {
        PackId { op: self.op, n: self.n }
    }

    /// Bytes of its CBOR, at most.
    pub(crate) fn coded_len_max(&self) -> u64 {
        64 + self.blocks.iter().map(BlockRow::coded_len_max).sum::<u64>()
    }

    /// Refuses a table that no writer makes: what it says is allocated and read by.
    pub(crate) fn check(&self) -> Result<()> {
        let bad = |what| Err(Error::corrupt(self.pack().object_name(), what));
        let mut end = MAGIC.len() as u64;
        for row in &self.blocks {
            let content_len = u64::from(row.stored_len).checked_sub(seal::TAG_BYTES as u64);
            let stored = 1..=u64::from(row.plain_len.min(limits::BLOCK_PLAIN_BYTES_MAX));
            if row.plain_len > limits::BLOCK_PLAIN_BYTES_MAX
                || !content_len.is_some_and(|len| stored.contains(&len))
            {
                return bad("its table holds a block of impossible length");
            }
            end += u64::from(row.stored_len);
        }
        if self.bytes > limits::PACK_BYTES_MAX || end > self.bytes {
            return bad("its table does not fit its length");
        }
        Ok(())
    }

    /// Each block with its offset in the pack.
    pub fn placed(&self) -> impl Iterator<Item = (u64, &BlockRow)> {
        let mut at = MAGIC.len() as u64;
        self.blocks.iter().map(move |row| {
            let offset = at;
            at += u64::from(row.stored_len);
            (offset, row)
        })
    }
}

/// A pack while it is filled.
#[derive(Debug)]
pub struct PackWriter {
    id: PackId,
    /// The object so far, in one piece: sealed blocks are copied in, so that what lives long is
    /// one large buffer and not many middling ones between which memory is lost.
    object: Vec<u8>,
    table_bytes: u64,
    rows: Vec<BlockRow>,
}

impl PackWriter {
    /// An empty pack.
    pub fn new(id: PackId) -> Self {
        // address space, not memory: pages count once they are written
        let mut object = Vec::with_capacity(PACK_CAPACITY);
        object.extend_from_slice(&MAGIC);
        Self { id, object, table_bytes: 0, rows: Vec::new() }
    }

    /// Bytes so far, the table's included: with many tiny chunks it is larger than the blocks.
    pub fn bytes(&self) -> u64 {
        self.object.len() as u64 + self.table_bytes
    }

    /// True if the pack should go to the store now. A pack is closed where its padding is small: the
    /// fuller it is, the more padding it takes; at its target it is closed whatever that costs.
    pub fn is_full(&self) -> bool {
        let bytes = self.bytes();
        let room = limits::PACK_BYTES_TARGET.saturating_sub(bytes);
        if room < BLOCK_BYTES_USUAL {
            return true;
        }
        let least = limits::PACK_BYTES_TARGET * 3 / 4;
        let padding = padded_len(bytes, limits::PACK_BYTES_FLOOR) - bytes;
        bytes >= least && padding <= (bytes - least) / 64
    }

    /// True while no block is in it.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds a sealed block.
    pub fn push(&mut self, row: BlockRow, sealed: &[u8]) {
        assert_eq!(row.stored_len as usize, sealed.len(), "the row describes these bytes");
        self.table_bytes += row.coded_len_max();
        self.object.extend_from_slice(sealed);
        self.rows.push(row);
    }

    /// Takes over the blocks of another pack, which then is not written.
    pub fn absorb(&mut self, other: Self) {
        let mut rest = &other.object[MAGIC.len()..];
        for row in other.rows {
            let (sealed, after) = rest.split_at(row.stored_len as usize);
            self.push(row, sealed);
            rest = after;
        }
    }

    /// Pads, seals the trailer and returns the object with its table.
    pub fn finish(self, keys: &Keys, repo: &RepoId) -> (PackTable, Bytes) {
        self.finish_with(keys, repo, &crate::random::bytes())
    }

    /// [`PackWriter::finish`] with a given nonce, so that test vectors can fix it.
    pub(crate) fn finish_with(
        mut self,
        keys: &Keys,
        repo: &RepoId,
        nonce: &[u8; seal::NONCE_BYTES],
    ) -> (PackTable, Bytes) {
        let name = self.id.object_name();
        let mut table = PackTable { op: self.id.op, n: self.id.n, bytes: 0, blocks: self.rows };
        let trailer =
            object::seal_record_with(keys, repo, ObjectKind::Trailer, &name, &table, nonce);
        let blocks = self.object.len();
        let full = blocks as u64 + trailer.len() as u64 + TAIL_BYTES;
        let padded = padded_len(full, limits::PACK_BYTES_FLOOR);
        assert!(padded <= limits::PACK_BYTES_MAX, "packs are closed long before");
        let padding = usize::try_from(padded - full).expect("padding is small");
        self.object.resize(blocks + padding, 0);
        mask(keys, &name).fill(&mut self.object[blocks..]);
        let trailer_len = u32::try_from(trailer.len()).expect("a trailer is far below 4 GiB");
        self.object.extend_from_slice(&trailer);
        let mut tail = trailer_len.to_le_bytes();
        xor(&mut tail, mask(keys, &name).fixed());
        self.object.extend_from_slice(&tail);
        table.bytes = padded;
        (table, self.object.into())
    }
}

fn xor(bytes: &mut [u8; 4], mask: [u8; 4]) {
    for (byte, mask) in bytes.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// Bytes that follow from the pack's name and the control key: 4 that mask the trailer's length,
/// then the padding.
struct Mask(blake3::OutputReader);

impl Mask {
    fn fixed(mut self) -> [u8; 4] {
        let mut out = [0; 4];
        self.0.fill(&mut out);
        out
    }

    fn fill(mut self, out: &mut [u8]) {
        self.0.set_position(4);
        self.0.fill(out);
    }
}

fn mask(keys: &Keys, name: &str) -> Mask {
    let key = keys.control_key(b'p');
    Mask(blake3::Hasher::new_keyed(key.expose()).update(name.as_bytes()).finalize_xof())
}

/// Reads a pack's table from its trailer, for rebuilding an index. `tail(n)` gives the object's last
/// `n` bytes.
pub fn read_trailer(
    keys: &Keys,
    repo: &RepoId,
    pack: &PackId,
    object_bytes: u64,
    mut tail: impl FnMut(u64) -> Result<Bytes>,
) -> Result<PackTable> {
    let name = pack.object_name();
    let end = tail(TAIL_BYTES)?;
    let mut len: [u8; 4] =
        end.as_ref().try_into().map_err(|_| Error::corrupt(&name, "cut short"))?;
    xor(&mut len, mask(keys, &name).fixed());
    let len = u64::from(u32::from_le_bytes(len));
    if len > limits::OBJECT_BYTES_MAX || len + TAIL_BYTES + MAGIC.len() as u64 > object_bytes {
        return Err(Error::corrupt(&name, "its trailer is not where it should be"));
    }
    let bytes = tail(len + TAIL_BYTES)?;
    let trailer = usize::try_from(len)
        .ok()
        .and_then(|len| bytes.get(..len))
        .ok_or_else(|| Error::corrupt(&name, "cut short"))?;
    let mut table: PackTable =
        object::open_record(keys, repo, ObjectKind::Trailer, &name, trailer)?;
    if table.pack() != *pack {
        return Err(Error::corrupt(&name, "its trailer is of another pack"));
    }
    table.bytes = object_bytes;
    table.check()?;
    Ok(table)
}

/// Compares all of a pack that is no block: its first bytes, or what follows its last block (padding,
/// trailer, length of the trailer).
pub(crate) fn check_head(table: &PackTable, head: &[u8]) -> Result<()> {
    if head.starts_with(&MAGIC) {
        return Ok(());
    }
    Err(Error::corrupt(table.pack().object_name(), "it does not begin as a pack"))
}

/// See [`check_head`]; `tail` begins behind the last block.
pub(crate) fn check_tail(keys: &Keys, repo: &RepoId, table: &PackTable, tail: &[u8]) -> Result<()> {
    let name = table.pack().object_name();
    let bad = |what| Err(Error::corrupt(&name, what));
    let last = |n: u64| {
        let n = usize::try_from(n).expect("a tail is in memory");
        let from = tail.len().checked_sub(n).ok_or_else(|| Error::corrupt(&name, "cut short"))?;
        Ok(Bytes::copy_from_slice(&tail[from..]))
    };
    let mut trailer_bytes = 0;
    let found = read_trailer(keys, repo, &table.pack(), table.bytes, |n| {
        trailer_bytes = n;
        last(n)
    })?;
    if found.blocks != table.blocks {
        return bad("its trailer says something else than the index");
    }
    let padding = tail.len() - usize::try_from(trailer_bytes).expect("it was read from there");
    let mut wanted = vec![0; padding];
    mask(keys, &name).fill(&mut wanted);
    if tail[..padding] != wanted {
        return bad("its padding is not what was written");
    }
    Ok(())
}

/// First byte behind the header of a pack.
pub(crate) const BLOCKS_BEGIN: u64 = MAGIC.len() as u64;

/// A block that is ready for a pack.
#[derive(Debug, Clone)]
pub struct SealedBlock {
    /// Its row.
    pub row: BlockRow,
    /// Its sealed bytes.
    pub sealed: Vec<u8>,
}

/// Seals a block of plaintext, opens it again, and compares; `chunks` are the ids and lengths of a
/// data block's chunks, computed by the caller from its own copy and recomputed here from the
/// opened bytes, so that a flipped bit in memory or a compressor's bug does not become a backup.
pub fn seal_block(
    keys: &Keys,
    repo: &RepoId,
    kind: BlockKind,
    plain: &[u8],
    chunks: &[(ChunkId, u32)],
    level: i32,
) -> Result<SealedBlock> {
    seal_block_with(keys, repo, kind, plain, chunks, level, crate::random::bytes())
}

/// [`seal_block`] with a given nonce, so that test vectors can fix it.
pub(crate) fn seal_block_with(
    keys: &Keys,
    repo: &RepoId,
    kind: BlockKind,
    plain: &[u8],
    chunks: &[(ChunkId, u32)],
    level: i32,
    nonce: [u8; seal::NONCE_BYTES],
) -> Result<SealedBlock> {
    assert!(!plain.is_empty() && plain.len() <= limits::BLOCK_PLAIN_BYTES_MAX as usize);
    if chunks.len() > limits::CHUNKS_PER_BLOCK_MAX {
        let reason = format!("{} chunks in one block, more than a reader takes", chunks.len());
        return Err(Error::Refused { reason });
    }
    let plain_len = u32::try_from(plain.len()).expect("checked above");
    let id = keys.block_id(kind, plain);
    let (codec, mut sealed) = crate::codec::encode(plain, level);
    let epoch = keys.epoch_now();
    let key = keys.block_key(epoch, kind, &id).expect("the current epoch exists");
    let aad = seal::block_aad(repo, kind, codec, plain_len, &id);
    seal::seal(&key, &nonce, &aad, &mut sealed);
    let (mut chunk_lens, mut chunk_ids) = (Vec::new(), Vec::new());
    for (chunk, len) in chunks {
        varint::put(&mut chunk_lens, u64::from(*len));
        chunk_ids.extend_from_slice(&chunk.0);
    }
    let row = BlockRow {
        id,
        kind,
        codec,
        envelope: 0,
        epoch,
        stored_len: u32::try_from(sealed.len()).expect("a block is far below 4 GiB"),
        plain_len,
        nonce,
        sealed_hash: sealed_hash(&sealed),
        chunk_lens,
        chunk_ids,
    };
    let block = SealedBlock { row, sealed };
    let opened = open_sealed(keys, repo, &block.row, &block.sealed)?;
    let mut at = 0;
    let chunks_same = chunks.iter().all(|(chunk, len)| {
        let end = at + *len as usize;
        let piece = opened.get(at..end);
        at = end;
        *len > 0 && piece.is_some_and(|piece| keys.chunk_id(piece) == *chunk)
    }) && (chunks.is_empty() || at == opened.len());
    let same = chunks_same && keys.block_id(kind, &opened) == id;
    if !same {
        return Err(Error::Refused {
            reason: format!(
                "block {id} did not come back as it went in; the memory or processor of this \
                 machine may be faulty"
            ),
        });
    }
    Ok(block)
}

/// Opens sealed bytes and checks only the seal, not the id.
fn open_sealed(keys: &Keys, repo: &RepoId, row: &BlockRow, sealed: &[u8]) -> Result<Vec<u8>> {
    let bad = |what: &str| Error::corrupt(format!("block {}", row.id), what);
    if row.envelope != 0 {
        return Err(Error::TooNew { what: format!("envelope kind {}", row.envelope) });
    }
    if row.plain_len > limits::BLOCK_PLAIN_BYTES_MAX {
        return Err(bad("it claims to be larger than any block"));
    }
    let key = keys
        .block_key(row.epoch, row.kind, &row.id)
        .ok_or_else(|| keys.epoch_unknown(row.epoch))?;
    let aad = seal::block_aad(repo, row.kind, row.codec, row.plain_len, &row.id);
    let coded =
        seal::open(&key, &row.nonce, &aad, sealed).ok_or_else(|| bad("its seal does not open"))?;
    crate::codec::decode(row.codec, coded, row.plain_len).map_err(|what| bad(&what))
}

/// Opens a block from a pack and verifies it against its id.
pub fn open_block(keys: &Keys, repo: &RepoId, row: &BlockRow, sealed: &[u8]) -> Result<Vec<u8>> {
    let plain = open_sealed(keys, repo, row, sealed)?;
    if keys.block_id(row.kind, &plain) != row.id {
        return Err(Error::corrupt(
            format!("block {}", row.id),
            "its bytes are not those of its id",
        ));
    }
    Ok(plain)
}
