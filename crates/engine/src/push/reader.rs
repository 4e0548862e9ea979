//! Readers: one file after the other is opened, captured, cut and deduplicated.
//!
//! In: files that must be read, and groups of them (see `members`). Out: their entries with pieces of blocks, to the collector. A file
//! that cannot be read is a problem, never the end of the push.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use adapters::RowRule;
use chunker::{Chunks, Cutter, Policy, Prefix, verified_prefix};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use repo::{BlockNo, Entry, Extent, Index, Pages, Xattr, flag};

use super::blocks::{Dedup, Filler, Piece, Reuse, push_piece};
use super::collect::{Item, Message, ReadFile};
use super::database::Captured;
use super::fates::{Bond, Fates};
use super::fields::Fields;
use super::groups::Groups;
use super::input::{Input, Unread};
use super::members::{Group, Members};
use super::pages::sparse_blocks;
use super::rows::{EditSeen, Look, Row};
use super::suspects::{self, Watch};
use crate::capture::gate;
use crate::clock::Clock;
use crate::marks::Marking;
use crate::monitor::Problem;
use crate::scan::{OpenProblem, OpenedFile, SourceRoot, Stat};

/// What one reader takes at a time.
pub(super) enum Work {
    File(Box<Job>),
    Group(Group),
}

/// A file to read.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// Its place in tree order.
    pub(super) place: u64,
    /// Full path.
    pub(super) path: Vec<u8>,
    /// Path below its root.
    pub(super) rel: Vec<u8>,
    pub(super) root: usize,
    pub(super) stat: Stat,
    /// Metadata; content is filled in here.
    pub(super) entry: Entry,
    pub(super) old: Option<Box<Row>>,
    /// It begins like a SQLite database.
    pub(super) sqlite: bool,
    /// What of its rows is left out.
    pub(super) rules: Vec<Arc<RowRule>>,
    /// What of its fields is left out.
    pub(super) fields: Option<Fields>,
    /// What becomes of it depends on what became of this path.
    pub(super) bond: Option<(Bond, Vec<u8>)>,
}

/// Tries at a file that moves while it is read.
pub(super) const TRIES_MAX: usize = 3;
/// A moving file larger than this is not read again.
const RETRY_BYTES_MAX: u64 = 16 << 20;
/// A tail shorter than this is small; more than [`SMALL_TAILS_MAX`] of them are written again as
/// one.
const SMALL_TAIL_BYTES: u32 = 64 << 10;
const SMALL_TAILS_MAX: usize = 64;
/// What is left of a file is read as one piece up to this size.
const SMALL_FILE_BYTES: u64 = 1 << 20;
/// An idle reader sends its open block on after this long, so that no entry waits for it.
const IDLE: Duration = Duration::from_millis(200);

/// Whether a row may stand for a file.
pub(super) type Fits<'f> = &'f dyn Fn(&Row) -> bool;
type StandIn<'a> = dyn Fn(usize, &[u8], Fits<'_>) -> Option<Entry> + Sync + 'a;

/// What all readers share.
pub(super) struct Context<'a> {
    pub(super) dedup: &'a Dedup,
    pub(super) fates: &'a Fates,
    pub(super) members: &'a Members,
    pub(super) roots: &'a [Option<SourceRoot>],
    pub(super) dirs: &'a [PathBuf],
    pub(super) cutter: &'a Cutter,
    /// Looks for secrets in what is new, if anybody does.
    pub(super) watch: Option<&'a Watch>,
    /// Puts marks into what is stored, if anybody wants that.
    pub(super) marking: Option<&'a Arc<Marking>>,
    /// What the snapshot before has of what cannot be stored now, by its root and path, if its row fits.
    pub(super) stand_in: &'a StandIn<'a>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) database_wait: Duration,
    /// For how long the health of a database is checked, if at all.
    pub(super) check_databases: Option<Duration>,
    /// For how long that of one that was found damaged before is checked.
    pub(super) check_wait: Duration,
    /// Our private directory for captures.
    pub(super) scratch: &'a Path,
    pub(super) out: Sender<Message>,
    pub(super) stop: &'a AtomicBool,
    pub(super) bytes_read: &'a AtomicU64,
    pub(super) files_read: &'a AtomicU64,
    pub(super) bytes_new: &'a AtomicU64,
    pub(super) problem: &'a (dyn Fn(Problem) + Sync),
    /// Told before a file is read.
    pub(super) reading: &'a (dyn Fn(&[u8]) + Sync),
    /// Told for how long a live database was held.
    pub(super) held: &'a (dyn Fn(Duration) + Sync),
    /// The groups of a database's image, from the cache.
    pub(super) groups: &'a (dyn Fn(&[u8]) -> Option<Vec<u8>> + Sync),
}

