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
