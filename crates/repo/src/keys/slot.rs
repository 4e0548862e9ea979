//! A key slot, the object `keys/<slot id>`: the keyring wrapped with one secret.
//!
//! ```text
//! off  len  field
//! 0    8    "ABSLOT" 00 version(=1)
//! 8    n    record: CBOR map with integer keys (kind, kdf, salt, commitment, nonces, body, note)
//! -16  16   BLAKE3 of all before, cut to 16 bytes: tells damage from a wrong secret
//! ```
//! In: a secret (passphrase, recovery code, machine key). Out: the keyring. Invariants: kdf
//! parameters are capped before anything is allocated for them; the commitment is compared, in
//! constant time, before anything is decrypted, because GCM-SIV does not commit to its key; name,
//! repository, kind and kdf parameters are bound, so a slot opens only in its own place.

use std::fmt;

use hkdf::Hkdf;
use minicbor::{Decode, Encode};
use sha2::Sha256;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::{Keyring, MachineKey, RecoveryCode, Secret};
use crate::error::{Error, Result};
use crate::id::{RepoId, SlotId};
use crate::seal::{self, NONCE_BYTES, TAG_BYTES};

const MAGIC: [u8; 8] = *b"ABSLOT\0\x01";
const CHECKSUM_BYTES: usize = 16;
/// Largest slot that is read: a keyring of many hundred epochs.
const SLOT_BYTES_MAX: usize = 64 << 10;
/// Longest label in bytes.
const LABEL_BYTES_MAX: usize = 64;
/// Plaintext length of a note: the longest label fits, and all have this length.
const NOTE_BYTES: usize = 96;
/// The plaintext of a body is a multiple of this.
const BODY_STEP_BYTES: usize = 1 << 10;
/// Most bytes a keyring takes beside its epochs, and per epoch. The length of the body follows from
/// the number of epochs alone.
const KEYRING_BYTES: usize = 128;
const EPOCH_BYTES: usize = 72;

/// Caps of kdf parameters that come from outside: 1 GiB of memory and 4 passes at most.
const LOG2N_MAX: u8 = 20;
const R_MAX: u32 = 8;
const P_MAX: u32 = 4;

/// What opens a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum SlotKind {
    /// A random secret in a file; no scrypt.
    #[n(0)]
    Machine,
    /// A passphrase.
    #[n(1)]
    Passphrase,
    /// A recovery code.
    #[n(2)]
    Recovery,
}

impl SlotKind {
    fn code(self) -> u8 {
        match self {
            Self::Machine => 0,
            Self::Passphrase => 1,
            Self::Recovery => 2,
        }
    }
}

impl fmt::Display for SlotKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "machine key",
            Self::Passphrase => "passphrase",
            Self::Recovery => "recovery code",
        })
    }
}

/// Cost of scrypt (RFC 7914): memory is `128 * r * 2^log2n` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Kdf {
    #[n(0)]
    log2n: u8,
    #[n(1)]
    r: u32,
    #[n(2)]
    p: u32,
}

impl Kdf {
    /// 128 MiB, a few tenths of a second: what every new slot uses.
    pub const DEFAULT: Self = Self { log2n: 17, r: 8, p: 1 };
    /// Machine slots: their secret is random, nothing has to be slow.
    const NONE: Self = Self { log2n: 0, r: 0, p: 0 };

    /// 1 MiB. Only for tests: a slot made with it gives a guessed passphrase no resistance.
    #[doc(hidden)]
    pub fn for_tests() -> Self {
        Self { log2n: 10, r: 8, p: 1 }
    }

    fn fits(self, kind: SlotKind) -> bool {
        match kind {
            SlotKind::Machine => self == Self::NONE,
            SlotKind::Passphrase | SlotKind::Recovery => {
                (1..=LOG2N_MAX).contains(&self.log2n)
                    && (1..=R_MAX).contains(&self.r)
                    && (1..=P_MAX).contains(&self.p)
            }
        }
    }
}

/// A secret that opens a slot.
#[derive(Clone)]
pub enum SecretInput {
    /// What a person typed; normalised to NFC before use.
    Passphrase(Zeroizing<String>),
    /// The code printed at init.
    Recovery(RecoveryCode),
    /// The key of this machine; it names its slot.
    Machine(MachineKey),
}

