//! Writes TOML: tables by headers, by dotted keys and inline, and every kind of string.

use crate::model::{Doc, File, Rng, Writer};

pub(crate) fn file(mut rng: Rng) -> File {
    let doc = ordered(rng.document().without_null());
    let Doc::Map(members) = &doc else { unreachable!("a document is a map") };
    let mut writer = Writer::new(rng);
    table(&mut writer, &mut Vec::new(), members);
    remarks(&mut writer);
    writer.file(doc, false)
}

/// Values before maps: what stands behind a header belongs to that header.
fn ordered(doc: Doc) -> Doc {
    match doc {
        Doc::Map(mut members) => {
            members.sort_by_key(|(_, value)| is_late(value));
            Doc::Map(members.into_iter().map(|(key, value)| (key, ordered(value))).collect())
        }
        Doc::List(list) => Doc::List(list.into_iter().map(ordered).collect()),
        other => other,
    }
}

/// May it have a header?
fn is_late(doc: &Doc) -> bool {
    match doc {
        Doc::Map(members) => !members.is_empty(),
        Doc::List(list) => !list.is_empty() && list.iter().all(|each| matches!(each, Doc::Map(_))),
        _ => false,
    }
}

/// The members of a table whose header, if any, is written already.
fn table(writer: &mut Writer, keys: &mut Vec<String>, members: &[(String, Doc)]) {
    let (early, late): (Vec<_>, Vec<_>) = members.iter().partition(|(_, value)| !is_late(value));
    let mut headers = Vec::new();
    for (key, value) in early {
        entry(writer, key, value);
    }
    for (key, value) in late {
        writer.path.push(key.clone());
        let secret = value.is_secret(&writer.path) || has_secrets(value, &mut writer.path);
        match value {
            // with a header or dotted keys, a secret table would lose its values one by one
            _ if secret => entry_here(writer, key, value),
            Doc::Map(below) if writer.rng.one_in(4) => {
                dotted(writer, &mut vec![key.clone()], below);
            }
            _ if writer.rng.one_in(4) => entry_here(writer, key, value),
            _ => headers.push((key, value)),
        }
        writer.path.pop();
    }
    for (key, value) in headers {
        keys.push(key.clone());
        writer.path.push(key.clone());
        match value {
            Doc::Map(below) => {
                header(writer, keys, "[", "]");
                table(writer, keys, below);
            }
            Doc::List(list) => {
                for (n, element) in list.iter().enumerate() {
                    let Doc::Map(below) = element else { unreachable!("a list of maps") };
                    header(writer, keys, "[[", "]]");
                    writer.path.push(n.to_string());
                    table(writer, keys, below);
                    writer.path.pop();
                }
            }
            _ => unreachable!("nothing else has a header"),
        }
        writer.path.pop();
        keys.pop();
    }
}

/// Is it a list, and an element of it a secret as a whole?
fn has_secrets(value: &Doc, path: &mut Vec<String>) -> bool {
    let Doc::List(list) = value else { return false };
    (0..list.len()).any(|n| {
        path.push(n.to_string());
        let secret = list[n].is_secret(path);
        path.pop();
        secret
    })
}

fn header(w: &mut Writer, keys: &[String], open: &str, close: &str) {
    remarks(w);
    space(w);
    w.put(open);
    put_keys(w, keys);
    w.put(close);
    end(w);
}

/// `a.b.c = value` for all that is in a map.
fn dotted(w: &mut Writer, keys: &mut Vec<String>, members: &[(String, Doc)]) {
    for (key, value) in members {
        keys.push(key.clone());
        w.path.push(key.clone());
        match value {
            Doc::Map(below)
                if !below.is_empty() && !value.is_secret(&w.path) && w.rng.one_in(2) =>
            {
                dotted(w, keys, below);
            }
            value => {
                remarks(w);
                space(w);
                put_keys(w, keys);
                w.put("=");
                space(w);
                inline(w, value);
                end(w);
            }
        }
        w.path.pop();
        keys.pop();
    }
}

fn entry(w: &mut Writer, key: &str, value: &Doc) {
    w.below(key, |w| entry_here(w, key, value));
}

