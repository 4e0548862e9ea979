//! Escapes are undone the same way however the text is split, and the way back is right.

use proptest::prelude::*;

use crate::pattern::translate;
use crate::tests::cut;
use crate::view::View;

fn view_of(pieces: &[&[u8]]) -> (Vec<u8>, Vec<u64>) {
    let mut view = View::new(0);
    for piece in pieces {
        view.push(piece);
    }
    view.end();
    let places = (0..=view.bytes().len()).map(|at| view.raw(at)).collect();
    (view.bytes().to_vec(), places)
}

#[test]
fn escapes_of_any_depth_are_one_byte() {
    let cases: [(&str, &[u8]); 12] = [
        (r"a\nb", b"a\nb"),
        (r"a\\nb", b"a\nb"),
        (r"a\\\\nb", b"a\nb"),
        (r#"say \"x\" and \\\"y\\\""#, b"say \"x\" and \"y\""),
        (r"https:\/\/a\tb", b"https://a\tb"),
        (r"\u003d\u0022\\u0041", b"=\"A"),
        (r"\u00e9AKIA", b"\xffAKIA"),
        (r"C:\Users\A", b"C:\\Users\\A"),
        (r"\u00", b"\\u00"),
        (r"\u00zz", b"\\u00zz"),
        (r"end\\", b"end\\"),
        ("line \\\nnext", b"line \\\nnext"),
    ];
    for (raw, expected) in cases {
        let (bytes, places) = view_of(&[raw.as_bytes()]);
        assert_eq!(bytes, expected, "{raw}");
        assert_eq!(*places.last().unwrap(), raw.len() as u64, "{raw}");
    }
    let (_, places) = view_of(&[br"a\\nbc"]);
    assert_eq!(places, [0, 1, 4, 5, 6]);
}

#[test]
fn a_run_of_backslashes_is_no_single_byte_whatever_its_length() {
    let raw = vec![b'\\'; 1000];
    let (bytes, places) = view_of(&[&raw]);
    assert_eq!(bytes, vec![b'\\'; 1000_usize.div_ceil(64)]);
    assert_eq!(*places.last().unwrap(), 1000);
}

#[test]
fn a_dropped_part_moves_no_place() {
    let raw = br"one\ntwo \\\\n three \u0041 four";
    let (bytes, places) = view_of(&[raw]);
    for keep in 0..bytes.len() {
        let mut view = View::new(0);
        view.push(raw);
        view.end();
        view.drop_before(keep);
        assert_eq!(view.bytes(), &bytes[keep..]);
        let left: Vec<u64> = (0..=view.bytes().len()).map(|at| view.raw(at)).collect();
        assert_eq!(left, places[keep..]);
    }
}

proptest! {
    #[test]
    fn a_split_changes_nothing(raw in r#"([\\nu"0a4/x]{0,12}|.{0,4}){0,8}"#, cuts in prop::collection::vec(0_usize..200, 0..12)) {
        let whole = view_of(&[raw.as_bytes()]);
        prop_assert_eq!(view_of(&cut(raw.as_bytes(), &cuts)), whole);
    }
}

#[test]
fn patterns_of_re2_are_read_as_they_are_meant() {
    let cases = [
        (r"^\$(?:\d+|{\d+})$", r"^\$(?:\d+|\{\d+})$"),
        (r"a{3}b{2,}c{1,4}", r"a{3}b{2,}c{1,4}"),
        (r"\$?{{[^}]+}}", r"\$?\{\{[^}]+}}"),
        (r"[^]]+]", r"[^\]]+]"),
        (r"[[a]", r"[\[a]"),
        (r"[[:alpha:]_]", r"[[:alpha:]_]"),
        (r"[a&&b~~]", r"[a\&\&b\~\~]"),
        (r"[+--]", r"[+-\-]"),
        (r"[--/]", r"[\--/]"),
        (r"\x{41}\{", r"\x{41}\{"),
        (r"[\s\S-]{64,}?", r"[\s\S-]{64,}?"),
    ];
    for (source, expected) in cases {
        assert_eq!(translate(source), expected, "{source}");
    }
}
