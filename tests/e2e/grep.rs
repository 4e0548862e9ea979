//! Text in all history: found once, shown safely, with an exit code as grep has it.

use std::fs;

use serde_json::Value;

use crate::desk::Desk;

#[test]
fn a_line_is_found_in_every_snapshot_that_has_it_and_cannot_drive_the_terminal() {
    let desk = Desk::new();
    let dir = desk.beside("notes");
    fs::create_dir_all(&dir).unwrap();
    let path = format!("notes={}", dir.display());
    let file = dir.join("a.md");
    let long = format!("{} the needle \x1b[31m{}", "x".repeat(5000), "y".repeat(5000));
    fs::write(&file, format!("one\n{long}\n")).unwrap();
    desk.ok(&["push", "--path", &path]);
    fs::write(&file, format!("zero\none\n{long}\nNeedles")).unwrap();
    desk.ok(&["push", "--path", &path]);
    fs::remove_file(&file).unwrap();
    fs::write(dir.join("b.md"), "a needle\n").unwrap();
    desk.ok(&["push", "--path", &path]);

    let run = desk.ok(&["grep", "needle"]);
    let lines: Vec<&str> = run.text().lines().collect();
    let [a, b] = lines.as_slice() else { panic!("{run:?}") };
    assert!(a.starts_with("notes/a.md:3: ...x"), "{a}");
    assert!(a.contains(" the needle \\x1b[31my") && a.contains("y...   in "), "{a}");
    assert!(a.ends_with("(2 snapshots)") && a.len() < 400, "{a}");
    assert!(b.starts_with("notes/b.md:1: a needle   in "), "{b}");
    assert!(run.err.contains("2 lines in 2 files of 2 files in 3 snapshots"), "{run:?}");

    let run = desk.ok(&["grep", "-i", "-w", "-e", "needles", "--snapshot", "latest~1"]);
    assert_eq!(run.text(), "notes/a.md:4: Needles\n");
    let run = desk.ok(&["grep", "-il", "NEEDLE", "--latest"]);
    assert_eq!(run.text(), "notes/b.md\n");
    let run = desk.ok(&["grep", "-c", "-F", "e", "--path", "a.md"]);
    assert!(run.text().starts_with("notes/a.md:4   in "), "{run:?}");

    let document = desk.json(&["grep", "needle"]);
    let line = &document["files"][0]["lines"][0];
    assert_eq!((&line["line"], &line["match_length"]), (&Value::from(3), &Value::from(6)));
    assert_eq!(line["length"], long.len());
    assert_eq!(line["snapshots"].as_array().unwrap().len(), 2);
    assert_eq!(document["searched"]["snapshots"], 3);

    let run = desk.ends(1, &["grep", "haystack"]);
    assert!(run.text().is_empty() && run.err.contains("0 lines in 0 files"), "{run:?}");
    let run = desk.ends(2, &["grep", "(needle"]);
    assert!(run.err.contains("pattern") && run.err.contains("-F"), "{run:?}");
    desk.ends(2, &["grep"]);
    desk.ends(1, &["grep", "needle", "--agent", "codex"]);
}

#[test]
fn lines_around_a_match_are_shown_once_and_what_is_apart_is_parted() {
    let desk = Desk::new();
    let dir = desk.beside("notes");
    fs::create_dir_all(&dir).unwrap();
    let path = format!("notes={}", dir.display());
    let numbers: Vec<String> = (1..=20).map(|n| format!("line {n}")).collect();
    fs::write(dir.join("a.md"), numbers.join("\n")).unwrap();
    desk.ok(&["push", "--path", &path]);
    let shown = |args: &[&str]| -> Vec<String> {
        let run = desk.ok(&[&["grep", "line (3|5|6|12)$"], args].concat());
        let cut = |line: &str| line.strip_prefix("notes/a.md").unwrap_or(line).to_owned();
        run.text().lines().map(cut).collect()
    };
    assert_eq!(
        shown(&["-C", "1"]),
        [
            "-2- line 2",
            ":3: line 3",
            "-4- line 4",
            ":5: line 5",
            ":6: line 6",
            "-7- line 7",
            "--",
            "-11- line 11",
            ":12: line 12",
            "-13- line 13"
        ]
    );
    assert_eq!(
        shown(&["-A", "1"]),
        [
            ":3: line 3",
            "-4- line 4",
            ":5: line 5",
            ":6: line 6",
            "-7- line 7",
            "--",
            ":12: line 12",
            "-13- line 13"
        ]
    );
    assert_eq!(shown(&["-B", "3"])[..4], ["-1- line 1", "-2- line 2", ":3: line 3", "-4- line 4"]);
    let document = desk.json(&["grep", "line 12", "-B", "2", "-A", "1"]);
    let line = &document["files"][0]["lines"][0];
    assert_eq!(line["before"][1]["text"], "line 11");
    assert_eq!(line["after"][0], serde_json::json!({"text": "line 13", "length": 7}));
    desk.ends(2, &["grep", "line", "-C", "1001"]);
}

#[test]
fn what_is_found_is_told_by_session_those_used_last_first() {
    let desk = Desk::new();
    let projects = desk.home().join(".claude/projects");
    let write = |dir: &str, name: &str, day: u32, text: &str| {
        fs::create_dir_all(projects.join(dir)).unwrap();
        let one = serde_json::json!({
            "type": "user", "cwd": "/w", "timestamp": format!("2026-11-{day:02}T00:00:00Z"),
            "message": {"role": "user", "content": text},
        });
        fs::write(projects.join(dir).join(name), format!("{one}\n")).unwrap();
    };
    write("-a", "aaaaaaaa-0000-4000-8000-000000000001.jsonl", 1, "plant a needle");
    write("-b", "bbbbbbbb-0000-4000-8000-000000000002.jsonl", 9, "find the needle");
    fs::write(desk.home().join(".claude/CLAUDE.md"), "no needle here\n").unwrap();
    desk.ok(&["push"]);
    let run = desk.ok(&["grep", "needle", "--sessions"]);
    let heads: Vec<&str> =
        run.text().lines().filter(|line| !line.starts_with("claude-code/")).collect();
    assert_eq!(
        heads,
        [
            "session bbbbbbbb-0000-4000-8000-000000000002 of claude-code in /w: find the needle",
            "session aaaaaaaa-0000-4000-8000-000000000001 of claude-code in /w: plant a needle",
            "no session:"
        ]
    );
    assert_eq!(run.text().lines().count(), 6, "{run:?}");
    let document = desk.json(&["grep", "needle", "--sessions"]);
    assert_eq!(document["files"][1]["session"]["title"], "plant a needle", "{document}");
    assert_eq!(document["files"][2].get("session"), None, "{document}");
    let plain = desk.json(&["grep", "needle"]);
    assert_eq!(plain["files"][0].get("session"), None, "{plain}");
}
