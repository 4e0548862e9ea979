//! What is searched for, and what of a line is shown.
//!
//! In: patterns with the flags of `grep`. Out: the lines in which one fits. A line is bytes without
//! line feed; nothing ever matches across two of them.

use std::ops::Range;

use grep_matcher::Matcher as _;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use minicbor::{Decode, Encode};

use super::{Options, Wanted};
use crate::error::{Error, Result};

/// Patterns, ready to be tried.
#[derive(Debug)]
pub(super) struct Pattern {
    matcher: RegexMatcher,
    /// Bytes of a line that are shown at most; 0: all.
    shown_bytes_max: usize,
    /// Lines around a hit that are shown: so many before it, so many behind.
    pub(super) around: (usize, usize),
}

/// What is shown of a line near a hit: its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Beginning {
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(super) text: Vec<u8>,
    /// The length of the line.
    #[n(1)]
    pub(super) len: u64,
}

/// A line in which a pattern fits.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Hit {
    /// How many line feeds come before it, where it was looked at.
    #[n(0)]
    pub(super) line: u64,
    /// Its first byte, where it was looked at.
    #[n(1)]
    pub(super) at: u64,
    /// BLAKE3 of its bytes, cut: which line it is, wherever it stands.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub(super) id: [u8; 16],
    /// Its length in bytes.
    #[n(3)]
    pub(super) len: u64,
    /// The first match, as range of the line.
    #[n(4)]
    pub(super) start: u64,
    #[n(5)]
    pub(super) end: u64,
    /// What of the line is shown, and where that begins.
    #[n(6)]
    pub(super) from: u64,
    #[cbor(n(7), with = "minicbor::bytes")]
    pub(super) text: Vec<u8>,
    /// Lines before it and behind it, as far as they are where it was looked at.
    #[n(8)]
    pub(super) before: Vec<Beginning>,
    #[n(9)]
    pub(super) after: Vec<Beginning>,
}

/// Cut to what is kept of it.
pub(super) fn line_id(hash: &blake3::Hash) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&hash.as_bytes()[..16]);
    id
}

/// The last line of what a parser says: the others draw the pattern again.
fn reason(said: &str) -> String {
    said.rsplit("error: ").next().unwrap_or(said).to_owned()
}

impl Pattern {
    pub(super) fn new(options: &Options) -> Result<Self> {
        // as grep has it: a line end in a pattern separates patterns
        let patterns: Vec<&str> = options.patterns.iter().flat_map(|p| p.split('\n')).collect();
        let matcher = RegexMatcherBuilder::new()
            .multi_line(true)
            .line_terminator(Some(b'\n'))
            .case_insensitive(options.ignore_case)
            .fixed_strings(options.fixed_strings)
            .word(options.word)
            .build_many(&patterns)
            .map_err(|e| Error::Pattern(reason(&e.to_string())))?;
        let around = match options.wanted {
            Wanted::Lines => (options.lines_before, options.lines_after),
            Wanted::Counts | Wanted::Files => (0, 0),
        };
        Ok(Self { matcher, shown_bytes_max: options.shown_bytes_max, around })
    }

    /// The first match in `bytes` that begins at `from` or later.
    pub(super) fn find(&self, bytes: &[u8], from: usize) -> Option<Range<usize>> {
        let found = self.matcher.find_at(bytes, from);
        let found = found.expect("the matcher cannot fail")?;
        Some(found.start()..found.end())
    }

    /// The hit in one line, if there is one.
    pub(super) fn line(&self, line: &[u8]) -> Option<Hit> {
        let found = self.find(line, 0)?;
        Some(self.hit(line, found, 0, 0))
    }

    /// The hit in one line, whose first match is known.
    pub(super) fn line_at(&self, line: &[u8], found: Range<usize>) -> Hit {
        self.hit(line, found, 0, 0)
    }

    /// The hits in whole lines, each of which ends in a line feed.
    pub(super) fn lines(&self, lines: &[u8]) -> Vec<Hit> {
        let (mut hits, mut from, mut counted, mut number) = (Vec::new(), 0, 0, 0);
        while from < lines.len() {
            let Some(found) = self.find(lines, from) else { break };
            if found.start >= lines.len() {
                break; // behind the last line feed there is no line
            }
            let start = memchr::memrchr(b'\n', &lines[from..found.start]);
            let start = start.map_or(from, |at| from + at + 1);
            let end = memchr::memchr(b'\n', &lines[found.start..]);
            let end = end.map_or(lines.len(), |at| found.start + at);
            number += memchr::memchr_iter(b'\n', &lines[counted..start]).count() as u64;
            let within = found.start - start..found.end.min(end) - start;
            let (before, after) = self.around;
            hits.push(Hit {
                before: self.last_lines(&lines[..start], before),
                after: self.first_lines(lines.get(end + 1..).unwrap_or_default(), after),
                ..self.hit(&lines[start..end], within, number, start as u64)
            });
            (from, counted) = (end + 1, start);
        }
        hits
    }

    fn hit(&self, line: &[u8], found: Range<usize>, number: u64, at: u64) -> Hit {
        let shown = shown(line, &found, self.shown_bytes_max);
        Hit {
            line: number,
            at,
            id: line_id(&blake3::hash(line)),
            len: line.len() as u64,
            start: found.start as u64,
            end: found.end as u64,
            from: shown.start as u64,
            text: line[shown].to_vec(),
            before: Vec::new(),
            after: Vec::new(),
        }
    }

    /// What is shown of a line near a hit. `len` is its length, of which the first bytes are enough.
    pub(super) fn beginning(&self, line: &[u8], len: u64) -> Beginning {
        let shown = shown(line, &(0..0), self.shown_bytes_max);
        Beginning { text: line[shown].to_vec(), len }
    }

