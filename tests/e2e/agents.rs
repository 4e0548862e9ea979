//! What `agents` says of a machine, and of an adapter that somebody wrote.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::desk::Desk;

#[path = "../../crates/adapters/tests/fixture/mod.rs"]
pub(crate) mod fixture;

/// The home of an agent from `testdata/homes`, on a desk.
fn home_of(id: &str) -> (Desk, fixture::Home) {
    let mut desk = Desk::new();
    let (_, list) = fixture::lists().into_iter().find(|(of, _)| of == id).unwrap();
    let home = fixture::build(id, &list, &desk.home());
    for (name, value) in &home.env.vars {
        desk.set(name, value.to_str().unwrap());
    }
    (desk, home)
}

/// Root and path of everything under a key of the roots, as far as `why` says so.
fn listed(agent: &Value, key: &str, why: &[&str]) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut all = BTreeSet::new();
    for root in agent["roots"].as_array().unwrap() {
        for one in root[key].as_array().unwrap() {
            if why.contains(&one["why"].as_str().unwrap()) {
                all.insert((text(&root["label"]), text(&one["path"])));
            }
        }
    }
    all
}

#[test]
fn agents_says_what_is_taken_in_part_what_is_left_out_and_why() {
    for id in ["claude-code", "cursor", "openclaw"] {
        let (desk, home) = home_of(id);
        let document = desk.json(&["agents", id]);
        let agent = &document["agents"][0];
        assert_eq!((&agent["id"], &agent["found"]), (&id.into(), &true.into()), "{document}");
        let marked = |mark: char| -> BTreeSet<(String, String)> {
            let of = home.listed.iter().filter(|one| one.mark == mark);
            of.map(|one| (one.label.clone(), one.rel.clone())).collect()
        };
        assert_eq!(listed(agent, "in_part", &["fields"]), marked('F'), "{id}");
        assert_eq!(listed(agent, "in_part", &["rows"]), marked('R'), "{id}");
        let secrets = listed(agent, "left_out", &["secret"]);
        for canary in home.canaries.iter().filter(|canary| canary.kind == fixture::Kind::Whole) {
            let one =
                home.listed.iter().find(|one| canary.path.ends_with(&one.rel) && one.mark == 'S');
            let one = one.unwrap();
            // the directory is named that hides it
            let named = secrets.iter().any(|(label, path)| {
                *label == one.label
                    && (*path == one.rel || path.ends_with('/') && one.rel.starts_with(&**path))
            });
            assert!(named, "{id}: {} is not named", one.rel);
        }
        let counted: u64 = agent["roots"]
            .as_array()
            .unwrap()
            .iter()
            .map(|root| root["files"].as_u64().unwrap())
            .sum();
        let taken = home.listed.iter().filter(|one| "+FDR".contains(one.mark)).count();
        assert_eq!(counted, taken as u64, "{id}");

        let ran = desk.ok(&["agents"]);
        assert!(
            ran.text().contains(id) && ran.text().contains("secrets left out: "),
            "{}",
            ran.text()
        );
        let quiet = home.canaries.iter().all(|canary| !ran.text().contains(&canary.text));
        assert!(quiet && !document.to_string().contains("CANARY"), "values are never shown");
        // an editor's home may also hold an extension that is an agent of its own
        let here = desk.json(&["agents"])["agents"].as_array().unwrap().clone();
        assert!((1..4).contains(&here.len()), "only what is here");
        assert!(here.iter().all(|agent| agent["found"] == true), "only what is here");
        assert!(desk.json(&["agents", "--all"])["agents"].as_array().unwrap().len() >= 30);
    }
}

