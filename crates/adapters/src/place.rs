//! Where a root may be: paths with a home, variables and wildcards, and variables that override
//! them.
//!
//! In: the text of a candidate (`~/.x`, `${XDG_DATA_HOME:-~/.local/share}/x`, `/abs`, `C:/abs`,
//! with `*` in a segment where a root is several directories) and an [`Env`]. Out: paths. Only a
//! wildcard segment looks at the file system, and it lists one directory, never a tree.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use globset::GlobMatcher;

use crate::adapter::{Env, Os};
use crate::pattern::{self, Case};

/// One candidate path of a root.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    head: Head,
    tail: Vec<Segment>,
}

#[derive(Debug, Clone)]
enum Head {
    Home,
    Absolute(String),
    Variable { name: String, otherwise: Option<Box<Place>> },
}

#[derive(Debug, Clone)]
enum Segment {
    Literal(String),
    Wild { text: String, glob: GlobMatcher },
}

/// A path that a candidate stands for, and what its wildcard segments matched there.
#[derive(Debug, Clone)]
pub(crate) struct Spot {
    pub(crate) path: PathBuf,
    pub(crate) wild: Vec<String>,
}

impl Place {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (head, rest) = Self::head(text)?;
        let mut tail = Vec::new();
        for part in rest.split('/').skip(1) {
            tail.push(Segment::parse(part, text)?);
        }
        if let (Head::Home, Some(Segment::Wild { text: first, .. })) = (&head, tail.first())
            && first.chars().all(|c| "*?[]{},.".contains(c))
        {
            return Err(format!("'{text}' would look at everything in the home directory"));
        }
        Ok(Self { head, tail })
    }

    fn head(text: &str) -> Result<(Head, &str), String> {
        if let Some(rest) = text.strip_prefix('~') {
            return if rest.is_empty() || rest.starts_with('/') {
                Ok((Head::Home, rest))
            } else {
                Err(format!("'{text}': homes of other users are not supported"))
            };
        }
        if let Some(inner) = text.strip_prefix("${") {
            return Self::variable(text, inner);
        }
        if text.starts_with('$') {
            return Err(format!("'{text}': write a variable as ${{NAME}} or ${{NAME:-default}}"));
        }
        if text.starts_with('/') {
            return Ok((Head::Absolute("/".to_owned()), if text == "/" { "" } else { text }));
        }
        if pattern::is_drive(text) && text[2..].starts_with('/') {
            return Ok((Head::Absolute(format!("{}/", &text[..2])), &text[2..]));
        }
        Err(format!("'{text}' must start with '~', '${{NAME}}' or be absolute, with '/' between"))
    }

    fn variable<'a>(text: &str, inner: &'a str) -> Result<(Head, &'a str), String> {
        let mut depth = 1_u32;
        let end = inner.bytes().position(|byte| {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        let end = end.ok_or_else(|| format!("'{text}' lacks a '}}'"))?;
        let (body, rest) = (&inner[..end], &inner[end + 1..]);
        if !rest.is_empty() && !rest.starts_with('/') {
            return Err(format!("'{text}': a '/' must follow the variable"));
        }
        let (name, otherwise) = match body.split_once(":-") {
            Some((name, default)) => (name, Some(Box::new(Self::parse(default)?))),
            None => (body, None),
        };
        check_variable(name)?;
        Ok((Head::Variable { name: name.to_owned(), otherwise }, rest))
    }

    /// Whether it may stand for several paths.
    pub(crate) fn is_wild(&self) -> bool {
        let otherwise = match &self.head {
            Head::Variable { otherwise, .. } => otherwise.as_ref().is_some_and(|p| p.is_wild()),
            Head::Home | Head::Absolute(_) => false,
        };
        otherwise || self.tail.iter().any(|segment| matches!(segment, Segment::Wild { .. }))
    }

    /// Where it begins, wildcards as written; none if a variable is missing.
    fn base(&self, env: &Env) -> Option<PathBuf> {
        match &self.head {
            Head::Home => Some(env.home.clone()),
            Head::Absolute(root) => Some(PathBuf::from(root)),
            Head::Variable { name, otherwise } => match env.directory(name) {
                Some(path) => Some(path),
                None => otherwise.as_ref()?.show(env),
            },
        }
    }

    /// What its wildcards matched in a path of another machine, which ends as this candidate does; none
    /// if it does not, or without a wildcard.
    pub(crate) fn wild_in(&self, path: &Path) -> Option<Vec<String>> {
        let names: Vec<&str> = path
            .components()
            .filter_map(|one| if let Component::Normal(name) = one { name.to_str() } else { None })
            .collect();
        let names = &names[names.len().checked_sub(self.tail.len())?..];
        let mut wild = Vec::new();
        for (segment, name) in self.tail.iter().zip(names) {
            match segment {
                Segment::Literal(text) if text == name => {}
                Segment::Wild { glob, .. } if glob.is_match(Path::new(name)) => {
                    wild.push((*name).to_owned());
                }
                _ => return None,
            }
        }
        (!wild.is_empty()).then_some(wild)
    }

    /// The path with these names in the places of its wildcards, in order; none if they do not fit.
    pub(crate) fn filled(&self, wild: &[String], env: &Env) -> Option<PathBuf> {
        if matches!(&self.head, Head::Variable { otherwise: Some(place), .. } if place.is_wild()) {
            return None;
        }
        let (mut path, mut wild) = (self.base(env)?, wild.iter());
        for segment in &self.tail {
            match segment {
                Segment::Literal(text) => path.push(text),
                Segment::Wild { glob, .. } => {
                    path.push(wild.next().filter(|name| glob.is_match(Path::new(name)))?);
                }
            }
        }
        wild.next().is_none().then_some(path)
    }

    /// The path with its wildcards as written, for messages; none if a variable is missing.
    pub(crate) fn show(&self, env: &Env) -> Option<PathBuf> {
        let mut path = self.base(env)?;
        for segment in &self.tail {
            match segment {
                Segment::Literal(text) | Segment::Wild { text, .. } => path.push(text),
            }
        }
        Some(path)
    }

    /// The paths it stands for, sorted. Only what wildcards match is known to exist.
    pub(crate) fn expand(&self, env: &Env) -> Vec<Spot> {
        let start = |path| vec![Spot { path, wild: Vec::new() }];
        let mut spots = match &self.head {
            Head::Home => start(env.home.clone()),
            Head::Absolute(root) => start(PathBuf::from(root)),
            Head::Variable { name, otherwise } => match (env.directory(name), otherwise) {
                (Some(path), _) => start(path),
                (None, Some(place)) => place.expand(env),
                (None, None) => Vec::new(),
            },
        };
        for segment in &self.tail {
            match segment {
                Segment::Literal(text) => {
                    for spot in &mut spots {
                        spot.path.push(text);
                    }
                }
                Segment::Wild { glob, .. } => {
                    spots = spots.iter().flat_map(|spot| children(spot, glob)).collect();
                }
            }
        }
        spots
    }
}

impl Segment {
    fn parse(part: &str, whole: &str) -> Result<Self, String> {
        match part {
            "" => return Err(format!("'{whole}' has an empty segment")),
            "." | ".." | "**" => return Err(format!("'{whole}' must not contain '{part}'")),
            _ if part.contains('\\') => {
                return Err(format!("'{whole}': write '/' between segments, on Windows too"));
            }
            _ if part.contains('$') => {
                return Err(format!("'{whole}': a variable stands only at the beginning"));
            }
            _ => {}
        }
        if !part.contains(['*', '?', '[', '{']) {
            return Ok(Self::Literal(part.to_owned()));
        }
        let glob = pattern::glob(part, Case::Exact).map_err(|e| format!("'{whole}': {e}"))?;
        Ok(Self::Wild { text: part.to_owned(), glob: glob.compile_matcher() })
    }
}

/// Subdirectories that a wildcard matches. What cannot be listed has none.
fn children(spot: &Spot, glob: &GlobMatcher) -> Vec<Spot> {
    let Ok(entries) = std::fs::read_dir(&spot.path) else { return Vec::new() };
    let mut found: Vec<Spot> = entries
        .flatten()
        .filter(|entry| glob.is_match(Path::new(&entry.file_name())))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| {
            let mut wild = spot.wild.clone();
            wild.push(entry.file_name().to_string_lossy().into_owned());
            Spot { path: entry.path(), wild }
        })
        .collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// A variable that takes the place of the candidates: `NAME` or `NAME/below/it`.
#[derive(Debug, Clone)]
pub(crate) struct Override {
    pub(crate) name: String,
    below: Vec<String>,
}

impl Override {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split('/');
        let name = parts.next().unwrap_or_default();
        check_variable(name)?;
        let below: Vec<String> = parts.map(str::to_owned).collect();
        if below.iter().any(|p| p.is_empty() || p == "." || p == ".." || p.contains(['*', '\\'])) {
            return Err(format!("'{text}': after the name come plain segments, NAME/below/it"));
        }
        Ok(Self { name: name.to_owned(), below })
    }

    /// The directories that the variable names here; several are separated by `,` or what
    /// separates them in `PATH`. Values that are not absolute count as not set.
    pub(crate) fn expand(&self, env: &Env, several: bool) -> Vec<PathBuf> {
        let Some(value) = env.vars.get(&self.name) else { return Vec::new() };
        let values: Vec<&OsStr> = match (several, value.to_str()) {
            (true, Some(text)) => {
                let path_separator = if env.os == Os::Windows { ';' } else { ':' };
                text.split([',', path_separator]).map(|one| OsStr::new(one.trim())).collect()
            }
            _ => vec![value.as_os_str()],
        };
        let place = |base: PathBuf| self.below.iter().fold(base, |path, part| path.join(part));
        values.into_iter().filter_map(|one| env.absolute(one)).map(place).collect()
    }
}

/// A variable name as shells take it.
pub(crate) fn check_variable(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(plain)
    {
        return Err(format!("'{name}' is not the name of a variable"));
    }
    Ok(())
}
