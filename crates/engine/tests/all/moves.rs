//! A move to another home: what five agents kept at `/Users/a` is restored to `/home/b` (`testdata/moves` says
//! which shape is known from where), and what goes wrong on the way.

mod again;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use adapters::{Adapter, Env, Os, Root, builtin};
use bytes::Bytes;
use engine::pull::moves::{MovedRoot, Moves, PathMap, Rewrite};
use engine::pull::{
    self, Action, Content, Location, Options, Placement, Plan, SnapshotContent, Visit,
};
use engine::push::{PushOptions, PushRoot, Pushed, push};
use engine::scan::{Filter, ScanRoot};
use repo::{BlockId, Entry, Extent, Kind};
use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

use crate::fixture;
use crate::support::{Bench, Ears, bench_in_memory};

fn sha256(text: &str) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(text.as_bytes()))
}

/// An agent's state at `/Users/a`, pushed, and an empty home that is to be `/home/b`.
struct Case {
    old: tempfile::TempDir,
    new: tempfile::TempDir,
    roots: Vec<Root>,
    bench: Bench,
    pushed: Pushed,
}

/// Counts what is read from the repository.
struct Counted<'c> {
    content: SnapshotContent<'c>,
    reads: AtomicUsize,
    /// As of what is gone: a directory that is still there is not.
    files_alone: bool,
}

impl Content for Counted<'_> {
    fn entries(&self, visit: &mut Visit<'_>) -> repo::Result<()> {
        self.content.entries(&mut |path, entry| match entry.kind {
            Kind::Dir if self.files_alone => Ok(()),
            _ => visit(path, entry),
        })
    }

    fn extents(&self, entry: &Entry) -> repo::Result<Vec<Extent>> {
        self.content.extents(entry)
    }

    fn location(&self, block: &BlockId) -> Option<Location> {
        self.content.location(block)
    }

    fn read_run(&self, blocks: &[BlockId]) -> repo::Result<Vec<Bytes>> {
        self.reads.fetch_add(blocks.len(), Ordering::Relaxed);
        self.content.read_run(blocks)
    }

    fn matches(&self, block: &BlockId, plain: &[u8]) -> bool {
        self.content.matches(block, plain)
    }

    fn mark_key(&self) -> [u8; 32] {
        self.content.mark_key()
    }

    fn holds(&self, block: &BlockId, offset: u32, plain: &[u8]) -> bool {
        self.content.holds(block, offset, plain)
    }
}

impl Case {
    /// The state of `testdata/moves/<id>.txt`.
    fn of(id: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/moves");
        let mut list = fs::read_to_string(path.join(format!("{id}.txt"))).unwrap();
        while let Some((head, rest)) = list.split_once("@sha256(") {
            let (path, tail) = rest.split_once(")@").unwrap();
            list = format!("{head}{}{tail}", sha256(path));
        }
        let old = tempfile::tempdir().unwrap();
        let home = fixture::build(id, &list, old.path());
        let adapter = builtin().into_iter().find(|adapter| adapter.id() == id).unwrap();
        Self::new(&adapter, &home.env, old)
    }

    /// A directory `~/.quill` as `make` fills it, with binds.
    fn quill(binds: &str, make: impl FnOnce(&Path)) -> Self {
        let old = tempfile::tempdir().unwrap();
        let dir = old.path().join(".quill");
        fs::create_dir(&dir).unwrap();
        make(&dir);
        let text = format!(
            "version = 1\nid = \"quill\"\nname = \"Quill\"\n[[roots]]\nlabel = \"home\"\nall = \"~/.quill\"\n\
             sqlite = [\"*.db\"]\n{binds}"
        );
        let adapter = Adapter::parse(&text, "quill.toml").unwrap();
        let env = Env { home: old.path().into(), vars: BTreeMap::new(), os: Os::Linux };
        Self::new(&adapter, &env, old)
    }

