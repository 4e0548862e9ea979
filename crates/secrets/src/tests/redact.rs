//! What stands in place of a secret, and what JSON it leaves.

use crate::tests::{All, KEY, redact_pieces, redact_under, scan};
use crate::{Form, Keys, Redactor, Rules};

fn token() -> String {
    ["ghp", "_0aZ9bY8cX7dW6eV5fU4gT3hS2iR1jQ0kP9lO"].concat()
}

fn redact(form: Form, text: &str) -> String {
    String::from_utf8(redact_pieces(Rules::pinned(), "a.jsonl", form, &[text.as_bytes()]).0)
        .unwrap()
}

#[test]
fn the_mark_depends_on_the_bytes_and_the_key_alone() {
    let text = format!("export T={}\n", token());
    let once = redact(Form::Text, &text);
    assert!(once.starts_with("export T=[REDACTED:github-pat:"), "{once}");
    assert!(once.ends_with("]\n"));
    assert_eq!(
        redact(Form::Text, &format!("# more before\n{text}")),
        format!("# more before\n{once}")
    );
    let text = text.as_bytes();
    let (other, _) = redact_under(&[8; 32], Rules::pinned(), "a.jsonl", Form::Text, &[text]);
    assert_ne!(other, once.as_bytes());
    assert_eq!(redact(Form::Text, &once), once);
}

#[test]
fn a_number_that_is_a_secret_becomes_a_string() {
    let text = "{\"asana\": 1234567890123456 }\n{\"n\":1}\n";
    let out = redact(Form::Json, text);
    let first: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert!(first["asana"].as_str().unwrap().starts_with("[REDACTED:asana-client-id:"), "{out}");
    assert_eq!(out.lines().nth(1), Some("{\"n\":1}"));
}

#[test]
fn a_secret_that_runs_from_string_to_string_leaves_the_signs_between_them() {
    // the password, by the rule's pattern, is `x"y":"z` with its quotes
    let text = "[\"curl -u \", \"abcd:efgh\", \"curl --user bob:\",\"hunter22\" ]\n";
    let out = redact(Form::Json, text);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value.as_array().unwrap().len(), 4, "{out}");
}

#[test]
fn what_is_only_reported_stays() {
    let jwt = [
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
        ".eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIn0",
        ".SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
    ];
    let text = format!("bearer {}\n", jwt.concat());
    let found = scan(Rules::pinned(), "a.jsonl", text.as_bytes());
    assert_eq!(found.iter().map(|finding| finding.rule).collect::<Vec<_>>(), ["jwt"]);
    assert!(found[0].report_only);
    assert_eq!(redact(Form::Text, &text), text);
}

#[test]
fn nothing_that_is_printed_holds_the_secret() {
    let text = format!("export T={}\n", token());
    let found = scan(Rules::pinned(), "a.jsonl", text.as_bytes());
    assert!(!format!("{found:?}").contains(&token()[4..]));
    let keys = Keys { findings: &KEY, marks: &KEY };
    let mut redactor = Redactor::new(Rules::pinned(), "a.jsonl", Form::Text, keys);
    redactor.feed(text.as_bytes(), &mut Vec::new(), &mut All::default());
    let shown = format!("{redactor:?}");
    assert!(!shown.contains(&token()[4..]) && !shown.contains("7, 7, 7"), "{shown}");
}

#[test]
fn the_same_secret_has_one_fingerprint_and_another_rule_another() {
    let found = |text: String| scan(Rules::pinned(), "a.jsonl", text.as_bytes());
    let plain = found(format!("{}\n", token()));
    let quoted = found(format!("{{\"a\":\"\\n{}\\n\"}}", token()));
    assert_eq!(plain[0].fingerprint(), quoted[0].fingerprint());
    let other = found(format!("{}\n", token().replace("0aZ", "1bY")));
    assert_ne!(plain[0].fingerprint(), other[0].fingerprint());
}

#[test]
fn what_is_marked_already_stays_as_it_is() {
    let text = format!("curl -u bob:{} https://example.com\n", "hunter22hunter");
    let once = redact(Form::Text, &text);
    assert!(once.starts_with("curl -u [REDACTED:curl-auth-user:"), "{once}");
    assert_eq!(redact(Form::Text, &once), once);
    let json = format!("{{\"a\":\"{}\"}}\n", once.trim_end());
    assert_eq!(redact(Form::Json, &json), json);
}

/// A file that is only called JSON, or a comment in one: it need not stay JSON, and nothing may stay.
#[test]
fn text_that_is_called_json_keeps_no_part_of_a_secret() {
    for text in [
        format!("// T=x-{}\n", token()),
        format!("{{ // {}\n}}\n", token()),
        format!("[info] -{}-\n", token()),
        format!("don't say \"{}\n", token()),
        format!("key: {}\n", token()),
    ] {
        let out = redact(Form::Json, &text);
        assert!(out.contains("[REDACTED:github-pat:"), "{out}");
        for part in token().as_bytes().windows(8) {
            let part = std::str::from_utf8(part).unwrap();
            assert!(!out.contains(part), "{out} of {text}");
        }
    }
}
