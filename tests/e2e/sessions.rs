//! One who looks for a conversation that the agent deleted: finds it, reads it, has it back.

use std::fs;

use crate::agents::fixture;
use crate::desk::Desk;

const ID: &str = "0b8f2c1e-1111-4222-8333-444455556666";

fn desk() -> Desk {
    let desk = Desk::new();
    let (_, list) = fixture::lists().into_iter().find(|(of, _)| of == "claude-code").unwrap();
    fixture::build("claude-code", &list, &desk.home());
    desk
}

#[test]
fn a_conversation_that_the_agent_deleted_is_found_read_and_had_back() {
    let desk = desk();
    let projects = desk.home().join(".claude/projects/-home-a-work");
    let transcript = projects.join(format!("{ID}.jsonl"));
    let mut text = fs::read_to_string(&transcript).unwrap();
    text += "{\"type\":\"user\",\"message\":{\"role\":\"user\",\"content\":\"red \\u001b[31m\\u202e text\"},\"timestamp\":\"2026-10-31T10:01:00Z\"}\n";
    fs::write(&transcript, &text).unwrap();
    desk.ok(&["push"]);
    fs::remove_file(&transcript).unwrap();
    fs::write(desk.home().join(".claude/history.jsonl"), "{\"sessionId\":\"other\"}\n").unwrap();
    desk.ok(&["push"]);

    let list = desk.ok(&["sessions", "BUILD"]);
    let row = list.text().lines().find(|line| line.contains(ID)).unwrap().to_owned();
    assert!(row.contains("gone") && row.contains("Fix the build"), "{row}");
    assert!(row.contains("/home/a/work"), "{row}");
    assert!(!list.text().contains("write the docs"), "the text narrows it down");
    assert!(desk.ok(&["sessions", "--gone"]).text().contains(ID));
    assert!(!desk.ok(&["sessions", "--agent", "codex"]).text().contains(ID));
    assert!(!desk.ok(&["sessions", "--since", "2026-11-01"]).text().contains(ID));
    let below = ["sessions", "--project", "/home/a"];
    assert!(desk.ok(&below).text().contains(ID));
    assert!(!desk.ok(&["sessions", "--project", "/home/a/wor"]).text().contains(ID));
    let document = desk.json(&["sessions"]);
    let all = document["sessions"].as_array().unwrap();
    let one = all.iter().find(|one| one["id"] == ID).unwrap();
    assert_eq!((&one["here"], &one["last"]), (&false.into(), &"2026-10-31T10:01:00Z".into()));

    let shown = desk.ok(&["sessions", "show", "0b8f2c1e"]);
    let told = shown.text();
    for line in ["== user", "fix the build", "(thought) cargo first", "<- error: no such file"] {
        assert!(told.lines().any(|one| one.starts_with(line)), "{line}: {told}");
    }
    assert!(told.contains(r#"-> Bash {"command":"cargo check"}"#), "{told}");
    assert!(told.contains("red \\x1b[31m\\u{202e} text") && !told.contains('\u{1b}'), "{told}");
    let document = desk.json(&["sessions", "show", "0b8f2c1e"]);
    assert_eq!(document["records"].as_array().unwrap().len(), 7);
    assert_eq!(document["session"]["id"], ID);

    let dry = desk.ok(&["pull", "--session", "0b8f2c1e", "--dry-run"]);
    assert!(
        dry.text().contains("merge    claude-code/home/history.jsonl (1 entry)"),
        "{}",
        dry.text()
    );
    assert!(!transcript.exists());
    desk.ok(&["pull", "--session", "0b8f2c1e"]);
    assert_eq!(fs::read_to_string(&transcript).unwrap(), text);
    let history = fs::read_to_string(desk.home().join(".claude/history.jsonl")).unwrap();
    assert!(
        history.starts_with("{\"sessionId\":\"other\"}\n") && history.contains(ID),
        "{history}"
    );
    // a second time there is nothing to do
    let again = desk.json(&["pull", "--session", "0b8f2c1e"]);
    assert_eq!(again["catalogues"].as_array().unwrap().len(), 0);
    assert_eq!((&again["created"], &again["replaced"]), (&0.into(), &0.into()));
    assert_eq!(again["sessions"].as_array().unwrap().len(), 2, "its fork comes along");
    assert_eq!(fs::read_to_string(desk.home().join(".claude/history.jsonl")).unwrap(), history);

    assert_eq!(desk.run(&["sessions", "show", "ffff0000"]).code, 1);
    assert_eq!(desk.run(&["pull", "--session", "ffff0000"]).code, 1);
    assert_eq!(desk.run(&["pull", "latest~1", "--session", "0b8f2c1e"]).code, 2);
}
