//! The object `config`: what a client must know before it has a key. Readable by all, forgeable
//! by nobody who lacks the key.
//!
//! ```text
//! off  len  field
//! 0    8    "ABCONF" 00 version(=1)
//! 8    4    length n of the record, u32 LE
//! 12   n    record: CBOR map with integer keys
//! -48  16   BLAKE3 of all before, cut to 16 bytes: tells damage from a wrong key
//! -32  32   keyed BLAKE3 of all before; the key follows from the keyring
//! ```
//! In: the bytes of the object, later the keyring. Out: ids, sizes, features. Invariant: what
//! [`Config::parse`] returns is in bounds; what [`Config::verify`] passed was written by somebody
//! who had the keyring.

use minicbor::{Decode, Encode};

use crate::error::{Error, Result};
use crate::id::RepoId;
use crate::keys::Keyring;
use crate::limits::BLOCK_PLAIN_BYTES_MAX;

/// Name of the object in the store.
pub const NAME: &str = "config";
/// The format this program writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Largest config that is read: lists of feature names need no more.
pub const BYTES_MAX: usize = 64 << 10;
/// Smallest chunk a config may ask for: below it, ids weigh more than content.
pub const CHUNK_BYTES_FLOOR: u32 = 256;
/// Smallest block a config may ask for: the largest SQLite page has to fit.
pub const BLOCK_BYTES_FLOOR: u32 = 64 << 10;

const MAGIC: [u8; 8] = *b"ABCONF\0\x01";
const HEAD_BYTES: usize = MAGIC.len() + 4;
const CHECKSUM_BYTES: usize = 16;
const MAC_BYTES: usize = 32;
const MAC_CONTEXT: &str = "agent-backup 1 config mac";

/// Features this program knows, by what an old client may do without knowing them. None yet.
const KNOWN_INCOMPAT: &[&str] = &[];
const KNOWN_RO_COMPAT: &[&str] = &[];

/// Names of format features, by what a client that does not know them may still do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Features {
    /// Without knowing these: nothing.
    #[n(0)]
    pub incompat: Vec<String>,
    /// Without knowing these: read, but never write.
    #[n(1)]
    pub ro_compat: Vec<String>,
    /// Without knowing these: everything.
    #[n(2)]
    pub compat: Vec<String>,
}

/// Sizes and levels that all clients of a repository share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// Smallest chunk of content-defined cutting, in bytes. A power of two, like all sizes here.
    pub chunk_bytes_min: u32,
    /// Average chunk, in bytes.
    pub chunk_bytes_avg: u32,
    /// Largest chunk, in bytes.
    pub chunk_bytes_max: u32,
    /// Plaintext a block of file content is filled up to, in bytes.
    pub block_bytes_data: u32,
    /// Plaintext a block of database pages is filled up to, in bytes.
    pub block_bytes_pages: u32,
    /// zstd level; advice, readers do not care.
    pub zstd_level: i32,
}

impl Params {
    /// Refuses sizes that a cutter or a reader could not work with.
    fn check(&self) -> std::result::Result<(), &'static str> {
        let sizes = [
            self.chunk_bytes_min,
            self.chunk_bytes_avg,
            self.chunk_bytes_max,
            self.block_bytes_data,
            self.block_bytes_pages,
        ];
        if !sizes.iter().all(|size| size.is_power_of_two()) {
            return Err("a size is not a power of two");
        }
        if self.chunk_bytes_min < CHUNK_BYTES_FLOOR
            || self.chunk_bytes_min >= self.chunk_bytes_avg
            || self.chunk_bytes_avg >= self.chunk_bytes_max
        {
            return Err("chunk sizes are not in order or too small");
        }
        let blocks = BLOCK_BYTES_FLOOR..=BLOCK_PLAIN_BYTES_MAX;
        if !blocks.contains(&self.block_bytes_data) || !blocks.contains(&self.block_bytes_pages) {
            return Err("a block size is out of bounds");
        }
        if self.chunk_bytes_max > self.block_bytes_data {
            return Err("the largest chunk does not fit in a block");
        }
        Ok(())
    }
}

/// The record as stored. Keys are never used twice for different meanings.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Record {
    #[n(0)]
    version: u32,
    #[n(1)]
    features: Features,
    #[n(2)]
    repo: RepoId,
    #[n(3)]
    created_secs: u64,
    #[n(4)]
    chunk_bytes_min: u32,
    #[n(5)]
    chunk_bytes_avg: u32,
    #[n(6)]
    chunk_bytes_max: u32,
    #[n(7)]
    block_bytes_data: u32,
    #[n(8)]
    block_bytes_pages: u32,
    #[n(9)]
    zstd_level: i32,
}

/// The part that every version keeps: read first, so that a newer config is called newer and not
/// damaged.
#[derive(Decode)]
#[cbor(map)]
struct Preamble {
    #[n(0)]
    version: u32,
    #[n(1)]
    features: Features,
}

/// The config of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Id of the repository.
    pub repo: RepoId,
    /// Version of the format.
    pub version: u32,
    /// Features in use.
    pub features: Features,
    /// Sizes and levels.
    pub params: Params,
    /// When the repository was made, Unix seconds.
    pub created_secs: u64,
    /// The object this was parsed from; empty if it was made here.
    raw: Vec<u8>,
}

impl Config {
    /// The config of a new repository. Refuses parameters out of bounds.
    pub fn new(repo: RepoId, params: Params, created_secs: u64) -> Result<Self> {
        params.check().map_err(|what| Error::Refused { reason: what.to_owned() })?;
        Ok(Self {
            repo,
            version: FORMAT_VERSION,
            features: Features::default(),
            params,
            created_secs,
            raw: Vec::new(),
        })
    }

