//! Field rules carried out: of a text file, what may leave the machine.
//!
//! In: a file and the rules that its adapter has for it. Out: which values give way to markers (crate
//! `redact`), in a file that cannot change any more without being found out. Invariant: a file that has
//! rules is stored so or not at all; whatever goes wrong is a reason to leave it out.

use std::fs::File;

use adapters::{FieldFormat, FieldRules};
use redact::{Format, Splice};
use repo::TextFormat;

use crate::steady::Steady;

/// Changes when the same rules come to mean something else: then all files are read again.
const EDITION: &[u8] = b"agent-backup fields 1";

/// What to do with a file that is too large for its rules.
const TOO_LARGE: &str =
    "make it smaller, or send it whole by an adapter of your own that names no fields of it";

/// The rules of one file.
#[derive(Debug, Clone)]
pub(crate) struct Fields {
    format: TextFormat,
    paths: Vec<String>,
    fingerprint: [u8; 32],
}

impl Fields {
    pub(crate) fn of(rules: &FieldRules) -> Self {
        let format = format_in(rules);
        let mut hasher = blake3::Hasher::new();
        hasher.update(EDITION).update(&rules.fingerprint());
        let fingerprint = *hasher.finalize().as_bytes();
        Self { format, paths: rules.redact.clone(), fingerprint }
    }

    /// Differs between rules that differ.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The first `size` bytes of a file; or why that is not possible.
    pub(crate) fn read<'f>(&self, file: &'f File, size: u64) -> Result<Steady<'f>, String> {
        let format = format_of(self.format);
        if size > format.bytes_max() as u64 {
            let max = format.bytes_max();
            return Err(format!("it has {size} bytes, at most {max} are parsed; {TOO_LARGE}"));
        }
        Steady::new(file, size).map_err(|e| e.to_string())
    }

    /// What of a file is left out, and how it is written if there are markers in it then; or why that
    /// is not possible.
    pub(crate) fn hide(&self, file: &Steady<'_>) -> Result<(Splice, Option<TextFormat>), String> {
        let paths = parsed(&self.paths)?;
        let hidden = redact::hide(format_of(self.format), file, &paths);
        let hidden = hidden.map_err(|error| match error {
            redact::Error::TooLarge { .. } => format!("{error}; {TOO_LARGE}"),
            error => error.to_string(),
        })?;
        Ok((hidden.splice, hidden.marked.then_some(self.format)))
    }
}

/// How the files of a rule are written.
pub(crate) fn format_in(rules: &FieldRules) -> TextFormat {
    match rules.format {
        FieldFormat::Json => TextFormat::Json,
        FieldFormat::Toml => TextFormat::Toml,
        FieldFormat::Yaml => TextFormat::Yaml,
        FieldFormat::Env => TextFormat::Env,
    }
}

/// Paths as the crate that does it reads them.
pub(crate) fn parsed(paths: &[String]) -> Result<Vec<redact::Path>, String> {
    paths.iter().map(|path| path.parse().map_err(|e| format!("'{path}': {e}"))).collect()
}

/// How the crate that does it calls a format.
pub(crate) fn format_of(format: TextFormat) -> Format {
    match format {
        TextFormat::Json => Format::Json,
        TextFormat::JsonLines => Format::JsonLines,
        TextFormat::Toml => Format::Toml,
        TextFormat::Yaml => Format::Yaml,
        TextFormat::Env => Format::Env,
    }
}
