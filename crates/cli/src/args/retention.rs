//! Arguments of the commands that let snapshots go, keep them or bring them back.

use std::time::Duration;

use clap::Args;
use engine::forget::policy::{Count, UNLIMITED};
use engine::forget::{GroupBy, Within};

use crate::ui::{size, time};

/// `forget`
#[derive(Debug, Default, Args)]
pub(crate) struct Forget {
    /// Forget these; without any, the policy decides
    #[arg(value_name = "SNAPSHOT")]
    #[arg(conflicts_with_all = ["Keep", "group_by", "host", "agent", "tags", "unsafe_allow_remove_all"])]
    pub(crate) snapshots: Vec<String>,
    #[command(flatten)]
    pub(crate) keep: Keep,
    /// Apply the policy to snapshots that have this in common: machine, roots, tags or none
    #[arg(long, value_name = "WHAT,..", value_parser = group_by, default_value = "machine,roots")]
    pub(crate) group_by: GroupBy,
    /// Only snapshots of this machine
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Only snapshots that hold this agent
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// Only snapshots with this tag; several: with all of them
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Forget what snapshots keep of files that are gone; say which with --path, --agent, --older-than
    #[arg(long, conflicts_with_all = ["snapshots", "Keep", "tags", "unsafe_allow_remove_all"])]
    pub(crate) gone: bool,
    /// With --gone: what matches; a directory that matches comes with all below it
    #[arg(long = "path", value_name = "GLOB", requires = "gone")]
    pub(crate) paths: Vec<String>,
    /// With --gone: what is gone for longer than this (90d)
    #[arg(long, value_name = "TIME", value_parser = time::parse_span, requires = "gone")]
    pub(crate) older_than: Option<Duration>,
    /// Go on where nothing of a group would be left
    #[arg(long)]
    pub(crate) unsafe_allow_remove_all: bool,
    /// Collect garbage afterwards, as `gc` does
    #[arg(long)]
    pub(crate) prune: bool,
    /// Only show what would stay and what would go
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// What to keep.
#[derive(Debug, Default, Args)]
#[group(id = "Keep", multiple = true)]
pub(crate) struct Keep {
    /// Keep the newest N (or: unlimited)
    #[arg(long = "keep-last", value_name = "N", value_parser = count)]
    pub(crate) last: Option<Count>,
    /// Keep the newest of each of the last N hours that have one
    #[arg(long = "keep-hourly", value_name = "N", value_parser = count)]
    pub(crate) hourly: Option<Count>,
    /// Keep the newest of each of the last N days that have one
    #[arg(long = "keep-daily", value_name = "N", value_parser = count)]
    pub(crate) daily: Option<Count>,
    /// Keep the newest of each of the last N weeks that have one
    #[arg(long = "keep-weekly", value_name = "N", value_parser = count)]
    pub(crate) weekly: Option<Count>,
    /// Keep the newest of each of the last N months that have one
    #[arg(long = "keep-monthly", value_name = "N", value_parser = count)]
    pub(crate) monthly: Option<Count>,
    /// Keep the newest of each of the last N years that have one
    #[arg(long = "keep-yearly", value_name = "N", value_parser = count)]
    pub(crate) yearly: Option<Count>,
    /// Keep what is at most so much older than the newest one (30d, 12h, 1y5m7d2h; m is months)
    #[arg(long = "keep-within", value_name = "TIME")]
    pub(crate) within: Option<Within>,
    /// Keep what has this tag; several: any of them
    #[arg(long = "keep-tag", value_name = "TAG")]
    pub(crate) tagged: Vec<String>,
}

/// `gc`
#[derive(Debug, Default, Args)]
pub(crate) struct Gc {
    /// Move no more than this to free what lies beside it (500M, 2GiB; 0 for nothing)
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) max_repack_bytes: Option<u64>,
    /// Go on although more than half of what is stored would go
    #[arg(long)]
    pub(crate) more_than_half: bool,
    /// Go on although snapshots are gone that nobody forgot
    #[arg(long)]
    pub(crate) accept_vanished: bool,
    /// Least time between condemning and removing (1h, 0s), by the storage's clock; default: none for
    /// a directory, 1h on Amazon S3 and Google Cloud Storage, 1d elsewhere
    #[arg(long, value_name = "TIME", value_parser = time::parse_span)]
    pub(crate) fence: Option<Duration>,
    /// Nobody else uses the repository now: wait for nothing
    #[arg(long)]
    pub(crate) exclusive: bool,
    /// Only show what would be freed
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

/// `undelete`
#[derive(Debug, Default, Args)]
pub(crate) struct Undelete {
    /// Ids of forgotten snapshots or the beginnings of them, as `snapshots --forgotten` shows them
    #[arg(value_name = "SNAPSHOT", required = true)]
    pub(crate) snapshots: Vec<String>,
}

/// `pin`
#[derive(Debug, Default, Args)]
pub(crate) struct Pin {
    /// `latest`, `latest~2`, snapshot ids or the beginnings of them
    #[arg(value_name = "SNAPSHOT", required_unless_present = "acknowledge")]
    pub(crate) snapshots: Vec<String>,
    /// Let go of them
    #[arg(long)]
    pub(crate) remove: bool,
    /// An alarm of this machine was seen: let go of the snapshots that it pinned
    #[arg(long, conflicts_with_all = ["snapshots", "remove"])]
    pub(crate) acknowledge: bool,
}

fn count(text: &str) -> Result<Count, String> {
    match text {
        "unlimited" | "-1" => Ok(UNLIMITED),
        _ => text.parse().map_err(|_| format!("'{text}' is not a number, nor `unlimited`")),
    }
}

/// `host`, `agents` and `paths` are what other tools, or their users, call these.
fn group_by(text: &str) -> Result<GroupBy, String> {
    let mut by = GroupBy { machine: false, roots: false, tags: false };
    for word in text.split(',').map(str::trim) {
        match word {
            "machine" | "host" => by.machine = true,
            "roots" | "agents" | "paths" => by.roots = true,
            "tags" => by.tags = true,
            "none" | "" => {}
            _ => return Err(format!("'{word}' is none of machine, roots, tags, none")),
        }
    }
    Ok(by)
}
