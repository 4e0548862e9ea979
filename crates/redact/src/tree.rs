//! A file as all formats share it: values, what leads to them, and the bytes that hold them.
//!
//! [`Tree`] is flat: nodes name each other by number, and a parent's number is below its children's.
//! A node's `slot` is the range of bytes that can be replaced by another value of the format and leave
//! a file that parses; [`agree`] tells whether two trees hold the same.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::MARKER;
use crate::format::Format;
use crate::path::escape;

/// The number of a node in its tree.
pub(crate) type Id = usize;

/// A parsed file.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) format: Format,
    pub(crate) nodes: Vec<Node>,
    /// The top value of each document: none in an empty file, one in most.
    pub(crate) roots: Vec<Id>,
}

/// A value at its place.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) parent: Option<Id>,
    pub(crate) step: Step,
    /// The bytes of its key as written; of one that stands several times, as TOML's may, one place.
    pub(crate) key: Option<Range<usize>>,
    pub(crate) value: Value,
    /// The bytes to replace; none for what is spread over the file, as TOML tables are.
    pub(crate) slot: Option<Range<usize>>,
    /// The slot begins with its line, and what replaces it is indented by this many spaces (YAML).
    pub(crate) lead: Option<usize>,
    pub(crate) tag: Tag,
    /// The value of a merge key: its entries are also those of the map it stands in (YAML).
    pub(crate) merged: bool,
}

/// What leads from a parent to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// The document or line, from 1, that the node is the top of.
    Document(usize),
    Key(Box<str>),
    Index(usize),
}

/// What a node holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    /// A string, decoded.
    Text(String),
    /// A string of JSON that is longer than is kept.
    Long(Digest),
    /// Any other scalar, as it is written. In YAML all plain ones, strings too.
    Bare(String),
    Map(Vec<Id>),
    List(Vec<Id>),
    /// Stands for that node, which is no alias itself.
    Alias(Id),
}

/// The hash of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest(pub(crate) [u8; 32]);

/// A YAML tag, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tag {
    #[default]
    None,
    /// `!!str` or `!`: the marker may stand behind it.
    Text,
    /// Any other.
    Other,
}

