//! The pattern dialect of adapter files: checked one by one, compiled into sets.
//!
//! A pattern is matched against the whole path inside the root, segments separated by `/`.
//! `*`, `?` and `[...]` do not cross `/`; `**` is a segment of its own and stands for any number
//! of segments; `{a,b}` are alternatives within a segment; `\` takes the next character as it is.
//! A pattern that matches a directory covers everything in it.

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// Whether letters must match as written. Secrets are matched without regard to case: on a file
/// system that ignores case, `.ENV` is the same file as `.env`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Exact,
    Ignored,
}

/// Says what is wrong with a pattern, if anything is.
pub(crate) fn check(pattern: &str) -> Result<(), String> {
    if pattern.is_empty() {
        return Err("is empty".to_owned());
    }
    if pattern.starts_with('/') || is_drive(pattern) {
        return Err(format!("'{pattern}' is absolute; patterns start inside the root"));
    }
    for segment in segments(pattern)? {
        match segment {
            "" => {
                return Err(format!(
                    "'{pattern}' has an empty segment; a directory is named without a final '/'"
                ));
            }
            "." | ".." => return Err(format!("'{pattern}' must not contain '{segment}'")),
            "**" => {}
            s if s.contains("**") => {
                return Err(format!("'{pattern}': '**' must be a whole segment"));
            }
            _ => {}
        }
    }
    glob(pattern, Case::Exact).map(|_| ()).map_err(|e| format!("'{pattern}': {}", e.kind()))
}

/// The segments of a pattern. Alternatives must not contain `/`, or there would be none.
pub(crate) fn segments(pattern: &str) -> Result<Vec<&str>, String> {
    let mut segments = Vec::new();
    let (mut start, mut depth, mut escaped) = (0, 0_u32, false);
    for (at, byte) in pattern.bytes().enumerate() {
        if escaped {
            escaped = false;
            continue;
        }
        match byte {
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b'/' if depth > 0 => {
                return Err(format!(
                    "'{pattern}' has a '/' inside '{{}}'; write one pattern for each alternative"
                ));
            }
            b'/' => {
                segments.push(&pattern[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    segments.push(&pattern[start..]);
    Ok(segments)
}

/// One compiled glob of the dialect.
pub(crate) fn glob(pattern: &str, case: Case) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .backslash_escape(true)
        .empty_alternates(true)
        .case_insensitive(case == Case::Ignored)
        .build()
}

/// Patterns compiled for the two questions asked of them.
#[derive(Debug, Clone)]
pub(crate) struct Cover {
    /// Matches what a pattern names, and everything below that.
    paths: GlobSet,
    /// Matches directories that are covered whole without being named: `a` for `a/**`.
    stems: GlobSet,
}

impl Cover {
    pub(crate) fn compile(patterns: &[String], case: Case) -> Result<Self, globset::Error> {
        let (mut paths, mut stems) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            paths.add(glob(pattern, case)?);
            if let Some(stem) = pattern.strip_suffix("/**") {
                stems.add(glob(stem, case)?);
            } else if pattern != "**" {
                paths.add(glob(&format!("{pattern}/**"), case)?);
            }
        }
        Ok(Self { paths: paths.build()?, stems: stems.build()? })
    }

    pub(crate) fn has(&self, path: &globset::Candidate<'_>, is_dir: bool) -> bool {
        self.paths.is_match_candidate(path) || (is_dir && self.stems.is_match_candidate(path))
    }
}

/// The directories that must be walked to reach what the patterns name.
pub(crate) fn ways(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let segments = segments(pattern).unwrap_or_default();
        for end in 1..segments.len() {
            set.add(glob(&segments[..end].join("/"), Case::Exact)?);
            if segments[end - 1] == "**" {
                break;
            }
        }
    }
    set.build()
}

/// A pattern that matches just this name.
pub(crate) fn escape(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for c in name.chars() {
        if "\\*?[]{}!,".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// `C:` and the like at the head of a path.
pub(crate) fn is_drive(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':'
}
