//! One rule: its pattern, and what makes a match of it a secret.
//!
//! In: a match. Out: where its secret lies, or none. As upstream does it: the secret is the group
//! that the rule names, else the first group that is not empty, else the match without line ends
//! around it; then come entropy and allowlists. Invariant: a pattern is compiled when it is first
//! needed, for a run that meets no candidate of a rule should not pay for it; that it compiles is
//! proven before.

use std::sync::OnceLock;

use regex_automata::meta::{BuildError, Config, Regex};
use regex_automata::util::captures::Captures;
use regex_automata::{Anchored, Input, Span};
use regex_syntax::hir::Hir;

use crate::pattern;

/// Bytes of one compiled pattern; the largest of the pinned rules needs a tenth.
const COMPILED_BYTES_MAX: usize = 64 << 20;
/// Bytes of a line to either side of a match that an allowlist for lines sees.
pub(crate) const LINE_MAX: usize = 256;

/// One pattern, or several of which one must match.
pub(crate) struct Pattern {
    trees: Vec<Hir>,
    compiled: OnceLock<Regex>,
}

impl Pattern {
    pub(crate) fn read<S: AsRef<str>>(sources: &[S]) -> Result<Pattern, Box<regex_syntax::Error>> {
        let trees = sources.iter().map(|source| pattern::parse(source.as_ref()));
        Ok(Pattern { trees: trees.collect::<Result<_, _>>()?, compiled: OnceLock::new() })
    }

    /// The first of the patterns.
    pub(crate) fn tree(&self) -> &Hir {
        &self.trees[0]
    }

    /// Compiles now, to see that it can be done.
    pub(crate) fn compile(&self) -> Result<(), Box<BuildError>> {
        let regex = self.build()?;
        let _ = self.compiled.set(regex); // somebody else's is the same
        Ok(())
    }

    pub(crate) fn is_match(&self, text: &[u8]) -> bool {
        !self.trees.is_empty() && self.regex().is_match(text)
    }

    pub(crate) fn regex(&self) -> &Regex {
        self.compiled.get_or_init(|| {
            // rules of a user were compiled when they were read, and a test compiles our own
            self.build().expect("a pattern that was proven to compile")
        })
    }

    fn build(&self) -> Result<Regex, Box<BuildError>> {
        let config = Config::new().utf8_empty(false).nfa_size_limit(Some(COMPILED_BYTES_MAX));
        Regex::builder().configure(config).build_many_from_hir(&self.trees).map_err(Box::new)
    }
}

/// What an allowlist's patterns are held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Secret,
    Match,
    Line,
}

/// What is no secret though it looks like one.
pub(crate) struct Allow {
    /// All kinds of conditions must hold, not one.
    pub(crate) all: bool,
    pub(crate) target: Target,
    pub(crate) patterns: Option<Pattern>,
    /// In lower case.
    pub(crate) stopwords: Vec<String>,
    pub(crate) paths: Option<Pattern>,
    /// Ids of the rules it is for; all, if empty.
    pub(crate) rules: Vec<String>,
}

impl Allow {
    /// Is a match allowed? `path` is that of the file, with `/` between its parts.
    fn allows(&self, path: &str, secret: &[u8], matched: &[u8], line: &[u8]) -> bool {
        let target = match self.target {
            Target::Secret => secret,
            Target::Match => matched,
            Target::Line => line,
        };
        let pattern = self.patterns.as_ref().map(|patterns| patterns.is_match(target));
        let word = (!self.stopwords.is_empty()).then(|| {
            let secret = String::from_utf8_lossy(secret).to_lowercase();
            self.stopwords.iter().any(|word| secret.contains(word))
        });
        let place = self.paths.as_ref().map(|paths| paths.is_match(path.as_bytes()));
        let conditions = [pattern, word, place];
        let mut given = conditions.into_iter().flatten();
        if self.all {
            conditions.iter().any(Option::is_some) && given.all(|holds| holds)
        } else {
            given.any(|holds| holds)
        }
    }

    /// Is everything in a file of this path allowed?
    pub(crate) fn allows_path(&self, path: &str) -> bool {
        let only = self.patterns.is_none() && self.stopwords.is_empty();
        let paths = self.paths.as_ref().filter(|_| only || !self.all);
        self.rules.is_empty() && paths.is_some_and(|paths| paths.is_match(path.as_bytes()))
    }
}

