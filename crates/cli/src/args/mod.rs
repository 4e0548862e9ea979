//! What was typed: clap types and nothing else. What it means is decided by `settings` and the
//! commands.

mod care;
mod examples;
mod grep;
mod import;
mod retention;
mod service;
mod sessions;
#[cfg(test)]
mod tests;
mod watch;

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand, ValueEnum, ValueHint};

use crate::ui::size;

pub(crate) use care::{Doctor, Level, Part, Repair, Scan, ScanSecrets, Verify};
pub(crate) use grep::Grep;
pub(crate) use import::{Import, Program};
pub(crate) use retention::{Forget, Gc, Pin, Undelete};
pub(crate) use service::{InstallService, Service, ServiceCommand, Whose};
pub(crate) use sessions::{Sessions, SessionsCommand, ShowSession};
pub(crate) use watch::{Daemon, Status};

/// Backs up the local state of AI coding agents: encrypted, incremental, deduplicated, verified.
#[derive(Debug, Parser)]
#[command(name = "agent-backup", version, after_help = examples::TOP)]
#[command(max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Repository: a directory, b2:bucket/prefix, s3://bucket/prefix, s3:https://host/bucket/prefix
    #[arg(short, long, global = true, value_name = "ADDRESS")]
    pub(crate) repo: Option<String>,
    /// Read the passphrase (or recovery code) from the first line of this file
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with = "password_command")]
    pub(crate) password_file: Option<PathBuf>,
    /// Read the passphrase (or recovery code) from what this shell command prints
    #[arg(long, global = true, value_name = "COMMAND")]
    pub(crate) password_command: Option<String>,
    /// Configuration file
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Keep the cache in this directory
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Use no cache of earlier runs and leave none
    #[arg(long, global = true, conflicts_with = "cache_dir")]
    pub(crate) no_cache: bool,
    /// Try again for so long while a bucket cannot be reached; default: 300, or 30 to look things up
    #[arg(long, global = true, value_name = "SECONDS")]
    pub(crate) retry: Option<u32>,
    /// Print one JSON document and nothing else
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print results and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more; twice for what happens inside, three times for all of it
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a repository and print its recovery code
    #[command(after_help = examples::INIT)]
    Init(Init),
    /// Back up agents and directories
    #[command(visible_alias = "backup", after_help = examples::PUSH)]
    Push(Push),
    /// Restore a snapshot
    #[command(visible_alias = "restore", after_help = examples::PULL)]
    Pull(Pull),
    /// List snapshots
    #[command(after_help = examples::SNAPSHOTS)]
    Snapshots(Snapshots),
    /// List the conversations of agents, over all snapshots, and show them
    #[command(after_help = examples::SESSIONS)]
    Sessions(Sessions),
    /// List the entries of a snapshot
    #[command(after_help = examples::LS)]
    Ls(Ls),
    /// Write a file of a snapshot to standard output
    #[command(after_help = examples::CAT)]
    Cat(Cat),
    /// Find entries by name in one snapshot or in all
    #[command(after_help = examples::FIND)]
    Find(Find),
    /// Search the text of files in all snapshots
    #[command(after_help = examples::GREP)]
    Grep(Grep),
    /// Show what differs between two snapshots
    #[command(after_help = examples::DIFF)]
    Diff(Diff),
    /// Show sizes, deduplication and compression, and what each snapshot added
    #[command(after_help = examples::STATS)]
    Stats,
    /// Show when each agent was backed up last, what comes next, and what is wrong
    #[command(after_help = examples::STATUS)]
    Status(Status),
    /// Push on a schedule and take care of what was pushed, until a signal comes
    #[command(after_help = examples::DAEMON)]
    Daemon(Daemon),
    /// Check that what snapshots need is there and right
    #[command(visible_alias = "check", after_help = examples::VERIFY)]
    Verify(Verify),
    /// Make again what is damaged or missing
    #[command(after_help = examples::REPAIR)]
    Repair(Repair),
    /// Forget snapshots: by a policy, or those that are named
    #[command(after_help = examples::FORGET)]
    Forget(Forget),
    /// Bring forgotten snapshots back
    #[command(after_help = examples::UNDELETE)]
    Undelete(Undelete),
    /// Keep snapshots whatever the policy says
    #[command(after_help = examples::PIN)]
    Pin(Pin),
    /// Collect garbage: free what no snapshot needs
    #[command(visible_alias = "prune", after_help = examples::GC)]
    Gc(Gc),
    /// Copy snapshots to another repository
    #[command(after_help = examples::COPY)]
    Copy(Copy),
    /// Import the snapshots of another program
    #[command(after_help = examples::IMPORT)]
    Import(Import),
    /// Make the system run the daemon
    #[command(after_help = examples::SERVICE)]
    Service(Service),
    /// Find what is wrong, and say what mends it
    #[command(after_help = examples::DOCTOR)]
    Doctor(Doctor),
    /// Show where secrets seem to be in what a push would send
    #[command(after_help = examples::SCAN)]
    Scan(Scan),
    /// List the agents on this machine, what of them is backed up and what is left out
    #[command(after_help = examples::AGENTS)]
    Agents(Agents),
    /// List, add and remove the keys that open the repository
    #[command(after_help = examples::KEY)]
    Key(Key),
    /// Print a completion script for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions(Completions),
    /// Print the manual page
    #[command(after_help = examples::MAN)]
    Man(Man),
}

