//! An adapter as it was parsed, and the machine it is asked about.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::error::AdapterError;
use crate::parse;
use crate::place::{Override, Place};
use crate::rules::{Lists, Rules};

/// The systems that adapter files tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Os {
    /// Linux, and any other Unix that is not macOS.
    Linux,
    /// macOS.
    Macos,
    /// Windows.
    Windows,
}

/// What an adapter needs to know of the machine. The caller fills it; nothing here looks.
#[derive(Debug, Clone)]
pub struct Env {
    /// The user's home directory, absolute.
    pub home: PathBuf,
    /// The environment variables.
    pub vars: BTreeMap<String, OsString>,
    /// The system whose candidates count.
    pub os: Os,
}

impl Env {
    /// The variable as an absolute directory. Unset, empty and relative values are none, as the
    /// XDG base directory specification wants it.
    pub(crate) fn directory(&self, variable: &str) -> Option<PathBuf> {
        self.absolute(self.vars.get(variable)?)
    }

    /// A path from a variable, with `~` opened. None if it is not absolute on this system.
    pub(crate) fn absolute(&self, value: &OsStr) -> Option<PathBuf> {
        let bytes = value.as_encoded_bytes();
        if bytes == b"~" {
            return Some(self.home.clone());
        }
        if let Some(text) = value.to_str()
            && let Some(rest) = text.strip_prefix("~/")
        {
            return Some(self.home.join(rest));
        }
        let absolute = match self.os {
            Os::Linux | Os::Macos => bytes.starts_with(b"/"),
            Os::Windows => {
                bytes.starts_with(b"\\\\")
                    || matches!(bytes, [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic())
            }
        };
        absolute.then(|| Path::new(value).to_path_buf())
    }
}

/// Where an adapter comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Embedded in the program.
    Builtin,
    /// A file of the user's.
    File(PathBuf),
}

/// What one agent keeps where.
#[derive(Debug, Clone)]
pub struct Adapter {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) homepage: Option<String>,
    pub(crate) notes: Vec<String>,
    pub(crate) portability: Vec<String>,
    pub(crate) running: Vec<String>,
    pub(crate) hint: Option<String>,
    pub(crate) source: Source,
    pub(crate) text: String,
    pub(crate) roots: Vec<RootSpec>,
}

/// One `[[roots]]` table.
#[derive(Debug, Clone)]
pub(crate) struct RootSpec {
    pub(crate) label: String,
    pub(crate) env: Vec<Override>,
    /// Variables that name a file, not a directory.
    pub(crate) env_file: Vec<Override>,
    pub(crate) linux: Vec<Place>,
    pub(crate) macos: Vec<Place>,
    pub(crate) windows: Vec<Place>,
    pub(crate) several: bool,
    /// What must be inside a candidate for it to count.
    pub(crate) marker: Option<String>,
    pub(crate) lists: Lists,
    pub(crate) compiled: OnceLock<Arc<Rules>>,
}

impl RootSpec {
    pub(crate) fn places(&self, os: Os) -> &[Place] {
        match os {
            Os::Linux => &self.linux,
            Os::Macos => &self.macos,
            Os::Windows => &self.windows,
        }
    }

    /// The rules, compiled when first asked for: most agents are not on most machines.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        #[allow(clippy::expect_used, reason = "parsing checked each pattern; tests compile ours")]
        let compile = || Arc::new(Rules::compile(self.lists.clone()).expect("checked patterns"));
        Arc::clone(self.compiled.get_or_init(compile))
    }
}

impl Adapter {
    /// Reads an adapter file. `origin` is what errors call it, and its [`Source::File`].
    pub fn parse(text: &str, origin: &str) -> Result<Self, AdapterError> {
        let adapter = parse::adapter(text, origin, Source::File(PathBuf::from(origin)))?;
        for root in &adapter.roots {
            let rules =
                Rules::compile(root.lists.clone()).map_err(|error| AdapterError::Pattern {
                    pattern: format!("{} of {origin}", root.label),
                    what: error.to_string(),
                })?;
            let _ = root.compiled.set(Arc::new(rules));
        }
        Ok(adapter)
    }

    /// The agent's id, `[a-z0-9._-]`, the first part of its labels.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The agent's name as people write it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the agent lives on the web, if the file says so.
    pub fn homepage(&self) -> Option<&str> {
        self.homepage.as_deref()
    }

    /// What a user should know about backing up or restoring this agent.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What of this agent is bound to the machine it is on, for one who restores elsewhere.
    pub fn portability(&self) -> &[String] {
        &self.portability
    }

    /// Names of programs; a process with one of them means that the agent runs. Empty if it cannot be
    /// told by a name.
    pub fn running(&self) -> &[String] {
        &self.running
    }

    /// The rules of the root with this label, whether it is here or not; none for a label that this
    /// adapter does not give. Other roots inside it are not carved out of them, and groups have no full
    /// names.
    pub fn rules(&self, label: &str) -> Option<Arc<Rules>> {
        let own = label.strip_prefix(&self.id)?.strip_prefix('/')?;
        let (name, end) = own.split_once('/').map_or((own, None), |(name, end)| (name, Some(end)));
        let spec = self.roots.iter().find(|spec| spec.label == name)?;
        (spec.several || end.is_none()).then(|| spec.rules())
    }

    /// What to do if nothing of this agent was found though it is there.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Where this adapter comes from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The adapter file itself.
    pub fn text(&self) -> &str {
        &self.text
    }
}
