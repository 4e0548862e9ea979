//! Maps of paths: what a path that was noted elsewhere is here.
//!
//! In: pairs of absolute directories, and a value as an agent wrote it: a path of Unix or Windows, or a
//! `file://` address. Out: the value for the new place, if one of the directories is it or holds it. The
//! longest directory counts, and only whole names: `/Users/a` has nothing to do with `/Users/abc`.
//! All maps look at the value as it was; what one of them wrote is never mapped again.
//!
//! What stands behind the directory keeps its spelling, but for the separators where a path goes from
//! one kind of system to the other. Names of Windows are compared without their case. Nothing here
//! touches a disk.

use std::fmt;
use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::pull::error::show;

/// The kinds of absolute paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Style {
    /// `/home/a`
    Unix,
    /// `C:\Users\a` or `C:/Users/a`
    Windows,
}

/// An absolute directory that is not the root of its file system.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Absolute {
    style: Style,
    /// The drive's letter; none on Unix.
    drive: Option<char>,
    names: Vec<String>,
}

/// Where a directory of another place is here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathMap {
    old: Absolute,
    new: Absolute,
}

/// Why a map is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}': {why}")]
pub struct MapError {
    text: String,
    why: String,
}

fn wrong(text: &str, why: impl Into<String>) -> MapError {
    MapError { text: show(text.as_bytes()), why: why.into() }
}

impl Absolute {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("is empty");
        }
        if text.contains(char::is_control) {
            return Err("has a control character");
        }
        let (style, drive, rest) = match drive_of(text) {
            Some(drive) if text.len() == 2 || text[2..].starts_with(['/', '\\']) => {
                (Style::Windows, Some(drive.to_ascii_uppercase()), &text[2..])
            }
            Some(_) => return Err("is not absolute: behind the drive comes no separator"),
            None if text.starts_with('/') => (Style::Unix, None, text),
            None if text.starts_with("\\\\") => return Err("is a network path: not supported"),
            None if text.starts_with('~') => return Err("is not absolute: write the home in full"),
            None => return Err("is not absolute"),
        };
        let is_separator = |c: char| c == '/' || (style == Style::Windows && c == '\\');
        let names: Vec<String> =
            rest.split(is_separator).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if names.iter().any(|name| name == "." || name == "..") {
            return Err("has '.' or '..' in it");
        }
        if names.is_empty() {
            return Err("is the root of a file system: name directories in it");
        }
        Ok(Self { style, drive, names })
    }

    fn text(&self) -> String {
        match self.drive {
            Some(drive) => format!("{drive}:\\{}", self.names.join("\\")),
            None => format!("/{}", self.names.join("/")),
        }
    }

    fn has_name(&self, at: usize, name: &str) -> bool {
        let own = &self.names[at];
        own == name || (self.style == Style::Windows && own.eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for PathMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.old.text(), self.new.text())
    }
}

impl PathMap {
    /// From two directories. Both are absolute, of Unix or of Windows, and no root of a file system.
    pub fn new(old: &str, new: &str) -> Result<Self, MapError> {
        let text = format!("{old}={new}");
        let one =
            |what, path| Absolute::parse(path).map_err(|why| wrong(&text, format!("{what} {why}")));
        Ok(Self { old: one("OLD", old)?, new: one("NEW", new)? })
    }

    /// Reads `OLD=NEW`. An `=` inside a path is understood where only one reading has two directories.
    pub fn parse(text: &str) -> Result<Self, MapError> {
        let splits = text.match_indices('=').map(|(at, _)| (&text[..at], &text[at + 1..]));
        let fits = |(old, new): &(&str, &str)| Self::new(old, new).is_ok();
        let found: Vec<(&str, &str)> = splits.clone().filter(fits).collect();
        match found.as_slice() {
            [(old, new)] => Self::new(old, new),
            [] => match splits.clone().next() {
                // the error of the only reading, or of the first
                Some((old, new)) => Self::new(old, new),
                None => Err(wrong(text, "has no '='; write OLD=NEW")),
            },
            _ => Err(wrong(text, "can be read in more than one way, as it has several '='")),
        }
    }

    /// The directory as it was.
    pub fn old(&self) -> String {
        self.old.text()
    }

    /// The directory as it is here.
    pub fn new_path(&self) -> String {
        self.new.text()
    }

    /// Refuses maps that send one directory to two places.
    pub fn check_all(maps: &[Self]) -> Result<(), MapError> {
        for (at, map) in maps.iter().enumerate() {
            let other = maps[..at].iter().find(|other| other.old == map.old && *other != map);
            if let Some(other) = other {
                let why = format!("'{}' sends the same directory elsewhere", show_map(other));
                return Err(wrong(&map.to_string(), why));
            }
        }
        Ok(())
    }
}

fn show_map(map: &PathMap) -> String {
    show(map.to_string().as_bytes())
}

/// The letter of a path with a drive.
fn drive_of(text: &str) -> Option<char> {
    match text.as_bytes() {
        [letter, b':', ..] if letter.is_ascii_alphabetic() => Some(char::from(*letter)),
        _ => None,
    }
}

/// Maps as they are applied.
#[derive(Debug, Clone, Default)]
pub(super) struct Maps(Vec<PathMap>);

impl Maps {
    pub(super) fn new(maps: &[PathMap]) -> Self {
        let mut maps = maps.to_vec();
        maps.sort_by_key(|map| std::cmp::Reverse(map.old.names.len()));
        maps.dedup();
        Self(maps)
    }

