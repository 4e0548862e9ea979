//! What is wrong with a backup, found before it is needed, and the command that mends it.
//!
//! In: directories, an open session, a store, what a bucket says of itself. Out: [`Finding`]s; nothing is
//! mended here. Each module looks at one place: `local` this machine's files, `agents` the settings by which
//! agents delete what they wrote, `repository` the repository, `bucket` the rules of its bucket, `probe` tries
//! a store out. A mend is text for a shell and is only given where it is known to help; what needs
//! a decision, or a secret that nobody has here, is a hint in words.

mod agents;
mod bucket;
mod edit;
mod local;
mod probe;
mod repository;

use std::path::Path;

pub use agents::retention;
pub use bucket::{bucket, key_refused};
pub use edit::comment_out;
pub use local::{local, private, room};
pub use probe::{Probe, probe};
pub use repository::{About, repository};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Backups, restores or secrets suffer.
    Fault,
    /// It works; this would be better.
    Advice,
    /// Nobody could tell.
    Unchecked,
    /// Looked at, and good.
    Fine,
}

impl Level {
    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Advice => "advice",
            Self::Unchecked => "unchecked",
            Self::Fine => "fine",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, for scripts: it never changes.
    pub check: &'static str,
    /// How much it matters.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// A shell command that mends it.
    pub mend: Option<String>,
    /// What to do where no command can.
    pub hint: Option<String>,
}

impl Finding {
    fn new(level: Level, check: &'static str, what: impl Into<String>) -> Self {
        Self { check, level, what: what.into(), mend: None, hint: None }
    }

    /// Something is wrong.
    pub fn fault(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(Level::Fault, check, what)
    }

    /// Something could be better.
    pub fn advice(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(Level::Advice, check, what)
    }

    /// Something could not be looked at.
    pub fn unchecked(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(Level::Unchecked, check, what)
    }

    /// Something is as it should be.
    pub fn fine(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(Level::Fine, check, what)
    }

    /// With the command that mends it.
    #[must_use]
    pub fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend = Some(command.into());
        self
    }

    /// With words where no command can help.
    #[must_use]
    pub fn hint(mut self, words: impl Into<String>) -> Self {
        self.hint = Some(words.into());
        self
    }
}

/// Text as one word of a shell.
pub fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A path as one word of a shell; none for one that is no text, which no command on a screen could name.
pub fn quote_path(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    // a name that begins with a dash would be a flag; our paths are absolute
    (path.is_absolute() && !text.chars().any(char::is_control)).then(|| quote(text))
}

/// A command about a path, if it can be said.
fn about(finding: Finding, path: &Path, command: impl Fn(&str) -> String) -> Finding {
    match quote_path(path) {
        Some(word) => finding.mend(command(&word)),
        None => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_out_of_a_command() {
        assert_eq!(quote("/a/b-1.toml"), "/a/b-1.toml");
        assert_eq!(quote("/a b"), "'/a b'");
        assert_eq!(quote("/a'; rm -rf /"), r"'/a'\''; rm -rf /'");
        assert_eq!(quote(""), "''");
        assert_eq!(quote_path(Path::new("/a\nb")), None);
        assert_eq!(quote_path(Path::new("-rf")), None);
    }
}
