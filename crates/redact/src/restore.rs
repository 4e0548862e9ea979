//! The way back: a redacted file and the live one in, the redacted one with the live values out.
//!
//! A marker is matched with what the live file has at the same place. In lists a place is no more than
//! an index, and one account's token must not come to another: an element with an `id`, `uuid` or
//! `name` is matched with the one element that has the same, wherever it stands; any other with the
//! one at its index, if both lists are as long and the two elements differ in nothing but markers.
//!
//! What is put in is the live value as it is written there. The result is parsed again and compared:
//! where the text does not fit its new place (a YAML block under another indent), a quoted string of
//! the same value is tried, and else the marker stays. So the result holds live values or markers, and
//! everything around them as stored.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::choose::choose;
use crate::edit::{Edit, apply};
use crate::error::Error;
use crate::format::Format;
use crate::guide::{Markers, Named, Wanted};
use crate::path::Path;
use crate::read::json;
use crate::read::{decode, read};
use crate::source::{Source, Text};
use crate::splice::{New, Patch, Splice};
use crate::tree::{Id, Swap, Tag, Tree, Value, agree};

/// Members that tell which element of a list is meant, the first that is there.
const IDENTITIES: [&str; 3] = ["id", "uuid", "name"];

/// So many places at most are tried one by one where the live values do not fit all at once; each try
/// parses the file. Above, the markers stay.
const TRIES_MAX: usize = 200;

/// A file with live values in the places of markers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The file.
    pub bytes: Vec<u8>,
    /// [`Filled::kept`].
    pub kept: Vec<String>,
    /// [`Filled::missing`].
    pub missing: Vec<String>,
    /// [`Filled::live_error`].
    pub live_error: Option<Error>,
}

/// What takes the places of markers in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// Puts the live values in; made of the stored file and the live one.
    pub splice: Splice,
    /// Where a live value is put in, in the order of the file; places as in [`crate::Hidden`].
    pub kept: Vec<String>,
    /// Where the marker is still: what a person has to fill in.
    pub missing: Vec<String>,
    /// Why the live file could not be used, if there was one; then all is missing.
    pub live_error: Option<Error>,
}

/// Puts the values that `live` has into the places of the markers in `stored`.
///
/// Errors as [`fill`].
pub fn restore(format: Format, stored: &[u8], live: Option<&[u8]>) -> Result<Restored, Error> {
    let live = live.as_ref().map(|live| live as &dyn Source);
    let Filled { splice, kept, missing, live_error } = fill(format, &stored, live)?;
    Ok(Restored { bytes: splice.bytes(stored, live)?, kept, missing, live_error })
}

/// Which values that `live` has go into the places of the markers in `stored`. JSON is read in pieces,
/// several times; what has another format is kept in memory.
///
/// Errors only if `stored` cannot be read; it is what is to be restored then, markers and all. Null, an
/// empty string, list or map, and anything with a marker in it is no value to keep.
pub fn fill(
    format: Format,
    stored: &dyn Source,
    live: Option<&dyn Source>,
) -> Result<Filled, Error> {
    let stored = Text::of(stored)?;
    let live = live.map(Text::of).transpose();
    let (tree, found) = if format.is_json() {
        match Wanted::of(format, &stored)? {
            None => (Tree::new(format), Ok(None)),
            Some(wanted) => {
                let both = |live: Text<'_>| {
                    let tree = json::read(format, &stored, &&wanted)?;
                    let found = find(format, &stored, &tree, &live, &wanted)?;
                    Ok((tree, found))
                };
                match live.and_then(|live| live.map(both).transpose()) {
                    Ok(Some((tree, found))) => (tree, Ok(Some(found))),
                    // markers have places, whatever can be told of the lists that they are in
                    Ok(None) => (json::read(format, &stored, &Markers)?, Ok(None)),
                    Err(error) => (json::read(format, &stored, &Markers)?, Err(error)),
                }
            }
        }
    } else {
        let bytes = stored.whole(format)?;
        let (_, text) = decode(format, &bytes)?;
        let tree = read(format, text)?;
        let found = live.and_then(|live| {
            live.map(|live| find_short(&stored, &Side { tree: &tree, text }, &live)).transpose()
        });
        (tree, found)
    };
    let (found, live_error) = match found {
        Ok(found) => (found, None),
        Err(error) => (None, Some(error)),
    };
    let (splice, done) =
        found.unwrap_or_else(|| (Splice::new(&stored, None, Vec::new()), BTreeSet::new()));
    let markers = tree.in_order((0..tree.nodes.len()).filter(|id| tree.is_marker(*id)));
    let (kept, missing): (Vec<Id>, Vec<Id>) = markers.iter().partition(|id| done.contains(id));
    let paths = |ids: Vec<Id>| ids.into_iter().map(|id| tree.path(id)).collect();
    Ok(Filled { splice, kept: paths(kept), missing: paths(missing), live_error })
}

