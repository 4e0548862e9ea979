//! A thousand generated files of each format: redaction changes the named values and nothing else.
//!
//! A file is made from a document that is known ([`model`]) by a writer that knows where it put which
//! value ([`json`], [`toml`], [`yaml`], [`env`]), with comments, odd spacing, escapes, and values that
//! look like syntax. So what has to come out is known to the byte, without asking the crate. A parser
//! that has nothing to do with the crate's own reads the file before and after.

mod env;
mod json;
mod model;
mod toml;
mod yaml;

use model::{Doc, File, RULES, Rng, WHOLE, paths};
use redact::{Format, MARKER, redact, restore};
use serde_json::Value;

const FILES: u64 = 1000;

fn generate(format: Format, seed: u64) -> File {
    let rng = Rng::new(seed);
    match format {
        Format::Json => json::file(rng),
        Format::JsonLines => json::lines(rng),
        Format::Toml => toml::file(rng),
        Format::Yaml => yaml::file(rng),
        Format::Env => env::file(rng),
    }
}

/// What a parser that is no relative of the crate's makes of a file.
fn second_opinion(format: Format, text: &str, strict: bool) -> Result<Value, String> {
    let text = text.trim_start_matches('\u{feff}');
    match format {
        Format::Json if strict => serde_json::from_str(text).map_err(|e| e.to_string()),
        Format::Json => json5::from_str(text).map_err(|e| e.to_string()),
        Format::JsonLines => {
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            lines
                .map(|line| serde_json::from_str::<Value>(line).map_err(|e| e.to_string()))
                .collect()
        }
        Format::Toml => basic_toml::from_str(text).map_err(|e| e.to_string()),
        Format::Yaml => serde_yaml_ng::from_str(text).map_err(|e| e.to_string()),
        Format::Env => {
            let pairs: Result<Vec<_>, _> = dotenvy::from_read_iter(text.as_bytes()).collect();
            let pairs = pairs.map_err(|e| e.to_string())?;
            Ok(pairs.into_iter().map(|(key, value)| serde_json::json!([key, value])).collect())
        }
    }
}

/// A document as [`second_opinion`] gives it.
fn as_value(format: Format, doc: &Doc) -> Value {
    match (format, doc) {
        (Format::Env, Doc::Map(members)) => {
            members.iter().map(|(key, value)| serde_json::json!([key, value.value()])).collect()
        }
        _ => doc.value(),
    }
}

/// The marker as it stands in a file.
fn quoted() -> String {
    format!("\"{MARKER}\"")
}

/// Is `out` the file with its named values left out, and else as it was?
fn judge(format: Format, file: &File, out: &str) -> Result<(), String> {
    let read = second_opinion(format, out, file.strict)?;
    if read != as_value(format, &file.redacted()) {
        return Err("another document".into());
    }
    for (range, _) in &file.secrets {
        for canary in model::canaries(&file.text[range.clone()]) {
            if out.contains(canary) {
                return Err(format!("{canary} is still there"));
            }
        }
    }
    let mut wanted = String::new();
    let mut at = 0;
    for (range, _) in &file.secrets {
        wanted.push_str(&file.text[at..range.start]);
        wanted.push_str(&quoted());
        at = range.end;
    }
    wanted.push_str(&file.text[at..]);
    if out == wanted { Ok(()) } else { Err(format!("other bytes than wanted:\n{wanted}")) }
}

fn check(format: Format) {
    let mut hidden = 0;
    for seed in 0..FILES {
        let file = generate(format, seed);
        let told = || format!("{format}, seed {seed}:\n{}", file.text);
        let read = second_opinion(format, &file.text, file.strict);
        assert_eq!(read.as_ref(), Ok(&as_value(format, &file.doc)), "the generator: {}", told());

        let redacted = redact(format, file.text.as_bytes(), &paths(&RULES));
        let redacted = redacted.unwrap_or_else(|error| panic!("{error}: {}", told()));
        let out = String::from_utf8(redacted.bytes.clone()).unwrap();
        if let Err(why) = judge(format, &file, &out) {
            panic!("{why}\n{}\nbecame\n{out}", told());
        }
        let fields: Vec<&String> = file.secrets.iter().map(|(_, path)| path).collect();
        assert_eq!(redacted.fields.iter().collect::<Vec<_>>(), fields, "{}", told());
        hidden += fields.len();

        let again = redact(format, out.as_bytes(), &paths(&RULES)).unwrap();
        assert_eq!(again.bytes, redacted.bytes, "{}", told());
        let back = restore(format, &redacted.bytes, Some(file.text.as_bytes())).unwrap();
        assert_eq!(String::from_utf8(back.bytes).unwrap(), file.text, "{}", told());
        assert_eq!((back.kept, back.missing), (redacted.fields.clone(), vec![]), "{}", told());
        let alone = restore(format, &redacted.bytes, None).unwrap();
        assert_eq!((alone.bytes, alone.missing), (redacted.bytes, redacted.fields), "{}", told());
    }
    assert!(hidden > 2000, "{hidden} values hidden in {FILES} files");
}

