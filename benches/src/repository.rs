//! The programs under test, run as users run them: agent-backup and restic.
//!
//! In: a directory to push. Out: what the push used, and the bytes that reached the repository:
//! all objects that are new or were written again, whatever they are for.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;
use testkit::server::{Config, Server};

use crate::child::{Run, Used};

const PASSPHRASE: &str = "benchmark";
/// Exit codes of a run that did its work: done; some items skipped; ended with doubts (docs/cli.md).
const DONE: [i32; 3] = [0, 3, 5];

/// What one push used and sent.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Pushed {
    /// Of the process.
    pub used: Used,
    /// Bytes of objects that are in the repository and were not, or were written again; in a
    /// bucket all bytes of all requests' bodies, also of what was deleted again.
    pub uploaded_bytes: u64,
    /// What the program itself says it uploaded.
    pub told_bytes: Option<u64>,
    /// Requests to the bucket. A local repository has none to count.
    pub calls: Option<u64>,
    /// For how long a live database was held at most, where the program tells.
    pub held_ms: Option<u64>,
    /// Whether there was something to push.
    pub is_made: bool,
    /// The snapshot that is current now.
    pub snapshot: String,
    /// What the program had to say about items: problems and notices.
    pub said: Vec<String>,
}

/// What one pull used and read.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Pulled {
    /// Of the process.
    pub used: Used,
    /// What the program says it fetched (content, before compression).
    pub told_bytes: Option<u64>,
    /// Bytes that the bucket sent. A local repository has none to count.
    pub read_bytes: Option<u64>,
}

/// Where our repository is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Place {
    /// A directory.
    Local,
    /// A bucket of a server on this machine, which counts requests.
    Bucket,
}

/// Our program, with a home of its own.
#[derive(Debug)]
pub struct Ours {
    binary: PathBuf,
    home: PathBuf,
    place: Site,
}

#[derive(Debug)]
enum Site {
    Local(PathBuf),
    Bucket(Server),
}

impl Ours {
    /// Makes a repository in `work`, which is empty. The passphrase is given once: from then on the
    /// machine key opens it, so that no run pays scrypt.
    pub fn init(binary: &Path, work: &Path, place: Place) -> Result<Ours> {
        let home = work.join("home");
        fs::create_dir_all(&home)?;
        let place = match place {
            Place::Local => Site::Local(work.join("repository")),
            Place::Bucket => {
                let bodies = Some(work.join("bucket"));
                Site::Bucket(Server::start(Config { bodies, ..Config::default() })?)
            }
        };
        let binary = fs::canonicalize(binary)
            .with_context(|| format!("{}: no such program", binary.display()))?;
        let ours = Ours { binary, home, place };
        ours.run().env("AGENT_BACKUP_PASSWORD", PASSPHRASE).arg("init").measure(&[0])?;
        Ok(ours)
    }

    fn run(&self) -> Run {
        let run = Run::new(&self.binary, &self.home).env("HOME", &self.home);
        let run = match &self.place {
            Site::Local(path) => run.arg("-r").arg(path),
            Site::Bucket(server) => {
                let Config { bucket, region, key_id, secret, .. } = server.config();
                run.env("AGENT_BACKUP_KEY_ID", key_id)
                    .env("AGENT_BACKUP_SECRET_KEY", secret)
                    .env("AGENT_BACKUP_REGION", region)
                    .arg("-r")
                    .arg(format!("s3:{}/{bucket}/benchmark", server.url()))
            }
        };
        run.arg("--json")
    }

    /// Pushes a directory.
    pub fn push(&self, dir: &Path) -> Result<Pushed> {
        let before = self.objects()?;
        let requests = self.requests();
        let mut root = std::ffi::OsString::from("db=");
        root.push(dir);
        let (used, out) = self.run().args(["push", "--path"]).arg(root).measure(&DONE)?;
        let document: Value = serde_json::from_slice(&out).context("the document of a push")?;
        let uploaded_bytes = match (&requests, self.requests()) {
            (Some(old), Some(new)) => new.bytes_in - old.bytes_in,
            _ => new_bytes(&before, &self.objects()?),
        };
        Ok(Pushed {
            used,
            uploaded_bytes,
            told_bytes: document["stats"]["bytes_stored"].as_u64(),
            calls: requests.zip(self.requests()).map(|(old, new)| new.calls - old.calls),
            held_ms: document["database_held_ms_max"].as_u64(),
            is_made: document["result"] == "made",
            snapshot: document["snapshot"]["id"].as_str().context("no snapshot id")?.to_owned(),
            said: said(&document),
        })
    }

    /// Restores a snapshot below `to`, which is empty or not there.
    pub fn pull(&self, snapshot: &str, to: &Path) -> Result<Pulled> {
        let requests = self.requests();
        let run = self.run().args(["pull", snapshot, "--yes", "--to"]).arg(to);
        let (used, out) = run.measure(&DONE)?;
        let document: Value = serde_json::from_slice(&out).context("the document of a pull")?;
        Ok(Pulled {
            used,
            told_bytes: document["bytes_fetched"].as_u64(),
            read_bytes: requests
                .zip(self.requests())
                .map(|(old, new)| new.bytes_out - old.bytes_out),
        })
    }

