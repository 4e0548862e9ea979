//! Records: the values that a rule wants of a JSON text, without the rest of it in memory.
//!
//! In: [`Pick`]s, compiled to a [`Wanted`], and a JSON text. Out: one slot per place that is wanted. What
//! nobody wants is skipped by the parser and never built.

use std::fmt;

use adapters::sessions::Pick;
use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Places in a record, merged into one tree.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    tree: Node,
    paths: Vec<Vec<String>>,
}

/// A place and what leads further.
#[derive(Debug, Default)]
struct Node {
    slot: Option<usize>,
    below: Vec<(String, Node)>,
}

/// Values of one record, by slot.
pub(crate) type Slots = Vec<Option<Value>>;

/// Picks of one purpose, in order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Picks(Vec<Chosen>);

#[derive(Debug, Clone)]
struct Chosen {
    when: Option<(usize, String)>,
    slot: usize,
}

impl Wanted {
    /// Adds the picks that are places in a record.
    pub(crate) fn add(&mut self, picks: &[Pick]) -> Picks {
        let mut out = Picks::default();
        for pick in picks {
            let Pick::Field { when, path } = pick else { continue };
            let when = when.as_ref().map(|(at, value)| (self.slot(at), value.clone()));
            out.0.push(Chosen { when, slot: self.slot(path) });
        }
        out
    }

    fn slot(&mut self, path: &[String]) -> usize {
        let next = self.paths.len();
        let mut node = &mut self.tree;
        for key in path {
            let at = node.below.iter().position(|(known, _)| known == key);
            let at = at.unwrap_or_else(|| {
                node.below.push((key.clone(), Node::default()));
                node.below.len() - 1
            });
            node = &mut node.below[at].1;
        }
        let slot = *node.slot.get_or_insert(next);
        if slot == next {
            self.paths.push(path.to_vec());
        }
        slot
    }

    /// Nothing of a record yet.
    pub(crate) fn empty(&self) -> Slots {
        vec![None; self.paths.len()]
    }

    /// The keys that lead to a slot.
    pub(crate) fn paths(&self) -> &[Vec<String>] {
        &self.paths
    }

    /// Reads a whole JSON text. None if it is none.
    pub(crate) fn read(&self, text: &[u8]) -> Option<Slots> {
        let mut slots = self.empty();
        let mut json = serde_json::Deserializer::from_slice(text);
        Seed { node: &self.tree, slots: &mut slots }.deserialize(&mut json).ok()?;
        json.end().ok()?;
        Some(slots)
    }

    /// Of a value that is in memory.
    pub(crate) fn read_value(&self, value: &Value) -> Slots {
        let mut slots = self.empty();
        fill(&self.tree, value, &mut slots);
        slots
    }

    /// A value that is known already, such as a column.
    pub(crate) fn set(&self, path: &[String], value: &Value, slots: &mut Slots) {
        let mut node = &self.tree;
        for key in path {
            match node.below.iter().find(|(known, _)| known == key) {
                Some((_, next)) => node = next,
                None => return,
            }
        }
        fill(node, value, slots);
    }

    /// Is the whole value of this key wanted?
    pub(crate) fn is_slot(&self, key: &str) -> bool {
        self.tree.below.iter().any(|(known, node)| known == key && node.slot.is_some())
    }

    /// Reads a JSON text that is the value of a key. One that is none leaves nothing.
    pub(crate) fn read_below(&self, key: &str, text: &[u8], slots: &mut Slots) {
        let Some((_, node)) = self.tree.below.iter().find(|(known, _)| known == key) else {
            return;
        };
        let mut json = serde_json::Deserializer::from_slice(text);
        if (Seed { node, slots }).deserialize(&mut json).is_err() {
            slots.fill(None);
        }
    }

    /// The seed for what is below some keys; none if nothing is wanted there.
    pub(crate) fn below<'a, 'de>(
        &'a self,
        key: &str,
        slots: &'a mut Slots,
    ) -> Option<impl DeserializeSeed<'de, Value = ()> + use<'a, 'de>> {
        let (_, node) = self.tree.below.iter().find(|(known, _)| known == key)?;
        Some(Seed { node, slots })
    }
}

