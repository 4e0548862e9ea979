//! Text that compresses as what agents keep: prose, source code, listings, JSON around them.
//!
//! In: a stream of draws. Out: strings. Words follow Zipf's law over a fixed vocabulary with set
//! phrases in it; source lines are templates over few identifiers. A page of it shrinks with zstd-3
//! by about two to three, as transcripts do; `sizes` has the cruder text of `corpus`.

use std::fmt::Write as _;

use crate::draws::Draws;

/// A table of so many places makes a draw one look-up.
const TABLE_PLACES: usize = 1 << 16;
const WORDS: usize = 14_000;
const PHRASES: usize = 5_000;
const IDENTIFIERS: usize = 4_000;
const FILES: usize = 3_000;
/// Words and identifiers that one text comes back to.
const TOPIC_WORDS: usize = 20;
const TOPIC_IDENTIFIERS: usize = 8;

const TEMPLATES: [&str; 16] = [
    "    let {} = {}.{}({})?;\n",
    "    if {}.is_empty() {\n        return Err(Error::{}(\"{}\".into()));\n    }\n",
    "    for {} in {}.iter() {\n",
    "pub fn {}({}: &{}, {}: usize) -> Result<()> {\n",
    "    self.{}.insert({}, {}.clone());\n",
    "    assert_eq!({}({}), {});\n",
    "    match {} {\n        Some({}) => {}({}),\n        None => {}::default(),\n    }\n}\n\n",
    "    def {}(self, {}, {}=None):\n",
    "        self.{} = {}.{}({})\n",
    "        return {}.{}[{}]\n",
    "    const {} = await {}.{}({ {}: true });\n",
    "import { {}, {} } from \"../{}/{}\";\n",
    "    logger.info(\"{} {} done\", { {}: {}.length });\n",
    "    {}: {}<{}>,\n",
    "    while let Some({}) = {}.next() {\n",
    "    let mut {} = Vec::with_capacity({}.len());\n",
];

/// A writer of text: vocabulary, identifiers and source files, all from one seed.
#[derive(Debug)]
pub struct Prose {
    /// Words and phrases, back to back, each with a blank behind it.
    words: Vec<String>,
    /// Which word a draw of 16 bits means.
    table: Vec<u16>,
    identifiers: Vec<String>,
    files: Vec<String>,
}

/// What one text is about: places in the vocabulary that it comes back to.
struct Topic {
    words: [usize; TOPIC_WORDS],
    identifiers: [usize; TOPIC_IDENTIFIERS],
}

impl Prose {
    /// Makes the vocabulary and the source files.
    pub fn new(seed: u64) -> Prose {
        let mut draws = Draws::named(seed, "vocabulary");
        let mut words: Vec<String> = (0..WORDS).map(|rank| word(&mut draws, rank)).collect();
        let plain = zipf(words.len());
        for n in 0..PHRASES {
            let len = draws.between(2, 6);
            let phrase: String = (0..len)
                .map(|_| words[usize::from(plain[draws.below(TABLE_PLACES)]) % WORDS].clone())
                .collect();
            // A phrase after every third word, most frequent first.
            words.insert((60 + n * 4).min(words.len()), phrase);
        }
        let identifiers = (0..IDENTIFIERS)
            .map(|_| {
                let parts = draws.between(1, 3);
                let parts: Vec<&str> =
                    (0..parts).map(|_| words[draws.below(WORDS)].trim_end()).collect();
                parts.join("_").replace(' ', "_")
            })
            .collect();
        let table = zipf(words.len());
        let mut prose = Prose { words, table, identifiers, files: Vec::new() };
        prose.files = (0..FILES)
            .map(|_| {
                let len = draws.length(9_000);
                prose.source(&mut draws, len)
            })
            .collect();
        prose
    }

    /// A word or a set phrase, with a blank behind it.
    fn word(&self, draw: u64) -> &str {
        &self.words[usize::from(self.table[usize::from(low_bits(draw))])]
    }

    /// What the next text is about.
    fn topic(&self, draws: &mut Draws) -> Topic {
        Topic {
            words: std::array::from_fn(|_| draws.below(self.words.len())),
            identifiers: std::array::from_fn(|_| draws.below(IDENTIFIERS)),
        }
    }

