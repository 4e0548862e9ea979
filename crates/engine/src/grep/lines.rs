//! The lines of one path that fit, each once, with the snapshots that have it.
//!
//! In: what fits in the contents of the path, the newest first. Out: [`LineFound`]s, one at a time. In
//! memory are a line's id and place; what is shown of it goes through a [`Keep`].

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;
use std::sync::Arc;

use repo::{OpId, Snapshot};

use super::assemble::Occurrence;
use super::keep::{Keep, Ref};
use super::pattern::{Beginning, Hit};
use super::{LineFound, LineNear, Wanted};
use crate::error::Result;

/// A line, as the newest content has it.
#[derive(Debug)]
struct Line {
    shown: Ref,
    number: Option<NonZeroU64>,
    offset: u64,
    /// Which contents have it.
    held: SetId,
}

/// See the module.
#[derive(Debug)]
pub struct Lines<'a> {
    wanted: Wanted,
    keep: Keep,
    all: Vec<Line>,
    /// Lines by their ids; a line that is there several times counts as so many lines.
    known: HashMap<([u8; 16], u32), u32>,
    /// How often each line was there so far, in the content that is looked at.
    seen: HashMap<[u8; 16], u32>,
    /// The content that is looked at; has it anything that fits?
    at: (u32, bool),
    /// The contents that have anything.
    fitting: SetId,
    sets: Sets<'a>,
}

impl<'a> Lines<'a> {
    /// Of contents that are in these snapshots: by rank, and whether the file was gone there.
    pub(super) fn new(
        spans: Vec<BTreeMap<usize, bool>>,
        snapshots: &'a [Snapshot],
        keep: Keep,
        wanted: Wanted,
    ) -> Self {
        let sets = Sets {
            spans,
            snapshots,
            links: vec![(0, 0)],
            linked: HashMap::new(),
            made: HashMap::new(),
        };
        Self {
            wanted,
            keep,
            all: Vec::new(),
            known: HashMap::new(),
            seen: HashMap::new(),
            at: (0, false),
            fitting: 0,
            sets,
        }
    }

    /// From now on lines of this content are added. The newest content comes first.
    pub(super) fn begin(&mut self, content: usize) {
        self.seen.clear();
        self.at = (number(content), false);
    }

    /// A line that fits. False: there is enough of this content.
    pub(super) fn add(&mut self, found: &Occurrence) -> Result<bool> {
        let (at, any) = self.at;
        if !any {
            self.fitting = self.sets.with(self.fitting, at);
            self.at.1 = true;
        }
        if self.wanted == Wanted::Files {
            return Ok(false);
        }
        let again = self.seen.entry(found.hit.id).or_default();
        let key = (found.hit.id, *again);
        *again += 1;
        if let Some(known) = self.known.get(&key) {
            let line = &mut self.all[*known as usize];
            line.held = self.sets.with(line.held, at);
            return Ok(true);
        }
        self.known.insert(key, number(self.all.len()));
        let shown = match self.wanted {
            Wanted::Lines => {
                let coded = minicbor::to_vec(&found.hit).expect("coding into memory does not fail");
                self.keep.put(&coded)?
            }
            Wanted::Counts | Wanted::Files => Ref::default(),
        };
        self.all.push(Line {
            shown,
            number: found.line.and_then(NonZeroU64::new),
            offset: found.offset,
            held: self.sets.with(0, at),
        });
        Ok(true)
    }

    /// All was added. The snapshots that have anything, and whether the file was gone in the newest of them.
    pub(super) fn end(&mut self) -> Option<(Arc<[OpId]>, bool)> {
        (self.known, self.seen) = (HashMap::new(), HashMap::new());
        let sets = &self.sets;
        self.all.sort_by_key(|line| (line.offset, sets.oldest(line.held)));
        (self.fitting != 0).then(|| self.sets.made(self.fitting))
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.keep.file_bytes()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// One of them. They are in the order of their places.
    pub fn get(&mut self, at: usize) -> Result<LineFound> {
        let line = &self.all[at];
        let mut coded = Vec::new();
        self.keep.get(line.shown, &mut coded)?;
        let hit: Hit = minicbor::decode(&coded).expect("as it was coded");
        let near = |line: Beginning| LineNear { text: line.text, len: line.len };
        let (snapshots, _) = self.sets.made(line.held);
        Ok(LineFound {
            line: line.number.map(NonZeroU64::get),
            offset: line.offset,
            len: hit.len,
            text: hit.text,
            text_at: hit.from,
            matched: hit.start..hit.end,
            snapshots,
            before: hit.before.into_iter().map(near).collect(),
            after: hit.after.into_iter().map(near).collect(),
        })
    }

    /// The number of the next one after it in the newest content that has it.
    pub fn next_number(&self, at: usize) -> Option<u64> {
        let newest = self.sets.newest(self.all[at].held);
        let next = self.all[at + 1..].iter().find(|line| self.sets.newest(line.held) == newest);
        next.and_then(|line| line.number).map(NonZeroU64::get)
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).expect("four thousand million lines of one path do not fit in memory")
}

/// A set of contents: a place in `Sets::links`. 0: none.
type SetId = u32;

/// Sets of contents; many lines have the same one.
#[derive(Debug)]
struct Sets<'a> {
    /// Of each content: the places of its snapshots, and whether the file was gone there.
    spans: Vec<BTreeMap<usize, bool>>,
    snapshots: &'a [Snapshot],
    /// A set is another one and one content, which is older than all of that.
    links: Vec<(SetId, u32)>,
    linked: HashMap<(SetId, u32), SetId>,
    made: HashMap<SetId, (Arc<[OpId]>, bool)>,
}

impl Sets<'_> {
    /// The set with one more content.
    fn with(&mut self, set: SetId, content: u32) -> SetId {
        let links = &mut self.links;
        *self.linked.entry((set, content)).or_insert_with(|| {
            links.push((set, content));
            number(links.len() - 1)
        })
    }

    fn oldest(&self, set: SetId) -> u32 {
        self.links[set as usize].1
    }

    fn newest(&self, set: SetId) -> u32 {
        let mut link = self.links[set as usize];
        while link.0 != 0 {
            link = self.links[link.0 as usize];
        }
        link.1
    }

    /// Its snapshots, in their order, and whether the file was gone in the newest of them.
    fn made(&mut self, set: SetId) -> (Arc<[OpId]>, bool) {
        if let Some(made) = self.made.get(&set) {
            return made.clone();
        }
        let mut all: BTreeMap<usize, bool> = BTreeMap::new();
        let mut rest = set;
        while rest != 0 {
            let (next, content) = self.links[rest as usize];
            for (rank, gone) in &self.spans[content as usize] {
                *all.entry(*rank).or_insert(true) &= *gone;
            }
            rest = next;
        }
        let gone = all.last_key_value().is_some_and(|(_, gone)| *gone);
        let made = (all.keys().map(|rank| self.snapshots[*rank].id).collect(), gone);
        self.made.insert(set, made.clone());
        made
    }
}
