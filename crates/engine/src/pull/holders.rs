//! Who else has a database open.
//!
//! In: places of databases. Out: for each, a process that has the file or one of its side files
//! open, or a lock on it. A program that keeps a database open would go on writing to the old file,
//! which nobody sees any more once another has its name.
//!
//! On Linux the descriptors of all processes that we may look at tell it: an idle connection to a
//! database with a rollback journal holds no lock. Everywhere, and for the processes of other users,
//! SQLite's locks are asked for: a connection to a database with a write-ahead log holds one as long
//! as it is open. So elsewhere an idle connection to one with a rollback journal is not seen.
//!
//! Looking takes no lock and drops none of ours: this process has no connection to a target.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::os::fd::AsFd as _;

use rustix::process::{Flock, FlockOffsetType, FlockType};

use super::error::show;
use super::target::{Dir, Found, SQLITE_SIDES, facts_at, open_file_at};

/// The bytes of a database that SQLite's locks lie on: pending, reserved, shared.
const LOCK_BYTES_FROM: u64 = 0x4000_0000;
const LOCK_BYTES: u64 = 512;

/// A process that has a database open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// `None`: of a container, or of another machine.
    pid: Option<i32>,
    /// Its command, if that may be asked; escaped.
    command: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, &self.command) {
            (Some(pid), Some(command)) => write!(f, "{command} (process {pid})"),
            (Some(pid), None) => write!(f, "process {pid}"),
            (None, _) => f.write_str("a process out of sight"),
        }
    }
}

impl Holder {
    fn new(pid: i32) -> Self {
        let command = std::fs::read(format!("/proc/{pid}/comm")).ok();
        let command = command.map(|name| show(name.trim_ascii()));
        Self { pid: Some(pid), command: command.filter(|name| !name.is_empty()) }
    }

    /// Why its database is not replaced.
    pub(crate) fn reason(&self) -> String {
        format!(
            "{self} has this database open: stop it and pull again, or restore elsewhere with \
             --to DIR; --even-if-open replaces it all the same"
        )
    }
}

/// Device and inode.
type Id = (u64, u64);

/// For each place, by directory and name, who has the database there open.
pub(crate) fn find(places: &[(Dir, &[u8])]) -> Vec<Option<Holder>> {
    let mut wanted: HashMap<Id, Vec<usize>> = HashMap::new();
    let mut found = vec![None; places.len()];
    for (number, (dir, name)) in places.iter().enumerate() {
        for side in [&b""[..]].into_iter().chain(SQLITE_SIDES) {
            let facts = facts_at(dir.as_fd(), &[name, side].concat()).ok().flatten();
            if let Some(facts) = facts.filter(|facts| facts.found == Found::File) {
                wanted.entry(facts.id).or_default().push(number);
            }
        }
        let file = open_file_at(dir.as_fd(), name).ok();
        found[number] = file.as_ref().and_then(locked);
    }
    if !wanted.is_empty() {
        open_files(&wanted, &mut found);
    }
    found
}

/// Who holds one of SQLite's locks on a file. A file system without locks has none.
pub(super) fn locked(file: &File) -> Option<Holder> {
    let all = Flock {
        start: LOCK_BYTES_FROM,
        length: LOCK_BYTES,
        pid: None,
        typ: FlockType::WriteLock,
        offset_type: FlockOffsetType::Set,
    };
    let lock = rustix::process::fcntl_getlk(file, &all).ok()??;
    let pid = lock.pid.map(rustix::process::Pid::as_raw_pid).filter(|pid| *pid > 0);
    Some(pid.map_or(Holder { pid: None, command: None }, Holder::new))
}

/// Looks through the descriptors of every process but ours. One that goes away meanwhile, or that
/// we may not look at, has none.
#[cfg(target_os = "linux")]
fn open_files(wanted: &HashMap<Id, Vec<usize>>, found: &mut [Option<Holder>]) {
    use std::os::unix::fs::MetadataExt as _;
    let own = i32::try_from(std::process::id()).ok();
    let Ok(processes) = std::fs::read_dir("/proc") else { return };
    for process in processes.flatten() {
        let pid = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        let Some(pid) = pid.filter(|pid| Some(*pid) != own) else { continue };
        let Ok(open) = std::fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in open.flatten() {
            let Ok(meta) = std::fs::metadata(descriptor.path()) else { continue };
            for number in wanted.get(&(meta.dev(), meta.ino())).into_iter().flatten() {
                found[*number].get_or_insert_with(|| Holder::new(pid));
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn open_files(_: &HashMap<Id, Vec<usize>>, _: &mut [Option<Holder>]) {}
