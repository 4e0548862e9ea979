//! Writes YAML: block and flow, every kind of scalar, lists at either indent.

use crate::model::{Doc, File, Rng, Writer};

pub(crate) fn file(mut rng: Rng) -> File {
    let doc = rng.document();
    let mut writer = Writer::new(rng);
    if writer.rng.one_in(4) {
        writer.put("--- # keep");
        writer.end_line();
    }
    match &doc {
        Doc::Map(members) if !members.is_empty() => block_map(&mut writer, members, 0, false),
        empty => {
            flow(&mut writer, empty, 0);
            writer.end_line();
        }
    }
    if writer.rng.one_in(6) {
        writer.put("...");
        writer.end_line();
    }
    writer.file(doc, false)
}

/// Entries at an indent; the first one stands behind a dash already if `begun`.
fn block_map(w: &mut Writer, members: &[(String, Doc)], indent: usize, begun: bool) {
    for (n, (key, value)) in members.iter().enumerate() {
        if n > 0 || !begun {
            remarks(w, indent);
            w.put(&" ".repeat(indent));
        }
        put_key(w, key);
        let space = w.rng.pick(&["", "", " "]);
        w.put(space);
        w.put(":");
        w.below(key, |w| node(w, value, indent, true));
    }
}

fn block_list(w: &mut Writer, list: &[Doc], indent: usize, begun: bool) {
    for (n, element) in list.iter().enumerate() {
        if n > 0 || !begun {
            remarks(w, indent);
            w.put(&" ".repeat(indent));
        }
        w.put("-");
        w.below(&n.to_string(), |w| {
            let block = !w.inside && !element.is_secret(&w.path) && w.rng.one_in(2);
            match element {
                Doc::Map(members) if block && !members.is_empty() => {
                    let gap = 1 + w.rng.below(3);
                    w.put(&" ".repeat(gap));
                    block_map(w, members, indent + 1 + gap, true);
                }
                Doc::List(list) if block && !list.is_empty() => {
                    w.put(" ");
                    block_list(w, list, indent + 2, true);
                }
                element => node(w, element, indent, false),
            }
        });
    }
}

/// What stands behind a colon or a dash, up to the end of its last line.
fn node(w: &mut Writer, doc: &Doc, indent: usize, in_map: bool) {
    let block = !w.inside && !doc.is_secret(&w.path) && !w.rng.one_in(4);
    match doc {
        Doc::Map(members) if block && !members.is_empty() => {
            end(w);
            let deeper = indent + 1 + w.rng.below(4);
            block_map(w, members, deeper, false);
        }
        Doc::List(list) if block && !list.is_empty() => {
            end(w);
            let deeper = indent + if in_map && w.rng.one_in(2) { 0 } else { 1 + w.rng.below(3) };
            block_list(w, list, deeper, false);
        }
        Doc::Null if w.rng.one_in(2) => end(w),
        doc => {
            let space = w.rng.pick(&[" ", " ", "   "]);
            w.put(space);
            let mut ended = false;
            w.noting(doc, |w| match doc {
                Doc::Text(text) => ended = block_text(w, text, indent),
                other => flow_value(w, other, indent),
            });
            if ended { w.end_line() } else { end(w) }
        }
    }
}

/// A text in any style that can hold it. Is it one that ends with its line?
fn block_text(w: &mut Writer, text: &str, indent: usize) -> bool {
    let body = text.trim_end_matches('\n');
    let ends = text.len() - body.len();
    // white space at the end of a block scalar is not taken for a part of the value
    let literal = !body.is_empty()
        && !body.starts_with([' ', '\n', '\t'])
        && !body.ends_with([' ', '\t'])
        && ends <= 1;
    let deeper = " ".repeat(indent + 1 + w.rng.below(3));
    let newline = w.newline;
    match w.rng.below(4) {
        0 if literal => {
            w.put(if ends == 0 { "|-" } else { "|" });
            head(w);
            for (n, line) in body.split('\n').enumerate() {
                w.put(if n == 0 { "" } else { newline });
                // a line with nothing on it needs no indent
                w.put(if line.is_empty() { "" } else { &deeper });
                w.put(line);
            }
            true
        }
        1 if literal && !body.contains('\n') => {
            w.put(if ends == 0 { ">-" } else { ">" });
            head(w);
            w.put(&deeper);
            w.put(body);
            true
        }
        2 if is_plain(text) => {
            // a line end reads as a space
            let at = text.find(' ').filter(|_| w.rng.one_in(2));
            match at {
                Some(at) => w.put(&format!("{}{newline}{deeper}{}", &text[..at], &text[at + 1..])),
                None => w.put(text),
            }
            false
        }
        _ => {
            quoted(w, text);
            false
        }
    }
}

