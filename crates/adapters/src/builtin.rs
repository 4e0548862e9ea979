//! The adapters that the program brings, and the user's own.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::adapter::{Adapter, Source};
use crate::error::AdapterError;
use crate::parse;

/// The embedded files, by id.
const AGENTS: &[(&str, &str)] = &[
    ("aider", include_str!("../agents/aider.toml")),
    ("claude-code", include_str!("../agents/claude-code.toml")),
    ("cline", include_str!("../agents/cline.toml")),
    ("codex", include_str!("../agents/codex.toml")),
    ("cursor", include_str!("../agents/cursor.toml")),
    ("gemini-cli", include_str!("../agents/gemini-cli.toml")),
    ("goose", include_str!("../agents/goose.toml")),
    ("opencode", include_str!("../agents/opencode.toml")),
];

/// The embedded adapters, sorted by id.
pub fn builtin() -> Vec<Adapter> {
    let parse = |(id, text): &(&str, &str)| {
        #[allow(clippy::expect_used, reason = "part of the program; a test parses every file")]
        parse::adapter(text, &format!("{id}.toml"), Source::Builtin).expect("embedded adapter")
    };
    AGENTS.iter().map(parse).collect()
}

/// The embedded adapters and those of `user_dir` (`*.toml`), sorted by id. A user's adapter takes
/// the place of an embedded one with the same id. A directory that does not exist is empty.
pub fn load(user_dir: Option<&Path>) -> Result<Vec<Adapter>, AdapterError> {
    let mut all: BTreeMap<String, Adapter> =
        builtin().into_iter().map(|adapter| (adapter.id.clone(), adapter)).collect();
    for path in user_dir.map(files_of).transpose()?.unwrap_or_default() {
        let text = std::fs::read_to_string(&path)
            .map_err(|source| AdapterError::Io { path: path.clone(), source })?;
        let adapter = Adapter::parse(&text, &path.display().to_string())?;
        let id = adapter.id.clone();
        if let Some(Source::File(other)) = all.get(&id).map(Adapter::source) {
            return Err(AdapterError::Invalid {
                origin: path.display().to_string(),
                line: 1,
                key: "id".to_owned(),
                what: format!("'{id}' is also the id in {}", other.display()),
            });
        }
        all.insert(id, adapter);
    }
    Ok(all.into_values().collect())
}

fn files_of(dir: &Path) -> Result<Vec<PathBuf>, AdapterError> {
    let failed = |source| AdapterError::Io { path: dir.to_path_buf(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|ext| ext == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
