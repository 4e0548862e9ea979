//! Strings and keys changed in place: bytes, rules and a function in, bytes out.
//!
//! What changes is written as it was where that can be: a plain or single-quoted string stays one. All
//! else is left as it is, byte by byte. The result is parsed again and must hold what was meant.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::choose::{State, close, follow, named};
use crate::edit::{Edit, apply};
use crate::error::{Error, refused};
use crate::format::Format;
use crate::path::Path;
use crate::read::json::{self, Guide, Keep};
use crate::read::{decode, read};
use crate::restore::quote;
use crate::source::Text;
use crate::splice::{New, Patch, Splice};
use crate::tree::{Id, Step, Tag, Tree, Value, agree};

/// What of a named value is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The value, if it is a string.
    Value,
    /// The keys of it, if it is a table.
    Keys,
}

/// Strings or keys of a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Where.
    pub path: Path,
    /// What there.
    pub part: Part,
}

/// A file in which strings or keys were changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// The file.
    pub bytes: Vec<u8>,
    /// Keys that stay as they are, as their table has another of the new name: by rule.
    pub clashes: Vec<(usize, String)>,
}

/// How a string is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
}

/// Calls `change` with every string that `rules` name, and the number of the rule, and puts what it gives
/// in the string's place. A string that several rules name is changed by the first.
///
/// Errors if the file cannot be read as `format` or not be changed safely. Of JSON Lines no line may
/// fail; whoever can do with less takes each line as JSON.
pub fn rewrite(
    format: Format,
    bytes: &[u8],
    rules: &[Rule],
    change: &mut dyn FnMut(usize, &str) -> Option<String>,
) -> Result<Rewritten, Error> {
    let source = Text::of(&bytes)?;
    let (mark, text) = decode(format, bytes)?;
    let mut tree = if format.is_json() {
        json::read(format, &source, &Rewriting::new(rules))?
    } else {
        read(format, text)?
    };
    let mut wanted = Wanted::default();
    for (number, rule) in rules.iter().enumerate() {
        let found = tree.in_order(named(&tree, std::slice::from_ref(&rule.path)));
        for id in found {
            let mut change = |old: &str| change(number, old);
            match rule.part {
                Part::Value => wanted.value(&tree, id, &mut change),
                Part::Keys => wanted.keys(&tree, id, number, &mut change),
            }
        }
    }
    let Wanted { values, keys, clashes } = wanted;
    if values.is_empty() && keys.is_empty() {
        return Ok(Rewritten { bytes: bytes.to_vec(), clashes });
    }
    let mut edits: Vec<Edit> = Vec::new();
    for (id, new) in values {
        let Some(slot) = tree.nodes[id].slot.clone() else { continue };
        let (style, written) = write(format, &text[slot.clone()], &new);
        edits.push((slot, written));
        let bare = format == Format::Yaml && style == Style::Plain;
        tree.nodes[id].value = if bare { Value::Bare(new) } else { Value::Text(new) };
    }
    let mut first_key = None;
    for (id, new) in keys {
        let Some(place) = tree.nodes[id].key.clone() else { continue };
        first_key.get_or_insert(place.start);
        let (_, written) = write(format, &text[place.clone()], &new);
        edits.push((place, written));
        tree.nodes[id].step = Step::Key(new.into());
    }
    if format.is_json() {
        let patch = |(range, new)| Patch { range, new: New::Text(new) };
        let splice = Splice::new(&source, None, edits.into_iter().map(patch).collect());
        if !splice.holds(format, &source, None, &mut |_| Ok(()))? {
            return Err(Error::Unproven { format });
        }
        return Ok(Rewritten { bytes: splice.bytes(bytes, None)?, clashes });
    }
    let out = apply(text, edits);
    match read(format, &out) {
        Ok(found) if agree(&tree, &found, &BTreeMap::new()) => {
            Ok(Rewritten { bytes: [mark, out.as_bytes()].concat(), clashes })
        }
        _ => Err(match first_key {
            Some(at) if format == Format::Toml => {
                refused(text, at, "a key to change that is written in more than one place")
            }
            _ => Error::Unproven { format },
        }),
    }
}

/// What rules name, of JSON: strings, and maps with their keys.
pub(crate) struct Rewriting<'r> {
    rules: &'r [Rule],
    paths: Vec<&'r Path>,
}

