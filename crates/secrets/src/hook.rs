//! Where a rule can match: literals that every match has, and how far from them it begins.
//!
//! In: the tree of a pattern, and the rule's keywords. Out: [`Hook`]s. One automaton looks for all
//! literals of all rules at once; the pattern itself runs only where one was found and the bytes
//! around it can belong to a match. Keywords as upstream gives them ("key", "sk", "ey") are met on
//! every line of a transcript, so the literals are taken from the patterns: of each branch the
//! rarest one, by how often its letters are met.
//!
//! Invariant: a match begins between `back_max` before and `ahead` after a literal of its rule. A
//! rule whose pattern does not imply its keyword (40 hexadecimal digits, near "sourcegraph") is
//! asked within [`NEAR`] of the keyword; upstream asks for it anywhere in the file.

use regex_syntax::hir::{Class, Hir, HirKind};

/// Bytes from a keyword to a match that does not contain it.
pub(crate) const NEAR: usize = 256;
/// Longest literal; what is longer is cut.
pub(crate) const LITERAL_MAX: usize = 12;
/// Bytes from the literal on that are compared before a pattern runs.
pub(crate) const SETS_MAX: usize = 24;
/// Literals that one place may stand for.
const LITERALS_MAX: usize = 40;
/// Longest string that is written out in looking for literals and keywords.
const STRING_BYTES_MAX: usize = 200;
/// Ways through a pattern that are looked at one by one.
const BRANCHES_MAX: usize = 48;
/// A literal met more often than this (per byte of text) is no help.
const COST_MAX: f64 = 0.02;
/// What a literal whose distance from the match is not fixed costs more.
const LOOSE: f64 = 4.0;

/// A set of byte values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteSet([u64; 4]);

impl ByteSet {
    const EMPTY: ByteSet = ByteSet([0; 4]);
    const FULL: ByteSet = ByteSet([u64::MAX; 4]);

    fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    pub(crate) fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] & (1 << (byte & 63)) != 0
    }
}

/// A literal, and where a match may begin for each place of it.
#[derive(Clone)]
pub(crate) struct Hook {
    /// In lower case; met in any case.
    pub(crate) literal: Vec<u8>,
    /// A match begins at most so many bytes before it ...
    pub(crate) back_max: usize,
    /// ... and at least so many before it ...
    pub(crate) back_min: usize,
    /// ... or up to so many behind it.
    pub(crate) ahead: usize,
    /// What may stand at the literal and behind it.
    sets: Vec<ByteSet>,
}

impl Hook {
    /// Can a match have the literal at `at`? At the end of `text` only one that is whole.
    pub(crate) fn fits(&self, text: &[u8], at: usize) -> bool {
        self.sets.iter().enumerate().all(|(n, set)| match text.get(at + n) {
            Some(byte) => set.contains(*byte),
            None => *set == ByteSet::FULL,
        })
    }
}

/// How the matches of a rule are found.
pub(crate) enum Find {
    /// At literals.
    Hooks(Vec<Hook>),
    /// No literal is of use: the pattern runs over everything.
    Everywhere,
}

/// Chooses the literals of a rule. `window_bytes` is the longest match that is promised.
pub(crate) fn choose(hir: &Hir, keywords: &[String], window_bytes: usize) -> Find {
    let branches = spread(hir);
    let keywords: Vec<Vec<u8>> = keywords.iter().map(|word| lower(word.as_bytes())).collect();
    let implied = keywords.is_empty() || branches.iter().all(|branch| implies(branch, &keywords));
    let near = |back_max, ahead| {
        let hook = |literal: &Vec<u8>| {
            let mut literal = literal.clone();
            literal.truncate(LITERAL_MAX);
            Hook { literal, back_max, back_min: 0, ahead, sets: Vec::new() }
        };
        Find::Hooks(keywords.iter().map(hook).collect())
    };
    if !implied {
        return near(NEAR, NEAR);
    }
    let mut hooks = Vec::new();
    for branch in &branches {
        match best(branch) {
            Some(found) => hooks.extend(found),
            None if keywords.is_empty() => return Find::Everywhere,
            None => return near(window_bytes, 0),
        }
    }
    Find::Hooks(hooks)
}

fn lower(bytes: &[u8]) -> Vec<u8> {
    bytes.to_ascii_lowercase()
}

