//! YAML, by `granit-parser`: its events give every scalar's bytes, and where collections begin.
//!
//! | Node | Slot |
//! |---|---|
//! | scalar | what is written, without tag and anchor; a block scalar without the line ends behind it |
//! | flow collection | from bracket to bracket |
//! | block collection | from its first key or dash to its last byte that is no space or comment; with the indent before it where it begins a line |

use std::collections::HashMap;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle, Tag as ReadTag, options};

use super::{check_count, placeless, trimmed_end};
use crate::error::{Error, refused, syntax};
use crate::format::Format;
use crate::tree::{Id, Node, Step, Tag, Tree, Value};

/// A plain scalar that is null, by the core schema.
const NULLS: [&str; 5] = ["", "~", "null", "Null", "NULL"];

/// Any number of documents.
pub(super) fn read(text: &str) -> Result<Tree, Error> {
    let options = options! { emit_comments: false };
    let mut reader = Reader {
        text,
        tree: Tree::new(Format::Yaml),
        anchors: HashMap::new(),
        open: Vec::new(),
        documents: 0,
        content_end: 0,
    };
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| {
            let at = error.marker().byte_offset().unwrap_or(text.len());
            syntax(Format::Yaml, text, at)
        })?;
        reader.take(event, span)?;
        check_count(&reader.tree)?;
    }
    Ok(reader.tree)
}

struct Reader<'t> {
    text: &'t str,
    tree: Tree,
    /// What each anchor stands before, keys aside.
    anchors: HashMap<usize, Id>,
    /// The collections that are not closed yet.
    open: Vec<Open>,
    documents: usize,
    /// Where the last node or key that is written down ended.
    content_end: usize,
}

struct Open {
    id: Id,
    members: Vec<Id>,
    is_map: bool,
    /// The key whose value comes next, whether it is a merge key, and where it stands.
    key: Option<(Box<str>, bool, Range<usize>)>,
    style: StructureStyle,
    /// The first byte that is known to be in it.
    start: usize,
}

