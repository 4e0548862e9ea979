//! An old bucket as a whole: which snapshots it has, what they hold, and the files.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::cipher::{BLOCK_BYTES, HEADER_BYTES, Header, Opener};
use crate::error::{Error, Result};
use crate::layout::{Layout, Listed};
use crate::manifest::{self, Manifest, Record};
use store::Foreign;

/// Bytes that are read at a time: the memory a file takes.
const PIECE_BYTES: u64 = 4 << 20;
/// Longest manifest that is read: more than a million files.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;

/// The passphrase of the old configuration.
#[derive(Clone)]
pub struct Passphrase {
    text: Zeroizing<String>,
    from: &'static str,
    given: bool,
}

impl Passphrase {
    /// What the user gave for this bucket: so it is an encrypted one.
    pub fn given(text: Zeroizing<String>) -> Self {
        Self { text, from: "the passphrase that was given", given: true }
    }

    /// The storage's secret key, which the old engine took where its configuration had no passphrase.
    pub fn storage_key(text: Zeroizing<String>) -> Self {
        let from = "the storage key, which the old engine took where it had no encryptionKey,";
        Self { text, from, given: false }
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passphrase").field("from", &self.from).finish_non_exhaustive()
    }
}

/// Which manifests are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Plain ones only where nothing speaks for encryption.
    Sealed,
    /// Plain ones too: the user says that they are the engine's own.
    Plain,
}

/// An old bucket.
#[derive(Debug)]
pub struct Source {
    store: Arc<dyn Foreign>,
    passphrase: Option<Passphrase>,
    trust: Trust,
    layout: Layout,
}

/// A snapshot, and what its manifest says of it.
#[derive(Debug)]
pub struct Found {
    /// Where it is.
    pub listed: Listed,
    /// What it holds; [`Error::Damaged`] or [`Error::Unsafe`] if it cannot be taken.
    pub head: Result<Head>,
}

/// What there is to know of a snapshot without its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// When it was made.
    pub time: Timestamp,
    /// [`Manifest::sha256`].
    pub sha256: [u8; 32],
    /// Number of files.
    pub files: u64,
    /// Their bytes, as far as the manifest knows.
    pub bytes: u64,
    /// Its manifest is not encrypted: nothing proves who wrote it.
    pub plain: bool,
}

/// A file that was read.
#[derive(Debug)]
pub struct Taken<T> {
    /// What was made of it.
    pub value: T,
    /// Why its own object was not taken, if another one with its content was.
    pub instead: Option<Error>,
}

impl Source {
    /// Lists the place. [`Error::Nothing`] if the old engine wrote nothing there.
    pub fn open(
        store: Arc<dyn Foreign>,
        passphrase: Option<Passphrase>,
        trust: Trust,
    ) -> Result<Self> {
        let layout = Layout::new(store.objects()?);
        if layout.whole.is_empty() && layout.unfinished.is_empty() {
            return Err(Error::Nothing { place: store.place() });
        }
        Ok(Self { store, passphrase, trust, layout })
    }

    /// Where it is, for messages.
    pub fn place(&self) -> String {
        self.store.place()
    }

    /// Names of snapshots whose push did not finish: the old engine does not restore them either.
    pub fn unfinished(&self) -> Vec<&str> {
        self.layout.unfinished.iter().map(|one| one.name.as_str()).collect()
    }

    /// Reads every manifest. What is wrong with one concerns that snapshot only, unless none opens.
    pub fn survey(&self) -> Result<Vec<Found>> {
        let place = || self.store.place();
        let (mut found, mut sealed, mut opened) = (Vec::new(), false, false);
        for listed in &self.layout.whole {
            let head = match self.read_manifest(listed) {
                Ok((manifest, plain)) => {
                    sealed |= !plain;
                    opened |= !plain;
                    Ok(head(&manifest, plain))
                }
                Err(Failed { error, is_sealed, is_open }) => {
                    sealed |= is_sealed;
                    opened |= is_open;
                    if !error.is_of_one() {
                        return Err(error);
                    }
                    Err(error)
                }
            };
            found.push(Found { listed: listed.clone(), head });
        }
        if sealed && !opened {
            return Err(match &self.passphrase {
                None => Error::NoPassphrase { place: place() },
                Some(passphrase) => {
                    Error::WrongPassphrase { place: place(), from: passphrase.from }
                }
            });
        }
        let given = self.passphrase.as_ref().is_some_and(|passphrase| passphrase.given);
        if (sealed || given) && self.trust == Trust::Sealed {
            let why = if sealed {
                "it is not encrypted, and others here are: anybody who can write to the bucket can \
                 have put it there"
            } else {
                "it is not encrypted, though a passphrase was given: anybody who can write to the \
                 bucket can have put it there"
            };
            for one in &mut found {
                if one.head.as_ref().is_ok_and(|head| head.plain) {
                    one.head = Err(Error::refused(&one.listed.manifest(), why));
                }
            }
        }
        Ok(found)
    }

