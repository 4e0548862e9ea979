//! What looks like a secret is told, where it is and never what it is.

use std::fs;

use serde_json::Value;

use crate::desk::Desk;

/// Put together here, so that no scanner takes this file for a leak.
fn token(end: &str) -> String {
    format!("ghp_{}{end}", "wJ7dQ2xLrT5vN8yB1mKzC4sF6hG9pE3a")
}

fn line(token: &str) -> String {
    format!("{{\"role\":\"user\",\"text\":\"use {token} for it\"}}\n")
}

#[test]
fn a_push_warns_of_secrets_in_what_is_new_and_only_in_that() {
    let desk = Desk::new();
    let file = desk.beside("notes").join("a.jsonl");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let first = format!("{{}}\n{}", line(&token("UqRo")));
    fs::write(&file, &first).unwrap();
    let path = format!("notes={}", desk.beside("notes").display());

    let run = desk.ok(&["push", "--path", &path]);
    assert!(run.err.contains("what looks like 1 secret is in the new parts of 1 file"), "{run:?}");
    assert!(run.err.contains("notes/a.jsonl: 1 github-pat"), "{run:?}");
    assert!(!run.err.contains("ghp_") && !run.text().contains("ghp_"), "{run:?}");

    // nothing new, nothing looked at
    let document = desk.json(&["push", "--path", &path, "--always"]);
    assert_eq!(document["secrets"], Value::Array(Vec::new()));

    // one more: the old one is not told again
    fs::write(&file, format!("{first}{}", line(&token("TmXe")))).unwrap();
    let document = desk.json(&["push", "--path", &path]);
    assert_eq!(document["secrets"][0]["count"], 1, "{document}");
    assert_eq!(document["secrets"][0]["rule"], "github-pat", "{document}");

    fs::write(&file, format!("{first}{}", line(&token("ZzYb")))).unwrap();
    let run = desk.ok(&["push", "--path", &path, "--scan-secrets", "none"]);
    assert!(!run.err.contains("secret"), "{run:?}");
}

/// Every push reads the list: also the one that a restore makes first.
#[test]
fn what_is_on_the_list_is_not_told_by_the_push_before_a_restore() {
    let desk = Desk::new();
    let file = desk.home().join(".claude/projects/p/s.jsonl");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "{}\n").unwrap();
    desk.ok(&["push"]);
    let first = desk.snapshots().remove(0);
    let config = desk.home().join(".config/agent-backup");
    fs::create_dir_all(&config).unwrap();
    for (list, told) in [("", true), ("rule:github-pat\n", false)] {
        let end = if told { "UqRo" } else { "TmXe" };
        fs::write(config.join("secrets-ignore"), list).unwrap();
        fs::write(&file, line(&token(end))).unwrap();
        let run = desk.ok(&["pull", &first, "--yes", "--while-running"]);
        assert!(run.err.contains("what is there now is in snapshot"), "{run:?}");
        assert_eq!(run.err.contains("what looks like 1 secret"), told, "{run:?}");
    }
}

#[test]
fn scan_shows_every_place_and_no_value() {
    let desk = Desk::new();
    let file = desk.beside("notes").join("a.jsonl");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, format!("{{}}\n{}{{}}\n{}", line(&token("UqRo")), line(&token("TmXe"))))
        .unwrap();
    let path = format!("notes={}", desk.beside("notes").display());
    let run = desk.ends(3, &["scan", "--path", &path]);
    let lines: Vec<&str> = run.text().lines().collect();
    let split: Vec<_> = lines.iter().filter_map(|line| line.split_once("   ")).collect();
    let [(a, first), (b, second)] = split.as_slice() else { panic!("{run:?}") };
    assert_eq!((*a, *b), ("notes/a.jsonl:2: github-pat", "notes/a.jsonl:4: github-pat"));
    assert!(first != second && first.len() == 16, "{run:?}");
    assert!(!run.err.contains("ghp_"), "{run:?}");

    // what was looked at is not told again, here or by a push
    let config = desk.home().join(".config/agent-backup");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("secrets-ignore"), format!("# a test's\n{first}\n")).unwrap();
    let run = desk.ends(3, &["scan", "--path", &path]);
    assert_eq!(run.text(), format!("{b}   {second}\n"));
    assert!(run.err.contains("1 not told"), "{run:?}");
    let run = desk.ok(&["push", "--path", &path]);
    assert!(run.err.contains("notes/a.jsonl: 1 github-pat"), "{run:?}");
    fs::write(config.join("config.toml"), format!("[secrets]\nignore = [\"{second}\"]\n")).unwrap();
    desk.ok(&["scan", "--path", &path]);
    fs::write(config.join("secrets-ignore"), "path:notes/*.jsonl\n").unwrap();
    let document = desk.json(&["scan", "--path", &path]);
    assert_eq!(
        (&document["secrets"], &document["files"]),
        (&serde_json::json!([]), &serde_json::json!(0))
    );
    fs::write(config.join("config.toml"), "").unwrap();
    fs::write(config.join("secrets-ignore"), "rule:github-pat\n").unwrap();
    let document = desk.json(&["scan", "--path", &path]);
    assert_eq!(document["ignored"], 2, "{document}");
    fs::write(config.join("secrets-ignore"), "github-pat\n").unwrap();
    desk.ends(19, &["scan", "--path", &path]);
    fs::remove_file(config.join("secrets-ignore")).unwrap();

    fs::write(&file, "{}\n").unwrap();
    desk.ok(&["scan", "--path", &path]);
    fs::write(desk.beside("rules.toml"), "[[rules]]\nid = 3\n").unwrap();
    let rules = desk.beside("rules.toml").display().to_string();
    desk.ends(19, &["scan", "--path", &path, "--rules", &rules]);
}

