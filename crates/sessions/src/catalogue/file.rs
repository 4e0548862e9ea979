//! Catalogues that are text: lines of JSON, or a JSON document with a list or an object of sessions.

use std::collections::BTreeSet;

use adapters::sessions::{Catalogue, CatalogueEntries, Pick};
use serde_json::Value;

use super::scan::{self, find, is_json};
use super::{Listed, Whose};
use crate::digest::one_line;
use crate::record::{Wanted, text};
use crate::{Error, Result};

/// What a catalogue says of all its sessions: of those with one key the last counts.
pub fn listed(catalogue: &Catalogue, bytes: &[u8]) -> Vec<Listed> {
    let mut wanted = Wanted::default();
    let (key, list) = match &catalogue.entries {
        CatalogueEntries::Lines { key } => (key, None),
        CatalogueEntries::List { list, key } => (key, Some(list)),
        CatalogueEntries::Members { members, .. } => return listed_members(members, bytes),
        CatalogueEntries::Rows { .. } | CatalogueEntries::RowList { .. } => return Vec::new(),
    };
    let key = wanted.add(std::slice::from_ref(key));
    let (title, project) = (wanted.add(&catalogue.title), wanted.add(&catalogue.project));
    let mut out = Vec::new();
    let mut take = |text: &[u8]| {
        let Some(slots) = wanted.read(text) else { return };
        if let Some(key) = key.text(&slots) {
            let title = title.text(&slots).and_then(|title| one_line(&title));
            out.push(Listed { key, title, project: project.text(&slots) });
        }
    };
    match list {
        None => bytes.split(|byte| *byte == b'\n').for_each(take),
        Some(list) => {
            if let Ok(Some(at)) = find(bytes, list)
                && let Ok(list) = scan::items(bytes, at.start)
            {
                list.items.into_iter().for_each(|item| take(&bytes[item]));
            }
        }
    }
    out
}

/// The name of a member is the project, its value what templates name.
fn listed_members(keys: &[String], bytes: &[u8]) -> Vec<Listed> {
    let Ok(Some(at)) = find(bytes, keys) else { return Vec::new() };
    let members = scan::members(bytes, at.start).unwrap_or_default();
    let one = |member: scan::Member| {
        let value: Value = serde_json::from_slice(&bytes[member.value]).ok()?;
        Some(Listed { key: text(&value)?, title: None, project: Some(member.name) })
    };
    members.into_iter().filter_map(one).collect()
}

/// Entries of some sessions, as they stand in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    entries: Vec<Entry>,
    /// The document without the entries of others: what an empty home gets.
    alone: Vec<u8>,
}

impl Stored {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// The id, or the name of a member.
    key: String,
    /// As it stands there.
    raw: Vec<u8>,
    value: Value,
}

/// What a merge makes of a catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Bytes that go to the end of the file, or, of a document, the whole of it.
    pub bytes: Vec<u8>,
    /// Whether they are added to the file that is there.
    pub append: bool,
    /// Entries that were missing.
    pub added: usize,
    /// The same as they come in.
    pub new: Vec<Vec<u8>>,
    /// Keys of entries that are there and say something else. They stay.
    pub other: Vec<String>,
}

/// The entries of sessions in the catalogue of a snapshot.
pub fn stored(catalogue: &Catalogue, bytes: &[u8], whose: &Whose) -> Result<Stored> {
    match &catalogue.entries {
        CatalogueEntries::Lines { key } => {
            let entries = lines(key, bytes, &whose.ids);
            let alone = entries.iter().flat_map(|one| [&one.raw[..], b"\n"].concat()).collect();
            Ok(Stored { entries, alone })
        }
        CatalogueEntries::List { list, key } => {
            let Some(at) = find(bytes, list)? else { return Ok(nothing()) };
            let (list, entries) = list_entries(bytes, at.start, key)?;
            let entries: Vec<Entry> =
                entries.into_iter().filter(|one| whose.ids.contains(&one.key)).collect();
            let inner = join(&entries);
            let alone =
                [&bytes[..list.whole.start], b"[", &inner, b"]", &bytes[list.whole.end..]].concat();
            Ok(Stored { entries, alone })
        }
        CatalogueEntries::Members { members, value } => {
            let Some(at) = find(bytes, members)? else { return Ok(nothing()) };
            let wanted: BTreeSet<String> =
                whose.values.iter().filter_map(|values| values.text(value)).collect();
            let entries: Vec<Entry> = member_entries(bytes, at.start)?
                .into_iter()
                .filter(|one| text(&one.value).is_some_and(|value| wanted.contains(&value)))
                .collect();
            let inner = join(&entries);
            let alone = [&bytes[..at.start], b"{", &inner, b"}", &bytes[at.end..]].concat();
            Ok(Stored { entries, alone })
        }
        CatalogueEntries::Rows { .. } | CatalogueEntries::RowList { .. } => Ok(nothing()),
    }
}

