//! Hand-written files, format by format: what is hidden, what stays, what is refused, what comes back.

mod env;
mod hostile;
mod json;
mod restoring;
mod toml;
mod yaml;

use redact::{Error, Format, MARKER, Path, redact, restore};

fn paths(rules: &[&str]) -> Vec<Path> {
    rules.iter().map(|rule| Path::parse(rule).unwrap()).collect()
}

/// The redacted text, after checks that hold for every file: a second run changes nothing, the live
/// file brings back every byte, and without one all is listed.
fn hide(format: Format, text: &str, rules: &[&str]) -> String {
    let rules = paths(rules);
    let redacted = redact(format, text.as_bytes(), &rules).unwrap();
    let again = redact(format, &redacted.bytes, &rules).unwrap();
    assert_eq!(again.bytes, redacted.bytes, "twice is once");
    assert_eq!(again.fields, Vec::<String>::new());

    let alone = restore(format, &redacted.bytes, None).unwrap();
    assert_eq!(alone.bytes, redacted.bytes);
    assert_eq!(alone.missing, redacted.fields);

    let back = restore(format, &redacted.bytes, Some(text.as_bytes())).unwrap();
    assert_eq!(String::from_utf8(back.bytes).unwrap(), text, "every byte comes back");
    assert_eq!((back.kept, back.missing), (redacted.fields, Vec::new()));
    String::from_utf8(redacted.bytes).unwrap()
}

/// Checks that `text` comes out with the marker wherever `wanted` has `@`.
fn check(format: Format, rules: &[&str], text: &str, wanted: &str) {
    let wanted = wanted.replace('@', &format!("\"{MARKER}\""));
    assert_eq!(hide(format, text, rules), wanted);
}

/// Checks that `text` is refused, and that the message holds none of it.
fn refused(format: Format, rules: &[&str], text: &str) -> Error {
    let error = redact(format, text.as_bytes(), &paths(rules)).unwrap_err();
    assert!(!error.to_string().contains("SECRET"), "{error}");
    assert!(!matches!(error, Error::Unproven { .. }), "found only afterwards: {error}");
    error
}
