//! How a run ends: the one table from what went wrong to exit code, words and hint.
//!
//! In: the error a command ended with. Out: a [`Failure`], printed in three lines at most: what
//! failed, where, what to do. docs/cli.md lists the codes; they never change their meaning.

use std::io;

use clap::error::ErrorKind;
use serde::Serialize;

use crate::settings;
use crate::signals;
use crate::ui::{self, Closed, Screen, sanitize};

/// Exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Skipped = 3,
    Damage = 4,
    Incomplete = 5,
    NoRepository = 10,
    Busy = 11,
    WrongKey = 12,
    StorageDenied = 13,
    StorageCap = 14,
    StorageUnreachable = 15,
    TooNew = 16,
    Refused = 17,
    LocalDisk = 18,
    Configuration = 19,
    Bug = 70,
    Interrupted = 130,
    Terminated = 143,
}

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// The one with this number.
    pub(crate) fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| exit.code() == code)
    }

    const ALL: [Self; 19] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Skipped,
        Self::Damage,
        Self::Incomplete,
        Self::NoRepository,
        Self::Busy,
        Self::WrongKey,
        Self::StorageDenied,
        Self::StorageCap,
        Self::StorageUnreachable,
        Self::TooNew,
        Self::Refused,
        Self::LocalDisk,
        Self::Configuration,
        Self::Bug,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The name, for scripts and `--json`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Skipped => "items-skipped",
            Self::Damage => "damage-found",
            Self::Incomplete => "restore-incomplete",
            Self::NoRepository => "no-repository",
            Self::Busy => "busy",
            Self::WrongKey => "wrong-key",
            Self::StorageDenied => "storage-denied",
            Self::StorageCap => "storage-cap",
            Self::StorageUnreachable => "storage-unreachable",
            Self::TooNew => "format-too-new",
            Self::Refused => "stopped-for-safety",
            Self::LocalDisk => "local-disk",
            Self::Configuration => "configuration",
            Self::Bug => "bug",
            Self::Interrupted => "interrupted",
            Self::Terminated => "terminated",
        }
    }
}

/// Asked for something that makes no sense, found after the arguments were parsed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// A failure of a command's own, with its code and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Stop {
    pub(crate) exit: Exit,
    pub(crate) what: String,
    pub(crate) hint: Option<String>,
}

impl Stop {
    pub(crate) fn new(exit: Exit, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit, what: what.into(), hint: Some(hint.into()) }
    }
}

/// An error as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// Code and hint of a kind of error.
type Verdict = (Exit, Option<String>);

/// Tells an error; none for one that is no failure.
pub(crate) fn explain(error: &anyhow::Error) -> Option<Failure> {
    if error.downcast_ref::<Closed>().is_some() {
        return None;
    }
    let (exit, hint) = verdict(error);
    Some(Failure { exit, message: sanitize::text(&message(error)), hint })
}

/// The chain of causes in one line; a cause that the text before it quotes is not said again.
fn message(error: &anyhow::Error) -> String {
    let mut out = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if out.is_empty() {
            out = text;
        } else if !out.contains(&text) {
            out = format!("{out}: {text}");
        }
    }
    out
}

fn verdict(error: &anyhow::Error) -> Verdict {
    if let Some(full) = error.chain().find_map(full_disk) {
        return full;
    }
    if let Some(e) = error.downcast_ref::<Stop>() {
        (e.exit, e.hint.clone())
    } else if error.downcast_ref::<Usage>().is_some() {
        with(Exit::Usage, "agent-backup help")
    } else if let Some(e) = error.downcast_ref::<settings::Error>() {
        of_settings(e)
    } else if let Some(e) = error.downcast_ref::<engine::Error>() {
        of_engine(e)
    } else if let Some(e) = error.downcast_ref::<engine::pull::Error>() {
        of_pull(e)
    } else if let Some(e) = error.downcast_ref::<repo::Error>() {
        of_repo(e)
    } else if let Some(e) = error.downcast_ref::<store::Error>() {
        of_store(e)
    } else if let Some(e) = error.downcast_ref::<engine::scan::Error>() {
        of_scan(e)
    } else if let Some(e) = error.downcast_ref::<adapters::AdapterError>() {
        of_adapters(e)
    } else if error.downcast_ref::<io::Error>().is_some() {
        (Exit::LocalDisk, None)
    } else {
        (Exit::Failed, None)
    }
}