fn nothing() -> Stored {
    Stored { entries: Vec::new(), alone: Vec::new() }
}

/// Adds to the catalogue that is there (none: there is none) what it lacks.
pub fn merge(catalogue: &Catalogue, live: Option<&[u8]>, stored: &Stored) -> Result<Merged> {
    let added = stored.entries.len();
    let Some(live) = live.filter(|live| !live.trim_ascii().is_empty()) else {
        let new = stored.entries.iter().map(|entry| entry.raw.clone()).collect();
        let (bytes, other) = (stored.alone.clone(), Vec::new());
        return Ok(Merged { bytes, append: false, added, new, other });
    };
    match &catalogue.entries {
        CatalogueEntries::Lines { key } => Ok(merge_lines(key, live, stored)),
        CatalogueEntries::List { list, key } => {
            let at = find(live, list)?.ok_or_else(|| Error::Shape("it has no list".to_owned()))?;
            let (list, there) = list_entries(live, at.start, key)?;
            let (new, other) = missing(&stored.entries, &there);
            insert(live, list.whole.end - 1, !list.items.is_empty(), &new, other)
        }
        CatalogueEntries::Members { members, .. } => {
            let at = find(live, members)?;
            let at = at.ok_or_else(|| Error::Shape("it has no such object".to_owned()))?;
            let there = member_entries(live, at.start)?;
            let (new, other) = missing(&stored.entries, &there);
            insert(live, at.end - 1, !there.is_empty(), &new, other)
        }
        CatalogueEntries::Rows { .. } | CatalogueEntries::RowList { .. } => {
            Err(Error::Shape("it is a database".to_owned()))
        }
    }
}

/// Puts items before the bracket that closes a list.
fn insert(
    live: &[u8],
    before: usize,
    has_items: bool,
    new: &[&Entry],
    other: Vec<String>,
) -> Result<Merged> {
    let mut bytes = live[..before].trim_ascii_end().to_vec();
    let space = &live[bytes.len()..before];
    for (at, entry) in new.iter().enumerate() {
        if has_items || at > 0 {
            bytes.push(b',');
        }
        bytes.extend_from_slice(&entry.raw);
    }
    bytes.extend_from_slice(space);
    bytes.extend_from_slice(&live[before..]);
    if !is_json(&bytes) {
        return Err(Error::Shape("its entries do not fit together".to_owned()));
    }
    let new: Vec<Vec<u8>> = new.iter().map(|entry| entry.raw.clone()).collect();
    Ok(Merged { bytes, append: false, added: new.len(), new, other })
}