/// `init`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Init {
    /// Name of this machine's key
    #[arg(long, value_name = "NAME")]
    pub(crate) label: Option<String>,
    /// Make no passphrase: machine key and recovery code only
    #[arg(long)]
    pub(crate) no_passphrase: bool,
    /// Take the keys of another repository, so that each of the two can mend the other
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) like: Option<String>,
}

/// `push`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Push {
    /// Agents to back up, as `agent-backup agents` names them; default: all that are here
    #[arg(value_name = "AGENT")]
    pub(crate) agents: Vec<String>,
    /// Back up a directory or file too; its label is LABEL or its own name
    #[arg(long = "path", value_name = "[LABEL=]DIR", value_hint = ValueHint::AnyPath)]
    pub(crate) paths: Vec<String>,
    /// Leave out what matches; without `/` at any depth, with `/` from the root on
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,
    /// Leave out files of more bytes (500M, 2GiB)
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) exclude_larger_than: Option<u64>,
    /// Tag the snapshot
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Make a snapshot even if nothing changed
    #[arg(long)]
    pub(crate) always: bool,
    /// Only scan: show what would be backed up
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Upload no faster than this, in bytes a second (2MiB)
    #[arg(long, value_name = "RATE", value_parser = size::parse_rate)]
    pub(crate) limit_upload: Option<u64>,
    /// Read every file, also those that look unchanged
    #[arg(long)]
    pub(crate) force_read: bool,
    /// Check the SQLite databases that are read, for at most 30 s each
    #[arg(long)]
    pub(crate) check_databases: bool,
    /// What to look through for secrets, to warn of them
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) scan_secrets: Option<ScanSecrets>,
    /// Store marks in the place of secrets, and no file in which that cannot be done
    #[arg(long)]
    pub(crate) redact_secrets: bool,
    /// Do not enter directories on other file systems
    #[arg(long)]
    pub(crate) one_file_system: bool,
    /// Go on although this machine's last snapshot is gone from the repository
    #[arg(long)]
    pub(crate) accept_rollback: bool,
    /// Name of this machine in the snapshot
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
}

/// What happens to what is at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Overwrite {
    /// Replace it, of whatever kind it is
    Always,
    /// Replace files whose content differs
    #[default]
    IfChanged,
    /// Replace files whose content differs and that are older
    IfNewer,
    /// Leave it
    Never,
}

/// `pull`
#[derive(Debug, clap::Args)]
pub(crate) struct Pull {
    /// `latest`, `latest~2`, a snapshot id or the beginning of one; `:PATH` takes a part of it
    #[arg(value_name = "SNAPSHOT[:PATH]", default_value = "latest")]
    pub(crate) snapshot: String,
    /// Restore below this directory; default: to where each agent keeps its files on this machine
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) to: Option<PathBuf>,
    /// Only what matches; a directory that matches comes with all below it
    #[arg(long = "path", value_name = "GLOB")]
    pub(crate) paths: Vec<String>,
    /// Restore this session with its forks and sub-agents, from the newest snapshot that holds it
    #[arg(long, value_name = "ID", conflicts_with_all = ["snapshot", "paths", "delete", "maps"])]
    pub(crate) session: Option<String>,
    /// Only this agent; `latest` is the newest snapshot that holds it
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// `latest` is the newest snapshot of this machine; with --session, the machine it is of
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Remove what the snapshot does not have
    #[arg(long, requires = "to")]
    pub(crate) delete: bool,
    /// What happens to files that are there
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub(crate) overwrite: Overwrite,
    /// Read every restored file again and compare; check restored databases in full
    #[arg(long)]
    pub(crate) verify: bool,
    /// Replace databases also while another program has them open
    #[arg(long)]
    pub(crate) even_if_open: bool,
    /// Restore also while the agent runs whose files they are
    #[arg(long)]
    pub(crate) while_running: bool,
    /// Replace what is there without saving it in a snapshot before
    #[arg(long)]
    pub(crate) no_safety_snapshot: bool,
    /// What was in OLD is in NEW here: names of project directories and paths in catalogues follow;
    /// `auto` takes what is proposed when the snapshot is of another home
    #[arg(long = "map", value_name = "OLD=NEW")]
    pub(crate) maps: Vec<String>,
    /// With --map: rewrite the paths that conversations note, too
    #[arg(long, requires = "maps")]
    pub(crate) rewrite_transcripts: bool,
    /// Only show what would be done
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Do not ask before files are replaced
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Restore what is gone from its source and kept, to the places that it had; what is there stays
    #[arg(long, conflicts_with_all = ["delete", "session"])]
    pub(crate) gone: bool,
}

