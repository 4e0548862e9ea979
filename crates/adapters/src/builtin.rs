//! The adapters that the program brings, and the user's own.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::adapter::{Adapter, Source};
use crate::error::AdapterError;
use crate::parse;

/// The embedded files, by id.
const AGENTS: &[(&str, &str)] = &[
    ("agents-common", include_str!("../agents/agents-common.toml")),
    ("aider", include_str!("../agents/aider.toml")),
    ("amp", include_str!("../agents/amp.toml")),
    ("antigravity", include_str!("../agents/antigravity.toml")),
    ("claude-code", include_str!("../agents/claude-code.toml")),
    ("cline", include_str!("../agents/cline.toml")),
    ("codebuff", include_str!("../agents/codebuff.toml")),
    ("codewhale", include_str!("../agents/codewhale.toml")),
    ("codex", include_str!("../agents/codex.toml")),
    ("continue", include_str!("../agents/continue.toml")),
    ("copilot-cli", include_str!("../agents/copilot-cli.toml")),
    ("copilot-jetbrains", include_str!("../agents/copilot-jetbrains.toml")),
    ("crush", include_str!("../agents/crush.toml")),
    ("cursor", include_str!("../agents/cursor.toml")),
    ("devin", include_str!("../agents/devin.toml")),
    ("droid", include_str!("../agents/droid.toml")),
    ("forge", include_str!("../agents/forge.toml")),
    ("gemini-cli", include_str!("../agents/gemini-cli.toml")),
    ("goose", include_str!("../agents/goose.toml")),
    ("gptme", include_str!("../agents/gptme.toml")),
    ("grok", include_str!("../agents/grok.toml")),
    ("hermes", include_str!("../agents/hermes.toml")),
    ("junie", include_str!("../agents/junie.toml")),
    ("kilo", include_str!("../agents/kilo.toml")),
    ("kimi", include_str!("../agents/kimi.toml")),
    ("kiro", include_str!("../agents/kiro.toml")),
    ("letta", include_str!("../agents/letta.toml")),
    ("lm-studio", include_str!("../agents/lm-studio.toml")),
    ("ollama", include_str!("../agents/ollama.toml")),
    ("omp", include_str!("../agents/omp.toml")),
    ("openclaw", include_str!("../agents/openclaw.toml")),
    ("opencode", include_str!("../agents/opencode.toml")),
    ("openhands", include_str!("../agents/openhands.toml")),
    ("pi", include_str!("../agents/pi.toml")),
    ("plandex", include_str!("../agents/plandex.toml")),
    ("qwen", include_str!("../agents/qwen.toml")),
    ("roo", include_str!("../agents/roo.toml")),
    ("trae", include_str!("../agents/trae.toml")),
    ("vibe", include_str!("../agents/vibe.toml")),
    ("vscode-copilot", include_str!("../agents/vscode-copilot.toml")),
    ("warp", include_str!("../agents/warp.toml")),
    ("windsurf", include_str!("../agents/windsurf.toml")),
    ("zed", include_str!("../agents/zed.toml")),
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
