//! Numbers that are the same in every run.

/// A fixed stream of numbers: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub struct Draws(u64);

impl Draws {
    /// The stream that follows from `seed`.
    pub fn seeded(seed: u64) -> Draws {
        Draws(seed)
    }

    /// The stream that follows from `seed` and a name: streams of different names have nothing to
    /// do with each other.
    pub fn named(seed: u64, name: &str) -> Draws {
        let hash = blake3::hash(format!("{seed}/{name}").as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        Draws(u64::from_le_bytes(first))
    }

    /// The next number. (No iterator: it never ends.)
    #[allow(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `n` - 1.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap_or(0)
    }

    /// A number from `least` to `most`.
    pub fn between(&mut self, least: usize, most: usize) -> usize {
        least + self.below(most - least + 1)
    }

    /// Whether something of `percent` in a hundred happens.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// A length with this mean and a long tail: most are shorter, a few several times longer.
    pub fn length(&mut self, mean: usize) -> usize {
        // The product of three draws from 0 to 1 has the mean 1/8.
        let unit = |draws: &mut Draws| draws.next() >> 43;
        let product = unit(self) * unit(self) * unit(self);
        let scaled = u128::from(product) * (mean as u128) * 8;
        (mean / 8).max(16) + usize::try_from((scaled * 7 / 8) >> 63).unwrap_or(0)
    }

    /// Bytes that do not compress.
    pub fn noise(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// About `len` bytes of made-up words; the product of two draws makes some of them frequent.
    pub fn text(&mut self, len: usize) -> String {
        let mut text = String::with_capacity(len + 16);
        while text.len() < len {
            let rank = self.below(60) * self.below(60);
            let mut word = Draws(rank as u64);
            for _ in 0..=rank % 4 {
                text.push_str(["ka", "ter", "in", "so", "mo", "el", "ri", "the"][word.below(8)]);
            }
            text.push(' ');
        }
        text
    }
}
