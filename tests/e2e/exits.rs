//! Every way to fail that a user can meet: the code, the words, what to do next, and that nothing
//! was lost or half-written. Full disks are in `rooms`.

use std::fs;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use testkit::server::Fault;
use testkit::tree::assert_equal;
use testkit::{Server, Tree};

use crate::desk::{Desk, Ran, end, recovery_code};
use crate::gate::{Gate, bucket, point_to, uploads_a_pack};
use crate::state::{Random, files_with};

/// A source of a few small files, backed up as `src` by [`push`].
struct Source {
    dir: PathBuf,
    trees: Vec<(String, Tree)>,
}

impl Source {
    fn at(desk: &Desk) -> Self {
        let dir = desk.beside("src");
        fs::create_dir_all(dir.join("empty")).unwrap();
        fs::write(dir.join("a"), "first").unwrap();
        fs::write(dir.join("b"), Random(3).transcript(30_000)).unwrap();
        Self { dir, trees: Vec::new() }
    }

    fn arg(&self) -> String {
        format!("src={}", self.dir.display())
    }

    /// Something that a push has to read and upload.
    fn change(&self) {
        let n = fs::read_dir(&self.dir).unwrap().count() as u64;
        fs::write(self.dir.join(format!("more-{n}")), Random(n).bytes(400_000)).unwrap();
    }

    /// A push that works; remembers what it saw.
    #[track_caller]
    fn push(&mut self, desk: &Desk) {
        let document = desk.json(&["push", "--path", &self.arg()]);
        assert_eq!(document["result"], "made", "{document}");
        let id = document["snapshot"]["id"].as_str().unwrap().to_owned();
        self.trees.push((id, Tree::read(&self.dir).unwrap()));
    }

    /// A run like this must fail like that.
    #[track_caller]
    fn push_fails(&self, desk: &Desk, code: i32, name: &str, words: &[&str]) {
        desk.fails(code, name, &["push", "--path", &self.arg()], words);
    }

    /// The next run works, and all snapshots, the new one too, restore to what they were; there
    /// are no others.
    #[track_caller]
    fn is_unharmed(&mut self, desk: &Desk) {
        self.change();
        self.push(desk);
        let known: Vec<&String> = self.trees.iter().map(|(id, _)| id).collect();
        assert_eq!(desk.snapshots().iter().collect::<Vec<_>>(), known);
        for (n, (id, tree)) in self.trees.iter().enumerate() {
            let to = desk.pull(id, &format!("check-{}-{n}", self.trees.len()));
            assert_equal(tree, &Tree::read(&to.join("src")).unwrap());
        }
        let left: Vec<_> = fs::read_dir(desk.tmp()).unwrap().collect();
        assert!(left.is_empty(), "left in TMPDIR: {left:?}");
    }
}

/// A repository in a directory with one snapshot.
fn local() -> (Desk, Source, PathBuf) {
    let mut desk = Desk::new();
    let repo = desk.beside("repo");
    desk.set("AGENT_BACKUP_REPO", repo.to_str().unwrap());
    recovery_code(&desk.ok(&["init", "--no-passphrase"]));
    let mut source = Source::at(&desk);
    source.push(&desk);
    (desk, source, repo)
}

/// A repository in a bucket with one snapshot.
fn remote() -> (Server, Desk, Source) {
    let (server, desk) = bucket();
    recovery_code(&desk.ok(&["init", "--no-passphrase"]));
    let mut source = Source::at(&desk);
    source.push(&desk);
    (server, desk, source)
}

