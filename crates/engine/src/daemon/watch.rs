//! Watches what a push covers, and says when something changed and it was quiet for a while since.
//!
//! The system tells of changes (`notify`); where it does not, or has no room for so many watches, the files
//! are looked at once a minute. What the filter of a root leaves out is no change, but for the log of a
//! database, which is where its writers write. Nothing is opened: only names and times are looked at.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use notify::event::EventKind;
use notify::{PollWatcher, RecommendedWatcher, RecursiveMode, Watcher};

use super::Event;
use crate::scan::{ScanRoot, Verdict};

/// How often files are looked at where the system does not tell.
const POLL: Duration = Duration::from_secs(60);
/// If it is never quiet, a push comes after this many times the quiet that was asked for.
const NOISE_TIMES_MAX: u32 = 10;

/// Directories, how deep they are watched, and which ones they are: one that was removed and made again needs a
/// new watch.
type Dirs = BTreeMap<PathBuf, (RecursiveMode, Option<(u64, u64)>)>;

/// What is watched.
pub(super) struct Watch {
    watcher: Option<Box<dyn Watcher + Send>>,
    polls: bool,
    roots: Arc<Mutex<Vec<ScanRoot>>>,
    watched: Dirs,
    hear: Sender<()>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("watched", &self.watched).finish_non_exhaustive()
    }
}

impl Watch {
    /// Starts the thread that waits for quiet. It ends with this.
    pub(super) fn start(quiet: Duration, events: Sender<Event>) -> Self {
        // one that is not taken yet says as much as many
        let (hear, heard) = bounded(1);
        std::thread::spawn(move || wait_for_quiet(quiet, &heard, &events));
        Self { watcher: None, polls: false, roots: Arc::default(), watched: BTreeMap::new(), hear }
    }

    /// Watches these roots from now on. Says what is worth a note.
    pub(super) fn look_at(&mut self, roots: Vec<ScanRoot>) -> Option<String> {
        let mut wanted = Dirs::new();
        for root in &roots {
            // of a root that is a few files (a home directory, maybe) only its own names matter
            let deep = |(mode, _): &(RecursiveMode, _)| *mode == RecursiveMode::Recursive;
            let whole = root.files.is_none() || wanted.get(&root.dir).is_some_and(deep);
            let mode = if whole { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
            let which = std::fs::metadata(&root.dir).map(|meta| (meta.dev(), meta.ino())).ok();
            wanted.insert(root.dir.clone(), (mode, which));
        }
        *self.roots.lock().unwrap_or_else(PoisonError::into_inner) = roots;
        if wanted == self.watched {
            return None;
        }
        self.watched.clone_from(&wanted);
        let mut why = String::new();
        if !self.polls {
            match self.watch(false, &wanted) {
                Ok(()) => return None,
                Err(error) => why = error.to_string(),
            }
        }
        self.polls = true;
        Some(match self.watch(true, &wanted) {
            Ok(()) if why.is_empty() => return None,
            Ok(()) => {
                format!("changes are looked for once a minute: the system cannot tell ({why})")
            }
            Err(error) => format!("changes are not noticed between pushes: {error}"),
        })
    }

    fn watch(&mut self, poll: bool, dirs: &Dirs) -> notify::Result<()> {
        self.watcher = None;
        let (roots, hear) = (Arc::clone(&self.roots), self.hear.clone());
        let handler = move |event: notify::Result<notify::Event>| {
            // an error (too much at once) may stand for anything
            let counts = event.is_err()
                || event.is_ok_and(|event| {
                    let roots = roots.lock().unwrap_or_else(PoisonError::into_inner);
                    is_change(&event, &roots)
                });
            if counts {
                let _ = hear.try_send(());
            }
        };
        let mut watcher: Box<dyn Watcher + Send> = if poll {
            let config = notify::Config::default().with_poll_interval(POLL);
            Box::new(PollWatcher::new(handler, config)?)
        } else {
            Box::new(RecommendedWatcher::new(handler, notify::Config::default())?)
        };
        for (dir, (mode, _)) in dirs.iter().filter(|(_, (_, which))| which.is_some()) {
            watcher.watch(dir, *mode)?;
        }
        self.watcher = Some(watcher);
        Ok(())
    }
}

/// Whether an event is a change of something that is backed up.
fn is_change(event: &notify::Event, roots: &[ScanRoot]) -> bool {
    if matches!(event.kind, EventKind::Access(_)) {
        return false;
    }
    event.need_rescan()
        || event.paths.iter().any(|path| roots.iter().any(|root| is_wanted(path, root)))
}

fn is_wanted(path: &Path, root: &ScanRoot) -> bool {
    let Ok(rel) = path.strip_prefix(&root.dir) else { return false };
    let rel = rel.as_os_str().as_encoded_bytes();
    if rel.is_empty() {
        return false;
    }
    if let Some(files) = &root.files {
        return files.iter().any(|name| rel.starts_with(name));
    }
    // a directory above it may be left out as a whole
    let parents = rel.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| &rel[..at]);
    if parents.into_iter().any(|dir| root.filter.decide(dir, true) == Verdict::Skip) {
        return false;
    }
    let stored =
        |rel: &[u8]| matches!(root.filter.decide(rel, false), Verdict::Include | Verdict::Sqlite);
    let log = rel.strip_suffix(b"-wal").or_else(|| rel.strip_suffix(b"-journal"));
    stored(rel)
        || log.is_some_and(|database| root.filter.decide(database, false) == Verdict::Sqlite)
}

