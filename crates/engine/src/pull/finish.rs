//! What comes before and after the files: directories, links, FIFOs, the second look, deletions,
//! and last the modes and times of directories, deepest first.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd as _;

use rayon::prelude::*;
use repo::{Entry, Kind};
use rustix::fs::Mode;

use super::apply::Run;
use super::commit::give_name;
use super::file::Failed;
use super::plan::{Action, Base, Item, Place};
use super::safety::unchanged;
use super::target::{self, Dir, Facts, Found, Target, Temp, remove_tree};
use super::{Overwrite, fields, marks};

/// Makes directories from the top down, and removes what a killed pull left in those that were
/// there.
pub(super) fn make_dirs(run: &Run<'_>, bases: &[Base]) {
    let mut fresh: HashSet<(usize, Vec<u8>)> = HashSet::new();
    for (index, item) in run.items.iter().enumerate() {
        if run.is_over() {
            return;
        }
        let Some((entry, place)) = item.target() else { continue };
        let wanted = item.action.writes() || matches!(item.action, Action::Metadata);
        if entry.kind == Kind::Dir && (wanted || item.settle) {
            match make_dir(run, item, place) {
                Ok(made) => {
                    if made {
                        fresh.insert((place.base, place.rel.bytes().to_vec()));
                    }
                    if item.action != Action::Leave {
                        run.done(index);
                    }
                }
                Err(error) => run.local(item, error),
            }
        } else if item.action == Action::Create
            && let Some((parent, _)) = place.rel.split()
            && let Err(error) = run.targets[place.base].make_dirs(&parent)
        {
            // Told again, by name, when the entry itself fails.
            tracing::debug!(%error, "making a parent directory");
        }
    }
    remove_stale_temps(run, bases, &fresh);
}

/// True if it was not there. One that is there and stays ours is opened up for writing; its own
/// mode comes back at the end.
fn make_dir(run: &Run<'_>, item: &Item, place: &Place) -> io::Result<bool> {
    let target = &run.targets[place.base];
    if let Some((parent, _)) = place.rel.split() {
        target.make_dirs(&parent)?;
        let replace = run.options.overwrite == Overwrite::Always;
        unchanged(run, item)?;
        if target.make_dir(&place.rel, replace)? {
            run.touched(&target.dir(&parent)?);
            return Ok(true);
        }
    }
    if item.settle {
        let dir = target.dir(&place.rel)?;
        let mode = Facts::of(&dir)?.mode;
        if mode & 0o700 != 0o700 {
            rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode | 0o700))?;
        }
    }
    Ok(false)
}

fn remove_stale_temps(run: &Run<'_>, bases: &[Base], fresh: &HashSet<(usize, Vec<u8>)>) {
    let mut seen = HashSet::new();
    for item in run.items {
        let Some((entry, place)) = item.target() else { continue };
        if bases[place.base].target.is_none() || matches!(item.action, Action::Skip(_)) {
            continue;
        }
        let dir = match (entry.kind, place.rel.split()) {
            (Kind::Dir, _) => place.rel.clone(),
            (_, Some((parent, _))) => parent,
            (_, None) => continue,
        };
        let key = (place.base, dir.bytes().to_vec());
        if fresh.contains(&key) || !seen.insert(key) {
            continue;
        }
        let removed =
            run.targets[place.base].dir(&dir).and_then(|dir| Target::remove_stale_temps(&dir));
        if let Err(error) = removed {
            tracing::debug!(%error, "removing old temporary files");
        }
    }
}

/// Symbolic links, FIFOs and further names of files, when all files are there.
pub(super) fn make_links(run: &Run<'_>) {
    for (index, item) in run.items.iter().enumerate() {
        if run.is_over() {
            return;
        }
        let Some((entry, place)) = item.target() else { continue };
        let made = match (entry.kind, item.link) {
            _ if entry.kind == Kind::File && item.action == Action::Metadata => {
                set_metadata(run, item, entry, place)
            }
            _ if !item.action.writes() => continue,
            (Kind::Symlink, _) => make_symlink(run, item, entry, place),
            (Kind::Fifo, _) => make_fifo(run, item, entry, place),
            (Kind::File, Some(first)) => match make_hard_link(run, index, first, place) {
                Err(Failed::Local(error)) => Err(error),
                Err(failed) => {
                    failed.tell(run, index);
                    continue;
                }
                Ok(()) => Ok(()),
            },
            _ => continue,
        };
        match made {
            Ok(()) => run.done(index),
            Err(error) => run.local(item, error),
        }
    }
}

fn set_metadata(run: &Run<'_>, item: &Item, entry: &Entry, place: &Place) -> io::Result<()> {
    let target = &run.targets[place.base];
    let file = target.open_file(&place.rel)?;
    target::set(&file, entry, &run.rules, &mut |text| run.notice(item, text))?;
    run.touched_file(&file, &target.place(&place.rel)?.0)
}

fn make_symlink(run: &Run<'_>, item: &Item, entry: &Entry, place: &Place) -> io::Result<()> {
    let (dir, _) = run.targets[place.base].place(&place.rel)?;
    let link = Temp::symlink(&dir, entry.target.as_deref().unwrap_or_default())?;
    target::set_symlink(&link, entry, &run.rules, &mut |text| run.notice(item, text))?;
    give_name(run, item, link)
}

