//! Names from a repository or a file system as text that cannot drive a terminal.
//!
//! In: bytes. Out: one line without control characters (C0, C1, DEL), without marks that turn the
//! direction of text or separate lines, and with bytes that are not UTF-8 as `\xNN`. A backslash
//! stays as it is: the result is for eyes, not for programs (those get `--json`).

use std::fmt::Write as _;

/// Whether a character would do more than stand there.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}'
            | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Bytes as safe text.
pub(crate) fn bytes(raw: &[u8]) -> String {
    let mut out = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        push(&mut out, chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}"); // writing to a string does not fail
        }
    }
    out
}

/// Text as safe text.
pub(crate) fn text(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    push(&mut out, raw);
    out
}

/// A local path as safe text.
pub(crate) fn path(raw: &std::path::Path) -> String {
    bytes(raw.as_os_str().as_encoded_bytes())
}

fn push(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if u32::from(c) < 0x100 && is_unsafe(c) => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if is_unsafe(c) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_colour_clear_or_retitle_the_terminal() {
        assert_eq!(bytes(b"\x1b[31mred\x1b]0;title\x07"), "\\x1b[31mred\\x1b]0;title\\x07");
        assert_eq!(text("a\u{9b}31m"), "a\\x9b31m", "C1 CSI in UTF-8");
        assert_eq!(bytes(b"a\x9b31m"), "a\\x9b31m", "C1 CSI as a raw byte");
        assert_eq!(bytes(b"line\nbreak\ttab\rback\x7f\0"), "line\\nbreak\\ttab\\rback\\x7f\\x00");
    }

    #[test]
    fn a_name_cannot_show_another_extension_by_turning_text_around() {
        assert_eq!(text("invoice\u{202e}fdp.exe"), "invoice\\u{202e}fdp.exe");
        for mark in ['\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}', '\u{200f}', '\u{2028}'] {
            let shown = text(&format!("a{mark}b"));
            assert!(shown.is_ascii(), "{shown}");
        }
    }

    #[test]
    fn names_that_are_not_utf8_and_names_in_any_script_stay_readable() {
        assert_eq!(bytes(b"caf\xe9.txt"), "caf\\xe9.txt");
        assert_eq!(
            bytes("r\u{e9}sum\u{e9} \u{4e2d}\u{6587}.md".as_bytes()),
            "r\u{e9}sum\u{e9} \u{4e2d}\u{6587}.md"
        );
        assert_eq!(bytes(b"back\\slash"), "back\\slash");
    }
}
