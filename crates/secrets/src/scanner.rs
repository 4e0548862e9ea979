//! Finds secrets in a stream of text.
//!
//! In: the bytes of a file in pieces of any size, with their offsets. Out: findings, in the order
//! of their places. Each byte goes three ways: into the view with escapes undone (`view.rs`), once
//! through the automaton of all literals (`hook.rs`), and, where a literal was found and its
//! surroundings fit, through that rule's pattern, in a window that holds every match which can
//! belong to it.
//!
//! Invariants. What is found depends on the text alone, not on how it was split: a place is looked
//! at when all bytes that its window needs are there, and in the order in which matches can begin.
//! For a rule with a longest match it is exactly what its pattern finds in the whole text; for one
//! without, that holds for matches up to [`Rules::longest_bytes`]. Work is linear in the text: no
//! rule's windows cover a byte more than a bounded number of times, whatever the text ([`Work`]).

use std::collections::VecDeque;
use std::fmt;

use aho_corasick::automaton::{Automaton, StateID};
use regex_automata::Span;

use crate::finding::Finding;
use crate::hook::{LITERAL_MAX, SETS_MAX};
use crate::mark::{self, MARK_BYTES_MAX};
use crate::rule::LINE_MAX;
use crate::rules::Rules;
use crate::view::View;

/// Bytes that are taken in before they are looked at.
const PIECE_BYTES: usize = 32 << 10;
/// Bytes behind a literal that are there when it is met: its surroundings, or a mark around it.
const LAG: usize = if MARK_BYTES_MAX > SETS_MAX { MARK_BYTES_MAX } else { SETS_MAX };
/// Bytes before all open places that stay for what looks back: lines, marks, word boundaries.
const CONTEXT: usize = LINE_MAX + MARK_BYTES_MAX;
/// A rule without literals is asked about so many places at a time.
const TILE_BYTES: usize = 4 << 10;
/// Places of one rule that are so close are searched together.
const JOIN_BYTES: usize = 16;
/// The longest run of places that is searched together.
const JOINED_BYTES_MAX: usize = 4 << 10;

/// Counts what a scan cost.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Bytes of the view that went through the automaton.
    pub bytes: u64,
    /// Literals that were met.
    pub literals: u64,
    /// Searches by a pattern.
    pub searches: u64,
    /// Bytes from where those began to the end of what they found, or of the window.
    pub searched_bytes: u64,
}

/// Matches of a rule that begin in here may exist.
#[derive(Debug, Clone, Copy)]
struct Place {
    lo: usize,
    hi: usize,
}

/// What a rule has open.
#[derive(Debug, Default)]
struct Open {
    /// In order of their beginnings.
    places: VecDeque<Place>,
    /// All matches that begin before are known.
    from: usize,
}

/// Scans one file, or parts of it. Made by [`Scanner::new`]; fed in order; asked to end by
/// [`Scanner::finish`].
pub struct Scanner<'r> {
    rules: &'r Rules,
    key: [u8; 32],
    path: String,
    /// Rules that are for this path.
    active: Vec<bool>,
    view: View,
    /// The automaton has seen the view up to here.
    scanned: usize,
    state: StateID,
    open: Vec<Open>,
    /// Rules without literals were asked up to here.
    tiled: usize,
    /// Found, not yet told.
    found: Vec<Finding<'r>>,
    /// Offsets of line ends from the oldest that a finding may need.
    line_ends: Vec<u64>,
    /// The line that begins before those; none if unknown.
    line: Option<u64>,
    /// Where the next bytes are expected.
    next: Option<u64>,
    work: Work,
}

impl fmt::Debug for Scanner<'_> {
    // never the text
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scanner { path, next, work, .. } = self;
        f.debug_struct("Scanner")
            .field("path", path)
            .field("next", next)
            .field("work", work)
            .finish_non_exhaustive()
    }
}

