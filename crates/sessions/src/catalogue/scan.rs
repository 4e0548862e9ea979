//! Places of values in a JSON text, to the byte. The parser is serde_json's; here is only what stands
//! between two values.

use std::ops::Range;

use serde::Deserialize as _;
use serde::de::IgnoredAny;

use crate::{Error, Result};

/// A list and its items.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct List {
    /// From the first bracket to behind the last.
    pub(super) whole: Range<usize>,
    /// The items.
    pub(super) items: Vec<Range<usize>>,
}

/// A member of an object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    /// From its name to the end of its value.
    pub(super) whole: Range<usize>,
    pub(super) value: Range<usize>,
}

/// Where the value is that keys lead to; none if it is not there.
pub(super) fn find(text: &[u8], keys: &[String]) -> Result<Option<Range<usize>>> {
    let start = skip(text, 0);
    let mut at = start..end_of(text, start)?;
    if skip(text, at.end) != text.len() {
        return Err(odd());
    }
    for key in keys {
        if text[at.start] != b'{' {
            return Ok(None);
        }
        // of a name that stands twice the last counts, as for those who parse
        match members(text, at.start)?.into_iter().rev().find(|member| member.name == *key) {
            Some(member) => at = member.value,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// The items of the list that begins there.
pub(super) fn items(text: &[u8], start: usize) -> Result<List> {
    let mut items = Vec::new();
    let mut at = after(text, start, b'[')?;
    loop {
        at = skip(text, at);
        if text.get(at) == Some(&b']') {
            return Ok(List { whole: start..at + 1, items });
        }
        if !items.is_empty() {
            at = skip(text, after(text, at, b',')?);
        }
        let end = end_of(text, at)?;
        items.push(at..end);
        at = end;
    }
}

/// The members of the object that begins there.
pub(super) fn members(text: &[u8], start: usize) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    let mut at = after(text, start, b'{')?;
    loop {
        at = skip(text, at);
        if text.get(at) == Some(&b'}') {
            return Ok(members);
        }
        if !members.is_empty() {
            at = skip(text, after(text, at, b',')?);
        }
        let begin = at;
        let end = end_of(text, at)?;
        let name = serde_json::from_slice(&text[at..end]).map_err(|_| odd())?;
        at = skip(text, after(text, skip(text, end), b':')?);
        let end = end_of(text, at)?;
        members.push(Member { name, whole: begin..end, value: at..end });
        at = end;
    }
}

fn skip(text: &[u8], at: usize) -> usize {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    text[at..].iter().position(|byte| !blank(byte)).map_or(text.len(), |n| at + n)
}

fn after(text: &[u8], at: usize, byte: u8) -> Result<usize> {
    if text.get(at) == Some(&byte) { Ok(at + 1) } else { Err(odd()) }
}

/// Behind the value that begins there.
fn end_of(text: &[u8], at: usize) -> Result<usize> {
    let rest = text.get(at..).ok_or_else(odd)?;
    let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
    match values.next() {
        Some(Ok(_)) => Ok(at + values.byte_offset()),
        _ => Err(odd()),
    }
}

fn odd() -> Error {
    Error::Shape("it is not the JSON that it should be".to_owned())
}

/// Is there one JSON value and nothing else?
pub(super) fn is_json(text: &[u8]) -> bool {
    let mut json = serde_json::Deserializer::from_slice(text);
    IgnoredAny::deserialize(&mut json).is_ok() && json.end().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_to_the_byte() {
        let text = br#" {"a": 1, "list" :[ {"id":"x"} , 7,"]"] ,"b":{"c":null}} "#;
        let at = find(text, &["list".into()]).unwrap().unwrap();
        let list = items(text, at.start).unwrap();
        assert_eq!(list.whole, at);
        let shown: Vec<&[u8]> = list.items.iter().map(|item| &text[item.clone()]).collect();
        assert_eq!(shown, [&br#"{"id":"x"}"#[..], b"7", br#""]""#]);
        let at = find(text, &["b".into(), "c".into()]).unwrap().unwrap();
        assert_eq!(&text[at], b"null");
        assert_eq!(find(text, &["none".into()]).unwrap(), None);
        for bad in [&b"{} x"[..], b"", b"{\"a\" 1}", b"[1", b"{\"a\":}"] {
            assert!(find(bad, &["a".into()]).is_err() || items(bad, 0).is_err(), "{bad:?}");
            assert!(!is_json(bad));
        }
    }
}
