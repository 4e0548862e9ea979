//! Text that a pattern matches, drawn at random from the pattern.

use regex_syntax::hir::{Class, Hir, HirKind};

use crate::hook::bytes_of;

/// SplitMix64, so that every run draws the same.
pub(super) struct Draws(pub(super) u64);

impl Draws {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }
}

/// Appends something that `hir` may match; look-around is left to luck.
pub(super) fn sample(hir: &Hir, draws: &mut Draws, out: &mut Vec<u8>) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => out.extend_from_slice(&literal.0),
        HirKind::Class(class) => out.push(one_of(class, draws)),
        HirKind::Capture(capture) => sample(&capture.sub, draws, out),
        HirKind::Concat(subs) => subs.iter().for_each(|sub| sample(sub, draws, out)),
        HirKind::Alternation(subs) => sample(&subs[draws.below(subs.len())], draws, out),
        HirKind::Repetition(repetition) => {
            let max = repetition.max.unwrap_or(repetition.min + 8).min(repetition.min + 8);
            let more = usize::try_from(max - repetition.min).unwrap() + 1;
            let times = usize::try_from(repetition.min).unwrap() + draws.below(more);
            (0..times).for_each(|_| sample(&repetition.sub, draws, out));
        }
    }
}

/// A printable byte of the class if it has one.
fn one_of(class: &Class, draws: &mut Draws) -> u8 {
    let plain: Vec<u8> = bytes_of(class).filter(|byte| (b' '..=b'~').contains(byte)).collect();
    let all: Vec<u8> = if plain.is_empty() { bytes_of(class).collect() } else { plain };
    all[draws.below(all.len())]
}

/// Prose and code without anything that looks like a secret, about `len` bytes.
pub(super) fn filler(draws: &mut Draws, len: usize) -> String {
    const WORDS: [&str; 24] = [
        "the",
        "skill",
        "tasks",
        "context_length",
        "let",
        "match",
        "(x)",
        "{",
        "}",
        "=>",
        "key",
        "this.a",
        "curly",
        "api-docs",
        "twitter",
        "jira",
        "discord",
        "fs.read",
        "data",
        "a.b.c",
        "token,",
        "\"quoted\"",
        "secret",
        "https://example.org/a?b=c",
    ];
    let mut text = String::new();
    while text.len() < len {
        text.push_str(WORDS[draws.below(WORDS.len())]);
        text.push(if draws.below(9) == 0 { '\n' } else { ' ' });
    }
    text
}