    /// About `len` bytes of sentences.
    pub fn sentences(&self, draws: &mut Draws, len: usize) -> String {
        let topic = self.topic(draws);
        self.sentences_about(&topic, draws, len)
    }

    fn sentences_about(&self, topic: &Topic, draws: &mut Draws, len: usize) -> String {
        let mut text = String::with_capacity(len + 64);
        let mut left = 0;
        while text.len() < len {
            let mut bits = draws.next();
            for _ in 0..4 {
                if left == 0 {
                    left = 6 + bits % 14;
                    if !text.is_empty() {
                        text.truncate(text.trim_end().len());
                        text.push_str(if bits & 0x700 == 0 { ".\n\n" } else { ". " });
                    }
                }
                // Every seventh word is one of the topic's.
                let topical = usize::from(low_bits(bits.rotate_left(29))) % (7 * TOPIC_WORDS);
                text.push_str(match topic.words.get(topical) {
                    Some(word) => &self.words[*word],
                    None => self.word(bits),
                });
                left -= 1;
                bits >>= 16;
            }
        }
        text
    }

    /// About `len` bytes of new source lines.
    pub fn source(&self, draws: &mut Draws, len: usize) -> String {
        let topic = self.topic(draws);
        let mut text = String::with_capacity(len + 128);
        while text.len() < len {
            if draws.chance(20) {
                let _ = write!(text, "    // {}", self.sentences_about(&topic, draws, 50));
                let _ = write!(text, "\n    const LIMIT: u64 = {:#x};\n", draws.next() >> 16);
            }
            let mut parts = TEMPLATES[draws.below(TEMPLATES.len())].split("{}");
            text.push_str(parts.next().unwrap_or_default());
            for part in parts {
                text.push_str(self.identifier(&topic, draws));
                text.push_str(part);
            }
        }
        text
    }

    /// Every other one is of the topic.
    fn identifier(&self, topic: &Topic, draws: &mut Draws) -> &str {
        let one = match topic.identifiers.get(draws.below(TOPIC_IDENTIFIERS * 2)) {
            Some(one) => *one,
            None => draws.below(IDENTIFIERS),
        };
        &self.identifiers[one]
    }

    /// A window of a file that was read before and will be read again.
    pub fn reread(&self, draws: &mut Draws, len: usize) -> String {
        let file = self.files[draws.below(FILES)].as_bytes();
        let from = draws.below(file.len().saturating_sub(len).max(1));
        let window = &file[from..file.len().min(from + len)];
        let mut text = String::from_utf8_lossy(window).into_owned();
        while text.len() < len {
            let rest = len - text.len();
            text.push_str(&self.source(draws, rest.min(4_000)));
        }
        text
    }

    /// About `len` bytes of what a tool prints: tests, listings, matches.
    pub fn listing(&self, draws: &mut Draws, len: usize) -> String {
        let topic = self.topic(draws);
        let mut text = String::with_capacity(len + 128);
        let kind = draws.below(3);
        while text.len() < len {
            let (a, b) = (self.identifier(&topic, draws), self.identifier(&topic, draws));
            let number = draws.below(90_000);
            let _ = match kind {
                0 => writeln!(text, "test {a}::{b} ... ok"),
                1 => writeln!(
                    text,
                    "-rw-r--r-- 1 dev dev {number:6} Oct 12 10:{:02} src/{a}/{b}.rs",
                    number % 60
                ),
                _ => {
                    writeln!(text, "src/{a}/{b}.ts:{}: {}", number % 900, self.sentences(draws, 40))
                }
            };
        }
        text
    }

    /// What an agent's message holds: mostly prose, some tool output, some files read again.
    pub fn body(&self, draws: &mut Draws, len: usize) -> String {
        match draws.below(10) {
            0..=4 => self.sentences(draws, len),
            5 | 6 => self.reread(draws, len),
            7 => self.source(draws, len),
            8 => self.listing(draws, len),
            _ => self.records(draws, len),
        }
    }

