//! What is in the files: read once for each content, and remembered.
//!
//! Of a transcript only the newest version is read: it is what older ones became. If an older one was read
//! before and is the beginning of it, only the rest is. Of a database every version is read, because rows
//! vanish from it; and of a catalogue the newest.

use std::collections::HashSet;
use std::io::Read as _;
use std::sync::Arc;

use adapters::sessions::{RecordFormat, SessionRule, SessionSource};
use repo::Entry;
use sessions::catalogue::{Listed, listed};
use sessions::{Digest, Lines, RowSession};

use super::CACHE_PREFIX;
use super::bytes::Work;
use super::image::Image;
use super::walk::{Held, Version};
use crate::error::{Error, Result};

/// A longer catalogue is not read for titles.
pub(super) const CATALOGUE_BYTES_MAX: u64 = 64 << 20;

/// What was read.
#[derive(Debug)]
pub(super) enum Read {
    /// A transcript: by its place in the list of files, the rule.
    File(usize, Arc<SessionRule>, Digest),
    /// Sessions in one version of a database.
    Rows(usize, usize, Arc<SessionRule>, Vec<RowSession>),
    /// What a catalogue says, with the rule that names it.
    Listed(usize, Arc<SessionRule>, usize, Vec<Listed>),
    /// It could not be read.
    Failed(usize, usize, String),
}

/// Reads what the files hold, those that lie together one after the other.
pub(super) fn read(
    work: &mut Work<'_>,
    held: &[Held],
    used: &mut HashSet<Vec<u8>>,
) -> Result<Vec<Read>> {
    let mut out = Vec::new();
    let mut waiting: Vec<(usize, Arc<SessionRule>)> = Vec::new();
    for (number, file) in held.iter().enumerate() {
        for rule in &file.rules {
            match &rule.source {
                SessionSource::Rows { .. } => {
                    read_database(work, held, number, rule, used, &mut out)?;
                }
                SessionSource::File { .. } => {
                    let Some(version) = file.versions.last() else { continue };
                    let key = key(b"file/", &version.entry.hash, rule);
                    used.insert(key.clone());
                    match cached::<Lines>(work, &key) {
                        Some(lines) => {
                            out.push(Read::File(number, Arc::clone(rule), lines.digest().clone()));
                        }
                        None => waiting.push((number, Arc::clone(rule))),
                    }
                }
            }
        }
        for (rule, catalogue) in &file.lists {
            out.extend(read_catalogue(work, held, number, rule, *catalogue, used)?);
        }
    }
    in_store_order(work, held, &mut waiting)?;
    for (number, rule) in waiting {
        let versions = &held[number].versions;
        out.push(match read_file(work, versions, &held[number].rel, &rule)? {
            Ok(lines) => Read::File(number, rule, lines.digest().clone()),
            Err(why) => Read::Failed(number, versions.len() - 1, why),
        });
    }
    Ok(out)
}

/// Files whose first bytes lie together are read together: many share a block.
fn in_store_order(
    work: &Work<'_>,
    held: &[Held],
    waiting: &mut [(usize, Arc<SessionRule>)],
) -> Result<()> {
    if waiting.len() < 2 {
        return Ok(());
    }
    let reader = work.reader()?;
    let mut places = std::collections::HashMap::new();
    for (number, _) in waiting.iter() {
        let map = held[*number].versions.last().map(|version| &version.entry.map);
        let first =
            map.and_then(|map| reader.extents(map).ok()?.first().map(|e| (e.block, e.offset)));
        let place = first.and_then(|(block, offset)| {
            reader.location(&block).map(|at| (at.pack, at.offset, offset))
        });
        places.insert(*number, place);
    }
    waiting.sort_by_key(|(number, _)| (places[number], *number));
    Ok(())
}

/// Damage concerns one file; anything else ends the reading.
fn survive<T>(result: Result<T>) -> Result<std::result::Result<T, String>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Error::Repo(
            e @ (repo::Error::Corrupt { .. }
            | repo::Error::Missing { .. }
            | repo::Error::WrongKey { .. }),
        )) => Ok(Err(e.to_string())),
        Err(other) => Err(other),
    }
}

fn read_file(
    work: &Work<'_>,
    versions: &[Version],
    rel: &str,
    rule: &SessionRule,
) -> Result<std::result::Result<Lines, String>> {
    let Some((version, older)) = versions.split_last() else { return Ok(Ok(Lines::default())) };
    let read = survive(read_content(work, &version.entry, older, rel, rule))?;
    if let Ok(lines) = &read {
        remember(work, &key(b"file/", &version.entry.hash, rule), lines);
    }
    Ok(read)
}

fn read_content(
    work: &Work<'_>,
    entry: &Entry,
    older: &[Version],
    rel: &str,
    rule: &SessionRule,
) -> Result<Lines> {
    let SessionSource::File { format, .. } = &rule.source else { return Ok(Lines::default()) };
    let before = match format {
        RecordFormat::Lines if !is_compressed(rel) => begun(work, entry, older, rule)?,
        _ => Lines::default(),
    };
    let mut content = work.open(entry, before.offset)?;
    let read = match format {
        RecordFormat::Lines if is_compressed(rel) => sessions::read_compressed(rule, &mut content),
        RecordFormat::Lines => sessions::read_lines(rule, before, &mut content),
        RecordFormat::Document => sessions::read_document(rule, &mut content).map(Lines::from),
    };
    match (content.failure(), read) {
        (Some(error), _) => Err(error),
        (None, Ok(lines)) => Ok(lines),
        // what is stored is right, and is no transcript
        (None, Err(_)) => Ok(Lines::unreadable()),
    }
}

