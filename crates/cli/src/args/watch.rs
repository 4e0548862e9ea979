//! `daemon` and `status`: all else stands in `[daemon]` of the configuration.

use std::time::Duration;

use clap::Args;

use crate::ui::time;

/// `daemon`
#[derive(Debug, Default, Args)]
pub(crate) struct Daemon {
    /// Only check the settings and show what would run when
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

/// `status`
#[derive(Debug, Default, Args)]
pub(crate) struct Status {
    /// Ask no storage: only what this machine knows
    #[arg(long)]
    pub(crate) offline: bool,
    /// The newest push may be so old (90m, 2h, 1d); default: two intervals of its schedule
    #[arg(long, value_name = "TIME", value_parser = time::parse_span)]
    pub(crate) max_age: Option<Duration>,
}
