//! What was typed for `grep`.

/// Lines before or behind one that fits, at most: those of all in a file are in memory together.
const LINES_MAX: i64 = 1000;

/// `grep`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Grep {
    /// What to search for: a regular expression
    #[arg(value_name = "PATTERN", required_unless_present = "regexp", conflicts_with = "regexp")]
    pub(crate) pattern: Option<String>,
    /// The same, and may be given several times: what fits one of them is found
    #[arg(short = 'e', long, value_name = "PATTERN", allow_hyphen_values = true)]
    pub(crate) regexp: Vec<String>,
    /// Patterns are text, no regular expressions
    #[arg(short = 'F', long)]
    pub(crate) fixed_strings: bool,
    /// Upper and lower case are the same
    #[arg(short, long)]
    pub(crate) ignore_case: bool,
    /// Only whole words
    #[arg(short, long = "word-regexp")]
    pub(crate) word: bool,
    /// Only the files, not the lines
    #[arg(short = 'l', long, conflicts_with = "count")]
    pub(crate) files_with_matches: bool,
    /// Only how many different lines of each file fit
    #[arg(short, long)]
    pub(crate) count: bool,
    /// Show so many lines behind each one that fits
    #[arg(short = 'A', long, value_name = "NUM", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u16).range(..=LINES_MAX))]
    pub(crate) after_context: u16,
    /// Show so many lines before each one that fits
    #[arg(short = 'B', long, value_name = "NUM", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u16).range(..=LINES_MAX))]
    pub(crate) before_context: u16,
    /// Show so many lines before and behind each one that fits
    #[arg(short = 'C', long, value_name = "NUM", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u16).range(..=LINES_MAX))]
    pub(crate) context: u16,
    /// Show what is found by session: transcripts that agents keep, with their titles
    #[arg(long)]
    pub(crate) sessions: bool,
    /// Only in this snapshot; may be given several times; default: in all
    #[arg(short, long = "snapshot", value_name = "SNAPSHOT", conflicts_with = "latest")]
    pub(crate) snapshots: Vec<String>,
    /// Only in the newest snapshot; with --agent in the newest one that holds it
    #[arg(long)]
    pub(crate) latest: bool,
    /// Only files of this agent; may be given several times
    #[arg(long = "agent", value_name = "AGENT")]
    pub(crate) agents: Vec<String>,
    /// Only what matches; a directory that matches comes with all below it
    #[arg(long = "path", value_name = "GLOB")]
    pub(crate) paths: Vec<String>,
    /// Show at most so many bytes of a line, around the match; 0: all
    #[arg(long, value_name = "NUM", default_value_t = 240)]
    pub(crate) max_columns: usize,
}
