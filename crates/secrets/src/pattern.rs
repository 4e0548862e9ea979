//! Patterns of the rule files, for the automata that run them.
//!
//! In: a regular expression as Go's RE2 reads it. Out: the tree that `regex-syntax` makes of it.
//! The two languages agree but for these, which are rewritten, never skipped:
//!
//! - `{` that begins no repetition is a character in RE2: it becomes `\{`.
//! - `[` in a class is a character in RE2 unless `[:` follows: it becomes `\[`.
//! - `&&`, `--` and `~~` in a class are operators of `regex-syntax`: they are escaped.
//! - `\w`, `\d`, `\s`, `\b` and `(?i)` are ASCII in RE2 (but for two folds to letters that are not):
//!   they are here too. What counts characters counts bytes here, which is the same but for text
//!   that is not ASCII.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::Hir;

/// Reads a pattern.
pub(crate) fn parse(pattern: &str) -> Result<Hir, Box<regex_syntax::Error>> {
    let mut parser = ParserBuilder::new().unicode(false).utf8(false).build();
    parser.parse(&translate(pattern)).map_err(Box::new)
}

/// The pattern in the language of `regex-syntax`.
pub(crate) fn translate(pattern: &str) -> String {
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            '\\' => {
                out.push('\\');
                at += 1;
                if let Some(escaped) = chars.get(at) {
                    out.push(*escaped);
                    at += 1;
                }
                // the braces of `\x{10}` and `\p{Greek}` belong to the escape
                if matches!(chars.get(at - 1), Some('x' | 'p' | 'P')) && chars.get(at) == Some(&'{')
                {
                    out.push('{');
                    at += 1;
                }
            }
            '[' => at = class(&chars, at, &mut out),
            '{' if !is_repetition(&chars[at..]) => {
                out.push_str("\\{");
                at += 1;
            }
            other => {
                out.push(other);
                at += 1;
            }
        }
    }
    out
}

/// Copies the class that begins at `at`; says where it ends.
fn class(chars: &[char], mut at: usize, out: &mut String) -> usize {
    out.push('[');
    at += 1;
    if chars.get(at) == Some(&'^') {
        out.push('^');
        at += 1;
    }
    let first = at;
    while let Some(&char) = chars.get(at) {
        let next = chars.get(at + 1);
        match char {
            ']' if at > first => {
                out.push(']');
                return at + 1;
            }
            '\\' => {
                out.push('\\');
                out.extend(next);
                at += 2;
            }
            '[' if next == Some(&':') => {
                let name: String = chars[at..].iter().take_while(|char| **char != ']').collect();
                at += name.chars().count();
                out.push_str(&name);
                if chars.get(at) == Some(&']') {
                    out.push(']'); // of `:]`
                    at += 1;
                }
            }
            '[' | ']' => {
                out.push('\\');
                out.push(char);
                at += 1;
            }
            // the first of a class is a character; behind one it begins a range to the second
            '-' if next == Some(&'-') && at == first => {
                out.push_str("\\-");
                at += 1;
            }
            '-' if next == Some(&'-') => {
                out.push_str("-\\-");
                at += 2;
            }
            '&' | '~' if next == Some(&char) => {
                for _ in 0..2 {
                    out.push('\\');
                    out.push(char);
                }
                at += 2;
            }
            other => {
                out.push(other);
                at += 1;
            }
        }
    }
    at // the class has no end; the parser will say so
}

/// `{3}`, `{3,}`, `{3,5}`.
fn is_repetition(chars: &[char]) -> bool {
    let inner: String = chars[1..].iter().take_while(|char| **char != '}').collect();
    let closed = chars.len() > inner.chars().count() + 1;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let bounds = match inner.split_once(',') {
        None => number(&inner),
        Some((min, max)) => number(min) && (max.is_empty() || number(max)),
    };
    closed && bounds
}