impl fmt::Debug for SecretInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretInput({}, ..)", self.kind())
    }
}

impl SecretInput {
    /// The kind of slot it opens.
    pub fn kind(&self) -> SlotKind {
        match self {
            Self::Passphrase(_) => SlotKind::Passphrase,
            Self::Recovery(_) => SlotKind::Recovery,
            Self::Machine(_) => SlotKind::Machine,
        }
    }

    /// The bytes under the kdf. An empty passphrase is refused: it protects nothing.
    fn bytes(&self) -> Result<Zeroizing<Vec<u8>>> {
        Ok(match self {
            Self::Passphrase(text) => {
                // NFC is at most three times as long (UAX 15); sized first so that no copy is left
                let mut nfc = Zeroizing::new(String::with_capacity(3 * text.len() + 4));
                nfc.extend(text.nfc());
                if nfc.is_empty() {
                    return Err(Error::WrongKey { detail: "the passphrase is empty".to_owned() });
                }
                Zeroizing::new(std::mem::take(&mut *nfc).into_bytes())
            }
            Self::Recovery(code) => Zeroizing::new(code.expose().to_vec()),
            Self::Machine(key) => Zeroizing::new(key.secret.expose().to_vec()),
        })
    }
}

/// What a slot says about itself to whoever has the keyring.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Note {
    /// A name for people, at most 64 bytes: "laptop", "paper in the safe".
    #[n(0)]
    pub label: String,
    /// When the slot was made, Unix seconds.
    #[n(1)]
    pub created_secs: u64,
}

/// The record as stored.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Record {
    #[n(0)]
    kind: SlotKind,
    #[n(1)]
    kdf: Kdf,
    #[cbor(n(2), with = "minicbor::bytes")]
    salt: [u8; 32],
    #[cbor(n(3), with = "minicbor::bytes")]
    commitment: [u8; 32],
    #[cbor(n(4), with = "minicbor::bytes")]
    nonce: [u8; NONCE_BYTES],
    #[cbor(n(5), with = "minicbor::bytes")]
    body: Vec<u8>,
    #[cbor(n(6), with = "minicbor::bytes")]
    note_nonce: [u8; NONCE_BYTES],
    #[cbor(n(7), with = "minicbor::bytes")]
    note: Vec<u8>,
}

/// The random parts of a new slot; an argument so that test vectors can fix them.
pub(super) struct Fresh {
    pub(super) salt: [u8; 32],
    pub(super) nonce: [u8; NONCE_BYTES],
    pub(super) note_nonce: [u8; NONCE_BYTES],
}

impl Fresh {
    fn random() -> Self {
        Self {
            salt: crate::random::bytes(),
            nonce: crate::random::bytes(),
            note_nonce: crate::random::bytes(),
        }
    }
}

/// A key slot, closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    id: SlotId,
    record: Record,
}

impl Slot {
    /// Wraps the keyring with `secret`. A machine key brings its own slot id and needs no `kdf`.
    ///
    /// [`Error::WrongKey`] if the secret cannot be used, [`Error::Refused`] if the label is too long.
    pub fn create(
        repo: &RepoId,
        keyring: &Keyring,
        secret: &SecretInput,
        note: &Note,
        kdf: Kdf,
    ) -> Result<Self> {
        let id = match secret {
            SecretInput::Machine(key) => key.slot,
            _ => SlotId(crate::random::bytes()),
        };
        Self::create_with(repo, id, keyring, secret, note, kdf, &Fresh::random())
    }

    pub(super) fn create_with(
        repo: &RepoId,
        id: SlotId,
        keyring: &Keyring,
        secret: &SecretInput,
        note: &Note,
        kdf: Kdf,
        fresh: &Fresh,
    ) -> Result<Self> {
        if let SecretInput::Machine(key) = secret {
            key.expect_repo(repo)?;
        }
        if note.label.len() > LABEL_BYTES_MAX {
            let reason = format!("a label has at most {LABEL_BYTES_MAX} bytes");
            return Err(Error::Refused { reason });
        }
        let kind = secret.kind();
        let kdf = if kind == SlotKind::Machine { Kdf::NONE } else { kdf };
        let (kek, commitment) = derive(repo, kind, kdf, &fresh.salt, &secret.bytes()?);
        let body_bytes = KEYRING_BYTES + EPOCH_BYTES * keyring.epochs.len();
        let mut body = framed(keyring, body_bytes.next_multiple_of(BODY_STEP_BYTES));
        seal::seal(&kek, &fresh.nonce, &body_aad(repo, id, kind, kdf), &mut body);
        let mut sealed_note = framed(note, NOTE_BYTES);
        let note_key = note_key(keyring);
        seal::seal(&note_key, &fresh.note_nonce, &note_aad(repo, id), &mut sealed_note);
        let record = Record {
            kind,
            kdf,
            salt: fresh.salt,
            commitment,
            nonce: fresh.nonce,
            body: std::mem::take(&mut *body),
            note_nonce: fresh.note_nonce,
            note: std::mem::take(&mut *sealed_note),
        };
        Ok(Self { id, record })
    }

