//! A restore for another home: what is proposed, what a dry run says of it, and what it does.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::agents::fixture;
use crate::desk::Desk;

/// A desk where Claude Code was at one home, which is in a repository, and that has another home now.
fn moved() -> (Desk, PathBuf, PathBuf) {
    let mut desk = Desk::new();
    let (old, new) = (desk.home(), desk.beside("elsewhere"));
    fs::create_dir(&new).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/moves/claude-code.txt");
    let list = fs::read_to_string(list).unwrap();
    let list = list.replace("/Users/a", &text(&old)).replace("-Users-a", &encoded(&old));
    fixture::build("claude-code", &list, &old);
    desk.set("AGENT_BACKUP_STATE_DIR", &text(&desk.beside("state")));
    desk.set("AGENT_BACKUP_REPO", &text(&desk.beside("repository")));
    desk.ok(&["init"]);
    desk.ok(&["push", "claude-code"]);
    desk.set("HOME", &text(&new));
    (desk, old, new)
}

fn encoded(path: &Path) -> String {
    let dash = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    path.to_str().unwrap().chars().map(dash).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_move_is_proposed_shown_done_and_done_once() {
    let (desk, old, new) = moved();
    let map = format!("{}={}", old.display(), new.display());
    // said, and not done by itself
    let ran = desk.ok(&["pull", "-n"]);
    assert!(
        ran.err.contains(&format!("--map {map}")) && ran.err.contains("--map auto"),
        "{}",
        ran.err
    );
    assert_eq!(desk.json(&["pull", "-n"])["proposed_maps"], Value::from(vec![map.clone()]));

    let ran = desk.ok(&["pull", "-n", "--map", "auto"]);
    let (was, is) = (encoded(&old), encoded(&new));
    for line in [
        format!("rename   claude-code/home/projects/{was}-work -> {is}-work\n"),
        format!(
            "rename   claude-code/home/projects/{was}-forgotten -> {is}-forgotten (by its beginning"
        ),
        format!(
            "rewrite  claude-code/dot/.claude.json: keys of projects: {}/work -> {}/work\n",
            old.display(),
            new.display()
        ),
    ] {
        assert!(ran.text().contains(&line), "no '{line}' in\n{}", ran.text());
    }
    assert!(ran.err.contains("bound to its machine: Claude Code: "), "{}", ran.err);
    assert_eq!(names(&new), [".cache"], "a dry run writes no file of an agent");
    assert_eq!(names(&desk.tmp()), Vec::<String>::new(), "and nothing stays of its scratch");

    let told = desk.json(&["pull", "-n", "--map", &map]);
    assert_eq!(told["maps"], Value::from(vec![map.clone()]));
    let done = desk.json(&["pull", "--yes", "--map", "auto"]);
    assert_eq!((&done["renames"], &done["rewrites"]), (&told["renames"], &told["rewrites"]));
    assert_eq!(done["problems"], Value::from(Vec::<Value>::new()));
    let transcript = format!("{is}-work/s1.jsonl");
    let projects = new.join(".claude/projects");
    assert_eq!(
        fs::read(projects.join(transcript)).unwrap(),
        fs::read(old.join(format!(".claude/projects/{was}-work/s1.jsonl"))).unwrap()
    );
    let again = desk.json(&["pull", "--yes", "--map", &map]);
    for key in ["created", "replaced", "metadata"] {
        assert_eq!(again[key], 0, "{key}: {again}");
    }
    assert!(again["rewrites"].is_null(), "{again}");

    let below = desk.beside("below");
    let ran =
        desk.ok(&["pull", "--to", below.to_str().unwrap(), "--map", &map, "--rewrite-transcripts"]);
    assert!(ran.err.contains("moved: 4 directories with a new name, "), "{}", ran.err);
    let s1 = below.join(format!("claude-code/home/projects/{is}-work/s1.jsonl"));
    let text = fs::read_to_string(s1).unwrap();
    assert!(text.contains(&format!("\"cwd\":\"{}/work/src\"", new.display())), "{text}");
}

#[test]
fn maps_that_make_no_sense_are_refused_before_anything_happens() {
    let (desk, ..) = moved();
    for (map, words) in [
        ("", "no '='"),
        ("/a=", "NEW is empty"),
        ("a/b=/c", "OLD is not absolute"),
        ("/a/../b=/c", "'..'"),
        ("/=/c", "root of a file system"),
    ] {
        desk.fails(2, "usage", &["pull", "--yes", "--map", map], &[words]);
    }
    let two = ["pull", "--yes", "--map", "/a=/b", "--map", "/a=/c"];
    desk.fails(2, "usage", &two, &["sends the same directory elsewhere"]);
    assert_eq!(desk.run(&["pull", "--yes", "--rewrite-transcripts"]).code, 2);
    assert!(!desk.beside("elsewhere").join(".claude").exists());
}
