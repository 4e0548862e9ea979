//! What of a file a reader cuts: its bytes as they are, or with marks in the place of secrets.
//!
//! In: an open file, and how secrets are replaced, if they are. Out: a stream that can begin again.

use std::io::{self, Read, Seek as _, SeekFrom, Take};

use chunker::{Prefix, verified_prefix};
use redact::Source as _;
use repo::Marks;

use super::reader::{Content, FileReader, Job};
use crate::marks::{Marked, Marking, Tally, is_binary};
use crate::scan::{OpenedFile, Stat};

/// The first bytes of a file, up to a length.
pub(super) enum Input<'f> {
    /// As they are.
    Plain(Take<&'f mut OpenedFile>, u64),
    /// With marks; how long that is, its end says.
    Marked(Box<Marked<'f, Take<&'f mut OpenedFile>>>, u64),
}

/// Why a file was not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// Fields could not be left out of it.
    Fields(String),
    /// Secrets of this file cannot be replaced.
    Marks(Tally),
    Io(io::Error),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl<'f> Input<'f> {
    /// The first `size` bytes of a file that stands at its beginning.
    pub(super) fn of(
        job: &Job,
        file: &'f mut OpenedFile,
        size: u64,
        marking: Option<&'f Marking>,
    ) -> Result<Self, Unread> {
        let Some(marking) = marking.filter(|_| size > 0) else {
            return Ok(Self::Plain(file.take(size), size));
        };
        if is_binary(file.file())? {
            let tally = marking.find(&job.path, &mut (&mut *file).take(size))?;
            file.file().seek(SeekFrom::Start(0))?;
            if tally.count() > 0 {
                return Err(Unread::Marks(tally));
            }
            return Ok(Self::Plain(file.take(size), size));
        }
        let known = job.old.as_ref().map_or(0, |row| {
            let source = row.entry.marks.and_then(|marks| marks.source);
            source.map_or(row.entry.size, |source| source.size)
        });
        let marked = Marked::new(marking, &job.path, known, file.take(size));
        Ok(Self::Marked(Box::new(marked), size))
    }

    /// Begins again.
    pub(super) fn rewind(self) -> io::Result<Self> {
        let back = |from: Take<&'f mut OpenedFile>, size| {
            let file = from.into_inner();
            file.file().seek(SeekFrom::Start(0))?;
            Ok::<_, io::Error>(file.take(size))
        };
        match self {
            Self::Plain(from, size) => Ok(Self::Plain(back(from, size)?, size)),
            Self::Marked(marked, size) => {
                Ok(Self::Marked(Box::new(marked.again(|from| back(from, size))?), size))
            }
        }
    }

    /// Bytes that it has at most.
    pub(super) fn bytes_max(&self) -> u64 {
        match self {
            Self::Plain(_, size) => *size,
            Self::Marked(..) => u64::MAX,
        }
    }

    /// Bytes of the file that are still to be read.
    pub(super) fn left(&self) -> u64 {
        match self {
            Self::Plain(from, _) => from.limit(),
            Self::Marked(marked, size) => size - marked.source_bytes(),
        }
    }

    /// The file, if its bytes stay as they are.
    pub(super) fn plain(&mut self) -> Option<&mut OpenedFile> {
        match self {
            Self::Plain(from, _) => Some(from.get_mut()),
            Self::Marked(..) => None,
        }
    }

    /// Does it begin with this content, to its end?
    fn is(mut self, content: &Content) -> io::Result<bool> {
        let mut hasher = blake3::Hasher::new();
        let prefix = verified_prefix(&mut self, content.size, &content.hash, &mut hasher)?;
        let size = match &self {
            Self::Plain(..) => content.size,
            Self::Marked(marked, _) => marked.source_bytes(),
        };
        let (Self::Plain(_, all) | Self::Marked(_, all)) = &self;
        let whole = size == *all;
        Ok(whole && matches!(prefix, Prefix::Same) && self.read(&mut [0])? == 0)
    }
}

impl FileReader<'_> {
    /// Reads a file as it is stored, and says so in its entry. `None` if the run was stopped.
    pub(super) fn read(
        &mut self,
        job: &mut Job,
        file: &mut OpenedFile,
        before: &Stat,
    ) -> Result<Option<Content>, Unread> {
        let marking = self.marking(job);
        (job.entry.redacted, job.entry.marks) = (None, None);
        if let Some(fields) = &job.fields {
            let raw = fields.read(file.file(), before.size).map_err(Unread::Fields)?;
            let (splice, format) = fields.hide(&raw).map_err(Unread::Fields)?;
            // one that changed since may have values in other places
            let changed = |error: io::Error| Unread::Fields(error.to_string());
            let mut stored = splice.reader(&raw, None).map_err(changed)?;
            job.entry.redacted = format;
            let Some(marking) = marking else {
                return self.content_of(job, &mut stored).map_err(changed);
            };
            let mut marked = Marked::new(marking, &job.path, 0, stored);
            let content = self.content_of(job, &mut marked).map_err(changed)?;
            if let Some((marks, tally)) = marked.seen() {
                self.tell_marks(&job.path, tally);
                let source = |marks: Marks| {
                    let source = marking.source_of(&mut *raw.read_from(0)?)?;
                    Ok(Marks { source: Some(source), ..marks })
                };
                job.entry.marks = marks.map(source).transpose().map_err(changed)?;
            }
            return Ok(content);
        }
        let input = Input::of(job, file, before.size, marking.map(|marking| &**marking))?;
        let Some((content, input)) = self.content(job, input)? else { return Ok(None) };
        if let Input::Marked(marked, _) = &input {
            let (marks, tally) = marked.seen().ok_or_else(|| io::Error::other("it has no end"))?;
            self.tell_marks(&job.path, tally);
            job.entry.marks = marks;
        }
        Ok(Some(content))
    }

    /// True if the file only grew while it was read: its first bytes are still what was read.
    pub(super) fn only_grew(
        &self,
        job: &Job,
        file: &mut OpenedFile,
        content: &Content,
        (before, after): (&Stat, &Stat),
    ) -> bool {
        if job.fields.is_some() || !before.same_file(after) || after.size <= before.size {
            return false;
        }
        let marking = self.marking(job).map(|marking| &**marking);
        let again = |file: &mut OpenedFile| {
            file.file().seek(SeekFrom::Start(0))?;
            Input::of(job, file, before.size, marking)?.is(content).map_err(Unread::Io)
        };
        again(file).unwrap_or(false)
    }

    pub(super) fn tell_marks(&self, path: &[u8], tally: &Tally) {
        if let Some(watch) = self.cx.watch {
            watch.note_marks(path, tally);
        }
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(from, _) => from.read(buffer),
            Self::Marked(marked, _) => marked.read(buffer),
        }
    }
}
