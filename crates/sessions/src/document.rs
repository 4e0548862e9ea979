//! Transcripts that are one JSON value: a list of records, or an object that has one. Read as a stream,
//! a record at a time.

use std::fmt;
use std::io::Read;

use adapters::sessions::{SessionRule, SessionSource};
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value;

use crate::digest::{Digest, Fold};
use crate::record::{Slots, Wanted};
use crate::show::{Reading, Shown};
use crate::{Error, Result};

/// Reads a document to its end.
pub fn read_document(rule: &SessionRule, input: &mut dyn Read) -> Result<Digest> {
    let mut digest = Digest::default();
    let (searching, settled) = (Fold::new(rule, true), Fold::new(rule, false));
    let around = walk(rule, &searching.wanted, input, &mut |record| {
        let fold = if digest.prompt.is_none() { &searching } else { &settled };
        fold.take(&fold.wanted.read_value(record), &mut digest);
        true
    });
    match around {
        Ok(slots) => searching.take(&slots, &mut digest),
        Err(Error::Shape(_)) => digest.unread += 1,
        Err(other) => return Err(other),
    }
    Ok(digest)
}

/// Shows a document, record by record.
pub fn show_document(
    rule: &SessionRule,
    input: &mut dyn Read,
    shown: &mut Shown<'_>,
) -> Result<()> {
    let reading = Reading::new(rule);
    let walked = walk(rule, &reading.wanted, input, &mut |record| match shown {
        Shown::Records(show) => show(record.clone()),
        Shown::Messages(show) => {
            reading.message(&reading.wanted.read_value(record)).is_none_or(&mut *show)
        }
    });
    match walked {
        // what could be read was shown
        Err(Error::Shape(what)) if what == STOPPED => Ok(()),
        other => other.map(drop),
    }
}

/// What ends a reading that nobody wants more of.
const STOPPED: &str = "stopped";

/// Calls `take` for each record; gives what is wanted of the rest of the document.
fn walk(
    rule: &SessionRule,
    wanted: &Wanted,
    input: &mut dyn Read,
    take: &mut dyn FnMut(&Value) -> bool,
) -> Result<Slots> {
    let records = match &rule.source {
        SessionSource::File { records, .. } => records.as_deref(),
        SessionSource::Rows { .. } => None,
    };
    let mut slots = wanted.empty();
    let mut json = serde_json::Deserializer::from_reader(std::io::BufReader::new(input));
    let seed = Document { records, wanted, slots: &mut slots, take };
    let read = seed.deserialize(&mut json).and_then(|()| json.end());
    match read {
        Ok(()) => Ok(slots),
        Err(e) if e.is_io() => Err(Error::Io(e.into())),
        Err(e) if e.to_string().starts_with(STOPPED) => Err(Error::Shape(STOPPED.to_owned())),
        Err(e) => Err(Error::Shape(format!("is not JSON: {e}"))),
    }
}

struct Document<'a> {
    records: Option<&'a str>,
    wanted: &'a Wanted,
    slots: &'a mut Slots,
    take: &'a mut dyn FnMut(&Value) -> bool,
}

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if self.records == Some(key.as_str()) {
                map.next_value_seed(Records(&mut *self.take))?;
            } else if let Some(seed) = self.wanted.below(&key, self.slots) {
                map.next_value_seed(seed)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> std::result::Result<(), A::Error> {
        Records(self.take).visit_seq(list)
    }
}

struct Records<'a>(&'a mut dyn FnMut(&Value) -> bool);

impl<'de> DeserializeSeed<'de> for Records<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Records<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<(), A::Error> {
        while let Some(record) = list.next_element::<Value>()? {
            if !(self.0)(&record) {
                return Err(A::Error::custom(STOPPED));
            }
        }
        Ok(())
    }
}
