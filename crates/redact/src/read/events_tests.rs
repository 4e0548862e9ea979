//! The reader against the parser whose grammar it has: the same files read, the same refused, at the same byte.

use std::io::Read;
use std::ops::Range;

use jsonc_parser::ast::{ObjectPropName, Value};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, CommentCollectionStrategy, ParseOptions, parse_to_ast};

use super::{Events, What};
use crate::format::Format;
use crate::source::Stop;

type Seen = Result<Vec<(String, Range<usize>)>, usize>;

fn parsed(text: &str) -> Seen {
    let options = ParseOptions { allow_missing_commas: false, ..ParseOptions::default() };
    let collect = CollectOptions { comments: CommentCollectionStrategy::Separate, tokens: false };
    let parsed = parse_to_ast(text, &collect, &options).map_err(|error| error.range().start)?;
    let comments = parsed.comments.iter().flat_map(|map| map.values()).flat_map(|list| list.iter());
    let bad = comments.filter(|comment| comment.text().contains(['\u{2028}', '\u{2029}']));
    if let Some(at) = bad.map(Ranged::start).min() {
        return Err(at);
    }
    let mut seen = Vec::new();
    parsed.value.into_iter().for_each(|value| tell(&value, &mut seen));
    Ok(seen)
}

fn tell(value: &Value<'_>, seen: &mut Vec<(String, Range<usize>)>) {
    let range = value.start()..value.end();
    let opening = value.start()..value.start() + 1;
    match value {
        Value::NullKeyword(_) => seen.push(("null".into(), range)),
        Value::StringLit(text) => seen.push((string("text", &text.value), range)),
        Value::NumberLit(number) => seen.push((format!("bare {}", number.value), range)),
        Value::BooleanLit(bool) => seen.push((format!("bare {}", bool.value), range)),
        Value::Object(object) => {
            seen.push(("map".into(), opening));
            for property in &object.properties {
                let name = &property.name;
                let key = match name {
                    ObjectPropName::String(text) => &*text.value,
                    ObjectPropName::Word(word) => word.value,
                };
                seen.push((format!("key {key:?}"), name.start()..name.end()));
                tell(&property.value, seen);
            }
            seen.push(("end".into(), range));
        }
        Value::Array(array) => {
            seen.push(("list".into(), opening));
            array.elements.iter().for_each(|element| tell(element, seen));
            seen.push(("end".into(), range));
        }
    }
}

fn string(what: &str, text: &str) -> String {
    if text.len() > super::super::scan::TEXT_BYTES_MAX {
        return format!("{what} {}", blake3::hash(text.as_bytes()).to_hex());
    }
    format!("{what} {text:?}")
}

/// A reader that gives some bytes at a time, so that every place is the edge of a window once.
struct Sips<'t>(&'t [u8], usize);

impl Read for Sips<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.1.min(buffer.len());
        self.0.read(&mut buffer[..len])
    }
}

fn streamed(text: &str, sip: usize) -> Seen {
    let mut events = Events::new(Format::Json, Box::new(Sips(text.as_bytes(), sip)));
    let mut seen = Vec::new();
    loop {
        let event = match events.next() {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(seen),
            Err(Stop::Syntax(at) | Stop::Refused(at, _)) => return Err(at),
            Err(other) => panic!("{other:?}: {text}"),
        };
        let what = match event.what {
            What::Key(key) => format!("key {key:?}"),
            What::Null => "null".into(),
            What::Text(text) => string("text", text),
            What::Long(digest) => {
                format!("text {}", blake3::Hash::from_bytes(digest.0).to_hex())
            }
            What::Bare(text) => format!("bare {text}"),
            What::Map => "map".into(),
            What::List => "list".into(),
            What::End => "end".into(),
        };
        seen.push((what, event.range));
    }
}

