//! Text as agents write it: prose over a Zipf vocabulary in JSON lines with ids and times.

use std::fmt::Write as _;

/// A small generator (splitmix64): the same seed gives the same text for ever.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.roll().to_le_bytes());
        }
        out.truncate(len);
        out
    }
}

/// Writes text, word by word.
pub struct Writer {
    words: Vec<String>,
    /// Numbers of words, each as often as Zipf's law has it.
    urn: Vec<u16>,
    dice: Dice,
    count: u64,
}

impl Writer {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(77);
        let parts = ["ba", "co", "din", "er", "fla", "go", "ith", "ke", "lum", "ma", "nor", "ous"];
        let words: Vec<String> = (0..12_000)
            .map(|_| (0..=dice.below(4)).map(|_| parts[dice.below(12) as usize]).collect())
            .collect();
        let mut urn = Vec::new();
        for rank in 0..words.len() {
            let share = 24_000 / (rank + 3) + 1;
            urn.extend(std::iter::repeat_n(u16::try_from(rank).unwrap(), share));
        }
        Self { words, urn, dice: Dice::new(seed), count: 0 }
    }

    fn prose(&mut self, out: &mut String, words: u64) {
        for n in 0..words {
            if n > 0 {
                out.push(if self.dice.below(12) == 0 { ',' } else { ' ' });
            }
            let at = self.dice.below(self.urn.len() as u64) as usize;
            out.push_str(&self.words[usize::from(self.urn[at])]);
        }
    }

    fn line(&mut self, out: &mut String) {
        self.count += 1;
        let (id, parent) = (self.dice.roll(), self.dice.roll());
        let who = if self.dice.below(3) == 0 { "user" } else { "assistant" };
        write!(
            out,
            "{{\"parentUuid\":\"{parent:016x}\",\"type\":\"{who}\",\"uuid\":\"{id:016x}\",\
             \"timestamp\":\"2026-10-{:02}T{:02}:{:02}:{:02}Z\",\"message\":{{\"content\":\"",
            self.count / 80_000 % 28 + 1,
            self.count / 3_600 % 24,
            self.count / 60 % 60,
            self.count % 60,
        )
        .unwrap();
        let words = 20 + self.dice.below(180);
        self.prose(out, words);
        writeln!(out, "\",\"tokens\":{}}}}}", self.dice.below(9_000)).unwrap();
    }

    /// Whole lines, cut off at exactly `len` bytes.
    pub fn lines(&mut self, len: usize) -> Vec<u8> {
        let mut out = String::with_capacity(len + 4096);
        while out.len() < len {
            self.line(&mut out);
        }
        out.truncate(len);
        out.into_bytes()
    }
}