impl<'r> Scanner<'r> {
    /// A scanner for the file at `path` (written with `/`; some rules are for some paths). `key` is
    /// under the hashes that findings carry.
    pub fn new(rules: &'r Rules, path: &str, key: &[u8; 32]) -> Scanner<'r> {
        let allowed = rules.allows_path(path);
        Scanner {
            active: rules.rules.iter().map(|rule| !allowed && rule.is_for(path)).collect(),
            open: rules.rules.iter().map(|_| Open::default()).collect(),
            rules,
            key: *key,
            path: path.to_owned(),
            view: View::new(0),
            scanned: 0,
            state: start_state(rules),
            tiled: 0,
            found: Vec::new(),
            line_ends: Vec::new(),
            line: None,
            next: None,
            work: Work::default(),
        }
    }

    /// Takes the bytes that lie at `offset`, and tells what is certain by now. Bytes that do not
    /// follow the last ones begin a new part, of which nothing before is known: begin it
    /// [`Rules::overlap_bytes`] before what is new, and leave out what ends before that.
    pub fn feed(&mut self, raw: &[u8], offset: u64, tell: &mut impl FnMut(Finding<'r>)) {
        if self.next != Some(offset) {
            self.finish(tell);
            self.view = View::new(offset);
            self.line = (offset == 0).then_some(1);
        }
        let mut at = offset;
        for piece in raw.chunks(PIECE_BYTES) {
            if self.line.is_some() {
                let ends = memchr::memchr_iter(b'\n', piece).map(|n| at + n as u64);
                self.line_ends.extend(ends);
            }
            self.view.push(piece);
            at += piece.len() as u64;
            if self.view.bytes().len() >= self.scanned + PIECE_BYTES {
                self.advance(false, tell);
            }
        }
        self.next = Some(at);
    }

    /// The text ends here; tells the rest. The scanner can be fed another part after it.
    pub fn finish(&mut self, tell: &mut impl FnMut(Finding<'r>)) {
        self.view.end();
        self.advance(true, tell);
        self.view = View::new(0);
        (self.scanned, self.tiled, self.state) = (0, 0, start_state(self.rules));
        self.open.iter_mut().for_each(|open| *open = Open::default());
        self.line_ends.clear();
        (self.line, self.next) = (None, None);
    }

    /// What the scan cost so far.
    pub fn work(&self) -> Work {
        self.work
    }

    /// No finding that is not told yet begins before this offset.
    pub(crate) fn settled(&self) -> u64 {
        self.view.raw(self.settled_view(false))
    }

    fn settled_view(&self, whole: bool) -> usize {
        if whole {
            return self.view.bytes().len();
        }
        let unseen = self.scanned.saturating_sub(LITERAL_MAX + self.rules.back_max);
        let tiled = if self.rules.everywhere.is_empty() { unseen } else { self.tiled };
        let open = self.open.iter().filter_map(|open| {
            open.places.front().map(|place| place.lo.max(open.from).min(place.hi))
        });
        open.fold(unseen.min(tiled), usize::min)
    }

    /// Looks at what can be looked at. `whole`: nothing follows.
    fn advance(&mut self, whole: bool, tell: &mut impl FnMut(Finding<'r>)) {
        self.meet_literals(whole);
        self.lay_tiles(whole);
        for rule in 0..self.open.len() {
            self.search_places(rule, whole);
        }
        let settled_view = self.settled_view(whole);
        let settled = self.view.raw(settled_view);
        self.found.sort_by(|a, b| {
            let place = |finding: &Finding<'_>| (finding.range.start, u64::MAX - finding.range.end);
            place(a).cmp(&place(b)).then(a.rule.cmp(b.rule))
        });
        let told = self.found.partition_point(|finding| whole || finding.range.start < settled);
        self.found.drain(..told).for_each(tell);
        let keep = settled_view.saturating_sub(CONTEXT);
        if keep >= PIECE_BYTES && !whole {
            self.forget(keep);
        }
    }

    /// Runs the automaton over what is new, and notes where rules can match.
    fn meet_literals(&mut self, whole: bool) {
        let rules = self.rules;
        let text = self.view.bytes();
        let end = if whole { text.len() } else { text.len().saturating_sub(LAG) };
        let (from, automaton) = (self.scanned.min(end), &rules.automaton);
        let mut state = self.state;
        for (n, byte) in text[from..end].iter().enumerate() {
            state = automaton.next_state(aho_corasick::Anchored::No, state, *byte);
            if !automaton.is_special(state) || !automaton.is_match(state) {
                continue;
            }
            for index in 0..automaton.match_len(state) {
                let literal = automaton.match_pattern(state, index);
                let at = from + n + 1 - automaton.pattern_len(literal);
                self.work.literals += 1;
                for (rule, hook) in &rules.hooks[literal.as_usize()] {
                    let open = &mut self.open[*rule];
                    let hi = (at + hook.ahead).saturating_sub(hook.back_min);
                    if hi < open.from || !self.active[*rule] || !hook.fits(text, at) {
                        continue;
                    }
                    if !in_mark(rules, text, at) {
                        open.add(Place { lo: at.saturating_sub(hook.back_max), hi });
                    }
                }
            }
        }
        self.work.bytes += (end - from) as u64;
        self.scanned = end;
        self.state = state;
    }

    /// Rules without literals are asked about every place.
    fn lay_tiles(&mut self, whole: bool) {
        let end = self.view.bytes().len();
        while !self.rules.everywhere.is_empty()
            && (self.tiled + TILE_BYTES <= end || (whole && self.tiled < end))
        {
            let hi = end.min(self.tiled + TILE_BYTES) - 1;
            for rule in self.rules.everywhere.iter().filter(|rule| self.active[**rule]) {
                self.open[*rule].add(Place { lo: self.tiled, hi });
            }
            self.tiled = hi + 1;
        }
    }

    /// Runs a rule's pattern where all that its windows need is there.
    fn search_places(&mut self, rule: usize, whole: bool) {
        let end = self.view.bytes().len();
        let (of, reach) = (&self.rules.rules[rule], self.rules.reach[rule] + LAG);
        let ripe = |place: &Place| whole || place.hi + reach <= end;
        while let Some(mut place) = self.open[rule].take(ripe) {
            // one search for many places gives the same matches, but not where a pattern without a
            // limit makes the end of the window matter
            let apart = if of.free { JOIN_BYTES } else { 1 };
            while !of.unbounded && place.hi - place.lo < JOINED_BYTES_MAX {
                let close = |next: &Place| next.lo <= place.hi + apart && ripe(next);
                let Some(next) = self.open[rule].take(close) else { break };
                place.hi = place.hi.max(next.hi);
            }
            self.search(rule, place);
        }
    }

    /// Finds all matches of a rule that begin in `place`.
    fn search(&mut self, n: usize, place: Place) {
        let (rules, rule) = (self.rules, &self.rules.rules[n]);
        let text = self.view.bytes();
        let from = &mut self.open[n].from;
        let window_end = rule.search_end(place.hi).min(text.len());
        loop {
            let start = place.lo.max(*from);
            if start > place.hi {
                return;
            }
            let span = Span { start, end: window_end };
            self.work.searches += 1;
            let anchored = start == place.hi && !rule.unbounded;
            let hit = rule.search(text, span, anchored);
            let read = hit.as_ref().map_or(window_end, |hit| hit.matched.end);
            self.work.searched_bytes += (read - start) as u64;
            // a match that begins behind the place belongs to another one; but where the pattern
            // has no limit, so that its windows overlap, what was searched is not searched again
            let known =
                if rule.unbounded { place.hi.max(start + rule.window_bytes) } else { place.hi };
            let Some(hit) = hit.filter(|hit| hit.matched.start <= known) else {
                *from = known + 1;
                return;
            };
            if hit.matched.start > place.hi {
                *from = hit.matched.start;
                return;
            }
            *from = hit.matched.end.max(hit.matched.start + 1);
            let Some(secret) = hit.secret else { continue };
            if is_mark(rules, &text[secret.range()])
                || !rule.judges(text, &self.path, &hit, &rules.allow)
            {
                continue;
            }
            let range = self.view.raw(secret.start)..self.view.raw(secret.end);
            let line = self
                .line
                .map(|line| line + self.line_ends.partition_point(|end| *end < range.start) as u64);
            let mut finding = Finding::new(&rule.id, range, line, &text[secret.range()], &self.key);
            finding.report_only = rule.report_only;
            finding.cut =
                rule.unbounded && hit.matched.end == window_end && window_end < text.len();
            self.found.push(finding);
        }
    }

    /// Drops what lies before `keep` in the view.
    fn forget(&mut self, keep: usize) {
        self.view.drop_before(keep);
        self.scanned -= keep;
        self.tiled = self.tiled.saturating_sub(keep);
        for open in &mut self.open {
            open.from = open.from.saturating_sub(keep);
            for place in &mut open.places {
                place.lo = place.lo.saturating_sub(keep);
                place.hi = place.hi.saturating_sub(keep);
            }
        }
        let first = self.view.raw(0);
        let gone = self.line_ends.partition_point(|end| *end < first);
        self.line_ends.drain(..gone);
        self.line = self.line.map(|line| line + gone as u64);
    }
}

impl Open {
    /// Adds a place, in order.
    fn add(&mut self, place: Place) {
        let at = self.places.iter().rposition(|other| other.lo <= place.lo).map_or(0, |n| n + 1);
        self.places.insert(at, place);
    }

    /// The first place, if it is as wanted.
    fn take(&mut self, wanted: impl Fn(&Place) -> bool) -> Option<Place> {
        let first = self.places.front().is_some_and(wanted);
        if first { self.places.pop_front() } else { None }
    }
}

fn start_state(rules: &Rules) -> StateID {
    let start = rules.automaton.start_state(aho_corasick::Anchored::No);
    start.expect("the automaton is built for searches that are not anchored")
}

/// Does `at` lie in a mark that stands for a secret? The ids in marks are full of keywords.
fn in_mark(rules: &Rules, text: &[u8], at: usize) -> bool {
    let from = at.saturating_sub(MARK_BYTES_MAX);
    let Some(open) = memchr::memrchr(b'[', &text[from..=at]) else { return false };
    let mark = mark::parse(&text[from + open..]);
    mark.is_some_and(|mark| at < from + open + mark.len && rules.is_id(mark.rule))
}

/// Is all of a secret a mark that took the place of one before?
fn is_mark(rules: &Rules, secret: &[u8]) -> bool {
    mark::parse(secret).is_some_and(|mark| mark.len == secret.len() && rules.is_id(mark.rule))
}
