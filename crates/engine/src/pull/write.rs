//! Files are written block by block: each block is read once, and its parts go to the files that
//! need them.
//!
//! Runs of blocks are fetched and opened ahead on a pool and handed out in order. Every file belongs
//! to one writer, so its pieces are written by one thread, in the order of the runs. All plaintext in
//! flight shares one byte budget.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::apply::Run;
use super::commit::Finished;
use super::fetch::{Loaded, Permit};
use super::file::{Failed, Parked, Writing};
use super::layout::{self, BlockRun, Layout, Piece};

/// Plaintext of all blocks in flight.
pub(super) const IN_FLIGHT_BYTES: u64 = 48 << 20;
/// Runs that are asked for ahead.
const AHEAD_MAX: usize = 16;
/// Files that all writers together keep open.
const FILES_OPEN_MAX: usize = 128;
/// Threads that write: more than a disk can use.
const WRITERS_MAX: usize = 8;

/// A run of blocks with their plaintext.
struct Batch<'r> {
    run: &'r BlockRun,
    loaded: Loaded,
    /// Given back when the last writer is done with it.
    _permit: Permit<'r>,
}

/// Writes all files of a plan.
pub(super) fn write_all<'r>(run: &'r Run<'r>, out: &Sender<Finished>) {
    let files = layout::order(run);
    let mut rest = files.as_slice();
    while !rest.is_empty() && !run.is_over() {
        let layout = layout::pass(run, &mut rest);
        write_pass(run, &layout, out);
    }
}

fn write_pass(run: &Run<'_>, layout: &Layout, out: &Sender<Finished>) {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let writers = cores.min(run.pool.current_num_threads()).min(WRITERS_MAX);
    std::thread::scope(|scope| {
        let mut queues = Vec::new();
        for number in 0..writers {
            let (queue, batches) = unbounded();
            queues.push(queue);
            let share = Share { number, of: writers };
            scope.spawn(move || Writer::new(run, layout, share, out).work(&batches));
        }
        // A writer that is gone has panicked; the scope passes that on.
        load_all(run, layout, &|batch| {
            let batch = Arc::new(batch);
            queues.iter().all(|queue| queue.send(Arc::clone(&batch)).is_ok())
        });
    });
}

/// Loads the runs ahead and hands them out in order, until `hand_out` is false or the run is over.
fn load_all<'r>(run: &'r Run<'_>, layout: &'r Layout, hand_out: &dyn Fn(Batch<'r>) -> bool) {
    run.pool.in_place_scope(|scope| {
        let mut ahead = VecDeque::new();
        let mut asked = 0;
        for next in &layout.runs {
            while asked < layout.runs.len() && ahead.len() < AHEAD_MAX {
                let wanted = &layout.runs[asked];
                let permit = if ahead.is_empty() {
                    run.budget.take(wanted.bytes)
                } else {
                    let Some(permit) = run.budget.try_take(wanted.bytes) else { break };
                    permit
                };
                let (tx, rx) = bounded(1);
                scope.spawn(move |_| {
                    let result = if run.is_over() {
                        Err(repo::Error::Cancelled)
                    } else {
                        run.fetcher.load(&layout.blocks[wanted.blocks.clone()])
                    };
                    // Nobody listens once the run is over.
                    drop(tx.send(result));
                });
                ahead.push_back((permit, rx));
                asked += 1;
            }
            let Some((permit, rx)) = ahead.pop_front() else { return };
            match rx.recv() {
                Ok(Ok(loaded)) => {
                    if !hand_out(Batch { run: next, loaded, _permit: permit }) {
                        return;
                    }
                }
                Ok(Err(error)) => run.stop_with(error.into()),
                Err(_) => return, // the loading thread panicked; the scope passes that on
            }
            if run.is_over() {
                return;
            }
        }
    });
}

/// Which files are a writer's own: every n-th.
#[derive(Debug, Clone, Copy)]
struct Share {
    number: usize,
    of: usize,
}

impl Share {
    fn has(self, item: u32) -> bool {
        item as usize % self.of == self.number
    }
}