/// What is put into a file, and the markers whose places that are.
type Found = (Splice, BTreeSet<Id>);

fn find(
    format: Format,
    stored: &Text<'_>,
    tree: &Tree,
    live: &Text<'_>,
    wanted: &Wanted,
) -> Result<Found, Error> {
    let found = json::read(format, live, &wanted)?;
    let pairs = pair(tree, &found).into_iter();
    let pairs: Vec<_> = pairs.filter(|(_, value)| is_to_keep(&found, *value)).collect();
    let patch = |(marker, value): &(Id, Id)| {
        let (range, of) = (tree.nodes[*marker].slot.clone()?, found.nodes[*value].slot.clone()?);
        Some(Patch { range, new: New::Of(of) })
    };
    let splice = Splice::new(stored, Some(live), pairs.iter().filter_map(patch).collect());
    // it does not where a live value nests deeper than the reader follows
    if splice.holds(format, stored, Some(live), &mut |_| Ok(()))? {
        return Ok((splice, pairs.into_iter().map(|(marker, _)| marker).collect()));
    }
    Ok((Splice::new(stored, None, Vec::new()), BTreeSet::new()))
}

fn find_short(text: &Text<'_>, stored: &Side<'_>, live: &Text<'_>) -> Result<Found, Error> {
    let format = stored.tree.format;
    let bytes = live.whole(format)?;
    let (_, live) = decode(format, &bytes)?;
    let live = Side { tree: &read(format, live)?, text: live };
    let pairs = pair(stored.tree, live.tree);
    let wishes: Vec<Vec<Fill<'_>>> =
        pairs.iter().map(|(marker, value)| fills(stored, *marker, &live, *value)).collect();
    let placed = place(stored, &wishes);
    let patch = |fill: &&Fill<'_>| {
        let (range, new) = fill.edit.clone();
        Patch { range, new: New::Text(new) }
    };
    let splice = Splice::new(text, None, placed.iter().map(patch).collect());
    Ok((splice, placed.iter().map(|fill| fill.marker).collect()))
}

/// Places of values in `live` that `paths` name and that `new` has at no place that they name: what is lost
/// if `new` takes the place of `live`. Written as in [`crate::Hidden`]. If `new` cannot be read, it is all.
///
/// Errors if nobody can tell which values `live` has.
pub fn lost(
    format: Format,
    new: &dyn Source,
    live: &dyn Source,
    paths: &[Path],
) -> Result<Vec<String>, Error> {
    let named = |source| -> Result<(Tree, Vec<Id>), Error> {
        let text = Text::of(source)?;
        if format.is_json() {
            let tree = json::read(format, &text, &Named { paths, whole: true })?;
            let named = choose(&tree, "", paths)?;
            return Ok((tree, named));
        }
        let bytes = text.whole(format)?;
        let (_, text) = decode(format, &bytes)?;
        let tree = read(format, text)?;
        let named = choose(&tree, text, paths)?;
        Ok((tree, named))
    };
    let (live, values) = named(live)?;
    let new = if values.is_empty() { None } else { named(new).ok() };
    let is_there = |id: &Id| {
        let same = |tree: &Tree, other: Id| match (live.value(*id), tree.value(other)) {
            // written with quotes or without, it is one value
            (Value::Text(one) | Value::Bare(one), Value::Text(other) | Value::Bare(other)) => {
                one == other
            }
            _ => alike(&live, *id, tree, other),
        };
        new.as_ref().is_some_and(|(tree, named)| named.iter().any(|other| same(tree, *other)))
    };
    Ok(values.iter().filter(|id| !is_there(id)).map(|id| live.path(*id)).collect())
}

/// A file and what was read from it.
struct Side<'t> {
    tree: &'t Tree,
    text: &'t str,
}