    /// These and more; of two with the same directory, the ones that were there count.
    pub(super) fn with(&self, more: Vec<PathMap>) -> Self {
        let fresh = |map: &PathMap| !self.0.iter().any(|known| known.old == map.old);
        let more: Vec<PathMap> = more.into_iter().filter(fresh).collect();
        Self::new(&[self.0.as_slice(), &more].concat())
    }

    /// The way back, as far as there is one.
    pub(super) fn inverse(&self) -> Self {
        let turn = |map: &PathMap| PathMap { old: map.new.clone(), new: map.old.clone() };
        Self::new(&self.0.iter().map(turn).collect::<Vec<_>>())
    }

    /// The directories, each with where it is here, the longest first.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (String, String)> {
        self.0.iter().map(|map| (map.old.text(), map.new.text()))
    }

    /// The value for the new place; none if it stays as it is.
    pub(super) fn apply(&self, value: &str) -> Option<String> {
        let new = match value.strip_prefix("file://") {
            Some(rest) => self.address(rest)?,
            None => self.path(value)?,
        };
        (new != value).then_some(new)
    }

    fn path(&self, value: &str) -> Option<String> {
        let (style, start) = match drive_of(value) {
            Some(_) => (Style::Windows, 2),
            None if value.starts_with('/') => (Style::Unix, 0),
            None => return None,
        };
        let separators: &[char] = if style == Style::Windows { &['/', '\\'] } else { &['/'] };
        // what leads out again is nobody's
        if value.split(separators).any(|name| name == "..") {
            return None;
        }
        let drive = drive_of(value);
        let fits = |map: &&PathMap| {
            let same_drive = match (map.old.drive, drive) {
                (Some(one), Some(other)) => one.eq_ignore_ascii_case(&other),
                (None, None) => true,
                _ => false,
            };
            same_drive && rest_of(&map.old, &value[start..], separators, &str::to_owned).is_some()
        };
        let map = self.0.iter().find(fits)?;
        let rest = rest_of(&map.old, &value[start..], separators, &str::to_owned)?;
        let rest = match (style, map.new.style) {
            (Style::Unix, Style::Windows) => rest.replace('/', "\\"),
            (Style::Windows, Style::Unix) => rest.replace('\\', "/"),
            _ => rest.to_owned(),
        };
        Some(map.new.text() + &rest)
    }

    /// `rest` stands behind `file://`; the new address with it.
    fn address(&self, rest: &str) -> Option<String> {
        let path = rest.strip_prefix("localhost").unwrap_or(rest);
        if !path.starts_with('/') || path.split('/').any(|name| decoded(name) == "..") {
            return None;
        }
        let first = path.split('/').find(|name| !name.is_empty()).map(decoded).unwrap_or_default();
        let drive = drive_of(&first).filter(|_| first.len() == 2);
        let found = self.0.iter().find_map(|map| match (map.old.drive, drive) {
            (None, None) => Some((map, rest_of(&map.old, path, &['/'], &decoded)?)),
            (Some(one), Some(other)) if one.eq_ignore_ascii_case(&other) => {
                let below = path.trim_start_matches('/');
                let below = &below[below.find('/')?..];
                Some((map, rest_of(&map.old, below, &['/'], &decoded)?))
            }
            _ => None,
        });
        let (map, rest) = found?;
        let mut new = String::from("file://");
        if let Some(drive) = map.new.drive {
            // as editors of the VS Code family write it
            let _ = write!(new, "/{}%3A", drive.to_ascii_lowercase());
        }
        for name in &map.new.names {
            let _ = write!(new, "/{}", percent(name));
        }
        Some(new + rest)
    }

    /// Could there be something to change in this piece of JSON? A no is certain.
    pub(super) fn may_be_in(&self, json: &str) -> bool {
        self.0.iter().any(|map| {
            // names may be written in other ways only if they have other characters
            let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
            let odd = |name: &String| !name.chars().all(plain);
            map.old.style == Style::Windows
                || map.old.names.iter().any(odd)
                || json.contains("\\u00")
                || map.old.names.iter().all(|name| json.contains(name.as_str()))
        })
    }
}

/// What stands behind `dir` in `path`, which begins with a separator; none if `dir` is not its beginning.
fn rest_of<'p>(
    dir: &Absolute,
    path: &'p str,
    separators: &[char],
    read: &dyn Fn(&str) -> String,
) -> Option<&'p str> {
    let mut rest = path;
    for at in 0..dir.names.len() {
        let below = rest.trim_start_matches(separators);
        if below.len() == rest.len() {
            return None;
        }
        let end = below.find(separators).unwrap_or(below.len());
        if !dir.has_name(at, &read(&below[..end])) {
            return None;
        }
        rest = &below[end..];
    }
    Some(rest)
}

/// A name of an address, with its percent signs resolved; as it is where that gives no text.
fn decoded(name: &str) -> String {
    let text = percent_decode_str(name).decode_utf8();
    text.map_or_else(|_| name.to_owned(), std::borrow::Cow::into_owned)
}

/// All but the characters that RFC 3986 calls unreserved.
pub(super) const RESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// As a name stands in an address, or in the name of a directory that is percent-encoded.
pub(super) fn percent(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// The path of a value: of an address too. None for what is no absolute path.
pub(super) fn path_in(value: &str) -> Option<String> {
    let path = match value.strip_prefix("file://") {
        Some(rest) => {
            let path = decoded(rest.strip_prefix("localhost").unwrap_or(rest));
            let below = path.strip_prefix('/')?;
            if drive_of(below).is_some() { below.replace('/', "\\") } else { path }
        }
        None => value.to_owned(),
    };
    let absolute = path.starts_with('/') || drive_of(&path).is_some();
    let short = path.trim_end_matches(['/', '\\']);
    (absolute && !short.is_empty()).then(|| short.to_owned())
}