    /// The object's bytes.
    pub fn encode(&self, keyring: &Keyring) -> Vec<u8> {
        let record = minicbor::to_vec(Record {
            version: self.version,
            features: self.features.clone(),
            repo: self.repo,
            created_secs: self.created_secs,
            chunk_bytes_min: self.params.chunk_bytes_min,
            chunk_bytes_avg: self.params.chunk_bytes_avg,
            chunk_bytes_max: self.params.chunk_bytes_max,
            block_bytes_data: self.params.block_bytes_data,
            block_bytes_pages: self.params.block_bytes_pages,
            zstd_level: self.params.zstd_level,
        })
        .expect("encoding to memory does not fail");
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&u32::try_from(record.len()).expect("a small record").to_le_bytes());
        out.extend_from_slice(&record);
        let checksum = blake3::hash(&out);
        out.extend_from_slice(&checksum.as_bytes()[..CHECKSUM_BYTES]);
        let mac = mac(keyring, &out);
        out.extend_from_slice(mac.as_bytes());
        out
    }

    /// Parses the object and checks its checksum; [`Config::verify`] comes once there is a keyring.
    ///
    /// [`Error::Corrupt`] if damaged, [`Error::TooNew`] for a newer version or an unknown feature
    /// without which nothing can be read.
    pub fn parse(object: &[u8]) -> Result<Self> {
        let record = record_of(object)?;
        let preamble: Preamble = decode(record)?;
        if preamble.version > FORMAT_VERSION {
            return Err(Error::TooNew { what: format!("format version {}", preamble.version) });
        }
        if let Some(name) = first_unknown(&preamble.features.incompat, KNOWN_INCOMPAT) {
            return Err(Error::TooNew { what: format!("feature {name}") });
        }
        if preamble.version == 0 {
            return Err(bad("there is no format version 0"));
        }
        let record: Record = decode(record)?;
        let params = Params {
            chunk_bytes_min: record.chunk_bytes_min,
            chunk_bytes_avg: record.chunk_bytes_avg,
            chunk_bytes_max: record.chunk_bytes_max,
            block_bytes_data: record.block_bytes_data,
            block_bytes_pages: record.block_bytes_pages,
            zstd_level: record.zstd_level,
        };
        params.check().map_err(bad)?;
        Ok(Self {
            repo: record.repo,
            version: record.version,
            features: record.features,
            params,
            created_secs: record.created_secs,
            raw: object.to_vec(),
        })
    }

    /// Checks that the parsed object was written by a holder of the keyring. A config that was made
    /// here and never read has nothing to check and fails.
    pub fn verify(&self, keyring: &Keyring) -> Result<()> {
        let stored = self.raw.split_last_chunk::<MAC_BYTES>();
        match stored {
            // blake3::Hash compares in constant time
            Some((body, stored)) if mac(keyring, body) == blake3::Hash::from_bytes(*stored) => {
                Ok(())
            }
            _ => Err(bad("it was changed without the key of this repository")),
        }
    }

    /// [`Error::TooNew`] if this program may read the repository but not write to it.
    pub fn writable(&self) -> Result<()> {
        match first_unknown(&self.features.ro_compat, KNOWN_RO_COMPAT) {
            Some(name) => Err(Error::TooNew { what: format!("writing needs feature {name}") }),
            None => Ok(()),
        }
    }
}

fn bad(what: &str) -> Error {
    Error::corrupt(NAME, what)
}

/// The record inside an object whose frame and checksum are right.
fn record_of(object: &[u8]) -> Result<&[u8]> {
    if object.len() > BYTES_MAX {
        return Err(bad("larger than any config"));
    }
    let (body, tail) = object
        .len()
        .checked_sub(CHECKSUM_BYTES + MAC_BYTES)
        .and_then(|at| object.split_at_checked(at))
        .filter(|(body, _)| body.len() >= HEAD_BYTES)
        .ok_or_else(|| bad("cut short"))?;
    if body[..7] != MAGIC[..7] {
        return Err(bad("not a config"));
    }
    if body[7] > MAGIC[7] {
        return Err(Error::TooNew { what: format!("config has version {}", body[7]) });
    }
    if blake3::hash(body).as_bytes()[..CHECKSUM_BYTES] != tail[..CHECKSUM_BYTES] {
        return Err(bad("its checksum does not match"));
    }
    let (head, record) = body.split_at(HEAD_BYTES);
    let len = u32::from_le_bytes(head[8..].try_into().expect("split at this length"));
    if head[7] != MAGIC[7] || u64::from(len) != record.len() as u64 {
        return Err(bad("its length does not match"));
    }
    Ok(record)
}

fn decode<'b, T: Decode<'b, ()>>(record: &'b [u8]) -> Result<T> {
    let mut decoder = minicbor::Decoder::new(record);
    let value = decoder.decode().map_err(|e| bad(&format!("its record does not parse: {e}")))?;
    if decoder.position() == record.len() { Ok(value) } else { Err(bad("bytes after its record")) }
}

/// Quoted and cut: the name comes from outside and goes to a terminal.
fn first_unknown(named: &[String], known: &[&str]) -> Option<String> {
    let name = named.iter().find(|name| !known.contains(&name.as_str()))?;
    Some(format!("{:?}", name.chars().take(64).collect::<String>()))
}

fn mac(keyring: &Keyring, body: &[u8]) -> blake3::Hash {
    let key = zeroize::Zeroizing::new(blake3::derive_key(MAC_CONTEXT, keyring.control.expose()));
    blake3::keyed_hash(&key, body)
}