    fn new(adapter: &Adapter, env: &Env, old: tempfile::TempDir) -> Self {
        let roots = adapter.survey(env).roots;
        let (bench, _) = bench_in_memory();
        let pushed = {
            let root = |root: &Root| PushRoot {
                scan: ScanRoot {
                    label: root.label.clone(),
                    dir: root.dir.clone(),
                    files: None,
                    filter: root.rules.clone(),
                },
                agent: Some(adapter.id().to_owned()),
            };
            let roots: Vec<PushRoot> = roots.iter().map(root).collect();
            let (ears, options) = (Ears::default(), PushOptions::default());
            let session = bench.open().unwrap();
            let pushed = push(&session, &roots, &options, &ears, &AtomicBool::new(false)).unwrap();
            let problems = ears.0.into_inner().unwrap();
            assert!(problems.iter().all(|problem| problem.notice), "{problems:?}");
            pushed
        };
        Self { old, new: tempfile::tempdir().unwrap(), roots, bench, pushed }
    }

    fn options(&self, maps: &[&str]) -> Options {
        let below = |root: &Root| root.dir.strip_prefix(self.old.path()).unwrap().to_owned();
        let each = self
            .roots
            .iter()
            .map(|root| (root.label.clone().into_bytes(), self.new.path().join(below(root))));
        let moved = |root: &Root| MovedRoot {
            label: root.label.clone().into_bytes(),
            dir: Path::new("/Users/a").join(below(root)).into_os_string().into_encoded_bytes(),
            rules: root.rules.clone(),
        };
        let moves = Moves {
            maps: maps.iter().map(|map| PathMap::parse(map).unwrap()).collect(),
            roots: self.roots.iter().map(moved).collect(),
            transcripts: false,
        };
        let labels = self.roots.iter().map(|root| root.label.clone().into_bytes()).collect();
        Options {
            labels,
            verify: true,
            moves: Some(moves),
            filters: self.filters(),
            ..Options::new(Placement::Each(each.collect()))
        }
    }

    /// The rules of the agents here: what they leave out stays in the live files.
    fn filters(&self) -> pull::Filters {
        let filter = |root: &Root| -> (Vec<u8>, Arc<dyn Filter>) {
            (root.label.clone().into_bytes(), root.rules.clone())
        };
        self.roots.iter().map(filter).collect()
    }

    fn home(&self) -> Options {
        self.options(&["/Users/a=/home/b"])
    }

    /// Plans and pulls; also how many blocks the plan read.
    fn pull(&self, options: &Options) -> (Plan, pull::Report, usize) {
        self.pull_of(options, false)
    }

    fn pull_of(&self, options: &Options, files_alone: bool) -> (Plan, pull::Report, usize) {
        let session = self.bench.open().unwrap();
        let content = SnapshotContent::open(&session, self.pushed.snapshot()).unwrap();
        let content = Counted { content, reads: AtomicUsize::new(0), files_alone };
        let cancel = AtomicBool::new(false);
        let plan = Plan::make(&content, options, &cancel).unwrap();
        let reads = content.reads.load(Ordering::Relaxed);
        let report = pull::apply(&content, &plan, options, &(), &cancel).unwrap();
        (plan, report, reads)
    }

    fn rehearse(&self, options: &Options) -> (Plan, Vec<Rewrite>) {
        let session = self.bench.open().unwrap();
        let content = SnapshotContent::open(&session, self.pushed.snapshot()).unwrap();
        let (cancel, scratch) = (AtomicBool::new(false), tempfile::tempdir().unwrap());
        let mut plan = Plan::make(&content, options, &cancel).unwrap();
        let told = plan.rehearse(&content, &options.filters, scratch.path(), &cancel).unwrap();
        assert_eq!(
            fs::read_dir(scratch.path()).unwrap().count(),
            0,
            "nothing stays in the scratch"
        );
        (plan, told)
    }

