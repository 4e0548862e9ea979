//! Readers: the text of a file in, a [`Tree`] out, with the bytes that hold each value. JSON, whose files
//! are long, is read in events, of which [`json`] makes a tree of what is wanted.

mod env;
pub(crate) mod events;
pub(crate) mod json;
mod scan;
mod toml;
mod yaml;

use crate::error::{Error, syntax};
use crate::format::Format;
use crate::guide::Wanted;
use crate::source::Text;
use crate::tree::Tree;

/// More values than this in one file are refused; each takes some 200 bytes of memory. JSON has
/// [`json::KEPT_MAX`].
const VALUES_MAX: usize = 2_000_000;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A file's byte order mark, or nothing, and its text.
pub(crate) fn decode(format: Format, bytes: &[u8]) -> Result<(&[u8], &str), Error> {
    if bytes.len() > format.bytes_max() {
        return Err(too_large(format));
    }
    let mark = if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let (mark, rest) = bytes.split_at(mark);
    match std::str::from_utf8(rest) {
        Ok(text) => Ok((mark, text)),
        Err(error) => {
            let before = &rest[..error.valid_up_to()];
            let line = before.split(|byte| *byte == b'\n').count();
            Err(Error::Encoding { format, line })
        }
    }
}

/// All values of a text. JSON, which may be long, is better read by [`json::read`].
pub(crate) fn read(format: Format, text: &str) -> Result<Tree, Error> {
    match format {
        Format::Json | Format::JsonLines => {
            let source: &[u8] = text.as_bytes();
            json::read(format, &Text { source: &source, mark: 0 }, &&Wanted::All)
        }
        Format::Toml => {
            // before the parser builds its own tree: every value but the first stands behind one
            let between = |byte: &u8| matches!(byte, b'[' | b'{' | b',' | b'=' | b':');
            if text.as_bytes().iter().filter(|byte| between(byte)).count() >= VALUES_MAX {
                return Err(too_large(format));
            }
            toml::read(text)
        }
        Format::Yaml => yaml::read(text),
        Format::Env => env::read(text),
    }
}

/// For readers that count as they go.
fn check_count(tree: &Tree) -> Result<(), Error> {
    if tree.nodes.len() > VALUES_MAX { Err(too_large(tree.format)) } else { Ok(()) }
}

pub(crate) fn too_large(format: Format) -> Error {
    let values_max = if format.is_json() { json::KEPT_MAX } else { VALUES_MAX };
    Error::TooLarge { format, bytes_max: format.bytes_max(), values_max }
}

/// The end of `text` less the white space it ends with.
fn trimmed_end(text: &str) -> usize {
    text.trim_end_matches([' ', '\t', '\r', '\n']).len()
}

/// A parser that gives no place for what it read has a mistake: that is no file to go on with.
fn placeless(format: Format, text: &str) -> Error {
    syntax(format, text, 0)
}