impl Reader<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Error> {
        let range = span.byte_range().ok_or_else(|| placeless(Format::Yaml, self.text))?;
        if let Some(open) = self.open.last_mut() {
            if event.is_node() {
                open.start = open.start.min(range.start);
            }
            if event.is_node() && open.is_map && open.key.is_none() {
                return self.take_key(event, range);
            }
        }
        match event {
            Event::Scalar(value, style, anchor, tag) => {
                let range = self.scalar_range(range, style)?;
                let tag = tag_of(tag.as_deref());
                let value = match style {
                    ScalarStyle::Plain if tag != Tag::Text && NULLS.contains(&value.as_ref()) => {
                        Value::Null
                    }
                    ScalarStyle::Plain => Value::Bare(value.into_owned()),
                    ScalarStyle::SingleQuoted
                    | ScalarStyle::DoubleQuoted
                    | ScalarStyle::Literal
                    | ScalarStyle::Folded => Value::Text(value.into_owned()),
                };
                self.pass(&range);
                self.add(value, range, anchor, tag);
            }
            Event::Alias(anchor) => {
                let Some(target) = self.anchors.get(&anchor).copied() else {
                    return Err(refused(self.text, range.start, "an alias to a key"));
                };
                self.pass(&range);
                self.add(Value::Alias(target), range, 0, Tag::None);
            }
            Event::SequenceStart(style, anchor, tag) => {
                let mut range = range;
                let in_map = self.open.last().is_some_and(|open| open.is_map);
                if style == StructureStyle::Block && in_map {
                    // one that is no deeper than its key is told to begin behind its first dash
                    range.start = self.find(&['-'], range.end)?;
                }
                self.enter(range, style, anchor, tag_of(tag.as_deref()), false);
            }
            Event::MappingStart(style, anchor, tag) => {
                self.enter(range, style, anchor, tag_of(tag.as_deref()), true);
            }
            Event::SequenceEnd | Event::MappingEnd => self.leave(&range),
            Event::DocumentStart(..) => {
                self.documents += 1;
                self.anchors.clear();
            }
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            // none of the events that only options turn on, nor any that a later version adds
            _ => return Err(placeless(Format::Yaml, self.text)),
        }
        Ok(())
    }

    /// A key: any scalar, by its text.
    fn take_key(&mut self, event: Event<'_>, range: Range<usize>) -> Result<(), Error> {
        let Event::Scalar(key, style, _, tag) = event else {
            let reason = "a key that is a list, a map or an alias";
            return Err(refused(self.text, range.start, reason));
        };
        let range = self.scalar_range(range, style)?;
        self.pass(&range);
        let merge =
            key == "<<" && style == ScalarStyle::Plain && tag_of(tag.as_deref()) != Tag::Text;
        if let Some(open) = self.open.last_mut() {
            open.key = Some((key.into(), merge, range));
        }
        Ok(())
    }

    /// A block scalar's range is its text alone, and all up to the next token. It begins with the bar
    /// or angle of its header, which stands behind the content before.
    fn scalar_range(&self, range: Range<usize>, style: ScalarStyle) -> Result<Range<usize>, Error> {
        match style {
            ScalarStyle::Literal | ScalarStyle::Folded => {
                let start = self.find(&['|', '>'], range.start)?;
                Ok(start..start + trimmed_end(&self.text[start..range.end]))
            }
            ScalarStyle::Plain | ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Ok(range),
        }
    }

    /// Where one of `signs` stands first behind the content before, at `to` at the latest. What is
    /// between them is space, comments, tags, anchors, directives, and indicators, each one character.
    fn find(&self, signs: &[char], to: usize) -> Result<usize, Error> {
        let mut at = self.content_end;
        while let Some(c) = self.text[at..].chars().next().filter(|_| at <= to) {
            let rest = &self.text[at..];
            let behind_space = at == 0 || self.text[..at].ends_with([' ', '\t', '\n', '\r']);
            let word = rest.find([' ', '\t', '\n', '\r']).unwrap_or(rest.len());
            let line = rest.find(['\n', '\r']).unwrap_or(rest.len());
            let is_sign = signs.contains(&c) && (c != '-' || word == 1);
            match c {
                _ if is_sign => return Ok(at),
                '#' | '%' if behind_space => at += line,
                '!' | '&' => at += word,
                _ => at += c.len_utf8(),
            }
        }
        Err(placeless(Format::Yaml, self.text))
    }

    /// Content goes up to the end of `range`. What is not written down, as a
    /// value that is left away, has an empty range, and that may lie anywhere up to the next token.
    fn pass(&mut self, range: &Range<usize>) {
        if !range.is_empty() {
            self.content_end = self.content_end.max(range.end);
        }
    }

    fn add(&mut self, value: Value, slot: Range<usize>, anchor: usize, tag: Tag) -> Id {
        let (parent, step, merged, key) = match self.open.last_mut() {
            None => (None, Step::Document(self.documents), false, None),
            Some(open) => match open.key.take() {
                Some((key, merge, place)) => (Some(open.id), Step::Key(key), merge, Some(place)),
                None => (Some(open.id), Step::Index(open.members.len()), false, None),
            },
        };
        let id = self.tree.nodes.len();
        let (lead, slot) = (None, Some(slot));
        self.tree.nodes.push(Node { parent, step, key, value, slot, lead, tag, merged });
        match self.open.last_mut() {
            None => self.tree.roots.push(id),
            Some(open) => open.members.push(id),
        }
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        id
    }

    fn enter(
        &mut self,
        range: Range<usize>,
        style: StructureStyle,
        anchor: usize,
        tag: Tag,
        is_map: bool,
    ) {
        let start = range.start;
        let id = self.add(Value::Null, range, anchor, tag);
        self.open.push(Open { id, members: Vec::new(), is_map, key: None, style, start });
    }

    fn leave(&mut self, end: &Range<usize>) {
        let Some(open) = self.open.pop() else { return };
        let is_flow = open.style == StructureStyle::Flow;
        let has_brackets = self.text[open.start..].starts_with(['[', '{']) && is_flow;
        let slot = if has_brackets {
            open.start..end.end
        } else {
            let from = self.content_end.max(open.start);
            open.start..content_end(self.text, from, end.start)
        };
        self.pass(&slot);
        let node = &mut self.tree.nodes[open.id];
        node.value = if open.is_map { Value::Map(open.members) } else { Value::List(open.members) };
        node.slot = Some(slot.clone());
        if is_flow {
            return;
        }
        let indent = indent(self.text, slot.start);
        if indent.bytes().all(|byte| byte == b' ') {
            // a list may stand as far out as the key it belongs to; a string may not
            let outer = self.open.iter().rev().find(|open| open.style == StructureStyle::Block);
            let inner = outer.map_or(0, |outer| column(self.text, outer.start) + 1);
            node.slot = Some(slot.start - indent.len()..slot.end);
            node.lead = Some(inner.max(indent.len()));
        }
    }
}