#[cfg(not(target_vendor = "apple"))]
fn make_fifo(run: &Run<'_>, item: &Item, entry: &Entry, place: &Place) -> io::Result<()> {
    let (dir, _) = run.targets[place.base].place(&place.rel)?;
    let fifo = Temp::fifo(&dir)?;
    let open = fifo.reopen()?;
    if Facts::of(&open)?.found != Found::Fifo {
        return Err(io::Error::other("something else took its place"));
    }
    target::set(&open, entry, &run.rules, &mut |text| run.notice(item, text))?;
    give_name(run, item, fifo)
}

#[cfg(target_vendor = "apple")]
fn make_fifo(_: &Run<'_>, _: &Item, _: &Entry, _: &Place) -> io::Result<()> {
    Err(io::Error::other("FIFOs are not restored on this system"))
}

/// Another name of a file that is restored. Where the file system refuses, a copy. What it replaces may
/// have secrets of its own, which the file need not have.
fn make_hard_link(run: &Run<'_>, index: usize, first: usize, place: &Place) -> Result<(), Failed> {
    let (item, carrier) = (&run.items[index], &run.items[first]);
    let restored = run.is_done(first);
    let (Some((_, of)), true) = (carrier.target(), restored) else {
        return Err(io::Error::other("the file it is a link to was not restored").into());
    };
    let (of_dir, of_name) = run.targets[of.base].place(&of.rel)?;
    let (dir, _) = run.targets[place.base].place(&place.rel)?;
    let size = run.written(first).map(|written| written.size);
    let size = size.or(carrier.entry.as_ref().map(|entry| entry.size));
    let linked = Temp::hard_link(&dir, &of_dir, of_name).and_then(|temp| {
        let facts = temp.facts()?;
        // one that was left with values of its own has a size of its own
        let own = carrier.bound.is_some()
            || carrier
                .entry
                .as_ref()
                .is_some_and(|entry| entry.redacted.is_some() || entry.marks.is_some());
        let left = own && !carrier.action.writes();
        let fits = facts.found == Found::File && (left || size == Some(facts.size));
        if fits { Ok(temp) } else { Err(io::Error::other("the file it is a link to changed")) }
    });
    let temp = match linked {
        Ok(temp) => temp,
        Err(error) if super::error::is_full(&error) => return Err(error.into()),
        Err(_) => copy(run, item, first, of, &dir)?,
    };
    marks::lose_none(run, index, &temp.reopen()?)?;
    give_name(run, item, temp)?;
    Ok(())
}

/// A copy of a restored file, verified, under a temporary name.
fn copy(run: &Run<'_>, item: &Item, first: usize, of: &Place, dir: &Dir) -> io::Result<Temp> {
    let mut from = run.targets[of.base].open_file(&of.rel)?;
    let (temp, mut to) = Temp::file(dir)?;
    io::copy(&mut from, &mut to)?;
    let entry = run.items[first].entry.as_deref().ok_or(io::ErrorKind::NotFound)?;
    match fields::is_right(run, first, &to) {
        Ok(true) => {}
        Err(Failed::Local(error)) => return Err(error),
        _ => return Err(io::Error::other("the file it is a link to changed")),
    }
    target::set(&to, entry, &run.rules, &mut |text| run.notice(item, text))?;
    to.sync_all()?;
    run.notice(item, "a hard link became a copy".into());
    Ok(temp)
}

/// Reads every file of the plan again, if asked to.
pub(super) fn verify(run: &Run<'_>) {
    if !run.options.verify {
        return;
    }
    run.pool.install(|| {
        run.items.par_iter().enumerate().filter(|(index, _)| run.is_done(*index)).for_each(
            |(index, item)| {
                let Some((entry, place)) = item.target() else { return };
                if entry.kind != Kind::File || run.is_over() {
                    return;
                }
                let file = run.targets[place.base].open_file(&place.rel).map_err(Failed::Local);
                let carrier = item.link.unwrap_or(index);
                match file.and_then(|file| fields::is_right(run, carrier, &file)) {
                    Ok(true) => run.count_verified(),
                    Ok(false) => run.problem(item, "read again, its content is not right".into()),
                    Err(failed) => failed.tell(run, index),
                }
            },
        );
    });
}

/// Removes what the snapshot does not have.
pub(super) fn delete(run: &Run<'_>) {
    for (index, item) in run.items.iter().enumerate() {
        let Some(place) = item.place.as_ref().filter(|_| item.action == Action::Delete) else {
            continue;
        };
        if run.is_over() {
            return;
        }
        let target = &run.targets[place.base];
        target.forget(&place.rel);
        let removed = target.place(&place.rel).and_then(|(dir, name)| {
            unchanged(run, item)?;
            run.touched(&dir);
            remove_tree(dir.as_fd(), name, &run.guard)
        });
        match removed {
            Ok(removed) if removed.kept => {
                run.done(index);
                run.notice(item, "kept in part: it holds another root or file system".into());
            }
            Ok(_) => run.done(index),
            Err(error) => run.local(item, error),
        }
    }
}

/// Modes, owners, attributes and times of directories, deepest first.
pub(super) fn settle(run: &Run<'_>) {
    for (index, item) in run.items.iter().enumerate().rev() {
        let Some((entry, place)) = item.target() else { continue };
        if entry.kind != Kind::Dir || !item.settle || !run.is_done(index) {
            continue;
        }
        let set = run.targets[place.base].dir(&place.rel).and_then(|dir| {
            run.touched(&dir);
            target::set(&dir, entry, &run.rules, &mut |text| run.notice(item, text))
        });
        if let Err(error) = set {
            run.local(item, error);
        }
    }
}
