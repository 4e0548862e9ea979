//! The lines around hits, while the stretches of a content go by.
//!
//! In: lines at the ends of stretches, hits with the lines around them that are in their stretch. Out:
//! the hits in order, each with as many lines as are wanted or there. What went by is kept as places, and
//! read only if a hit needs it.

use std::collections::VecDeque;

use super::assemble::{Occurrence, Part, Visit};
use super::keep::Ref;
use super::pattern::Beginning;

/// Lines that went by.
#[derive(Debug)]
pub(super) enum Past {
    /// One line of several parts.
    Joined(Vec<Part>),
    /// The last lines of a stretch.
    Last(Ref),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Near {
    pub(super) around: (usize, usize),
    /// What went by last, with the number of lines.
    pub(super) past: VecDeque<(Past, usize)>,
    /// Hits, and how many more lines behind each are wanted.
    pub(super) waiting: VecDeque<(Occurrence, usize)>,
}

impl Near {
    pub(super) fn new(around: (usize, usize)) -> Self {
        Self { around, past: VecDeque::new(), waiting: VecDeque::new() }
    }

    /// Does a hit that went by want more lines?
    pub(super) fn wants_more(&self) -> bool {
        self.waiting.iter().any(|(_, want)| *want > 0)
    }

    /// A line goes by, for the hits before it.
    pub(super) fn feed(&mut self, line: &Beginning, visit: &mut Visit<'_>) -> bool {
        for (found, want) in self.waiting.iter_mut().filter(|(_, want)| *want > 0) {
            found.hit.after.push(line.clone());
            *want -= 1;
        }
        self.hand_on(visit)
    }

    /// Hands on the hits that have all they want, in order.
    pub(super) fn hand_on(&mut self, visit: &mut Visit<'_>) -> bool {
        while self.waiting.front().is_some_and(|(_, want)| *want == 0) {
            let Some((found, _)) = self.waiting.pop_front() else { break };
            if !visit(found) {
                return false;
            }
        }
        true
    }

    /// Lines went by, for the hits behind them.
    pub(super) fn past(&mut self, past: Past, count: usize) {
        let wanted = self.around.0;
        if wanted == 0 || count == 0 {
            return;
        }
        self.past.push_back((past, count));
        let mut lines: usize = self.past.iter().map(|(_, count)| count).sum();
        while let Some((_, first)) = self.past.front()
            && lines - first >= wanted
        {
            lines -= first;
            self.past.pop_front();
        }
    }

    /// The last lines of a stretch that has so many between its head and its tail.
    pub(super) fn last(&mut self, last: Ref, lines: u32) {
        let count = self.around.0.min(usize::try_from(lines).unwrap_or(usize::MAX));
        self.past(Past::Last(last), count);
    }

    /// Nothing that follows is near what went by.
    pub(super) fn cut(&mut self, visit: &mut Visit<'_>) -> bool {
        self.past.clear();
        for (_, want) in &mut self.waiting {
            *want = 0;
        }
        self.hand_on(visit)
    }
}
