//! What a list needs of a session: folded record by record, so that a transcript that grew is read
//! from where the last reading ended.

use adapters::sessions::{Pick, SessionRule, stem};
use serde::{Deserialize, Serialize};

use crate::blocks::{Block, blocks};
use crate::record::{Picks, Slots, Wanted, text};
use crate::time::parse_time;

/// Characters of a title or prompt that are kept.
const TITLE_CHARS_MAX: usize = 300;

/// What was found in a file, or in a row. Serialised, it is worth a reading.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Its id, if a record has it.
    pub(crate) id: Option<String>,
    /// For each place of a title what was found there last.
    pub(crate) titles: Vec<Option<String>>,
    /// The directory it is about.
    pub project: Option<String>,
    /// The session it comes from.
    pub(crate) parents: Option<String>,
    /// First time in it, in milliseconds since 1970.
    pub first_ms: Option<i64>,
    /// Last time in it.
    pub last_ms: Option<i64>,
    /// What the user said first.
    pub prompt: Option<String>,
    /// Records in which somebody speaks.
    pub messages: u64,
    /// Records that could not be read.
    pub unread: u64,
}

/// What a rule and the path of the file say of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its id.
    pub id: String,
    /// Its title, or what the user said first.
    pub title: Option<String>,
    /// The session it was forked from, or works for.
    pub parent: Option<String>,
}

impl Digest {
    /// Joins what was read with what the path says. None if the session has no id.
    pub fn known(&self, rule: &SessionRule, rel: &str) -> Option<Known> {
        let from = |pick: &Pick| match pick {
            Pick::Field { .. } => self.id.clone(),
            other => of_path(other, rel),
        };
        let id = rule.id.iter().find_map(from)?;
        let mut fields = self.titles.iter();
        let title = |pick: &Pick| match pick {
            Pick::Field { .. } => fields.next().cloned().flatten(),
            other => of_path(other, rel),
        };
        let titles: Vec<Option<String>> = rule.title.iter().map(title).collect();
        let parent = rule.parent.iter().find_map(|pick| match pick {
            Pick::Field { .. } => self.parents.clone(),
            other => of_path(other, rel),
        });
        Some(Known {
            title: titles.into_iter().flatten().next().or_else(|| self.prompt.clone()),
            parent: parent.filter(|parent| *parent != id),
            id,
        })
    }
}

/// What a pick finds in the path of a file.
pub(crate) fn of_path(pick: &Pick, rel: &str) -> Option<String> {
    match pick {
        Pick::Field { .. } => None,
        Pick::Name => Some(stem(rel).to_owned()),
        Pick::Directory => rel.rsplit('/').nth(1).map(str::to_owned),
        Pick::Uuid => {
            let stem = stem(rel);
            let uuid = stem.get(stem.len().checked_sub(36)?..)?;
            let plain = |(at, byte): (usize, u8)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            };
            uuid.bytes().enumerate().all(plain).then(|| uuid.to_owned())
        }
    }
}

/// A rule compiled for folding.
pub(crate) struct Fold<'r> {
    rule: &'r SessionRule,
    pub(crate) wanted: Wanted,
    id: Picks,
    title: Picks,
    project: Picks,
    parent: Picks,
    time: Picks,
    first: Picks,
    last: Picks,
    role: Picks,
    content: Picks,
    hidden: Picks,
}

impl<'r> Fold<'r> {
    /// `with_content`: until the first prompt is known.
    pub(crate) fn new(rule: &'r SessionRule, with_content: bool) -> Self {
        let mut wanted = Wanted::default();
        let content = if with_content { &rule.content[..] } else { &[] };
        Self {
            rule,
            id: wanted.add(&rule.id),
            title: wanted.add(&rule.title),
            project: wanted.add(&rule.project),
            parent: wanted.add(&rule.parent),
            time: wanted.add(&rule.time),
            first: wanted.add(&rule.first),
            last: wanted.add(&rule.last),
            role: wanted.add(&rule.role),
            content: wanted.add(content),
            hidden: wanted.add(&rule.hidden),
            wanted,
        }
    }

    /// Takes a record.
    pub(crate) fn take(&self, slots: &Slots, digest: &mut Digest) {
        if digest.id.is_none() {
            digest.id = self.id.text(slots);
        }
        digest.titles.resize(self.title.len(), None);
        for (kept, found) in digest.titles.iter_mut().zip(self.title.each(slots)) {
            if let Some(title) = found.and_then(text).and_then(|found| one_line(&found)) {
                *kept = Some(title);
            }
        }
        if digest.project.is_none() {
            digest.project = self.project.text(slots);
        }
        if digest.parents.is_none() {
            digest.parents = self.parent.text(slots);
        }
        if let Some(time) = self.time.first(slots).and_then(parse_time) {
            reach(digest, Some(time), Some(time));
        }
        let (first, last) = (self.first.first(slots), self.last.first(slots));
        reach(digest, first.and_then(parse_time), last.and_then(parse_time));
        self.speech(slots, digest);
    }

    fn speech(&self, slots: &Slots, digest: &mut Digest) {
        let Some(role) = self.role.text(slots) else { return };
        if self.hidden.all(slots).any(|value| value.as_bool() == Some(true)) {
            return;
        }
        digest.messages += 1;
        if digest.prompt.is_some() || meant(self.rule, &role) != "user" {
            return;
        }
        let mut said = Vec::new();
        self.content.all(slots).for_each(|value| blocks(value, &mut said));
        digest.prompt = said.iter().find_map(|block| match block {
            Block::Text(text) => self.prompt(text),
            _ => None,
        });
    }

    /// A text as a title, if the user wrote it.
    fn prompt(&self, text: &str) -> Option<String> {
        let own = !self.rule.not_title.iter().any(|start| text.trim_start().starts_with(start));
        own.then(|| one_line(text)).flatten()
    }
}

/// A role in the words of the rule.
pub(crate) fn meant<'a>(rule: &'a SessionRule, role: &'a str) -> &'a str {
    rule.roles.iter().find(|(written, _)| written == role).map_or(role, |(_, meant)| meant)
}

fn reach(digest: &mut Digest, first: Option<i64>, last: Option<i64>) {
    digest.first_ms = digest.first_ms.into_iter().chain(first).min();
    digest.last_ms = digest.last_ms.into_iter().chain(last).max();
}

/// White space is one blank; long texts are cut. None if nothing is left.
pub(crate) fn one_line(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut count = 0;
    for word in text.split_whitespace() {
        let blank = usize::from(!out.is_empty());
        let chars = word.chars().count();
        if count + blank + chars > TITLE_CHARS_MAX {
            if out.is_empty() {
                out.extend(word.chars().take(TITLE_CHARS_MAX));
            }
            out.push_str("...");
            break;
        }
        if blank == 1 {
            out.push(' ');
        }
        out.push_str(word);
        count += blank + chars;
    }
    (!out.is_empty()).then_some(out)
}