/// Of lines with one key the last counts for who reads them. So what is there last stays last: of a key
/// that is there only those lines are added that came behind its last one.
fn merge_lines(key: &Pick, live: &[u8], stored: &Stored) -> Merged {
    let ids: BTreeSet<String> = stored.entries.iter().map(|one| one.key.clone()).collect();
    let there = lines(key, live, &ids);
    let mut bytes = Vec::new();
    let mut new = Vec::new();
    let mut other = BTreeSet::new();
    for (at, entry) in stored.entries.iter().enumerate() {
        if there.iter().any(|one| one.value == entry.value) {
            continue;
        }
        let last = there.iter().rev().find(|one| one.key == entry.key);
        let is_last = |one: &Entry| last.is_some_and(|last| last.value == one.value);
        if last.is_some() && !stored.entries[..at].iter().any(is_last) {
            other.insert(entry.key.clone());
            continue;
        }
        if bytes.is_empty() && !live.ends_with(b"\n") {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(&entry.raw);
        bytes.push(b'\n');
        new.push(entry.raw.clone());
    }
    let other = other.into_iter().collect();
    Merged { bytes, append: true, added: new.len(), new, other }
}

/// Which of the stored entries are missing, and the keys of those that are there with another value. An
/// agent that has several entries of one session has them all.
fn missing<'s>(stored: &'s [Entry], there: &[Entry]) -> (Vec<&'s Entry>, Vec<String>) {
    let (mut new, mut other) = (Vec::new(), Vec::new());
    for entry in stored {
        let same_key: Vec<&Entry> = there.iter().filter(|one| one.key == entry.key).collect();
        let single = stored.iter().filter(|one| one.key == entry.key).count() == 1;
        if same_key.iter().any(|one| one.value == entry.value) {
            continue;
        }
        if single && same_key.len() == 1 {
            other.push(entry.key.clone());
        } else {
            new.push(entry);
        }
    }
    (new, other)
}

fn lines(key: &Pick, bytes: &[u8], ids: &BTreeSet<String>) -> Vec<Entry> {
    let mut wanted = Wanted::default();
    let key = wanted.add(std::slice::from_ref(key));
    let one = |line: &[u8]| {
        let found = key.text(&wanted.read(line)?).filter(|key| ids.contains(key))?;
        let value = serde_json::from_slice(line).ok()?;
        Some(Entry { key: found, raw: line.trim_ascii_end().to_vec(), value })
    };
    bytes.split(|byte| *byte == b'\n').filter_map(one).collect()
}

fn list_entries(bytes: &[u8], start: usize, key: &Pick) -> Result<(scan::List, Vec<Entry>)> {
    let mut wanted = Wanted::default();
    let key = wanted.add(std::slice::from_ref(key));
    let list = scan::items(bytes, start)?;
    let one = |item: &std::ops::Range<usize>| {
        let raw = &bytes[item.clone()];
        let found = key.text(&wanted.read(raw)?)?;
        Some(Entry { key: found, raw: raw.to_vec(), value: serde_json::from_slice(raw).ok()? })
    };
    let entries = list.items.iter().filter_map(one).collect();
    Ok((list, entries))
}

fn member_entries(bytes: &[u8], start: usize) -> Result<Vec<Entry>> {
    let one = |member: scan::Member| {
        let value = serde_json::from_slice(&bytes[member.value]).ok()?;
        Some(Entry { key: member.name, raw: bytes[member.whole].to_vec(), value })
    };
    Ok(scan::members(bytes, start)?.into_iter().filter_map(one).collect())
}

