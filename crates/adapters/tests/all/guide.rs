//! `docs/adapters.md` teaches by an example and lists all keys: both must be true.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use adapters::{Adapter, Decision, Env, Os, Root};

const GUIDE: &str = include_str!("../../../../docs/adapters.md");

fn example() -> Adapter {
    let start = GUIDE.find("```toml\n").expect("an example") + "```toml\n".len();
    let length = GUIDE[start..].find("```").expect("its end");
    Adapter::parse(&GUIDE[start..start + length], "quill.toml").expect("the example is valid")
}

/// The rows of a table under a heading, cells trimmed.
fn rows(after: &str) -> Vec<Vec<String>> {
    let start = GUIDE.find(after).expect("the text before the table");
    let lines = GUIDE[start..].lines().skip_while(|line| !line.starts_with('|')).skip(2);
    let cells = |line: &str| {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    };
    lines.take_while(|line| line.starts_with('|')).map(cells).collect()
}

fn in_root<'a>(roots: &'a [Root], path: &Path) -> Option<(&'a Root, String)> {
    let holds = |root: &&Root| path.starts_with(&root.dir);
    let root = roots.iter().filter(holds).max_by_key(|root| root.dir.as_os_str().len())?;
    let rel = path.strip_prefix(&root.dir).expect("inside").to_str().expect("text").to_owned();
    Some((root, rel))
}

#[test]
fn the_worked_example_does_what_its_table_says() {
    let home = tempfile::tempdir().expect("tempdir");
    let table = rows("With this file, on Linux:");
    assert_eq!(table.len(), 10);
    for row in &table {
        let shown = row[0].trim_matches('`').strip_prefix("~/").expect("in the home");
        let path = home.path().join(shown);
        if shown.ends_with('/') {
            fs::create_dir_all(path).expect("directory");
        } else {
            fs::create_dir_all(path.parent().expect("parent")).expect("directories");
            fs::write(path, "x").expect("file");
        }
    }
    let env = Env { home: home.path().into(), vars: BTreeMap::new(), os: Os::Linux };
    let roots = example().resolve(&env);
    for row in &table {
        let shown = row[0].trim_matches('`').strip_prefix("~/").expect("in the home");
        let path = home.path().join(shown.trim_end_matches('/'));
        let (root, rel) = in_root(&roots, &path).expect("some root is above");
        let decision = root.rules.decide(rel.as_bytes(), shown.ends_with('/'));
        let expected = match row[1].as_str() {
            "left out" => Decision::Exclude,
            "left out as a secret" => Decision::ExcludeSecret,
            "left out, not entered" | "never looked at" => Decision::PruneDir,
            "backed up as a database" => Decision::IncludeSqlite,
            said => {
                let label = said.strip_prefix("backed up in root ").expect("a known phrase");
                assert_eq!(root.label, label.trim_matches('`'), "{shown}");
                Decision::Include
            }
        };
        assert_eq!(decision, expected, "{shown}");
    }
}

#[test]
fn the_example_uses_what_the_guide_says_of_volatile_and_sizes() {
    let home = tempfile::tempdir().expect("tempdir");
    fs::create_dir_all(home.path().join("q")).expect("directory");
    let vars = BTreeMap::from([("QUILL_HOME".to_owned(), home.path().join("q").into())]);
    let roots = example().resolve(&Env { home: home.path().into(), vars, os: Os::Macos });
    let root = roots.first().expect("quill/home");
    assert_eq!((root.label.as_str(), root.dir.as_path()), ("quill/home", &*home.path().join("q")));
    assert!(root.rules.volatile(b"conversations/a.jsonl"));
    assert!(!root.rules.volatile(b"memories/a.md"));
    assert_eq!(root.rules.max_file_size(), Some(8 << 30));
    assert_eq!(root.rules.group(b"conversations/a.jsonl"), Some("quill/conversations"));
    assert_eq!(root.rules.group(b"quill.db"), Some("quill/conversations"));
    assert_eq!(root.rules.group(b"memories/a.md"), None);
}

#[test]
fn the_key_reference_is_complete() {
    let known = |text: &str| -> Vec<String> {
        let error = Adapter::parse(text, "x").expect_err("unknown key").to_string();
        let list = error.split("known here: ").nth(1).expect("a list").to_owned();
        list.split(", ").map(str::to_owned).collect()
    };
    let documented = |after: &str| -> Vec<String> {
        let keys = rows(after).into_iter().map(|row| row[0].replace('`', ""));
        keys.flat_map(|keys| keys.split(", ").map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    assert_eq!(documented("At the top of the file:"), known("version = 1\nx = 1"));
    let root = "version = 1\nid = 'x'\nname = 'X'\n[[roots]]\nx = 1";
    assert_eq!(documented("In a `[[roots]]` table."), known(root));
    let group = format!("{}\nlabel = 'a'\nall = '~/x'\n[[groups]]\nx = 1", &root[..root.len() - 6]);
    assert_eq!(documented("In a `[[groups]]` table:"), known(&group));
    let below = |table: &str| {
        format!("{}\nlabel = 'a'\nall = '~/x'\n[[roots.{table}]]\nx = 1", &root[..root.len() - 6])
    };
    assert_eq!(documented("In a `[[roots.fields]]` table:"), known(&below("fields")));
    assert_eq!(documented("In a `[[roots.binds]]` table:"), known(&below("binds")));
    assert_eq!(documented("In a `[[roots.sessions]]` table:"), known(&below("sessions")));
    let session = below("sessions");
    let session = format!("{}\nfile = 'a.jsonl'\nid = '@name'", &session[..session.len() - 6]);
    let catalogue = format!("{session}\n[[roots.sessions.catalogue]]\nx = 1");
    assert_eq!(documented("In a `[[roots.sessions.catalogue]]` table:"), known(&catalogue));
}

#[test]
fn the_examples_about_sessions_are_valid() {
    let start = GUIDE.find("## Sessions").expect("the chapter");
    let blocks: Vec<&str> = GUIDE[start..].split("```").skip(1).step_by(2).take(2).collect();
    for block in blocks {
        let example = block.strip_prefix("toml\n").expect("TOML");
        let head = "version = 1\nid = 'x'\nname = 'X'\n[[roots]]\nlabel = 'a'\nall = '~/x'\n";
        let adapter = Adapter::parse(&format!("{head}{example}"), "x").expect("valid");
        let rules = adapter.rules("x/a").expect("the root");
        assert_eq!(rules.session_rules().count(), 1);
    }
}