/// A full disk is a full disk, whoever met it.
fn full_disk(cause: &(dyn std::error::Error + 'static)) -> Option<Verdict> {
    let kind = cause.downcast_ref::<io::Error>()?.kind();
    let full = matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    full.then(|| with(Exit::LocalDisk, "free some space on that disk and run it again"))
}

fn with(exit: Exit, hint: &str) -> Verdict {
    (exit, Some(hint.to_owned()))
}

fn of_settings(error: &settings::Error) -> Verdict {
    use settings::Error as E;
    match error {
        E::Config { .. } => with(Exit::Configuration, "correct that line"),
        E::ConfigRead { .. } => with(Exit::Configuration, "check the path and its permissions"),
        E::Exposed { path } => {
            (Exit::Configuration, Some(format!("run: chmod 600 {}", sanitize::path(path))))
        }
        E::Value { .. } => (Exit::Configuration, None),
        E::Unencrypted => with(
            Exit::Configuration,
            "unset B2_ENCRYPT; a machine key makes encryption cost nothing in daily use",
        ),
        E::Secret { .. } => with(Exit::Configuration, "check where that is set, and what it gives"),
        E::Credentials { .. } => with(
            Exit::Configuration,
            "set B2_KEY_ID and B2_APPLICATION_KEY, or [storage] in config.toml",
        ),
        E::NoSecret => with(
            Exit::WrongKey,
            "give the passphrase or recovery code with --password-file, --password-command \
                  or AGENT_BACKUP_PASSWORD",
        ),
        E::NoHome => with(Exit::Configuration, "set HOME to a directory"),
    }
}

fn of_engine(error: &engine::Error) -> Verdict {
    use engine::Error as E;
    match error {
        E::Repo(e) => of_repo(e),
        E::Import(e) => of_import(e),
        E::Scan(e) => of_scan(e),
        E::Local { .. } => with(Exit::LocalDisk, "check that directory, its owner and its disk"),
        E::Busy { .. } => with(Exit::Busy, "wait until it is done, or stop it"),
        E::DaemonRuns { .. } => with(Exit::Busy, "agent-backup status tells how it stands"),
        E::NothingToBackUp => with(Exit::Failed, "name a directory: agent-backup push --path DIR"),
        E::Pinned(id) => {
            let id = &id.hex()[..12];
            (Exit::Refused, Some(format!("agent-backup pin --remove {id} lets go of it")))
        }
        E::KeepsNothing { .. } => with(
            Exit::Refused,
            "forget -n shows what the policy does; --unsafe-allow-remove-all goes on",
        ),
        E::MayBeNewest { other, .. } => {
            let other = other.map(|id| format!("; without it that is {}", &id.hex()[..12]));
            let hint = format!(
                "agent-backup snapshots shows those that open{}; agent-backup repair --from-source puts it back where it can",
                other.unwrap_or_default()
            );
            (Exit::Damage, Some(hint))
        }
        E::Cancelled => (signals::exit(), None),
        E::Rules(_) => with(Exit::Configuration, "give a file of rules as gitleaks 8 reads it"),
        E::Pattern(_) => with(
            Exit::Usage,
            "quote what is meant as text with `\\`; grep -F takes all of a pattern as text",
        ),
        E::NotFound(_) => with(Exit::Failed, "agent-backup snapshots, agent-backup ls"),
        // the type may grow; a new variant is at least a failure
        _ => (Exit::Failed, None),
    }
}

fn of_import(error: &engine::import::SourceError) -> Verdict {
    use engine::import::SourceError as E;
    match error {
        E::Store(e) => of_store(e),
        E::Nothing { .. } => with(
            Exit::NoRepository,
            "give the bucket and the prefix of the old configuration: b2:BUCKET/goose-backup",
        ),
        E::NoPassphrase { .. } | E::WrongPassphrase { .. } => with(
            Exit::WrongKey,
            "give the old encryptionKey with --source-password-file, or the old applicationKey if there was none",
        ),
        E::Unsafe { .. } => (Exit::Refused, None),
        E::Damaged { .. } => (Exit::Damage, None),
        // the type may grow; a new variant is at least a failure
        _ => (Exit::Failed, None),
    }
}

fn of_pull(error: &engine::pull::Error) -> Verdict {
    use engine::pull::Error as E;
    match error {
        E::Repo(e) => of_repo(e),
        E::Target { .. } => with(Exit::LocalDisk, "check that directory, its owner and its disk"),
        E::Full { .. } => with(Exit::LocalDisk, "free some space on that disk and run it again"),
        E::Refused(_) => (Exit::Refused, None),
        E::Pattern(_) => (Exit::Usage, None),
        E::Cancelled => (signals::exit(), None),
        _ => (Exit::Failed, None),
    }
}

fn of_scan(error: &engine::scan::Error) -> Verdict {
    match error {
        engine::scan::Error::Cancelled => (signals::exit(), None),
        _ => with(Exit::Usage, "give every directory a label of its own: --path LABEL=DIR"),
    }
}

fn of_repo(error: &repo::Error) -> Verdict {
    use repo::Error as E;
    match error {
        E::Store(e) => of_store(e),
        E::NoRepository { .. } => with(
            Exit::NoRepository,
            "check the address; agent-backup init makes a new repository there",
        ),
        E::AlreadyExists { .. } => {
            with(Exit::Failed, "use it as it is, or choose another address or prefix")
        }
        E::WrongKey { detail } if detail.contains("epoch") => with(
            Exit::WrongKey,
            "agent-backup key enroll --password-file FILE, with the passphrase or recovery code that the rotation made",
        ),
        E::WrongKey { .. } => {
            with(Exit::WrongKey, "check the passphrase; the recovery code opens it too")
        }
        E::Missing { object } if object == "config" => with(
            Exit::Damage,
            "there are snapshots: put config back from a copy of the repository, or an old version of it where the store keeps them",
        ),
        E::Corrupt { object, .. } if object.starts_with("snap/") => with(
            Exit::Damage,
            "agent-backup repair --from-source puts it back where it can, repair --accept-loss lets go of it; \
             agent-backup snapshots shows the others",
        ),
        E::Corrupt { .. } | E::Missing { .. } => with(
            Exit::Damage,
            "agent-backup verify says which files that touches, agent-backup repair --help what can be done",
        ),
        E::TooNew { .. } => with(Exit::TooNew, "install the newest agent-backup"),
        E::Refused { reason } if reason.contains("the last collection saw") => with(
            Exit::Refused,
            "look at the storage first; gc --accept-vanished goes on without them",
        ),
        E::Refused { reason } if reason.contains("more than half") => with(
            Exit::Refused,
            "agent-backup snapshots shows what is kept; gc --more-than-half goes on",
        ),
        E::Refused { reason } if reason.contains("this program knows") => with(
            Exit::Refused,
            "a newer agent-backup may have put it there: install the newest; remove what is not its",
        ),
        E::Refused { reason } if reason.contains("rolled back") => with(
            Exit::Refused,
            "look at the storage first; push --accept-rollback goes on without it",
        ),
        E::Refused { .. } => (Exit::Refused, None),
        E::NoSuchSnapshot(_) => with(Exit::Failed, "agent-backup snapshots lists what there is"),
        E::Io { .. } => with(Exit::LocalDisk, "check that file, its owner and its disk"),
        E::Cancelled => (signals::exit(), None),
        _ => (Exit::Failed, None),
    }
}

fn of_store(error: &store::Error) -> Verdict {
    use store::Error as E;
    match error {
        E::NotFound { .. } | E::Short { .. } => {
            with(Exit::Damage, "an object vanished or was cut short at the storage")
        }
        E::Denied { .. } => with(
            Exit::StorageDenied,
            "check the key id and its secret, and that the key may list, read and write here",
        ),
        E::CapReached { .. } => with(
            Exit::StorageCap,
            "raise the cap of the account, or wait for the next day (00:00 GMT)",
        ),
        E::NoSuchStore { .. } => with(
            Exit::NoRepository,
            "check the address, and that its disk is mounted; agent-backup init makes a repository there",
        ),
        E::Unavailable { .. } => with(
            Exit::StorageUnreachable,
            "check the network and the address, then run it again: nothing is lost",
        ),
        E::Io { .. } => with(Exit::LocalDisk, "check that directory, its owner and its disk"),
        E::BadAddress(_) => (Exit::Configuration, None),
        E::BadName { .. } => (Exit::Bug, None),
        E::Cancelled => (signals::exit(), None),
        _ => (Exit::Failed, None),
    }
}

fn of_adapters(error: &adapters::AdapterError) -> Verdict {
    use adapters::AdapterError as E;
    match error {
        E::Invalid { .. } => with(Exit::Configuration, "correct that line"),
        E::Pattern { .. } => (Exit::Usage, None),
        E::Io { .. } => with(Exit::Configuration, "check the path and its permissions"),
    }
}

#[derive(Serialize)]
struct Document<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    code: u8,
    name: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

/// Tells a failure on the screen.
pub(crate) fn report(failure: &Failure, screen: &Screen) {
    let Failure { exit, message, hint } = failure;
    let (code, name) = (exit.code(), exit.name());
    let hint = hint.as_deref().map(ui::own_words);
    if screen.json() {
        let hint = hint.as_deref();
        let repository = screen.place();
        // nobody is left to tell if this fails
        let error = Body { code, name, message, repository, hint };
        let _ = screen.document(&Document { error });
        return;
    }
    ui::stderr_line(format_args!("{}: {message}", ui::program()));
    let place = screen.place().map(|place| format!("at {place}   ")).unwrap_or_default();
    ui::stderr_line(format_args!("  {place}code: {code} {name}"));
    if let Some(hint) = hint {
        ui::stderr_line(format_args!("  try: {hint}"));
    }
}

/// What clap ended with: help and version are results, the rest is wrong usage.
pub(crate) fn usage(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        let _ = error.print(); // a closed pipe is no failure
        return Exit::Done;
    }
    let screen = unparsed();
    if !screen.json() && error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
    } else {
        report(&usage_failure(&error.render().to_string()), &screen);
        let _ = screen.flush();
    }
    Exit::Usage
}

