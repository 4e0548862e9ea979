//! However a text is fed, the same is found and the same comes out.

use proptest::prelude::*;

use crate::tests::sample::{Draws, filler, sample};
use crate::tests::{cut, escaped, redact_pieces, scan_pieces};
use crate::{Form, Rules, Scanner};

/// Lines of JSON with secrets of any rules in them, escaped once or twice.
pub(super) fn transcript(seed: u64, lines: usize) -> Vec<u8> {
    let (rules, mut draws) = (Rules::pinned(), Draws(seed));
    let mut text = String::new();
    for _ in 0..lines {
        let gap = draws.below(3000);
        let mut body = filler(&mut draws, gap);
        for _ in 0..draws.below(3) {
            let rule = &rules.rules[draws.below(rules.rules.len())];
            let mut secret = Vec::new();
            sample(rule.pattern.tree(), &mut draws, &mut secret);
            body.push_str(&String::from_utf8_lossy(&secret));
            body.push(b"\n ;'"[draws.below(4)].into());
        }
        let depth = 1 + draws.below(2);
        let body = escaped(&body, depth);
        text.extend(["{\"type\":\"user\",\"text\":\"", body.as_str(), "\"}\n"]);
    }
    text.into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_split_changes_nothing(seed: u64, lines in 1_usize..40, cuts in prop::collection::vec(any::<usize>(), 0..40)) {
        let rules = Rules::pinned();
        let text = transcript(seed, lines);
        let pieces = cut(&text, &cuts);
        let (whole, _) = scan_pieces(rules, "a.jsonl", &[&text]);
        let (split, _) = scan_pieces(rules, "a.jsonl", &pieces);
        prop_assert_eq!(&whole, &split);
        for form in [Form::Json, Form::Text] {
            let (out, heard) = redact_pieces(rules, "a.jsonl", form, &[&text]);
            prop_assert_eq!(heard.found, whole.len());
            let (of_pieces, _) = redact_pieces(rules, "a.jsonl", form, &pieces);
            prop_assert!(out == of_pieces, "the output depends on the split");
        }
    }

    #[test]
    fn redacted_transcripts_are_json_and_hold_nothing_more(seed: u64, lines in 1_usize..20) {
        let rules = Rules::pinned();
        let text = transcript(seed, lines);
        let (out, _) = redact_pieces(rules, "a.jsonl", Form::Json, &[&text]);
        for line in String::from_utf8(out.clone()).unwrap().lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
        let (left, _) = scan_pieces(rules, "a.jsonl", &[&out]);
        let left: Vec<_> = left.iter().filter(|finding| !finding.report_only).collect();
        prop_assert!(left.is_empty(), "{:?}", left);
    }
}

#[test]
fn a_text_fed_byte_by_byte_is_the_same_text() {
    let rules = Rules::pinned();
    let text = transcript(11, 30);
    let bytes: Vec<&[u8]> = text.chunks(1).collect();
    let (whole, work) = scan_pieces(rules, "a.jsonl", &[&text]);
    assert!(!whole.is_empty());
    assert_eq!(scan_pieces(rules, "a.jsonl", &bytes).0, whole);
    assert!(work.bytes <= text.len() as u64, "each byte goes through the automaton once");
}

#[test]
fn a_part_that_begins_before_the_new_bytes_hides_nothing_and_knows_no_line() {
    let rules = Rules::pinned();
    let text = transcript(5, 400);
    let (whole, _) = scan_pieces(rules, "a.jsonl", &[&text]);
    let start = text.len() / 2;
    let from = start - usize::try_from(rules.overlap_bytes()).unwrap();
    let mut part = Vec::new();
    let mut scanner = Scanner::new(rules, "a.jsonl", &super::KEY);
    scanner.feed(&text[from..], from as u64, &mut |finding| part.push(finding));
    scanner.finish(&mut |finding| part.push(finding));
    assert!(part.iter().all(|finding| finding.line.is_none()));
    let new = |found: &[crate::Finding<'_>]| -> Vec<_> {
        let new = found.iter().filter(|finding| finding.range.end > start as u64);
        new.map(|finding| (finding.rule.to_owned(), finding.range.clone())).collect()
    };
    assert!(!new(&whole).is_empty());
    assert_eq!(new(&part), new(&whole));
}

#[test]
fn lines_are_counted_in_the_file_not_in_its_strings() {
    let rules = Rules::pinned();
    let token = ["ghp", "_0aZ9bY8cX7dW6eV5fU4gT3hS2iR1jQ0kP9lO"].concat();
    let text = format!("{{\"a\":\"x\\ny\\nz\"}}\n{{}}\n{{\"b\":\"{token}\"}}\n");
    let (found, _) = scan_pieces(rules, "a.jsonl", &[text.as_bytes()]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].line, Some(3));
    let long = format!("{}{token}\n", "{}\n".repeat(200_000));
    let (found, _) = scan_pieces(rules, "a.jsonl", &[long.as_bytes()]);
    assert_eq!(found[0].line, Some(200_001));
}