/// Waits for a change, then for quiet, then says so; over and over.
fn wait_for_quiet(quiet: Duration, heard: &Receiver<()>, events: &Sender<Event>) {
    while heard.recv().is_ok() {
        let first = Instant::now();
        while first.elapsed() < quiet * NOISE_TIMES_MAX {
            match heard.recv_timeout(quiet) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        if events.send(Event::Changed).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;

    struct Rules;

    impl crate::scan::Filter for Rules {
        fn decide(&self, rel: &[u8], is_dir: bool) -> Verdict {
            match rel {
                b"cache" => Verdict::Skip,
                b"state.db" => Verdict::Sqlite,
                _ if is_dir => Verdict::Walk,
                _ if rel.ends_with(b".jsonl") => Verdict::Include,
                _ => Verdict::Skip,
            }
        }
        fn max_file_size(&self) -> Option<u64> {
            None
        }
    }

    fn root(dir: &Path) -> ScanRoot {
        ScanRoot { label: "a".into(), dir: dir.to_owned(), files: None, filter: Arc::new(Rules) }
    }

    fn changed(events: &Receiver<Event>, within: Duration) -> bool {
        matches!(events.recv_timeout(within), Ok(Event::Changed))
    }

    #[test]
    fn what_is_left_out_is_no_change_and_the_log_of_a_database_is() {
        let root = root(Path::new("/home/me/.agent"));
        let is = |path: &str| is_wanted(Path::new(path), &root);
        assert!(is("/home/me/.agent/a/b.jsonl") && is("/home/me/.agent/state.db"));
        assert!(is("/home/me/.agent/state.db-wal") && is("/home/me/.agent/state.db-journal"));
        for other in ["state.db-shm", "x.log", "cache/a.jsonl", "other.db-wal", ""] {
            assert!(!is(&format!("/home/me/.agent/{other}")), "{other}");
        }
        assert!(!is("/home/me/.agent2/b.jsonl"));
    }

    #[test]
    fn many_changes_are_one_push_after_quiet_also_in_a_directory_that_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let (send, events) = unbounded();
        let mut watch = Watch::start(Duration::from_millis(300), send);
        assert_eq!(watch.look_at(vec![root(dir.path())]), None);
        std::fs::create_dir(dir.path().join("new")).unwrap();
        for n in 0..20 {
            std::thread::sleep(Duration::from_millis(30));
            std::fs::write(dir.path().join("new/a.jsonl"), format!("{n}")).unwrap();
        }
        assert!(changed(&events, Duration::from_secs(10)), "nothing was noticed");
        assert!(!changed(&events, Duration::from_millis(900)), "one, not several");
        std::fs::write(dir.path().join("x.log"), "noise").unwrap();
        assert!(!changed(&events, Duration::from_millis(900)), "a file that is left out");
        std::fs::read(dir.path().join("new/a.jsonl")).unwrap();
        assert!(!changed(&events, Duration::from_millis(900)), "reading is no change");
    }

    #[test]
    fn a_root_that_vanishes_and_comes_back_is_watched_again() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        std::fs::create_dir(&home).unwrap();
        let (send, events) = unbounded();
        let mut watch = Watch::start(Duration::from_millis(100), send);
        watch.look_at(vec![root(&home)]);
        std::fs::remove_dir_all(&home).unwrap();
        watch.look_at(vec![root(&home)]);
        std::fs::create_dir(&home).unwrap();
        watch.look_at(vec![root(&home)]);
        while changed(&events, Duration::from_millis(500)) {}
        std::fs::write(home.join("a.jsonl"), "1").unwrap();
        assert!(changed(&events, Duration::from_secs(10)));
    }

    #[test]
    fn a_root_that_is_never_quiet_is_pushed_all_the_same() {
        let (send, heard) = bounded(1);
        let (events, told) = unbounded();
        let thread =
            std::thread::spawn(move || wait_for_quiet(Duration::from_millis(60), &heard, &events));
        let end = Instant::now() + Duration::from_secs(20);
        let mut came = false;
        while !came && Instant::now() < end {
            let _ = send.try_send(());
            came = changed(&told, Duration::from_millis(10));
        }
        assert!(came);
        drop(send);
        thread.join().unwrap();
    }
}
