//! Arguments of `import`.

use std::path::PathBuf;

use clap::{ValueEnum, ValueHint};

use crate::ui::size;

/// Whose snapshots are imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Program {
    /// The engine of goose-b2-backup, cline-b2-backup and their like, and the OpenClaw plugin
    AgentBackupCore,
}

/// `import`
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// The program that made them
    #[arg(value_enum, value_name = "PROGRAM")]
    pub(crate) program: Program,
    /// Where they are: a directory, or a bucket with the prefix of the old configuration
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,
    /// Show what would be imported
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// The old passphrase is the first line of this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with = "source_password_command")]
    pub(crate) source_password_file: Option<PathBuf>,
    /// The old passphrase is the first line that this command prints
    #[arg(long, value_name = "COMMAND", value_hint = ValueHint::CommandString)]
    pub(crate) source_password_command: Option<String>,
    /// Take manifests that are not encrypted, from a bucket that is or was
    #[arg(long)]
    pub(crate) plain_manifests: bool,
    /// The agent whose files these are; default: what the prefix says (goose-backup)
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// The machine whose files these are; default: this one
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// Tag of the snapshots; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Upload no faster than this, in bytes a second (2MiB)
    #[arg(long, value_name = "RATE", value_parser = size::parse_rate)]
    pub(crate) limit_upload: Option<u64>,
}
