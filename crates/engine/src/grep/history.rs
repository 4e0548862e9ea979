//! What there is to search: every distinct content of the files that are asked for, and in which
//! snapshots each path has which.
//!
//! In: snapshots. Out: a [`History`]. Trees are walked machine by machine, oldest first, and what two
//! neighbours share is read once, so a year of snapshots costs what changed in it.

use std::collections::{BTreeMap, HashMap};

use repo::{BlockId, Entry, Kind, Map, Pages, Reader, Snapshot, path_order};

use super::Options;
use crate::error::{Error, Result};
use crate::pull::Select;

/// The archive of what agents deleted, in a tree: `~gone/TIME/LABEL/...`.
const ARCHIVE: &[u8] = b"~gone/";

/// Bytes that some file has in some snapshot.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) map: Map,
    pub(super) size: u64,
    /// It is a database, of such pages.
    pub(super) pages: Option<Pages>,
    /// A file that has it: its number.
    pub(super) file: usize,
}

/// A path, and what was there.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: Vec<u8>,
    pub(super) held: Vec<Held>,
}

/// A content at a path.
#[derive(Debug)]
pub(super) struct Held {
    /// Its number.
    pub(super) content: usize,
    spans: Vec<Span>,
}

/// Snapshots that follow each other, in the order of walking.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: usize,
    last: usize,
    /// The agent had deleted the file; it was carried on.
    gone: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) contents: Vec<Content>,
    /// In path order.
    pub(super) files: Vec<File>,
    /// From the order of walking to the place in the list of snapshots that was given.
    ranks: Vec<usize>,
}

/// What is at a path in the snapshot that is looked at.
#[derive(Debug, Clone, Copy)]
struct Now {
    file: usize,
    held: usize,
    since: usize,
}

impl History {
    /// The places in the list of snapshots at which a file had a content, each with whether the
    /// file was gone by then.
    pub(super) fn snapshots(&self, held: &Held) -> BTreeMap<usize, bool> {
        let mut out = BTreeMap::new();
        for span in &held.spans {
            for rank in &self.ranks[span.first..=span.last] {
                let gone = out.entry(*rank).or_insert(true);
                *gone &= span.gone;
            }
        }
        out
    }

