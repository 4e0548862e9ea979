//! Names of directories that are a project's path, encoded: what such a name is for the new path.
//!
//! In: the name, its encoding, the maps, and paths that files of the snapshot tell. Out: a [`Verdict`].
//!
//! | Encoding | New name |
//! |---|---|
//! | can be turned back (percent, base64) | of the path that is in it |
//! | cannot (`claude-code`, `pi`, `dashes`) | of a known path that has this name; else the encoded old directory at its beginning is exchanged, and that is a guess |
//! | hash | of a known path that has this name; else there is none |

use std::collections::BTreeSet;

use adapters::Encoding;
use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER};
use md5::Md5;
use percent_encoding::{AsciiSet, percent_decode_str, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use super::path::{Maps, RESERVED, path_in, percent};

/// Longer names Claude Code cuts and marks, in a way that is not known here.
const CLAUDE_CODE_NAME_MAX: usize = 200;
/// The longest name that file systems take, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// What becomes of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is of no path that moves, or no name of this encoding.
    Stays,
    /// It is this one, for certain.
    Known(String),
    /// By its beginning it is this one; other paths have the same old name.
    Guess(String),
    /// It stays, though it should not: why.
    Unclear(&'static str),
}

/// Can a name of this encoding be turned back into its path?
pub(super) fn is_reversible(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::Percent | Encoding::Base64)
}

/// The name of the directory for a path; none where this encoding has none that is known.
pub(super) fn name_of(encoding: Encoding, path: &str) -> Option<String> {
    let is_separator = |c: char| c == '/' || c == '\\';
    match encoding {
        Encoding::ClaudeCode => {
            let mut name = String::new();
            for c in path.chars() {
                if c.is_ascii_alphanumeric() {
                    name.push(c);
                } else {
                    // a JavaScript program counts in units of UTF-16
                    (0..c.len_utf16()).for_each(|_| name.push('-'));
                }
            }
            (name.len() <= CLAUDE_CODE_NAME_MAX).then_some(name)
        }
        Encoding::Pi => {
            let path = path.strip_prefix(is_separator).unwrap_or(path);
            let dash = |c| if is_separator(c) || c == ':' { '-' } else { c };
            Some(format!("--{}--", path.chars().map(dash).collect::<String>()))
        }
        Encoding::Dashes => {
            Some(path.chars().map(|c| if is_separator(c) { '-' } else { c }).collect())
        }
        Encoding::Percent => Some(percent(path)),
        Encoding::Base64 => Some(BASE64URL_NOPAD.encode(path.as_bytes())),
        Encoding::Md5 => Some(HEXLOWER.encode(&Md5::digest(path.as_bytes()))),
        Encoding::Sha256 => Some(HEXLOWER.encode(&Sha256::digest(path.as_bytes()))),
        Encoding::Sha256Half => {
            Some(HEXLOWER.encode(&Sha256::digest(path.as_bytes()).as_slice()[..16]))
        }
    }
}

/// Is this a name that could be one of the encoding?
pub(super) fn is_plausible(encoding: Encoding, name: &str) -> bool {
    let is_hex =
        |len| name.len() == len && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match encoding {
        Encoding::ClaudeCode => name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'),
        Encoding::Pi => name.len() > 4 && name.starts_with("--") && name.ends_with("--"),
        Encoding::Dashes => name.contains('-'),
        Encoding::Percent => name.contains('%'),
        Encoding::Base64 => true,
        Encoding::Md5 | Encoding::Sha256Half => is_hex(32),
        Encoding::Sha256 => is_hex(64),
    }
}

/// The name for the new place. `known` are paths that files of the snapshot tell.
pub(super) fn rename(
    encoding: Encoding,
    name: &str,
    known: &BTreeSet<String>,
    maps: &Maps,
) -> Verdict {
    if !is_plausible(encoding, name) {
        return Verdict::Stays;
    }
    let verdict = match encoding {
        Encoding::Percent => turn_percent(name, maps),
        Encoding::Base64 => turn_base64(name, maps),
        _ => by_paths(encoding, name, known, maps).unwrap_or_else(|| match encoding {
            Encoding::Md5 | Encoding::Sha256 | Encoding::Sha256Half => Verdict::Unclear(
                "its name is a hash of a project's path that no file here tells, so the new name \
                 cannot be computed",
            ),
            _ => by_beginning(encoding, name, maps),
        }),
    };
    match verdict {
        Verdict::Known(new) | Verdict::Guess(new) if new == name => Verdict::Stays,
        Verdict::Known(new) | Verdict::Guess(new) if !is_name(&new) => {
            Verdict::Unclear("its new name would be none that a file system takes")
        }
        verdict => verdict,
    }
}

fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= NAME_BYTES_MAX && !name.contains(['/', '\0'])
}

/// By a path that is known and has this name; none if none is.
fn by_paths(
    encoding: Encoding,
    name: &str,
    known: &BTreeSet<String>,
    maps: &Maps,
) -> Option<Verdict> {
    let fits = |path: &&String| name_of(encoding, path).as_deref() == Some(name);
    let found: BTreeSet<Option<String>> = known
        .iter()
        .filter(fits)
        .map(|path| Some(maps.apply(path).unwrap_or(path.clone())))
        .map(|path| name_of(encoding, &path?))
        .collect();
    let mut found = found.into_iter();
    Some(match (found.next()?, found.next()) {
        (Some(new), None) => Verdict::Known(new),
        (None, None) => Verdict::Unclear("its new name would be longer than is known how to write"),
        (_, Some(_)) => Verdict::Unclear(
            "projects of several paths share it, and they go to places with different names",
        ),
    })
}

/// By the encoded old directory at its beginning.
fn by_beginning(encoding: Encoding, name: &str, maps: &Maps) -> Verdict {
    // the longest counts, as with paths; what other encodings put around the path is put aside
    let (name, around) = match encoding {
        Encoding::Pi => (&name[2..name.len() - 2], "--"),
        _ => (name, ""),
    };
    let bare = |path: &str| {
        let name = name_of(encoding, path)?;
        Some(if encoding == Encoding::Pi { name[2..name.len() - 2].to_owned() } else { name })
    };
    let mut best: Vec<(usize, Option<String>)> = Vec::new();
    for (old, new) in maps.pairs() {
        let Some(beginning) = bare(&old) else { continue };
        let Some(rest) = name.strip_prefix(&beginning) else { continue };
        if rest.is_empty() || rest.starts_with('-') {
            best.push((
                beginning.len(),
                bare(&new).map(|new| format!("{around}{new}{rest}{around}")),
            ));
        }
    }
    let Some(longest) = best.iter().map(|(len, _)| *len).max() else { return Verdict::Stays };
    let found: BTreeSet<Option<String>> =
        best.into_iter().filter(|(len, _)| *len == longest).map(|(_, new)| new).collect();
    let mut found = found.into_iter();
    match (found.next().flatten(), found.next()) {
        (_, Some(_)) => Verdict::Unclear("directories that go to different places have this name"),
        (Some(new), None)
            if encoding != Encoding::ClaudeCode || new.len() <= CLAUDE_CODE_NAME_MAX =>
        {
            Verdict::Guess(new)
        }
        _ => Verdict::Unclear("its new name would be longer than is known how to write"),
    }
}

/// With the characters encoded that the old name has encoded.
fn turn_percent(name: &str, maps: &Maps) -> Verdict {
    let Ok(path) = percent_decode_str(name).decode_utf8() else { return Verdict::Stays };
    let Some(new) = path_in(&path).and_then(|_| maps.apply(&path)) else { return Verdict::Stays };
    let written = [percent, component].into_iter().find(|encode| encode(&path) == name);
    match written {
        Some(encode) => Verdict::Known(encode(&new)),
        None => Verdict::Unclear("it is percent-encoded in a way that is not known here"),
    }
}

/// As JavaScript's `encodeURIComponent` does it.
fn component(text: &str) -> String {
    const SET: &AsciiSet =
        &RESERVED.remove(b'!').remove(b'\'').remove(b'(').remove(b')').remove(b'*');
    utf8_percent_encode(text, SET).to_string()
}

/// In the alphabet and with the padding of the old name.
fn turn_base64(name: &str, maps: &Maps) -> Verdict {
    let all = [&BASE64, &BASE64_NOPAD, &BASE64URL_NOPAD, &BASE64URL];
    let found = all.into_iter().find_map(|alphabet| {
        let path = String::from_utf8(alphabet.decode(name.as_bytes()).ok()?).ok()?;
        path_in(&path)?;
        Some((alphabet, path))
    });
    let Some((alphabet, path)) = found else { return Verdict::Stays };
    let Some(new) = maps.apply(&path) else { return Verdict::Stays };
    let name = alphabet.encode(new.as_bytes());
    // no name has a slash in it
    Verdict::Known(if name.contains('/') { name.replace('/', "_").replace('+', "-") } else { name })
}