/// The end of a block scalar's first line.
fn head(w: &mut Writer) {
    if w.rng.one_in(4) {
        w.put(" # keep");
    }
    w.end_line();
}

/// A value in brackets or quotes, or a plain one.
fn flow_value(w: &mut Writer, doc: &Doc, indent: usize) {
    match doc {
        Doc::Null => {
            let null = w.rng.pick(&["null", "~", "Null"]);
            w.put(null);
        }
        Doc::Bool(bool) => w.put(&bool.to_string()),
        Doc::Int(int) => w.put(&int.to_string()),
        Doc::Text(text) if is_plain(text) && w.rng.one_in(3) => w.put(text),
        Doc::Text(text) => quoted(w, text),
        Doc::List(list) => {
            w.put("[");
            for (n, element) in list.iter().enumerate() {
                gap(w, indent);
                w.below(&n.to_string(), |w| flow(w, element, indent));
                gap(w, indent);
                w.put(if n + 1 == list.len() { "" } else { "," });
            }
            gap(w, indent);
            w.put("]");
        }
        Doc::Map(map) => {
            w.put("{");
            for (n, (key, member)) in map.iter().enumerate() {
                gap(w, indent);
                put_key(w, key);
                w.put(": ");
                w.below(key, |w| flow(w, member, indent));
                gap(w, indent);
                w.put(if n + 1 == map.len() { "" } else { "," });
            }
            gap(w, indent);
            w.put("}");
        }
    }
}

fn flow(w: &mut Writer, doc: &Doc, indent: usize) {
    w.noting(doc, |w| flow_value(w, doc, indent));
}

/// Space in brackets, where lines may end.
fn gap(w: &mut Writer, indent: usize) {
    match w.rng.below(8) {
        0 | 1 => w.put(" "),
        2 => {
            let comment = w.rng.pick(&["", " # keep ] } \" ' apiKey: x"]);
            w.put(comment);
            w.end_line();
            w.put(&" ".repeat(indent + 1 + indent % 3));
        }
        _ => {}
    }
}

/// The end of a line, with a comment or not.
fn end(w: &mut Writer) {
    let comment = w.rng.pick(&["", "", "", " ", " # keep apiKey: x \"", "  # keep"]);
    w.put(comment);
    w.end_line();
}

/// Lines that mean nothing, before an entry at this indent.
fn remarks(w: &mut Writer, indent: usize) {
    while w.rng.one_in(5) {
        if w.rng.one_in(2) {
            w.put(&" ".repeat(indent));
            w.put("# keep - apiKey: |");
        }
        w.end_line();
    }
}

fn put_key(w: &mut Writer, key: &str) {
    if is_plain(key) && !w.rng.one_in(4) { w.put(key) } else { quoted(w, key) }
}

/// Can it stand without quotes, in brackets too, and be a text?
fn is_plain(text: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | ' ');
    text.starts_with(|c: char| c.is_alphabetic())
        && text.chars().all(word)
        && !text.ends_with(' ')
        && !text.contains("  ")
        && text != "true"
}

fn quoted(w: &mut Writer, text: &str) {
    if !text.contains(['\n', '\t']) && w.rng.one_in(2) {
        w.put(&format!("'{}'", text.replace('\'', "''")));
        return;
    }
    w.put("\"");
    for c in text.chars() {
        match c {
            '"' => w.put("\\\""),
            '\\' => w.put("\\\\"),
            '\n' => w.put("\\n"),
            '\t' => w.put("\\t"),
            _ if w.rng.one_in(12) => w.put(&format!("\\U{:08x}", u32::from(c))),
            _ => w.out.push(c),
        }
    }
    w.put("\"");
}
