//! From stretches to files: the lines of a content that fit, in order.
//!
//! In: the list of a content's stretches, and what is known of each. Out: [`Occurrence`]s. A line that
//! reaches over the ends of stretches is put together from what was kept of them and looked at once,
//! however many contents have it.

use std::collections::HashMap;

use super::keep::{Keep, Ref};
use super::near::{Near, Past};
use super::pattern::{Beginning, Hit, Pattern, line_id};
use super::plan::{Plan, Reading};
use super::search::Searched;
use super::{Limits, Stats};
use crate::error::{Error, Result};

/// A line that fits, where it stands in a content.
#[derive(Debug, Clone)]
pub(super) struct Occurrence {
    /// Its number, from 1; none in a database.
    pub(super) line: Option<u64>,
    /// Its first byte.
    pub(super) offset: u64,
    /// The lines around it are in there, too.
    pub(super) hit: Hit,
}

/// A part of a line that reaches over the ends of stretches: number of the stretch, and whether it
/// is what comes after the last line feed or what comes before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Part {
    stretch: u32,
    tail: bool,
}

/// See the module.
pub(super) struct Assembler<'a> {
    pub(super) plan: &'a Plan,
    pub(super) searched: &'a Searched,
    pub(super) pattern: &'a Pattern,
    pub(super) limits: &'a Limits,
    pub(super) keep: &'a mut Keep,
    pub(super) stats: &'a mut Stats,
    /// Lines that were put together, by their parts.
    pub(super) joined: HashMap<[u8; 16], Option<Ref>>,
    /// Is nothing of this wanted any more?
    pub(super) is_over: &'a dyn Fn() -> bool,
}

/// What a line is looked for in.
pub(super) type Visit<'v> = dyn FnMut(Occurrence) -> bool + 'v;

