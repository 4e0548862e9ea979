//! Rules: which values of a file are meant.
//!
//! A path is segments joined by `.`, from the top of the file down; an element of a list is named by
//! its index, from 0.
//!
//! | Segment | Stands for |
//! |---|---|
//! | `apiKey` | this key, or with digits this index; case counts |
//! | `*` | any one key or index |
//! | `**` | any number of keys and indexes, none too |
//! | `*token*` | a key with `token` in it; **case does not count**, for spellings vary where names are guessed |
//! | `\.` `\*` `\\` | the character itself, inside a segment |
//!
//! `mcpServers.*.env.*` is every variable of every server; `**.apiKey` is each `apiKey` at any depth;
//! `env.**` is `env` itself, as `**` may stand for nothing.

use std::fmt;
use std::str::FromStr;

/// Longer rules are mistakes.
const SEGMENTS_MAX: usize = 64;

/// A rule: which values of a file are meant. [`Path::parse`] tells how it is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path {
    text: String,
    segments: Vec<Segment>,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Segment {
    /// `**`
    Deep,
    /// `*`
    Any,
    /// A key or index as it is.
    Exact(String),
    /// What stands between the stars, in lower case; two pieces or more.
    Glob(Vec<String>),
}

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// A segment has nothing in it, as in `a..b` or an empty path.
    #[error("the path {0:?} has an empty segment")]
    Empty(String),
    /// `**` stands beside something else in a segment.
    #[error("the path {0:?} has ** inside a segment; it stands alone between dots")]
    Deep(String),
    /// A backslash is not before a dot, a star or a backslash.
    #[error("the path {0:?} has a backslash that is not before a dot, a star or a backslash")]
    Escape(String),
    /// It has more segments than any file is deep.
    #[error("the path {0:?} has more than {max} segments", max = SEGMENTS_MAX)]
    Long(String),
}

impl Path {
    /// Reads a path: segments joined by `.`, each a key, an index, `*` (any one), `**` (any number), or
    /// a key with stars in it (`*token*`, whatever its case); `\` takes `.`, `*` and `\` as they are.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let wrong = |kind: fn(String) -> PathError| Err(kind(text.to_owned()));
        let mut segments = Vec::new();
        // what stands between the stars of the segment that is being read
        let mut pieces = vec![String::new()];
        let mut chars = text.chars();
        loop {
            let next = chars.next();
            let Some(piece) = pieces.last_mut() else { return wrong(PathError::Empty) };
            match next {
                None | Some('.') => {
                    segments.push(match pieces.as_slice() {
                        [only] if only.is_empty() => return wrong(PathError::Empty),
                        [only] => Segment::Exact(only.clone()),
                        [left, right] if left.is_empty() && right.is_empty() => Segment::Any,
                        [a, b, c] if [a, b, c].iter().all(|piece| piece.is_empty()) => {
                            Segment::Deep
                        }
                        [_, middle @ .., _] if middle.iter().any(String::is_empty) => {
                            return wrong(PathError::Deep);
                        }
                        _ => Segment::Glob(pieces.iter().map(|p| p.to_lowercase()).collect()),
                    });
                    if segments.len() > SEGMENTS_MAX {
                        return wrong(PathError::Long);
                    }
                    if next.is_none() {
                        return Ok(Self { text: text.to_owned(), segments });
                    }
                    pieces = vec![String::new()];
                }
                Some('*') => pieces.push(String::new()),
                Some('\\') => match chars.next() {
                    Some(taken @ ('.' | '*' | '\\')) => piece.push(taken),
                    _ => return wrong(PathError::Escape),
                },
                Some(other) => piece.push(other),
            }
        }
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

impl Segment {
    /// Does this one segment stand for the step with this key, or index in digits?
    pub(crate) fn takes(&self, step: &str) -> bool {
        match self {
            Self::Deep | Self::Any => true,
            Self::Exact(key) => key == step,
            Self::Glob(pieces) => glob(pieces, &step.to_lowercase()),
        }
    }
}

/// Is `text` the first piece, then the others in order with anything between, then the last?
fn glob(pieces: &[String], text: &str) -> bool {
    let [first, middle @ .., last] = pieces else { return false };
    let Some(rest) = text.strip_prefix(first.as_str()) else { return false };
    let Some(mut rest) = rest.strip_suffix(last.as_str()) else { return false };
    for piece in middle {
        let Some(at) = rest.find(piece.as_str()) else { return false };
        rest = &rest[at + piece.len()..];
    }
    true
}

/// `key` as it is written in a path.
pub(crate) fn escape(key: &str, out: &mut String) {
    for c in key.chars() {
        if matches!(c, '.' | '*' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::parse(text)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Path, PathError, Segment, escape};

    fn one(text: &str) -> Segment {
        let path = Path::parse(text).unwrap();
        assert_eq!(path.segments().len(), 1, "{text}");
        assert_eq!(path.to_string(), text);
        path.segments()[0].clone()
    }

    #[test]
    fn segments_are_read_as_they_are_documented() {
        let path: Path = r"mcpServers.*.**.a\.b\*\\.0.*Tok*".parse().unwrap();
        let read = [
            Segment::Exact("mcpServers".into()),
            Segment::Any,
            Segment::Deep,
            Segment::Exact(r"a.b*\".into()),
            Segment::Exact("0".into()),
            Segment::Glob(vec![String::new(), "tok".into(), String::new()]),
        ];
        assert_eq!(path.segments(), read);
    }

    #[test]
    fn a_path_with_a_slip_in_it_is_no_path() {
        type Kind = fn(String) -> PathError;
        let wrong: [(&str, Kind); 10] = [
            ("", PathError::Empty),
            (".", PathError::Empty),
            ("a..b", PathError::Empty),
            ("a.", PathError::Empty),
            (".a", PathError::Empty),
            ("a**b", PathError::Deep),
            ("***", PathError::Deep),
            ("a**", PathError::Deep),
            (r"a\b", PathError::Escape),
            (r"a\", PathError::Escape),
        ];
        for (text, error) in wrong {
            assert_eq!(Path::parse(text), Err(error(text.into())), "{text}");
        }
        assert!(Path::parse(&["a"; 64].join(".")).is_ok());
        assert!(matches!(Path::parse(&["a"; 65].join(".")), Err(PathError::Long(_))));
    }

    #[test]
    fn case_counts_in_names_and_not_in_globs() {
        assert!(one("apiKey").takes("apiKey"));
        assert!(!one("apiKey").takes("apikey"));
        assert!(one("*Token*").takes("ACCESS_TOKEN"));
        assert!(one("*token").takes("refreshToken"));
        assert!(!one("*token").takes("tokens"));
        assert!(one("a*b*c").takes("aXbYc"));
        assert!(!one("a*b*c").takes("acb"));
        assert!(!one("ab*ba").takes("aba"), "pieces do not overlap");
        assert!(one(r"\*").takes("*"));
        assert!(!one(r"\*").takes("a"));
    }

    #[test]
    fn any_key_can_be_written_as_a_segment() {
        for key in ["plain", "a.b", "*", "**", r"\", r"a\.b*c"] {
            let mut text = String::new();
            escape(key, &mut text);
            assert_eq!(one(&text), Segment::Exact(key.into()));
        }
    }
}
