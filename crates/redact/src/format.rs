//! The formats, and how a file's name tells which one it is in.

use std::fmt;

/// A format this crate can redact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// JSON, JSONC (comments, trailing commas) and JSON5.
    Json,
    /// One JSON value a line; lines may be empty.
    JsonLines,
    /// TOML 1.1.
    Toml,
    /// YAML 1.2, with any number of documents.
    Yaml,
    /// `KEY=value` lines, as the dotenv libraries read them.
    Env,
}

impl Format {
    /// The format of a file of this name (without folders), case aside; none if the name does not tell.
    ///
    /// `*.json`, `*.jsonc`, `*.json5`; `*.jsonl`, `*.ndjson`; `*.toml`; `*.yaml`, `*.yml`; `.env`,
    /// `.env.*`, `*.env`.
    pub fn of_name(file_name: &str) -> Option<Self> {
        let name = file_name.to_ascii_lowercase();
        if name == ".env" || name.starts_with(".env.") {
            return Some(Self::Env);
        }
        let (_, extension) = name.rsplit_once('.')?;
        match extension {
            "json" | "jsonc" | "json5" => Some(Self::Json),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            "env" => Some(Self::Env),
            _ => None,
        }
    }

    pub(crate) fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::JsonLines)
    }

    /// The longest file that is read, in bytes. JSON takes the memory of what is looked for in it, and may be
    /// as long as nobody minds the time. In other formats a parsed file takes some 50 times its size in
    /// memory at worst: that is far above what configuration is, and far below what hurts.
    pub fn bytes_max(self) -> usize {
        match self {
            Self::Json | Self::JsonLines => 256 << 20,
            Self::Toml | Self::Yaml | Self::Env => 8 << 20,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
            Self::JsonLines => "JSON Lines",
            Self::Toml => "TOML",
            Self::Yaml => "YAML",
            Self::Env => ".env",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Format;

    #[test]
    fn a_name_tells_its_format() {
        let told = [
            ("settings.json", Some(Format::Json)),
            ("mcp.JSONC", Some(Format::Json)),
            ("opencode.json5", Some(Format::Json)),
            ("history.jsonl", Some(Format::JsonLines)),
            ("config.toml", Some(Format::Toml)),
            ("a.b.yaml", Some(Format::Yaml)),
            ("a.yml", Some(Format::Yaml)),
            (".env", Some(Format::Env)),
            (".env.local", Some(Format::Env)),
            ("prod.env", Some(Format::Env)),
            (".envrc", None),
            ("env", None),
            ("json", None),
            ("notes.md", None),
            ("settings.json.bak", None),
        ];
        for (name, format) in told {
            assert_eq!(Format::of_name(name), format, "{name}");
        }
    }
}