    /// The entry of the file `name` in a snapshot, as `ls --json` has it.
    pub fn entry(&self, snapshot: &str, name: &str) -> Result<Value> {
        let (_, out) = self.run().args(["ls", "-R", snapshot]).measure(&DONE)?;
        let document: Value = serde_json::from_slice(&out)?;
        let entries = document["entries"].as_array().context("no entries")?;
        let is_it = |entry: &&Value| entry["path"].as_str().is_some_and(|p| p.ends_with(name));
        entries.iter().find(is_it).cloned().with_context(|| format!("no {name} in {snapshot}"))
    }

    /// Bytes that the repository holds.
    pub fn bytes(&self) -> Result<u64> {
        match &self.place {
            Site::Local(path) => Ok(tree_bytes(&objects_below(path)?)),
            Site::Bucket(server) => Ok(server.live_bytes()),
        }
    }

    fn objects(&self) -> Result<Objects> {
        match &self.place {
            Site::Local(path) => objects_below(path),
            Site::Bucket(_) => Ok(Objects::new()),
        }
    }

    fn requests(&self) -> Option<Requests> {
        match &self.place {
            Site::Local(_) => None,
            Site::Bucket(server) => {
                let counts = server.counts();
                let calls = counts.class_a + counts.class_b + counts.class_c;
                Some(Requests { calls, bytes_in: counts.bytes_in, bytes_out: counts.bytes_out })
            }
        }
    }
}

struct Requests {
    calls: u64,
    bytes_in: u64,
    bytes_out: u64,
}

fn said(document: &Value) -> Vec<String> {
    let records = ["problems", "notices"].into_iter().filter_map(|key| document[key].as_array());
    let line = |one: &Value| {
        let [path, what] = ["path", "what"].map(|key| one[key].as_str().unwrap_or_default());
        format!("{path}: {what}")
    };
    records.flatten().map(line).collect()
}

/// restic, with a repository and a home of its own.
#[derive(Debug)]
pub struct Restic {
    home: PathBuf,
    repository: PathBuf,
}

impl Restic {
    /// Makes a repository in `work`; None where restic is not installed.
    pub fn init(work: &Path) -> Result<Option<Restic>> {
        let installed = ["/usr/local/bin/restic", "/usr/bin/restic", "/bin/restic"];
        if !installed.iter().any(|path| Path::new(path).exists()) {
            return Ok(None);
        }
        let restic =
            Restic { home: work.join("restic-home"), repository: work.join("restic-repository") };
        fs::create_dir_all(&restic.home)?;
        restic.run().arg("init").measure(&[0])?;
        Ok(Some(restic))
    }

    fn run(&self) -> Run {
        Run::new("restic", &self.home)
            .env("HOME", &self.home)
            .env("RESTIC_PASSWORD", PASSPHRASE)
            .args(["-q", "-r"])
            .arg(&self.repository)
    }

    /// Backs up a directory; the bytes are those by which the repository grew.
    pub fn push(&self, dir: &Path) -> Result<Pushed> {
        let before = objects_below(&self.repository)?;
        // 3: some files could not be read whole, and a live database's sidecars come and go.
        let (used, _) = self.run().arg("backup").arg(dir).measure(&[0, 3])?;
        let uploaded_bytes = new_bytes(&before, &objects_below(&self.repository)?);
        Ok(Pushed { used, uploaded_bytes, is_made: true, ..Pushed::default() })
    }

    /// Bytes that the repository holds.
    pub fn bytes(&self) -> Result<u64> {
        Ok(tree_bytes(&objects_below(&self.repository)?))
    }
}

/// Size, and inode and time of the last writing, of each file below a directory.
type Objects = HashMap<PathBuf, (u64, (u64, i64, i64))>;

fn objects_below(dir: &Path) -> Result<Objects> {
    let (mut objects, mut open) = (Objects::new(), vec![dir.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_dir() {
                open.push(entry.path());
            } else {
                let written = (meta.ino(), meta.mtime(), meta.mtime_nsec());
                objects.insert(entry.path(), (meta.len(), written));
            }
        }
    }
    Ok(objects)
}

fn tree_bytes(objects: &Objects) -> u64 {
    objects.values().map(|(bytes, _)| bytes).sum()
}

/// Bytes of the objects that are not as they were.
fn new_bytes(old: &Objects, new: &Objects) -> u64 {
    let is_new = |(path, object): &(&PathBuf, &(u64, _))| old.get(*path) != Some(*object);
    new.iter().filter(is_new).map(|(_, (bytes, _))| bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_was_written_again_counts_like_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("packs")).unwrap();
        fs::write(path("packs/old"), [0; 1000]).unwrap();
        fs::write(path("heartbeat"), [0; 10]).unwrap();
        let before = objects_below(dir.path()).unwrap();
        assert_eq!(new_bytes(&before, &objects_below(dir.path()).unwrap()), 0);

        fs::write(path("packs/new"), [0; 300]).unwrap();
        // Written aside and renamed over, as a store does.
        fs::write(path("aside"), [1; 10]).unwrap();
        fs::rename(path("aside"), path("heartbeat")).unwrap();
        let after = objects_below(dir.path()).unwrap();
        assert_eq!(new_bytes(&before, &after), 310);
        assert_eq!(tree_bytes(&after), 1310);
    }
}