/// How reading a file ended.
pub(super) enum Outcome {
    Read(Box<ReadFile>),
    /// A further name of a file that is in the snapshot.
    Link(Vec<u8>, Box<Entry>),
    /// It is there and cannot be stored: what the snapshot before has of it stands for it.
    Kept(Box<Entry>),
    /// It has secrets that may not leave and cannot be replaced, and nothing stands for it.
    KeptIn,
    Gone,
    Stopped,
}

/// One reader with its open blocks.
pub(super) struct FileReader<'a> {
    pub(super) cx: &'a Context<'a>,
    files: Filler<'a>,
    pub(super) pages: Filler<'a>,
    buffer: Vec<u8>,
    /// Sees the new bytes of the file at hand, and where they begin.
    look: Option<(suspects::Look<'a>, u64)>,
    /// Problems of a file that may be read once more, until it is sure that they stay.
    pub(super) held: RefCell<Option<Vec<Problem>>>,
}

impl<'a> FileReader<'a> {
    pub(super) fn new(cx: &'a Context<'a>, block_bytes: u32, page_block_bytes: u32) -> Self {
        Self {
            cx,
            files: Filler::new(cx.dedup, block_bytes),
            pages: Filler::new(cx.dedup, page_block_bytes),
            buffer: Vec::new(),
            look: None,
            held: RefCell::new(None),
        }
    }