/// A place on the way to what rules name.
pub(crate) struct Way {
    states: Vec<State>,
    /// It is named, or its key is.
    named: bool,
    /// The keys in it are.
    keys: bool,
}

impl<'r> Rewriting<'r> {
    pub(crate) fn new(rules: &'r [Rule]) -> Self {
        Self { rules, paths: rules.iter().map(|rule| &rule.path).collect() }
    }

    fn way(&self, states: Vec<State>, named: bool) -> Way {
        // each rule by itself: what one names another may go on through
        let ends = |part| {
            states.iter().any(|(rule, done)| {
                let Rule { path, part: other } = &self.rules[*rule];
                *other == part && *done == path.segments().len()
            })
        };
        let (named, keys) = (named || ends(Part::Value), ends(Part::Keys));
        Way { states, named, keys }
    }
}

impl Guide for Rewriting<'_> {
    type At = Way;

    fn top(&self) -> Keep<Way> {
        let states = close(&self.paths, (0..self.rules.len()).map(|rule| (rule, 0)).collect());
        Keep::Way(self.way(states, false))
    }

    fn step(&self, at: &Way, step: &str) -> Option<Keep<Way>> {
        let states = close(&self.paths, follow(&self.paths, &at.states, step));
        (at.keys || !states.is_empty()).then(|| Keep::Way(self.way(states, at.keys)))
    }

    fn stays(&self, at: &Way) -> bool {
        at.named || at.keys
    }
}

/// What is to change.
#[derive(Default)]
struct Wanted {
    values: BTreeMap<Id, String>,
    keys: BTreeMap<Id, String>,
    clashes: Vec<(usize, String)>,
}

impl Wanted {
    fn value(&mut self, tree: &Tree, id: Id, change: &mut dyn FnMut(&str) -> Option<String>) {
        let text = match (tree.value(id), tree.nodes[id].tag) {
            (Value::Text(text), Tag::None | Tag::Text) => text,
            // a plain one may be no string; then it is none that anybody changes
            (Value::Bare(text), Tag::None | Tag::Text) if tree.format == Format::Yaml => text,
            _ => return,
        };
        if tree.nodes[id].slot.is_none() || self.values.contains_key(&id) {
            return;
        }
        if let Some(new) = change(text).filter(|new| new != text) {
            self.values.insert(id, new);
        }
    }

    fn keys(
        &mut self,
        tree: &Tree,
        id: Id,
        rule: usize,
        change: &mut dyn FnMut(&str) -> Option<String>,
    ) {
        let Value::Map(members) = tree.value(id) else { return };
        let mut taken: HashSet<String> =
            members.iter().map(|member| tree.key(*member).to_owned()).collect();
        // a key that stands twice stays one that does
        let mut done: HashMap<&str, String> = HashMap::new();
        for member in members {
            let old = tree.key(*member);
            let known = self.keys.contains_key(member) || tree.nodes[*member].key.is_none();
            if known || tree.nodes[*member].merged {
                continue;
            }
            if let Some(new) = done.get(old) {
                self.keys.insert(*member, new.clone());
                continue;
            }
            let Some(new) = change(old).filter(|new| new != old) else { continue };
            if taken.insert(new.clone()) {
                done.insert(old, new.clone());
                self.keys.insert(*member, new);
            } else {
                self.clashes.push((rule, old.to_owned()));
            }
        }
    }
}

