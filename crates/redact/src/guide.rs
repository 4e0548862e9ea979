//! What of a JSON file is kept: what rules name, or what stands where a stored file has markers.

use std::collections::BTreeMap;

use crate::MARKER;
use crate::choose::{State, close, follow};
use crate::error::Error;
use crate::format::Format;
use crate::path::Path;
use crate::read::events::{Events, What};
use crate::read::json::{Guide, KEPT_MAX, Keep};
use crate::source::{Stop, Text};

/// The values that rules name.
pub(crate) struct Named<'p> {
    pub(crate) paths: &'p [Path],
    /// With all that is in them.
    pub(crate) whole: bool,
}

impl Named<'_> {
    fn keep(&self, states: Vec<State>) -> Keep<Vec<State>> {
        let ends = |(rule, done): &State| *done == self.paths[*rule].segments().len();
        match states.iter().any(ends) {
            true if self.whole => Keep::All,
            true => Keep::Mere,
            false => Keep::Way(states),
        }
    }
}

impl Guide for Named<'_> {
    type At = Vec<State>;

    fn top(&self) -> Keep<Vec<State>> {
        self.keep(close(self.paths, (0..self.paths.len()).map(|rule| (rule, 0)).collect()))
    }

    fn step(&self, at: &Vec<State>, step: &str) -> Option<Keep<Vec<State>>> {
        let states = follow(self.paths, at, step);
        if states.is_empty() { None } else { Some(self.keep(close(self.paths, states))) }
    }

    fn stays(&self, _: &Vec<State>) -> bool {
        false
    }
}

/// Markers, wherever they are.
pub(crate) struct Markers;

impl Guide for Markers {
    type At = ();

    fn top(&self) -> Keep<()> {
        Keep::Way(())
    }

    fn step(&self, (): &(), _: &str) -> Option<Keep<()>> {
        Some(Keep::Way(()))
    }

    fn stays(&self, (): &()) -> bool {
        false
    }
}

/// The values at the places of markers, and what is needed to find them again in another file.
#[derive(Debug, PartialEq)]
pub(crate) enum Wanted {
    Marker,
    /// A list with a marker in it: its elements are known by all that is in them.
    All,
    Members(BTreeMap<Box<str>, Wanted>),
}

/// A list or map in which markers are looked for.
#[derive(Default)]
struct Open {
    is_map: bool,
    /// The key of the member that is read.
    key: Box<str>,
    members: BTreeMap<Box<str>, Wanted>,
}

impl Wanted {
    /// What has to be known of a JSON file to put values in the places of its markers; none if it has none.
    pub(crate) fn of(format: Format, text: &Text<'_>) -> Result<Option<Self>, Error> {
        let run = || {
            let mut events = Events::new(format, text.read_from(0)?);
            let (mut open, mut top, mut count) = (Vec::<Open>::new(), None, 0);
            while let Some(event) = events.next()? {
                let found = match event.what {
                    What::Key(key) => {
                        if let Some(open) = open.last_mut() {
                            open.key = key.into();
                        }
                        continue;
                    }
                    What::Map | What::List => {
                        open.push(Open { is_map: event.what == What::Map, ..Open::default() });
                        continue;
                    }
                    What::End => match open.pop() {
                        Some(open) if open.members.is_empty() => continue,
                        Some(open) if open.is_map => Self::Members(open.members),
                        _ => Self::All,
                    },
                    What::Text(text) if text == MARKER => Self::Marker,
                    _ => continue,
                };
                count += 1;
                if count > KEPT_MAX {
                    return Err(Stop::TooLarge);
                }
                if let Some(open) = open.last_mut() {
                    insert(&mut open.members, open.key.clone(), found);
                } else {
                    // the documents of several lines are a list
                    top = Some(if format == Format::Json { found } else { Self::All });
                }
            }
            Ok(top)
        };
        run().map_err(|stop| text.error(format, stop))
    }

    /// What is wanted of another member with the same key, too.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Marker, Self::Marker) => Self::Marker,
            (Self::Members(mut all), Self::Members(others)) => {
                for (key, wanted) in others {
                    insert(&mut all, key, wanted);
                }
                Self::Members(all)
            }
            _ => Self::All,
        }
    }

    fn keep(&self) -> Keep<&Self> {
        match self {
            Self::Marker => Keep::Mere,
            Self::All => Keep::All,
            Self::Members(_) => Keep::Way(self),
        }
    }
}

fn insert(members: &mut BTreeMap<Box<str>, Wanted>, key: Box<str>, wanted: Wanted) {
    let wanted = match members.remove(&key) {
        Some(before) => before.and(wanted),
        None => wanted,
    };
    members.insert(key, wanted);
}

impl<'w> Guide for &'w Wanted {
    type At = &'w Wanted;

    fn top(&self) -> Keep<Self> {
        self.keep()
    }

    fn step(&self, at: &Self, step: &str) -> Option<Keep<Self>> {
        match at {
            Wanted::Members(members) => members.get(step).map(Wanted::keep),
            Wanted::Marker | Wanted::All => None,
        }
    }

    /// How often a key stands in a map counts.
    fn stays(&self, _: &Self) -> bool {
        true
    }
}
