//! Documents of `--json`: versioned, one per run. docs/json.md describes each.
//!
//! Names that are UTF-8 stand as they are. Others stand escaped, as a terminal shows them, and
//! beside them `<key>_base64` has their bytes. Characters that could drive a terminal are written
//! as JSON escapes, which changes nothing for whoever parses.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use data_encoding::BASE64;
use serde::Serialize;

use super::sanitize;

/// Version of all documents.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a, T> {
    v: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_code: Option<&'a str>,
    #[serde(flatten)]
    body: &'a T,
}

/// The text of a document.
pub(crate) fn document(body: &impl Serialize, recovery_code: Option<&str>) -> Result<String> {
    let document = Document { v: VERSION, recovery_code, body };
    text(&document)
}

/// A piece of a document that is written in pieces.
pub(crate) fn text(value: &impl Serialize) -> Result<String> {
    let plain = serde_json::to_string(value).context("cannot make the document")?;
    let mut out = String::with_capacity(plain.len());
    for c in plain.chars() {
        if sanitize::is_unsafe(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}"); // writing to a string does not fail
            }
        } else {
            out.push(c);
        }
    }
    Ok(out)
}

/// A path of a snapshot or a file system, flattened into its object.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Path {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
}

impl Path {
    pub(crate) fn new(raw: &[u8]) -> Self {
        let (path, path_base64) = name(raw);
        Self { path, path_base64 }
    }
}

/// A name, and its bytes in base64 if it is not UTF-8.
pub(crate) fn name(raw: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(raw) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (sanitize::bytes(raw), Some(BASE64.encode(raw))),
    }
}

/// A problem with one item.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Problem {
    #[serde(flatten)]
    pub(crate) path: Path,
    pub(crate) what: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_carries_its_version_and_cannot_drive_a_terminal() {
        let text =
            document(&Path::new("a\u{1b}[31m\u{202e}\u{9b}b\u{7f}".as_bytes()), None).unwrap();
        assert!(text.is_ascii(), "{text}");
        let back: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back["v"], 1);
        assert_eq!(back["path"], "a\u{1b}[31m\u{202e}\u{9b}b\u{7f}");
        assert!(back.get("path_base64").is_none());
    }

    #[test]
    fn a_name_that_is_not_utf8_keeps_its_bytes() {
        let text = document(&Path::new(b"caf\xe9"), None).unwrap();
        let back: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back["path"], "caf\\xe9");
        let bytes = BASE64.decode(back["path_base64"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(bytes, b"caf\xe9");
    }
}