    fn read(&self, path: &str) -> String {
        let path = self.new.path().join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The file is there, byte by byte what it was at the old home.
    fn same(&self, old: &str, new: &str) {
        let (old, new) = (self.old.path().join(old), self.new.path().join(new));
        assert!(fs::read(&old).unwrap() == fs::read(&new).unwrap(), "{}", new.display());
    }

    fn rows(&self, path: &str, query: &str) -> Vec<String> {
        // a copy: SQLite would leave files beside it
        let copy = tempfile::NamedTempFile::new().unwrap();
        fs::copy(self.new.path().join(path), copy.path()).unwrap();
        let db = Connection::open(copy.path()).unwrap();
        let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok", "{path}");
        let mut statement = db.prepare(query).unwrap();
        let columns = statement.column_count();
        let row = |row: &rusqlite::Row<'_>| {
            let value = |at| row.get::<_, Option<String>>(at).map(Option::unwrap_or_default);
            Ok((0..columns).map(value).collect::<rusqlite::Result<Vec<_>>>()?.join(" | "))
        };
        statement.query_map([], row).unwrap().collect::<rusqlite::Result<_>>().unwrap()
    }

    /// A second pull finds all as it should be, changes not one byte or time, and says so before.
    fn nothing_changes_again(&self, options: &Options) {
        let before = tree(self.new.path());
        let (plan, told) = self.rehearse(options);
        let writes: Vec<String> = plan
            .items
            .iter()
            .filter(|item| !matches!(item.action, Action::Leave))
            .map(ToString::to_string)
            .collect();
        assert_eq!((writes, told), (Vec::new(), Vec::new()));
        let (_, report, _) = self.pull(options);
        assert_eq!(report.problems, []);
        assert_eq!((report.created, report.replaced, report.metadata), (0, 0, 0));
        assert!(report.verified > 0);
        let after = tree(self.new.path());
        assert!(before == after, "{:?}", before.keys().zip(after.keys()).find(|(a, b)| a != b));
    }
}

type Facts = (Option<Vec<u8>>, std::time::SystemTime, u64);

/// Content, time and inode of all below a directory.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Facts> {
    use std::os::unix::fs::MetadataExt as _;
    let (mut all, mut open) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let mut content = None;
        if meta.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            content = Some(fs::read(&path).unwrap());
        }
        all.insert(path, (content, meta.modified().unwrap(), meta.ino()));
    }
    all
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What was rewritten in the file whose path ends so: place, old and new.
fn changes<'r>(rewrites: &'r [Rewrite], end: &str) -> Vec<(&'r str, &'r str, &'r str, u64)> {
    let one = rewrites.iter().find(|one| one.path.ends_with(end.as_bytes()));
    let one = one.unwrap_or_else(|| panic!("nothing was rewritten in {end}"));
    let change = |c: &'r pull::moves::Change| (&*c.place, &*c.old, &*c.new, c.count);
    one.changes.iter().map(change).collect()
}

