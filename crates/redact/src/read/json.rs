//! JSON and its kin as a [`Tree`] of what somebody wants to know: events in, the nodes that a [`Guide`]
//! asks for out.
//!
//! What a guide does not ask for is passed by, so a file of any length takes the memory of what is
//! wanted of it.

use std::ops::Range;

use super::events::{Event, Events, What};
use crate::MARKER;
use crate::error::Error;
use crate::format::Format;
use crate::source::{Stop, Text};
use crate::tree::{Id, Step, Tree, Value};

/// So many values of a file are kept at most; each takes some 300 bytes of memory, with what is made of it.
pub(crate) const KEPT_MAX: usize = 250_000;

/// Says which values become nodes.
pub(crate) trait Guide {
    /// What is known of a place on the way.
    type At;
    /// What of the value of a document.
    fn top(&self) -> Keep<Self::At>;
    /// What of the value at this key or index.
    fn step(&self, at: &Self::At, step: &str) -> Option<Keep<Self::At>>;
    /// Does a value on the way stay if nothing in it is kept? A marker does.
    fn stays(&self, at: &Self::At) -> bool;
}

/// How much of a value is kept.
#[derive(Debug)]
pub(crate) enum Keep<At> {
    /// What the guide says of the values in it.
    Way(At),
    /// Whether there is anything in it, and the markers.
    Mere,
    All,
}

/// What `guide` asks for of a text.
pub(crate) fn read(format: Format, text: &Text<'_>, guide: &impl Guide) -> Result<Tree, Error> {
    let run = || {
        let mut events = Events::new(format, text.read_from(0)?);
        let mut builder = Builder::new(format, guide);
        while let Some(event) = events.next()? {
            builder.take(&event)?;
        }
        Ok(builder.finish())
    };
    run().map_err(|stop| text.error(format, stop))
}

/// A tree in the making.
pub(crate) struct Builder<'g, G: Guide> {
    guide: &'g G,
    tree: Tree,
    open: Vec<Open<G::At>>,
}

/// A list or map that is not closed yet.
struct Open<At> {
    kept: Kept<At>,
    is_map: bool,
    /// Values in it so far.
    count: usize,
    /// The key whose value comes next, if that is kept.
    key: Option<(Box<str>, Range<usize>, Keep<At>)>,
}

/// What of an open list or map is kept, and as which node.
enum Kept<At> {
    Nothing,
    /// Markers only, as members of that node.
    Markers(Id),
    Mere(Id),
    Way(Id, At),
    All(Id),
}

impl<'g, G: Guide> Builder<'g, G> {
    pub(crate) fn new(format: Format, guide: &'g G) -> Self {
        Self { guide, tree: Tree::new(format), open: Vec::new() }
    }

    /// What was kept of the events so far, which are those of a whole file.
    pub(crate) fn finish(self) -> Tree {
        self.tree
    }

    pub(crate) fn take(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        match event.what {
            What::Key(key) => {
                if let Some(open) = self.open.last_mut() {
                    let keep = match &open.kept {
                        Kept::Nothing | Kept::Markers(_) | Kept::Mere(_) => None,
                        Kept::Way(_, at) => self.guide.step(at, key),
                        Kept::All(_) => Some(Keep::All),
                    };
                    open.key = keep.map(|keep| (key.into(), event.range.clone(), keep));
                }
                Ok(())
            }
            What::End => {
                if let Some(open) = self.open.pop() {
                    self.close(&open.kept, event);
                }
                Ok(())
            }
            _ => self.value(event),
        }
    }

    fn value(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        let Some(open) = self.open.last_mut() else {
            let top = self.guide.top();
            return self.keep(None, Step::Document(event.document), top, event).map(drop);
        };
        let (index, key) = (open.count, open.key.take());
        open.count += 1;
        let (id, keep) = match &open.kept {
            Kept::Nothing => {
                self.enter(Kept::Nothing, event);
                return Ok(());
            }
            Kept::Markers(id) | Kept::Mere(id) => {
                let id = *id;
                let first = self.tree.children(id).is_empty();
                if first || event.what == What::Text(MARKER) {
                    self.add(Some(id), Step::Index(index), event)?;
                }
                self.enter(Kept::Markers(id), event);
                return Ok(());
            }
            Kept::Way(id, at) if !open.is_map => (*id, self.guide.step(at, &index.to_string())),
            Kept::All(id) if !open.is_map => (*id, Some(Keep::All)),
            Kept::Way(id, _) | Kept::All(id) => (*id, None),
        };
        match (key, keep) {
            (Some((key, place, keep)), _) => {
                if let Some(member) = self.keep(Some(id), Step::Key(key), keep, event)? {
                    self.tree.nodes[member].key = Some(place);
                }
            }
            (None, Some(keep)) => {
                self.keep(Some(id), Step::Index(index), keep, event)?;
            }
            (None, None) => self.enter(Kept::Nothing, event),
        }
        Ok(())
    }

    fn keep(
        &mut self,
        parent: Option<Id>,
        step: Step,
        keep: Keep<G::At>,
        event: &Event<'_>,
    ) -> Result<Option<Id>, Stop> {
        let is_open = matches!(event.what, What::Map | What::List);
        if let Keep::Way(at) = &keep
            && !is_open
            && event.what != What::Text(MARKER)
            && !self.guide.stays(at)
        {
            return Ok(None);
        }
        let id = self.add(parent, step, event)?;
        let kept = match keep {
            Keep::Way(at) => Kept::Way(id, at),
            Keep::Mere => Kept::Mere(id),
            Keep::All => Kept::All(id),
        };
        self.enter(kept, event);
        Ok(Some(id))
    }

    fn add(&mut self, parent: Option<Id>, step: Step, event: &Event<'_>) -> Result<Id, Stop> {
        if self.tree.nodes.len() == KEPT_MAX {
            return Err(Stop::TooLarge);
        }
        let value = match event.what {
            What::Text(text) => Value::Text(text.to_owned()),
            What::Long(digest) => Value::Long(digest),
            What::Bare(text) => Value::Bare(text.to_owned()),
            What::Map => Value::Map(Vec::new()),
            What::List => Value::List(Vec::new()),
            What::Null | What::Key(_) | What::End => Value::Null,
        };
        let id = self.tree.add(parent, step, value, Some(event.range.clone()));
        self.siblings(parent).push(id);
        Ok(id)
    }

    fn siblings(&mut self, parent: Option<Id>) -> &mut Vec<Id> {
        match parent.map(|parent| &mut self.tree.nodes[parent].value) {
            Some(Value::Map(ids) | Value::List(ids)) => ids,
            // what has no list or map around it is a document
            _ => &mut self.tree.roots,
        }
    }

    fn enter(&mut self, kept: Kept<G::At>, event: &Event<'_>) {
        if let is_map @ (What::Map | What::List) = event.what {
            let is_map = is_map == What::Map;
            self.open.push(Open { kept, is_map, count: 0, key: None });
        }
    }

    fn close(&mut self, kept: &Kept<G::At>, event: &Event<'_>) {
        let (Kept::Mere(id) | Kept::Way(id, _) | Kept::All(id)) = kept else { return };
        let node = &mut self.tree.nodes[*id];
        node.slot = Some(event.range.clone());
        if let Kept::Way(id, at) = kept
            && self.tree.children(*id).is_empty()
            && !self.guide.stays(at)
        {
            // it is the last, as nothing in it was kept
            let parent = self.tree.nodes.pop().and_then(|node| node.parent);
            self.siblings(parent).pop();
        }
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
