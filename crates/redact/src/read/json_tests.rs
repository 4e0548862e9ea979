//! What of a file is kept: as much as all of it would tell, and no more.

use std::io::Read;
use std::ops::Range;

use super::super::events::Events;
use super::{Builder, read};
use crate::choose::{choose, named};
use crate::format::Format;
use crate::guide::{Named, Wanted};
use crate::path::Path;
use crate::restore::pair;
use crate::rewrite::{Part, Rewriting, Rule};
use crate::source::{Source, Text};
use crate::tree::{Id, Tree};

/// SplitMix64, below `end`.
fn below(state: &mut u64, end: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) % end as u64) as usize
}

/// A value of few keys, so that paths meet and keys stand more than once; `@` for the marker.
fn value(state: &mut u64, depth: usize, out: &mut String) {
    let scalars = ["@", "\"x\"", "\"y\"", "1", "null", "\"\"", "true", "{}", "[]"];
    match below(state, if depth == 0 { 1 } else { 5 }) {
        0 => out.push_str(scalars[below(state, scalars.len())]),
        1 | 2 => {
            out.push('[');
            for _ in 0..below(state, 4) {
                value(state, depth - 1, out);
                out.push_str(", ");
            }
            out.push(']');
        }
        _ => {
            out.push('{');
            for _ in 0..below(state, 5) {
                let keys = ["a", "b", "k", "id", "name", "0", "\"\\u006b\"", "'a.b'"];
                out.push_str(keys[below(state, keys.len())]);
                out.push_str(": ");
                value(state, depth - 1, out);
                out.push_str(", ");
            }
            out.push('}');
        }
    }
}

fn generated(state: &mut u64) -> String {
    let mut text = String::new();
    value(state, 5, &mut text);
    text.replace('@', &format!("\"{}\"", crate::MARKER))
}

/// What it is with some values, keys and elements taken away or changed.
fn changed(text: &str, state: &mut u64) -> String {
    let mut text = text.to_owned();
    let pairs = [
        ("\"[left out by agent-backup]\"", "'SECRET'"),
        ("\"[left out by agent-backup]\"", "{s: [1, 'SECRET']}"),
        ("\"x\"", "\"y\""),
        ("a: ", "b: "),
        ("k: ", "k: 1, k: "),
        ("{}", "{k: 2}"),
        ("[]", "[3]"),
        ("[", "[7, "),
        ("name: ", "id: "),
    ];
    for _ in 0..below(state, 6) {
        let (old, new) = pairs[below(state, pairs.len())];
        let nth = below(state, 3);
        if let Some((at, _)) = text.match_indices(old).nth(nth) {
            text.replace_range(at..at + old.len(), new);
        }
    }
    text
}

fn slot(tree: &Tree, id: Id) -> (Range<usize>, String) {
    (tree.nodes[id].slot.clone().unwrap(), tree.path(id))
}

fn slots(tree: &Tree, ids: impl IntoIterator<Item = Id>) -> Vec<(Range<usize>, String)> {
    tree.in_order(ids).into_iter().map(|id| slot(tree, id)).collect()
}

const RULES: [&[&str]; 9] = [
    &["**.k"],
    &["a.*", "b.**.k"],
    &["*.*.a", "**"],
    &["**.a.**.id", "0"],
    &["a.b.*", r"**.a\.b"],
    &["*.0", "**.1.*"],
    &["k.**", "a.**.b"],
    &["**.name.*", "*"],
    &["*.*.*", "**.*A*"],
];

#[test]
fn rules_find_in_what_is_kept_what_they_find_in_all() {
    let (mut state, mut found) = (1, 0);
    for n in 0..20_000 {
        let json = generated(&mut state);
        let source = &json.as_bytes();
        let text = Text::of(source).unwrap();
        let paths: Vec<Path> = RULES[n % RULES.len()].iter().map(|r| r.parse().unwrap()).collect();
        let all = read(Format::Json, &text, &&Wanted::All).unwrap();
        let chosen = slots(&all, choose(&all, &json, &paths).unwrap());
        for whole in [false, true] {
            let kept = read(Format::Json, &text, &Named { paths: &paths, whole }).unwrap();
            assert_eq!(slots(&kept, choose(&kept, &json, &paths).unwrap()), chosen, "{json}");
            assert!(kept.nodes.len() <= all.nodes.len());
        }
        found += chosen.len();
        let part = |n: usize| if n.is_multiple_of(2) { Part::Value } else { Part::Keys };
        let rule = |(at, path): (usize, &Path)| Rule { path: path.clone(), part: part(n + at) };
        let rules: Vec<Rule> = paths.iter().enumerate().map(rule).collect();
        let kept = read(Format::Json, &text, &Rewriting::new(&rules)).unwrap();
        for rule in &rules {
            // of values strings, of maps keys
            let told = |tree: &Tree| -> Vec<_> {
                let ids = tree.in_order(named(tree, std::slice::from_ref(&rule.path)));
                ids.into_iter()
                    .flat_map(|id| match rule.part {
                        Part::Value if tree.children(id).is_empty() => vec![id],
                        Part::Value => Vec::new(),
                        Part::Keys => tree.children(id).to_vec(),
                    })
                    .map(|id| (slot(tree, id), tree.nodes[id].key.clone()))
                    .collect()
            };
            let (some, all) = (told(&kept), told(&all));
            let is_text = |((range, _), _): &&((Range<usize>, String), Option<Range<usize>>)| {
                rule.part == Part::Keys || json[range.clone()].starts_with(['"', '\''])
            };
            let (some, all): (Vec<_>, Vec<_>) =
                (some.iter().filter(is_text).collect(), all.iter().filter(is_text).collect());
            assert_eq!(some, all, "{json} {rules:?}");
        }
    }
    assert!(found > 5_000, "{found}");
}