impl Tree {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, nodes: Vec::new(), roots: Vec::new() }
    }

    /// Adds a node; the caller adds its number to its parent, or to the roots.
    pub(crate) fn add(
        &mut self,
        parent: Option<Id>,
        step: Step,
        value: Value,
        slot: Option<Range<usize>>,
    ) -> Id {
        let (key, lead, tag) = (None, None, Tag::None);
        self.nodes.push(Node { parent, step, key, value, slot, lead, tag, merged: false });
        self.nodes.len() - 1
    }

    pub(crate) fn value(&self, id: Id) -> &Value {
        &self.nodes[id].value
    }

    /// What an alias stands for; any other node itself.
    pub(crate) fn resolve(&self, id: Id) -> Id {
        match self.nodes[id].value {
            Value::Alias(target) => target,
            _ => id,
        }
    }

    /// The values directly in a map or list.
    pub(crate) fn children(&self, id: Id) -> &[Id] {
        match &self.nodes[id].value {
            Value::Map(ids) | Value::List(ids) => ids,
            Value::Null | Value::Text(_) | Value::Long(_) | Value::Bare(_) | Value::Alias(_) => &[],
        }
    }

    /// The key of a member of a map; empty for others.
    pub(crate) fn key(&self, id: Id) -> &str {
        match &self.nodes[id].step {
            Step::Key(key) => key,
            Step::Document(_) | Step::Index(_) => "",
        }
    }

    pub(crate) fn is_marker(&self, id: Id) -> bool {
        matches!(&self.nodes[id].value, Value::Text(text) if text == MARKER)
    }

    /// Null, empty, or the marker: nothing that could be hidden.
    pub(crate) fn hides_nothing(&self, id: Id) -> bool {
        match &self.nodes[id].value {
            Value::Null => true,
            Value::Text(text) => text.is_empty() || text == MARKER,
            Value::Map(ids) | Value::List(ids) => ids.is_empty(),
            Value::Long(_) | Value::Bare(_) | Value::Alias(_) => false,
        }
    }

    /// The node and all below it, in no order. Aliases are not followed.
    pub(crate) fn below(&self, id: Id) -> impl Iterator<Item = Id> {
        let mut open = vec![id];
        std::iter::from_fn(move || {
            let next = open.pop()?;
            open.extend(self.children(next));
            Some(next)
        })
    }

    /// Nodes in the order in which the file has them.
    pub(crate) fn in_order(&self, ids: impl IntoIterator<Item = Id>) -> Vec<Id> {
        let mut ids: Vec<Id> = ids.into_iter().collect();
        ids.sort_by_key(|id| (self.nodes[*id].slot.as_ref().map(|slot| slot.start), *id));
        ids
    }

    /// The path to a node as a person reads it, dots in keys escaped.
    pub(crate) fn path(&self, id: Id) -> String {
        let mut up = vec![id];
        let mut at = id;
        while let Some(parent) = self.nodes[at].parent {
            up.push(parent);
            at = parent;
        }
        let mut path = String::new();
        let mut document = String::new();
        for id in up.into_iter().rev() {
            match &self.nodes[id].step {
                Step::Document(line) if self.format == Format::JsonLines => {
                    document = format!("line {line}: ");
                }
                Step::Document(n) if self.roots.len() > 1 => document = format!("document {n}: "),
                Step::Document(_) => {}
                Step::Key(key) => {
                    path.push('.');
                    escape(key, &mut path);
                }
                Step::Index(index) => {
                    path.push('.');
                    path.push_str(&index.to_string());
                }
            }
        }
        let path = path.strip_prefix('.').unwrap_or("(the whole value)");
        document + path
    }
}

/// What a second tree should hold in the place of a node of the first.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Swap<'t> {
    Text(&'t str),
    Node(&'t Tree, Id),
}

/// Does `found` hold what `wanted` holds, with `swaps` made? Keys, order, aliases and tags count.
pub(crate) fn agree(wanted: &Tree, found: &Tree, swaps: &BTreeMap<Id, Swap<'_>>) -> bool {
    if wanted.roots.len() != found.roots.len() {
        return false;
    }
    let roots = wanted.roots.iter().zip(&found.roots);
    let mut open: Vec<(&Tree, Id, Id)> = roots.map(|(a, b)| (wanted, *a, *b)).collect();
    while let Some((tree, mut a, b)) = open.pop() {
        let mut tree = tree;
        let mut tags_count = true;
        if std::ptr::eq(tree, wanted) {
            match swaps.get(&a) {
                Some(Swap::Text(text)) => {
                    if !matches!(found.value(b), Value::Text(other) if other == *text) {
                        return false;
                    }
                    continue;
                }
                Some(Swap::Node(other, id)) => (tree, a, tags_count) = (*other, *id, false),
                None => {}
            }
        }
        let (one, other) = (&tree.nodes[a], &found.nodes[b]);
        if tags_count && one.tag != other.tag {
            return false;
        }
        match (&one.value, &other.value) {
            (Value::Map(x), Value::Map(y)) | (Value::List(x), Value::List(y)) => {
                if x.len() != y.len() {
                    return false;
                }
                for (x, y) in x.iter().zip(y) {
                    let (one, other) = (&tree.nodes[*x], &found.nodes[*y]);
                    if one.step != other.step || one.merged != other.merged {
                        return false;
                    }
                    open.push((tree, *x, *y));
                }
            }
            (Value::Alias(x), Value::Alias(y)) => {
                if tree.path(*x) != found.path(*y) {
                    return false;
                }
            }
            (x, y) => {
                if x != y {
                    return false;
                }
            }
        }
    }
    true
}
