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
        format!("rename   claude-code/home/projects/{was}-code -> {is}-code\n"),
        format!(
            "rename   claude-code/home/projects/{was}-forgotten -> {is}-forgotten (by its beginning"
        ),
        format!(
            "rewrite  claude-code/dot/.claude.json: keys of projects: {}/code -> {}/code\n",
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
    let transcript = format!("{is}-code/s1.jsonl");
    let projects = new.join(".claude/projects");
    assert_eq!(
        fs::read(projects.join(transcript)).unwrap(),
        fs::read(old.join(format!(".claude/projects/{was}-code/s1.jsonl"))).unwrap()
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
    let s1 = below.join(format!("claude-code/home/projects/{is}-code/s1.jsonl"));
    let text = fs::read_to_string(s1).unwrap();
    assert!(text.contains(&format!("\"cwd\":\"{}/code/src\"", new.display())), "{text}");
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

#[test]
fn a_second_move_over_what_changed_saves_it_first_and_one_can_go_back() {
    let (desk, old, new) = moved();
    let map = format!("{}={}", old.display(), new.display());
    desk.ok(&["pull", "--yes", "--map", &map]);
    let work = new.join(format!(".claude/projects/{}-code", encoded(&new)));
    let files = [work.join("s1.jsonl"), new.join(".claude/history.jsonl")];
    let first = files.each_ref().map(|path| fs::read(path).unwrap());
    // the agent goes on in the new place
    for path in &files {
        let mut text = fs::read_to_string(path).unwrap();
        text += "{\"sessionId\":\"later\"}\n";
        fs::write(path, text).unwrap();
    }
    fs::write(work.join("mine.jsonl"), "{}\n").unwrap();
    let mine = files.each_ref().map(|path| fs::read(path).unwrap());

    let again = desk.json(&["pull", "--yes", "--map", &map]);
    assert_eq!((&again["replaced"], &again["created"]), (&2.into(), &0.into()), "{again}");
    assert_eq!(files.each_ref().map(|path| fs::read(path).unwrap()), first);
    assert!(work.join("mine.jsonl").exists(), "what the snapshot does not have stays");

    // what is saved has the new names and paths: it goes back without a map
    let saved = again["safety_snapshot"].as_str().unwrap();
    let held = desk.ok(&["ls", "-R", saved]);
    let was = encoded(&old);
    assert!(!held.text().contains(&format!("{was}-code/")), "{}", held.text());
    let back = desk.json(&["pull", saved, "--yes"]);
    assert_eq!((&back["replaced"], &back["proposed_maps"]), (&2.into(), &Value::Null), "{back}");
    assert_eq!(files.each_ref().map(|path| fs::read(path).unwrap()), mine);
}

#[test]
fn what_its_agent_deleted_at_the_old_home_comes_back_at_the_new_one() {
    let (mut desk, old, new) = moved();
    let map = format!("{}={}", old.display(), new.display());
    let (was, is) = (encoded(&old), encoded(&new));
    let stored = old.join(format!(".claude/projects/{was}-code/s1.jsonl"));
    let bytes = fs::read(&stored).unwrap();
    fs::remove_file(&stored).unwrap();
    desk.set("HOME", old.to_str().unwrap());
    desk.ok(&["push", "claude-code"]);
    desk.set("HOME", new.to_str().unwrap());
    let pull = ["pull", "--gone", "--yes", "--map", &map];

    let told = desk.json(&[&pull[..], &["-n"]].concat());
    let done = desk.json(&pull);
    assert_eq!(told["renames"], done["renames"]);
    assert_eq!(done["renames"][0]["name"], format!("{is}-code"), "{done}");
    assert_eq!(done["renames"][0]["guess"], false, "the transcript tells its path: {done}");
    let projects = new.join(".claude/projects");
    assert_eq!(names(&projects), [format!("{is}-code")], "only what is gone");
    let transcript = projects.join(format!("{is}-code/s1.jsonl"));
    assert_eq!(fs::read(&transcript).unwrap(), bytes);
    // a file of the same name that is there is newer
    fs::write(&transcript, "newer").unwrap();
    let done = desk.json(&pull);
    assert_eq!((&done["replaced"], &done["safety_snapshot"]), (&0.into(), &Value::Null));
    assert_eq!(fs::read(&transcript).unwrap(), b"newer");
    // unless it is told to go, and then it is saved
    let done = desk.json(&[&pull[..], &["--overwrite", "always"]].concat());
    assert_eq!(fs::read(&transcript).unwrap(), bytes);
    let saved = done["safety_snapshot"].as_str().unwrap();
    let path = format!("{saved}:claude-code/home/projects/{is}-code/s1.jsonl");
    assert_eq!(desk.ok(&["cat", &path]).out, b"newer");
}