/// Does its name say that it is compressed?
pub(super) fn is_compressed(rel: &str) -> bool {
    rel.rsplit_once('.').is_some_and(|(_, end)| end == "zst")
}

/// What is known of an older version that is the beginning of this one.
fn begun(work: &Work<'_>, entry: &Entry, older: &[Version], rule: &SessionRule) -> Result<Lines> {
    for version in older.iter().rev().filter(|version| version.entry.size <= entry.size) {
        let Some(lines) = cached::<Lines>(work, &key(b"file/", &version.entry.hash, rule)) else {
            continue;
        };
        let reader = work.reader()?;
        let (old, new) = (reader.extents(&version.entry.map)?, reader.extents(&entry.map)?);
        if begins(&old, &new, lines.offset) {
            return Ok(lines);
        }
    }
    Ok(Lines::default())
}

/// Are the first `bytes` of two files in the same places of the same blocks?
fn begins(old: &[repo::Extent], new: &[repo::Extent], bytes: u64) -> bool {
    let (mut at, mut old, mut new) = (0, old.iter().copied(), new.iter().copied());
    let (mut a, mut b) = (old.next(), new.next());
    while at < bytes {
        let (Some(x), Some(y)) = (a.as_mut(), b.as_mut()) else { return false };
        if (x.block, x.offset, x.pages) != (y.block, y.offset, y.pages) {
            return false;
        }
        let len = x.len.min(y.len);
        at += u64::from(len);
        for extent in [&mut *x, &mut *y] {
            extent.offset += len;
            extent.len -= len;
        }
        if x.len == 0 {
            a = old.next();
        }
        if y.len == 0 {
            b = new.next();
        }
    }
    true
}

fn read_database(
    work: &Work<'_>,
    held: &[Held],
    number: usize,
    rule: &Arc<SessionRule>,
    used: &mut HashSet<Vec<u8>>,
    out: &mut Vec<Read>,
) -> Result<()> {
    let mut image: Option<Image> = None;
    for (at, version) in held[number].versions.iter().enumerate() {
        let key = key(b"rows/", &version.entry.hash, rule);
        used.insert(key.clone());
        if let Some(rows) = cached::<Vec<RowSession>>(work, &key) {
            out.push(Read::Rows(number, at, Arc::clone(rule), rows));
            continue;
        }
        let file = match &mut image {
            Some(image) => image,
            None => image.insert(Image::new(work)?),
        };
        let read = survive(file.become_version(work, &version.entry))?.and_then(|()| {
            let rows = file.connect().map_err(sessions::Error::from);
            rows.and_then(|db| sessions::read_rows(&db, rule)).map_err(|e| e.to_string())
        });
        match read {
            Ok(rows) => {
                remember(work, &key, &rows);
                out.push(Read::Rows(number, at, Arc::clone(rule), rows));
            }
            Err(why) => {
                image = None; // what is in it is not known any more
                out.push(Read::Failed(number, at, why));
            }
        }
    }
    Ok(())
}

fn read_catalogue(
    work: &Work<'_>,
    held: &[Held],
    number: usize,
    rule: &Arc<SessionRule>,
    catalogue: usize,
    used: &mut HashSet<Vec<u8>>,
) -> Result<Option<Read>> {
    let Some(version) = held[number].versions.last() else { return Ok(None) };
    let kind = format!("list/{catalogue}/");
    let key = key(kind.as_bytes(), &version.entry.hash, rule);
    used.insert(key.clone());
    if let Some(found) = cached::<Vec<Listed>>(work, &key) {
        return Ok(Some(Read::Listed(number, Arc::clone(rule), catalogue, found)));
    }
    if version.entry.size > CATALOGUE_BYTES_MAX {
        return Ok(None);
    }
    let at = held[number].versions.len() - 1;
    Ok(Some(match survive(whole(work, &version.entry))? {
        Ok(bytes) => {
            let found = listed(&rule.catalogue[catalogue], &bytes);
            remember(work, &key, &found);
            Read::Listed(number, Arc::clone(rule), catalogue, found)
        }
        Err(why) => Read::Failed(number, at, why),
    }))
}

/// The whole content of a small file.
pub(super) fn whole(work: &Work<'_>, entry: &Entry) -> Result<Vec<u8>> {
    let mut content = work.open(entry, 0)?;
    let mut bytes = Vec::new();
    let read = content.read_to_end(&mut bytes);
    match (content.failure(), read) {
        (Some(error), _) => Err(error),
        (None, Ok(_)) => Ok(bytes),
        (None, Err(error)) => Err(super::bytes::damaged(&error.to_string())),
    }
}

fn key(kind: &[u8], hash: &[u8; 32], rule: &SessionRule) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&sessions::VERSION.to_le_bytes()).update(format!("{rule:?}").as_bytes());
    [CACHE_PREFIX, kind, hash, hasher.finalize().as_bytes()].concat()
}

fn cached<T: serde::de::DeserializeOwned>(work: &Work<'_>, key: &[u8]) -> Option<T> {
    serde_json::from_slice(&work.cached(key)?).ok()
}

fn remember<T: serde::Serialize>(work: &Work<'_>, key: &[u8], value: &T) {
    if let Ok(bytes) = serde_json::to_vec(value) {
        work.remember(key, &bytes);
    }
}