impl Assembler<'_> {
    /// Visits the hits of a content in order until the visitor has enough. Says why, if it could
    /// not be searched whole.
    pub(super) fn each(&mut self, content: usize, visit: &mut Visit<'_>) -> Result<Option<String>> {
        let kept = match &self.plan.lists[content] {
            Ok(kept) => *kept,
            Err(why) => return Ok(Some(why.clone())),
        };
        let mut list = Vec::new();
        self.keep.get(kept, &mut list)?;
        let (mut at, mut feeds, mut line_start) = (0_u64, 0_u64, 0_u64);
        let mut parts: Vec<Part> = Vec::new();
        let mut unread = None;
        let mut near = Near::new(self.pattern.around);
        for number in Plan::numbers(&list) {
            if (self.is_over)() {
                return Err(Error::Cancelled);
            }
            let stretch = self.plan.stretches[number as usize];
            let facts = self.searched.facts[number as usize];
            if let Some(why) = self.searched.unread.get(&stretch.block) {
                unread = Some(why.clone());
                // What is around it is searched, and has no line numbers from here on. Lines that
                // reach into it are not: they end where it does.
                at += u64::from(stretch.len);
                (parts, line_start) = (Vec::new(), at);
                if !near.cut(visit) {
                    return Ok(unread);
                }
                continue;
            }
            let pages = matches!(stretch.reading, Reading::Pages { .. });
            let line = |n: u64| (!pages && unread.is_none()).then_some(n);
            if !pages && !facts.head.is_empty() {
                parts.push(Part { stretch: number, tail: false });
            }
            if !pages && facts.feeds > 0 {
                let hit = self.join(&parts)?;
                let found = hit.map(|hit| (line(feeds + 1), line_start, hit));
                if !self.pass(std::mem::take(&mut parts), found, &mut near, visit)? {
                    return Ok(unread);
                }
            }
            if !pages && !self.lead(number, &mut near, visit)? {
                return Ok(unread);
            }
            if !facts.hits.is_empty() {
                let mut coded = Vec::new();
                self.keep.get(facts.hits, &mut coded)?;
                let hits: Vec<Hit> = minicbor::decode(&coded).expect("as they were coded");
                for hit in hits {
                    let line = line(feeds + 2 + hit.line);
                    let found = Occurrence { line, offset: at + hit.at, hit };
                    let whole = pages;
                    if !self.meet(found, whole, &mut near, visit)? {
                        return Ok(unread);
                    }
                }
            }
            if let Some([_, last]) = self.searched.edges.get(number as usize).filter(|_| !pages) {
                near.last(*last, facts.feeds.saturating_sub(1));
            }
            at += u64::from(stretch.len);
            if !pages && facts.feeds > 0 {
                feeds += u64::from(facts.feeds);
                line_start = at - facts.tail.len();
                if !facts.tail.is_empty() {
                    parts.push(Part { stretch: number, tail: true });
                }
            }
        }
        if !parts.is_empty() {
            let line = unread.is_none().then_some(feeds + 1);
            let found = self.join(&parts)?.map(|hit| (line, line_start, hit));
            if !self.pass(parts, found, &mut near, visit)? {
                return Ok(unread);
            }
        }
        near.cut(visit);
        Ok(unread)
    }

    /// A line of these parts goes by; maybe it is a hit. False: the visitor has enough.
    fn pass(
        &mut self,
        parts: Vec<Part>,
        found: Option<(Option<u64>, u64, Hit)>,
        near: &mut Near,
        visit: &mut Visit<'_>,
    ) -> Result<bool> {
        if near.wants_more() {
            let line = self.beginning(&parts)?;
            if !near.feed(&line, visit) {
                return Ok(false);
            }
        }
        if let Some((line, offset, hit)) = found
            && !self.meet(Occurrence { line, offset, hit }, false, near, visit)?
        {
            return Ok(false);
        }
        near.past(Past::Joined(parts), 1);
        Ok(true)
    }

    /// The first lines of a stretch go by, for hits before it.
    fn lead(&mut self, stretch: u32, near: &mut Near, visit: &mut Visit<'_>) -> Result<bool> {
        let Some([first, _]) = self.searched.edges.get(stretch as usize) else { return Ok(true) };
        if first.is_empty() || !near.wants_more() {
            return Ok(true);
        }
        for line in self.kept(*first)? {
            if !near.feed(&line, visit) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A hit, with what came before it. `whole`: nothing is around it.
    fn meet(
        &mut self,
        mut found: Occurrence,
        whole: bool,
        near: &mut Near,
        visit: &mut Visit<'_>,
    ) -> Result<bool> {
        let (before, after) = near.around;
        let missing = before - found.hit.before.len().min(before);
        if !whole && missing > 0 {
            let mut more = self.past(near, missing)?;
            more.append(&mut found.hit.before);
            found.hit.before = more;
        }
        let want = if whole { 0 } else { after - found.hit.after.len().min(after) };
        near.waiting.push_back((found, want));
        Ok(near.hand_on(visit))
    }

    /// The last lines that went by, at most so many.
    fn past(&mut self, near: &Near, count: usize) -> Result<Vec<Beginning>> {
        let mut lines: Vec<Beginning> = Vec::new();
        for (past, _) in near.past.iter().rev() {
            if lines.len() >= count {
                break;
            }
            let mut more = match past {
                Past::Joined(parts) => vec![self.beginning(parts)?],
                Past::Last(last) => self.kept(*last)?,
            };
            more.append(&mut lines);
            lines = more;
        }
        Ok(lines.split_off(lines.len().saturating_sub(count)))
    }

    fn kept(&mut self, place: Ref) -> Result<Vec<Beginning>> {
        let mut coded = Vec::new();
        self.keep.get(place, &mut coded)?;
        Ok(minicbor::decode(&coded).expect("as they were coded"))
    }

    /// What is shown of a line of these parts, near a hit.
    fn beginning(&mut self, parts: &[Part]) -> Result<Beginning> {
        let (mut bytes, mut len) = (Vec::new(), 0);
        for part in parts {
            let place = self.place(*part);
            if bytes.len() < self.pattern.beginning_bytes_max() {
                self.keep.get(place, &mut bytes)?;
            }
            len += place.len();
        }
        bytes.truncate(self.pattern.beginning_bytes_max());
        Ok(self.pattern.beginning(&bytes, len))
    }

    fn place(&self, part: Part) -> Ref {
        let facts = self.searched.facts[part.stretch as usize];
        if part.tail { facts.tail } else { facts.head }
    }

    /// Looks at a line of these parts, unless it was looked at before.
    fn join(&mut self, parts: &[Part]) -> Result<Option<Hit>> {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(u64::from(part.stretch) << 1 | u64::from(part.tail)).to_le_bytes());
        }
        let key = line_id(&hasher.finalize());
        let mut coded = Vec::new();
        match self.joined.get(&key) {
            Some(None) => return Ok(None),
            Some(Some(at)) => {
                self.keep.get(*at, &mut coded)?;
                return Ok(Some(minicbor::decode(&coded).expect("as it was coded")));
            }
            None => {}
        }
        self.stats.lines_joined += 1;
        let hit = self.look(parts)?;
        let kept = match &hit {
            Some(hit) => Some(
                self.keep.put(&minicbor::to_vec(hit).expect("coding into memory does not fail"))?,
            ),
            None => None,
        };
        self.joined.insert(key, kept);
        Ok(hit)
    }

    fn look(&mut self, parts: &[Part]) -> Result<Option<Hit>> {
        let places: Vec<_> = parts.iter().map(|part| self.place(*part)).collect();
        let (mut buffer, mut before, mut found) = (Vec::new(), 0_u64, None);
        let len: u64 = places.iter().map(|place| place.len()).sum();
        if len <= self.limits.line_bytes_max {
            for place in places {
                self.keep.get(place, &mut buffer)?;
            }
            return Ok(self.pattern.line(&buffer));
        }
        // Too long for memory: looked at in windows. Each begins with the end of the one before, so
        // what is no longer than that is found; the bytes before it count, so no window is a line.
        self.stats.lines_in_windows += 1;
        let (overlap, mut hasher) = (self.limits.window_overlap_bytes(), blake3::Hasher::new());
        let last = places.len() - 1;
        for (n, place) in places.into_iter().enumerate() {
            let old = buffer.len();
            self.keep.get(place, &mut buffer)?;
            hasher.update(&buffer[old..]);
            let full = buffer.len() as u64 >= self.limits.line_bytes_max;
            if found.is_none() && (full || n == last) {
                let from = usize::from(before > 0);
                found = self
                    .pattern
                    .find(&buffer, from)
                    .filter(|f| n == last || f.end < buffer.len())
                    .map(|range| {
                        let hit = self.pattern.line_at(&buffer, range);
                        (before, hit)
                    });
            }
            if full {
                let drop = buffer.len().saturating_sub(overlap);
                buffer.drain(..drop);
                before += drop as u64;
            }
        }
        let id = line_id(&hasher.finalize());
        Ok(found.map(|(before, hit)| Hit {
            id,
            len,
            start: before + hit.start,
            end: before + hit.end,
            from: before + hit.from,
            ..hit
        }))
    }
}
