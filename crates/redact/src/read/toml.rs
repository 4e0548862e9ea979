//! TOML, by `toml_edit`. Values have slots; tables with headers or dotted keys have none.

use toml_edit::{Document, Item, Table, Value as Read};

use super::placeless;
use crate::error::{Error, syntax};
use crate::format::Format;
use crate::tree::{Id, Step, Tree, Value};

/// One document.
pub(super) fn read(text: &str) -> Result<Tree, Error> {
    let document = Document::parse(text).map_err(|error| {
        syntax(Format::Toml, text, error.span().map_or(text.len(), |span| span.start))
    })?;
    let mut tree = Tree::new(Format::Toml);
    let root = add_table(&mut tree, text, None, Step::Document(1), document.as_table())?;
    tree.roots.push(root);
    Ok(tree)
}

/// Adds a table that is spread over the file. The parser's limit of depth bounds the recursion.
fn add_table(
    tree: &mut Tree,
    text: &str,
    parent: Option<Id>,
    step: Step,
    table: &Table,
) -> Result<Id, Error> {
    let id = tree.add(parent, step, Value::Null, None);
    let mut members = Vec::with_capacity(table.len());
    for (key, item) in table {
        let step = Step::Key(key.into());
        let place = table.key(key).and_then(toml_edit::Key::span);
        let member = match item {
            Item::None => continue,
            Item::Value(value) => add_value(tree, text, id, step, value)?,
            Item::Table(inner) => add_table(tree, text, Some(id), step, inner)?,
            Item::ArrayOfTables(tables) => {
                let list = tree.add(Some(id), step, Value::Null, None);
                let mut elements = Vec::with_capacity(tables.len());
                for (index, inner) in tables.iter().enumerate() {
                    elements.push(add_table(tree, text, Some(list), Step::Index(index), inner)?);
                }
                tree.nodes[list].value = Value::List(elements);
                list
            }
        };
        tree.nodes[member].key = place;
        members.push(member);
    }
    tree.nodes[id].value = Value::Map(members);
    Ok(id)
}

/// Adds what stands behind an equals sign or in an array.
fn add_value(
    tree: &mut Tree,
    text: &str,
    parent: Id,
    step: Step,
    value: &Read,
) -> Result<Id, Error> {
    let spread = value.as_inline_table().is_some_and(toml_edit::InlineTable::is_dotted);
    let slot = if spread {
        None
    } else {
        Some(value.span().ok_or_else(|| placeless(Format::Toml, text))?)
    };
    let raw = slot.as_ref().and_then(|slot| text.get(slot.clone())).unwrap_or_default();
    let scalar = match value {
        Read::String(string) => Value::Text(string.value().clone()),
        Read::Integer(_) | Read::Float(_) | Read::Boolean(_) | Read::Datetime(_) => {
            Value::Bare(raw.to_owned())
        }
        Read::Array(_) | Read::InlineTable(_) => Value::Null,
    };
    let id = tree.add(Some(parent), step, scalar, slot);
    if let Read::Array(array) = value {
        let mut elements = Vec::with_capacity(array.len());
        for (index, element) in array.iter().enumerate() {
            elements.push(add_value(tree, text, id, Step::Index(index), element)?);
        }
        tree.nodes[id].value = Value::List(elements);
    }
    if let Read::InlineTable(table) = value {
        let mut members = Vec::with_capacity(table.len());
        for (key, member) in table {
            let place = table.key(key).and_then(toml_edit::Key::span);
            let member = add_value(tree, text, id, Step::Key(key.into()), member)?;
            tree.nodes[member].key = place;
            members.push(member);
        }
        tree.nodes[id].value = Value::Map(members);
    }
    Ok(id)
}