/// What stands before byte `at` in its line.
fn indent(text: &str, at: usize) -> &str {
    let line = text[..at].rfind(['\n', '\r']).map_or(0, |newline| newline + 1);
    &text[line..at]
}

/// How many characters stand before byte `at` in its line.
fn column(text: &str, at: usize) -> usize {
    indent(text, at).chars().count()
}

/// The end of the last thing in `text[from..to]` that is no space and no comment; `from` if there is
/// none. What a collection ends with may be a colon or dash with nothing behind it.
fn content_end(text: &str, from: usize, to: usize) -> usize {
    let mut end = from;
    let mut at = from;
    while at < to {
        let rest = &text[at..to];
        let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
        let behind_space = at == 0 || text[..at].ends_with([' ', '\t', '\n', '\r']);
        if line.starts_with('#') && behind_space {
            at += line.len();
        } else if let Some(c) = line.chars().next() {
            at += c.len_utf8();
            if !matches!(c, ' ' | '\t' | '\r') {
                end = at;
            }
        } else {
            at += 1;
        }
    }
    end
}

fn tag_of(tag: Option<&ReadTag>) -> Tag {
    match tag {
        None => Tag::None,
        Some(tag) if tag.is_yaml_core_schema_tag("str") => Tag::Text,
        Some(tag) if tag.handle().is_empty() && tag.suffix() == "!" => Tag::Text,
        Some(_) => Tag::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    /// The bytes of the values, by their paths.
    fn slots(text: &str) -> Vec<(String, &str)> {
        let tree = read(text).unwrap();
        let ids = 0..tree.nodes.len();
        ids.map(|id| (tree.path(id), &text[tree.nodes[id].slot.clone().unwrap()])).collect()
    }

    fn slot<'t>(text: &'t str, path: &str) -> &'t str {
        slots(text).into_iter().find(|(found, _)| found == path).unwrap().1
    }

    #[test]
    fn a_slot_is_the_value_and_nothing_around_it() {
        let text = "a: plain  # c\nb: 'single'   \nc: \"dou\\\"ble\" \nd: |  # h\n  x\n  y\n\n# c\n\
                    e: >+\n  z\n\n\nf: two\n  lines\ng: !!str &x tagged\nh: *x\ni: [1, {j: 2}] # c\n";
        for (path, wanted) in [
            ("a", "plain"),
            ("b", "'single'"),
            ("c", "\"dou\\\"ble\""),
            ("d", "|  # h\n  x\n  y"),
            ("e", ">+\n  z"),
            ("f", "two\n  lines"),
            ("g", "tagged"),
            ("h", "*x"),
            ("i", "[1, {j: 2}]"),
            ("i.1", "{j: 2}"),
        ] {
            assert_eq!(slot(text, path), wanted, "{path}");
        }
    }

    #[test]
    fn a_block_collection_ends_with_its_last_value_and_not_with_the_comments_behind_it() {
        let text = "a:  # c\n  # d\n  b: 1 # e\n  c:   # f\n  # g\n\n# h\nd:\n- x # i\n- # j\n# k\n\
                    e:\n  - f: |\n      t\n\n    # l\n  - g\n";
        assert_eq!(slot(text, "a"), "  b: 1 # e\n  c:");
        assert_eq!(slot(text, "d"), "- x # i\n-");
        assert_eq!(slot(text, "e"), "  - f: |\n      t\n\n    # l\n  - g");
        assert_eq!(slot(text, "e.0"), "f: |\n      t");
    }

    #[test]
    fn a_block_collection_begins_with_the_first_key_and_what_belongs_to_it() {
        let text = "a:\n  &k b: 1\nc: &m\n  ? d\n  : 2\ne: !!map\n  \"f\": 3\n";
        assert_eq!(slot(text, "a"), "  &k b: 1");
        assert_eq!(slot(text, "c"), "  ? d\n  : 2");
        assert_eq!(slot(text, "e"), "  \"f\": 3");
    }

    #[test]
    fn pairs_in_a_list_in_brackets_are_maps() {
        let text = "[a: b, ? c : d, e: , f]";
        assert_eq!(slot(text, "0"), "a: b");
        assert_eq!(slot(text, "1.c"), "d");
        assert_eq!(slot(text, "2"), "e:");
        assert_eq!(slot(text, "3"), "f");
    }
}
