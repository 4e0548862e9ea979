//! Secrets in odd shapes, what marks tell nobody, and findings that are none.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use engine::pull::Placement;
use engine::suspects::Ignored;
use rusqlite::Connection;

use super::{Case, has, private_key, token};
use crate::support::text::Dice;

/// A key whose lines are the strings of a list, with a number among them.
fn key_in_a_list(dice: &mut Dice) -> (String, Vec<String>) {
    let key = private_key(dice);
    let lines: Vec<&str> = key.lines().collect();
    let (first, rest) = lines.split_at(5);
    let strings = |lines: &[&str]| {
        lines.iter().map(|line| format!("\"{line}\"")).collect::<Vec<_>>().join(", ")
    };
    let text = format!(
        "{{\"n\": 1, \"key\": [{}, 7041776350921457, {}], \"after\": true}}\n",
        strings(first),
        strings(rest)
    );
    let inner = lines[1..lines.len() - 1].iter().map(|line| (*line).to_owned());
    (text, inner.chain(["7041776350921457".to_owned()]).collect())
}

#[test]
fn a_key_over_many_strings_leaves_json_that_its_agent_can_read_and_comes_back_whole() {
    let (case, mut dice) = (Case::new(), Dice::new(31));
    let (text, parts) = key_in_a_list(&mut dice);
    case.write("key.json", &text);
    let db = Connection::open(case.path("key.db")).unwrap();
    db.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)").unwrap();
    db.execute("INSERT INTO t(v) VALUES(?1)", [&text]).unwrap();
    drop(db);
    let pushed = case.push();
    let everything = case.everything();
    for part in &parts {
        assert!(!everything.iter().any(|block| has(block, part)), "{part}");
    }
    let stored = case.stored(&pushed, "key.json").unwrap();
    let value: serde_json::Value = serde_json::from_slice(&stored).unwrap();
    assert_eq!(value["key"].as_array().unwrap().len(), parts.len() + 2, "{value}");
    assert_eq!((&value["n"], &value["after"]), (&1.into(), &true.into()));
    let there = tempfile::tempdir().unwrap();
    case.pull(&pushed, &case.options_to(Placement::Under(there.path().to_owned())));
    let image = Connection::open(there.path().join("files/key.db")).unwrap();
    let marked: String = image.query_row("SELECT v FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&marked).unwrap(), value);

    case.write("key.json", format!("{text} "));
    Connection::open(case.path("key.db"))
        .unwrap()
        .execute("DELETE FROM t WHERE id = 2", [])
        .unwrap();
    let report = case.pull(&pushed, &case.over());
    assert_eq!((&report.problems[..], &report.blanks[..]), (&[][..], &[][..]));
    assert_eq!(case.read("key.json"), text.as_bytes());
    let live = Connection::open(case.path("key.db")).unwrap();
    assert_eq!(live.query_row("SELECT v FROM t", [], |row| row.get::<_, String>(0)).unwrap(), text);
}

/// Who has no key cannot try out guesses: neither on a mark nor on the hash of the file at its source.
#[test]
fn the_same_secret_has_one_mark_in_a_repository_and_another_in_another() {
    let mut dice = Dice::new(32);
    let text = format!("it is {}\n", token(&mut dice));
    let mut all = BTreeSet::new();
    for _ in 0..2 {
        let case = Case::new();
        case.write("a.md", &text);
        case.write("b.txt", format!("here too: {text}"));
        let pushed = case.push();
        let mark = |name: &str| {
            let stored = String::from_utf8(case.stored(&pushed, name).unwrap()).unwrap();
            let at = stored.find("[REDACTED:").unwrap();
            stored[at..].trim_end().to_owned()
        };
        assert_eq!(mark("a.md"), mark("b.txt"));
        let source = case.entry(&pushed, "a.md").unwrap().marks.unwrap().source.unwrap();
        assert_ne!(source.hash, *blake3::hash(text.as_bytes()).as_bytes());
        assert_ne!(source.hash, *blake3::hash(&[&[2], text.as_bytes()].concat()).as_bytes());
        assert_eq!(source.size, text.len() as u64);
        all.insert(mark("a.md"));
    }
    assert_eq!(all.len(), 2, "{all:?}");
}

/// Where a value is elsewhere too, to replace it in its table is not enough.
#[test]
fn a_secret_in_an_index_of_words_or_in_the_schema_keeps_its_database_at_home() {
    let (case, mut dice) = (Case::new(), Dice::new(33));
    let (words, default) = (token(&mut dice), token(&mut dice));
    let index = Connection::open(case.path("index.db")).unwrap();
    index
        .execute_batch(
            "CREATE TABLE said(id INTEGER PRIMARY KEY, body TEXT);
             CREATE VIRTUAL TABLE idx USING fts5(body, content='said', content_rowid='id');",
        )
        .unwrap();
    index.execute("INSERT INTO said(body) VALUES(?1)", [&words]).unwrap();
    index.execute_batch("INSERT INTO idx(idx) VALUES('rebuild')").unwrap();
    drop(index);
    let schema = Connection::open(case.path("schema.db")).unwrap();
    schema.execute_batch(&format!("CREATE TABLE t(v TEXT DEFAULT '{default}')")).unwrap();
    drop(schema);
    case.write("plain.txt", "here");
    let told = case.push_with(&case.options);
    let names: BTreeSet<&[u8]> = told.problems.iter().map(|p| p.path.as_slice()).collect();
    assert_eq!(names, BTreeSet::from([&b"files/index.db"[..], b"files/schema.db"]));
    let everything = case.everything();
    for secret in [&words, &default] {
        // an index of words has them in small letters
        for word in [secret[4..].to_owned(), secret[4..].to_ascii_lowercase()] {
            assert!(!everything.iter().any(|block| has(block, &word)), "{word}");
        }
    }
}

/// What is on the list is stored as it is, so a safety snapshot has it and nothing holds a restore up.
#[test]
fn what_is_on_the_list_of_findings_to_ignore_holds_no_restore_up() {
    let (mut case, mut dice) = (Case::new(), Dice::new(34));
    let list = ["path:*.md".to_owned()];
    case.options.ignored = Arc::new(Ignored::open(&case.bench.dirs().state, &list).unwrap());
    let (old, new) = (token(&mut dice), token(&mut dice));
    case.write("a.md", format!("it is {old}\n"));
    case.write("a.txt", format!("it is {old}\n"));
    let pushed = case.push();
    case.write("a.md", format!("it is {new}\n"));
    case.write("a.txt", format!("it is {new}\n"));
    let report = case.pull(&pushed, &case.over());
    let [problem] = report.problems.as_slice() else { panic!("{report:?}") };
    assert_eq!(problem.path, b"files/a.txt");
    assert_eq!(case.read("a.md"), format!("it is {old}\n").as_bytes());
    assert_eq!(fs::read_to_string(case.path("a.txt")).unwrap(), format!("it is {new}\n"));
}
