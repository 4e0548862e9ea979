//! What is around the process, taken once at the start: the only reader of the environment.
//!
//! Directories follow the XDG base directory specification. It is read here and not by `etcetera`,
//! which looks at the process itself and so could neither be tested nor live with an empty `HOME`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use uzers::os::unix::UserExt as _;

use super::error::{Error, Result};
use crate::tool::Tool;

/// Variables that hold secrets: child processes never see them.
pub(crate) const SECRET_VARIABLES: [&str; 6] = [
    "AGENT_BACKUP_PASSWORD",
    "AGENT_BACKUP_SECRET_KEY",
    "AGENT_BACKUP_OTHER_PASSWORD",
    "AGENT_BACKUP_OTHER_SECRET_KEY",
    "B2_APPLICATION_KEY",
    "B2_ENCRYPTION_KEY",
];

/// How many heaps glibc makes for threads.
const HEAPS_MAX: &str = "MALLOC_ARENA_MAX";
/// Set where this program itself set [`HEAPS_MAX`]: neither is there for anybody else.
const HEAPS_ARE_OURS: &str = "AGENT_BACKUP_ONE_HEAP";
/// This process was [started again](Environment::start_again).
static ONE_HEAP: AtomicBool = AtomicBool::new(false);

/// The environment, the user and the machine.
// no Debug: it holds secrets
#[derive(Clone, Default)]
pub(crate) struct Environment {
    /// Variables, those that are empty left out: an empty one counts as not set.
    pub(crate) vars: BTreeMap<String, OsString>,
    /// Home of the user as the system has it, for when `HOME` says nothing.
    pub(crate) passwd_home: Option<PathBuf>,
    /// Name of the user.
    pub(crate) user: String,
    /// Name of the machine.
    pub(crate) host: String,
    /// The program this is.
    pub(crate) tool: Tool,
}

impl Environment {
    /// Looks around.
    pub(crate) fn take(tool: &Tool) -> Self {
        let mut vars: BTreeMap<String, OsString> = std::env::vars_os()
            .filter(|(_, value)| !value.is_empty())
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect();
        if vars.remove(HEAPS_ARE_OURS).is_some() {
            vars.remove(HEAPS_MAX);
            ONE_HEAP.store(true, Ordering::Relaxed);
        }
        let user = uzers::get_user_by_uid(uzers::get_current_uid());
        Self {
            vars,
            passwd_home: user.as_ref().map(|user| user.home_dir().to_owned()),
            user: user.map_or_else(
                || uzers::get_current_uid().to_string(),
                |user| user.name().to_string_lossy().into_owned(),
            ),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            tool: *tool,
        }
    }

    /// This process was [started again](Self::start_again).
    pub(crate) fn has_one_heap() -> bool {
        ONE_HEAP.load(Ordering::Relaxed)
    }

    /// Somebody chose how many heaps a process has.
    pub(crate) fn heaps_are_set(&self) -> bool {
        self.vars.contains_key(HEAPS_MAX)
    }

    /// Starts this program in its own place, with the same arguments and one heap; returns only if that
    /// is not possible.
    pub(crate) fn start_again(&self) -> io::Error {
        let program = match std::env::current_exe() {
            // called as the argument of the system's loader, which would take the arguments for its own
            Ok(program) if program.to_string_lossy().contains(".so") => {
                return io::ErrorKind::Unsupported.into();
            }
            Ok(program) => program,
            Err(error) => return error,
        };
        let mut args = std::env::args_os();
        let name = args.next().unwrap_or_else(|| self.tool.name.into());
        let mut command = Command::new(program);
        command.arg0(name).args(args).env(HEAPS_MAX, "1").env(HEAPS_ARE_OURS, "1").exec()
    }

    /// A variable that is text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>> {
        let Some(value) = self.vars.get(name) else { return Ok(None) };
        match value.to_str() {
            Some(text) => Ok(Some(text)),
            None => Err(Error::Value { name: name.to_owned(), what: "it is not UTF-8".to_owned() }),
        }
    }

    /// A variable that is a path.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.vars.get(name).map(PathBuf::from)
    }

    /// The home directory: `HOME` if it is absolute, else what the system knows.
    pub(crate) fn home(&self) -> Result<PathBuf> {
        let absolute = |path: &PathBuf| path.is_absolute();
        let home = self.path("HOME").filter(absolute);
        home.or_else(|| self.passwd_home.clone().filter(absolute)).ok_or(Error::NoHome)
    }

    /// Our directory of one kind: `$XDG_.../agent-backup` (a tool's own name), or below the home.
    pub(crate) fn xdg(&self, variable: &str, below_home: &str) -> Result<PathBuf> {
        let base = self.path(variable).filter(|path| path.is_absolute());
        let base = base.map_or_else(|| Ok(self.home()?.join(below_home)), Ok)?;
        Ok(base.join(self.tool.name))
    }

    /// What adapters need to know.
    pub(crate) fn for_adapters(&self) -> Result<adapters::Env> {
        let os = if cfg!(target_os = "macos") { adapters::Os::Macos } else { adapters::Os::Linux };
        let public = |(name, _): &(&String, &OsString)| !SECRET_VARIABLES.contains(&name.as_str());
        let vars = self.vars.iter().filter(public).map(|(n, v)| (n.clone(), v.clone())).collect();
        Ok(adapters::Env { home: self.home()?, vars, os })
    }

    /// Opens a `~/` at the beginning, where no shell did.
    pub(crate) fn open_tilde(&self, path: &str) -> Result<PathBuf> {
        match path.strip_prefix("~/") {
            Some(rest) => Ok(self.home()?.join(rest)),
            None if path == "~" => self.home(),
            None => Ok(PathBuf::from(path)),
        }
    }
}

/// Takes out of a command's environment what is for this process alone.
pub(super) fn hide_our_own(command: &mut Command) {
    for name in SECRET_VARIABLES {
        command.env_remove(name);
    }
    if Environment::has_one_heap() {
        command.env_remove(HEAPS_MAX).env_remove(HEAPS_ARE_OURS);
    }
}

/// A path without `.` and doubled slashes, absolute; the file system is not asked.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|source| Error::ConfigRead { path: path.to_owned(), source })
}
