//! A text file as it is stored: read through a redactor, in bounded memory.
//!
//! In: a reader that stands at the beginning of a file. Out: the bytes with marks; at their end, what
//! the file was and what was found. Invariant: the same file gives the same bytes, however both sides
//! are read.

use std::io::{self, Read};

use repo::{MarkedSource, Marks};
use secrets::Redactor;

use super::{Hearing, Marking, READ_BYTES, Tally, fill, form_of, source_hasher};

/// What of the output was not taken may grow so far before it is moved to the front.
const TAKEN_BYTES_MAX: usize = 1 << 20;

/// A file being read.
pub(crate) struct Marked<'m, R> {
    from: R,
    path: Vec<u8>,
    hearing: Hearing<'m>,
    /// Made with the first bytes; none at the end.
    redactor: Option<Redactor<'static>>,
    begun: bool,
    source: blake3::Hasher,
    source_bytes: u64,
    buffer: Vec<u8>,
    out: Vec<u8>,
    taken: usize,
}

impl<'m, R: Read> Marked<'m, R> {
    /// Begins at the beginning of the file at `path`. What was known of it ends at `known`: what is
    /// only reported and lies before is not told again.
    pub(crate) fn new(marking: &'m Marking, path: &[u8], known: u64, from: R) -> Self {
        Self {
            from,
            path: path.to_vec(),
            hearing: marking.hearing(known),
            redactor: None,
            begun: false,
            source: source_hasher(&marking.key),
            source_bytes: 0,
            buffer: vec![0; READ_BYTES],
            out: Vec::new(),
            taken: 0,
        }
    }

    /// Begins again. `back` puts the reader at the beginning.
    pub(crate) fn again(self, back: impl FnOnce(R) -> io::Result<R>) -> io::Result<Self> {
        let Hearing { marking, from: known, .. } = self.hearing;
        Ok(Self::new(marking, &self.path, known, back(self.from)?))
    }

    /// What was read is over.
    fn is_over(&self) -> bool {
        self.begun && self.redactor.is_none() && self.taken == self.out.len()
    }

    /// What the file is; `None` if it was not read to its end.
    pub(crate) fn seen(&self) -> Option<(Option<Marks>, &Tally)> {
        let tally = &self.hearing.tally;
        let hash = *self.source.finalize().as_bytes();
        let source = Some(MarkedSource { size: self.source_bytes, hash });
        let marks = (tally.count() > 0).then(|| Marks { count: tally.count(), source });
        self.is_over().then_some((marks, tally))
    }

    /// Bytes of the file that were read so far.
    pub(crate) fn source_bytes(&self) -> u64 {
        self.source_bytes
    }

    fn advance(&mut self) -> io::Result<()> {
        let len = fill(&mut self.from, &mut self.buffer)?;
        let raw = &self.buffer[..len];
        if !self.begun {
            let (path, form) = (String::from_utf8_lossy(&self.path), form_of(&self.path, raw));
            self.redactor = Some(self.hearing.marking.redactor(&path, form));
            self.begun = true;
        }
        self.source.update(raw);
        self.source_bytes += len as u64;
        if self.taken == self.out.len() || self.taken >= TAKEN_BYTES_MAX {
            self.out.drain(..self.taken);
            self.taken = 0;
        }
        if let Some(mut redactor) = self.redactor.take() {
            if len < self.buffer.len() {
                redactor.feed(raw, &mut self.out, &mut self.hearing);
                redactor.finish(&mut self.out, &mut self.hearing);
            } else {
                redactor.feed(raw, &mut self.out, &mut self.hearing);
                self.redactor = Some(redactor);
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Marked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.out.len() && !self.is_over() {
            self.advance()?;
        }
        let len = buffer.len().min(self.out.len() - self.taken);
        buffer[..len].copy_from_slice(&self.out[self.taken..self.taken + len]);
        self.taken += len;
        Ok(len)
    }
}
