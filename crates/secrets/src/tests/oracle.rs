//! The scanner finds what each pattern finds in the whole text.

use regex_automata::Input;
use regex_automata::util::captures::Captures;

use crate::rule::{Hit, Rule};
use crate::tests::sample::{Draws, filler, sample};
use crate::tests::scan;
use crate::{Rules, view::View};

type Place = (String, u64, u64);

/// All secrets of a rule by its pattern alone, in the text with escapes undone.
fn of_whole_text(rules: &Rules, rule: &Rule, raw: &[u8]) -> Vec<Place> {
    let mut view = View::new(0);
    view.push(raw);
    view.end();
    let text = view.bytes();
    let hits = rule.pattern.regex().captures_iter(Input::new(text)).map(|groups: Captures| {
        let matched = groups.get_match().unwrap().span();
        let groups: Vec<_> = (1..groups.group_len()).map(|n| groups.get_group(n)).collect();
        let secret = match rule.secret_group {
            0 => groups.into_iter().flatten().find(|span| !span.is_empty()).or_else(|| {
                // upstream cuts line ends off a whole match
                let mut whole = matched;
                whole.end -= usize::from(text[whole.range()].ends_with(b"\n"));
                whole.start += usize::from(text[whole.range()].starts_with(b"\n"));
                Some(whole)
            }),
            n => groups[n - 1],
        };
        Hit { matched, secret }
    });
    let judged = hits.filter(|hit| rule.judges(text, "a.jsonl", hit, &rules.allow));
    let place = |hit: Hit| {
        let secret = hit.secret.unwrap();
        (rule.id.clone(), view.raw(secret.start), view.raw(secret.end))
    };
    judged.map(place).collect()
}

fn of_scanner(rules: &Rules, raw: &[u8]) -> Vec<Place> {
    let found = scan(rules, "a.jsonl", raw).into_iter();
    found.map(|found| (found.rule.to_owned(), found.range.start, found.range.end)).collect()
}

/// Filler with secrets of a few rules in it, at most about `len` bytes.
fn planted(rules: &Rules, draws: &mut Draws, len: usize) -> Vec<u8> {
    let mut text = Vec::new();
    while text.len() < len {
        let rule = &rules.rules[draws.below(rules.rules.len())];
        let gap = draws.below(len / 4) + 1;
        let mut part = filler(draws, gap).into_bytes();
        sample(rule.pattern.tree(), draws, &mut part);
        if draws.below(3) > 0 {
            part.push(b"\n ;\"'"[draws.below(5)]);
        }
        if text.len() + part.len() > len {
            break;
        }
        text.extend_from_slice(&part);
    }
    text
}

fn compare(rules: &Rules, text: &[u8], which: impl Fn(&Rule) -> bool) -> usize {
    let compared = |id: &str| rules.rules.iter().any(|rule| rule.id == id && which(rule));
    let mut expected: Vec<Place> = rules
        .rules
        .iter()
        .filter(|rule| which(rule) && rule.is_for("a.jsonl"))
        .flat_map(|rule| of_whole_text(rules, rule, text))
        .collect();
    let mut found = of_scanner(rules, text);
    found.retain(|(id, ..)| compared(id));
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(text));
    found.len()
}

#[test]
fn windows_find_what_the_whole_text_holds() {
    let (rules, mut draws) = (Rules::pinned(), Draws(3));
    let mut total = 0;
    for _ in 0..25 {
        let text = planted(rules, &mut draws, 40_000);
        total += compare(rules, &text, |rule| rule.free && !rule.unbounded);
    }
    assert!(total > 30, "{total} findings prove little");
}

#[test]
fn rules_without_a_longest_match_find_all_that_is_no_longer_than_promised() {
    let (rules, mut draws) = (Rules::pinned(), Draws(4));
    let total: usize = (0..150)
        .map(|_| {
            let text = planted(rules, &mut draws, 1000);
            compare(rules, &text, |rule| rule.free)
        })
        .sum();
    assert!(total > 100, "{total} findings prove little");
}

#[test]
fn a_secret_that_only_stands_near_its_keyword_is_found_there_and_not_far_away() {
    let rules = Rules::pinned();
    let sha = "0123456789abcdef0123456789abcdef01234567";
    let text = |gap: usize| format!("sourcegraph{}{sha}\n", " ".repeat(gap));
    let found = |text: &str| {
        let found = scan(rules, "a.jsonl", text.as_bytes());
        found.iter().any(|finding| finding.rule == "sourcegraph-access-token")
    };
    assert!(found(&text(1)));
    assert!(found(&text(240)));
    assert!(!found(&text(300)));
    assert!(found(&format!("{sha} of sourcegraph\n")));
    assert!(!found(&format!("commit {sha}\n")));
}
