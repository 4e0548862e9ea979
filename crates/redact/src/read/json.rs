//! JSON, JSONC, JSON5 and JSON Lines, by `jsonc-parser`.

use jsonc_parser::ast::{ObjectPropName, Value as Read};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, CommentCollectionStrategy, ParseOptions, parse_to_ast};

use super::check_count;
use crate::error::{Error, refused, syntax};
use crate::format::Format;
use crate::tree::{Id, Step, Tree, Value};

/// One document, or none in a file without a value.
pub(super) fn read(text: &str) -> Result<Tree, Error> {
    let mut tree = Tree::new(Format::Json);
    add_document(&mut tree, text, 0..text.len(), 1)?;
    Ok(tree)
}

/// A document per line that is not empty.
pub(super) fn read_lines(text: &str) -> Result<Tree, Error> {
    let mut tree = Tree::new(Format::JsonLines);
    let mut start = 0;
    for (n, line) in text.split('\n').enumerate() {
        add_document(&mut tree, text, start..start + line.len(), n + 1)?;
        check_count(&tree)?;
        start += line.len() + 1;
    }
    Ok(tree)
}

/// Adds the document that is `range` of `text`.
fn add_document(
    tree: &mut Tree,
    text: &str,
    range: std::ops::Range<usize>,
    n: usize,
) -> Result<(), Error> {
    let offset = range.start;
    let part = &text[range];
    let options = ParseOptions { allow_missing_commas: false, ..ParseOptions::default() };
    let collect = CollectOptions { comments: CommentCollectionStrategy::Separate, tokens: false };
    let parsed = parse_to_ast(part, &collect, &options)
        .map_err(|error| syntax(tree.format, text, offset + error.range().start))?;
    for comment in parsed.comments.iter().flat_map(|map| map.values()).flat_map(|list| list.iter())
    {
        if comment.text().contains(['\u{2028}', '\u{2029}']) {
            let reason = "a comment with a Unicode line end in it: JSON5 ends the comment there, \
                          and others do not";
            return Err(refused(text, offset + comment.start(), reason));
        }
    }
    if let Some(value) = parsed.value {
        let root = add(tree, offset, None, Step::Document(n), value);
        tree.roots.push(root);
    }
    Ok(())
}

/// Adds a value and what is in it. The parser's limit of depth bounds the recursion.
fn add(tree: &mut Tree, offset: usize, parent: Option<Id>, step: Step, value: Read<'_>) -> Id {
    let slot = Some(offset + value.start()..offset + value.end());
    match value {
        Read::NullKeyword(_) => tree.add(parent, step, Value::Null, slot),
        Read::StringLit(text) => tree.add(parent, step, Value::Text(text.value.into_owned()), slot),
        Read::NumberLit(number) => {
            tree.add(parent, step, Value::Bare(number.value.to_owned()), slot)
        }
        Read::BooleanLit(boolean) => {
            tree.add(parent, step, Value::Bare(boolean.value.to_string()), slot)
        }
        Read::Object(object) => {
            let id = tree.add(parent, step, Value::Null, slot);
            let mut members = Vec::with_capacity(object.properties.len());
            for property in object.properties {
                let place = offset + property.name.start()..offset + property.name.end();
                let key = match property.name {
                    ObjectPropName::String(text) => text.value.into_owned(),
                    ObjectPropName::Word(word) => word.value.to_owned(),
                };
                let key = Step::Key(key.into_boxed_str());
                let member = add(tree, offset, Some(id), key, property.value);
                tree.nodes[member].key = Some(place);
                members.push(member);
            }
            tree.nodes[id].value = Value::Map(members);
            id
        }
        Read::Array(array) => {
            let id = tree.add(parent, step, Value::Null, slot);
            let mut elements = Vec::with_capacity(array.elements.len());
            for (index, element) in array.elements.into_iter().enumerate() {
                elements.push(add(tree, offset, Some(id), Step::Index(index), element));
            }
            tree.nodes[id].value = Value::List(elements);
            id
        }
    }
}