/// The same, where the path leads to the value already.
fn entry_here(w: &mut Writer, key: &str, value: &Doc) {
    remarks(w);
    space(w);
    put_key(w, key);
    space(w);
    w.put("=");
    space(w);
    inline(w, value);
    end(w);
}

fn inline(writer: &mut Writer, doc: &Doc) {
    writer.noting(doc, |w| match doc {
        Doc::Null => unreachable!("TOML has no null"),
        Doc::Bool(bool) => w.put(&bool.to_string()),
        Doc::Int(int) => match w.rng.below(3) {
            0 => w.put(&format!("0x{int:X}")),
            1 => w.put(&format!("+{int}")),
            _ => w.put(&int.to_string()),
        },
        Doc::Text(text) => string(w, text),
        Doc::List(list) => {
            w.put("[");
            for (n, element) in list.iter().enumerate() {
                gap(w);
                w.below(&n.to_string(), |w| inline(w, element));
                gap(w);
                if n + 1 < list.len() || w.rng.one_in(2) {
                    w.put(",");
                }
            }
            gap(w);
            w.put("]");
        }
        Doc::Map(map) => {
            w.put("{");
            for (n, (key, member)) in map.iter().enumerate() {
                w.put(if n == 0 { "" } else { "," });
                space(w);
                put_key(w, key);
                space(w);
                w.put("=");
                space(w);
                w.below(key, |w| inline(w, member));
                space(w);
            }
            w.put("}");
        }
    });
}

fn space(w: &mut Writer) {
    let space = w.rng.pick(&["", "", " ", "  ", "\t"]);
    w.put(space);
}

/// Space inside an array, where lines may end.
fn gap(w: &mut Writer) {
    space(w);
    if w.rng.one_in(5) {
        if w.rng.one_in(2) {
            w.put("# keep ] \" ' = apiKey");
        }
        w.end_line();
        space(w);
    }
}

/// The end of a line, with a comment or not.
fn end(w: &mut Writer) {
    space(w);
    if w.rng.one_in(4) {
        w.put("# keep apiKey = 'x' \"\"\"");
    }
    w.end_line();
}

/// Lines that mean nothing.
fn remarks(w: &mut Writer) {
    while w.rng.one_in(4) {
        space(w);
        if w.rng.one_in(2) {
            w.put("#[keep]");
        }
        w.end_line();
    }
}

fn put_keys(w: &mut Writer, keys: &[String]) {
    for (n, key) in keys.iter().enumerate() {
        w.put(if n == 0 { "" } else { "." });
        space(w);
        put_key(w, key);
        space(w);
    }
}

fn put_key(w: &mut Writer, key: &str) {
    let bare =
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if bare && !w.rng.one_in(3) {
        w.put(key);
    } else if !key.contains('\'') && w.rng.one_in(2) {
        w.put(&format!("'{key}'"));
    } else {
        basic(w, key, "\"");
    }
}

fn string(w: &mut Writer, text: &str) {
    let literal = !text.contains(['\'', '\n', '\t']);
    // a line end of the file's own would be part of the text
    let lines = w.newline == "\n" && !text.ends_with('\'') && !text.contains("'''");
    match w.rng.below(4) {
        0 if literal => w.put(&format!("'{text}'")),
        1 if lines => w.put(&format!("'''\n{text}'''")),
        2 => basic(w, text, "\"\"\""),
        _ => basic(w, text, "\""),
    }
}

fn basic(w: &mut Writer, text: &str, quotes: &str) {
    w.put(quotes);
    if quotes.len() == 3 && (text.starts_with('\n') || w.rng.one_in(2)) {
        w.end_line();
    }
    for c in text.chars() {
        match c {
            '"' => w.put("\\\""),
            '\\' => w.put("\\\\"),
            '\t' => w.put("\\t"),
            '\n' if quotes.len() == 3 && w.newline == "\n" => w.put("\n"),
            '\n' => w.put("\\n"),
            _ if w.rng.one_in(12) => w.put(&format!("\\U{:08x}", u32::from(c))),
            _ => w.out.push(c),
        }
    }
    w.put(quotes);
}
