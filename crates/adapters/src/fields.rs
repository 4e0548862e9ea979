//! Field rules: which values inside a text file never leave the machine.
//!
//! In: the `[[roots.fields]]` tables of a root. Out: for each path the one [`FieldRules`] that all
//! matching tables make together. A rule only names values; whoever carries it out parses the file.
//! Invariant: a path that passed [`check_path`] has no empty segment and no unfinished escape.
//! Files are matched without regard to case, as secrets are: on some systems `MCP.json` is `mcp.json`.

use std::sync::Arc;

use globset::{Candidate, GlobSet, GlobSetBuilder};

use crate::pattern::{self, Case};

/// How a file with fields is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldFormat {
    /// JSON, also with comments and trailing commas, also JSON5.
    Json,
    /// TOML.
    Toml,
    /// YAML.
    Yaml,
    /// Lines of `NAME=value`.
    Env,
}

impl FieldFormat {
    /// The words that stand for formats in adapter files.
    pub(crate) const WORDS: [(&'static str, Self); 4] =
        [("json", Self::Json), ("toml", Self::Toml), ("yaml", Self::Yaml), ("env", Self::Env)];

    /// The word for it in adapter files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Toml => "toml",
            Self::Yaml => "yaml",
            Self::Env => "env",
        }
    }
}

/// What is left out of one text file. A file that has such rules may only be stored after they were
/// carried out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldRules {
    /// How the file is written.
    pub format: FieldFormat,
    /// Dotted paths of the values, in the order of the adapter file, each once. `*` is one key or
    /// index, `**` any number, `*token*` a glob inside a segment, `\` takes the next of `.`, `*`
    /// and `\` as it is.
    pub redact: Vec<String>,
}

impl FieldRules {
    /// Identifies the rules: equal bytes for equal rules, other bytes for others. What was read under
    /// rules with another fingerprint must be read again.
    pub fn fingerprint(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for text in
            std::iter::once(self.format.word()).chain(self.redact.iter().map(String::as_str))
        {
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes
    }
}

/// One `[[roots.fields]]` table, as written.
#[derive(Debug, Clone)]
pub(crate) struct FieldTable {
    pub(crate) files: Vec<(String, FieldFormat)>,
    pub(crate) redact: Vec<String>,
}

/// The compiled field rules of a root.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields(Vec<(GlobSet, Arc<FieldTable>)>);

impl Fields {
    pub(crate) fn compile(tables: &[FieldTable]) -> Result<Self, globset::Error> {
        let compile = |table: &FieldTable| {
            let mut set = GlobSetBuilder::new();
            for (pattern, _) in &table.files {
                set.add(pattern::glob(pattern, Case::Ignored)?);
            }
            Ok((set.build()?, Arc::new(table.clone())))
        };
        tables.iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// The rules for a file, if it has any. Where tables disagree the first decides the format.
    pub(crate) fn of(&self, rel: &[u8]) -> Option<FieldRules> {
        if self.0.is_empty() {
            return None;
        }
        let path = Candidate::from_bytes(rel);
        let mut rules: Option<FieldRules> = None;
        for (set, table) in &self.0 {
            let Some(first) = set.matches_candidate(&path).into_iter().min() else { continue };
            let format = table.files[first].1;
            let rules = rules.get_or_insert_with(|| FieldRules { format, redact: Vec::new() });
            for path in &table.redact {
                if !rules.redact.contains(path) {
                    rules.redact.push(path.clone());
                }
            }
        }
        rules
    }
}

/// The word for the format that a pattern's file name tells, if it tells one.
pub(crate) fn format_word(pattern: &str) -> Option<&'static str> {
    let name = pattern.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let (_, extension) = name.rsplit_once('.')?;
    match extension {
        "json" | "jsonc" | "json5" => Some("json"),
        "jsonl" => Some("jsonl"),
        "toml" => Some("toml"),
        "yaml" | "yml" => Some("yaml"),
        "env" => Some("env"),
        _ if name.starts_with(".env.") => Some("env"),
        _ => None,
    }
}

/// Says what is wrong with a dotted path, if anything is.
pub(crate) fn check_path(path: &str) -> Result<(), String> {
    let (mut segment, mut escaped) = (String::new(), false);
    for c in path.chars() {
        match c {
            _ if escaped && !matches!(c, '.' | '*' | '\\') => {
                return Err(format!(
                    "'{path}': '\\{c}' is no escape; known are '\\.', '\\*' and '\\\\'"
                ));
            }
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            '.' if !escaped => {
                check_segment(path, &segment)?;
                segment.clear();
                continue;
            }
            // stands for any character that is neither a dot nor a star
            _ if escaped => segment.push('x'),
            _ if c.is_control() => {
                return Err(format!("'{}' has a control character", path.escape_debug()));
            }
            _ => segment.push(c),
        }
        escaped = false;
    }
    if escaped {
        return Err(format!("'{path}' ends in '\\'; a backslash itself is '\\\\'"));
    }
    check_segment(path, &segment)
}

fn check_segment(path: &str, segment: &str) -> Result<(), String> {
    match segment {
        "" => {
            Err(format!("'{path}' has an empty segment; write 'a.b', and '\\.' for a dot in a key"))
        }
        "**" => Ok(()),
        _ if segment.contains("**") => Err(format!("'{path}': '**' must be a whole segment")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_says_nothing_is_refused_before_a_secret_depends_on_it() {
        for good in [
            "a",
            "a.b",
            "*",
            "**",
            "**.apiKey",
            "a.*token*.b",
            r"a\.b.c",
            r"\*\*",
            r"a\\.b",
            "openai-api-key",
        ] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a.**b", "***", r"a\", r"a\b", "a\n"] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rules_that_differ_have_other_fingerprints() {
        let rules = |format, redact: &[&str]| FieldRules {
            format,
            redact: redact.iter().map(|path| (*path).to_owned()).collect(),
        };
        let all = [
            rules(FieldFormat::Json, &["a", "b"]),
            rules(FieldFormat::Yaml, &["a", "b"]),
            rules(FieldFormat::Json, &["ab"]),
            rules(FieldFormat::Json, &["a"]),
            rules(FieldFormat::Json, &["b", "a"]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert_eq!(one.fingerprint(), one.clone().fingerprint());
            assert!(
                all[at + 1..].iter().all(|other| other.fingerprint() != one.fingerprint()),
                "{one:?}"
            );
        }
    }
}