#[test]
fn claude_code_finds_its_projects_at_the_new_home() {
    let case = Case::of("claude-code");
    let (plan, report, _) = case.pull(&case.home());
    assert_eq!(report.problems, []);
    let projects = case.new.path().join(".claude/projects");
    assert_eq!(
        names(&projects),
        [
            "-Users-a-b-thing",
            "-Users-abc-other",
            "-home-b-code",
            "-home-b-forgotten",
            "-home-b-lab-x-y",
            "-home-b-my-project",
            "-opt-tool",
        ]
    );
    let guesses: Vec<&[u8]> =
        plan.renames().iter().filter(|r| r.guess).map(|r| &r.name[..]).collect();
    assert_eq!((plan.renames().len(), guesses), (4, vec![&b"-home-b-forgotten"[..]]));
    for (old, new) in [
        ("-Users-a-code/s1.jsonl", "-home-b-code/s1.jsonl"),
        ("-Users-a-code/memory/MEMORY.md", "-home-b-code/memory/MEMORY.md"),
        ("-Users-a-my-project/s2.jsonl", "-home-b-my-project/s2.jsonl"),
        ("-Users-a-lab-x-y/s3.jsonl", "-home-b-lab-x-y/s3.jsonl"),
        ("-Users-abc-other/s4.jsonl", "-Users-abc-other/s4.jsonl"),
        ("-Users-a-b-thing/s5.jsonl", "-Users-a-b-thing/s5.jsonl"),
    ] {
        case.same(&format!(".claude/projects/{old}"), &format!(".claude/projects/{new}"));
    }
    assert_eq!(
        case.read(".claude/history.jsonl"),
        r#"{"display":"look at /Users/a/code","pastedContents":{},"timestamp":1,"project":"/home/b/code"}
{"display":"hello","pastedContents":{},"timestamp":2,"project":"/Users/abc/other"}
not a line of JSON: /Users/a/code
{"display":"again","timestamp":3,"project":"/home/b/my-project"}
"#
    );
    let settings = case.read(".claude.json");
    for (text, there) in [
        (r#""/home/b/code": { "allowedTools": [], "lastSessionId": "1","#, true),
        (r#""/home/b/my-project": {"allowedTools": []}"#, true),
        (r#""/Users/abc/other": {"allowedTools": []}"#, true),
        (r#""/opt/tool": {}"#, true),
        ("/Users/a/", false),
    ] {
        assert_eq!(settings.contains(text), there, "{text} in\n{settings}");
    }
    // the path leads into a directory that has a new name
    let index = case.read(".claude/projects/-home-b-code/sessions-index.json");
    let wanted = r#"{"version":1,"originalPath":"/home/b/code","entries":[{"sessionId":"s1","fullPath":"/home/b/.claude/projects/-home-b-code/s1.jsonl","projectPath":"/home/b/code"}]}"#;
    assert_eq!(index.trim_end(), wanted);
    let plugins = case.read(".claude/plugins/installed_plugins.json");
    assert!(
        plugins.contains(r#""projectPath":"/home/b/code","installPath":"/home/b/.claude/plugins"#)
    );
    let history = report.rewrites.iter().find(|one| one.path.ends_with(b"history.jsonl")).unwrap();
    assert_eq!((history.count, history.left.len()), (2, 1));
    assert_eq!(report.blanks.len(), 1, "keys that never left the old machine are named");

    // somebody fills them in: they stay where the project is now
    let filled = settings.replace("[left out by agent-backup]", "NEW-TOKEN");
    fs::write(case.new.path().join(".claude.json"), &filled).unwrap();
    let (_, report, _) = case.pull(&case.home());
    assert_eq!((report.replaced, report.blanks.len()), (0, 0));
    assert_eq!(case.read(".claude.json"), filled);
    case.nothing_changes_again(&case.home());
}

#[test]
fn codex_lists_its_threads_at_the_new_home() {
    let case = Case::of("codex");
    let (_, told) = case.rehearse(&case.home());
    let (_, report, _) = case.pull(&case.home());
    assert_eq!(report.problems, []);
    assert_eq!(told, report.rewrites, "a dry run tells what is done");
    let rollout = "sessions/2026/10/31/rollout-2026-10-31T10-00-00-abc.jsonl";
    case.same(&format!(".codex/{rollout}"), &format!(".codex/{rollout}"));
    assert_eq!(
        case.rows(
            ".codex/state_5.sqlite",
            "SELECT rollout_path, cwd, title FROM threads ORDER BY id"
        ),
        [
            &format!("/home/b/.codex/{rollout} | /home/b/code | In /Users/a/code")[..],
            "/home/b/.codex/sessions/2026/10/30/rollout-2026-10-30T10-00-00-def.jsonl | /Users/abc/other | Other",
            "relative | /home/b | Home",
        ]
    );
    let config = case.read(".codex/config.toml");
    assert!(
        config.starts_with("model = \"gpt-5\" # keep me\n[projects.\"/home/b/code\"]\n"),
        "{config}"
    );
    assert!(config.contains("[projects.\"/Users/abc/other\"]\n"), "{config}");
    assert_eq!(
        changes(&told, "config.toml"),
        [("keys of projects", "/Users/a/code", "/home/b/code", 1)]
    );
    let threads = changes(&told, "state_5.sqlite");
    assert!(threads.contains(&("threads.cwd", "/Users/a", "/home/b", 1)), "{threads:?}");
    assert_eq!(threads.len(), 4);
    case.nothing_changes_again(&case.home());
}

#[test]
fn gemini_cli_finds_its_projects_by_their_names_and_by_their_hashes() {
    let case = Case::of("gemini-cli");
    let (plan, report, _) = case.pull(&case.home());
    assert_eq!(report.problems, []);
    assert_eq!(
        case.read(".gemini/projects.json"),
        "{\n  \"projects\": {\n    \"/home/b/code/shop\": \"shop\",\n    \"/Users/abc\": \"abc\"\n  }\n}\n"
    );
    assert_eq!(
        case.read(".gemini/trustedFolders.json"),
        "{\n  \"/home/b/code/shop\": \"TRUST_FOLDER\",\n  \"/Users/abc\": \"DO_NOT_TRUST\"\n}\n"
    );
    assert_eq!(case.read(".gemini/tmp/shop/.project_root"), "/home/b/code/shop\n");
    let (shop, lost) = (sha256("/home/b/code/shop"), sha256("/Users/a/code/lost"));
    let old = sha256("/home/b/code/old");
    let mut wanted = vec![shop.clone(), lost.clone(), old.clone(), "shop".to_owned()];
    wanted.sort();
    assert_eq!(names(&case.new.path().join(".gemini/tmp")), wanted);
    let tmp = |name: &str, file: &str| format!(".gemini/tmp/{name}/{file}");
    let of = |path: &str, file: &str| tmp(&sha256(path), file);
    case.same(
        &of("/Users/a/code/shop", "chats/session-2.json"),
        &tmp(&shop, "chats/session-2.json"),
    );
    case.same(&of("/Users/a/code/old", "chats/session-3.json"), &tmp(&old, "chats/session-3.json"));
    case.same(&tmp("shop", "chats/session-1.jsonl"), &tmp("shop", "chats/session-1.jsonl"));
    let [unclear] = plan.unmoved() else { panic!("{:?}", plan.unmoved()) };
    assert!(
        unclear.path.ends_with(lost.as_bytes()) && unclear.reason.contains("hash"),
        "{unclear:?}"
    );
    case.nothing_changes_again(&case.home());
}

#[test]
fn opencode_shows_its_sessions_in_the_new_directories() {
    let case = Case::of("opencode");
    let (_, report, _) = case.pull(&case.home());
    assert_eq!(report.problems, []);
    let db = ".local/share/opencode/opencode.db";
    assert_eq!(
        case.rows(db, "SELECT directory, title FROM session ORDER BY id"),
        ["/home/b/code | Fix /Users/a/code", "/home/b/code/sub | Sub", "/Users/abc/code | Other"]
    );
    assert_eq!(
        case.rows(db, "SELECT worktree, sandboxes FROM project ORDER BY id DESC"),
        [r#"/home/b/code | ["/home/b/trees/1","/Users/abc/2"]"#, "/ | []"]
    );
    let message = r#"{"path":{"cwd":"/Users/a/code","root":"/Users/a/code"}}"#;
    assert_eq!(case.rows(db, "SELECT data FROM message"), [message], "messages are transcripts");
    assert_eq!(
        case.read(".local/share/opencode/storage/session/p1/ses_0.json").trim_end(),
        r#"{"id": "ses_0", "directory": "/home/b/code", "title": "In /Users/a/code"}"#
    );
    let project = case.read(".local/share/opencode/storage/project/p1.json");
    assert_eq!(project.trim_end(), r#"{"id": "p1", "worktree": "/home/b/code"}"#);
    case.nothing_changes_again(&case.home());

    // somebody logs in there: that stays, and then it is as it should be
    let live = Connection::open(case.new.path().join(db)).unwrap();
    live.execute_batch(
        r#"UPDATE account SET access_token = 'NEW', refresh_token = 'NEW';
           INSERT INTO credential VALUES ('crd_1', '{"key":"NEW"}')"#,
    )
    .unwrap();
    drop(live);
    let (_, report, _) = case.pull(&case.home());
    assert_eq!((report.problems.len(), report.rows_kept), (0, 3), "{report:?}");
    assert_eq!(case.rows(db, "SELECT access_token FROM account"), ["NEW"]);
    case.nothing_changes_again(&case.home());
}

#[test]
fn cline_finds_the_messages_of_its_sessions() {
    let case = Case::of("cline");
    let (_, report, _) = case.pull(&case.home());
    assert_eq!(report.problems, []);
    let query = "SELECT cwd, workspace_root, transcript_path, messages_path, prompt FROM sessions ORDER BY cwd DESC";
    let here = "/home/b/.cline/data/sessions/abc";
    assert_eq!(
        case.rows(".cline/data/db/sessions.db", query),
        [
            format!(
                "/home/b/code | /home/b/code | {here}/transcript.jsonl | {here}/messages.json | see /Users/a/code"
            ),
            "/Users/abc | /Users/abc | /Users/abc/t.jsonl |  | ".to_owned(),
        ]
    );
    for file in ["messages.json", "transcript.jsonl"] {
        let path = format!(".cline/data/sessions/abc/{file}");
        case.same(&path, &path);
    }
    assert_eq!(
        case.read(".cline/data/tasks/taskHistory.json").trim_end(),
        r#"[{"id":"1","task":"in /Users/a/code","cwdOnTaskInitialization":"/home/b/code"},{"id":"2","shadowGitConfigWorkTree":"/Users/abc"}]"#
    );
    let editor =
        case.read(".config/Code/User/globalStorage/saoudrizwan.claude-dev/state/taskHistory.json");
    assert_eq!(editor.trim_end(), r#"[{"id":"1","cwdOnTaskInitialization":"/home/b/code"}]"#);
    case.nothing_changes_again(&case.home());
}

#[test]
fn transcripts_are_rewritten_for_one_who_asks_and_a_second_time_nothing_is_read_for_them() {
    let case = Case::of("claude-code");
    let mut options = case.home();
    if let Some(moves) = &mut options.moves {
        moves.transcripts = true;
    }
    let (_, report, first) = case.pull(&options);
    assert_eq!(report.problems, []);
    assert_eq!(
        case.read(".claude/projects/-home-b-code/s1.jsonl"),
        "{\"type\":\"user\",\"cwd\":\"/home/b/code\",\"message\":{\"role\":\"user\",\"content\":\"cd /Users/a/code\"}}\n\
         {\"type\":\"assistant\",\"cwd\":\"/home/b/code/src\",\"message\":{\"role\":\"assistant\",\"content\":\"ok\"}}\n"
    );
    case.same(
        ".claude/projects/-Users-a-b-thing/s5.jsonl",
        ".claude/projects/-Users-a-b-thing/s5.jsonl",
    );
    let s3 = case.read(".claude/projects/-home-b-lab-x-y/s3.jsonl");
    assert!(s3.ends_with("{\"type\":\"user\",\"cwd\":\"/home/b/lab/x.y/deep\"}\n"), "{s3}");
    case.nothing_changes_again(&options);
    // names are looked for as the first time; settings with fields, and the history with its odd
    // spelling of a path, are compared with what is stored: nothing more
    let (_, report, again) = case.pull(&options);
    assert_eq!((report.bytes_fetched, again), (0, first + 2));

    // and back to what they were
    let (_, report, _) = case.pull(&case.home());
    assert_eq!((report.problems.len(), report.created), (0, 0));
    assert_eq!(report.replaced, 3, "s1, s2 and s3");
    case.same(".claude/projects/-Users-a-code/s1.jsonl", ".claude/projects/-home-b-code/s1.jsonl");
}

#[test]
fn a_directory_of_which_only_files_are_stored_gets_its_new_name() {
    let case = Case::of("claude-code");
    let (plan, report, _) = case.pull_of(&case.home(), true);
    assert_eq!(report.problems, []);
    let whole = Case::of("claude-code");
    let (of_whole, ..) = whole.pull(&whole.home());
    assert_eq!(plan.renames(), of_whole.renames());
    let projects = |case: &Case| names(&case.new.path().join(".claude/projects"));
    assert_eq!(projects(&case), projects(&whole));
    case.same(".claude/projects/-Users-a-code/s1.jsonl", ".claude/projects/-home-b-code/s1.jsonl");
}

#[test]
fn all_of_it_goes_below_a_directory_too() {
    let case = Case::of("claude-code");
    let options = Options { to: Placement::Under(case.new.path().into()), ..case.home() };
    let (_, report, _) = case.pull(&options);
    assert_eq!(report.problems, []);
    case.same(
        ".claude/projects/-Users-a-code/s1.jsonl",
        "claude-code/home/projects/-home-b-code/s1.jsonl",
    );
    case.nothing_changes_again(&options);
    // what the snapshot does not have goes, and no directory with a new name
    let extra = case.new.path().join("claude-code/home/projects/-home-b-code/extra");
    let stray = case.new.path().join("claude-code/home/projects/-home-b-stray");
    fs::write(&extra, "x").unwrap();
    fs::create_dir(&stray).unwrap();
    let (_, report, _) = case.pull(&Options { delete: true, ..options.clone() });
    assert_eq!((report.deleted, report.problems.len()), (2, 0));
    assert!(!extra.exists() && !stray.exists());
    case.nothing_changes_again(&Options { delete: true, ..options });
}

#[test]
fn two_directories_that_become_one_lose_nothing() {
    let bind = "[[roots.binds]]\ndirectory = \"p/*\"\nencoding = \"dashes\"\n";
    let case = Case::quill(bind, |dir| {
        for (name, file) in
            [("-Users-a-x", "1"), ("-Users-a-x", "both"), ("-home-b-x", "both"), ("-home-b-x", "2")]
        {
            fs::create_dir_all(dir.join("p").join(name)).unwrap();
            fs::write(dir.join("p").join(name).join(file), format!("{name} {file}")).unwrap();
        }
    });
    let options =
        Options { to: Placement::Under(case.new.path().into()), delete: true, ..case.home() };
    for _ in 0..2 {
        let (_, report, _) = case.pull(&options);
        let [problem] = report.problems.as_slice() else { panic!("{:?}", report.problems) };
        assert!(problem.path.ends_with(b"/-home-b-x/both"), "{problem:?}");
        assert!(problem.reason.contains("the same place"), "{problem:?}");
        assert_eq!(names(&case.new.path().join("quill/home/p")), ["-home-b-x"]);
        assert_eq!(names(&case.new.path().join("quill/home/p/-home-b-x")), ["1", "2", "both"]);
        assert_eq!(case.read("quill/home/p/-home-b-x/both"), "-Users-a-x both");
    }
}

#[test]
fn a_database_that_does_not_take_its_new_paths_stays_as_it_was_stored() {
    let bind =
        "[[roots.binds]]\ndatabase = \"*.db\"\ntable = \"t\"\ncolumns = [\"p\", \"gone\", \"q\"]\n";
    let insert =
        "INSERT INTO t (k, p) VALUES ('1', '/Users/a/x'), ('2', '/home/b/x'), ('3', '/Users/a/y');";
    let all = [
        ("plain", "CREATE TABLE t (k, p TEXT, q);"),
        ("without", "CREATE TABLE t (k PRIMARY KEY, p TEXT) WITHOUT ROWID;"),
        ("nocase", "CREATE TABLE T (k, P TEXT COLLATE NOCASE);"),
        ("utf16", "PRAGMA encoding = 'UTF-16'; CREATE TABLE t (k, p TEXT);"),
        ("unique", "CREATE TABLE t (k, p TEXT UNIQUE);"),
        ("check", "CREATE TABLE t (k, p TEXT CHECK (p GLOB '/Users/*' OR k = '2'));"),
        ("index", "CREATE TABLE t (k, p TEXT); CREATE INDEX i ON t (upper(p));"),
        (
            "generated",
            "CREATE TABLE t (k, p TEXT AS ('/Users/a/' || k)); INSERT INTO t (k) VALUES ('1');",
        ),
        ("view", "CREATE TABLE u (k, p TEXT); CREATE VIEW t AS SELECT * FROM u;"),
    ];
    let case = Case::quill(bind, |dir| {
        for (name, sql) in all {
            let db = Connection::open(dir.join(format!("{name}.db"))).unwrap();
            let insert = match name {
                "view" => insert.replace("INTO t", "INTO u"),
                "generated" => String::new(),
                _ => insert.to_owned(),
            };
            db.execute_batch(&format!("{sql}{insert}")).unwrap();
        }
    });
    let (_, report, _) = case.pull(&case.home());
    let problems: Vec<String> =
        report.problems.iter().map(|one| String::from_utf8_lossy(&one.path).into_owned()).collect();
    assert_eq!(problems, ["quill/home/generated.db"], "{:?}", report.problems);
    assert!(report.problems[0].reason.contains("the paths in it are the old ones"));
    let paths = |name: &str| case.rows(&format!(".quill/{name}.db"), "SELECT p FROM t ORDER BY k");
    for name in ["plain", "without", "nocase", "utf16", "index"] {
        assert_eq!(paths(name), ["/home/b/x", "/home/b/x", "/home/b/y"], "{name}");
    }
    // another row has the value; the others of its table move
    assert_eq!(paths("unique"), ["/Users/a/x", "/home/b/x", "/home/b/y"]);
    for name in ["check", "view"] {
        assert_eq!(paths(name), ["/Users/a/x", "/home/b/x", "/Users/a/y"], "{name}");
    }
    for name in ["generated", "view", "check"] {
        case.same(&format!(".quill/{name}.db"), &format!(".quill/{name}.db"));
    }
    let left: Vec<_> = report.rewrites.iter().filter(|one| !one.left.is_empty()).collect();
    assert_eq!(left.len(), 2, "unique and check: {left:?}");
    assert!(left.iter().all(|one| one.left[0].contains("rows stay")), "{left:?}");
}

#[test]
fn a_catalogue_that_cannot_be_read_is_restored_as_it_is_and_named() {
    let bind = "[[roots.binds]]\nfile = \"*.json\"\npaths = [\"cwd\"]\n";
    let case = Case::quill(bind, |dir| {
        fs::write(dir.join("cut.json"), "{\"cwd\": \"/Users/a").unwrap();
        fs::write(dir.join("whole.json"), "{\"cwd\": \"/Users/a\"}").unwrap();
        std::os::unix::fs::symlink("whole.json", dir.join("link.json")).unwrap();
        fs::hard_link(dir.join("whole.json"), dir.join("z.json")).unwrap();
    });
    let (_, report, _) = case.pull(&case.home());
    let [problem] = report.problems.as_slice() else { panic!("{:?}", report.problems) };
    assert_eq!(problem.path, b"quill/home/cut.json");
    assert!(problem.reason.contains("does not parse as JSON"), "{problem:?}");
    case.same(".quill/cut.json", ".quill/cut.json");
    for name in ["whole.json", "link.json", "z.json"] {
        assert_eq!(case.read(&format!(".quill/{name}")), "{\"cwd\": \"/home/b\"}");
    }
    let before = tree(case.new.path());
    let (plan, report, _) = case.pull(&case.home());
    assert_eq!(plan.totals.replace + plan.totals.patch + plan.totals.create, 0);
    assert_eq!((report.problems.len(), before == tree(case.new.path())), (0, true));
}
