//! Files that make a service manager run the daemon: systemd, launchd, Windows Task Scheduler.
//!
//! In: a [`Plan`]. Out: a [`Service`]: the text of a file, where it belongs, the commands around it. Pure:
//! nothing here looks at the machine, so every kind of file is made and tested on every machine. All paths in
//! these files are absolute, and nothing of the installing shell is taken for granted.

mod launchd;
mod systemd;
mod task;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub(crate) use systemd::linger;

/// Who starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Manager {
    /// Linux
    Systemd,
    /// macOS
    Launchd,
    /// Windows
    TaskScheduler,
}

impl Manager {
    /// The one of this system.
    pub(crate) fn here() -> Self {
        if cfg!(target_os = "macos") { Self::Launchd } else { Self::Systemd }
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Launchd => "launchd",
            Self::TaskScheduler => "task-scheduler",
        }
    }
}

/// Whose service it is: decides its name and place.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    /// The program's name: `agent-backup`, or that of a tool.
    pub(crate) tool: &'static str,
    /// Name of the user whose agents these are.
    pub(crate) user: String,
    /// Number of that user.
    pub(crate) uid: u32,
    /// Home of that user.
    pub(crate) home: PathBuf,
    /// Of the whole machine: started at boot, by root's manager.
    pub(crate) system: bool,
}

/// A secret that systemd reads and hands over.
#[derive(Debug, Clone)]
pub(crate) struct Credential {
    /// Its name in `$CREDENTIALS_DIRECTORY`.
    pub(crate) name: &'static str,
    /// The file that holds it.
    pub(crate) path: PathBuf,
    /// `systemd-creds encrypt` made the file.
    pub(crate) encrypted: bool,
}

/// What is to run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// For whom.
    pub(crate) owner: Owner,
    /// The program.
    pub(crate) program: PathBuf,
    /// Its arguments before `daemon`.
    pub(crate) flags: Vec<String>,
    /// Variables that are needed, such as those that move an agent's directory; none holds a secret.
    pub(crate) variables: Vec<(String, String)>,
    /// What is read outside the home.
    pub(crate) reads: Vec<PathBuf>,
    /// Directories outside the home that are written to: state, cache, a repository on a disk, agents.
    pub(crate) writes: Vec<PathBuf>,
    /// Secrets that systemd hands over.
    pub(crate) credentials: Vec<Credential>,
    /// How long a stop may take.
    pub(crate) stop_secs: u64,
}

/// A command of the manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// Program and arguments.
    pub(crate) words: Vec<String>,
    /// What it ends may not be there.
    pub(crate) may_fail: bool,
}

impl Step {
    fn new(line: &str, last: &[&str]) -> Self {
        let words = line.split(' ').chain(last.iter().copied()).map(str::to_owned).collect();
        Self { words, may_fail: false }
    }

    fn or_not(self) -> Self {
        Self { may_fail: true, ..self }
    }
}

/// What a manager needs to know of a service whose file is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    /// Whose manager.
    pub(crate) manager: Manager,
    /// Where its file belongs.
    pub(crate) path: PathBuf,
    /// Makes the file count and starts it, anew if it runs.
    pub(crate) start: Vec<Step>,
    /// Ends it, before the file is removed.
    pub(crate) stop: Vec<Step>,
    /// After the file was removed.
    pub(crate) forget: Vec<Step>,
    /// Tells how it stands, for [`Service::state`].
    pub(crate) look: Step,
    /// Makes it start by itself again.
    pub(crate) enable: Vec<Step>,
    /// Starts it again.
    pub(crate) restart: Vec<Step>,
    /// Where its lines are, as a command.
    pub(crate) log: Option<String>,
}

/// How a service stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// It starts by itself.
    pub(crate) enabled: bool,
    /// It runs; none if the manager does not say.
    pub(crate) running: Option<bool>,
    /// It ended badly: how.
    pub(crate) failed: Option<String>,
}

impl Service {
    /// The service of an owner.
    pub(crate) fn of(manager: Manager, owner: &Owner) -> Self {
        match manager {
            Manager::Systemd => systemd::service(owner),
            Manager::Launchd => launchd::service(owner),
            Manager::TaskScheduler => task::service(owner),
        }
    }

    /// What `look` printed, understood.
    pub(crate) fn state(&self, success: bool, printed: &str) -> State {
        match self.manager {
            Manager::Systemd => systemd::state(printed),
            Manager::Launchd => launchd::state(success, printed),
            Manager::TaskScheduler => State { enabled: success, ..State::default() },
        }
    }

    /// The program that a file of ours starts.
    pub(crate) fn program(&self, text: &str) -> Option<PathBuf> {
        match self.manager {
            Manager::Systemd => systemd::program(text),
            Manager::Launchd => between(text, "<array>\n    <string>", "</string>").map(unxml),
            Manager::TaskScheduler => between(text, "<Command>", "</Command>").map(unxml),
        }
        .map(PathBuf::from)
    }
}

/// The file of a manager; an error says what cannot stand in it.
pub(crate) fn file(manager: Manager, plan: &Plan) -> Result<String, String> {
    let paths = [&plan.program, &plan.owner.home].into_iter().chain(&plan.reads);
    let paths = paths.chain(&plan.writes).chain(plan.credentials.iter().map(|one| &one.path));
    let mut texts: Vec<&str> = plan.flags.iter().map(String::as_str).collect();
    texts.extend(plan.variables.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]));
    texts.push(&plan.owner.user);
    for path in paths {
        if !path.is_absolute() && manager != Manager::TaskScheduler {
            return Err(format!("{} is not an absolute path", path.display()));
        }
        texts.push(path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()))?);
    }
    if let Some(bad) = texts.into_iter().find(|text| text.chars().any(char::is_control)) {
        return Err(format!("{bad:?} cannot stand in the file of a service"));
    }
    match manager {
        Manager::Systemd => systemd::unit(plan),
        Manager::Launchd => Ok(launchd::plist(plan)),
        Manager::TaskScheduler => Ok(task::task(plan)),
    }
}

/// A path that was looked at by [`file`].
fn text(path: &Path) -> &str {
    path.to_str().expect("paths were looked at")
}

/// Text inside of an XML element. What is not ASCII is written as a number, so that no reader has to know
/// the encoding of the file.
fn xml(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            c if c.is_ascii() => c.to_string(),
            c => format!("&#{};", u32::from(c)),
        })
        .collect()
}

fn unxml(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        let end = rest[at..].find(';').map_or(rest.len(), |end| at + end);
        out.push_str(&rest[..at]);
        let number = |digits: &str| digits.parse().ok().and_then(char::from_u32);
        out.extend(match &rest[at + 1..end] {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            name => name.strip_prefix('#').and_then(number),
        });
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    out + rest
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}