/// A rule that looks into files.
pub(crate) struct Rule {
    pub(crate) id: String,
    pub(crate) description: String,
    pub(crate) pattern: Pattern,
    /// Bytes of the longest match that is found whole for sure.
    pub(crate) window_bytes: usize,
    /// The pattern itself sets no limit to its matches.
    pub(crate) unbounded: bool,
    pub(crate) secret_group: usize,
    pub(crate) entropy: Option<f64>,
    pub(crate) path: Option<Pattern>,
    pub(crate) allow: Vec<Allow>,
    pub(crate) report_only: bool,
    /// A match may begin wherever the pattern fits; else only near a keyword.
    pub(crate) free: bool,
}

/// What the pattern matched, and the secret in it.
pub(crate) struct Hit {
    pub(crate) matched: Span,
    pub(crate) secret: Option<Span>,
}

impl Rule {
    /// Where a search that may begin up to `hi` ends, at most.
    pub(crate) fn search_end(&self, hi: usize) -> usize {
        let room = if self.unbounded { 2 * self.window_bytes } else { self.window_bytes };
        hi.saturating_add(room)
    }

    /// Does the rule look into a file of this path?
    pub(crate) fn is_for(&self, path: &str) -> bool {
        self.path.as_ref().is_none_or(|pattern| pattern.is_match(path.as_bytes()))
    }

    /// The first match within `span`; one that begins there, if `anchored`.
    pub(crate) fn search(&self, text: &[u8], span: Span, anchored: bool) -> Option<Hit> {
        let regex = self.pattern.regex();
        let anchored = if anchored { Anchored::Yes } else { Anchored::No };
        let input = Input::new(text).span(span).anchored(anchored);
        // without the groups it is cheap to see that nothing matches
        regex.search_half(&input.clone().earliest(true))?;
        let mut groups = regex.create_captures();
        regex.search_captures(&input, &mut groups);
        let matched = groups.get_match()?.span();
        Some(Hit { matched, secret: self.secret(text, &groups, matched) })
    }

    fn secret(&self, text: &[u8], groups: &Captures, matched: Span) -> Option<Span> {
        if self.secret_group > 0 {
            return groups.get_group(self.secret_group).filter(|span| !span.is_empty());
        }
        let group = groups.iter().skip(1).flatten().find(|span| !span.is_empty());
        if group.is_some() {
            return group;
        }
        let Span { mut start, mut end } = matched;
        while start < end && text[start] == b'\n' {
            start += 1;
        }
        while start < end && text[end - 1] == b'\n' {
            end -= 1;
        }
        (start < end).then_some(Span { start, end })
    }

    /// Is it a secret, by entropy and allowlists? `global` are those of the whole set.
    pub(crate) fn judges(&self, text: &[u8], path: &str, hit: &Hit, global: &[Allow]) -> bool {
        let Some(secret) = hit.secret else { return false };
        let value = &text[secret.range()];
        if self.entropy.is_some_and(|least| entropy_bits(value) <= least) {
            return false;
        }
        let line = line_around(text, hit.matched);
        let mine = self.allow.iter();
        let others =
            global.iter().filter(|allow| allow.rules.is_empty() || allow.rules.contains(&self.id));
        !mine.chain(others).any(|allow| allow.allows(path, value, &text[hit.matched.range()], line))
    }
}

/// The line of a match, at most [`LINE_MAX`] bytes of it to either side.
fn line_around(text: &[u8], matched: Span) -> &[u8] {
    let before = &text[matched.start.saturating_sub(LINE_MAX)..matched.start];
    let behind = &text[matched.end..text.len().min(matched.end + LINE_MAX)];
    let start = before.len() - memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
    let end = memchr::memchr(b'\n', behind).unwrap_or(behind.len());
    &text[matched.start - start..matched.end + end]
}

/// Shannon entropy of a byte of `value`, in bits.
#[allow(clippy::cast_precision_loss, reason = "secrets are short")]
pub(crate) fn entropy_bits(value: &[u8]) -> f64 {
    let mut counts = [0_usize; 256];
    for byte in value {
        counts[usize::from(*byte)] += 1;
    }
    let share = |count: &usize| *count as f64 / value.len() as f64;
    let bits = |share: f64| -share * share.log2();
    counts.iter().filter(|count| **count > 0).map(share).map(bits).sum()
}
