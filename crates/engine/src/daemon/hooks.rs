//! Commands of the user, before and after a job and when it failed.
//!
//! `/bin/sh -c` in a process group of its own, with the environment that was given (which has no secrets
//! of ours) and what happened in variables. A command that takes too long is killed with all it started.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Done, Failed, Job, Outcome, is_set};

/// How often a command is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Time between asking a command to end and ending it.
const GRACE: Duration = Duration::from_secs(2);
/// Characters of a message that go into a variable.
const TEXT_CHARS_MAX: usize = 2_000;

/// The commands.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    /// Before a job; if it fails, the job does not run.
    pub before: Option<String>,
    /// After a job that was done.
    pub after: Option<String>,
    /// After one that failed.
    pub failed: Option<String>,
    /// The longest time one may take.
    pub time_max: Duration,
    /// The environment of commands; without secrets.
    pub env: Vec<(OsString, OsString)>,
    /// Keep what they print from our standard error.
    pub silent: bool,
}

/// When a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Before,
    After,
    Failed,
}

impl Moment {
    fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::Failed => "failed",
        }
    }
}

impl Hooks {
    /// Runs the command of a moment, if there is one. The error says what went wrong.
    pub(super) fn run(
        &self,
        moment: Moment,
        job: Job,
        outcome: Option<&Outcome>,
        cancel: &AtomicBool,
    ) -> Result<(), String> {
        let command = match moment {
            Moment::Before => &self.before,
            Moment::After => &self.after,
            Moment::Failed => &self.failed,
        };
        let Some(command) = command else { return Ok(()) };
        let mut vars = vec![
            ("AGENT_BACKUP_HOOK", moment.name().to_owned()),
            ("AGENT_BACKUP_JOB", job.to_string()),
        ];
        match outcome {
            Some(Outcome::Done(Done { did, snapshot, problems, .. })) => {
                vars.push(("AGENT_BACKUP_MESSAGE", did.clone()));
                vars.push(("AGENT_BACKUP_PROBLEMS", problems.to_string()));
                vars.extend(snapshot.clone().map(|id| ("AGENT_BACKUP_SNAPSHOT", id)));
            }
            Some(Outcome::Failed(Failed { code, name, message, .. })) => {
                vars.push(("AGENT_BACKUP_MESSAGE", message.clone()));
                vars.push(("AGENT_BACKUP_CODE", code.to_string()));
                vars.push(("AGENT_BACKUP_CODE_NAME", name.clone()));
            }
            _ => {}
        }
        let what = format!("the command '{}' of [daemon.hooks]", moment.name());
        // a signal ends the wait for a job's beginning; what follows a job is short and is let finish
        let never = AtomicBool::new(false);
        let cancel = if moment == Moment::Before { cancel } else { &never };
        run_command(command, &vars, self, cancel).map_err(|why| format!("{what} {why}"))
    }
}

/// Runs a shell command with these variables, for as long as hooks may take.
pub fn run_command(
    command: &str,
    vars: &[(&str, String)],
    hooks: &Hooks,
    cancel: &AtomicBool,
) -> Result<(), String> {
    let mut shell = Command::new("/bin/sh");
    shell
        .arg("-c")
        .arg(command)
        .env_clear()
        .envs(hooks.env.iter().map(|(name, value)| (name, value)));
    for (name, value) in vars {
        let text: String = value.chars().filter(|c| *c != '\0').take(TEXT_CHARS_MAX).collect();
        shell.env(name, text);
    }
    let err = if hooks.silent { Stdio::null() } else { Stdio::inherit() };
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(err).process_group(0);
    let mut child = shell.spawn().map_err(|e| format!("cannot start: {e}"))?;
    let status = wait(&mut child, hooks.time_max, cancel)?;
    if status.success() { Ok(()) } else { Err(format!("failed ({status})")) }
}

