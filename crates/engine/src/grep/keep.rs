//! Bytes that are wanted again later, in bounded memory.
//!
//! In: stretches of bytes. Out: for each a [`Ref`], and for a `Ref` the bytes. They are gathered into
//! segments; those that do not fit in memory go into a sealed file without a name, and the few that
//! were read back last stay at hand.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::sealed::SealedFile;

/// Bytes of a segment; a stretch that is longer is one of its own.
const SEGMENT_BYTES: usize = 1 << 20;
/// Segments read back that stay at hand.
const AT_HAND: usize = 8;

/// Where bytes are kept. The default one is of no bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ref {
    segment: u32,
    at: u32,
    len: u32,
}

impl Ref {
    /// How many bytes.
    pub(super) fn len(self) -> u64 {
        self.len.into()
    }

    /// Are there none?
    pub(super) fn is_empty(self) -> bool {
        self.len == 0
    }
}

#[derive(Debug)]
enum Segment {
    Plain(Rc<Vec<u8>>),
    Sealed { offset: u64, len: usize },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Keep {
    dir: PathBuf,
    memory_bytes_max: usize,
    segments: Vec<Segment>,
    /// The segment that is being filled: it comes after all others.
    open: Vec<u8>,
    file: Option<SealedFile>,
    file_end: u64,
    memory_bytes: usize,
    at_hand: VecDeque<(usize, Rc<Vec<u8>>)>,
}

impl Keep {
    /// The file, should there be need of one, is made in `dir`.
    pub(super) fn new(dir: &Path, memory_bytes_max: usize) -> Self {
        Self {
            dir: dir.to_owned(),
            memory_bytes_max,
            segments: Vec::new(),
            open: Vec::new(),
            file: None,
            file_end: 0,
            memory_bytes: 0,
            at_hand: VecDeque::new(),
        }
    }

    /// Bytes of closed segments in memory; besides these there are the open one and a few that
    /// were read back.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Bytes in the file.
    pub(super) fn file_bytes(&self) -> u64 {
        self.file_end
    }

    /// Keeps bytes.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<Ref> {
        if bytes.is_empty() {
            return Ok(Ref::default());
        }
        if !self.open.is_empty() && self.open.len() + bytes.len() > SEGMENT_BYTES {
            self.close()?;
        }
        let number = |n: usize| u32::try_from(n).expect("what is kept is far below 4 PiB");
        let at = number(self.open.len());
        self.open.extend_from_slice(bytes);
        Ok(Ref { segment: number(self.segments.len()), at, len: number(bytes.len()) })
    }

    fn close(&mut self) -> Result<()> {
        let segment = std::mem::take(&mut self.open);
        if self.memory_bytes + segment.len() <= self.memory_bytes_max {
            self.memory_bytes += segment.len();
            self.segments.push(Segment::Plain(Rc::new(segment)));
            return Ok(());
        }
        let failed = |e| Error::local("write a temporary file in", &self.dir, e);
        if self.file.is_none() {
            self.file = Some(SealedFile::create(&self.dir).map_err(failed)?);
        }
        let (offset, number) = (self.file_end, self.segments.len() as u64);
        if let Some(file) = &self.file {
            self.file_end = file.put(number, offset, &segment).map_err(failed)?;
        }
        self.segments.push(Segment::Sealed { offset, len: segment.len() });
        Ok(())
    }

    /// Appends what is kept there to `out`.
    pub(super) fn get(&mut self, at: Ref, out: &mut Vec<u8>) -> Result<()> {
        if at.is_empty() {
            return Ok(());
        }
        let (number, start) = (at.segment as usize, at.at as usize);
        let range = start..start + at.len as usize;
        if number == self.segments.len() {
            out.extend_from_slice(&self.open[range]);
        } else {
            out.extend_from_slice(&self.segment(number)?[range]);
        }
        Ok(())
    }

    fn segment(&mut self, number: usize) -> Result<Rc<Vec<u8>>> {
        let (offset, len) = match &self.segments[number] {
            Segment::Plain(bytes) => return Ok(bytes.clone()),
            Segment::Sealed { offset, len } => (*offset, *len),
        };
        if let Some((_, bytes)) = self.at_hand.iter().find(|(at, _)| *at == number) {
            return Ok(bytes.clone());
        }
        let file = self.file.as_ref().expect("a sealed segment is in the file");
        let failed = |e| Error::local("read a temporary file in", &self.dir, e);
        let bytes = Rc::new(file.open(number as u64, offset, len).map_err(failed)?);
        if self.at_hand.len() == AT_HAND {
            self.at_hand.pop_front();
        }
        self.at_hand.push_back((number, bytes.clone()));
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_in_memory_comes_back_from_a_sealed_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut keep = Keep::new(dir.path(), 2 * SEGMENT_BYTES);
        let piece = |n: usize| -> Vec<u8> {
            let len = if n == 7 { 3 * SEGMENT_BYTES } else { 1 + n * 7919 % 400_000 };
            let mut bytes = vec![0; len];
            blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut bytes);
            bytes
        };
        let refs: Vec<Ref> = (0..40).map(|n| keep.put(&piece(n)).unwrap()).collect();
        assert!(keep.memory_bytes() <= 2 * SEGMENT_BYTES, "{}", keep.memory_bytes());
        assert!(keep.file_bytes() > 2 << 20, "{}", keep.file_bytes());
        for n in (0..40).chain((0..40).rev()) {
            let mut out = b"before".to_vec();
            keep.get(refs[n], &mut out).unwrap();
            assert!(out[..6] == *b"before" && out[6..] == piece(n), "piece {n}");
        }
        assert!(keep.put(b"").unwrap().is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
    }
}
