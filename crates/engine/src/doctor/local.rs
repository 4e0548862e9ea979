//! This machine's own files: state and cache, who may read them, whether they parse, and the room on their disks.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, statvfs};
use serde::de::DeserializeOwned;

use super::{Finding, about};
use crate::session::Dirs;
use crate::state::{self, GcState, State};

/// Rights of anybody but the owner.
const OTHERS: u32 = 0o077;
/// With less room a push or a restore is likely to stop.
const ROOM_BYTES_MIN: u64 = 256 << 20;
/// With less room it is time to look.
const ROOM_BYTES_GOOD: u64 = 2 << 30;

/// Looks at state and cache.
pub fn local(dirs: &Dirs) -> Vec<Finding> {
    let mut found = Vec::new();
    state_dir(&dirs.state, &mut found);
    if let Some(finding) = directory("cache-directory", "the cache", &dirs.cache) {
        found.push(finding);
    }
    for (check, what, dir) in
        [("state-room", "state", &dirs.state), ("cache-room", "cache", &dirs.cache)]
    {
        found.push(room(check, what, dir));
    }
    found
}

fn state_dir(dir: &Path, found: &mut Vec<Finding>) {
    if let Some(finding) = directory("state-directory", "the state", dir) {
        found.push(finding);
        return;
    }
    if !dir.exists() {
        return;
    }
    found.extend(closed(dir));
    let made_anew = |path: &Path, check, what: String, loss: &str| {
        let finding = Finding::fault(check, format!("{what}; {loss}"));
        about(finding, path, |word| format!("mv {word} {word}.bad"))
    };
    let path = dir.join("machine-id");
    if path.exists()
        && let Err(e) = state::machine_id(dir)
    {
        let loss = "without it this becomes a new machine in the list of snapshots";
        found.push(made_anew(&path, "machine-id", e.to_string(), loss));
    }
    let path = dir.join("secrets.key");
    if path.exists() {
        found.extend(private("secrets-key", &path));
        if let Err(e) = state::secrets_key(dir) {
            let loss = "with a new one, fingerprints in lists of findings to ignore count no more";
            found.push(made_anew(&path, "secrets-key", e.to_string(), loss));
        }
    }
    for repo in repositories(dir) {
        found.extend(closed(&repo));
        found.extend(private("machine-key", &repo.join("machine.key")));
        let loss =
            "it guards against a storage that was rolled back; the next push begins a new one";
        parses::<State>("push-state", &repo.join("state.json"), loss, found);
        let loss = "an operation that it names is ended by a later collection, a day on";
        parses::<GcState>("gc-state", &repo.join("gc/state.json"), loss, found);
    }
}

/// State directories of repositories.
fn repositories(state: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(state.join("repos")).into_iter().flatten().flatten();
    let mut dirs: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    dirs.sort();
    dirs
}

fn parses<T: DeserializeOwned>(
    check: &'static str,
    path: &Path,
    loss: &str,
    found: &mut Vec<Finding>,
) {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return,
        Err(e) => {
            found.push(Finding::fault(check, format!("cannot read {}: {e}", path.display())));
            return;
        }
    };
    if let Err(e) = serde_json::from_slice::<T>(&bytes) {
        let what = format!("{} is damaged ({e}); {loss}", path.display());
        found
            .push(about(Finding::fault(check, what), path, |word| format!("mv {word} {word}.bad")));
    }
}

/// A directory of ours must be one, or not be there yet, and must be writable.
fn directory(check: &'static str, what: &str, dir: &Path) -> Option<Finding> {
    match std::fs::metadata(dir) {
        Ok(meta) if !meta.is_dir() => {
            let said = format!("{} is in the place of the directory for {what}", dir.display());
            Some(about(Finding::fault(check, said), dir, |word| format!("mv {word} {word}.old")))
        }
        Ok(meta) if rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK).is_err() => {
            let said = format!("{} cannot be written to", dir.display());
            let finding = Finding::fault(check, said);
            let own = meta.uid() == rustix::process::geteuid().as_raw();
            Some(about(finding, dir, |word| {
                if own {
                    format!("chmod u+rwx {word}")
                } else {
                    format!("sudo chown -R \"$(id -un)\" {word}")
                }
            }))
        }
        Ok(_) => None,
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => Some(Finding::fault(check, format!("cannot look at {}: {e}", dir.display()))),
    }
}

/// A directory of state that others may enter.
fn closed(dir: &Path) -> Option<Finding> {
    let mode = std::fs::metadata(dir).ok()?.mode();
    (mode & OTHERS != 0).then(|| {
        let what = format!("others can look into {}", dir.display());
        about(Finding::fault("state-open", what), dir, |word| format!("chmod go-rwx {word}"))
    })
}

/// A file with a secret that others may read, or that is somebody else's.
pub fn private(check: &'static str, path: &Path) -> Option<Finding> {
    let meta = std::fs::metadata(path).ok()?;
    if !meta.is_file() {
        return None;
    }
    if meta.mode() & OTHERS != 0 {
        let what = format!("{} holds a secret and others can read it", path.display());
        return Some(about(Finding::fault(check, what), path, |word| format!("chmod 600 {word}")));
    }
    let user = rustix::process::geteuid().as_raw();
    (meta.uid() != user && user != 0).then(|| {
        let what = format!("{} holds a secret and belongs to somebody else", path.display());
        let own = |word: &str| format!("sudo chown \"$(id -u)\" {word}");
        about(Finding::fault(check, what), path, own)
    })
}

/// The room on the disk of a directory that may not be there yet.
pub fn room(check: &'static str, what: &str, dir: &Path) -> Finding {
    let mut there = dir;
    while !there.exists() {
        match there.parent() {
            Some(parent) => there = parent,
            None => break,
        }
    }
    match statvfs(there) {
        Ok(stat) => {
            // a file system that counts no files says 0 of 0
            let no_files = stat.f_files > 0 && stat.f_favail == 0;
            judge_room(check, what, dir, stat.f_bavail.saturating_mul(stat.f_frsize), no_files)
        }
        Err(e) => Finding::unchecked(check, format!("room for {}: {e}", dir.display())),
    }
}

fn judge_room(check: &'static str, what: &str, dir: &Path, bytes: u64, no_files: bool) -> Finding {
    let (dir, mib) = (dir.display(), bytes >> 20);
    if no_files {
        let said = format!("the disk of the {what} ({dir}) takes no more files");
        return Finding::fault(check, said).hint("remove files on that disk");
    }
    let said = format!("{mib} MiB are free on the disk of the {what} ({dir})");
    let hint = "free some space there, or put it elsewhere";
    match bytes {
        0..ROOM_BYTES_MIN => Finding::fault(check, said).hint(hint),
        ROOM_BYTES_MIN..ROOM_BYTES_GOOD => Finding::advice(check, said).hint(hint),
        _ => Finding::fine(check, said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_disk_that_is_nearly_full_is_told_before_it_is() {
        let judge = |bytes, no_files| {
            judge_room("state-room", "state", Path::new("/s"), bytes, no_files).level
        };
        assert_eq!(judge(100 << 20, false), Level::Fault);
        assert_eq!(judge(1 << 30, false), Level::Advice);
        assert_eq!(judge(3 << 30, false), Level::Fine);
        assert_eq!(judge(3 << 30, true), Level::Fault);
    }
}