/// A panic was told in one line on standard error already; a document is owed still.
pub(crate) fn bug() -> Exit {
    let screen = unparsed();
    if screen.json() {
        let message = "a bug in agent-backup; standard error says where".to_owned();
        report(&Failure { exit: Exit::Bug, message, hint: None }, &screen);
        let _ = screen.flush();
    }
    Exit::Bug
}

/// A screen for when there are no parsed arguments.
fn unparsed() -> Screen {
    let json = std::env::args_os().any(|arg| arg == "--json");
    Screen::new(&crate::args::Global { json, ..Default::default() })
}

/// clap's words in the form of ours: the error, then its tip, then where the help is.
fn usage_failure(rendered: &str) -> Failure {
    let lines: Vec<&str> = rendered.lines().map(str::trim).collect();
    let end = lines.iter().position(|line| line.is_empty()).unwrap_or(lines.len());
    let first = lines[..end].join(" ");
    let message = sanitize::text(first.strip_prefix("error: ").unwrap_or(&first));
    let tip = lines.iter().find_map(|line| line.strip_prefix("tip: "));
    let usage = lines.iter().find_map(|line| line.strip_prefix("Usage: "));
    let hint = tip.or(usage).unwrap_or("agent-backup help");
    Failure { exit: Exit::Usage, message, hint: Some(sanitize::text(hint)) }
}

#[cfg(test)]
mod tests;
