//! Content of files as a stream. Blocks are kept for a while: small files lie together in one.

use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use repo::{BlockId, Entry, Extent, Reader};

use crate::error::{Error, Result};
use crate::session::Session;

/// Blocks that are kept, in bytes of plaintext.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// Blocks that are read together: at most 16 MiB.
const BLOCKS_READ_MAX: usize = 8;

/// The repository while sessions are looked for: opened when first needed.
pub(super) struct Work<'s> {
    pub(super) session: &'s Session,
    pub(super) cancel: &'s AtomicBool,
    reader: OnceCell<Reader<'s>>,
    blocks: RefCell<Kept>,
}

#[derive(Default)]
struct Kept {
    blocks: VecDeque<(BlockId, Rc<Vec<u8>>)>,
    bytes: usize,
}

impl<'s> Work<'s> {
    pub(super) fn new(session: &'s Session, cancel: &'s AtomicBool) -> Self {
        Self { session, cancel, reader: OnceCell::new(), blocks: RefCell::default() }
    }

    pub(super) fn reader(&self) -> Result<&Reader<'s>> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        if self.reader.get().is_none() {
            let reader = Reader::open(self.session.repo(), self.session.cache())?;
            let _ = self.reader.set(reader); // there was none
        }
        Ok(self.reader.get().expect("it was just set"))
    }

    /// What was worked out earlier.
    pub(super) fn cached(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.session.cache()?.derived(self.session.repo().keys(), key)
    }

    pub(super) fn remember(&self, key: &[u8], value: &[u8]) {
        if let Some(cache) = self.session.cache() {
            cache.put_derived(self.session.repo().keys(), key, value);
        }
    }

    /// A block, and with it those that come next and are not here.
    pub(super) fn block(&self, wanted: &BlockId, next: &[Extent]) -> Result<Rc<Vec<u8>>> {
        if let Some(block) = self.blocks.borrow_mut().get(wanted) {
            return Ok(block);
        }
        let mut ids = vec![*wanted];
        for extent in next {
            if ids.len() == BLOCKS_READ_MAX {
                break;
            }
            if !ids.contains(&extent.block) && !self.blocks.borrow().has(&extent.block) {
                ids.push(extent.block);
            }
        }
        let read = self.reader()?.read_all(&ids)?;
        let mut kept = self.blocks.borrow_mut();
        // the one that is wanted goes in last: it is not the first to go
        for (id, plain) in ids.iter().zip(read).rev() {
            kept.put(*id, plain);
        }
        Ok(kept.get(wanted).expect("the last one is never dropped"))
    }

    /// The content of a file from some byte on.
    pub(super) fn open<'w>(&'w self, entry: &Entry, from: u64) -> Result<Content<'w, 's>> {
        let extents = self.reader()?.extents(&entry.map)?;
        Ok(Content::new(self, entry.clone(), extents, from))
    }
}

impl Kept {
    fn has(&self, id: &BlockId) -> bool {
        self.blocks.iter().any(|(known, _)| known == id)
    }

    fn get(&mut self, id: &BlockId) -> Option<Rc<Vec<u8>>> {
        let at = self.blocks.iter().position(|(known, _)| known == id)?;
        let found = self.blocks.remove(at)?;
        let block = Rc::clone(&found.1);
        self.blocks.push_back(found);
        Some(block)
    }

    fn put(&mut self, id: BlockId, plain: Vec<u8>) {
        self.bytes += plain.len();
        self.blocks.push_back((id, Rc::new(plain)));
        while self.bytes > KEPT_BYTES_MAX && self.blocks.len() > 1 {
            self.bytes -= self.blocks.pop_front().map_or(0, |(_, block)| block.len());
        }
    }
}

/// A file's content. Read from the beginning to the end it is checked against its hash.
pub(super) struct Content<'w, 's> {
    work: &'w Work<'s>,
    entry: Entry,
    extents: Vec<Extent>,
    /// The next extent, and where it begins in the file.
    at: usize,
    start: u64,
    /// The bytes of one extent that are not read yet.
    now: Vec<u8>,
    used: usize,
    hasher: Option<Box<blake3::Hasher>>,
    /// Why reading ended, for whoever gets only an [`io::Error`].
    failure: Option<Error>,
}

impl<'w, 's> Content<'w, 's> {
    fn new(work: &'w Work<'s>, entry: Entry, extents: Vec<Extent>, from: u64) -> Self {
        let (mut at, mut start) = (0, 0);
        while let Some(extent) = extents.get(at).filter(|e| start + u64::from(e.len) <= from) {
            start += u64::from(extent.len);
            at += 1;
        }
        let hasher = (from == 0).then(Box::default);
        let mut content = Self {
            work,
            entry,
            extents,
            at,
            start,
            now: Vec::new(),
            used: 0,
            hasher,
            failure: None,
        };
        if from > start && content.fill().is_ok() {
            content.used =
                usize::try_from(from - start).unwrap_or(usize::MAX).min(content.now.len());
        }
        content
    }

    /// Takes the next extent. False at the end.
    fn fill(&mut self) -> Result<bool> {
        let Some(extent) = self.extents.get(self.at) else {
            if let Some(hasher) = self.hasher.take()
                && (self.start != self.entry.size
                    || *hasher.finalize().as_bytes() != self.entry.hash)
            {
                return Err(damaged("its content does not fit its hash"));
            }
            return Ok(false);
        };
        self.now = plain(self.work, &self.entry, extent, &self.extents[self.at..], self.start)?;
        self.used = 0;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&self.now);
        }
        self.start += u64::from(extent.len);
        self.at += 1;
        Ok(true)
    }

    /// What went wrong, if reading ended with an error.
    pub(super) fn failure(&mut self) -> Option<Error> {
        self.failure.take()
    }
}

/// The plaintext of an extent.
pub(super) fn plain(
    work: &Work<'_>,
    entry: &Entry,
    extent: &Extent,
    next: &[Extent],
    at: u64,
) -> Result<Vec<u8>> {
    let block = work.block(&extent.block, next)?;
    let start = extent.offset as usize;
    let bytes = block.get(start..start + extent.len as usize);
    let mut bytes = bytes.ok_or_else(|| damaged("its content map reaches past a block"))?.to_vec();
    if extent.pages && !entry.pages.is_some_and(|pages| pages.undo(at, &mut bytes)) {
        return Err(damaged("its content map has pages where there are none"));
    }
    Ok(bytes)
}

pub(super) fn damaged(what: &str) -> Error {
    Error::Repo(repo::Error::Corrupt { object: "a file".to_owned(), what: what.to_owned() })
}

impl Read for Content<'_, '_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.used == self.now.len() {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return Ok(0),
                Err(error) => {
                    let told = io::Error::other(error.to_string());
                    self.failure = Some(error);
                    return Err(told);
                }
            }
        }
        let len = out.len().min(self.now.len() - self.used);
        out[..len].copy_from_slice(&self.now[self.used..self.used + len]);
        self.used += len;
        Ok(len)
    }
}
