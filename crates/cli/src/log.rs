//! Logs: standard error, by level of `-v`. Nothing that is logged holds key material; paths and
//! names appear from `-vv` on.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use crate::args::Global;

/// Starts logging. With `--json` or `-q` only errors are logged.
pub(crate) fn start(flags: &Global) {
    let level = match flags.verbose {
        _ if flags.quiet || flags.json => LevelFilter::ERROR,
        0 | 1 => LevelFilter::WARN,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // the libraries below speak of requests and headers: ours alone are known to be safe
    let ours = tracing_subscriber::filter::filter_fn(|meta| {
        let target = meta.target().split("::").next().unwrap_or_default();
        matches!(target, "engine" | "repo" | "store" | "chunker" | "adapters" | "agent_backup")
    });
    let ansi = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(ansi);
    let lines = lines.with_target(false).without_time();
    tracing_subscriber::registry().with(lines.with_filter(level).with_filter(ours)).init();
}