/// The ways through a pattern, each as what it goes through in order.
fn spread(hir: &Hir) -> Vec<Vec<Hir>> {
    let whole = || vec![vec![hir.clone()]];
    match hir.kind() {
        HirKind::Capture(capture) => spread(&capture.sub),
        HirKind::Concat(subs) => {
            let mut ways: Vec<Vec<Hir>> = vec![Vec::new()];
            for sub in subs {
                let mut tails = spread(sub);
                if ways.len() * tails.len() > BRANCHES_MAX {
                    tails = vec![vec![sub.clone()]];
                }
                let join = |way: &Vec<Hir>| -> Vec<Vec<Hir>> {
                    tails.iter().map(|tail| [way.as_slice(), tail].concat()).collect()
                };
                ways = ways.iter().flat_map(join).collect();
            }
            ways
        }
        // alternatives that are a sign or two (operators, quotes) hold no literal worth a branch
        HirKind::Alternation(subs) if subs.iter().all(|sub| min_len(sub) >= 3) => {
            let ways: Vec<Vec<Hir>> = subs.iter().flat_map(spread).collect();
            if ways.len() > BRANCHES_MAX { whole() } else { ways }
        }
        _ => whole(),
    }
}

fn min_len(hir: &Hir) -> usize {
    hir.properties().minimum_len().unwrap_or(0)
}

/// Does each match of the branch contain a keyword?
fn implies(branch: &[Hir], keywords: &[Vec<u8>]) -> bool {
    let has = |literal: &Vec<u8>| {
        keywords.iter().any(|word| literal.windows(word.len()).any(|part| part == word))
    };
    (0..branch.len()).any(|from| {
        let mut literals = vec![Vec::new()];
        branch[from..].iter().any(|node| {
            let longer = cross(&literals, node);
            literals = longer.unwrap_or_else(|| vec![Vec::new()]);
            literals.iter().all(has)
        })
    })
}

/// The rarest literals that every match of the branch has at one place.
fn best(branch: &[Hir]) -> Option<Vec<Hook>> {
    let mut best: Option<(f64, Vec<Hook>)> = None;
    let (mut back_min, mut back_max) = (0, Some(0_usize));
    for (from, first) in branch.iter().enumerate() {
        let mut literals = vec![Vec::new()];
        for node in &branch[from..] {
            let Some(longer) = cross(&literals, node) else { break };
            literals = longer;
            if literals.iter().any(Vec::is_empty) {
                continue;
            }
            let Some(back_max) = back_max else { break };
            let mut cut: Vec<Vec<u8>> = literals.clone();
            for literal in &mut cut {
                literal.truncate(LITERAL_MAX);
            }
            cut.sort_unstable();
            cut.dedup();
            let loose = if back_min == back_max { 1.0 } else { LOOSE };
            let cost = loose * cut.iter().map(|literal| frequency(literal)).sum::<f64>();
            if cost < COST_MAX && best.as_ref().is_none_or(|(least, _)| cost < *least) {
                let sets = sets(&branch[from..]);
                let hook =
                    |literal| Hook { literal, back_max, back_min, ahead: 0, sets: sets.clone() };
                best = Some((cost, cut.into_iter().map(hook).collect()));
            }
        }
        back_min += min_len(first);
        let longest = first.properties().maximum_len();
        back_max = back_max.zip(longest).and_then(|(sum, more)| sum.checked_add(more));
    }
    best.map(|(_, hooks)| hooks)
}

/// Each literal with each string that `hir` stands for behind it, in lower case; none if there are
/// too many, or no end to them.
fn cross(literals: &[Vec<u8>], hir: &Hir) -> Option<Vec<Vec<u8>>> {
    let tails = strings(hir)?;
    let bytes = literals[0].len() + tails[0].len();
    if literals.len() * tails.len() > LITERALS_MAX || bytes > STRING_BYTES_MAX {
        return None;
    }
    let join = |head: &Vec<u8>| -> Vec<Vec<u8>> {
        tails.iter().map(|tail| [head.as_slice(), tail].concat()).collect()
    };
    Some(literals.iter().flat_map(join).collect())
}

/// All strings that `hir` stands for, in lower case.
fn strings(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    let mut all = match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => vec![Vec::new()],
        HirKind::Literal(literal) => vec![lower(&literal.0)],
        HirKind::Class(class) => {
            let mut set: Vec<Vec<u8>> =
                bytes_of(class).map(|byte| vec![byte.to_ascii_lowercase()]).collect();
            set.dedup();
            set
        }
        HirKind::Capture(capture) => return strings(&capture.sub),
        HirKind::Concat(subs) => {
            return subs.iter().try_fold(vec![Vec::new()], |literals, sub| cross(&literals, sub));
        }
        HirKind::Alternation(subs) => {
            let each: Option<Vec<Vec<Vec<u8>>>> = subs.iter().map(strings).collect();
            each?.concat()
        }
        HirKind::Repetition(repetition) if repetition.max == Some(repetition.min) => {
            let mut times = 0..repetition.min;
            return times
                .try_fold(vec![Vec::new()], |literals, _| cross(&literals, &repetition.sub));
        }
        HirKind::Repetition(_) => return None,
    };
    all.sort_unstable();
    all.dedup();
    (all.len() <= LITERALS_MAX).then_some(all)
}

