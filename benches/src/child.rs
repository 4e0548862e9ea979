//! Runs a program and says what it used: wall, CPU of user and system, peak memory.
//!
//! The kernel tells a process only what *all* its children used together, and lets a child inherit
//! the peak of the process that started it. So each run gets a small parent of its own: this
//! program once more, with `__measure` as its first argument. A binary that measures calls
//! [`intercept`] before anything else.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::{Deserialize, Serialize};

const MARK: &str = "__measure";

/// What one run used.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Used {
    /// From start to end.
    pub wall_secs: f64,
    /// User and system, all threads.
    pub cpu_secs: f64,
    /// Largest resident set.
    pub peak_bytes: u64,
}

/// A program to run: its arguments, and an environment that holds nothing else but `PATH`.
#[derive(Debug, Clone)]
pub struct Run {
    program: PathBuf,
    args: Vec<OsString>,
    envs: Vec<(String, OsString)>,
    scratch: PathBuf,
}

impl Run {
    /// Will run `program`; reports lie in `scratch`, which exists.
    pub fn new(program: impl Into<PathBuf>, scratch: impl Into<PathBuf>) -> Run {
        Run { program: program.into(), args: vec![], envs: vec![], scratch: scratch.into() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Run {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Run {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Run {
        self.envs.push((name.to_owned(), value.into()));
        self
    }

    /// Runs it to its end. Fails with what it wrote to standard error unless its exit code is one
    /// of `good`. Returns what it used and wrote to standard output.
    pub fn measure(&self, good: &[i32]) -> Result<(Used, Vec<u8>)> {
        let report = self.scratch.join("used.json");
        let _ = fs::remove_file(&report);
        let mut parent = Command::new(std::env::current_exe()?);
        parent.arg(MARK).arg(&report).arg(&self.program).args(&self.args).env_clear();
        parent.env("PATH", "/usr/local/bin:/usr/bin:/bin");
        parent.envs(self.envs.iter().map(|(name, value)| (name, value)));
        let output = parent.stdin(Stdio::null()).output().context("starting a measured run")?;
        if !good.contains(&output.status.code().unwrap_or(-1)) {
            let said = String::from_utf8_lossy(&output.stderr);
            let out = String::from_utf8_lossy(&output.stdout);
            bail!("{} {:?}: {}\n{said}{out}", self.program.display(), self.args, output.status);
        }
        let used = fs::read(&report).context("the report of a measured run")?;
        Ok((serde_json::from_slice(&used)?, output.stdout))
    }
}

/// Runs what the small parent is there for, if this process is one.
pub fn intercept() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != MARK {
        return None;
    }
    let (report, program) = (args.next()?, args.next()?);
    let status = run_and_report(Path::new(&report), Command::new(program).args(args));
    let code = status.ok().and_then(|status| status.code()).and_then(|code| code.try_into().ok());
    Some(ExitCode::from(code.unwrap_or(u8::MAX)))
}

fn run_and_report(report: &Path, command: &mut Command) -> Result<ExitStatus> {
    let begin = Instant::now();
    let status = command.status()?;
    let wall_secs = begin.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = usage.user_time() + usage.system_time();
    // Linux counts KiB.
    let peak_bytes = u64::try_from(usage.max_rss())? * 1024;
    let used = Used { wall_secs, cpu_secs: cpu.num_microseconds() as f64 / 1e6, peak_bytes };
    fs::write(report, serde_json::to_vec(&used)?)?;
    Ok(status)
}