#[test]
fn an_adapter_of_ones_own_is_checked_before_it_is_relied_on() {
    let desk = Desk::new();
    fs::create_dir_all(desk.home().join(".quill/cache")).unwrap();
    fs::write(desk.home().join(".quill/notes.md"), "x").unwrap();
    fs::write(desk.home().join(".quill/settings.json"), "{}").unwrap();
    fs::write(desk.home().join(".quill/auth.json"), "x").unwrap();
    let file = desk.beside("quill.toml");
    let path = file.to_str().unwrap();
    let good = "version = 1\nid = \"quill\"\nname = \"Quill\"\n[[roots]]\nlabel = \"home\"\nall = \"~/.quill\"\n\
                exclude = [\"cache\"]\nsecret_exclude = [\"auth.json\"]\n\
                [[roots.fields]]\nfile = \"settings.json\"\nredact = [\"env.*\"]\n";
    fs::write(&file, good).unwrap();
    let ran = desk.ok(&["agents", "check", path]);
    for words in [
        "is a valid adapter",
        "2 files",
        "left out: auth.json",
        "left out: cache/",
        "in it: settings.json",
    ] {
        assert!(ran.text().contains(words), "no '{words}' in\n{}", ran.text());
    }
    let document = desk.json(&["agents", "check", path]);
    assert_eq!((&document["file"], &document["agents"][0]["id"]), (&path.into(), &"quill".into()));

    fs::write(&file, good.replace("redact", "redcat")).unwrap();
    desk.fails(
        19,
        "configuration",
        &["agents", "check", path],
        &["quill.toml:11", "roots.fields.redcat"],
    );
    fs::write(&file, good.replace("env.*", "env..x")).unwrap();
    desk.fails(
        19,
        "configuration",
        &["agents", "check", path],
        &["quill.toml:11", "empty segment"],
    );
    let none = desk.beside("none.toml");
    desk.fails(19, "configuration", &["agents", "check", none.to_str().unwrap()], &["none.toml"]);
    desk.fails(2, "usage", &["agents", "show", "nobody"], &["nobody"]);
    desk.fails(2, "usage", &["agents", "--all", "show", "codex"], &["agents show ID"]);
}

#[test]
fn a_restore_elsewhere_says_which_values_to_fill_in_and_one_over_them_needs_none() {
    let (desk, home) = home_of("claude-code");
    desk.ok(&["push", "claude-code"]);
    let ruled = home.listed.iter().filter(|one| one.mark == 'F').count();
    let target = desk.beside("elsewhere").display().to_string();
    let run = desk.ok(&["pull", "--to", &target]);
    assert!(run.err.contains("values that never left their machine; fill them in by hand:"));
    assert!(!run.err.contains("CANARY"), "{}", run.err);
    let again = desk.beside("again").display().to_string();
    let document = desk.json(&["pull", "--to", &again]);
    assert_eq!(document["blanks"].as_array().unwrap().len(), ruled, "{document}");
    // where the values are, they stay
    let document = desk.json(&["pull", "--yes"]);
    assert_eq!(document["blanks"], Value::Array(Vec::new()), "{document}");
    for canary in home.canaries.iter().filter(|canary| canary.kind == fixture::Kind::Field) {
        assert!(fs::read_to_string(&canary.path).unwrap().contains(&canary.text));
    }
}

#[test]
fn a_restore_over_a_database_leaves_its_logins_where_they_are() {
    let (desk, home) = home_of("cursor");
    // one letter each: no log that SQLite could read
    let is_side = |rel: &str| ["-wal", "-shm", "-journal"].iter().any(|side| rel.ends_with(side));
    for canary in &home.canaries {
        for one in fs::read_dir(canary.path.parent().unwrap()).unwrap() {
            let path = one.unwrap().path();
            if is_side(&path.to_string_lossy()) {
                fs::remove_file(path).unwrap();
            }
        }
    }
    desk.ok(&["push", "cursor"]);
    let rows = || home.canaries.iter().filter(|canary| canary.kind == fixture::Kind::Row);
    assert!(rows().count() > 0);
    for canary in rows() {
        let db = rusqlite::Connection::open(&canary.path).unwrap();
        db.execute_batch("CREATE TABLE IF NOT EXISTS later(x)").unwrap();
    }
    let document = desk.json(&["pull", "--yes"]);
    assert_eq!(document["notices"], Value::Array(Vec::new()), "{document}");
    assert!(document["rows_kept"].as_u64().unwrap() > 0, "{document}");
    for canary in rows() {
        let bytes = fs::read(&canary.path).unwrap();
        let has = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(has(&canary.text) && !has("later"), "{}", canary.path.display());
    }
}