/// By the configuration, before a restore, and at a rehearsal: the secret is only where it was.
#[test]
fn redaction_holds_for_every_push_and_a_restore_in_place_brings_the_secret_back() {
    let desk = Desk::new();
    let config = desk.home().join(".config/agent-backup");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("config.toml"), "[push]\nredact_secrets = true\n").unwrap();
    let rel = "projects/-w/0b7c0b3e-7d5c-4d6e-9a3f-2f6f0b1c9d3a.jsonl";
    let file = desk.home().join(".claude").join(rel);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let text = format!("{{}}\n{}", line(&token("UqRo")));
    fs::write(&file, &text).unwrap();

    let run = desk.ok(&["push"]);
    assert!(run.err.contains("marks stand in the place of 1 secret in 1 file"), "{run:?}");
    let stored = |id: &str| {
        let run = desk.ok(&["cat", &format!("{id}:claude-code/home/{rel}")]);
        assert!(!run.text().contains("ghp_"), "{run:?}");
        run.text().to_owned()
    };
    let marked = stored("latest");
    assert!(marked.contains("\"use [REDACTED:github-pat:"), "{marked}");
    desk.ok(&["verify", "--level", "rehearsal"]);
    let found = desk.json(&["grep", "[REDACTED:github-pat:", "-F"]);
    assert!(found.to_string().contains(rel), "{found}");

    // the same secret in one line more: the safety snapshot has marks too, and nothing is lost
    fs::write(&file, format!("{text}{}", line(&token("UqRo")))).unwrap();
    let pulled = desk.json(&["pull", "--agent", "claude-code", "--yes"]);
    assert_eq!(pulled["secrets_kept"], 1, "{pulled}");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    assert_eq!(
        stored(pulled["safety_snapshot"].as_str().unwrap()).matches("[REDACTED:").count(),
        2
    );
    let again = desk.json(&["pull", "--agent", "claude-code", "--yes"]);
    assert_eq!((&again["replaced"], &again["safety_snapshot"]), (&0.into(), &Value::Null));

    // one that no snapshot has stays
    let newer = format!("{text}{}", line(&token("TmXe")));
    fs::write(&file, &newer).unwrap();
    let run = desk.ends(5, &["pull", "--agent", "claude-code", "--yes"]);
    assert!(run.err.contains("secrets that no backup has"), "{run:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), newer);

    // elsewhere it is a mark, and that is said
    let to = desk.beside("out");
    let run = desk.ok(&["pull", "latest", "--to", to.to_str().unwrap()]);
    assert!(run.err.contains("1 secret (github-pat)"), "{run:?}");
    let there = fs::read_to_string(to.join("claude-code/home").join(rel)).unwrap();
    assert_eq!(there, marked);
}

#[test]
fn one_push_can_be_told_to_redact() {
    let desk = Desk::new();
    let file = desk.beside("notes").join("a.md");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, format!("use {} for it\n", token("UqRo"))).unwrap();
    let path = format!("notes={}", desk.beside("notes").display());
    let document = desk.json(&["push", "--path", &path, "--redact-secrets"]);
    assert_eq!(document["secrets_replaced"][0]["count"], 1, "{document}");
    assert_eq!(document["secrets"], Value::Array(Vec::new()), "{document}");
    let run = desk.ok(&["cat", "latest:notes/a.md"]);
    assert!(run.text().starts_with("use [REDACTED:github-pat:"), "{run:?}");
    // without it, what is there is sent as it is, and told
    let run = desk.ok(&["push", "--path", &path]);
    assert!(run.err.contains("notes/a.md: 1 github-pat"), "{run:?}");
}
