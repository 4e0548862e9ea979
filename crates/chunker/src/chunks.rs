//! The chunks of a reader, through one buffer.
//!
//! In: any [`Read`], however short its reads. Out: its bytes, in order and without gaps, as slices
//! of the buffer. What is cut never depends on how the bytes arrive. A caller that wants the hash of
//! the whole file feeds each slice to its hasher as it comes.

use std::fmt;
use std::io::{self, ErrorKind, Read};

use crate::Cutter;

/// Free room a refill asks the reader to fill, in bytes: few system calls, little memory.
const READ_BYTES: usize = 1 << 20;
/// Chunks of a database are never smaller: the chunk list of 512-byte pages would outweigh them.
const PAGE_CHUNK_MIN: usize = 4 << 10;
/// The largest page of SQLite's file format. A header is not to be trusted beyond it.
const PAGE_CHUNK_MAX: usize = 64 << 10;

/// How a [`Chunks`] cuts.
#[derive(Debug, Clone)]
pub enum Policy {
    /// Where the content says so.
    Content(Cutter),
    /// Every so many bytes; the last chunk may be shorter. Taken to be within 4 KiB to 64 KiB.
    Pages(u32),
}

/// The chunks of a reader, one after the other.
///
/// Holds one buffer of 1 MiB and the longest chunk. [`Chunks::restart`] takes the next reader and
/// keeps the buffer, which is worth it for many small files.
pub struct Chunks<R> {
    reader: R,
    cut: Cut,
    buffer: Vec<u8>,
    /// `buffer[start..end]` is read and not yet given out.
    start: usize,
    end: usize,
    eof: bool,
}

/// A [`Policy`] with its page length in range.
enum Cut {
    Content(Cutter),
    Pages(usize),
}

impl<R: Read> Chunks<R> {
    /// The chunks of `reader`, from where it stands to its end.
    pub fn new(reader: R, policy: Policy) -> Chunks<R> {
        match policy {
            Policy::Content(cutter) => Chunks::with_cut(reader, Cut::Content(cutter)),
            Policy::Pages(bytes) => Chunks::pages(reader, bytes as usize),
        }
    }

    /// The pages of a SQLite database image: every chunk is `page_size` bytes or 4 KiB, whichever
    /// is more; the last may be shorter. A page size past SQLite's 64 KiB counts as 64 KiB.
    pub fn pages(reader: R, page_size: usize) -> Chunks<R> {
        let page_chunk = page_size.clamp(PAGE_CHUNK_MIN, PAGE_CHUNK_MAX);
        Chunks::with_cut(reader, Cut::Pages(page_chunk))
    }

    fn with_cut(reader: R, cut: Cut) -> Chunks<R> {
        let buffer = vec![0; READ_BYTES + cut.len_max()];
        Chunks { reader, cut, buffer, start: 0, end: 0, eof: false }
    }

    /// Begins again with another reader, and gives the old one back. Buffered bytes of the old one
    /// are dropped.
    pub fn restart(&mut self, reader: R) -> R {
        (self.start, self.end, self.eof) = (0, 0, false);
        std::mem::replace(&mut self.reader, reader)
    }

    /// The next chunk, `None` after the last. It lives until the next call.
    ///
    /// The file ends at the first read of no bytes, also if it grows later. After an error the call
    /// may be repeated: no byte is lost. Interrupted reads are repeated here.
    // An iterator cannot lend from its own buffer, and a copy per chunk is what this avoids.
    #[allow(clippy::should_implement_trait, reason = "an Iterator cannot lend")]
    pub fn next(&mut self) -> io::Result<Option<&[u8]>> {
        if !self.eof && self.end - self.start < self.cut.len_max() {
            self.refill()?;
        }
        let ready = &self.buffer[self.start..self.end];
        let length = self.cut.first(ready, self.eof);
        if length == 0 {
            return Ok(None);
        }
        self.start += length;
        Ok(Some(&ready[..length]))
    }

    /// Moves the tail to the front and reads until the buffer is full or the file ends.
    fn refill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        while self.end < self.buffer.len() {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.eof = true;
                    break;
                }
                Ok(count) => self.end += count,
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }
}

impl Cut {
    fn len_max(&self) -> usize {
        match self {
            Cut::Content(cutter) => cutter.max_len(),
            Cut::Pages(bytes) => *bytes,
        }
    }

    fn first(&self, ready: &[u8], eof: bool) -> usize {
        match self {
            Cut::Content(cutter) => cutter.cut(ready, eof),
            Cut::Pages(bytes) => ready.len().min(*bytes),
        }
    }
}

impl<R> fmt::Debug for Chunks<R> {
    /// Without the buffer: it holds somebody's file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunks")
            .field("buffered", &(self.end - self.start))
            .field("eof", &self.eof)
            .finish_non_exhaustive()
    }
}
