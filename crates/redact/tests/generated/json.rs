//! Writes JSON and JSON5 in many ways.

use crate::model::{Doc, File, Rng, Writer};

/// A JSON5 file, or one in three times a JSON file.
pub(crate) fn file(mut rng: Rng) -> File {
    let doc = rng.document();
    let strict = rng.one_in(3);
    let mut writer = Writer::new(rng);
    gap(&mut writer, strict);
    value(&mut writer, &doc, strict);
    gap(&mut writer, strict);
    writer.file(doc, strict)
}

/// JSON documents, a line each.
pub(crate) fn lines(mut rng: Rng) -> File {
    let docs: Vec<Doc> = (0..=rng.below(4)).map(|_| rng.document()).collect();
    let mut writer = Writer::new(rng);
    let mut secrets = Vec::new();
    let mut n = 1;
    for doc in &docs {
        while writer.rng.one_in(5) {
            writer.end_line();
            n += 1;
        }
        line(&mut writer, doc);
        let found = writer.secrets.drain(..);
        secrets.extend(found.map(|(range, path)| (range, format!("line {n}: {path}"))));
        writer.end_line();
        n += 1;
    }
    writer.secrets = secrets;
    // the rules look at each line as if it were alone
    let mut file = writer.file(Doc::List(docs), true);
    file.lines = true;
    file
}

/// A document without a line end in it.
fn line(writer: &mut Writer, doc: &Doc) {
    writer.noting(doc, |w| match doc {
        Doc::List(list) => {
            w.put("[");
            for (n, element) in list.iter().enumerate() {
                w.put(if n == 0 { "" } else { "," });
                w.below(&n.to_string(), |w| line(w, element));
            }
            w.put(" ]");
        }
        Doc::Map(map) => {
            w.put("{ ");
            for (n, (key, member)) in map.iter().enumerate() {
                w.put(if n == 0 { "" } else { ", " });
                string(w, key, true);
                w.put(":");
                w.below(key, |w| line(w, member));
            }
            w.put("}");
        }
        scalar => put_scalar(w, scalar, true),
    });
}

fn value(writer: &mut Writer, doc: &Doc, strict: bool) {
    writer.noting(doc, |w| match doc {
        Doc::List(list) => {
            w.put("[");
            for (n, element) in list.iter().enumerate() {
                gap(w, strict);
                w.below(&n.to_string(), |w| value(w, element, strict));
                comma(w, n + 1 == list.len(), strict);
            }
            gap(w, strict);
            w.put("]");
        }
        Doc::Map(map) => {
            w.put("{");
            for (n, (key, member)) in map.iter().enumerate() {
                gap(w, strict);
                put_key(w, key, strict);
                gap(w, strict);
                w.put(":");
                gap(w, strict);
                w.below(key, |w| value(w, member, strict));
                comma(w, n + 1 == map.len(), strict);
            }
            gap(w, strict);
            w.put("}");
        }
        scalar => put_scalar(w, scalar, strict),
    });
}

fn comma(w: &mut Writer, last: bool, strict: bool) {
    gap(w, strict);
    if !last || (!strict && w.rng.one_in(3)) {
        w.put(",");
    }
}

/// Space that means nothing.
fn gap(w: &mut Writer, strict: bool) {
    for _ in 0..w.rng.below(3) {
        match w.rng.below(if strict { 4 } else { 7 }) {
            0 => w.put(" "),
            1 => w.put("\t"),
            2 | 3 => w.end_line(),
            4 => {
                w.put("// keep \"apiKey\": 'x', #");
                w.end_line();
            }
            5 => w.put("/* } ], \" ' */"),
            _ => w.put("\u{a0}"),
        }
    }
}

fn put_key(w: &mut Writer, key: &str, strict: bool) {
    let is_word = key.starts_with(|c: char| c.is_alphabetic())
        && key.chars().all(|c| c.is_alphanumeric() || c == '_');
    if !strict && is_word && w.rng.one_in(2) {
        w.put(key);
        // a comment right behind a word is more than the crate reads
        w.put(" ");
    } else {
        string(w, key, strict);
    }
}

fn put_scalar(w: &mut Writer, doc: &Doc, strict: bool) {
    match doc {
        Doc::Null => w.put("null"),
        Doc::Bool(bool) => w.put(&bool.to_string()),
        Doc::Int(int) if !strict && w.rng.one_in(3) => w.put(&format!("0x{int:X}")),
        Doc::Int(int) if !strict && w.rng.one_in(3) => w.put(&format!("+{int}")),
        Doc::Int(int) => w.put(&int.to_string()),
        Doc::Text(text) => string(w, text, strict),
        Doc::List(_) | Doc::Map(_) => unreachable!("no scalar"),
    }
}

fn string(w: &mut Writer, text: &str, strict: bool) {
    let quote = if !strict && w.rng.one_in(2) { '\'' } else { '"' };
    w.out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => w.put("\\n"),
            '\t' => w.put("\\t"),
            '\\' => w.put("\\\\"),
            _ if c == quote => {
                w.out.push('\\');
                w.out.push(c);
            }
            _ if w.rng.one_in(12) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    w.put(&format!("\\u{unit:04x}"));
                }
            }
            _ => w.out.push(c),
        }
        if !strict && w.rng.one_in(40) {
            w.out.push('\\');
            w.end_line();
        }
    }
    w.out.push(quote);
}