/// Waits for it, or ends it with all it started.
fn wait(child: &mut Child, time_max: Duration, cancel: &AtomicBool) -> Result<ExitStatus, String> {
    let began = Instant::now();
    let mut asked: Option<(Instant, &str)> = None;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                let Some((_, why)) = asked else { return Ok(status) };
                // what it started may have outlived it
                signal(child, Signal::KILL);
                return Err(why.to_owned());
            }
            Ok(None) => {}
            Err(e) => return Err(format!("cannot be waited for: {e}")),
        }
        match asked {
            None if began.elapsed() >= time_max => {
                signal(child, Signal::TERM);
                asked = Some((Instant::now(), "took longer than it may, and was ended"));
            }
            None if is_set(cancel) => {
                signal(child, Signal::TERM);
                asked = Some((Instant::now(), "was ended, because the daemon ends"));
            }
            Some((when, _)) if when.elapsed() >= GRACE => signal(child, Signal::KILL),
            _ => {}
        }
        std::thread::sleep(LOOK);
    }
}

/// To it and to what it started. One that is gone needs none.
fn signal(child: &Child, signal: Signal) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(before: &str) -> Hooks {
        Hooks {
            before: Some(before.to_owned()),
            time_max: Duration::from_secs(20),
            env: vec![("PATH".into(), "/usr/bin:/bin".into()), ("MINE".into(), "kept".into())],
            silent: true,
            ..Hooks::default()
        }
    }

    fn before(hooks: &Hooks) -> Result<(), String> {
        hooks.run(Moment::Before, Job::Push, None, &AtomicBool::new(false))
    }

    #[test]
    fn a_command_sees_the_job_and_the_environment_it_was_given_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        before(&hooks(&format!("env > {}", out.display()))).unwrap();
        let seen = std::fs::read_to_string(out).unwrap();
        let names: Vec<&str> = seen.lines().filter_map(|line| line.split('=').next()).collect();
        assert!(
            seen.contains("AGENT_BACKUP_JOB=push\n") && seen.contains("AGENT_BACKUP_HOOK=before\n")
        );
        assert!(seen.contains("MINE=kept\n"), "{seen}");
        let ours = [
            "AGENT_BACKUP_JOB",
            "AGENT_BACKUP_HOOK",
            "MINE",
            "PATH",
            "PWD",
            "_",
            "SHLVL",
            "OLDPWD",
        ];
        assert!(names.iter().all(|name| ours.contains(name)), "{names:?}");
    }

    #[test]
    fn a_command_that_fails_says_how() {
        let error = before(&hooks("exit 7")).unwrap_err();
        assert!(error.contains("'before'") && error.contains('7'), "{error}");
        let failed =
            Hooks { failed: Some("test \"$AGENT_BACKUP_CODE\" = 15".into()), ..hooks("false") };
        let outcome = Outcome::Failed(Failed {
            code: 15,
            name: "storage-unreachable".into(),
            message: "no\0thing".into(),
            hint: None,
            pause: None,
            fatal: false,
        });
        failed.run(Moment::Failed, Job::Gc, Some(&outcome), &AtomicBool::new(true)).unwrap();
    }

    #[test]
    fn a_command_that_does_not_end_is_ended_with_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let slow = format!("sleep 600 & echo $! > {}; trap '' TERM; wait", pid.display());
        let hooks = Hooks { time_max: Duration::from_millis(300), ..hooks(&slow) };
        let began = Instant::now();
        let error = before(&hooks).unwrap_err();
        assert!(error.contains("longer"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(15));
        let started: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        let gone = || {
            rustix::process::test_kill_process(Pid::from_raw(started).unwrap()).is_err()
                || is_zombie(started)
        };
        let until = Instant::now() + Duration::from_secs(5);
        while !gone() {
            assert!(Instant::now() < until, "its child lives");
            std::thread::sleep(LOOK);
        }
    }

    fn is_zombie(pid: i32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
    }

    #[test]
    fn a_signal_ends_the_wait_for_a_command_before_a_job() {
        let cancel = AtomicBool::new(true);
        let error = hooks("sleep 600").run(Moment::Before, Job::Push, None, &cancel).unwrap_err();
        assert!(error.contains("daemon ends"), "{error}");
    }
}
