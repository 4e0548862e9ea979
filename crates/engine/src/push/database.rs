//! The database half of a reader: a SQLite database becomes a consistent image, cut page by page.
//!
//! In: a file that begins like a database and is not open in this process. Out: its content, or why
//! it must be copied as it lies. Invariant: an image that was read without locks is used only if
//! nothing moved meanwhile.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chunker::Chunks;
use repo::flag;

use super::blocks::push_piece;
use super::reader::{Content, FileReader, Job, Known, TRIES_MAX, os_path};
use super::rows::Look;
use crate::capture::sqlite::{self, How, Image};
use crate::scan::Stat;

/// A database's bytes are hashed in runs of about this many.
const HASH_RUN_BYTES: usize = 64 << 10;
/// How long to wait at a time until a database was not written just now.
const SETTLE: Duration = Duration::from_millis(5);

/// A database that was captured.
pub(super) struct Captured {
    pub(super) content: Content,
    /// Flags of its entry.
    pub(super) flags: u32,
    /// How it looked; `None` if it moved meanwhile, so that the next push reads it again.
    pub(super) look: Option<Look>,
    /// Its write-ahead log.
    pub(super) log: Option<Stat>,
}

impl FileReader<'_> {
    /// Captures a SQLite database as a consistent image. `seen` is the file that was scanned. `None`
    /// if the run was stopped.
    pub(super) fn database(&mut self, job: &Job, seen: &Stat) -> io::Result<Option<Captured>> {
        let path = self.cx.dirs[job.root].join(os_path(&job.rel));
        for attempt in 1.. {
            let before = DatabaseLook::of(&path);
            if !before.main.is_some_and(|main| main.same_file(seen)) {
                return Err(io::Error::other("it was replaced meanwhile"));
            }
            let how =
                if before.is_closed() && attempt < TRIES_MAX { How::Closed } else { How::Live };
            if how == How::Closed {
                self.let_settle(&before);
            }
            let read = self.image(job, &path, how);
            let after = DatabaseLook::of(&path);
            if how == How::Closed && !before.same(&after) {
                continue; // opened by its owner meanwhile: what was read without locks may be torn
            }
            let Some(content) = read? else { return Ok(None) };
            // a live database that moved meanwhile is read again next time; this image is consistent
            let look = before.main.filter(|_| before.same(&after)).as_ref().map(Look::of);
            return Ok(Some(Captured { content, flags: flag::SQLITE, look, log: before.log }));
        }
        unreachable!("a live database is not tried twice")
    }

    /// Waits until a write from now on shows in the file's times.
    fn let_settle(&self, look: &DatabaseLook) {
        let look = look.main.as_ref().map(Look::of);
        while look.is_some_and(|look| look.racy(self.cx.clock.now_nanos()))
            && !self.cx.stop.load(Ordering::Relaxed)
        {
            std::thread::sleep(SETTLE);
        }
    }

    /// Cuts an image page by page; `None` if the run was stopped.
    fn image(&mut self, job: &Job, path: &Path, how: How) -> io::Result<Option<Content>> {
        let mut image = Image::open(path, how, self.cx.database_wait)?;
        let page_size = image.page_size;
        let known = Known::of(job.old.as_deref(), u64::MAX, &self.cx.dedup.index);
        let avoid = known.map(|known| known.sparse_blocks).unwrap_or_default();
        let mut chunks = Chunks::pages(&mut image, page_size as usize);
        let (mut hasher, mut pieces, mut size) = (blake3::Hasher::new(), Vec::new(), 0_u64);
        let mut run = Vec::with_capacity(HASH_RUN_BYTES);
        while let Some(page) = chunks.next()? {
            if self.cx.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            push_piece(&mut pieces, self.pages.add(page, &avoid));
            size += page.len() as u64;
            // the hash is many times faster on long runs than on single pages
            run.extend_from_slice(page);
            if run.len() >= HASH_RUN_BYTES {
                hasher.update(&run);
                self.cx.bytes_read.fetch_add(run.len() as u64, Ordering::Relaxed);
                run.clear();
            }
        }
        hasher.update(&run);
        self.cx.bytes_read.fetch_add(run.len() as u64, Ordering::Relaxed);
        Ok(Some(Content { size, hash: *hasher.finalize().as_bytes(), pieces }))
    }
}

/// How a database and its side files look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DatabaseLook {
    main: Option<Stat>,
    log: Option<Stat>,
    journal: Option<Stat>,
}

impl DatabaseLook {
    fn of(path: &Path) -> Self {
        let look = |path: &Path| Some(Stat::of_metadata(&std::fs::symlink_metadata(path).ok()?));
        Self {
            main: look(path),
            log: look(&sqlite::side_file(path, "-wal")),
            journal: look(&sqlite::side_file(path, "-journal")),
        }
    }

    /// True if both show the same content; a reader may move the log's time of change.
    fn same(&self, other: &Self) -> bool {
        self.main == other.main
            && self.log.as_ref().map(Look::of_log) == other.log.as_ref().map(Look::of_log)
            && self.journal == other.journal
    }

    fn is_closed(&self) -> bool {
        self.log.is_none() && self.journal.is_none()
    }
}
