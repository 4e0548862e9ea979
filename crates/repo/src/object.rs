//! Control objects: everything in the store but packs, `config` and key slots.
//!
//! ```text
//! off  len  field
//! 0    8    "ABOBJ" 00 kind version(=1)
//! 8    12   nonce
//! 20   ..   AES-256-GCM-SIV of: payload length u32 LE, payload (CBOR), zeros up to the padded length
//! -16  16   tag
//! ```
//! The whole object's length is padded ([`crate::padding`]). The associated data binds the name.

use minicbor::{Decode, Encode};

use crate::error::{Error, Result};
use crate::id::RepoId;
use crate::keys::Keys;
use crate::limits;
use crate::padding::padded_len;
use crate::seal;

/// Kind of a control object: the byte after the magic, part of key and associated data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    /// `op/<oid>`: an announced operation.
    Op,
    /// `snap/<oid>`: a snapshot.
    Snapshot,
    /// `index/<level>-<oid>-<n>`: tables of packs and blocks.
    Index,
    /// `end/`, `kill/`, `dead/`: marks.
    Mark,
    /// `gc/<oid>.d`, `gc/<oid>.o`, `gc/bad-<pack>`: condemned packs, observed operations, quarantine.
    Gc,
    /// `verify/<oid>-<n>`: which packs were checked when.
    Verify,
    /// Trailer inside a pack (never an object of its own).
    Trailer,
}

impl ObjectKind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Op => b'o',
            Self::Snapshot => b's',
            Self::Index => b'i',
            Self::Mark => b'm',
            Self::Gc => b'g',
            Self::Verify => b'v',
            Self::Trailer => b't',
        }
    }

    /// Length of the object once padded; a trailer is padded by its pack.
    fn padded(self, len: u64) -> u64 {
        match self {
            Self::Op | Self::Mark => padded_len(len, limits::MARKER_BYTES_FLOOR),
            Self::Snapshot | Self::Index | Self::Gc | Self::Verify => {
                padded_len(len, limits::OBJECT_BYTES_FLOOR)
            }
            Self::Trailer => len,
        }
    }
}

const HEADER_BYTES: usize = 8 + seal::NONCE_BYTES;
/// Bytes around a payload: header, length, tag.
const FRAME_BYTES: usize = HEADER_BYTES + 4 + seal::TAG_BYTES;

fn magic(kind: ObjectKind) -> [u8; 8] {
    [b'A', b'B', b'O', b'B', b'J', 0, kind.code(), 1]
}

/// Encodes and seals a record as the object `name`.
pub(crate) fn seal_record<T: Encode<()>>(
    keys: &Keys,
    repo: &RepoId,
    kind: ObjectKind,
    name: &str,
    record: &T,
) -> Vec<u8> {
    seal_record_with(keys, repo, kind, name, record, &crate::random::bytes())
}

/// [`seal_record`] with a given nonce, so that test vectors can fix it.
pub(crate) fn seal_record_with<T: Encode<()>>(
    keys: &Keys,
    repo: &RepoId,
    kind: ObjectKind,
    name: &str,
    record: &T,
    nonce: &[u8; seal::NONCE_BYTES],
) -> Vec<u8> {
    let payload = minicbor::to_vec(record).expect("encoding to memory does not fail");
    seal_payload(keys, repo, kind, name, &payload, nonce)
}

/// Seals any payload; apart so that tests can seal what no writer would.
pub(crate) fn seal_payload(
    keys: &Keys,
    repo: &RepoId,
    kind: ObjectKind,
    name: &str,
    payload: &[u8],
    nonce: &[u8; seal::NONCE_BYTES],
) -> Vec<u8> {
    let full = (FRAME_BYTES + payload.len()) as u64;
    assert!(kind.padded(full) <= limits::OBJECT_BYTES_MAX, "nobody would read it");
    let padding = usize::try_from(kind.padded(full) - full).expect("padding is small");
    let mut body = Vec::with_capacity(payload.len() + padding + 4 + seal::TAG_BYTES);
    let len = u32::try_from(payload.len()).expect("a control object is far below 4 GiB");
    body.extend_from_slice(&len.to_le_bytes());
    body.extend_from_slice(payload);
    body.resize(body.len() + padding, 0);
    let aad = seal::control_aad(repo, kind.code(), name);
    seal::seal(&keys.control_key(kind.code()), nonce, &aad, &mut body);
    let mut object = Vec::with_capacity(HEADER_BYTES + body.len());
    object.extend_from_slice(&magic(kind));
    object.extend_from_slice(nonce);
    object.extend_from_slice(&body);
    object
}

/// Opens and decodes what [`seal_record`] made; `name` is where it was found.
pub(crate) fn open_record<T: for<'b> Decode<'b, ()>>(
    keys: &Keys,
    repo: &RepoId,
    kind: ObjectKind,
    name: &str,
    object: &[u8],
) -> Result<T> {
    let bad = |what: &str| Error::corrupt(name, what);
    if object.len() as u64 > limits::OBJECT_BYTES_MAX {
        return Err(bad("larger than any object of its kind"));
    }
    if object.len() < FRAME_BYTES {
        return Err(bad("cut short"));
    }
    let (header, body) = object.split_at(HEADER_BYTES);
    let wanted = magic(kind);
    if header[..7] != wanted[..7] {
        return Err(bad("not an object of its kind"));
    }
    if header[7] == 0 {
        return Err(bad("not an object of its kind"));
    }
    if header[7] != wanted[7] {
        return Err(Error::TooNew { what: format!("{name} has version {}", header[7]) });
    }
    let nonce: [u8; seal::NONCE_BYTES] = header[8..].try_into().expect("split at this length");
    let aad = seal::control_aad(repo, kind.code(), name);
    let plain = seal::open(&keys.control_key(kind.code()), &nonce, &aad, body)
        .ok_or_else(|| bad("its seal does not open with this key"))?;
    let (len, rest) = plain.split_first_chunk::<4>().ok_or_else(|| bad("cut short"))?;
    let payload = usize::try_from(u32::from_le_bytes(*len))
        .ok()
        .and_then(|len| rest.get(..len))
        .ok_or_else(|| bad("its payload is longer than the object"))?;
    minicbor::decode(payload).map_err(|e| bad(&format!("its record does not parse: {e}")))
}