/// Writes the files of its share.
struct Writer<'r> {
    run: &'r Run<'r>,
    layout: &'r Layout,
    share: Share,
    out: &'r Sender<Finished>,
    /// Open files, with the time of their last use.
    open: HashMap<u32, (Writing<'r>, u64)>,
    parked: HashMap<u32, Parked>,
    failed: HashSet<u32>,
    tick: u64,
}

impl<'r> Writer<'r> {
    fn new(run: &'r Run<'r>, layout: &'r Layout, share: Share, out: &'r Sender<Finished>) -> Self {
        let (open, parked, failed) = (HashMap::new(), HashMap::new(), HashSet::new());
        Self { run, layout, share, out, open, parked, failed, tick: 0 }
    }

    fn work(mut self, batches: &Receiver<Arc<Batch<'_>>>) {
        self.whole_files();
        for batch in batches {
            self.batch(&batch);
        }
        for (item, parked) in self.parked {
            parked.discard(self.run, item);
        }
    }

    fn whole_files(&mut self) {
        let (layout, share) = (self.layout, self.share);
        for item in layout.whole.iter().filter(|item| share.has(**item)) {
            if self.run.is_over() {
                return;
            }
            let done = Writing::start(self.run, layout, *item).and_then(Writing::finish);
            self.hand_on(*item, done);
        }
    }

    fn batch(&mut self, batch: &Batch<'_>) {
        let (layout, share) = (self.layout, self.share);
        let pieces = &layout.pieces[batch.run.pieces.clone()];
        for piece in pieces.iter().filter(|piece| share.has(piece.item)) {
            if self.run.is_over() {
                return;
            }
            if self.failed.contains(&piece.item) {
                continue;
            }
            let plain = &batch.loaded[piece.block as usize - batch.run.blocks.start];
            match self.piece(piece, plain) {
                Ok(writing) if writing.is_whole() => self.hand_on(piece.item, writing.finish()),
                Ok(writing) => self.keep_open(piece.item, writing),
                Err(failed) => self.fail(piece.item, failed),
            }
        }
    }

    /// Writes one piece into its file.
    fn piece(
        &mut self,
        piece: &Piece,
        plain: &Result<Bytes, String>,
    ) -> Result<Writing<'r>, Failed> {
        let item = piece.item;
        let mut writing = match (self.open.remove(&item), self.parked.remove(&item)) {
            (Some((writing, _)), _) => writing,
            (None, Some(parked)) => Writing::resume(self.run, self.layout, item, parked)?,
            (None, None) => Writing::start(self.run, self.layout, item)?,
        };
        let plain = plain.as_ref().map_err(|reason| Failed::Content(reason.clone()))?;
        let part = usize::try_from(piece.offset)
            .ok()
            .and_then(|start| plain.get(start..start.checked_add(piece.len as usize)?))
            .ok_or_else(|| {
                let block = self.layout.blocks[piece.block as usize];
                Failed::Content(format!("its map points behind the end of block {block}"))
            })?;
        if piece.pages {
            writing.write_pages(piece.at, part)?;
        } else {
            writing.write(piece.at, part)?;
        }
        Ok(writing)
    }

    /// Keeps a file open for its next piece, and parks the one that was used longest ago if they
    /// are too many.
    fn keep_open(&mut self, item: u32, writing: Writing<'r>) {
        self.tick += 1;
        self.open.insert(item, (writing, self.tick));
        if self.open.len() > (FILES_OPEN_MAX / self.share.of).max(1) {
            let oldest = self.open.iter().min_by_key(|(_, (_, used))| *used).map(|(item, _)| *item);
            if let Some((item, (writing, _))) =
                oldest.and_then(|item| self.open.remove_entry(&item))
            {
                self.parked.insert(item, writing.park());
            }
        }
    }

    fn hand_on(&mut self, item: u32, done: Result<Option<Finished>, Failed>) {
        match done {
            // The receiver is gone only when the run is over.
            Ok(Some(finished)) => _ = self.out.send(finished),
            Ok(None) => {}
            Err(failed) => self.fail(item, failed),
        }
    }

    fn fail(&mut self, item: u32, failed: Failed) {
        self.failed.insert(item);
        failed.tell(self.run, item as usize);
    }
}
