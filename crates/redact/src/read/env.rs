//! `.env` files: `KEY=value` lines. The parsers that exist give no places, so this one is our own.
//!
//! | Line | Read as |
//! |---|---|
//! | nothing, or `# ...` | nothing |
//! | `KEY=value`, `export KEY=value` | a value; spaces around `=` and behind the value do not count |
//! | `export KEY` | nothing |
//!
//! A key is letters, digits, `_`, `.` and `-`. A value is one of:
//!
//! - `'...'` or `` `...` ``, over several lines if it must be, up to the next such quote;
//! - `"..."`, the same, where a backslash takes the next character as it is;
//! - anything else up to the end of the line, or up to a `#` behind a space.
//!
//! The dotenv libraries differ in the rest, and a value that one of them reads as longer than is seen
//! here would be left in the file. So whatever else a line has is refused: text behind a closing
//! quote, a quote that is not closed, a backslash at the end of a line, a carriage return alone.

use std::ops::Range;

use super::check_count;
use crate::error::{Error, refused, syntax};
use crate::format::Format;
use crate::tree::{Step, Tree, Value};

/// One document, a map.
pub(super) fn read(text: &str) -> Result<Tree, Error> {
    let mut tree = Tree::new(Format::Env);
    let root = tree.add(None, Step::Document(1), Value::Null, None);
    let mut members = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let line_end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
        let line = bare_line(text, at..line_end)?;
        let Some((key, value_at)) = assignment(text, line.clone())? else {
            at = line_end + 1;
            continue;
        };
        let (value, slot) = value(text, value_at, line.end)?;
        // a quoted value may have gone over lines
        let rest = &text[slot.end..];
        at = slot.end + rest.find('\n').map_or(rest.len(), |newline| newline + 1);
        members.push(tree.add(Some(root), Step::Key(key.into()), value, Some(slot)));
        check_count(&tree)?;
    }
    tree.nodes[root].value = Value::Map(members);
    tree.roots.push(root);
    Ok(tree)
}

/// A line without the carriage return at its end.
fn bare_line(text: &str, line: Range<usize>) -> Result<Range<usize>, Error> {
    let end = if text[line.clone()].ends_with('\r') { line.end - 1 } else { line.end };
    if let Some(at) = text[line.start..end].find('\r') {
        let reason = "a carriage return inside a line: some programs end the line there";
        return Err(refused(text, line.start + at, reason));
    }
    Ok(line.start..end)
}

/// The key of a line, and where its value begins; none if the line has no value.
fn assignment(text: &str, line: Range<usize>) -> Result<Option<(&str, usize)>, Error> {
    let whole = &text[line.clone()];
    let spaces = [' ', '\t'];
    let bare = whole.trim_start_matches(spaces);
    if bare.is_empty() || bare.starts_with('#') {
        return Ok(None);
    }
    let exported = bare.strip_prefix("export").filter(|rest| rest.starts_with(spaces));
    // a key can have that name
    let exported = exported.filter(|rest| !rest.trim_start_matches(spaces).starts_with('='));
    let from_key = exported.unwrap_or(bare).trim_start_matches(spaces);
    let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let rest = from_key.trim_start_matches(is_key);
    let key = &from_key[..from_key.len() - rest.len()];
    let behind = rest.trim_start_matches(spaces);
    if key.is_empty() {
        return Err(syntax(Format::Env, text, line.end - from_key.len()));
    }
    if let Some(value) = behind.strip_prefix('=') {
        return Ok(Some((key, line.end - value.len())));
    }
    if exported.is_some() && (behind.is_empty() || (behind.starts_with('#') && behind != rest)) {
        return Ok(None);
    }
    Err(syntax(Format::Env, text, line.end - behind.len()))
}

/// The value that begins behind the equals sign at `at`, in a line that ends at `line_end`.
fn value(text: &str, at: usize, line_end: usize) -> Result<(Value, Range<usize>), Error> {
    let line = &text[at..line_end];
    let bare = line.trim_start_matches([' ', '\t']);
    let start = line_end - bare.len();
    if bare.is_empty() || (bare.starts_with('#') && start > at) {
        return Ok((Value::Null, at..at));
    }
    let quote = bare.chars().next().filter(|c| matches!(c, '\'' | '"' | '`'));
    let Some(quote) = quote else {
        let slot = unquoted(text, start, line_end)?;
        return Ok((Value::Bare(text[slot.clone()].to_owned()), slot));
    };
    let Some(inside) = closing(&text[start + 1..], quote) else {
        return Err(refused(text, start, "a quote that is not closed"));
    };
    let end = start + 1 + inside + 1;
    let behind = &text[end..];
    let behind = &behind[..behind.find('\n').unwrap_or(behind.len())];
    let behind = bare_line(text, end..end + behind.len())?;
    let behind = &text[behind];
    let comment = behind.trim_start_matches([' ', '\t']);
    if !comment.is_empty() && (!comment.starts_with('#') || comment.len() == behind.len()) {
        return Err(refused(
            text,
            end,
            "text behind a closing quote: programs differ in what it is",
        ));
    }
    let value = text[start + 1..end - 1].to_owned();
    if value.ends_with('\\') && quote != '"' {
        let reason = "a backslash before a closing quote: some programs do not close it there";
        return Err(refused(text, start, reason));
    }
    if has_lone_return(&value) {
        let reason = "a carriage return inside a value: some programs end the line there";
        return Err(refused(text, start, reason));
    }
    Ok((Value::Text(value), start..end))
}

/// How many bytes are before the quote that closes.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote == '"' {
            escaped = true;
        } else if c == quote {
            return Some(at);
        }
    }
    None
}

fn has_lone_return(text: &str) -> bool {
    text.split('\r').skip(1).any(|behind| !behind.starts_with('\n'))
}

/// The bytes of a value without quotes around it, which begins at `start`.
fn unquoted(text: &str, start: usize, line_end: usize) -> Result<Range<usize>, Error> {
    let line = &text[start..line_end];
    for quote in ['\'', '"', '`'] {
        if line.matches(quote).count() % 2 == 1 {
            let reason = "a quote that is not closed: some programs read the next line, too";
            return Err(refused(text, start, reason));
        }
    }
    // a # between quotes might be none that begins a comment, so all up to the end is the value
    let comment = if line.contains(['\'', '"', '`']) {
        None
    } else {
        [" #", "\t#"].into_iter().filter_map(|sign| line.find(sign)).min()
    };
    let value = line[..comment.unwrap_or(line.len())].trim_end_matches([' ', '\t']);
    if line.ends_with('\\') || value.ends_with('\\') {
        let reason = "a backslash at the end of a line: some programs read the next line, too";
        return Err(refused(text, start, reason));
    }
    Ok(start..start + value.len())
}
