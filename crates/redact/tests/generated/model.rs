//! Documents, the rules for them, and a plain reading of these rules.

use std::ops::Range;

use redact::{MARKER, Path};
use serde_json::Value;

/// The rules, in segments that are not escaped.
pub(crate) const RULES: [&[&str]; 8] = [
    &["mcpServers", "*", "env", "*"],
    &["oauth", "accessToken"],
    &["**", "apiKey"],
    &["profiles", "*", "password"],
    &["**", "*secret*"],
    &["whole"],
    &["a.b", "key"],
    &["list", "**", "k"],
];

/// Rules for lists and maps as a whole.
pub(crate) const WHOLE: [&[&str]; 5] =
    [&["mcpServers", "*"], &["profiles"], &["**", "env"], &["list", "0"], &["**", "headers"]];

/// Keys: those that rules name, others that look like them, and some that are hard to write.
const KEYS: [&str; 28] = [
    "mcpServers",
    "oauth",
    "accessToken",
    "accessTokenAt",
    "apiKey",
    "ApiKey",
    "apiKeyName",
    "profiles",
    "password",
    "client_SECRET",
    "secrets",
    "whole",
    "a.b",
    "key",
    "list",
    "k",
    "env",
    "url",
    "headers",
    "\u{e4}\u{f6}",
    "with space",
    "#hash",
    "-dash",
    "true",
    "1",
    "quo\"te'",
    "x:y",
    "api",
];

/// Pieces of values, of which many look like syntax.
const PIECES: [&str; 32] = [
    "keep",
    " ",
    "\"",
    "'",
    "\\",
    " # no comment",
    ": ",
    ", ",
    "//",
    "/* */",
    "{",
    "}",
    "[",
    "]",
    "=",
    "&a",
    "*a",
    "- ",
    "!",
    "%",
    "@",
    "|",
    ">",
    "\u{e4}",
    "\u{1f600}",
    "\u{4e2d}\u{6587}",
    "\n",
    "\t",
    "? ",
    "---",
    "~",
    "\\u0041",
];

/// A document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Doc {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<Doc>),
    Map(Vec<(String, Doc)>),
}

/// A document as a file, and where in it the named values are.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) text: String,
    pub(crate) doc: Doc,
    /// Bytes and path of each, in order.
    pub(crate) secrets: Vec<(Range<usize>, String)>,
    /// JSON without what JSON5 adds.
    pub(crate) strict: bool,
    /// The document is a list of documents, a line each.
    pub(crate) lines: bool,
}

impl File {
    /// The document that has to come out.
    pub(crate) fn redacted(&self) -> Doc {
        match &self.doc {
            Doc::List(docs) if self.lines => {
                Doc::List(docs.iter().map(|doc| doc.redacted(&RULES, &mut Vec::new())).collect())
            }
            doc => doc.redacted(&RULES, &mut Vec::new()),
        }
    }
}

/// The same numbers for the same seed (SplitMix64).
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn canary(&mut self) -> String {
        format!("Sq{:08x}", self.next() as u32)
    }

    /// A text with a canary in it, or seldom an empty one.
    pub(crate) fn text(&mut self) -> String {
        if self.one_in(20) {
            return String::new();
        }
        let mut text = String::new();
        for _ in 0..self.below(3) {
            text.push_str(self.pick(&PIECES));
        }
        text.push_str(&self.canary());
        if self.one_in(2) {
            for _ in 0..self.below(4) {
                text.push_str(self.pick(&PIECES));
            }
        }
        text
    }

    fn value(&mut self, depth: usize) -> Doc {
        match self.below(if depth == 0 { 8 } else { 12 }) {
            0 => Doc::Null,
            1 => Doc::Bool(self.one_in(2)),
            2 => Doc::Int(self.below(1_000_000) as i64),
            3..8 => Doc::Text(self.text()),
            8 | 9 => Doc::List((0..self.below(4)).map(|_| self.value(depth - 1)).collect()),
            _ => self.map(depth - 1),
        }
    }

    fn map(&mut self, depth: usize) -> Doc {
        let mut members: Vec<(String, Doc)> = Vec::new();
        for _ in 0..self.below(6) {
            let key = self.pick(&KEYS);
            if members.iter().all(|(other, _)| other != key) {
                members.push((key.to_owned(), self.value(depth)));
            }
        }
        Doc::Map(members)
    }

    /// A map in which rules find something.
    pub(crate) fn document(&mut self) -> Doc {
        let Doc::Map(mut members) = self.map(3) else { unreachable!("map() makes maps") };
        let text = |rng: &mut Self| Doc::Text(rng.canary());
        let pair = |key: &str, value: Doc| (key.to_owned(), value);
        let server = Doc::Map(vec![
            pair("command", Doc::Text("keep".into())),
            pair("env", Doc::Map(vec![pair("TOKEN", text(self)), pair("N", self.value(1))])),
        ]);
        let others = [
            pair("mcpServers", Doc::Map(vec![pair("one", server), pair("two", self.map(2))])),
            pair(
                "oauth",
                Doc::Map(vec![pair("accessToken", self.value(1)), pair("at", Doc::Int(1))]),
            ),
            pair("profiles", Doc::List(vec![Doc::Map(vec![pair("password", text(self))])])),
            pair("whole", self.value(2)),
            pair("list", self.value(3)),
        ];
        for other in others {
            if !self.one_in(4) && members.iter().all(|(key, _)| *key != other.0) {
                let at = self.below(members.len() + 1);
                members.insert(at, other);
            }
        }
        Doc::Map(members)
    }
}