    /// Name of the object that holds the slot `id`.
    pub fn object_name(id: SlotId) -> String {
        format!("keys/{id}")
    }

    /// The slot an object name stands for.
    pub fn id_of(name: &str) -> Option<SlotId> {
        SlotId::from_hex(name.strip_prefix("keys/")?)
    }

    /// The slot's id.
    pub fn id(&self) -> SlotId {
        self.id
    }

    /// What opens it.
    pub fn kind(&self) -> SlotKind {
        self.record.kind
    }

    /// The object's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        minicbor::encode(&self.record, &mut out).expect("encoding to memory does not fail");
        let checksum = blake3::hash(&out);
        out.extend_from_slice(&checksum.as_bytes()[..CHECKSUM_BYTES]);
        out
    }

    /// Parses the object found at `name`; needs no secret and allocates nothing the object asks for.
    ///
    /// [`Error::Corrupt`] if damaged or hostile, [`Error::TooNew`] for a newer version.
    pub fn parse(name: &str, object: &[u8]) -> Result<Self> {
        let bad = |what: &str| Error::corrupt(name, what);
        let id = Self::id_of(name).ok_or_else(|| bad("not the name of a key slot"))?;
        if object.len() > SLOT_BYTES_MAX {
            return Err(bad("larger than any key slot"));
        }
        let (body, checksum) = object
            .split_last_chunk::<CHECKSUM_BYTES>()
            .filter(|(body, _)| body.len() >= MAGIC.len())
            .ok_or_else(|| bad("cut short"))?;
        let (magic, record) = body.split_at(MAGIC.len());
        if magic[..7] != MAGIC[..7] {
            return Err(bad("not a key slot"));
        }
        if magic[7] > MAGIC[7] {
            return Err(Error::TooNew { what: format!("{name} has version {}", magic[7]) });
        }
        if magic[7] < MAGIC[7] || blake3::hash(body).as_bytes()[..CHECKSUM_BYTES] != *checksum {
            return Err(bad("its checksum does not match"));
        }
        let slot = minicbor::decode::<Record>(record)
            .map(|record| Self { id, record })
            .map_err(|e| bad(&format!("its record does not parse: {e}")))?;
        // one record has one encoding: no room for bytes that nothing binds
        if slot.encode() != object {
            return Err(bad("its record is not in the one form it has"));
        }
        slot.record.check().map_err(bad)?;
        Ok(slot)
    }

    /// Opens the slot.
    ///
    /// [`Error::WrongKey`] if the secret is another one (or the slot was copied here from another
    /// repository or name), [`Error::Corrupt`] if the secret is right and the rest is not.
    pub fn open(&self, repo: &RepoId, secret: &SecretInput) -> Result<(Keyring, Note)> {
        let wrong = |detail: String| Error::WrongKey { detail };
        let name = Self::object_name(self.id);
        let Record { kind, kdf, .. } = self.record;
        if kind != secret.kind() {
            return Err(wrong(format!("{name} opens with a {kind}")));
        }
        if let SecretInput::Machine(key) = secret {
            key.expect_repo(repo)?;
            if key.slot != self.id {
                return Err(wrong(format!("{name} is not the slot of this machine")));
            }
        }
        let (kek, commitment) = derive(repo, kind, kdf, &self.record.salt, &secret.bytes()?);
        // blake3::Hash compares in constant time
        if blake3::Hash::from_bytes(commitment) != blake3::Hash::from_bytes(self.record.commitment)
        {
            return Err(wrong(format!("{name} does not open")));
        }
        let aad = body_aad(repo, self.id, kind, kdf);
        let keyring: Keyring = seal::open(&kek, &self.record.nonce, &aad, &self.record.body)
            .and_then(|plain| unframed(&Zeroizing::new(plain)))
            .filter(|keyring: &Keyring| !keyring.epochs.is_empty())
            .ok_or_else(|| Error::corrupt(name, "its body does not open with the right secret"))?;
        let note = self.note(repo, &keyring)?;
        Ok((keyring, note))
    }

    /// Label and time of the slot, for whoever opened any slot of the repository.
    pub fn note(&self, repo: &RepoId, keyring: &Keyring) -> Result<Note> {
        let aad = note_aad(repo, self.id);
        seal::open(&note_key(keyring), &self.record.note_nonce, &aad, &self.record.note)
            .and_then(|plain| unframed(&plain))
            .filter(|note: &Note| note.label.len() <= LABEL_BYTES_MAX)
            .ok_or_else(|| {
                Error::corrupt(
                    Self::object_name(self.id),
                    "its note does not open with the keyring",
                )
            })
    }
}

