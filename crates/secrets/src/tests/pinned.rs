//! The pinned rules: all of them are read, all compile, each finds what it should.

use serde::Deserialize;

use crate::rule::Rule;
use crate::tests::sample::{Draws, sample};
use crate::tests::{escaped, range, scan};
use crate::{Finding, Rules};

const TRIES: u64 = 200;
const CASES: &str = include_str!("../../rules/cases.toml");

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

/// Texts are written in pieces, so that no line of the file holds what a host would refuse.
#[derive(Deserialize)]
struct Case {
    rule: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    found: Vec<Vec<String>>,
    #[serde(default)]
    not_found: Vec<Vec<String>>,
}

fn has(found: &[Finding<'_>], rule: &str) -> bool {
    found.iter().any(|finding| finding.rule == rule)
}

#[test]
fn every_pinned_rule_is_read_and_compiles() {
    let published = include_str!("../../rules/gitleaks.toml");
    let newer = include_str!("../../rules/gitleaks-newer.toml");
    let ours = include_str!("../../rules/ours.toml");
    let count = |text: &str| text.lines().filter(|line| *line == "[[rules]]").count();
    let rules = Rules::pinned();
    // but for the one that is dropped, the one that looks at paths only, and three that are replaced
    assert_eq!(rules.ids().count(), count(published) + count(newer) + count(ours) - 5);
    assert!(rules.ids().count() > 200);
    rules.compile().unwrap();
    let unused = |id: &&str| !rules.ids().any(|other| other == *id);
    let named = ["private-key", "curl-auth-header", "curl-auth-user", "kubernetes-secret-yaml"];
    assert_eq!(
        named.iter().find(|id| unused(id)),
        None,
        "ours.toml names a rule that is not there"
    );
    for unbounded in rules.rules.iter().filter(|rule| rule.unbounded) {
        assert!(rules.longest_bytes(&unbounded.id).unwrap() >= 1024, "{}", unbounded.id);
    }
}

#[test]
fn the_published_file_is_the_one_that_its_page_names() {
    let hash = blake3::hash(include_bytes!("../../rules/gitleaks.toml"));
    let page = include_str!("../../rules/README.md");
    assert!(page.contains(&format!("`{hash}`")), "rules/README.md should name {hash}");
}

/// A path that the rule looks into.
fn path_for(rule: &Rule) -> String {
    let Some(pattern) = &rule.path else { return "a/session.jsonl".to_owned() };
    let mut draws = Draws(1);
    let path = (0..TRIES).map(|_| {
        let mut path = Vec::new();
        sample(pattern.tree(), &mut draws, &mut path);
        format!("some/name{}", String::from_utf8(path).unwrap())
    });
    path.into_iter().find(|path| rule.is_for(path)).unwrap()
}

/// Text with a secret of the rule, drawn from its pattern, and its keyword.
fn positive(rules: &Rules, rule: &Rule, keyword: &str) -> (String, Vec<u8>) {
    let path = path_for(rule);
    for seed in 0..TRIES {
        let mut text = format!("see {keyword} here:\n").into_bytes();
        if rule.free {
            text = b"see here:\n".to_vec();
        }
        sample(rule.pattern.tree(), &mut Draws(seed), &mut text);
        text.extend_from_slice(b"\nand more\n");
        if has(&scan(rules, &path, &text), &rule.id) {
            return (path, text);
        }
    }
    panic!("{}: no text was found that it matches", rule.id);
}

/// The keyword of each rule, from the files.
fn keywords() -> Vec<(String, Vec<String>)> {
    let texts = [
        include_str!("../../rules/gitleaks.toml"),
        include_str!("../../rules/gitleaks-newer.toml"),
        include_str!("../../rules/ours.toml"),
    ];
    let tables = texts.iter().flat_map(|text| {
        let file: toml::Table = toml::from_str(text).unwrap();
        file["rules"].as_array().unwrap().clone()
    });
    let words = |table: toml::Value| {
        let words = table.get("keywords").and_then(|words| words.as_array().cloned());
        let words = words.unwrap_or_default().into_iter();
        let words = words.map(|word| word.as_str().unwrap().to_lowercase()).collect();
        (table["id"].as_str().unwrap().to_owned(), words)
    };
    tables.map(words).collect()
}

#[test]
fn each_rule_finds_what_its_pattern_means_and_nothing_without_keyword_or_length() {
    let (rules, keywords) = (Rules::pinned(), keywords());
    for rule in &rules.rules {
        let (_, words) = keywords.iter().find(|(id, _)| *id == rule.id).unwrap();
        let (path, text) = positive(rules, rule, &words[0]);

        let mut bare = text.clone();
        for word in words {
            let starts: Vec<usize> = bare
                .windows(word.len())
                .enumerate()
                .filter(|(_, part)| part.eq_ignore_ascii_case(word.as_bytes()))
                .map(|(at, _)| at)
                .collect();
            for at in starts {
                bare[at..at + word.len()].fill(b'!');
            }
        }
        assert!(!has(&scan(rules, &path, &bare), &rule.id), "{}: without keyword", rule.id);

        let found = scan(rules, &path, &text);
        let mut short = text.clone();
        for finding in found.iter().rev().filter(|finding| finding.rule == rule.id) {
            short.drain(range(finding).start + 1..range(finding).end);
        }
        assert!(!has(&scan(rules, &path, &short), &rule.id), "{}: too short", rule.id);
    }
}

#[test]
fn each_rule_finds_its_secrets_in_json_in_json() {
    let (rules, keywords) = (Rules::pinned(), keywords());
    for rule in &rules.rules {
        let (_, words) = keywords.iter().find(|(id, _)| *id == rule.id).unwrap();
        let (path, text) = positive(rules, rule, &words[0]);
        let Ok(text) = String::from_utf8(text) else { continue };
        if text.contains('\\') {
            continue; // what is an escape already reads differently when it is escaped again
        }
        let plain: Vec<_> = scan(rules, &path, text.as_bytes());
        for depth in 1..4 {
            let line = format!("{{\"text\":\"{}\"}}\n", escaped(&text, depth));
            let found = scan(rules, &path, line.as_bytes());
            let of = |found: &[Finding<'_>]| {
                let mine = found.iter().filter(|finding| finding.rule == rule.id);
                mine.map(Finding::fingerprint).collect::<Vec<_>>()
            };
            assert_eq!(of(&found), of(&plain), "{} at depth {depth}", rule.id);
        }
    }
}

#[test]
fn the_cases_that_upstream_gives_are_found_and_not_found() {
    let cases: Cases = toml::from_str(CASES).unwrap();
    let rules = Rules::pinned();
    let mut wrong = Vec::new();
    for case in &cases.case {
        assert!(rules.description(&case.rule).is_some(), "{} is no rule", case.rule);
        let texts = case.found.iter().map(|text| (text, true));
        for (text, expected) in texts.chain(case.not_found.iter().map(|text| (text, false))) {
            let text = text.concat();
            if has(&scan(rules, &case.path, text.as_bytes()), &case.rule) != expected {
                wrong.push(format!("{}: found should be {expected}: {text:?}", case.rule));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_private_key_in_a_transcript_is_found_whole() {
    let body = "MIIEpAIBAAKCAQEAq3x9Zl0c5v8b1kQwErTyUiOpAsDfGhJkLzXcVbNm12345678\n".repeat(50);
    let key = ["-----BEGIN RSA PRIV", "ATE KEY-----\n", &body, "-----END RSA PRIV", "ATE KEY-----"];
    for depth in 1..4 {
        let line = format!("{{\"a\":\"cat id_rsa\\n{}\\n\"}}\n", escaped(&key.concat(), depth));
        let found = scan(Rules::pinned(), "s.jsonl", line.as_bytes());
        let [finding] = found.as_slice() else { panic!("one: {found:?}") };
        assert_eq!(finding.rule, "private-key");
        assert!(line[range(finding)].ends_with("KEY-----"));
        assert!(!finding.cut);
    }
}

#[test]
fn a_file_that_is_a_secret_by_its_name_is_told_by_its_name() {
    let rules = Rules::pinned();
    assert_eq!(rules.of_path("certs/me.p12").collect::<Vec<_>>(), ["pkcs12-file"]);
    assert_eq!(rules.of_path("certs/me.pem").count(), 0);
    assert!(rules.allows_path("web/node_modules/x/index.js"));
    assert!(!rules.allows_path("projects/x/session.jsonl"));
}