impl Picks {
    /// The values that are there, in the order of the picks.
    pub(crate) fn all<'s>(&'s self, slots: &'s Slots) -> impl Iterator<Item = &'s Value> {
        self.each(slots).flatten()
    }

    /// A value or none for each of the picks.
    pub(crate) fn each<'s>(&'s self, slots: &'s Slots) -> impl Iterator<Item = Option<&'s Value>> {
        self.0.iter().map(|chosen| {
            let fits = chosen.when.as_ref().is_none_or(|(slot, wanted)| {
                slots[*slot].as_ref().and_then(text).is_some_and(|found| found == *wanted)
            });
            slots[chosen.slot].as_ref().filter(|value| fits && !value.is_null())
        })
    }

    /// The first value that is there.
    pub(crate) fn first<'s>(&'s self, slots: &'s Slots) -> Option<&'s Value> {
        self.all(slots).next()
    }

    /// The first that is a text or a number, as text.
    pub(crate) fn text(&self, slots: &Slots) -> Option<String> {
        self.all(slots).find_map(text)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A text that is not empty, or a number or boolean as one.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

/// Puts what is wanted of a value into the slots.
fn fill(node: &Node, value: &Value, slots: &mut Slots) {
    if let Some(slot) = node.slot {
        slots[slot] = Some(value.clone());
    }
    for (key, next) in &node.below {
        let found = match value {
            Value::Object(map) => map.get(key),
            Value::Array(list) => key.parse::<usize>().ok().and_then(|at| list.get(at)),
            _ => None,
        };
        if let Some(found) = found {
            fill(next, found, slots);
        }
    }
}

struct Seed<'a> {
    node: &'a Node,
    slots: &'a mut Slots,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        if self.node.slot.is_some() {
            let value = Value::deserialize(json)?;
            fill(self.node, &value, self.slots);
            return Ok(());
        }
        if self.node.below.is_empty() {
            return json.deserialize_ignored_any(IgnoredAny).map(drop);
        }
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(found) = map.next_key_seed(Key(self.node))? {
            match found {
                Some(node) => map.next_value_seed(Seed { node, slots: self.slots })?,
                None => map.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        for at in 0_usize.. {
            let named = |(key, _): &&(String, Node)| key.parse() == Ok(at);
            let more = match self.node.below.iter().find(named) {
                Some((_, node)) => list.next_element_seed(Seed { node, slots: self.slots })?,
                None => list.next_element::<IgnoredAny>()?.map(drop),
            };
            if more.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A key, found among those that lead further, without a copy of it.
struct Key<'a>(&'a Node);

impl<'de, 'a> DeserializeSeed<'de> for Key<'a> {
    type Value = Option<&'a Node>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_identifier(self)
    }
}

impl<'a> Visitor<'_> for Key<'a> {
    type Value = Option<&'a Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.below.iter().find(|(known, _)| known == key).map(|(_, node)| node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use adapters::sessions::Pick;

    fn field(path: &[&str]) -> Pick {
        let path = path.iter().map(|key| (*key).to_owned()).collect();
        Pick::Field { when: None, path }
    }

    #[test]
    fn what_is_wanted_is_found_also_below_what_is_wanted() {
        let mut wanted = Wanted::default();
        let whole = wanted.add(&[field(&["payload"])]);
        let role = wanted.add(&[field(&["payload", "role"])]);
        let item = wanted.add(&[field(&["list", "1", "id"])]);
        let text =
            br#"{"a":{"payload":1},"payload":{"role":"user","x":[1]},"list":[{"id":1},{"id":2}]}"#;
        let slots = wanted.read(text).unwrap();
        assert_eq!(role.text(&slots).as_deref(), Some("user"));
        assert_eq!(whole.first(&slots).unwrap()["x"][0], 1);
        assert_eq!(item.text(&slots).as_deref(), Some("2"));
        assert!(wanted.read(b"{\"a\":").is_none());
        assert!(wanted.read(b"{} {}").is_none(), "two values are not one record");
        assert!(wanted.read(b"7").unwrap().iter().all(Option::is_none));
    }
}
