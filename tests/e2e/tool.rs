//! The library, used as its documentation says: the example of twenty lines is built, and backs up and
//! restores the agent that it is for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::desk::{BINARY, Desk, Ran, recovery_code};
use crate::tidy::root;

/// The example. For the whole workspace, as CI builds it: for one package, features of what is below it differ, and
/// most of that would be built again.
fn example() -> PathBuf {
    let dir = Path::new(BINARY).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--offline", "--quiet", "--workspace", "--example", "quill-backup"]);
    if dir.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.current_dir(root()).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let program = dir.join("examples/quill-backup");
    assert!(program.exists(), "{} was built elsewhere", program.display());
    program
}

struct Quill {
    desk: Desk,
    program: PathBuf,
}

impl Quill {
    fn run(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(&self.program);
        self.desk.surround(&mut command);
        let output = command.args(args).current_dir(self.desk.home()).output().unwrap();
        Ran::new(output, format!("quill-backup {}", args.join(" ")))
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        ran.ended(0);
        ran
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.desk.home().join(".quill").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.desk.home().join(".quill").join(name)).unwrap()
    }
}

#[test]
fn the_example_has_twenty_lines() {
    let text = fs::read_to_string(root().join("crates/cli/examples/quill-backup.rs")).unwrap();
    assert!(text.lines().count() <= 20, "{}", text.lines().count());
}

#[test]
fn a_tool_for_one_agent_backs_up_and_restores() {
    let quill = Quill { desk: Desk::new(), program: example() };
    quill.write("notes.md", "first");
    quill.write("chats/one.jsonl", "{\"say\":\"hello\"}\n");
    quill.write("auth.json", "{\"token\":\"CANARY-TOKEN\"}");
    quill.write("cache/big", "made again");
    // an agent that the tool is not for
    fs::create_dir(quill.desk.home().join(".claude")).unwrap();
    fs::write(quill.desk.home().join(".claude/CLAUDE.md"), "not its business").unwrap();
    let db = rusqlite::Connection::open(quill.desk.home().join(".quill/quill.db")).unwrap();
    db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)")
        .unwrap();

    let first = quill.ok(&["push"]);
    recovery_code(&first);
    assert!(first.text().contains("of quill"), "{}", first.text());
    quill.write("notes.md", "second");
    quill.ok(&["push"]);
    assert!(quill.ok(&["push"]).text().contains("nothing changed"));
    let listed = quill.ok(&["ls", "-R"]);
    for (name, there) in
        [("notes.md", true), ("quill.db", true), ("auth.json", false), ("cache", false)]
    {
        assert_eq!(listed.text().contains(name), there, "{name} in {}", listed.text());
    }
    let agents = quill.ok(&["agents", "--all"]);
    assert!(
        agents.text().contains("quill") && !agents.text().contains("claude"),
        "{}",
        agents.text()
    );

    // what another program would say of another agent is not its business either
    let adapters = quill.desk.home().join(".config/quill-backup/agents");
    fs::create_dir_all(&adapters).unwrap();
    fs::write(adapters.join("claude.toml"), "version = 1\nid = 3\n").unwrap();
    let looked = quill.ok(&["-v", "doctor"]);
    assert!(!looked.text().to_lowercase().contains("claude"), "{}", looked.text());

    // the latest one, and the one before it
    drop(db);
    fs::remove_dir_all(quill.desk.home().join(".quill")).unwrap();
    quill.ok(&["pull"]);
    assert_eq!(quill.read("notes.md"), "second");
    let db = rusqlite::Connection::open(quill.desk.home().join(".quill/quill.db")).unwrap();
    assert_eq!(db.query_row("SELECT x FROM t", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    drop(db);
    let back = quill.ok(&["pull", "latest~1", "--yes"]);
    assert_eq!(quill.read("notes.md"), "first");
    assert!(back.err.contains("to go back: quill-backup pull "), "{}", back.err);
    assert!(!quill.desk.home().join(".quill/auth.json").exists());
    let changed = quill.ok(&["diff", "latest~1", "latest"]);
    assert!(changed.text().contains("M quill/home/notes.md"), "{}", changed.text());
    quill.ok(&["forget", "--keep-last", "1", "--prune", "--yes"]);

    // its directories have its own name
    let home = quill.desk.home();
    assert!(home.join(".local/share/quill-backup/repository/config").exists());
    assert!(home.join(".local/state/quill-backup").exists());
    assert!(!home.join(".local/share/agent-backup").exists());
    assert!(!home.join(".local/state/agent-backup").exists());
    // and so do its words
    let failed = quill.run(&["cat", "latest:quill/home/nothing"]);
    failed.ended(1);
    assert!(failed.err.starts_with("quill-backup: "), "{}", failed.err);
    assert!(failed.err.contains("try: quill-backup snapshots"), "{}", failed.err);
    assert_eq!(
        quill.ok(&["--version"]).text(),
        format!("quill-backup {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert!(quill.ok(&["man"]).text().contains("quill\\-backup"));
}

#[test]
fn a_tools_own_configuration_counts_until_there_is_a_file() {
    let quill = Quill { desk: Desk::new(), program: example() };
    quill.write("small", "x");
    let large = fs::File::create(quill.desk.home().join(".quill/large")).unwrap();
    large.set_len((1 << 30) + 1).unwrap();
    let names = || quill.ok(&["push", "--dry-run", "-v"]).text().to_owned();
    let taken =
        |text: &str, name: &str| text.lines().any(|line| line == format!("quill/home/{name}"));
    let told = names();
    assert!(taken(&told, "small") && !taken(&told, "large"), "{told}");
    let config = quill.desk.home().join(".config/quill-backup/config.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, "[push]\nexclude = ['small']\n").unwrap();
    let told = names();
    assert!(taken(&told, "large") && !taken(&told, "small"), "{told}");
}
