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