    /// Bytes of a line near a hit that are looked at, at most.
    pub(super) fn beginning_bytes_max(&self) -> usize {
        if self.shown_bytes_max == 0 { usize::MAX } else { self.shown_bytes_max + 4 }
    }

    /// The first lines of some, each of which ends in a line feed.
    pub(super) fn first_lines(&self, lines: &[u8], count: usize) -> Vec<Beginning> {
        let (mut out, mut rest) = (Vec::new(), lines);
        while out.len() < count
            && let Some(end) = memchr::memchr(b'\n', rest)
        {
            out.push(self.beginning(&rest[..end], end as u64));
            rest = &rest[end + 1..];
        }
        out
    }

    /// The last ones, in their order.
    pub(super) fn last_lines(&self, lines: &[u8], count: usize) -> Vec<Beginning> {
        let (mut out, mut rest) = (Vec::new(), lines);
        while out.len() < count
            && let Some((b'\n', line)) = rest.split_last().map(|(last, line)| (*last, line))
        {
            let start = memchr::memrchr(b'\n', line).map_or(0, |at| at + 1);
            out.push(self.beginning(&line[start..], (line.len() - start) as u64));
            rest = &line[..start];
        }
        out.reverse();
        out
    }
}

/// What of a line is shown: all of it, or the part around the match, a third of the room before it.
/// No character of UTF-8 is cut in two.
fn shown(line: &[u8], found: &Range<usize>, bytes_max: usize) -> Range<usize> {
    if bytes_max == 0 || line.len() <= bytes_max {
        return 0..line.len();
    }
    let before = bytes_max.saturating_sub(found.len()) / 3;
    let end = found.start.saturating_sub(before).saturating_add(bytes_max).min(line.len());
    let (mut start, mut end) = (end.saturating_sub(bytes_max).min(found.start), end);
    let inside = |at: usize| line.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    while start < found.start && inside(start) {
        start += 1;
    }
    while end > found.start && inside(end) {
        end -= 1;
    }
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(patterns: &[&str], change: impl Fn(&mut Options)) -> Result<Pattern> {
        let patterns = patterns.iter().map(|p| (*p).to_owned()).collect();
        let mut options = Options { patterns, ..Options::default() };
        change(&mut options);
        Pattern::new(&options)
    }

    fn numbers(pattern: &Pattern, lines: &[u8]) -> Vec<(u64, u64)> {
        pattern.lines(lines).iter().map(|hit| (hit.line, hit.at)).collect()
    }

    #[test]
    fn lines_are_found_by_number_and_place_with_empty_ones_and_the_last() {
        let plain = pattern(&["b"], |_| {}).unwrap();
        assert_eq!(numbers(&plain, b"abb\n\nxb\nb\n"), [(0, 0), (2, 5), (3, 8)]);
        let empty = pattern(&["^$"], |_| {}).unwrap();
        assert_eq!(numbers(&empty, b"\na\n\n\n"), [(0, 0), (2, 3), (3, 4)]);
        let end = pattern(&["a$"], |_| {}).unwrap();
        assert_eq!(numbers(&end, b"ab\nba\n"), [(1, 3)]);
        let all = pattern(&[""], |_| {}).unwrap();
        assert_eq!(numbers(&all, b"x\n\ny\n"), [(0, 0), (1, 2), (2, 3)]);
        let space = pattern(&[r"a\sb"], |_| {}).unwrap();
        assert_eq!(numbers(&space, b"a\nb\na b\n"), [(2, 4)]);
    }

    #[test]
    fn flags_mean_what_they_mean_to_grep() {
        let fixed = pattern(&["a.c"], |o| o.fixed_strings = true).unwrap();
        assert_eq!(numbers(&fixed, b"abc\na.c\n"), [(1, 4)]);
        let case = pattern(&["ABC"], |o| o.ignore_case = true).unwrap();
        assert_eq!(numbers(&case, b"xabcx\n"), [(0, 0)]);
        let word = pattern(&["abc"], |o| o.word = true).unwrap();
        assert_eq!(numbers(&word, b"abcd\nabc-d\n_abc\n"), [(1, 5)]);
        let several = pattern(&["one", "two\nthree"], |_| {}).unwrap();
        assert_eq!(numbers(&several, b"one\n2\ntwo\nthree\n").len(), 3);
        assert!(matches!(pattern(&["("], |_| {}), Err(Error::Pattern(_))));
        assert!(matches!(pattern(&[r"a\nb"], |_| {}), Err(Error::Pattern(_))));
    }

    #[test]
    fn of_a_long_line_the_part_around_the_match_is_shown_and_no_character_is_cut() {
        let line = format!("{}needle{}", "\u{e9}".repeat(500), "\u{4e2d}".repeat(500));
        for bytes_max in 1..200 {
            let hit = pattern(&["needle"], |o| o.shown_bytes_max = bytes_max).unwrap();
            let hit = hit.line(line.as_bytes()).unwrap();
            assert!(hit.text.len() <= bytes_max, "{bytes_max}");
            let text = std::str::from_utf8(&hit.text).unwrap();
            assert_eq!(text.contains("needle"), bytes_max >= 6, "{bytes_max}: {text}");
            assert_eq!(
                &line.as_bytes()[usize::try_from(hit.from).unwrap()..][..text.len()],
                hit.text
            );
            assert_eq!((hit.start, hit.end, hit.len), (1000, 1006, 2506));
        }
        let all = pattern(&["needle"], |o| o.shown_bytes_max = 0).unwrap();
        assert_eq!(all.line(line.as_bytes()).unwrap().text, line.as_bytes());
    }
}
