//! The rehearsal: the newest snapshot of every agent is restored to a scratch place and looked at.
//!
//! A pull compares each file with its hash, reads it again from the disk, and has SQLite check every
//! database. What no hash can tell is looked at here: whether the lines of transcripts are JSON. A
//! last line that is not finished was being written when it was stored: that is told, and no damage.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use repo::{Kind, OpId, Reader, Snapshot, flag};
use serde::de::IgnoredAny;

use crate::error::{Error, Result};
use crate::journal;
use crate::pull::{self, Placement, Problem, SnapshotContent};
use crate::session::Session;

/// One snapshot that was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rehearsed {
    /// The snapshot.
    pub snapshot: OpId,
    /// Agents of which it is the newest one; none: directories that were named.
    pub agents: Vec<Option<String>>,
    /// Files that were read again and are right.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Databases that SQLite looked at.
    pub databases: u64,
    /// Lines of JSON that parse.
    pub lines: u64,
    /// What could not be restored, or is not sound.
    pub problems: Vec<Problem>,
    /// What was so when it was stored, and small things.
    pub notices: Vec<Problem>,
}

/// Restores the newest snapshot of every agent below `scratch`, one after the other; what was restored
/// is removed again.
pub fn rehearse(
    session: &Session,
    scratch: &Path,
    monitor: &dyn pull::Monitor,
    cancel: &AtomicBool,
) -> Result<Vec<Rehearsed>> {
    let snapshots = session.snapshots()?;
    let mut newest: BTreeMap<Option<String>, &Snapshot> = BTreeMap::new();
    for snapshot in snapshots.iter().filter(|snapshot| !snapshot.is_safety()) {
        for root in &snapshot.roots {
            newest.insert(root.agent.clone(), snapshot);
        }
    }
    let mut wanted: BTreeMap<OpId, (&Snapshot, BTreeSet<Option<String>>)> = BTreeMap::new();
    for (agent, snapshot) in newest {
        wanted.entry(snapshot.id).or_insert((snapshot, BTreeSet::new())).1.insert(agent);
    }
    let mut done = Vec::new();
    for (snapshot, agents) in wanted.into_values() {
        let dir = scratch.join(snapshot.id.hex());
        let restored = one(session, snapshot, &dir, monitor, cancel);
        let removed = match std::fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::local("remove", &dir, e))
            }
            _ => Ok(()),
        };
        done.push(Rehearsed { agents: agents.into_iter().collect(), ..restored? });
        removed?;
    }
    // with nothing to restore nothing is shown
    if !done.is_empty() {
        journal::rehearsed(session, &done);
    }
    Ok(done)
}

fn one(
    session: &Session,
    snapshot: &Snapshot,
    dir: &Path,
    monitor: &dyn pull::Monitor,
    cancel: &AtomicBool,
) -> Result<Rehearsed> {
    let content = SnapshotContent::open(session, snapshot)?;
    let labels = snapshot.roots.iter().map(|root| root.label.clone().into_bytes()).collect();
    let options = pull::Options {
        labels,
        verify: true,
        owners: false,
        ..pull::Options::new(Placement::Under(dir.to_owned()))
    };
    let report = match pull::pull(&content, &options, monitor, cancel) {
        Ok(report) => report,
        Err(pull::Error::Repo(error)) => return Err(error.into()),
        Err(pull::Error::Cancelled) => return Err(Error::Cancelled),
        Err(other) => {
            let error = std::io::Error::other(other.to_string());
            return Err(Error::local("restore to", dir, error));
        }
    };
    let mut rehearsed = Rehearsed {
        snapshot: snapshot.id,
        agents: Vec::new(),
        files: report.verified,
        bytes: report.bytes_written,
        databases: 0,
        lines: 0,
        problems: Vec::new(),
        notices: report.notices,
    };
    let mut stored_so = BTreeSet::new();
    let mut transcripts = Vec::new();
    Reader::open(&session.repo, session.cache.as_ref())?.walk(
        &snapshot.tree,
        &mut |path, entry| {
            if entry.kind != Kind::File || entry.link.is_some() {
                return Ok(());
            }
            rehearsed.databases += u64::from(entry.flags & flag::SQLITE != 0);
            if entry.flags & (flag::SQLITE_DAMAGED | flag::CHANGED_WHILE_READ) != 0 {
                stored_so.insert(path.clone());
            }
            if path.ends_with(b".jsonl") {
                transcripts.push(path);
            }
            Ok(())
        },
    )?;
    let mut problems = report.problems;
    let failed: BTreeSet<Vec<u8>> = problems.iter().map(|p| p.path.clone()).collect();
    for path in transcripts.into_iter().filter(|path| !failed.contains(path)) {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let file = dir.join(OsStr::from_bytes(&path));
        match lines(&file).map_err(|e| Error::local("read", &file, e))? {
            Lines { good, wrong: None, partial } => {
                rehearsed.lines += good;
                if partial {
                    let reason = "its last line is not finished, as it was stored".to_owned();
                    rehearsed.notices.push(Problem { path, reason });
                }
            }
            Lines { wrong: Some(line), .. } => {
                let reason = format!("line {line} is not JSON, though its hash is right");
                problems.push(Problem { path, reason });
            }
        }
    }
    for problem in problems {
        let so = stored_so.contains(&problem.path);
        if so { &mut rehearsed.notices } else { &mut rehearsed.problems }.push(problem);
    }
    Ok(rehearsed)
}

/// What the lines of a file are.
#[derive(Debug, PartialEq, Eq)]
struct Lines {
    good: u64,
    /// Number of the first line that is not JSON.
    wrong: Option<u64>,
    /// The last line has no end and is not JSON.
    partial: bool,
}

fn lines(path: &Path) -> std::io::Result<Lines> {
    let mut reader = BufReader::new(File::open(path)?);
    let (mut line, mut number, mut good) = (Vec::new(), 0, 0);
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(Lines { good, wrong: None, partial: false });
        }
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        if serde_json::from_slice::<IgnoredAny>(&line).is_ok() {
            good += 1;
        } else if line.ends_with(b"\n") {
            return Ok(Lines { good, wrong: Some(number), partial: false });
        } else {
            return Ok(Lines { good, wrong: None, partial: true });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_being_written_is_no_damage_and_a_broken_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        for (text, expected) in [
            ("{\"a\":1}\n\n[2]\n", Lines { good: 2, wrong: None, partial: false }),
            ("{\"a\":1}\n{\"b\":", Lines { good: 1, wrong: None, partial: true }),
            ("{\"a\":1}\n{\"b\":2}", Lines { good: 2, wrong: None, partial: false }),
            ("{\"a\":1}\n{\"b\":\n{}\n", Lines { good: 1, wrong: Some(2), partial: false }),
            ("", Lines { good: 0, wrong: None, partial: false }),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(lines(&path).unwrap(), expected, "{text}");
        }
    }
}