    /// Reads the manifest of a snapshot again; it must still be the one that was surveyed.
    pub fn manifest(&self, listed: &Listed, head: &Head) -> Result<Manifest> {
        let (manifest, _) = self.read_manifest(listed).map_err(|failed| failed.error)?;
        if manifest.sha256 == head.sha256 {
            Ok(manifest)
        } else {
            Err(Error::refused(&listed.manifest(), "it was replaced while it was read"))
        }
    }

    fn read_manifest(&self, listed: &Listed) -> Result<(Manifest, bool), Failed> {
        let key = listed.manifest();
        let of = |error, is_sealed, is_open| Failed { error, is_sealed, is_open };
        let size = self.layout.objects.get(&key).copied().unwrap_or_default();
        if size > MANIFEST_BYTES_MAX {
            return Err(of(Error::damaged(&key, "it is longer than any manifest"), false, false));
        }
        let bytes = self.store.read(&key, 0..size);
        let bytes = bytes.map_err(|e| of(Error::of_read(&key, e), false, false))?;
        let mut bytes = Vec::from(bytes);
        let Some(header) = Header::parse(&bytes) else {
            // the plugin that has no sealed manifests took the name of a safety snapshot before the time
            let manifest = manifest::parse(&bytes, listed, !listed.safety);
            return Ok((manifest.map_err(|e| of(e, false, false))?, true));
        };
        let Some(passphrase) = &self.passphrase else {
            let what = "it is encrypted, and no passphrase was given";
            return Err(of(Error::damaged(&key, what), true, false));
        };
        let mut plain = bytes.split_off(HEADER_BYTES);
        let mut opener = Opener::new(&passphrase.text, &header);
        opener.open(&mut plain);
        if !opener.finish() {
            return Err(of(Error::damaged(&key, NOT_OPEN), true, false));
        }
        let manifest = manifest::parse(&plain, listed, true);
        Ok((manifest.map_err(|e| of(e, true, true))?, false))
    }

    /// Reads a file: `take` gets its content as a stream, and what it returns counts only if the
    /// stream came to its end and fits the hash. If the file's own object does not, others of the same path
    /// are tried, so `take` may be called several times, from the beginning.
    ///
    /// [`Error::Damaged`] if no object has the content.
    pub fn read<T, E: From<Error>>(
        &self,
        listed: &Listed,
        path: &str,
        record: &Record,
        mut take: impl FnMut(&mut Stream<'_>) -> Result<T, E>,
    ) -> Result<Taken<T>, E> {
        let own = listed.key(path);
        let mut first = None;
        for key in self.places(listed, path, record) {
            let Some(size) = self.layout.objects.get(&key).copied() else {
                first.get_or_insert_with(|| Error::damaged(&key, "it is missing"));
                continue;
            };
            // a file of somebody's that begins like a sealed one is told by its length, or by trying
            let mut forms = [Form::Sealed, Form::Plain];
            if size == record.size {
                forms.reverse();
            }
            for form in forms {
                let mut stream = Stream::new(self, &key, size, form, record);
                let taken = take(&mut stream);
                let failure = match (stream.outcome.take(), taken) {
                    (Some(Ok(())), Ok(value)) => {
                        return Ok(Taken { value, instead: first.filter(|_| key != own) });
                    }
                    (Some(Err(failure)), _) => failure,
                    (_, Err(error)) => return Err(error),
                    (None, Ok(_)) => Error::damaged(&key, "it was not read to its end"),
                };
                if !failure.is_of_one() {
                    return Err(failure.into());
                }
                first.get_or_insert(failure);
                if !stream.is_doubtful {
                    break;
                }
            }
        }
        Err(first.unwrap_or_else(|| Error::damaged(&own, "it is missing")).into())
    }

    /// Keys of objects that may have a file's content: its own, then those of the same path in other
    /// snapshots of the same prefix, the nearest before it first.
    fn places(&self, listed: &Listed, path: &str, record: &Record) -> Vec<String> {
        let mut others: Vec<&Listed> =
            self.layout.whole.iter().chain(&self.layout.unfinished).collect();
        others.retain(|other| other.prefix == listed.prefix && other.name != listed.name);
        others.sort_by(|a, b| (a.stamp(), &a.name).cmp(&(b.stamp(), &b.name)));
        let at = others.partition_point(|other| other.stamp() <= listed.stamp());
        let (before, after) = others.split_at(at);
        let likely = |key: &String| {
            let size = self.layout.objects.get(key);
            // the length that a manifest has of a database is that of the live file
            let any =
                [".db", ".sqlite", ".sqlite3", ".vscdb"].iter().any(|end| path.ends_with(end));
            size.is_some_and(|size| {
                any || *size == record.size || *size == record.size + HEADER_BYTES as u64
            })
        };
        let elsewhere = before.iter().rev().chain(after).map(|other| other.key(path));
        std::iter::once(listed.key(path)).chain(elsewhere.filter(likely)).collect()
    }
}

const NOT_OPEN: &str = "it does not open: it is damaged, or was encrypted with another passphrase";

/// Why a manifest is not taken, and what is known of it all the same.
struct Failed {
    error: Error,
    is_sealed: bool,
    is_open: bool,
}

fn head(manifest: &Manifest, plain: bool) -> Head {
    Head {
        time: manifest.time,
        sha256: manifest.sha256,
        files: manifest.files.len() as u64,
        bytes: manifest.files.values().fold(0, |sum, file| file.size.saturating_add(sum)),
        plain,
    }
}

/// How an object that begins like a sealed one is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Sealed,
    Plain,
}