/// The bytes of a class.
pub(crate) fn bytes_of(class: &Class) -> impl Iterator<Item = u8> {
    let ranges: Vec<(u8, u8)> = match class {
        Class::Bytes(class) => class.iter().map(|range| (range.start(), range.end())).collect(),
        // patterns are read as bytes; where a class of characters comes of it, it is ASCII
        Class::Unicode(class) => class
            .iter()
            .filter_map(|range| {
                let start = u8::try_from(range.start()).ok()?;
                Some((start, u8::try_from(range.end()).unwrap_or(u8::MAX)))
            })
            .collect(),
    };
    ranges.into_iter().flat_map(|(start, end)| start..=end)
}

/// What may stand at the first [`SETS_MAX`] places of a match of `branch`.
fn sets(branch: &[Hir]) -> Vec<ByteSet> {
    let mut sets = vec![ByteSet::EMPTY; SETS_MAX];
    let ends = branch.iter().fold(1, |at, node| walk(node, at, &mut sets));
    // behind the end of a match stands anything
    for (n, set) in sets.iter_mut().enumerate() {
        if ends & ((1 << (n + 1)) - 1) != 0 {
            *set = ByteSet::FULL;
        }
    }
    sets
}

/// From the places in `at` (one bit each) through `hir`: adds what may stand on the way, and says
/// which places come after.
fn walk(hir: &Hir, at: u32, sets: &mut [ByteSet]) -> u32 {
    const PLACES: u32 = (1 << SETS_MAX) - 1;
    if at == 0 {
        return 0;
    }
    let mut byte = |at: u32, add: &dyn Fn(&mut ByteSet)| {
        let here = sets.iter_mut().enumerate().filter(|(n, _)| at & (1 << n) != 0);
        here.for_each(|(_, set)| add(set));
        (at << 1) & PLACES
    };
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => at,
        HirKind::Literal(literal) => {
            literal.0.iter().fold(at, |at, b| byte(at, &|set: &mut ByteSet| set.insert(*b)))
        }
        HirKind::Class(class) => {
            byte(at, &|set: &mut ByteSet| bytes_of(class).for_each(|b| set.insert(b)))
        }
        HirKind::Capture(capture) => walk(&capture.sub, at, sets),
        HirKind::Concat(subs) => subs.iter().fold(at, |at, sub| walk(sub, at, sets)),
        HirKind::Alternation(subs) => subs.iter().fold(0, |out, sub| out | walk(sub, at, sets)),
        HirKind::Repetition(repetition) => {
            let mut here = at;
            for _ in 0..repetition.min {
                if here == 0 {
                    break;
                }
                here = walk(&repetition.sub, here, sets);
            }
            let mut all = here;
            let more = repetition.max.map_or(u32::MAX, |max| max - repetition.min);
            for _ in 0..more {
                here = walk(&repetition.sub, here, sets) & !all;
                if here == 0 {
                    break;
                }
                all |= here;
            }
            all
        }
    }
}

/// How often a literal is met, per byte of text, if its letters came independently.
fn frequency(literal: &[u8]) -> f64 {
    literal.iter().map(|byte| f64::from(weight(*byte)) / 10_000.0).product()
}

/// Of 10,000 bytes of transcripts (prose and code, in lower case), about how many are this one.
fn weight(byte: u8) -> u16 {
    const LETTERS: [u16; 26] = [
        600, 120, 300, 300, 900, 170, 150, 250, 530, 25, 80, 330, 220, 530, 550, 220, 15, 500, 520,
        650, 230, 80, 110, 50, 120, 20,
    ];
    match byte {
        b'a'..=b'z' => LETTERS[usize::from(byte - b'a')],
        b'0'..=b'9' => 80,
        b' ' => 1400,
        b'\n' | b'"' => 250,
        b'.' | b',' | b':' | b'-' | b'_' | b'/' => 140,
        b'\'' | b'(' | b')' | b'=' | b'{' | b'}' | b'\\' => 70,
        _ => 20,
    }
}