impl Record {
    fn check(&self) -> std::result::Result<(), &'static str> {
        if !self.kdf.fits(self.kind) {
            return Err("it asks for more work than any key slot of this program");
        }
        let body = self.body.len().saturating_sub(TAG_BYTES);
        if body == 0 || !body.is_multiple_of(BODY_STEP_BYTES) {
            return Err("its body has a length that no body has");
        }
        if self.note.len() != NOTE_BYTES + TAG_BYTES {
            return Err("its note has a length that no note has");
        }
        Ok(())
    }
}

/// Key and commitment from a secret.
fn derive(
    repo: &RepoId,
    kind: SlotKind,
    kdf: Kdf,
    salt: &[u8; 32],
    secret: &[u8],
) -> (Secret, [u8; 32]) {
    let salt = [b"ab1/slot".as_slice(), &repo.0, salt].concat();
    let mut okm = Zeroizing::new([0; 64]);
    if kind == SlotKind::Machine {
        Hkdf::<Sha256>::new(Some(&salt), secret)
            .expand(b"agent-backup 1 machine slot", okm.as_mut_slice())
            .expect("64 bytes are within the limit");
    } else {
        let params = scrypt::Params::new(kdf.log2n, kdf.r, kdf.p).expect("checked when parsed");
        scrypt::scrypt(secret, &salt, &params, okm.as_mut_slice())
            .expect("64 bytes are within the limit");
    }
    let (kek, commitment) = okm.split_at(32);
    let key = Secret::new(kek.try_into().expect("half of 64 bytes"));
    (key, commitment.try_into().expect("half of 64 bytes"))
}

/// Length, CBOR and zeros up to `len` bytes, with room for a tag.
fn framed<T: Encode<()>>(value: &T, len: usize) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(len + TAG_BYTES));
    out.extend_from_slice(&[0; 4]);
    minicbor::encode(value, &mut *out).expect("encoding to memory does not fail");
    let used = u32::try_from(out.len() - 4).expect("a keyring is small");
    out[..4].copy_from_slice(&used.to_le_bytes());
    assert!(out.len() <= len, "the length of a frame covers the longest value");
    out.resize(len, 0);
    out
}

fn unframed<T: for<'b> Decode<'b, ()>>(plain: &[u8]) -> Option<T> {
    let (len, rest) = plain.split_first_chunk::<4>()?;
    let value = rest.get(..usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
    minicbor::decode(value).ok()
}

fn body_aad(repo: &RepoId, id: SlotId, kind: SlotKind, kdf: Kdf) -> Vec<u8> {
    let mut aad = seal::control_aad(repo, b'k', &Slot::object_name(id));
    aad.extend_from_slice(&[kind.code(), kdf.log2n]);
    aad.extend_from_slice(&kdf.r.to_le_bytes());
    aad.extend_from_slice(&kdf.p.to_le_bytes());
    aad
}

fn note_aad(repo: &RepoId, id: SlotId) -> Vec<u8> {
    seal::control_aad(repo, b'n', &Slot::object_name(id))
}

fn note_key(keyring: &Keyring) -> Secret {
    super::expand(&keyring.control, b"agent-backup 1 slot note")
}