fn same(text: &str, sips: &[usize]) -> bool {
    let parsed = parsed(text);
    for sip in sips {
        let streamed = streamed(text, *sip);
        // of two mistakes the parser tells that in a comment last
        let both = parsed.is_err() && streamed.is_err();
        assert!(
            streamed == parsed || both && text.contains(['\u{2028}', '\u{2029}']),
            "{text:?}\nby {sip}: {streamed:?}\nparser: {parsed:?}"
        );
    }
    parsed.is_ok()
}

const SEEDS: [&str; 9] = [
    "{\"a\": [1, -2.5e+3, {\"b\": null, 'c': true, d: false}], \"k\": \"x\\ny\", \"k\": \"\"} // end",
    "// first\n/* second * / */{a:{b:{c:[[],{},[[1]]]}},\n$d_1: 'it\\'s', \"e\\u00e4\\ud83d\\ude00\": \"\\\"\",}\r\n",
    "[0xDEADbeef, +.5, 5., 0, -0, 1e9, -Infinity, +NaN, Infinity, NaN, null, true, 1.e-3,]",
    "{null: null, true: true, 1: 1, Infinity_x: 1, NaN-y: 2, nullable: 3, \u{e4}\u{f6}: 4, -1: 5}",
    "\u{a0}\u{2003}\x0b\x0c{\"\u{4e2d}\\\r\n\\\n\\\u{2028}\u{1f600}\": '\\x41\\v\\0\\q\\/\\b\\f\\t\\r'}\u{3000}",
    "\"a string \\\\ alone\" /**/ // \u{e4}",
    "{\"p\":\"C:\\\\Users\\\\x\",\"q\":\"\\\\\\\\\",\"r\":[\"\\u0041\\u00e4\",'\"',\"'\"]}",
    " // nothing but a comment\r/* and another **/",
    "[[[[{\"a\":{\"b\":[{\"c\":[1,2,[3,{\"d\":4}]]}]}}]]],{\"x\":[]},{}]",
];

const PIECES: [&str; 52] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "'",
    "\\",
    "/",
    "*",
    "//",
    "/*",
    "*/",
    "\n",
    "\r",
    " ",
    "\t",
    "\u{a0}",
    "\u{2028}",
    "\u{feff}",
    "0",
    "1",
    "-",
    "+",
    ".",
    "e",
    "E",
    "x",
    "0x",
    "Infinity",
    "NaN",
    "null",
    "true",
    "false",
    "nul",
    "\\u",
    "\\ud83d",
    "\\ude00",
    "\\x4",
    "\\0",
    "\\8",
    "\\\r\n",
    "a",
    "$",
    "_",
    "\u{e4}",
    "\u{1f600}",
    "\0",
    "\u{1f}",
    "#",
    "\"k\":1,",
];

/// SplitMix64.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as usize
}

fn mutated(seed: &str, state: &mut u64) -> String {
    let mut chars: Vec<String> = seed.chars().map(String::from).collect();
    for _ in 0..=next(state) % 3 {
        let at = next(state) % (chars.len() + 1);
        let piece = PIECES[next(state) % PIECES.len()].to_owned();
        match next(state) % 5 {
            0 | 1 => chars.insert(at, piece),
            2 if at < chars.len() => chars[at] = piece,
            3 => chars.truncate(at),
            _ => {
                let len = next(state) % 4;
                chars.drain(at..(at + len).min(chars.len())).for_each(drop);
            }
        }
    }
    chars.concat()
}

#[test]
fn what_the_parser_reads_is_read_alike_and_what_it_refuses_is_refused_there() {
    for seed in SEEDS {
        assert!(same(seed, &[1, 2, 3, 5, 7, 11, 13, 64, 65_536]), "{seed}");
    }
    let (mut state, mut read, mut refused) = (5, 0, 0);
    for n in 0..40_000 {
        let text = mutated(SEEDS[n % SEEDS.len()], &mut state);
        *if same(&text, &[1 + n % 9, 65_536]) { &mut read } else { &mut refused } += 1;
    }
    // pieces in a row: nothing of a file at all, most of the time
    for _ in 0..40_000 {
        let len = next(&mut state) % 9;
        let text: Vec<&str> = (0..len).map(|_| PIECES[next(&mut state) % PIECES.len()]).collect();
        *if same(&text.concat(), &[1, 3]) { &mut read } else { &mut refused } += 1;
    }
    assert!(read > 5_000 && refused > 20_000, "{read} read, {refused} refused");
}