    /// Reads the trees of snapshots, which come oldest first.
    pub(super) fn read(
        reader: &Reader<'_>,
        snapshots: &[Snapshot],
        options: &Options,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Self> {
        let mut ranks: Vec<usize> = (0..snapshots.len()).collect();
        ranks.sort_by_key(|rank| (snapshots[*rank].machine, *rank));
        let mut gathering = Gathering {
            history: Self { ranks, ..Self::default() },
            wanted: Wanted::new(snapshots, options)?,
            files: HashMap::new(),
            contents: HashMap::new(),
            now: HashMap::new(),
            links: BTreeMap::new(),
        };
        let mut last: Option<&BlockId> = None;
        for at in 0..snapshots.len() {
            if is_over() {
                return Err(Error::Cancelled);
            }
            let tree = &snapshots[gathering.history.ranks[at]].tree;
            let mut change = |path: &[u8], entry: Option<&Entry>| gathering.change(at, path, entry);
            match last {
                None => reader.walk(tree, &mut |path, entry| {
                    change(&path, Some(&entry));
                    Ok(())
                })?,
                Some(last) => reader.diff(last, tree, &mut |path, _, new| {
                    change(path, new);
                    Ok(())
                })?,
            }
            gathering.resolve_links(at, reader, tree)?;
            last = Some(tree);
        }
        Ok(gathering.finish(snapshots.len()))
    }
}

/// A history in the making.
struct Gathering {
    history: History,
    wanted: Wanted,
    /// Numbers of files by the path at which they lived.
    files: HashMap<Vec<u8>, usize>,
    /// Numbers of contents by hash and length.
    contents: HashMap<([u8; 32], u64), usize>,
    now: HashMap<Vec<u8>, Now>,
    /// Hard links in the snapshot that is looked at, and the path that has their content.
    links: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Gathering {
    /// In snapshot `at` there is this entry at the path, or nothing any more.
    fn change(&mut self, at: usize, path: &[u8], entry: Option<&Entry>) {
        self.links.remove(path);
        let entry = entry.filter(|e| e.kind == Kind::File && self.wanted.fits(path));
        if let Some(first) = entry.and_then(|entry| entry.link.clone()) {
            self.links.insert(path.to_vec(), first);
            return; // its content is looked up when all entries are known
        }
        self.set(at, path, entry);
    }

    fn set(&mut self, at: usize, path: &[u8], entry: Option<&Entry>) {
        let entry = entry.filter(|entry| entry.size > 0);
        let new = entry.map(|entry| self.hold(path, entry));
        let old = self.now.get(path).copied();
        if let (Some(old), Some((file, held))) = (old, new)
            && (old.file, old.held) == (file, held)
        {
            return; // only its metadata changed
        }
        if let Some(old) = old {
            self.end(path, old, at);
            self.now.remove(path);
        }
        if let Some((file, held)) = new {
            self.now.insert(path.to_vec(), Now { file, held, since: at });
        }
    }

    /// The number of a path's file, and of the content in what it held.
    fn hold(&mut self, path: &[u8], entry: &Entry) -> (usize, usize) {
        let (lived, _) = lived(path);
        let files = &mut self.history.files;
        let file = *self.files.entry(lived.to_vec()).or_insert_with(|| {
            files.push(File { path: lived.to_vec(), held: Vec::new() });
            files.len() - 1
        });
        let contents = &mut self.history.contents;
        let content = *self.contents.entry((entry.hash, entry.size)).or_insert_with(|| {
            let (map, size, pages) = (entry.map.clone(), entry.size, entry.pages);
            contents.push(Content { map, size, pages, file });
            contents.len() - 1
        });
        let held = &mut self.history.files[file].held;
        let known = held.iter().rposition(|held| held.content == content);
        let known = known.unwrap_or_else(|| {
            held.push(Held { content, spans: Vec::new() });
            held.len() - 1
        });
        (file, known)
    }

    /// What was at a path was there for the last time before snapshot `at`.
    fn end(&mut self, path: &[u8], was: Now, at: usize) {
        let (_, gone) = lived(path);
        if let Some(last) = at.checked_sub(1).filter(|last| *last >= was.since) {
            let span = Span { first: was.since, last, gone };
            self.history.files[was.file].held[was.held].spans.push(span);
        }
    }

    /// Gives hard links the content of the entry they name, which may have changed without them.
    fn resolve_links(&mut self, at: usize, reader: &Reader<'_>, tree: &BlockId) -> Result<()> {
        if self.links.is_empty() {
            return Ok(());
        }
        let mut targets: HashMap<&[u8], Option<Entry>> =
            self.links.values().map(|first| (first.as_slice(), None)).collect();
        reader.walk(tree, &mut |path, entry| {
            if let Some(target) = targets.get_mut(path.as_slice()) {
                *target = Some(entry).filter(|e| e.kind == Kind::File && e.link.is_none());
            }
            Ok(())
        })?;
        let found: Vec<_> = self
            .links
            .iter()
            .map(|(path, first)| (path.clone(), targets[first.as_slice()].clone()))
            .collect();
        for (path, entry) in found {
            self.set(at, &path, entry.as_ref());
        }
        Ok(())
    }

    fn finish(mut self, count: usize) -> History {
        for (path, was) in std::mem::take(&mut self.now) {
            self.end(&path, was, count);
        }
        let History { mut contents, files, ranks } = self.history;
        let mut order: Vec<usize> = (0..files.len()).collect();
        order.sort_by(|a, b| path_order(&files[*a].path, &files[*b].path));
        let mut numbers = vec![0; files.len()];
        for (new, old) in order.iter().enumerate() {
            numbers[*old] = new;
        }
        for content in &mut contents {
            content.file = numbers[content.file];
        }
        let mut files: Vec<Option<File>> = files.into_iter().map(Some).collect();
        let files = order.into_iter().filter_map(|old| files[old].take()).collect();
        History { contents, files, ranks }
    }
}

/// The path at which a file lived, and whether this is the archive's.
fn lived(path: &[u8]) -> (&[u8], bool) {
    let rest = path.strip_prefix(ARCHIVE).and_then(|rest| {
        let end = rest.iter().position(|byte| *byte == b'/')?;
        Some(&rest[end + 1..])
    });
    (rest.unwrap_or(path), rest.is_some())
}

/// Which paths are asked for.
struct Wanted {
    select: Select,
    /// Labels of the roots of one agent, if it is asked for.
    labels: Option<Vec<Vec<u8>>>,
}

impl Wanted {
    fn new(snapshots: &[Snapshot], options: &Options) -> Result<Self> {
        let roots = snapshots.iter().flat_map(|snapshot| &snapshot.roots);
        let mut labels: Vec<Vec<u8>> =
            roots.clone().map(|root| root.label.as_bytes().to_vec()).collect();
        labels.sort_unstable();
        labels.dedup();
        let bad = |e: crate::pull::Error| Error::Pattern(e.to_string());
        let select = Select::new(&options.paths, &labels).map_err(bad)?;
        let labels = (!options.agents.is_empty()).then(|| {
            let theirs =
                roots.filter(|r| r.agent.as_ref().is_some_and(|a| options.agents.contains(a)));
            theirs.map(|root| root.label.as_bytes().to_vec()).collect()
        });
        Ok(Self { select, labels })
    }

    fn fits(&self, path: &[u8]) -> bool {
        let (path, _) = lived(path);
        let below = |label: &Vec<u8>| {
            let rest = path.strip_prefix(label.as_slice());
            rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        self.labels.as_ref().is_none_or(|labels| labels.iter().any(below))
            && (self.select.is_empty() || self.select.covers(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_its_agent_deleted_is_known_by_the_path_at_which_it_lived() {
        assert_eq!(lived(b"codex/home/a"), (&b"codex/home/a"[..], false));
        assert_eq!(lived(b"~gone/20260102T030405Z/codex/home/a"), (&b"codex/home/a"[..], true));
        assert_eq!(lived(b"~gone"), (&b"~gone"[..], false));
        assert_eq!(lived(b"~gone/x"), (&b"~gone/x"[..], false));
        assert_eq!(lived(b"~gones/x/y"), (&b"~gones/x/y"[..], false));
    }
}