#[test]
fn a_thousand_json_files() {
    check(Format::Json);
}

#[test]
fn a_thousand_files_of_json_lines() {
    check(Format::JsonLines);
}

#[test]
fn a_thousand_toml_files() {
    check(Format::Toml);
}

#[test]
fn a_thousand_yaml_files() {
    check(Format::Yaml);
}

#[test]
fn a_thousand_env_files() {
    check(Format::Env);
}

/// Lists and maps that are named as a whole, wherever a writer put them: in YAML, in blocks of any
/// indent, with comments behind them.
#[test]
fn whole_lists_and_maps() {
    let mut hidden = 0;
    for format in [Format::Json, Format::Yaml] {
        for seed in 0..FILES {
            let file = generate(format, seed);
            let told = || format!("{format}, seed {seed}:\n{}", file.text);
            let redacted = redact(format, file.text.as_bytes(), &paths(&WHOLE));
            let redacted = redacted.unwrap_or_else(|error| panic!("{error}: {}", told()));
            let out = String::from_utf8(redacted.bytes.clone()).unwrap();
            let read = second_opinion(format, &out, file.strict);
            let wanted = file.doc.redacted(&WHOLE, &mut Vec::new()).value();
            assert_eq!(read, Ok(wanted), "{}\nbecame\n{out}", told());
            let back = restore(format, &redacted.bytes, Some(file.text.as_bytes())).unwrap();
            assert_eq!(String::from_utf8(back.bytes).unwrap(), file.text, "{}", told());
            assert_eq!(back.kept, redacted.fields);
            hidden += back.kept.len();
        }
    }
    assert!(hidden > 2000, "{hidden}");
}

/// What a program might do that is nearly right. None of it may pass.
#[test]
fn what_is_nearly_right_is_found_out() {
    for format in [Format::Json, Format::JsonLines, Format::Toml, Format::Yaml, Format::Env] {
        let mut tried = 0;
        for seed in 0..50 {
            let file = generate(format, seed);
            let out = redact(format, file.text.as_bytes(), &paths(&RULES)).unwrap();
            let out = String::from_utf8(out.bytes).unwrap();
            if file.secrets.is_empty() {
                continue;
            }
            assert_eq!(judge(format, &file, &out), Ok(()));
            let quoted = quoted();
            let (first, _) = &file.secrets[0];
            let fewer: Vec<_> = paths(&RULES).into_iter().skip(1).collect();
            let fewer = redact(format, file.text.as_bytes(), &fewer).unwrap().bytes;
            let mut wrong = vec![
                ("nothing done", file.text.clone()),
                ("one left", out.replacen(&quoted, &file.text[first.clone()], 1)),
                ("no quotes", out.replacen(&quoted, MARKER, 1)),
                ("another marker", out.replacen(&quoted, "\"redacted\"", 1)),
                ("nothing left of a value", out.replacen(&quoted, "", 1)),
                ("a line more", format!("{out}\n")),
                ("all written anew", file.redacted().value().to_string()),
                ("one more", out.replacen("keep", MARKER, 1)),
            ];
            if file.secrets.iter().any(|(_, path)| model::named_first(path)) {
                wrong.push(("a rule left away", String::from_utf8(fewer).unwrap()));
            }
            if out.contains('#') {
                wrong.push(("no comments", out.replacen('#', "", 1)));
            }
            for (what, wrong) in wrong {
                // a change may be none in one file, not in all
                if wrong != out {
                    assert!(judge(format, &file, &wrong).is_err(), "{format}, {seed}: {what}");
                    tried += 1;
                }
            }
        }
        assert!(tried > 200, "{format}: {tried}");
    }
    assert_eq!(RULES[0], ["mcpServers", "*", "env", "*"]);
}
