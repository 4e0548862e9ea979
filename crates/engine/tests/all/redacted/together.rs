//! Redaction together with what else keeps things at home or changes them on the way: rules for fields
//! and rows, a move, deletions, safety snapshots, repairs.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use adapters::{Adapter, Rules};
use engine::pull::moves::{MovedRoot, Moves, PathMap};
use engine::pull::safety::{LiveRoot, save};
use engine::pull::{self, Action, Overwrite, Placement, Plan, Report, SnapshotContent};
use engine::push::Pushed;
use engine::repair::{self, Sources};
use engine::verify::{self, Level};
use rusqlite::Connection;
use store::Store as _;

use super::{Case, Ears, has, line, token};
use crate::support::text::Dice;

const QUILL: &str = r#"
    version = 1
    id = "quill"
    name = "Quill"
    [[roots]]
    label = "home"
    all = "~/.quill"
    sqlite = ["*.db"]
    [[roots.fields]]
    file = "settings.json"
    format = "json"
    redact = ["login.token", "servers.*.key"]
    [[roots.fields]]
    file = "config.toml"
    format = "toml"
    redact = ["login.token"]
    [[roots.fields]]
    file = [".env", "further/.env"]
    format = "env"
    redact = ["TOKEN"]
    [[roots.rows]]
    database = "state.db"
    table = "account"
    delete = true
    [[roots.rows]]
    database = "state.db"
    table = "login"
    redact = ["token"]
    [[roots.binds]]
    directory = "projects/*"
    encoding = "dashes"
    [[roots.binds]]
    file = "projects/*/*.jsonl"
    paths = ["cwd"]
    transcript = true
    [[roots.binds]]
    file = "settings.json"
    paths = ["cwd"]
    [[roots.binds]]
    file = "list.json"
    paths = ["*.cwd"]
    [[roots.binds]]
    database = "state.db"
    table = "session"
    columns = ["cwd"]
"#;

/// What the rules of Quill name is there.
const SCHEMA: &str = "
    CREATE TABLE account(id INTEGER PRIMARY KEY, token TEXT);
    CREATE TABLE login(id TEXT PRIMARY KEY, token TEXT, note TEXT);
    CREATE TABLE session(id TEXT PRIMARY KEY, cwd TEXT, said TEXT);";

/// A home of Quill, with redaction on.
fn quill() -> Case {
    let adapter = Adapter::parse(QUILL, "quill.toml").unwrap();
    let rules: Arc<Rules> = adapter.rules("quill/home").unwrap();
    Case { rules: Some(rules), ..Case::new() }
}

/// Secrets that are made one after the other, and looked for afterwards.
struct Canaries(Dice, Vec<String>);

impl Canaries {
    fn new(seed: u64) -> Self {
        Self(Dice::new(seed), Vec::new())
    }

    fn new_one(&mut self) -> String {
        let secret = token(&mut self.0);
        self.1.push(secret.clone());
        secret
    }

    /// None of them, and no half of one, is in any block.
    fn are_nowhere(&self, case: &Case) {
        let everything = case.everything();
        for secret in &self.1 {
            for part in [&secret[..22], &secret[22..]] {
                assert!(!everything.iter().any(|block| has(block, part)), "{part} of {secret}");
            }
        }
    }
}

fn state(path: &Path, sql: &str) -> Connection {
    let db = Connection::open(path).unwrap();
    db.execute_batch(sql).unwrap();
    db
}