impl Doc {
    pub(crate) fn value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(bool) => Value::from(*bool),
            Self::Int(int) => Value::from(*int),
            Self::Text(text) => Value::from(text.as_str()),
            Self::List(list) => list.iter().map(Self::value).collect(),
            Self::Map(map) => map.iter().map(|(key, value)| (key.clone(), value.value())).collect(),
        }
    }

    /// Null, or nothing in it.
    fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(_) | Self::Int(_) => false,
            Self::Text(text) => text.is_empty(),
            Self::List(list) => list.is_empty(),
            Self::Map(map) => map.is_empty(),
        }
    }

    /// Is this value, at this place, one that is replaced?
    pub(crate) fn is_secret(&self, path: &[String]) -> bool {
        self.is_named(&RULES, path)
    }

    fn is_named(&self, rules: &[&[&str]], path: &[String]) -> bool {
        !self.is_empty() && rules.iter().any(|rule| names(rule, path))
    }

    /// The document with markers for what the rules name, if it stands at `path`.
    pub(crate) fn redacted(&self, rules: &[&[&str]], path: &mut Vec<String>) -> Self {
        if self.is_named(rules, path) {
            return Self::Text(MARKER.into());
        }
        let mut below = |step: String, value: &Self| {
            path.push(step);
            let value = value.redacted(rules, path);
            path.pop();
            value
        };
        match self {
            Self::List(list) => Self::List(
                list.iter().enumerate().map(|(n, value)| below(n.to_string(), value)).collect(),
            ),
            Self::Map(map) => Self::Map(
                map.iter().map(|(key, value)| (key.clone(), below(key.clone(), value))).collect(),
            ),
            other => other.clone(),
        }
    }

    /// The document with something else for null, for formats that have none.
    pub(crate) fn without_null(self) -> Self {
        match self {
            Self::Null => Self::Text(String::new()),
            Self::List(list) => Self::List(list.into_iter().map(Self::without_null).collect()),
            Self::Map(map) => {
                Self::Map(map.into_iter().map(|(key, value)| (key, value.without_null())).collect())
            }
            other => other,
        }
    }
}

/// Does a rule name this place? Slow, and written without a look at the crate.
fn names(rule: &[&str], path: &[String]) -> bool {
    match (rule, path) {
        ([], _) => path.is_empty(),
        (["**", rest @ ..], _) => (0..=path.len()).any(|n| names(rest, &path[n..])),
        (_, []) => false,
        (["*", rest @ ..], [_, below @ ..]) => names(rest, below),
        (["*secret*", rest @ ..], [key, below @ ..]) => {
            key.to_lowercase().contains("secret") && names(rest, below)
        }
        ([exact, rest @ ..], [key, below @ ..]) => exact == key && names(rest, below),
    }
}

/// Does only the first rule name what has this path (as [`path_text`] writes it)?
pub(crate) fn named_first(path: &str) -> bool {
    path.starts_with("mcpServers.")
        && path.ends_with(".env.TOKEN")
        && path.matches('.').count() == 3
}

/// Rules as the crate takes them.
pub(crate) fn paths(rules: &[&[&str]]) -> Vec<Path> {
    let text = |rule: &&[&str]| {
        rule.iter().map(|part| part.replace('.', r"\.")).collect::<Vec<_>>().join(".")
    };
    rules.iter().map(|rule| Path::parse(&text(rule)).unwrap()).collect()
}

/// A path as a person reads it.
pub(crate) fn path_text(path: &[String]) -> String {
    let escape = |part: &String| part.replace('\\', r"\\").replace('.', r"\.").replace('*', r"\*");
    path.iter().map(escape).collect::<Vec<_>>().join(".")
}

/// The canaries in a piece of a file, but for those with an escape in them.
pub(crate) fn canaries(text: &str) -> impl Iterator<Item = &str> {
    let all = text.match_indices("Sq").filter_map(|(at, _)| text.get(at..at + 10));
    all.filter(|canary| canary[2..].bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A file in the making.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) out: String,
    pub(crate) rng: Rng,
    pub(crate) secrets: Vec<(Range<usize>, String)>,
    pub(crate) path: Vec<String>,
    /// Inside a value that is a secret as a whole.
    pub(crate) inside: bool,
    /// The line end of the file.
    pub(crate) newline: &'static str,
}

impl Writer {
    pub(crate) fn new(mut rng: Rng) -> Self {
        let newline = if rng.one_in(4) { "\r\n" } else { "\n" };
        let out = if rng.one_in(8) { "\u{feff}".into() } else { String::new() };
        Self { out, rng, secrets: Vec::new(), path: Vec::new(), inside: false, newline }
    }

    pub(crate) fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    pub(crate) fn end_line(&mut self) {
        self.out.push_str(self.newline);
    }

    /// Does what writes a value, and notes where it is if it is a secret.
    pub(crate) fn noting(&mut self, doc: &Doc, write: impl FnOnce(&mut Self)) {
        let secret = !self.inside && doc.is_secret(&self.path);
        let start = self.out.len();
        let at = self.secrets.len();
        self.inside |= secret;
        write(self);
        if secret {
            self.inside = false;
            let path = path_text(&self.path);
            self.secrets.insert(at, (start..self.out.len(), path));
        }
    }

    /// Does what writes something one step further down.
    pub(crate) fn below(&mut self, step: &str, write: impl FnOnce(&mut Self)) {
        self.path.push(step.to_owned());
        write(self);
        self.path.pop();
    }

    pub(crate) fn file(self, doc: Doc, strict: bool) -> File {
        File { text: self.out, doc, secrets: self.secrets, strict, lines: false }
    }
}
