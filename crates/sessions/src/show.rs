//! Messages for a reader, and the records that they come from.

use adapters::sessions::SessionRule;
use serde_json::Value;

use crate::blocks::{Block, blocks};
use crate::digest::meant;
use crate::record::{Picks, Slots, Wanted};
use crate::time::parse_time;

/// What somebody said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `user`, `assistant`, or as the agent calls it.
    pub role: String,
    /// When, in milliseconds since 1970.
    pub time_ms: Option<i64>,
    /// What.
    pub blocks: Vec<Block>,
}

/// What is shown, one by one; false ends the reading.
pub enum Shown<'a> {
    /// Messages, for people.
    Messages(&'a mut dyn FnMut(Message) -> bool),
    /// Records as they are, for programs.
    Records(&'a mut dyn FnMut(Value) -> bool),
}

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Messages(_) => "Messages",
            Self::Records(_) => "Records",
        })
    }
}

/// A rule compiled for showing.
pub(crate) struct Reading<'r> {
    rule: &'r SessionRule,
    pub(crate) wanted: Wanted,
    role: Picks,
    content: Picks,
    time: Picks,
    name: Picks,
    hidden: Picks,
}

impl<'r> Reading<'r> {
    pub(crate) fn new(rule: &'r SessionRule) -> Self {
        let mut wanted = Wanted::default();
        Self {
            rule,
            role: wanted.add(&rule.role),
            content: wanted.add(&rule.content),
            time: wanted.add(&rule.time),
            name: wanted.add(&rule.name),
            hidden: wanted.add(&rule.hidden),
            wanted,
        }
    }

    /// What the record is called.
    pub(crate) fn name(&self, slots: &Slots) -> Option<String> {
        self.name.text(slots)
    }

    /// The message of a record, if somebody speaks in it.
    pub(crate) fn message(&self, slots: &Slots) -> Option<Message> {
        if self.hidden.all(slots).any(|value| value.as_bool() == Some(true)) {
            return None;
        }
        let mut said = Vec::new();
        self.content.all(slots).for_each(|value| blocks(value, &mut said));
        let role = self.role.text(slots);
        // a call of a tool has no role of its own with some agents
        let role = role.or_else(|| said.iter().any(is_tool).then(|| "tool".to_owned()))?;
        if said.is_empty() {
            return None;
        }
        let role = meant(self.rule, &role).to_owned();
        Some(Message { role, time_ms: self.time.first(slots).and_then(parse_time), blocks: said })
    }
}

fn is_tool(block: &Block) -> bool {
    !matches!(block, Block::Text(_))
}