/// One way to put a live value in the place of a marker.
struct Fill<'t> {
    marker: Id,
    edit: Edit,
    /// What has to stand there then.
    swap: Swap<'t>,
}

/// Markers of `stored`, each with the value of `live` at its place.
pub(crate) fn pair(stored: &Tree, live: &Tree) -> Vec<(Id, Id)> {
    let mut pairs = Vec::new();
    let mut open = match (stored.roots.as_slice(), live.roots.as_slice()) {
        ([one], [other]) => vec![(*one, *other)],
        (some, others) => elements(stored, some, live, others),
    };
    while let Some((s, l)) = open.pop() {
        let l = live.resolve(l);
        if stored.is_marker(s) {
            pairs.push((s, l));
            continue;
        }
        match (stored.value(s), live.value(l)) {
            (Value::Map(some), Value::Map(others)) => {
                open.extend(members(stored, some, live, others));
            }
            (Value::List(some), Value::List(others)) => {
                open.extend(elements(stored, some, live, others));
            }
            _ => {}
        }
    }
    pairs
}

/// Members of two maps with the same key. A key that stands more than once stands as often in both.
fn members(stored: &Tree, some: &[Id], live: &Tree, others: &[Id]) -> Vec<(Id, Id)> {
    let others = by_key(live, others);
    let mut pairs = Vec::new();
    for (key, some) in by_key(stored, some) {
        if let Some(others) = others.get(key)
            && others.len() == some.len()
        {
            pairs.extend(some.into_iter().zip(others.iter().copied()));
        }
    }
    pairs
}

fn by_key<'t>(tree: &'t Tree, ids: &[Id]) -> BTreeMap<&'t str, Vec<Id>> {
    let mut map: BTreeMap<&str, Vec<Id>> = BTreeMap::new();
    for id in ids {
        map.entry(tree.key(*id)).or_default().push(*id);
    }
    map
}

/// Elements of two lists that are the same one, whatever markers hide.
fn elements(stored: &Tree, some: &[Id], live: &Tree, others: &[Id]) -> Vec<(Id, Id)> {
    let (by_some, by_others) = (by_identity(stored, some), by_identity(live, others));
    let mut pairs = Vec::new();
    for (index, s) in some.iter().enumerate() {
        if let Some(identity) = identity(stored, *s) {
            if let (Some(Some(_)), Some(Some(l))) =
                (by_some.get(&identity), by_others.get(&identity))
            {
                pairs.push((*s, *l));
            }
        } else if some.len() == others.len() && alike(stored, *s, live, others[index]) {
            pairs.push((*s, others[index]));
        }
    }
    pairs
}

/// What tells an element from others: one of [`IDENTITIES`], and its value.
fn identity(tree: &Tree, id: Id) -> Option<(&'static str, &str)> {
    let members = tree.children(tree.resolve(id));
    IDENTITIES.iter().find_map(|name| {
        let member = members.iter().find(|member| tree.key(**member) == *name)?;
        match tree.value(tree.resolve(*member)) {
            Value::Text(text) | Value::Bare(text) if !tree.is_marker(*member) => {
                Some((*name, text.as_str()))
            }
            _ => None,
        }
    })
}

/// Elements by identity; none for an identity that more than one has.
fn by_identity<'t>(tree: &'t Tree, ids: &[Id]) -> HashMap<(&'static str, &'t str), Option<Id>> {
    let mut map = HashMap::new();
    for id in ids {
        if let Some(identity) = identity(tree, *id) {
            map.entry(identity).and_modify(|found| *found = None).or_insert(Some(*id));
        }
    }
    map
}

/// Do two values differ in nothing but what markers stand for?
fn alike(stored: &Tree, s: Id, live: &Tree, l: Id) -> bool {
    let mut open = vec![(s, l)];
    while let Some((s, l)) = open.pop() {
        if stored.is_marker(s) {
            continue;
        }
        match (stored.value(s), live.value(l)) {
            (Value::Map(some), Value::Map(others)) => {
                let pairs = members(stored, some, live, others);
                if pairs.len() != some.len() || pairs.len() != others.len() {
                    return false;
                }
                open.extend(pairs);
            }
            (Value::List(some), Value::List(others)) => {
                if some.len() != others.len() {
                    return false;
                }
                open.extend(some.iter().copied().zip(others.iter().copied()));
            }
            (Value::Alias(x), Value::Alias(y)) => {
                if stored.path(*x) != live.path(*y) {
                    return false;
                }
            }
            (x, y) => {
                if x != y {
                    return false;
                }
            }
        }
    }
    true
}