#[test]
fn it_nests_as_deep_as_in_the_parser_and_no_deeper() {
    for (open, close, value, least) in [
        ("[", "]", "1", 512),
        ("{a:", "}", "1", 256),
        ("[{a:", "}]", "[]", 170),
        ("{a:[", "]}", "", 170),
    ] {
        let (mut deepest, mut refused) = (0, false);
        for depth in least - 3..least + 4 {
            let text = open.repeat(depth) + value + &close.repeat(depth);
            if same(&text, &[7, 65_536]) {
                deepest = depth;
            } else {
                refused = true;
            }
        }
        assert!(deepest >= least - 1 && refused, "{open}: {deepest}");
    }
}

#[test]
fn what_is_longer_than_a_window_is_read_alike() {
    let long = |piece: &str| piece.repeat(300_000 / piece.len());
    let texts = [
        format!("{{\"a\": \"{}\", 'k': \"{}\\u00e4\"}}", long("x\u{e4}"), long("\\\\n\\\"")),
        format!("/*{}*/ [1, // {}\n '{}']", long(" *"), long("c"), long("\u{1f600}")),
        format!("{}{{{}}}{}", long(" \n"), long("a: 1, "), long("\t")),
        format!("{{\"{}\": 1}}", long("k")),
        format!("[\"{}", long("never closed ")),
        format!("[\"{}\\ud800\"]", long("half a pair ")),
        format!("/* {}", long("never closed *")),
        format!("[{}{}]", long("1, "), "9".repeat(60_000)),
    ];
    for (n, text) in texts.iter().enumerate() {
        let read = same(text, &[4_093, 1 << 20]);
        assert_eq!(read, n < 4 || n == 7, "{n}");
    }
    for at in super::super::scan::TEXT_BYTES_MAX - 2..super::super::scan::TEXT_BYTES_MAX + 3 {
        assert!(same(&format!("['{}', '{}\\n']", "y".repeat(at), "z".repeat(at)), &[1_000]));
    }
}

#[test]
fn a_text_of_the_longest_length_is_read_and_one_of_a_byte_more_is_not() {
    for (format, text) in [
        (Format::Json, "{\"a\": 1} "),
        (Format::JsonLines, "{\"a\": 1}\n1"),
        (Format::JsonLines, "{\"a\": 1}\n"),
        (Format::JsonLines, "\n\n\n\n"),
    ] {
        for (bytes_max, fits) in [(text.len(), true), (text.len() - 1, false)] {
            let mut events = Events::within(format, Box::new(text.as_bytes()), bytes_max);
            let end = loop {
                match events.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break true,
                    Err(stop) => {
                        assert!(matches!(stop, Stop::TooLarge), "{stop:?}");
                        break false;
                    }
                }
            };
            assert_eq!(end, fits, "{text:?} of {bytes_max}");
        }
    }
}

#[test]
fn a_key_or_a_number_without_end_is_refused_before_it_fills_the_memory() {
    let key = format!("{{\"{}\": 1}}", "k".repeat((1 << 20) + 1));
    let mut events = Events::new(Format::Json, Box::new(key.as_bytes()));
    events.next().unwrap();
    assert!(matches!(events.next(), Err(Stop::TooLarge)));
    let digits = "1".repeat(1 << 20);
    let mut events = Events::new(Format::Json, Box::new(digits.as_bytes()));
    assert!(matches!(events.next(), Err(Stop::Syntax(0))));
}