fn join(entries: &[Entry]) -> Vec<u8> {
    entries.iter().map(|one| &one.raw[..]).collect::<Vec<_>>().join(&b","[..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use adapters::sessions::Values;

    fn field(key: &str) -> Pick {
        Pick::Field { when: None, path: vec![key.to_owned()] }
    }

    fn whose(ids: &[&str]) -> Whose {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        Whose { ids, values: vec![Values::new("x", "tmp/shop/chats/x.json")] }
    }

    fn catalogue(entries: CatalogueEntries) -> Catalogue {
        let (title, project) = (vec![field("title")], Vec::new());
        Catalogue { root: None, files: vec!["x".to_owned()], entries, title, project }
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_comes_back_once_and_all_others_stay() {
        let lines = catalogue(CatalogueEntries::Lines { key: field("id") });
        let snapshot =
            b"{\"id\":\"a\",\"n\":1}\n{\"id\":\"b\"}\n{\"id\":\"a\",\"n\":2}\nnot json\n";
        let stored = stored(&lines, snapshot, &whose(&["a"])).unwrap();
        assert_eq!(stored.len(), 2);
        let empty = merge(&lines, None, &stored).unwrap();
        assert_eq!(text(&empty.bytes), "{\"id\":\"a\",\"n\":1}\n{\"id\":\"a\",\"n\":2}\n");
        // the last line has no end yet
        let live = b"{\"id\":\"c\"}\n{\"n\":1,\"id\":\"a\"}";
        let merged = merge(&lines, Some(live), &stored).unwrap();
        assert_eq!((text(&merged.bytes), merged.append), ("\n{\"id\":\"a\",\"n\":2}\n", true));
        let whole = [&live[..], &merged.bytes].concat();
        assert_eq!(merge(&lines, Some(&whole), &stored).unwrap().added, 0, "a second time");
    }

    #[test]
    fn a_newer_line_of_a_session_stays_its_last_one() {
        let lines = catalogue(CatalogueEntries::Lines { key: field("id") });
        let snapshot = b"{\"id\":\"a\",\"title\":\"1\"}\n{\"id\":\"b\"}\n{\"id\":\"a\",\"title\":\"2\"}\n{\"id\":\"a\",\"title\":\"3\"}\n";
        let stored = stored(&lines, snapshot, &whose(&["a"])).unwrap();
        for (live, added) in [
            // renamed since
            (&b"{\"id\":\"a\",\"title\":\"4\"}\n"[..], ""),
            // the agent keeps only the last
            (b"{\"id\":\"a\",\"title\":\"3\"}\n", ""),
            (
                b"{\"id\":\"a\",\"title\":\"3\"}\n{\"id\":\"c\"}\n{\"id\":\"a\",\"title\":\"4\"}\n",
                "",
            ),
            // an older state of the same list
            (b"{\"id\":\"a\",\"title\":\"2\"}\n", "{\"id\":\"a\",\"title\":\"3\"}\n"),
        ] {
            let merged = merge(&lines, Some(live), &stored).unwrap();
            assert_eq!(text(&merged.bytes), added, "{}", text(live));
            assert_eq!(merged.other, ["a"], "what is left out is told: {}", text(live));
        }
    }

    #[test]
    fn an_item_of_a_list_comes_back_and_nothing_else_moves_by_a_byte() {
        let key = field("id");
        let list = catalogue(CatalogueEntries::List { list: vec!["entries".to_owned()], key });
        let snapshot = br#"{"version": 1, "entries": [{"id":"a","t":1}, {"id":"b"}], "z": 0}"#;
        let stored = stored(&list, snapshot, &whose(&["a"])).unwrap();
        let empty = merge(&list, None, &stored).unwrap();
        assert_eq!(text(&empty.bytes), r#"{"version": 1, "entries": [{"id":"a","t":1}], "z": 0}"#);
        let live = b"{\n  \"entries\": [\n    {\"id\": \"c\"}\n  ],\n  \"mine\": 1.50\n}\n";
        let merged = merge(&list, Some(live), &stored).unwrap();
        let expected = "{\n  \"entries\": [\n    {\"id\": \"c\"},{\"id\":\"a\",\"t\":1}\n  ],\n  \"mine\": 1.50\n}\n";
        assert_eq!(text(&merged.bytes), expected);
        assert_eq!(merge(&list, Some(&merged.bytes), &stored).unwrap().added, 0);
        let live = br#"{"entries":[{"id":"a","t":2}]}"#;
        let merged = merge(&list, Some(live), &stored).unwrap();
        assert_eq!((merged.added, merged.other), (0, vec!["a".to_owned()]), "the live one stays");
        assert_eq!(merged.bytes, live);
        assert!(merge(&list, Some(b"{\"entries\": [1"), &stored).is_err());
    }

    #[test]
    fn a_member_is_found_by_its_value() {
        let members = vec!["projects".to_owned()];
        let entries = CatalogueEntries::Members { members, value: "{2}".to_owned() };
        let catalogue = catalogue(entries);
        let snapshot = br#"{"projects": {"/a/shop": "shop", "/b": "b"}}"#;
        let stored = stored(&catalogue, snapshot, &whose(&[])).unwrap();
        let empty = merge(&catalogue, None, &stored).unwrap();
        assert_eq!(text(&empty.bytes), r#"{"projects": {"/a/shop": "shop"}}"#);
        let merged = merge(&catalogue, Some(br#"{"projects":{}}"#), &stored).unwrap();
        assert_eq!(text(&merged.bytes), r#"{"projects":{"/a/shop": "shop"}}"#);
        assert_eq!(
            listed(&catalogue, snapshot)[0],
            Listed { key: "shop".into(), title: None, project: Some("/a/shop".into()) }
        );
    }
}
