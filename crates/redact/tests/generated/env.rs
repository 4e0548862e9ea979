//! Writes `.env` files.

use crate::model::{Doc, File, Rng, Writer};

const NAMES: [&str; 12] = [
    "apiKey",
    "whole",
    "APIKEY",
    "CLIENT_SECRET",
    "my_secret_1",
    "PATH_TO",
    "export",
    "URL",
    "A",
    "B_2",
    "wholes",
    "Secret",
];

pub(crate) fn file(mut rng: Rng) -> File {
    let count = 3 + rng.below(8);
    let members: Vec<(String, Doc)> =
        (0..count).map(|_| (rng.pick(&NAMES).to_owned(), Doc::Text(rng.text()))).collect();
    let mut writer = Writer::new(rng);
    for (key, value) in &members {
        while writer.rng.one_in(3) {
            let remark = writer.rng.pick(&["", "  ", "# keep apiKey='x", "\t#whole=\"1"]);
            writer.put(remark);
            writer.end_line();
        }
        let before = writer.rng.pick(&["", "", " ", "export ", " export  "]);
        writer.put(before);
        writer.put(key);
        let equals = writer.rng.pick(&["=", "=", " =", "= ", " = "]);
        writer.put(equals);
        writer.below(key, |w| w.noting(value, |w| put(w, value)));
        let behind = writer.rng.pick(&["", "", " ", " # keep", "\t # keep apiKey=1"]);
        writer.put(behind);
        writer.end_line();
    }
    writer.file(Doc::Map(members), false)
}

fn put(w: &mut Writer, value: &Doc) {
    let Doc::Text(text) = value else { unreachable!("all values are texts") };
    // line ends of the file's own would be part of a value that has some
    let newlines = w.newline == "\n" || !text.contains('\n');
    let plain =
        text.chars().all(|c| c.is_alphanumeric() || matches!(c, '/' | ':' | ',' | '.' | '='));
    match w.rng.below(3) {
        0 if plain => w.put(text),
        1 if newlines && !text.contains('\'') && !text.ends_with('\\') => {
            w.put(&format!("'{text}'"));
        }
        _ => {
            w.put("\"");
            for c in text.chars() {
                match c {
                    '"' => w.put("\\\""),
                    '\\' => w.put("\\\\"),
                    '\n' => w.put("\\n"),
                    _ => w.out.push(c),
                }
            }
            w.put("\"");
        }
    }
}
