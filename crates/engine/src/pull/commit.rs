//! Finished files get their names: a batch is made durable, then renamed; always in this order.
//!
//! An fsync for each of many small files costs more than writing them. So files are gathered: one
//! `syncfs` for a large batch (where there is one), an fsync each for a small one.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use crossbeam_channel::{Receiver, Sender, bounded};
use repo::flag;
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::apply::Run;
use super::error::Error;
use super::plan::{Action, Item};
use super::safety::unchanged;
use super::swap::{self, Step};
use super::target::{Dir, Found, Over, Temp, facts_at, remove_tree};
use super::{Event, holders};

/// Files of one batch.
const BATCH_FILES_MAX: usize = 2_000;
/// Content of one batch in bytes.
const BATCH_BYTES_MAX: u64 = 64 << 20;
/// Directories of one batch: each is an open descriptor, and three batches may be on their way.
const BATCH_DIRS_MAX: usize = 128;
/// Up to so many files are synced one by one: then nobody waits for what else is on the disk.
const FSYNC_FILES_MAX: usize = 16;

/// A file that is whole and verified, under its temporary name.
pub(super) struct Finished {
    pub(super) item: usize,
    pub(super) temp: Temp,
    pub(super) file: File,
    /// Its device.
    pub(super) device: u64,
}

/// Files on their way to a name.
#[derive(Default)]
struct Batch {
    files: Vec<(usize, Temp)>,
    open: Vec<File>,
    devices: HashMap<u64, Dir>,
    dirs: HashSet<i32>,
    bytes: u64,
}

/// Takes finished files until all workers are done, and names them. One thread gathers while
/// another waits for the disk, so that the workers do not.
pub(super) fn commit_all(run: &Run<'_>, finished: &Receiver<Finished>) {
    let (full, batches) = bounded(1);
    std::thread::scope(|scope| {
        scope.spawn(move || batches.iter().for_each(|batch| flush(run, batch)));
        gather(run, finished, &full);
        drop(full);
    });
}

/// Gathers finished files into batches.
fn gather(run: &Run<'_>, finished: &Receiver<Finished>, out: &Sender<Batch>) {
    let mut batch = Batch::default();
    for one in finished {
        batch.bytes += run.items[one.item].bytes;
        batch.devices.entry(one.device).or_insert_with(|| Dir::clone(one.temp.dir()));
        batch.dirs.insert(one.temp.dir().as_raw_fd());
        batch.files.push((one.item, one.temp));
        if !cfg!(target_os = "linux") {
            if let Err(error) = one.file.sync_all() {
                run.stop_with(sync_error(run, one.item, error));
            }
        } else if batch.files.len() <= FSYNC_FILES_MAX {
            batch.open.push(one.file);
        } else {
            batch.open.clear();
        }
        let full = batch.files.len() >= BATCH_FILES_MAX
            || batch.bytes >= BATCH_BYTES_MAX
            || batch.dirs.len() >= BATCH_DIRS_MAX;
        if full && out.send(std::mem::take(&mut batch)).is_err() {
            return; // the other thread panicked; the scope passes that on
        }
    }
    let _ = out.send(batch);
}

/// Syncs, then renames. If the run is over, the batch is dropped, and its temporary files with it.
fn flush(run: &Run<'_>, batch: Batch) {
    let Some((first, _)) = batch.files.first() else { return };
    if run.is_over() {
        return;
    }
    if let Err(error) = sync(&batch) {
        run.stop_with(sync_error(run, *first, error));
        return;
    }
    for (index, temp) in batch.files {
        let item = &run.items[index];
        match give_name(run, item, temp) {
            Ok(()) => {
                run.done(index);
                let event = Event::FileDone { path: &item.path, size: item.bytes };
                run.monitor.event(event);
            }
            Err(error) => run.local(item, error),
        }
    }
}

fn sync(batch: &Batch) -> io::Result<()> {
    if !batch.open.is_empty() {
        return batch.open.iter().try_for_each(File::sync_all);
    }
    #[cfg(target_os = "linux")]
    for dir in batch.devices.values() {
        rustix::fs::syncfs(dir)?;
    }
    Ok(())
}

fn sync_error(run: &Run<'_>, item: usize, error: io::Error) -> Error {
    let path = super::error::show(&run.items[item].path);
    if super::error::is_full(&error) {
        return Error::Full { path, source: error };
    }
    Error::Target { op: "sync", path: path.into(), source: error }
}

/// Gives a temporary thing its final name, once what stands in the way is gone.
pub(super) fn give_name(run: &Run<'_>, item: &Item, temp: Temp) -> io::Result<()> {
    let Some((_, place)) = item.target() else { return Ok(()) };
    let name = place.rel.split().map(|(_, name)| name.to_vec()).ok_or(Errno::ISDIR)?;
    let dir = Dir::clone(temp.dir());
    unchanged(run, item)?;
    if item.action == Action::Replace {
        make_way(run, item, &dir, &name)?;
    }
    let over = if item.action == Action::Create { Over::Nothing } else { Over::Anything };
    if item.is_alone(run.items) {
        nobody_has(run, item, &dir, &name)?;
        swap::swap(temp, &name, over, &mut |step| match step {
            // it took its time
            Step::Copied => nobody_has(run, item, &dir, &name).and_then(|()| unchanged(run, item)),
            _ => Ok(()),
        })?;
    } else {
        if item.has_flag(run.items, flag::SQLITE_RAW) {
            nobody_has(run, item, &dir, &name)?;
        }
        temp.rename(&name, over)?;
    }
    run.touched(&dir);
    Ok(())
}

/// An error if another process has the database open that is about to be replaced.
fn nobody_has(run: &Run<'_>, item: &Item, dir: &Dir, name: &[u8]) -> io::Result<()> {
    if item.action == Action::Create || run.options.even_if_open {
        return Ok(());
    }
    match holders::find(&[(Dir::clone(dir), name)]).pop().flatten() {
        Some(holder) => Err(io::Error::new(io::ErrorKind::ResourceBusy, holder.reason())),
        None => Ok(()),
    }
}

/// A directory in the place of something else: removed if empty, or with all it holds if the
/// snapshot's state is to be the only one.
fn make_way(run: &Run<'_>, item: &Item, dir: &Dir, name: &[u8]) -> io::Result<()> {
    use std::os::fd::AsFd as _;
    if facts_at(dir.as_fd(), name)?.is_none_or(|facts| facts.found != Found::Dir) {
        return Ok(());
    }
    if let Some((_, place)) = item.target() {
        run.targets[place.base].forget(&place.rel);
    }
    if run.options.delete {
        let removed = remove_tree(dir.as_fd(), name, &run.guard)?;
        return if removed.kept { Err(Errno::NOTEMPTY.into()) } else { Ok(()) };
    }
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}
