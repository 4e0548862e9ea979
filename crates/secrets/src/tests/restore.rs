//! The way back: what was replaced is there again, byte for byte.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::tests::splits::transcript;
use crate::tests::{All, cut, redact_pieces};
use crate::{Form, Met, Put, Restorer, Rules};

type Known = BTreeMap<[u8; 8], (Vec<u8>, bool)>;

/// Puts back what is known; also how many marks were met.
fn restore(known: &Known, pieces: &[&[u8]]) -> (Vec<u8>, usize) {
    let (mut out, mut met) = (Vec::new(), 0);
    let mut lookup = |mark: Met<'_>| {
        met += 1;
        known.get(&mark.digest).map(|(raw, quoted)| Put { raw, quoted: *quoted })
    };
    let mut restorer = Restorer::default();
    for piece in pieces {
        restorer.feed(piece, &mut out, &mut lookup);
    }
    restorer.finish(&mut out, &mut lookup);
    (out, met)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn all_comes_back_however_it_is_split(seed: u64, lines in 1_usize..30, cuts in prop::collection::vec(any::<usize>(), 0..40)) {
        let text = transcript(seed, lines);
        for form in [Form::Json, Form::Text] {
            let (out, heard) = redact_pieces(Rules::pinned(), "a.jsonl", form, &[&text]);
            let (back, met) = restore(&heard.replaced, &[&out]);
            prop_assert!(back == text, "{form:?}");
            let (split, again) = restore(&heard.replaced, &cut(&out, &cuts));
            prop_assert!(split == text && met == again, "it depends on the split");
            let (unknown, again) = restore(&Known::new(), &cut(&out, &cuts));
            prop_assert!(unknown == out && met == again, "what nobody knows stays");
        }
    }
}

#[test]
fn a_number_comes_back_without_the_quotes_of_its_mark() {
    let text = b"{\"asana\": 1234567890123456 }\n".repeat(3);
    let (out, heard): (_, All) = redact_pieces(Rules::pinned(), "a.jsonl", Form::Json, &[&text]);
    assert!(heard.replaced.values().all(|(raw, quoted)| *quoted && raw == b"1234567890123456"));
    for size in [1, 2, 7, 4096] {
        let pieces: Vec<&[u8]> = out.chunks(size).collect();
        assert_eq!(restore(&heard.replaced, &pieces), (text.clone(), 3));
    }
}

#[test]
fn what_only_looks_like_a_mark_is_none() {
    for text in [
        "[REDACTED:a:0123456789abcde]",
        "[REDACTED:a:0123456789abcdeF]",
        "[REDACTED::",
        "[REDACTED:a b:0123456789abcdef]",
    ] {
        assert_eq!(restore(&Known::new(), &[text.as_bytes()]), (text.as_bytes().to_vec(), 0));
    }
}