/// The content of a file, as plaintext. Its last read fails if it is not what the manifest says: nothing
/// that came before may be believed until then.
pub struct Stream<'s> {
    source: &'s Source,
    key: String,
    size: u64,
    form: Form,
    expected: [u8; 32],
    /// Bytes of the object that were read.
    at: u64,
    opener: Option<Opener>,
    hash: Sha256,
    piece: Vec<u8>,
    /// Bytes of the piece that were given out.
    given: usize,
    /// It begins like a sealed object, so there is another way to read it.
    is_doubtful: bool,
    /// How it ended.
    outcome: Option<Result<()>>,
}

impl std::fmt::Debug for Stream<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("key", &self.key)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl<'s> Stream<'s> {
    fn new(source: &'s Source, key: &str, size: u64, form: Form, record: &Record) -> Self {
        Self {
            source,
            key: key.to_owned(),
            size,
            form,
            expected: record.sha256,
            at: 0,
            opener: None,
            hash: Sha256::new(),
            piece: Vec::new(),
            given: 0,
            is_doubtful: false,
            outcome: None,
        }
    }

    /// Bytes that are to come at most, for whoever plans memory.
    pub fn size_max(&self) -> u64 {
        self.size
    }

    fn next(&mut self) -> Result<()> {
        let end = match self.at {
            0 => PIECE_BYTES + HEADER_BYTES as u64,
            at => at + PIECE_BYTES,
        };
        let range: Range<u64> = self.at..end.min(self.size);
        let bytes = self.source.store.read(&self.key, range.clone());
        self.piece = Vec::from(bytes.map_err(|e| Error::of_read(&self.key, e))?);
        self.given = 0;
        if self.at == 0
            && let Some(header) = Header::parse(&self.piece)
        {
            self.is_doubtful = true;
            if self.form == Form::Sealed {
                let passphrase = self.source.passphrase.as_ref().ok_or_else(|| {
                    Error::damaged(&self.key, "it is encrypted, and no passphrase was given")
                })?;
                self.opener = Some(Opener::new(&passphrase.text, &header));
                self.piece.drain(..HEADER_BYTES);
            }
        }
        if let Some(opener) = &mut self.opener {
            opener.open(&mut self.piece);
        }
        self.hash.update(&self.piece);
        self.at = range.end;
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if self.opener.take().is_some_and(|opener| !opener.finish()) {
            return Err(Error::damaged(&self.key, NOT_OPEN));
        }
        if <[u8; 32]>::from(std::mem::take(&mut self.hash).finalize()) != self.expected {
            let what = "its content does not have the SHA-256 that the manifest says";
            return Err(Error::damaged(&self.key, what));
        }
        Ok(())
    }
}

// pieces end where blocks end
const _: () = assert!(PIECE_BYTES.is_multiple_of(BLOCK_BYTES as u64));

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let failed = || io::Error::new(io::ErrorKind::InvalidData, "the object failed");
        while self.given == self.piece.len() {
            let step = match &self.outcome {
                Some(Ok(())) => return Ok(0),
                Some(Err(_)) => return Err(failed()),
                None if self.at < self.size => self.next(),
                None => {
                    let end = self.finish();
                    self.outcome = Some(end);
                    continue;
                }
            };
            if let Err(error) = step {
                self.outcome = Some(Err(error));
            }
        }
        let len = buffer.len().min(self.piece.len() - self.given);
        buffer[..len].copy_from_slice(&self.piece[self.given..self.given + len]);
        self.given += len;
        Ok(len)
    }
}