    /// Reads files until there are no more. One that depends on a file another reader is at waits
    /// aside.
    pub(super) fn run(mut self, jobs: &Receiver<Work>) {
        let mut aside: Vec<Job> = Vec::new();
        loop {
            match jobs.recv_timeout(IDLE) {
                Ok(Work::File(job)) => aside.push(*job),
                Ok(Work::Group(group)) => {
                    if self.group(group).is_none() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.flush(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            for job in std::mem::take(&mut aside) {
                if self.must_wait(&job) {
                    aside.push(job);
                } else if self.take(job).is_none() {
                    return;
                }
            }
        }
        for job in aside {
            if self.take(job).is_none() {
                return;
            }
        }
        self.flush();
        let new = self.files.bytes_new + self.pages.bytes_new;
        self.cx.bytes_new.fetch_add(new, Ordering::Relaxed);
    }

    fn must_wait(&self, job: &Job) -> bool {
        job.bond.as_ref().is_some_and(|(bond, path)| self.cx.fates.ask(*bond, path).is_none())
    }

    /// Reads one file and tells everybody who waits for it; `None` if the run is over.
    fn take(&mut self, job: Job) -> Option<()> {
        let (place, path, sqlite) = (job.place, job.path.clone(), job.sqlite);
        let outcome = self.bonded(job);
        let (named, image) = match &outcome {
            Outcome::Read(file) => (true, file.entry.flags & flag::SQLITE != 0),
            Outcome::Link(..) => (true, false),
            // a further name is maybe one of another file by now; side files are those of another image
            // or have the same secrets
            Outcome::Kept(_) | Outcome::KeptIn => (false, true),
            Outcome::Gone => (false, false),
            Outcome::Stopped => return None,
        };
        self.cx.fates.settle(Bond::Name, &path, named);
        if sqlite {
            self.cx.fates.settle(Bond::Database, &path, image);
        }
        let message = match outcome {
            Outcome::Read(file) => Message::Entry(place, Box::new(Item::Read(*file))),
            Outcome::Kept(entry) => Message::Entry(place, Box::new(Item::Ready(path, *entry))),
            Outcome::Link(path, entry) => {
                Message::Entry(place, Box::new(Item::Ready(path, *entry)))
            }
            Outcome::KeptIn | Outcome::Gone | Outcome::Stopped => Message::Gone(place),
        };
        self.cx.out.send(message).ok()
    }

    /// Reads a file, unless what it depends on stands for it.
    fn bonded(&mut self, mut job: Job) -> Outcome {
        let Some((bond, path)) = job.bond.take() else { return self.file(job) };
        match (self.cx.fates.wait(bond, &path, self.cx.stop), bond) {
            (None, _) => Outcome::Stopped,
            (Some(true), Bond::Name) => Outcome::Link(job.path, Box::new(job.entry)),
            (Some(true), Bond::Database) => Outcome::Gone, // part of the image
            (Some(false), _) => {
                job.entry.link = None;
                self.file(job)
            }
        }
    }

    fn flush(&mut self) {
        self.files.flush();
        self.pages.flush();
    }

    pub(super) fn problem(&self, path: &[u8], what: String, notice: bool) {
        let problem = Problem { path: path.to_vec(), what, notice };
        match self.held.borrow_mut().as_mut() {
            Some(held) => held.push(problem),
            None => (self.cx.problem)(problem),
        }
    }

    pub(super) fn file(&mut self, mut job: Job) -> Outcome {
        (self.cx.reading)(&job.path);
        let (mut again_soon, mut raw) = (false, 0);
        for attempt in 1.. {
            let seen_nanos = self.cx.clock.now_nanos();
            let Some(root) = &self.cx.roots[job.root] else {
                return self.stand_in(&job, "its root cannot be opened");
            };
            let full = self.cx.dirs[job.root].join(os_path(&job.rel));
            // until this file is done nobody else in this process opens it
            let _hold = gate::hold(&full, &job.stat);
            let mut file = match root.open(&job.rel, &job.stat) {
                Ok(file) => file,
                Err(OpenProblem::Replaced) if attempt < TRIES_MAX => match self.look_again(&job) {
                    Some(stat) => {
                        // further names of the file that was scanned are not names of this one
                        self.cx.fates.settle(Bond::Name, &job.path, false);
                        job.stat = stat;
                        continue;
                    }
                    None => return self.gone(&job, "was replaced by something else"),
                },
                Err(e @ OpenProblem::Vanished) => return self.gone(&job, &e.to_string()),
                Err(e) => return self.stand_in(&job, &e.to_string()),
            };
            let before = *file.stat();
            match file.xattrs() {
                Ok(xattrs) => job.entry.xattrs = keep(xattrs),
                Err(e) => self.problem(&job.path, format!("its attributes: {e}"), false),
            }
            set_times(&mut job.entry, &before);
            if !job.sqlite && !job.rules.is_empty() && before.size > 0 {
                return self.left_out(&job, "it does not begin like a SQLite database");
            }
            job.entry.flags = raw | if file.sparse_hint() { flag::SPARSE } else { 0 };
            if job.sqlite && raw == 0 {
                drop(file); // SQLite must be the only one that has it open
                match self.database(&job, &before) {
                    Ok(None) => return Outcome::Stopped,
                    Ok(Some(Captured { content, flags, marks, look, log, edit })) => {
                        (job.entry.flags, job.entry.marks) = (flags, marks);
                        return self.done(job, content, (look, log, edit), seen_nanos);
                    }
                    Err(e) if self.marking(&job).is_some() => {
                        return self.keep_in(&job, &format!("a database: {e}"));
                    }
                    Err(e) if !job.rules.is_empty() => {
                        return self.left_out(&job, &e.to_string());
                    }
                    Err(e) => {
                        let what = format!("a database, copied as it lay with its log: {e}");
                        self.problem(&job.path, what, false);
                        // without a row the next push tries again to capture it
                        again_soon = e.kind() == io::ErrorKind::ResourceBusy;
                        raw = flag::SQLITE_RAW;
                        continue;
                    }
                }
            }
            let mut look = Some(Look::of(&before));
            let read = self.read(&mut job, &mut file, &before);
            let after = file.stat_again().unwrap_or_default();
            let read = match read {
                // half of what its owner was about to write parses no more than half a file
                Err(Unread::Fields(_)) if look != Some(Look::of(&after)) && attempt < TRIES_MAX => {
                    job.stat = after;
                    continue;
                }
                Err(Unread::Fields(why)) => {
                    let what = "its adapter leaves fields out of it, which was not possible";
                    return self.stand_in(&job, &format!("{what}: {why}"));
                }
                Err(Unread::Marks(tally)) => {
                    return self.keep_in(&job, &format!("it is no text: {}", tally.words()));
                }
                Err(Unread::Io(e)) => return self.stand_in(&job, &e.to_string()),
                Ok(Some(read)) => read,
                Ok(None) => return Outcome::Stopped,
            };
            if look != Some(Look::of(&after)) {
                if self.only_grew(&job, &mut file, &read, (&before, &after)) {
                    look = None; // what was read is whole; the rest comes with the next push
                } else if attempt < TRIES_MAX && before.size <= RETRY_BYTES_MAX {
                    job.stat = after;
                    continue;
                } else {
                    self.problem(&job.path, "changed while it was read".into(), false);
                    job.entry.flags |= flag::CHANGED_WHILE_READ;
                    look = None;
                }
            }
            let look = look.filter(|_| !again_soon);
            return self.done(job, read, (look, None, None), seen_nanos);
        }
        unreachable!("the last try returns")
    }

    fn look_again(&self, job: &Job) -> Option<Stat> {
        let path = self.cx.dirs[job.root].join(os_path(&job.rel));
        let metadata = std::fs::symlink_metadata(path).ok()?;
        metadata.is_file().then(|| Stat::of_metadata(&metadata))
    }

    /// How secrets of a file are replaced, if they are.
    pub(super) fn marking(&self, job: &Job) -> Option<&'a Arc<Marking>> {
        self.cx.marking.filter(|marking| !marking.spares(&job.path))
    }

    fn done(
        &self,
        job: Job,
        read: Content,
        (look, log, edit): (Option<Look>, Option<Stat>, Option<Box<EditSeen>>),
        seen_nanos: i64,
    ) -> Outcome {
        let Job { path, mut entry, old, fields, .. } = job;
        let fields = fields.as_ref().map(Fields::fingerprint);
        let Content { size, hash, pieces, pages, groups } = read;
        (entry.size, entry.hash, entry.pages) = (size, hash, pages);
        let groups = groups.map(|groups| groups.encode());
        self.cx.files_read.fetch_add(1, Ordering::Relaxed);
        let marking = self.cx.marking.map(|marking| marking.fingerprint());
        let file = ReadFile {
            path,
            entry,
            pieces,
            groups,
            old,
            look,
            log,
            edit,
            fields,
            marking,
            seen_nanos,
        };
        Outcome::Read(Box::new(file))
    }

    /// The content of a file that is not stored as it is. `None` if the run was stopped.
    pub(super) fn content_of(
        &mut self,
        job: &Job,
        from: &mut dyn Read,
    ) -> io::Result<Option<Content>> {
        let known = Known::of(job.old.as_deref(), u64::MAX, &self.cx.dedup.index);
        let avoid = known.map(|known| known.sparse_blocks).unwrap_or_default();
        let (mut hasher, mut pieces) = (blake3::Hasher::new(), Vec::new());
        self.begin_look(job, None, 0);
        let length = self.cut_into(from, Some(&mut hasher), &avoid, &mut pieces)?;
        self.end_look();
        let of = |length| Content::of(length, *hasher.finalize().as_bytes(), pieces, None);
        Ok(length.map(of))
    }

    /// Reads a file. `None` if the run was stopped.
    pub(super) fn content<'f>(
        &mut self,
        job: &Job,
        mut input: Input<'f>,
    ) -> io::Result<Option<(Content, Input<'f>)>> {
        let mut avoid = HashSet::new();
        let known = Known::of(job.old.as_deref(), input.bytes_max(), &self.cx.dedup.index);
        if let Some(known) = known {
            match self.grown(job, &mut input, &known)? {
                Grown::Read(content) => return Ok(Some((content, input))),
                Grown::Stopped => return Ok(None),
                Grown::Differs => input = input.rewind()?,
            }
            avoid = known.sparse_blocks;
        }
        let (mut hasher, mut pieces) = (blake3::Hasher::new(), Vec::new());
        self.begin_look(job, None, 0);
        let length = self.cut(&mut input, &mut hasher, &avoid, &mut pieces)?;
        self.end_look();
        let of = |length| Content::of(length, *hasher.finalize().as_bytes(), pieces, None);
        Ok(length.map(|length| (of(length), input)))
    }

    /// A file that is still what it was up to its old length: only the tail is new. Every byte is
    /// read once, so that pieces and hash are of the same bytes whoever writes meanwhile.
    fn grown(&mut self, job: &Job, input: &mut Input<'_>, known: &Known) -> io::Result<Grown> {
        let mut pieces = known.pieces.clone();
        let may_grow = input.bytes_max() > known.size;
        let tails = if may_grow { take_small_tails(&mut pieces) } else { Vec::new() };
        let again: u64 = tails.iter().map(|p| u64::from(p.len)).sum();
        let mut hasher = blake3::Hasher::new();
        self.look = None; // old bytes that are cut again are not new
        if again == 0 {
            let prefix = verified_prefix(input, known.size, &known.hash, &mut hasher)?;
            if !matches!(prefix, Prefix::Same) {
                return Ok(Grown::Differs);
            }
        } else {
            // many small tails become one: they are put into new blocks
            hasher.update_reader(input.take(known.size - again))?;
            let avoid = tails.iter().map(|p| p.block).collect();
            let mut tail = input.take(again);
            if self.cut_into(&mut tail, Some(&mut hasher), &avoid, &mut pieces)?.is_none() {
                return Ok(Grown::Stopped);
            }
            if *hasher.finalize().as_bytes() != known.hash {
                return Ok(Grown::Differs);
            }
        }
        self.cx.bytes_read.fetch_add(known.size - again, Ordering::Relaxed);
        self.begin_look(job, input.plain(), known.size);
        let Some(tail) = self.cut(input, &mut hasher, &HashSet::new(), &mut pieces)? else {
            return Ok(Grown::Stopped);
        };
        self.end_look();
        let hash = *hasher.finalize().as_bytes();
        Ok(Grown::Read(Content::of(known.size + tail, hash, pieces, known.pages)))
    }

    /// Cuts what is left.
    fn cut(
        &mut self,
        input: &mut Input<'_>,
        hasher: &mut blake3::Hasher,
        avoid: &HashSet<BlockNo>,
        pieces: &mut Vec<Piece>,
    ) -> io::Result<Option<u64>> {
        if input.left() > SMALL_FILE_BYTES {
            return self.cut_into(input, Some(hasher), avoid, pieces);
        }
        // a small file is read as one piece into a buffer that is used again
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let read = input.read_to_end(&mut buffer);
        hasher.update(&buffer);
        if read.is_ok() {
            self.cut_bytes(&buffer, avoid, pieces);
        }
        self.cx.bytes_read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        self.buffer = buffer;
        Ok(Some(read? as u64))
    }

    /// From here on bytes that are cut are new ones of this file, from `from` on.
    fn begin_look(&mut self, job: &Job, file: Option<&mut OpenedFile>, from: u64) {
        // what is replaced is told by who replaces it
        let Some(watch) = self.cx.watch.filter(|_| self.cx.marking.is_none()) else { return };
        let mut look = watch.begin(&job.path, from);
        let overlap = look.overlap();
        if let Some(file) = file
            && overlap > 0
        {
            let mut before = vec![0; usize::try_from(overlap).unwrap_or_default()];
            // what cannot be read again is only not looked at
            if file.file().read_exact_at(&mut before, from - overlap).is_ok() {
                look.feed(&before, from - overlap);
            }
        }
        self.look = Some((look, from));
    }

    fn watch_new(&mut self, bytes: &[u8]) {
        if let Some((look, at)) = &mut self.look {
            look.feed(bytes, *at);
            *at += bytes.len() as u64;
        }
    }

    fn end_look(&mut self) {
        if let Some((look, _)) = self.look.take() {
            look.end();
        }
    }

    fn cut_bytes(&mut self, mut rest: &[u8], avoid: &HashSet<BlockNo>, pieces: &mut Vec<Piece>) {
        self.watch_new(rest);
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(self.cx.cutter.cut(rest, true));
            push_piece(pieces, self.files.add(chunk, Reuse::Except(avoid)));
            rest = after;
        }
    }

