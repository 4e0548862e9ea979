//! Sessions over all snapshots: found in every agent's home, read once, shown, gone and still had.

mod homes;
mod marked;
mod reading;
mod restoring;
mod saved;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use adapters::{Adapter, Env, Root, builtin};
use engine::push::{PushOptions, PushRoot, Pushed, push};
use engine::scan::ScanRoot;
use engine::sessions::{self, Found, Sessions};
use store::MemoryStore;
use testkit::RecordingStore;

use crate::fixture;
use crate::support::{Bench, Ears};

/// An agent's home and a repository whose calls are counted.
struct Case {
    id: String,
    roots: Vec<Root>,
    bench: Bench,
    store: Arc<RecordingStore>,
    dir: tempfile::TempDir,
    options: PushOptions,
}

impl Case {
    fn of(id: &str) -> Self {
        let (_, list) = fixture::lists().into_iter().find(|(of, _)| of == id).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let home = fixture::build(id, &list, dir.path());
        for one in home.listed.iter().filter(|one| one.mark == '-') {
            // one letter each: no log that SQLite could read
            let sides = ["-wal", "-shm", "-journal"];
            if sides.iter().any(|side| one.rel.ends_with(side)) {
                for root in adapter(id).survey(&home.env).roots {
                    let _ = fs::remove_file(root.dir.join(&one.rel));
                }
            }
        }
        Self::at(&adapter(id), &home.env, dir)
    }

    /// What an adapter finds in a home that lies in a directory.
    fn at(adapter: &Adapter, env: &Env, dir: tempfile::TempDir) -> Self {
        let roots = adapter.survey(env).roots;
        let store = Arc::new(RecordingStore::new(Arc::new(MemoryStore::new())));
        let bench = Bench::new(store.clone());
        drop(bench.init());
        let options = PushOptions::default();
        Self { id: adapter.id().to_owned(), roots, bench, store, dir, options }
    }

    fn push(&self) -> Pushed {
        let root = |root: &Root| PushRoot {
            scan: ScanRoot {
                label: root.label.clone(),
                dir: root.dir.clone(),
                files: None,
                filter: root.rules.clone(),
            },
            agent: Some(self.id.clone()),
        };
        let roots: Vec<PushRoot> = self.roots.iter().map(root).collect();
        let session = self.bench.open().unwrap();
        let ears = Ears::default();
        let pushed = push(&session, &roots, &self.options, &ears, &AtomicBool::new(false)).unwrap();
        let bad: Vec<_> = ears.0.into_inner().unwrap();
        assert!(bad.iter().all(|problem| problem.notice), "{}: {bad:?}", self.id);
        pushed
    }

    fn sessions(&self) -> Sessions {
        let session = self.bench.open().unwrap();
        sessions::find(&session, &builtin(), &AtomicBool::new(false)).unwrap()
    }

    fn path(&self, label: &str, rel: &str) -> PathBuf {
        self.roots.iter().find(|root| root.label == label).unwrap().dir.join(rel)
    }
}

fn adapter(id: &str) -> Adapter {
    builtin().into_iter().find(|adapter| adapter.id() == id).unwrap()
}

fn one<'s>(all: &'s Sessions, id: &str) -> &'s Found {
    all.select(id, None, None).unwrap()
}