    /// An answer of a tool in JSON, itself text.
    fn records(&self, draws: &mut Draws, len: usize) -> String {
        let topic = self.topic(draws);
        let mut text = String::from("{\n  \"items\": [");
        while text.len() < len {
            let (id, node) = (draws.below(10_000_000), draws.next());
            let title = self.sentences_about(&topic, draws, 45);
            let _ = write!(
                text,
                "\n    {{\n      \"id\": {id},\n      \"node\": \"{node:016x}\",\n      \"title\": \"{}\",\n      \"state\": \"open\"\n    }},",
                title.replace('\n', " ")
            );
        }
        text.push_str("\n  ]\n}");
        text
    }
}

/// The low 16 bits.
fn low_bits(draw: u64) -> u16 {
    let [low, high, ..] = draw.to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// Places in proportion to 1 / (rank + 2.7).
fn zipf(count: usize) -> Vec<u16> {
    let weights: Vec<f64> = (0..count).map(|rank| 1.0 / (rank as f64 + 2.7)).collect();
    let total: f64 = weights.iter().sum();
    let (mut table, mut sum) = (Vec::with_capacity(TABLE_PLACES), 0.0);
    for (rank, weight) in weights.iter().enumerate() {
        sum += weight;
        let rank = u16::try_from(rank).unwrap_or(u16::MAX);
        while table.len() < TABLE_PLACES && (table.len() as f64) < sum / total * TABLE_PLACES as f64
        {
            table.push(rank);
        }
    }
    table.resize(TABLE_PLACES, 0);
    table
}

/// A made-up word; frequent ones are short.
fn word(draws: &mut Draws, rank: usize) -> String {
    const ONSETS: [&str; 24] = [
        "b", "c", "d", "f", "g", "h", "l", "m", "n", "p", "r", "s", "t", "v", "w", "br", "ch",
        "cl", "gr", "pr", "sh", "st", "th", "tr",
    ];
    const NUCLEI: [&str; 12] = ["a", "e", "i", "o", "u", "a", "e", "i", "ea", "ee", "io", "ou"];
    const CODAS: [&str; 16] =
        ["", "", "", "", "", "ck", "d", "l", "m", "n", "nd", "r", "s", "st", "t", "x"];
    let syllables = if rank < 200 { 1 } else { draws.between(1, 4) };
    let mut word = String::new();
    for _ in 0..syllables {
        for set in [&ONSETS[..], &NUCLEI[..], &CODAS[..]] {
            word.push_str(set[draws.below(set.len())]);
        }
    }
    word.push(' ');
    word
}

/// `text` as a JSON string, quotes included.
pub fn json_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16 + 2);
    out.push('"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escaped = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\t' => "\\t",
            _ => continue,
        };
        out.push_str(&text[from..at]);
        out.push_str(escaped);
        from = at + 1;
    }
    out.push_str(&text[from..]);
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::zstd_pieces;

    #[test]
    fn a_page_of_messages_compresses_as_transcripts_do() {
        let prose = Prose::new(1);
        let mut draws = Draws::seeded(5);
        let mut text = String::new();
        while text.len() < 1 << 20 {
            let len = draws.length(1_400);
            text.push_str(&json_string(&prose.body(&mut draws, len)));
        }
        let by_page = text.len() as f64 / zstd_pieces(text.as_bytes(), 4096, 3).unwrap() as f64;
        assert!((1.9..=3.5).contains(&by_page), "{by_page}");
    }

    #[test]
    fn the_same_seed_says_the_same_and_another_does_not() {
        let say = |seed| Prose::new(seed).body(&mut Draws::seeded(9), 3_000);
        assert_eq!(say(1), say(1));
        assert_ne!(say(1), say(2));
    }

    #[test]
    fn a_json_string_is_read_back_as_it_was() {
        let text = "a \"quoted\"\tC:\\path\nend";
        assert_eq!(serde_json::from_str::<String>(&json_string(text)).unwrap(), text);
    }

    #[test]
    fn lengths_keep_their_mean() {
        let mut draws = Draws::seeded(3);
        let sum: usize = (0..20_000).map(|_| draws.length(10_000)).sum();
        let mean = sum / 20_000;
        assert!((9_000..=11_000).contains(&mean), "{mean}");
    }
}
