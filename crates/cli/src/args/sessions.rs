//! Arguments of the commands about sessions.

use clap::Subcommand;

use crate::ui::time;

/// `sessions`
#[derive(Debug, Default, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Sessions {
    /// Show one
    #[command(subcommand)]
    pub(crate) command: Option<SessionsCommand>,
    /// Only those with this in title, project or id; the case of letters does not count
    #[arg(value_name = "TEXT")]
    pub(crate) text: Option<String>,
    /// Only sessions of this agent
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// Only sessions whose newest snapshot is of this machine
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Only sessions about this directory, or one below it
    #[arg(long, value_name = "DIR")]
    pub(crate) project: Option<String>,
    /// Only those used since: 2026-10-31, or 30d for the last 30 days
    #[arg(long, value_name = "TIME", value_parser = time::parse_moment)]
    pub(crate) since: Option<i64>,
    /// Only those that their agent does not have any more
    #[arg(long)]
    pub(crate) gone: bool,
    /// Also those of sub-agents
    #[arg(long)]
    pub(crate) all: bool,
}

/// What `sessions` does besides listing.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// Print a transcript
    Show(ShowSession),
}

/// `sessions show`
#[derive(Debug, clap::Args)]
pub(crate) struct ShowSession {
    /// The session's id, or at least four characters of its beginning
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// The agent it is of
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// The machine it is of
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// What tools get and give in full length
    #[arg(long)]
    pub(crate) full: bool,
}