fn texts(path: &Path, sql: &str) -> Vec<String> {
    let db = Connection::open(path).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let mut statement = db.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

/// Saves what is there, then restores, as the command line does.
fn pull_safely(case: &Case, pushed: &Pushed, options: &pull::Options) -> Report {
    let session = case.bench.open().unwrap();
    let content = SnapshotContent::open(&session, pushed.snapshot()).unwrap();
    let cancel = AtomicBool::new(false);
    let mut plan = Plan::make(&content, options, &cancel).unwrap();
    let root = LiveRoot {
        label: "files".into(),
        agent: Some("quill".into()),
        dir: case.bench.source(),
        rules: case.rules.clone().unwrap_or_else(|| Arc::new(Rules::everything())),
        whole: true,
    };
    let (overwrite, ears) = (options.overwrite, Ears::default());
    save(&session, &mut plan, &[root], overwrite, &case.options, &ears, &cancel).unwrap();
    pull::apply(&content, &plan, options, &(), &cancel).unwrap()
}

/// A configuration of each format with a value that a rule names, which is a secret, and with a secret that no
/// rule names; a database with both too.
#[test]
fn a_file_has_values_of_its_rules_and_other_secrets_and_all_of_them_are_back() {
    let (case, mut canaries) = (quill(), Canaries::new(21));
    let mut new = || canaries.new_one();
    let (one, key) = (new(), new());
    let json = format!(
        "{{\n  // mine\n  \"login\": {{\"token\": \"{one}\", \"n\": 1}},\n  \"servers\": {{\"a\": {{\"key\": \"{key}\", \
         \"args\": \"--with {}\"}}}},\n  \"note\": \"{}\", \"same\": \"{one}\"\n}}\n",
        new(),
        new()
    );
    case.write("settings.json", &json);
    let toml = format!("# {}\n[login]\ntoken = \"{}\"\nother = '{}'\n", new(), new(), new());
    case.write("config.toml", &toml);
    case.write(".env", format!("TOKEN={}\nOTHER={}\n", new(), new()));
    let db = state(&case.path("state.db"), SCHEMA);
    db.execute("INSERT INTO account(token) VALUES(?1)", [new()]).unwrap();
    db.execute("INSERT INTO login VALUES('a', ?1, ?2)", [new(), format!("n {}", new())]).unwrap();
    db.execute("INSERT INTO session VALUES('s', '/x', ?1)", [format!("use {}", new())]).unwrap();
    drop(db);
    let all = "SELECT id || token FROM account UNION ALL SELECT id || token || note FROM login \
               UNION ALL SELECT id || cwd || said FROM session";
    let rows = texts(&case.path("state.db"), all);

    let pushed = case.push();
    canaries.are_nowhere(&case);
    let stored = String::from_utf8(case.stored(&pushed, "settings.json").unwrap()).unwrap();
    assert_eq!(stored.matches("[left out by agent-backup]").count(), 2, "{stored}");
    assert_eq!(stored.matches("[REDACTED:github-pat:").count(), 3, "{stored}");
    for name in ["settings.json", "config.toml", ".env"] {
        let entry = case.entry(&pushed, name).unwrap();
        assert!(entry.redacted.is_some() && entry.marks.is_some(), "{name}: {entry:?}");
    }
    let names = ["settings.json", "config.toml", ".env"];
    let before = names.map(|name| (name, case.read(name)));
    // nothing changed, so nothing is done
    let plan = case.plan(&pushed, &case.over());
    let quiet = |item: &pull::Item| matches!(item.action, Action::Leave | Action::Metadata);
    assert!(plan.items.iter().filter(|i| !i.path.ends_with(b".db")).all(quiet), "{:?}", plan.items);

    for round in 0..2 {
        if round == 0 {
            case.write("settings.json", json.replace("\"n\": 1", "\"n\": 2"));
            case.write("config.toml", format!("{toml}more = 1\n"));
            let env = String::from_utf8(case.read(".env")).unwrap();
            case.write(".env", format!("{env}MORE=1\n"));
            state(&case.path("state.db"), "UPDATE session SET cwd = '/y'");
        }
        let report = pull_safely(&case, &pushed, &case.over());
        assert_eq!((&report.problems[..], &report.blanks[..]), (&[][..], &[][..]));
        for (name, bytes) in &before {
            assert!(case.read(name) == *bytes, "{name}");
        }
        assert_eq!(texts(&case.path("state.db"), all), rows);
        assert_eq!(report.replaced, if round == 0 { 4 } else { 0 }, "{report:?}");
    }
    canaries.are_nowhere(&case);

    // into an empty place: both kinds are named
    let target = tempfile::tempdir().unwrap();
    let report = case.pull(&pushed, &case.options_to(Placement::Under(target.path().into())));
    let blank = report.blanks.iter().find(|blank| blank.path.ends_with(b".json")).unwrap();
    let mut fields = blank.fields.clone();
    fields.sort();
    assert_eq!(fields, ["3 secrets (github-pat)", "login.token", "servers.a.key"]);
}

/// A file that is too long to be parsed is not sent whole: it is named, with what to do.
#[test]
fn a_file_that_is_too_long_for_its_rules_is_left_out_and_one_is_told_what_to_do() {
    let case = quill();
    case.write("a.md", "one");
    case.write("settings.json", "{}");
    let long = fs::File::options().write(true).open(case.path("settings.json")).unwrap();
    long.set_len((256 << 20) + 1).unwrap();
    let told = case.push_with(&case.options);
    let [problem] = told.problems.as_slice() else { panic!("{:?}", told.problems) };
    assert!(problem.path == b"files/settings.json" && !problem.notice, "{problem:?}");
    for words in ["268435457 bytes", "at most 268435456", "make it smaller", "adapter of your own"]
    {
        assert!(problem.what.contains(words), "{words}: {problem:?}");
    }
    assert_eq!(case.stored(&told.pushed, "settings.json"), None);
    // short, but of very many values
    let servers: Vec<String> = (0..=250_000).map(|n| format!("\"{n}\":{{\"key\":1}}")).collect();
    case.write("settings.json", format!("{{\"servers\":{{{}}}}}", servers.join(",")));
    let told = case.push_with(&case.options);
    let [problem] = told.problems.as_slice() else { panic!("{:?}", told.problems) };
    assert!(problem.what.contains("250000 values to leave out; make it smaller"), "{problem:?}");
    long.set_len(0).unwrap();
    case.write("settings.json", "{}");
    let pushed = case.push();
    assert_eq!(case.stored(&pushed, "settings.json").unwrap(), b"{}");
}

/// What the rules bring back is no reason to hold a restore up, but a secret that nothing brings back is.
#[test]
fn a_secret_beside_the_values_of_rules_that_no_backup_has_holds_its_file_back() {
    let (case, mut canaries) = (quill(), Canaries::new(22));
    let login = canaries.new_one();
    let json =
        |note: &str| format!("{{\"login\": {{\"token\": \"{login}\"}}, \"note\": \"{note}\"}}\n");
    case.write("settings.json", json("none"));
    let db = state(&case.path("state.db"), SCHEMA);
    db.execute("INSERT INTO account(token) VALUES(?1)", [&login]).unwrap();
    drop(db);
    let pushed = case.push();
    assert_eq!(case.entry(&pushed, "settings.json").unwrap().marks, None);
    assert_eq!(case.entry(&pushed, "state.db").unwrap().marks, None);
    let new = canaries.new_one();
    for (note, kept) in [("other", false), (new.as_str(), true)] {
        case.write("settings.json", json(note));
        let db = Connection::open(case.path("state.db")).unwrap();
        db.execute("INSERT OR REPLACE INTO session VALUES('s', '/x', ?1)", [note]).unwrap();
        drop(db);
        let report = case.pull(&pushed, &case.over());
        assert_eq!(report.problems.len(), if kept { 2 } else { 0 }, "{report:?}");
        let expected = if kept { json(note) } else { json("none") };
        assert_eq!(String::from_utf8(case.read("settings.json")).unwrap(), expected);
        let said = texts(&case.path("state.db"), "SELECT said FROM session");
        assert_eq!(said, if kept { vec![note.to_owned()] } else { Vec::new() });
        assert_eq!(texts(&case.path("state.db"), "SELECT token FROM account"), [login.as_str()]);
    }
    canaries.are_nowhere(&case);
}

/// Where projects are named after their paths, catalogues hold paths, and secrets stand beside these.
#[test]
fn a_move_renames_and_rewrites_what_has_marks_and_puts_the_secrets_back() {
    let (case, mut canaries) = (quill(), Canaries::new(23));
    let mut new = || canaries.new_one();
    let said = format!("{{\"cwd\":\"/Users/a/work\",\"said\":\"use {}\"}}\n", new());
    let json = format!(
        "{{\"cwd\": \"/Users/a/work\", \"login\": {{\"token\": \"{}\"}}, \"note\": \"see {}\"}}\n",
        new(),
        new()
    );
    case.write("projects/-Users-a-work/s.jsonl", &said);
    case.write("settings.json", &json);
    // one of the places is the new home already: there is no way back by the maps alone
    let list = format!(
        "[{{\"cwd\": \"/Users/a/work\"}}, {{\"cwd\": \"/home/b/own\", \"note\": \"{}\"}}]\n",
        new()
    );
    case.write("list.json", &list);
    let db = state(&case.path("state.db"), SCHEMA);
    db.execute("INSERT INTO account(token) VALUES(?1)", [new()]).unwrap();
    db.execute("INSERT INTO session VALUES('s', '/Users/a/work', ?1)", [format!("say {}", new())])
        .unwrap();
    drop(db);
    let pushed = case.push();
    canaries.are_nowhere(&case);

    // at the new place the agent has the same secrets already, typed in by hand
    let target = tempfile::tempdir().unwrap();
    let there = |name: &str| target.path().join("files").join(name);
    fs::create_dir_all(there("projects/-home-b-work")).unwrap();
    let moved = |text: &str| text.replace("/Users/a", "/home/b");
    fs::write(there("projects/-home-b-work/s.jsonl"), format!("{said}{}", line("more"))).unwrap();
    fs::write(there("settings.json"), format!("{json} ")).unwrap();
    fs::write(there("list.json"), format!("{list} ")).unwrap();
    fs::copy(case.path("state.db"), there("state.db")).unwrap();
    let root = MovedRoot {
        label: b"files".to_vec(),
        dir: b"/Users/a/.quill".to_vec(),
        rules: case.rules.clone().unwrap(),
    };
    let maps = vec![PathMap::parse("/Users/a=/home/b").unwrap()];
    for transcripts in [false, true] {
        let moves = Moves { maps: maps.clone(), roots: vec![root.clone()], transcripts };
        let options = pull::Options {
            moves: Some(moves),
            ..case.options_to(Placement::Under(target.path().into()))
        };
        let report = case.pull(&pushed, &options);
        assert_eq!((&report.problems[..], &report.blanks[..]), (&[][..], &[][..]));
        let transcript = fs::read_to_string(there("projects/-home-b-work/s.jsonl")).unwrap();
        assert_eq!(transcript, if transcripts { moved(&said) } else { said.clone() });
        assert_eq!(fs::read_to_string(there("settings.json")).unwrap(), moved(&json));
        assert_eq!(fs::read_to_string(there("list.json")).unwrap(), moved(&list));
        let rows = texts(&there("state.db"), "SELECT cwd || ' ' || said FROM session");
        let old = texts(&case.path("state.db"), "SELECT cwd || ' ' || said FROM session");
        assert_eq!(rows, old.iter().map(|row| moved(row)).collect::<Vec<_>>());
        let account = "SELECT token FROM account";
        assert_eq!(texts(&there("state.db"), account), texts(&case.path("state.db"), account));
        assert!(!there("projects/-Users-a-work").exists());

        // a second time nothing is done, and a dry run knows
        let session = case.bench.open().unwrap();
        let content = SnapshotContent::open(&session, pushed.snapshot()).unwrap();
        let (cancel, scratch) = (AtomicBool::new(false), tempfile::tempdir().unwrap());
        let mut plan = Plan::make(&content, &options, &cancel).unwrap();
        let told = plan.rehearse(&content, &options.filters, scratch.path(), &cancel).unwrap();
        assert_eq!(told, []);
        assert!(plan.items.iter().all(|item| item.action == Action::Leave), "{:?}", plan.items);
        let report = case.pull(&pushed, &options);
        assert_eq!((report.replaced, &report.problems[..]), (0, &[][..]), "{report:?}");
    }

    // an empty new home has marks, and they are named
    let empty = tempfile::tempdir().unwrap();
    let moves = Moves { maps, roots: vec![root], transcripts: true };
    let options = pull::Options {
        moves: Some(moves),
        ..case.options_to(Placement::Under(empty.path().into()))
    };
    let report = case.pull(&pushed, &options);
    assert_eq!((report.problems.len(), report.blanks.len()), (0, 4), "{report:?}");
    let path = empty.path().join("files/projects/-home-b-work/s.jsonl");
    let transcript = fs::read_to_string(path).unwrap();
    assert!(
        transcript.starts_with("{\"cwd\":\"/home/b/work\",\"said\":\"use [REDACTED:github-pat:")
    );
}

/// `--delete` takes away what a snapshot has to the byte, and no secret that none has.
#[test]
fn a_file_with_a_secret_is_not_deleted_and_one_without_is() {
    let (case, mut canaries) = (quill(), Canaries::new(24));
    case.write("a.md", "one");
    let first = case.push();
    case.write("with.md", format!("it is {}\n", canaries.new_one()));
    case.write("dir/with.md", format!("it is {}\n", canaries.new_one()));
    case.write("dir/plain.md", "nothing\n");
    case.write("without.md", "nothing\n");
    let db = state(&case.path("more.db"), "CREATE TABLE t(v)");
    db.execute("INSERT INTO t VALUES(?1)", [canaries.new_one()]).unwrap();
    drop(db);
    let names = ["with.md", "dir/with.md", "more.db"];
    let before = names.map(|name| case.read(name));
    let options = pull::Options { delete: true, ..case.over() };
    let report = pull_safely(&case, &first, &options);
    assert_eq!((report.problems.len(), report.deleted), (3, 1), "{report:?}");
    assert_eq!(names.map(|name| case.read(name)), before);
    assert!(!case.path("without.md").exists() && case.path("dir/plain.md").exists());
    canaries.are_nowhere(&case);
    // told to go, they go
    let always = pull::Options { overwrite: Overwrite::Always, ..options };
    let report = pull_safely(&case, &first, &always);
    assert!(report.is_complete() && !case.path("with.md").exists(), "{report:?}");
}

/// Two names of one file, or two files where the snapshot has two names of one.
#[test]
fn a_further_name_takes_the_place_of_a_file_whose_secrets_it_has_and_of_no_other() {
    let (mut case, mut canaries) = (quill(), Canaries::new(25));
    let (old, new) = (canaries.new_one(), canaries.new_one());
    let text = format!("it is {old}\n");
    case.write("a.md", &text);
    fs::hard_link(case.path("a.md"), case.path("b.md")).unwrap();
    let env = format!("TOKEN={old}\nA=1\n");
    case.write(".env", &env);
    fs::create_dir(case.path("further")).unwrap();
    fs::hard_link(case.path(".env"), case.path("further/.env")).unwrap();
    // before there were rules
    let without = Case { rules: None, ..case };
    let earlier = without.push();
    case = Case { rules: quill().rules, ..without };
    let pushed = case.push();
    // changed under both names
    case.write("a.md", format!("{text}more\n"));
    case.write(".env", format!("{env}B=1\n"));
    let report = pull_safely(&case, &pushed, &case.over());
    assert_eq!(report.problems, []);
    for (name, text) in [("a.md", &text), ("b.md", &text), (".env", &env), ("further/.env", &env)] {
        assert_eq!(case.read(name), text.as_bytes(), "{name}");
    }
    // the other name is a file of its own now, with a secret of its own
    fs::remove_file(case.path("b.md")).unwrap();
    case.write("b.md", format!("it is {new}\n"));
    for safely in [true, false] {
        let pull = if safely { pull_safely } else { Case::pull };
        let report = pull(&case, &pushed, &case.over());
        let [problem] = report.problems.as_slice() else { panic!("{report:?}") };
        assert!(
            problem.path == b"files/b.md" && problem.reason.contains("no backup has"),
            "{problem:?}"
        );
        assert_eq!(case.read("b.md"), format!("it is {new}\n").as_bytes());
    }
    let always = pull::Options { overwrite: Overwrite::Always, ..case.over() };
    assert_eq!(pull_safely(&case, &pushed, &always).problems, []);
    assert_eq!(case.read("b.md"), text.as_bytes());
    // of what was stored before there were rules, a further name takes no value of theirs away
    fs::remove_file(case.path("further/.env")).unwrap();
    case.write("further/.env", "TOKEN=hunter2\nA=1\n");
    let report = pull_safely(&case, &earlier, &case.over());
    let [problem] = report.problems.as_slice() else { panic!("{report:?}") };
    assert_eq!(problem.path, b"files/further/.env", "{problem:?}");
    assert_eq!(case.read("further/.env"), b"TOKEN=hunter2\nA=1\n");
    canaries.are_nowhere(&case);
}

/// A repository that lost data is made whole from live files that have the secrets.
#[test]
fn a_repair_from_the_live_files_stores_the_same_marks_and_no_secret() {
    let (case, mut canaries) = (quill(), Canaries::new(26));
    let mut text = String::new();
    for n in 0..300 {
        text += &line(&format!("{n}: {}", "words ".repeat(n % 50)));
        if n % 20 == 0 {
            text += &line(&format!("use {}", canaries.new_one()));
        }
    }
    case.write("projects/-w/s.jsonl", &text);
    case.write(
        "settings.json",
        format!("{{\"login\": {{\"token\": \"{}\"}}}}\n", canaries.new_one()),
    );
    let db = state(&case.path("state.db"), SCHEMA);
    db.execute("INSERT INTO session VALUES('s', '/x', ?1)", [canaries.new_one()]).unwrap();
    drop(db);
    let pushed = case.push();
    let names = ["projects/-w/s.jsonl", "settings.json", "state.db"];
    let stored = names.map(|name| case.stored(&pushed, name).unwrap());

    let packs = case.memory.list("packs/").unwrap();
    assert!(!packs.is_empty());
    for pack in &packs {
        case.memory.delete(&pack.name).unwrap();
    }
    let session = case.bench.open().unwrap();
    let look = verify::Options { threads: 1, ..verify::Options::new(Level::All) };
    let live = Some((vec![case.root()], case.options.clone()));
    let sources = Sources { live, ..Sources::default() };
    let cancel = AtomicBool::new(false);
    let done = repair::repair(&session, &sources, &look, &Ears::default(), &cancel).unwrap();
    assert!(done.before.is_damaged() && !done.after.is_damaged(), "{done:?}");
    drop(session);
    assert_eq!(names.map(|name| case.stored(&pushed, name).unwrap()), stored);
    canaries.are_nowhere(&case);
    case.write("projects/-w/s.jsonl", [text.as_bytes(), b"{}\n"].concat());
    assert_eq!(case.pull(&pushed, &case.over()).problems, []);
    assert_eq!(case.read("projects/-w/s.jsonl"), text.as_bytes());
}