#[test]
fn markers_find_in_what_is_kept_the_values_that_they_find_in_all() {
    let (mut state, mut found) = (2, 0);
    for n in 0..40_000 {
        let stored = generated(&mut state);
        let live = changed(&stored, &mut state);
        let format = Format::Json;
        let sources = (&stored.as_bytes(), &live.as_bytes());
        let (one, other) = (Text::of(sources.0).unwrap(), Text::of(sources.1).unwrap());
        let pairs = |wanted: &Wanted| {
            let one = read(format, &one, &wanted).unwrap();
            let other = read(format, &other, &wanted).unwrap();
            let tell = |(marker, value): (Id, Id)| {
                let hides = !other.hides_nothing(value)
                    && !other.below(value).any(|id| other.is_marker(id));
                (slot(&one, marker), slot(&other, value), hides)
            };
            let mut pairs: Vec<_> = pair(&one, &other).into_iter().map(tell).collect();
            pairs.sort_by_key(|((range, _), _, _)| range.start);
            let markers = (0..one.nodes.len()).filter(|id| one.is_marker(*id));
            (pairs, slots(&one, markers))
        };
        let all = pairs(&Wanted::All);
        let Some(wanted) = Wanted::of(format, &one).unwrap() else {
            assert!(all.1.is_empty(), "{stored}");
            continue;
        };
        assert_eq!(pairs(&wanted), all, "{n}\n{stored}\n{live}");
        found += all.0.len();
    }
    assert!(found > 5_000, "{found}");
}

/// A file that nobody has: a long history with two values to leave out, and strings longer than all windows.
struct History {
    items: usize,
}

impl History {
    const HEAD: &str = "{\"k\": \"SECRET\", \"history\": [";
    const TAIL: &str = "], \"env\": {\"T\": \"SECRET\"}}";

    fn item(number: usize) -> String {
        let long = "word \\n ".repeat(if number.is_multiple_of(1_000) { 150_000 } else { 10 });
        format!(
            "/* {number} */ {{\"id\": {number}, \"display\": \"{long}\", \"pasted\": [[{{}}]]}},\n"
        )
    }
}

impl Source for History {
    fn read_from(&self, at: u64) -> std::io::Result<Box<dyn Read + '_>> {
        let mut part = 0;
        let mut now: Vec<u8> = Vec::new();
        let mut taken = 0;
        let mut all = Parts(move |buffer: &mut [u8]| {
            while taken == now.len() {
                now = match part {
                    0 => Self::HEAD.into(),
                    n if n <= self.items => Self::item(n).into(),
                    n if n == self.items + 1 => Self::TAIL.into(),
                    _ => return 0,
                };
                (part, taken) = (part + 1, 0);
            }
            let len = buffer.len().min(now.len() - taken);
            buffer[..len].copy_from_slice(&now[taken..taken + len]);
            taken += len;
            len
        });
        std::io::copy(&mut (&mut all).take(at), &mut std::io::sink())?;
        Ok(Box::new(all))
    }
}

struct Parts<F>(F);

impl<F: FnMut(&mut [u8]) -> usize> Read for Parts<F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Ok((self.0)(buffer))
    }
}

#[test]
fn a_long_file_takes_the_memory_of_what_is_named_in_it() {
    let history = History { items: 30_000 };
    let text = Text::of(&history).unwrap();
    let paths = ["k", "env.*"].map(|rule| rule.parse::<Path>().unwrap());
    let guide = Named { paths: &paths, whole: false };
    let mut events = Events::new(Format::Json, text.read_from(0).unwrap());
    let (mut builder, mut most, mut last) = (Builder::new(Format::Json, &guide), 0, 0);
    while let Some(event) = events.next().unwrap() {
        builder.take(&event).unwrap();
        last = event.range.end;
        most = most.max(builder.tree.nodes.len() + builder.open.len());
        most = most.max(events.bytes_kept() / 1_024);
    }
    assert!(last > 30 << 20, "it has {last} bytes");
    // nodes: the document, env and two values; open: the document, the list, an item and what is in it
    assert_eq!(builder.finish().nodes.len(), 4);
    assert!(most <= 512, "values, or KiB of the text: {most}");

    let hidden = crate::hide(Format::Json, &history, &paths).unwrap();
    assert_eq!(hidden.fields, ["k", "env.T"]);
    let mut out = hidden.splice.reader(&history, None).unwrap();
    let mut head = String::new();
    (&mut out).take(60).read_to_string(&mut head).unwrap();
    assert!(
        head.starts_with("{\"k\": \"[left out by agent-backup]\", \"history\": [/* 1"),
        "{head}"
    );
    let rest = std::io::copy(&mut out, &mut std::io::sink()).unwrap();
    // the marker has 26 bytes, what it stands for 6
    assert_eq!(rest + 60, last as u64 + 2 * 20);
}