/// `snapshots`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Snapshots {
    /// Only snapshots that hold this agent
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// Only snapshots of this machine
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Only snapshots with this tag; several: with all of them
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Forgotten snapshots that `undelete` can still bring back
    #[arg(long)]
    pub(crate) forgotten: bool,
}

/// `ls`
#[derive(Debug, clap::Args)]
pub(crate) struct Ls {
    /// The snapshot, and where in it to begin
    #[arg(value_name = "SNAPSHOT[:PATH]", default_value = "latest")]
    pub(crate) snapshot: String,
    /// With mode, owner, size and time
    #[arg(short, long)]
    pub(crate) long: bool,
    /// With everything below
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// What is gone from its source and kept: since when, and the path that it had
    #[arg(long)]
    pub(crate) gone: bool,
    /// `latest` is the newest snapshot of this machine
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
}

/// `cat`
#[derive(Debug, clap::Args)]
pub(crate) struct Cat {
    /// The snapshot and the file in it, label first
    #[arg(value_name = "SNAPSHOT:PATH")]
    pub(crate) file: String,
}

/// `find`
#[derive(Debug, clap::Args)]
pub(crate) struct Find {
    /// Globs; without `/` they are tried on names, with `/` on whole paths
    #[arg(value_name = "GLOB", required = true)]
    pub(crate) globs: Vec<String>,
    /// Only in this snapshot; default: in all
    #[arg(short, long, value_name = "SNAPSHOT")]
    pub(crate) snapshot: Option<String>,
    /// Upper and lower case are the same
    #[arg(short, long)]
    pub(crate) ignore_case: bool,
    /// With mode, owner, size and time
    #[arg(short, long)]
    pub(crate) long: bool,
}

/// `diff`
#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// The older snapshot
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) old: String,
    /// The newer snapshot
    #[arg(value_name = "SNAPSHOT", default_value = "latest")]
    pub(crate) new: String,
    /// Also entries of which only mode, times, owner or attributes changed
    #[arg(long)]
    pub(crate) metadata: bool,
}

/// `copy`
#[derive(Debug, clap::Args)]
pub(crate) struct Copy {
    /// Copy these; default: all
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshots: Vec<String>,
    /// The other repository
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) to: String,
    /// Upload no faster than this, in bytes a second (2MiB)
    #[arg(long, value_name = "RATE", value_parser = size::parse_rate)]
    pub(crate) limit_upload: Option<u64>,
}

/// `agents`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Agents {
    /// Show an adapter file, or check one
    #[command(subcommand)]
    pub(crate) command: Option<AgentsCommand>,
    /// Only these, also if they are not here
    #[arg(value_name = "AGENT")]
    pub(crate) only: Vec<String>,
    /// Also list agents that are known and not here
    #[arg(long)]
    pub(crate) all: bool,
}

/// What `agents` does besides listing.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentsCommand {
    /// Print the adapter file of an agent: the start of one of your own
    Show {
        /// The agent
        #[arg(value_name = "AGENT")]
        id: String,
    },
    /// Check an adapter file of your own, and say what it would take here
    Check {
        /// The file
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}

/// `key`
#[derive(Debug, clap::Args)]
pub(crate) struct Key {
    /// What to do with keys.
    #[command(subcommand)]
    pub(crate) command: KeyCommand,
}

/// What `key` does.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// List the keys
    List,
    /// Add a passphrase or a recovery code
    Add(NewKey),
    /// Replace the passphrases by a new one
    Passwd(NewKey),
    /// Remove a key
    Remove {
        /// The key's id or the beginning of it, as `key list` shows it
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Seal what is stored from now on with new keys; a removed or lost key cannot read it
    #[command(after_help = examples::ROTATE)]
    Rotate {
        #[command(flatten)]
        new: NewKey,
        /// Remove the keys whose secret is not given: they would not open what comes
        #[arg(long)]
        drop_others: bool,
    },
    /// Give this machine a key of its own, so that it needs no passphrase
    Enroll {
        /// Name of the key; default: the machine's
        #[arg(long, value_name = "NAME")]
        label: Option<String>,
    },
}

/// A new key.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct NewKey {
    /// Name of the key
    #[arg(long, value_name = "NAME")]
    pub(crate) label: Option<String>,
    /// Read the new passphrase from the first line of this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with = "new_password_command")]
    pub(crate) new_password_file: Option<PathBuf>,
    /// Read the new passphrase from what this shell command prints
    #[arg(long, value_name = "COMMAND")]
    pub(crate) new_password_command: Option<String>,
    /// Make a recovery code and print it
    #[arg(long)]
    pub(crate) recovery: bool,
}

/// `completions`
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// `man`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Man {
    /// A command; default: the program's own page
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Option<String>,
}