    /// Cuts by content; returns the bytes read, or `None` if the run was stopped.
    fn cut_into(
        &mut self,
        from: &mut dyn Read,
        mut hasher: Option<&mut blake3::Hasher>,
        avoid: &HashSet<BlockNo>,
        pieces: &mut Vec<Piece>,
    ) -> io::Result<Option<u64>> {
        let mut chunks = Chunks::new(from, Policy::Content(self.cx.cutter.clone()));
        let mut length = 0_u64;
        while let Some(chunk) = chunks.next()? {
            if self.cx.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            if let Some(hasher) = hasher.as_deref_mut() {
                hasher.update(chunk);
            }
            push_piece(pieces, self.files.add(chunk, Reuse::Except(avoid)));
            self.watch_new(chunk);
            length += chunk.len() as u64;
            self.cx.bytes_read.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        Ok(Some(length))
    }
}

/// What a file with a known beginning turned out to be.
enum Grown {
    /// It begins so.
    Read(Content),
    /// It does not.
    Differs,
    Stopped,
}

/// Takes the small pieces at the end away if they are too many.
fn take_small_tails(pieces: &mut Vec<Piece>) -> Vec<Piece> {
    let small = pieces.iter().rev().take_while(|p| p.len < SMALL_TAIL_BYTES).count();
    if small > SMALL_TAILS_MAX { pieces.split_off(pieces.len() - small) } else { Vec::new() }
}

/// What was read of a file.
pub(super) struct Content {
    pub(super) size: u64,
    pub(super) hash: [u8; 32],
    pub(super) pieces: Vec<Piece>,
    /// How its pages are laid out, if pieces are normalised pages.
    pub(super) pages: Option<Pages>,
    /// A database's groups.
    pub(super) groups: Option<Groups>,
}

impl Content {
    /// Of a file that is not captured. Its first pieces may be those of the image it was before.
    fn of(size: u64, hash: [u8; 32], pieces: Vec<Piece>, pages: Option<Pages>) -> Self {
        let pages = pages.filter(|_| pieces.iter().any(|piece| piece.pages));
        Self { size, hash, pieces, pages, groups: None }
    }
}

/// What is known of a file from the snapshot before.
pub(super) struct Known {
    pub(super) size: u64,
    pub(super) hash: [u8; 32],
    pub(super) pieces: Vec<Piece>,
    /// How its pages are laid out, if pieces are normalised pages.
    pub(super) pages: Option<Pages>,
    /// Blocks of which the file uses less than a quarter: their chunks are written again.
    sparse_blocks: HashSet<BlockNo>,
}

impl Known {
    /// `None` if there is nothing to build on: no row, a longer file, or a block that may not be
    /// reused.
    pub(super) fn of(row: Option<&Row>, size: u64, index: &Index) -> Option<Self> {
        let row = row.filter(|row| row.entry.size > 0 && row.entry.size <= size)?;
        let (mut pieces, mut live) = (Vec::new(), HashMap::new());
        for extent in row.extents()? {
            let block = index.number(&extent.block)?;
            let Extent { offset, len, pages, .. } = extent;
            pieces.push(Piece { block, offset, len, pages });
            *live.entry(block).or_default() += u64::from(len);
        }
        let sparse_blocks = sparse_blocks(&live, index);
        let Entry { size, hash, pages, .. } = row.entry;
        Some(Self { size, hash, pieces, pages, sparse_blocks })
    }
}

fn keep(xattrs: Vec<Xattr>) -> Option<Vec<Xattr>> {
    (!xattrs.is_empty()).then_some(xattrs)
}

fn set_times(entry: &mut Entry, stat: &Stat) {
    entry.mode = stat.mode;
    (entry.mtime_secs, entry.mtime_nanos) = (stat.mtime_secs, stat.mtime_nanos);
}

/// A path from raw bytes.
pub(super) fn os_path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(bytes).into()
}