fn only_file(dir: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[test]
fn nothing_to_back_up_says_where_it_looked() {
    let desk = Desk::new();
    let words = ["nothing to back up", "~/.claude", "--path"];
    desk.fails(1, "failed", &["push"], &words);
    assert!(!desk.embedded().exists(), "a repository for nothing");
}

#[test]
fn wrong_usage_is_told_in_three_lines() {
    let desk = Desk::new();
    desk.fails(2, "usage", &["push", "--no-such-flag"], &["--no-such-flag"]);
    desk.fails(2, "usage", &["pull", "--delete"], &["--to"]);
    desk.fails(2, "usage", &["push", "no-such-agent"], &["no-such-agent", "claude-code"]);
    desk.fails(2, "usage", &["explode"], &["explode"]);
    assert_eq!(fs::read_dir(desk.home()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn a_mistyped_name_pattern_or_place_is_told_as_one_and_not_as_nothing_found() {
    let (desk, source, _) = local();
    let words = ["no agent is called 'claud'"];
    for args in [
        &["grep", "--agent", "claud", "first"][..],
        &["sessions", "--agent", "claud"],
        &["snapshots", "--agent", "claud"],
        &["forget", "--agent", "claud", "--keep-last", "1"],
        &["pull", "--agent", "claud", "--to", "back"],
        &["push", "claud"],
    ] {
        desk.fails(2, "usage", args, &words);
    }
    // one that is known, and of which nothing is here
    assert!(desk.ok(&["snapshots", "--agent", "claude-code"]).err.contains("no snapshots"));
    desk.fails(2, "usage", &["grep", "(first"], &["the pattern: unclosed group"]);
    desk.fails(2, "usage", &["find", "[a"], &["the pattern: ", "unclosed"]);
    let below_a_file = source.dir.join("a/back");
    let below_a_file = below_a_file.to_str().unwrap();
    let words = [below_a_file, "Not a directory"];
    desk.fails(18, "local-disk", &["pull", "--to", below_a_file], &words);
}

#[test]
fn items_that_cannot_be_saved_are_named_and_the_rest_is() {
    let (desk, mut source, _) = local();
    let deep = source.dir.join("n/".repeat(1_030));
    fs::create_dir_all(&deep).unwrap();
    let ran = desk.ends(3, &["push", "--path", &source.arg()]);
    assert!(ran.err.contains("nested too deeply") && ran.err.contains("(code 3)"), "{}", ran.err);
    let document = desk.json_ends(3, &["push", "--path", &source.arg()]);
    let problem = document["problems"][0]["what"].as_str().unwrap();
    assert!(problem.contains("nested too deeply"), "{document}");
    let status = desk.json_ends(3, &["status"]);
    assert_eq!(status["troubles"][0]["what"], "incomplete", "{status}");
    let to = desk.pull("latest", "out");
    assert_eq!(fs::read(to.join("src/a")).unwrap(), b"first");

    fs::remove_dir_all(source.dir.join("n")).unwrap();
    source.trees.extend(desk.snapshots().pop().map(|id| {
        // the snapshot of the deep tree stays; what it holds is looked at above
        (id, Tree::read(&to.join("src")).unwrap())
    }));
    source.is_unharmed(&desk);
    desk.ok(&["status"]);
}

#[test]
fn damage_is_found_and_named_and_other_snapshots_are_whole() {
    let (desk, mut source, repo) = local();
    let first = only_file(&repo.join("packs"));
    source.change();
    source.push(&desk);
    let packs: Vec<PathBuf> =
        fs::read_dir(repo.join("packs")).unwrap().map(|e| e.unwrap().path()).collect();
    let second = packs.iter().find(|path| **path != first).unwrap();
    let whole = fs::read(second).unwrap();
    let mut damaged = whole.clone();
    for byte in damaged.iter_mut().skip(100).step_by(997) {
        *byte ^= 1;
    }
    fs::write(second, damaged).unwrap();

    let args = ["cat", "latest:src/more-3"];
    desk.fails(4, "damage-found", &args, &["block ", "damaged", repo.to_str().unwrap()]);
    let to = desk.pull(&source.trees[0].0, "old");
    assert_equal(&source.trees[0].1, &Tree::read(&to.join("src")).unwrap());
    let torn = desk.beside("torn");
    let ran = desk.run(&["pull", "--to", torn.to_str().unwrap()]);
    assert!(matches!(ran.code, 4 | 5), "{}: {}", ran.code, ran.err);
    assert!(!torn.join("src/more-3").exists(), "wrong bytes were written");

    fs::write(second, whole).unwrap();
    source.is_unharmed(&desk);
}

#[test]
fn what_cannot_be_restored_is_named_and_the_rest_is() {
    let (desk, mut source, _) = local();
    let (to, outside) = (desk.beside("to"), desk.beside("outside"));
    fs::create_dir_all(to.join("src/a/not empty")).unwrap();
    fs::create_dir(&outside).unwrap();
    let args = ["pull", "--to", to.to_str().unwrap()];
    let ran = desk.ends(5, &args);
    assert!(ran.err.contains("src/a") && ran.err.contains("(code 5)"), "{}", ran.err);
    let document = desk.json_ends(5, &args);
    assert_eq!(document["problems"][0]["path"], "src/a", "{document}");
    assert!(to.join("src/a/not empty").is_dir(), "what was there is gone");
    assert!(to.join("src/b").is_file(), "the rest was not restored");

    // a link that leads out of the target is not followed
    fs::remove_dir_all(to.join("src")).unwrap();
    std::os::unix::fs::symlink(&outside, to.join("src")).unwrap();
    let ran = desk.run(&args);
    assert!(matches!(ran.code, 0 | 5), "{}: {}", ran.code, ran.err);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "written outside of the target");
    source.is_unharmed(&desk);
}

#[test]
fn a_repository_that_is_not_there_is_not_made_by_accident() {
    let desk = Desk::new();
    let source = Source::at(&desk);
    let missing = desk.beside("no/such");
    let path = missing.to_str().unwrap();
    let args = ["push", "-r", path, "--path", &source.arg()];
    desk.fails(10, "no-repository", &args, &[path, "agent-backup init"]);
    assert!(!desk.beside("no").exists());
    let empty = desk.beside("empty");
    fs::create_dir(&empty).unwrap();
    let args = ["push", "-r", empty.to_str().unwrap(), "--path", &source.arg()];
    desk.fails(10, "no-repository", &args, &["agent-backup init"]);
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
    // none was named and none was made yet
    desk.fails(10, "no-repository", &["snapshots"], &["agent-backup push", "AGENT_BACKUP_REPO"]);

    let (_server, desk) = bucket();
    let args = ["push", "--path", &source.arg()];
    desk.fails(10, "no-repository", &args, &["agents", "agent-backup init"]);
}

#[test]
fn a_recovery_code_that_nobody_can_see_makes_no_repository() {
    let desk = Desk::new();
    let source = Source::at(&desk);
    let mut child = desk.start(&["push", "--path", &source.arg()]);
    drop(child.stdout.take());
    let ran = end(child);
    ran.ended(1);
    ran.is_an_error(1, "failed", &["recovery code", "where you can see it"]);
    assert!(!desk.embedded().join("config").exists(), "a repository that only this machine opens");
    recovery_code(&desk.ok(&["push", "--path", &source.arg()]));
}

#[test]
fn another_run_on_the_same_repository_is_waited_for() {
    let (desk, mut source, _) = local();
    let lock = desk.repo_state().join("lock");
    fs::write(&lock, "4242").unwrap();
    let held = File::options().write(true).open(&lock).unwrap();
    held.lock().unwrap();
    source.change();
    source.push_fails(&desk, 11, "busy", &["another agent-backup", "process 4242"]);
    // readers do not care
    assert_eq!(desk.snapshots().len(), 1);
    desk.pull("latest", "meanwhile");
    drop(held);
    source.is_unharmed(&desk);
}

#[test]
fn a_wrong_passphrase_opens_nothing() {
    let (mut desk, mut source, repo) = local();
    desk.set("AGENT_BACKUP_PASSWORD", "not the passphrase");
    let words = ["wrong passphrase", repo.to_str().unwrap(), "recovery code"];
    source.change();
    source.push_fails(&desk, 12, "wrong-key", &words);
    let to = desk.beside("to");
    desk.fails(12, "wrong-key", &["pull", "--to", to.to_str().unwrap()], &words);
    assert!(!to.exists(), "a target for nothing");
    desk.unset("AGENT_BACKUP_PASSWORD");
    source.is_unharmed(&desk);
}

#[test]
fn a_storage_that_refuses_its_key_is_told_from_a_wrong_passphrase() {
    let (server, mut desk, mut source) = remote();
    source.change();
    for (fault, word) in [(Fault::BadKey, "not valid"), (Fault::NoCapability, "not entitled")] {
        server.on(move |request| uploads_a_pack(request).then(|| fault.clone()));
        source.push_fails(&desk, 13, "storage-denied", &[word, "key id", "agents"]);
    }
    server.heal();
    desk.set("AGENT_BACKUP_SECRET_KEY", "K004wrong");
    source.push_fails(&desk, 13, "storage-denied", &["key id"]);
    point_to(&mut desk, &server);
    source.is_unharmed(&desk);
}

#[test]
fn a_cap_of_the_account_is_told_as_a_cap() {
    let (server, desk, mut source) = remote();
    source.change();
    server.on(|request| uploads_a_pack(request).then_some(Fault::CapExceeded));
    source.push_fails(&desk, 14, "storage-cap", &["cap", "raise the cap"]);
    server.heal();
    source.is_unharmed(&desk);
}

#[test]
fn a_storage_out_of_reach_is_given_up_in_the_end() {
    let (server, mut desk, mut source) = remote();
    desk.set("AGENT_BACKUP_RETRY", "0");
    // nobody listens
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    desk.set("AGENT_BACKUP_REPO", &format!("s3:http://127.0.0.1:{port}/test-bucket/agents"));
    let words = ["127.0.0.1", "check the network", "nothing is lost"];
    source.push_fails(&desk, 15, "storage-unreachable", &words);
    let to = desk.beside("to");
    desk.fails(15, "storage-unreachable", &["pull", "--to", to.to_str().unwrap()], &words);

    // it goes away in the middle
    point_to(&mut desk, &server);
    source.change();
    server.on(|request| uploads_a_pack(request).then_some(Fault::Close));
    source.push_fails(&desk, 15, "storage-unreachable", &words);
    server.on(|_| Some(Fault::SlowDown(Some(1))));
    source.push_fails(&desk, 15, "storage-unreachable", &words);
    server.heal();
    desk.unset("AGENT_BACKUP_RETRY");
    source.is_unharmed(&desk);
}

#[test]
fn a_repository_of_a_newer_version_is_left_alone() {
    let (desk, mut source, repo) = local();
    let path = repo.join("config");
    let config = fs::read(&path).unwrap();
    // a record is a CBOR map whose key 0 is the version; then a checksum, then a keyed one
    let (record, sums) = (12, 16 + 32);
    let mut newer = config.clone();
    assert_eq!(newer[record + 1..record + 3], [0, 1], "version 1 is where FORMAT.md says");
    newer[record + 2] = 2;
    let body = newer.len() - sums;
    let checksum = blake3::hash(&newer[..body]);
    newer[body..body + 16].copy_from_slice(&checksum.as_bytes()[..16]);
    fs::write(&path, &newer).unwrap();

    let before = Tree::read(&repo).unwrap();
    source.change();
    let words = ["version 2", "newest agent-backup"];
    source.push_fails(&desk, 16, "format-too-new", &words);
    desk.fails(16, "format-too-new", &["snapshots"], &words);
    assert_equal(&before, &Tree::read(&repo).unwrap());
    fs::write(&path, config).unwrap();
    source.is_unharmed(&desk);
}

#[test]
fn a_storage_that_went_back_in_time_is_not_written_to() {
    let (desk, mut source, repo) = local();
    let snapshot = only_file(&repo.join("snap"));
    let bytes = fs::read(&snapshot).unwrap();
    fs::remove_file(&snapshot).unwrap();
    let before = Tree::read(&repo).unwrap();
    source.change();
    let words =
        ["rolled back", "--accept-rollback", snapshot.file_name().unwrap().to_str().unwrap()];
    source.push_fails(&desk, 17, "stopped-for-safety", &words);
    assert_equal(&before, &Tree::read(&repo).unwrap());
    fs::write(&snapshot, bytes).unwrap();
    source.is_unharmed(&desk);

    // whoever knows what happened goes on
    fs::remove_file(&snapshot).unwrap();
    let last = repo.join("snap").join(&source.trees.last().unwrap().0);
    fs::remove_file(last).unwrap();
    source.change();
    source.push_fails(&desk, 17, "stopped-for-safety", &["--accept-rollback"]);
    source.trees.clear();
    desk.ok(&["push", "--path", &source.arg(), "--accept-rollback"]);
    source.trees.push((desk.snapshots().remove(0), Tree::read(&source.dir).unwrap()));
    source.is_unharmed(&desk);
}

#[test]
fn wrong_settings_are_named_with_their_line() {
    let (mut desk, mut source, _) = local();
    let config = desk.home().join(".config/agent-backup/config.toml");
    let good = fs::read_to_string(&config).unwrap();
    for (text, words) in [
        ("# mine\n\nrepository = '/srv'\n", ["config.toml:3:", "repository"]),
        ("[push]\nlimit_upload = 'fast'\n", ["config.toml:2:", "limit_upload"]),
        ("repo = '/srv'\nrepo = \n", ["config.toml:2:", "repo"]),
    ] {
        fs::write(&config, text).unwrap();
        source.push_fails(&desk, 19, "configuration", &words);
    }
    fs::write(&config, good).unwrap();
    desk.set("AGENT_BACKUP_CONFIG", "/no/such/file");
    source.push_fails(&desk, 19, "configuration", &["/no/such/file"]);
    desk.unset("AGENT_BACKUP_CONFIG");
    source.is_unharmed(&desk);
}

/// Starts a run, waits until it is at the gate, signals it; the gate opens after its end.
fn signalled(desk: &Desk, args: &[&str], signal: Signal, gate: Gate) -> Ran {
    let child = desk.start(args);
    gate.wait();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
    let ran = end(child);
    drop(gate);
    ran
}

#[test]
fn a_signal_ends_a_push_cleanly_even_while_the_storage_is_silent() {
    for (signal, code, name, json) in
        [(Signal::INT, 130, "interrupted", false), (Signal::TERM, 143, "terminated", true)]
    {
        let (server, desk, mut source) = remote();
        source.change();
        let gate = Gate::at(&server, uploads_a_pack);
        let arg = source.arg();
        let mut args = vec!["push", "--path", &arg];
        args.extend(json.then_some("--json"));
        let ran = signalled(&desk, &args, signal, gate);
        ran.ended(code);
        if json {
            assert_eq!(ran.document()["error"]["code"], code);
        } else {
            ran.is_an_error(code, name, &["interrupted", "agents"]);
        }
        server.heal();
        source.is_unharmed(&desk);
    }
}

#[test]
fn a_signal_ends_a_pull_and_leaves_no_half_of_a_file() {
    let (server, desk, mut source) = remote();
    source.change();
    source.push(&desk);
    // what a pull reads last: content, after index and tree
    let gets = Arc::new(AtomicUsize::new(0));
    let to = desk.beside("to");
    let args = ["pull", "--to", to.to_str().unwrap()];
    let gate = {
        let gets = Arc::clone(&gets);
        Gate::at(&server, move |request| {
            let fits = request.method == "GET" && request.key.contains("packs/");
            fits && gets.fetch_add(1, Ordering::SeqCst) == 1
        })
    };
    let ran = signalled(&desk, &args, Signal::INT, gate);
    ran.ended(130);
    ran.is_an_error(130, "interrupted", &["agents"]);
    let files: Vec<PathBuf> = files_with(&to, b"");
    let whole = Tree::read(&source.dir).unwrap();
    for file in files {
        let name = file.strip_prefix(to.join("src")).unwrap();
        assert!(whole.entries.contains_key(name), "left behind: {}", file.display());
        assert_eq!(fs::read(&file).unwrap(), fs::read(source.dir.join(name)).unwrap());
    }
    server.heal();
    desk.ok(&args);
    assert_equal(&whole, &Tree::read(&to.join("src")).unwrap());
    source.is_unharmed(&desk);
}
