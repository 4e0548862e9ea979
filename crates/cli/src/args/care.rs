//! `verify` and `repair`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ValueEnum, ValueHint};

use crate::ui::{size, time};

/// What `push` looks through for secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ScanSecrets {
    /// Nothing
    None,
    /// What is new, up to 16 MiB a push
    #[default]
    New,
    /// All that is new
    All,
}

/// `scan`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Scan {
    /// Agents to look through; default: all that are here
    #[arg(value_name = "AGENT")]
    pub(crate) agents: Vec<String>,
    /// Look through a directory or file too; its label is LABEL or its own name
    #[arg(long = "path", value_name = "[LABEL=]DIR", value_hint = ValueHint::AnyPath)]
    pub(crate) paths: Vec<String>,
    /// Leave out what matches, as with push
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,
    /// Rules to use in place of the built-in ones: a gitleaks file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) rules: Option<PathBuf>,
}

/// How much `verify` looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Level {
    /// Listings, index, lengths and tables of packs
    Structure,
    /// And all that describes snapshots; every block that a file needs has a place
    Metadata,
    /// Some packs in full, those first that were not read for longest
    #[default]
    Sample,
    /// Every pack in full
    All,
    /// Restore the newest snapshot of every agent to a scratch place and look at it
    Rehearsal,
}

/// `verify`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Verify {
    /// How much to look at
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t)]
    pub(crate) level: Level,
    /// The same as --level all
    #[arg(long, conflicts_with = "level")]
    pub(crate) read_data: bool,
    /// Read at most so much of the packs (500M, 2GiB); default of a sample: a thirtieth
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) max_bytes: Option<u64>,
    /// Read packs for at most so long (90s, 30m, 2h)
    #[arg(long, value_name = "TIME", value_parser = time::parse_span)]
    pub(crate) max_time: Option<Duration>,
    /// Restore below this directory, which is emptied again; default: a private temporary one
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) scratch: Option<PathBuf>,
}

impl Verify {
    /// The level that was meant.
    pub(crate) fn level(&self) -> Level {
        if self.read_data { Level::All } else { self.level }
    }
}

/// What `repair` repairs besides blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Make the index anew from the packs
    Index,
}

/// `repair`
#[derive(Debug, Default, clap::Args)]
#[group(id = "repairs", required = true, multiple = true)]
pub(crate) struct Repair {
    /// `index`: make the index anew from the packs
    #[arg(value_enum, value_name = "PART", group = "repairs")]
    pub(crate) part: Option<Part>,
    /// Read the live files again and make damaged blocks of them
    #[arg(long, group = "repairs")]
    pub(crate) from_source: bool,
    /// Copy damaged blocks from another repository with the same keys
    #[arg(long, value_name = "ADDRESS", group = "repairs")]
    pub(crate) from: Option<String>,
    /// Look for what is lost in old versions of objects, which a bucket keeps after a deletion
    #[arg(long, group = "repairs")]
    pub(crate) undelete: bool,
    /// Give up what cannot be had: snapshots that need it are replaced by ones without it
    #[arg(long, group = "repairs")]
    pub(crate) accept_loss: bool,
    /// Read every pack before; default: what earlier runs found, and all that describes snapshots
    #[arg(long)]
    pub(crate) read_data: bool,
    /// Only the files of this agent; default: the roots of this machine's newest snapshots
    #[arg(long = "agent", value_name = "AGENT", requires = "from_source")]
    pub(crate) agents: Vec<String>,
    /// The files of a directory, as `push --path` names it
    #[arg(long = "path", value_name = "[LABEL=]DIR", value_hint = ValueHint::AnyPath)]
    #[arg(requires = "from_source")]
    pub(crate) paths: Vec<String>,
}

/// `doctor`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Doctor {
    /// Try the storage out: write, read, list and delete beside the repository
    #[arg(long)]
    pub(crate) probe: bool,
    /// The newest snapshot of this machine may be so old (12h, 7d); default: 2d
    #[arg(long, value_name = "TIME", value_parser = time::parse_span)]
    pub(crate) max_age: Option<Duration>,
}