/// `new` as it is written in the place of what is written as `old`.
fn write(format: Format, old: &str, new: &str) -> (Style, String) {
    let printable = new.chars().all(|c| !c.is_control() && c != '\u{feff}');
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    match (format, old.chars().next()) {
        // nothing that any reader of YAML takes for a number, a word or a tag
        (Format::Yaml, Some(c)) if plain(c) && new.starts_with('/') && new.chars().all(plain) => {
            (Style::Plain, new.to_owned())
        }
        (Format::Yaml, Some('\'')) if printable => {
            (Style::Single, format!("'{}'", new.replace('\'', "''")))
        }
        (Format::Toml, Some('\'')) if printable && !new.contains('\'') => {
            (Style::Single, format!("'{new}'"))
        }
        _ => (Style::Double, quote(new)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, Rule, rewrite};
    use crate::{Error, Format};

    fn rule(path: &str, part: Part) -> Rule {
        Rule { path: path.parse().unwrap(), part }
    }

    /// What begins with `/a` begins with `/long/b` then.
    fn longer(old: &str) -> Option<String> {
        old.strip_prefix("/a").map(|rest| format!("/long/b{rest}"))
    }

    fn moved(format: Format, text: &str, rules: &[Rule]) -> String {
        let done = rewrite(format, text.as_bytes(), rules, &mut |_, old| longer(old)).unwrap();
        String::from_utf8(done.bytes).unwrap()
    }

    #[test]
    fn only_what_is_named_changes_and_it_stays_written_as_it_was() {
        let rules = [rule("list.*", Part::Value), rule("p", Part::Keys), rule("v", Part::Value)];
        let cases = [
            (
                Format::Json,
                "\u{feff}{ // /a\n 'v' : '/a/x',\n\"list\":[\"\\/a\", 1, \"/b\"],\"p\":{\"/a/x\" :{\"/a\":\"/a\"},},}\r\n",
                "\u{feff}{ // /a\n 'v' : \"/long/b/x\",\n\"list\":[\"/long/b\", 1, \"/b\"],\"p\":{\"/long/b/x\" :{\"/a\":\"/a\"},},}\r\n",
            ),
            (
                Format::Toml,
                "v = '/a' # /a\nlist = [ \"/a/\\\"x\", '/b' ]\n[p.\"/a/x\"] # c\ntrust = \"/a\"\n[p.'/a/y']\nw = 1\n",
                "v = '/long/b' # /a\nlist = [ \"/long/b/\\\"x\", '/b' ]\n[p.\"/long/b/x\"] # c\ntrust = \"/a\"\n[p.'/long/b/y']\nw = 1\n",
            ),
            (
                Format::Yaml,
                "v: /a/x  # /a\nlist:\n- '/a/it''s'\n- \"/a\"\n- 7\np: {/a/x: 1}\n---\nv: >-\n  /a\n# c\n",
                "v: /long/b/x  # /a\nlist:\n- '/long/b/it''s'\n- \"/long/b\"\n- 7\np: {/long/b/x: 1}\n---\nv: \"/long/b\"\n# c\n",
            ),
        ];
        for (format, text, wanted) in cases {
            assert_eq!(moved(format, text, &rules), wanted, "{format}");
            assert_eq!(
                moved(format, wanted, &rules),
                wanted,
                "{format}: nothing is left to change"
            );
        }
    }

    #[test]
    fn a_key_never_takes_the_place_of_another() {
        let rules = [rule("p", Part::Keys)];
        let text = br#"{"p":{"/a":1,"/long/b":2,"/a/x":3}}"#;
        let done = rewrite(Format::Json, text, &rules, &mut |_, old| longer(old)).unwrap();
        assert_eq!(done.bytes, br#"{"p":{"/a":1,"/long/b":2,"/long/b/x":3}}"#);
        assert_eq!(done.clashes, [(0, "/a".to_owned())]);
    }

    #[test]
    fn what_cannot_be_changed_safely_is_an_error() {
        let rules = [rule("p", Part::Keys)];
        let mut change = |_: usize, old: &str| longer(old);
        let twice = b"[p.\"/a\"]\nx = 1\n[p.\"/a\".deep]\ny = 2\n";
        let error = rewrite(Format::Toml, twice, &rules, &mut change).unwrap_err();
        assert!(matches!(error, Error::Refused { line: 1 | 3, .. }), "{error}");
        assert!(rewrite(Format::Json, b"{", &rules, &mut change).is_err());
        assert!(rewrite(Format::Json, b"\xff", &rules, &mut change).is_err());
        let aliased = "a: &x {/a: 1}\np: *x\n";
        assert_eq!(moved(Format::Yaml, aliased, &rules), "a: &x {/long/b: 1}\np: *x\n");
    }

    #[test]
    fn a_rule_learns_which_string_is_asked_for() {
        let rules = [rule("*.cwd", Part::Value), rule("p", Part::Keys), rule("p.*", Part::Value)];
        let mut asked = Vec::new();
        let text = br#"{"p":{"cwd":"/a","k":"/b"}, "n": {"cwd": null}}"#;
        let done = rewrite(Format::Json, text, &rules, &mut |rule, old| {
            asked.push((rule, old.to_owned()));
            None
        });
        assert_eq!(done.unwrap().bytes, text);
        let asked: Vec<_> = asked.iter().map(|(rule, old)| (*rule, old.as_str())).collect();
        assert_eq!(asked, [(0, "/a"), (1, "cwd"), (1, "k"), (2, "/a"), (2, "/b")]);
    }
}