/// Is it a value that is put in the place of a marker?
fn is_to_keep(live: &Tree, value: Id) -> bool {
    !live.hides_nothing(value) && !live.below(value).any(|id| live.is_marker(id))
}

/// The ways to put a live value in the place of a marker, the best first; none if it is none to keep.
fn fills<'t>(stored: &Side<'_>, marker: Id, live: &Side<'t>, value: Id) -> Vec<Fill<'t>> {
    let (old, new) = (&stored.tree.nodes[marker], &live.tree.nodes[value]);
    let (Some(old_slot), Some(new_slot)) = (old.slot.clone(), new.slot.clone()) else {
        return Vec::new();
    };
    if !is_to_keep(live.tree, value) || new.tag == Tag::Other {
        return Vec::new();
    }
    let mut ways = Vec::new();
    // a tag stands before the slot, so it would not come along
    if old.tag == new.tag {
        let raw = live.text[new_slot].to_owned();
        let swap = Swap::Node(live.tree, value);
        let before = stored.text[..old_slot.start].trim_end_matches(' ');
        if new.lead.is_none() {
            ways.push(Fill { marker, edit: (old_slot.clone(), raw), swap });
        } else if before.is_empty() || before.ends_with(['\n', '\r']) {
            ways.push(Fill { marker, edit: (before.len()..old_slot.end, raw), swap });
        }
    }
    if let Some(text) = yaml_string(live.tree, value) {
        let edit = (old_slot, quote(text));
        ways.push(Fill { marker, edit, swap: Swap::Text(text) });
    }
    ways
}

/// The fills that can be made together, at most one for a marker.
fn place<'f, 't>(stored: &Side<'_>, wishes: &'f [Vec<Fill<'t>>]) -> Vec<&'f Fill<'t>> {
    let best: Vec<&Fill<'_>> = wishes.iter().filter_map(|ways| ways.first()).collect();
    if best.is_empty() || holds(stored, &best) {
        return best;
    }
    if wishes.len() > TRIES_MAX {
        return Vec::new();
    }
    let alone = wishes.iter().filter_map(|ways| ways.iter().find(|way| holds(stored, &[*way])));
    let alone: Vec<&Fill<'_>> = alone.collect();
    if holds(stored, &alone) { alone } else { Vec::new() }
}

/// With these fills, does the file hold what it held, but for the live values?
fn holds(stored: &Side<'_>, fills: &[&Fill<'_>]) -> bool {
    let edits = fills.iter().map(|fill| fill.edit.clone()).collect();
    let swaps: BTreeMap<Id, Swap<'_>> = fills.iter().map(|fill| (fill.marker, fill.swap)).collect();
    let out = apply(stored.text, edits);
    read(stored.tree.format, &out).is_ok_and(|found| agree(stored.tree, &found, &swaps))
}

/// The text of a YAML scalar that is a string under every version and schema.
fn yaml_string(tree: &Tree, id: Id) -> Option<&str> {
    const WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "y", "n", "null"];
    if tree.format != Format::Yaml {
        return None;
    }
    match (tree.value(id), tree.nodes[id].tag) {
        (Value::Text(text), _) | (Value::Bare(text), Tag::Text) => Some(text),
        (Value::Bare(text), Tag::None) => {
            let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic())
                && !WORDS.contains(&text.to_ascii_lowercase().as_str());
            is_word.then_some(text)
        }
        _ => None,
    }
}

/// `text` as a string on one line, in double quotes: of YAML, and what it escapes is the same in JSON
/// and TOML.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            ' '..='~'
            | '\u{a0}'..='\u{2027}'
            | '\u{202a}'..='\u{d7ff}'
            | '\u{e000}'..='\u{fefe}' => {
                out.push(c);
            }
            '\u{10000}'.. => out.push(c),
            _ => {
                out.push_str("\\u");
                let digit = |shift: u32| char::from_digit((u32::from(c) >> shift) & 0xf, 16);
                out.extend([12, 8, 4, 0].into_iter().filter_map(digit));
            }
        }
    }
    out.push('"');
    out
}
