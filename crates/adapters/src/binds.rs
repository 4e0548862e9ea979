//! Path binding: what in an agent's files says where a project is, so that a move can rewrite it.
//!
//! In: the `[[roots.binds]]` tables of a root. Out: for each path the [`Bind`]s that apply to it.
//! Nothing here rewrites anything; a bind only names the places where absolute paths stand.

use std::sync::Arc;

use globset::{Candidate, GlobMatcher};

use crate::pattern::{self, Case};

/// How the name of a directory encodes the absolute path of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Every character that is no ASCII letter or digit becomes `-`: `/home/a/x.y` is
    /// `-home-a-x-y`. Not reversible. Names of more than 200 characters are cut and marked in a
    /// way that is not known here: they are no names of this encoding.
    ClaudeCode,
    /// Without the first separator, `/`, `\` and `:` become `-`, between `--`: `--home-a-x--`.
    /// Not reversible.
    Pi,
    /// Every path separator becomes `-`: `-home-a-x`. Not reversible.
    Dashes,
    /// Percent-encoding: `%2Fhome%2Fa%2Fx`.
    Percent,
    /// Base64 of the path, in either alphabet, with or without padding: read as found, written alike.
    Base64,
    /// MD5 of the path, 32 hexadecimal digits.
    Md5,
    /// SHA-256 of the path, 64 hexadecimal digits.
    Sha256,
    /// The first 32 of those digits.
    Sha256Half,
}

impl Encoding {
    /// The words that stand for encodings in adapter files.
    pub(crate) const WORDS: [(&'static str, Self); 8] = [
        ("claude-code", Self::ClaudeCode),
        ("pi", Self::Pi),
        ("dashes", Self::Dashes),
        ("percent", Self::Percent),
        ("base64", Self::Base64),
        ("md5", Self::Md5),
        ("sha256", Self::Sha256),
        ("sha256-32", Self::Sha256Half),
    ];
}

/// How a file that names paths is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BindFormat {
    /// JSON, also with comments.
    Json,
    /// One JSON value in each line.
    Jsonl,
    /// TOML.
    Toml,
    /// YAML.
    Yaml,
    /// The file is one path and nothing else.
    Text,
}

impl BindFormat {
    /// The words that stand for formats in adapter files.
    pub(crate) const WORDS: [(&'static str, Self); 5] = [
        ("json", Self::Json),
        ("jsonl", Self::Jsonl),
        ("toml", Self::Toml),
        ("yaml", Self::Yaml),
        ("text", Self::Text),
    ];
}

/// Where an absolute path of the machine stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Bind {
    /// The name of this directory is a project's path, encoded.
    Directory(Encoding),
    /// Values in this file.
    File(FileBind),
    /// Columns of a table in this database.
    Database {
        /// The table.
        table: String,
        /// Columns whose text is a path, or a JSON list of paths.
        columns: Vec<String>,
    },
}

/// Paths inside a text file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileBind {
    /// How the file is written.
    pub format: BindFormat,
    /// Dotted paths of values that are a path or a `file://` address. None with [`BindFormat::Text`].
    pub paths: Vec<String>,
    /// Dotted paths of tables whose keys are paths.
    pub keys: Vec<String>,
    /// A conversation, not an index: the agent finds it without, and it is only rewritten for one who
    /// asks for that.
    pub transcript: bool,
}

/// A bind and what it is for, as written.
#[derive(Debug, Clone)]
pub(crate) struct BindTable {
    pub(crate) patterns: Vec<String>,
    pub(crate) bind: Arc<Bind>,
}

/// The compiled binds of a root.
#[derive(Debug, Clone, Default)]
pub(crate) struct Binds(Vec<(Vec<GlobMatcher>, Arc<Bind>)>);

impl Binds {
    pub(crate) fn compile(tables: &[BindTable]) -> Result<Self, globset::Error> {
        let compile = |table: &BindTable| {
            let glob = |text: &String| Ok(pattern::glob(text, Case::Exact)?.compile_matcher());
            let globs = table.patterns.iter().map(glob).collect::<Result<_, globset::Error>>()?;
            Ok((globs, Arc::clone(&table.bind)))
        };
        tables.iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// The binds of a path, in the order of the file.
    pub(crate) fn of(&self, rel: &[u8], is_dir: bool) -> Vec<Arc<Bind>> {
        let path = Candidate::from_bytes(rel);
        let fits = |(globs, bind): &&(Vec<GlobMatcher>, Arc<Bind>)| {
            is_dir == matches!(**bind, Bind::Directory(_))
                && globs.iter().any(|glob| glob.is_match_candidate(&path))
        };
        self.0.iter().filter(fits).map(|(_, bind)| Arc::clone(bind)).collect()
    }
}
