//! A second move, as one meets it who does not look before; and what finds text in databases that were moved.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use engine::pull::{self, Action, Plan, SnapshotContent};
use rusqlite::Connection;

use super::{Case, Counted, tree};

/// What the command line does before it asks: gives the plan, and how many blocks were read for that.
fn settled(case: &Case, options: &pull::Options) -> (Plan, usize, pull::Report) {
    let session = case.bench.open().unwrap();
    let content = SnapshotContent::open(&session, case.pushed.snapshot()).unwrap();
    let content = Counted { content, reads: AtomicUsize::new(0), files_alone: false };
    let (cancel, scratch) = (AtomicBool::new(false), tempfile::tempdir().unwrap());
    let mut plan = Plan::make(&content, options, &cancel).unwrap();
    let before = content.reads.load(Ordering::Relaxed);
    plan.settle_databases(&content, &options.filters, scratch.path(), &cancel).unwrap();
    let reads = content.reads.load(Ordering::Relaxed) - before;
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    let report = pull::apply(&content, &plan, options, &(), &cancel).unwrap();
    (plan, reads, report)
}

#[test]
fn a_second_move_neither_asks_about_nor_saves_databases_that_it_leaves() {
    let case = Case::of("opencode");
    let options = case.home();
    let (_, reads, report) = settled(&case, &options);
    assert_eq!((reads, &report.problems[..]), (0, &[][..]), "nothing is there yet");
    // somebody logs in at the new place
    let path = case.new.path().join(".local/share/opencode/opencode.db");
    let live = Connection::open(&path).unwrap();
    live.execute_batch("UPDATE account SET access_token = 'NEW', refresh_token = 'NEW'").unwrap();
    drop(live);
    case.pull(&options);
    let before = tree(case.new.path());
    let (plan, _, report) = settled(&case, &options);
    let left = |item: &pull::Item| item.action == Action::Leave;
    assert!(plan.items.iter().all(left) && !plan.replaces(), "{:?}", plan.items);
    assert_eq!((report.replaced, &report.problems[..]), (0, &[][..]));
    assert!(report.verified > 0);
    assert!(before == tree(case.new.path()));

    // one that changed is replaced, and saved before
    let live = Connection::open(&path).unwrap();
    live.execute_batch("DELETE FROM session").unwrap();
    drop(live);
    let (plan, _, report) = settled(&case, &options);
    assert!(plan.replaces() && report.replaced == 1, "{report:?}");
    assert!(before.keys().eq(tree(case.new.path()).keys()));
    // one with paths of the old place is none that was moved: nothing is fetched to find that out
    let live = Connection::open(&path).unwrap();
    live.execute_batch("UPDATE session SET directory = '/Users/a/code'").unwrap();
    drop(live);
    let (plan, reads, report) = settled(&case, &options);
    assert!(plan.replaces(), "{:?}", plan.items);
    assert_eq!((reads, report.replaced, &report.problems[..]), (0, 1, &[][..]));
}

const ROWS: &str =
    "INSERT INTO said VALUES (1, '/Users/a/code', 'hello'), (2, '/Users/abc', 'there');";

/// Databases in which a column that is moved is in an index of words, too.
fn indexed(dir: &Path) {
    let own = "CREATE TABLE said(id INTEGER PRIMARY KEY, cwd TEXT, body TEXT);";
    let all = [
        (
            "five",
            "CREATE VIRTUAL TABLE idx USING fts5(cwd, body, content='said', content_rowid='id');",
            "INSERT INTO idx(idx) VALUES('rebuild');",
        ),
        (
            "four",
            "CREATE VIRTUAL TABLE idx USING fts4(content=\"said\", cwd, body);",
            "INSERT INTO idx(idx) VALUES('rebuild');",
        ),
        (
            "other",
            "CREATE VIRTUAL TABLE idx USING fts5(body, content='said', content_rowid='id');",
            "INSERT INTO idx(idx) VALUES('rebuild');",
        ),
        (
            "filled",
            "CREATE VIRTUAL TABLE idx USING fts5(words);
             CREATE TRIGGER fill AFTER INSERT ON said BEGIN
                 INSERT INTO idx(rowid, words) VALUES (new.id, new.cwd || ' ' || new.body); END;",
            "",
        ),
        (
            "view",
            "CREATE VIEW v AS SELECT id, cwd FROM said;
             CREATE VIRTUAL TABLE idx USING fts5(cwd, content='v', content_rowid='id');",
            "INSERT INTO idx(idx) VALUES('rebuild');",
        ),
    ];
    for (name, index, fill) in all {
        let db = Connection::open(dir.join(format!("{name}.db"))).unwrap();
        db.execute_batch(&format!("{own}{index}{ROWS}{fill}")).unwrap();
    }
}

#[test]
fn an_index_of_words_finds_a_moved_session_by_its_new_path_or_it_is_said_that_it_does_not() {
    let bind = "[[roots.binds]]\ndatabase = \"*.db\"\ntable = \"said\"\ncolumns = [\"cwd\"]\n";
    let case = Case::quill(bind, indexed);
    let (_, report, _) = case.pull(&case.home());
    assert_eq!(report.problems, []);
    let found = |name: &str, words: &str| {
        let query = format!("SELECT CAST(rowid AS TEXT) FROM idx WHERE idx MATCH '{words}'");
        case.rows(&format!(".quill/{name}.db"), &query)
    };
    for name in ["five", "four"] {
        assert_eq!(found(name, "\"home b code\""), ["1"], "{name}");
        assert_eq!(found(name, "\"users a\""), [""; 0], "{name}");
        assert_eq!(found(name, "\"users abc\""), ["2"], "{name}");
        assert_eq!(found(name, "hello"), ["1"], "{name}");
    }
    // what has nothing of the paths is as it was
    assert_eq!(found("other", "there"), ["2"]);
    for name in ["filled", "view"] {
        assert_eq!(found(name, "\"users a code\""), ["1"], "{name}");
    }
    for name in ["five", "four", "other", "filled", "view"] {
        let paths = case.rows(&format!(".quill/{name}.db"), "SELECT cwd FROM said ORDER BY id");
        assert_eq!(paths, ["/home/b/code", "/Users/abc"], "{name}");
    }
    let mut left: Vec<(String, String)> = Vec::new();
    for rewrite in &report.rewrites {
        let path = String::from_utf8(rewrite.path.clone()).unwrap();
        left.extend(rewrite.left.iter().map(|left| (path.clone(), left.clone())));
    }
    let named: Vec<&str> = left.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(named, ["quill/home/filled.db", "quill/home/view.db"], "{left:?}");
    assert!(left.iter().all(|(_, why)| why.contains("'idx'") && why.contains("old paths")));
    case.nothing_changes_again(&case.home());
}
