//! What makes backups happen by themselves: an installed service, a daemon, a timer, and whether they do.

use std::path::{Path, PathBuf};
use std::process::Command;

use engine::daemon::Job;
use engine::doctor::Finding;
use engine::status::{Local, Trouble, judge};
use jiff::Timestamp;

use super::Case;
use crate::commands::daemon::limits;
use crate::commands::service::{is_program, lingers, look, owner, program, shell};
use crate::service::{Manager, Owner, Service, Step, linger};
use crate::settings::Daemon;
use crate::ui::{sanitize, time};

impl Case<'_> {
    pub(super) fn unattended(&self) -> Vec<Finding> {
        let settings = &self.settings;
        let daemon = match settings.daemon.clone().with_environment(self.env) {
            Ok(daemon) => daemon,
            Err(error) => return vec![super::of_settings(&error, self.env)],
        };
        let local = Local::read(&settings.state_dir, &settings.which.address().to_string());
        let mut found = Vec::new();
        let mut installed = false;
        for system in [false, true] {
            let Ok(owner) = owner(system, self.env) else { continue };
            let service = Service::of(Manager::here(), &owner);
            if service.path.exists() {
                installed = true;
                found.extend(stands(&service, &owner));
            }
        }
        if !installed {
            found.push(self.runs(&local, &daemon));
        }
        found.extend(late(&local, &daemon));
        found
    }

    /// Whether anything makes backups, where no service of ours does.
    fn runs(&self, local: &Local, daemon: &Daemon) -> Finding {
        if local.daemon.is_some() {
            return Finding::fine("daemon", "a daemon runs");
        }
        if let Some(timer) = timer(&self.settings.machine.home, self.env.tool.name) {
            return Finding::fine("daemon", format!("{timer} runs this program"));
        }
        if daemon.push_is_scheduled {
            let what =
                "a schedule of pushes is configured, and neither a daemon nor a timer follows it";
            return Finding::fault("no-daemon", what).mend("agent-backup service install");
        }
        let what = "nothing makes backups by itself: no service, no daemon, no timer";
        Finding::advice("no-daemon", what)
            .hint("agent-backup service install makes the system do it")
    }
}

/// How an installed service stands.
fn stands(service: &Service, owner: &Owner) -> Vec<Finding> {
    let path = sanitize::path(&service.path);
    let commands = |steps: &[Step]| {
        let sudo = if owner.system && owner.uid != 0 { "sudo " } else { "" };
        let all: Vec<String> =
            steps.iter().map(|step| format!("{sudo}{}", shell(&step.words))).collect();
        all.join(" && ")
    };
    let mut found = Vec::new();
    if let Some(program) = program(service).filter(|program| !is_program(program)) {
        let what = format!("{path} starts {}, which is gone", sanitize::path(&program));
        let system = if owner.system { " --system" } else { "" };
        let finding = Finding::fault("service-program", what);
        found.push(finding.mend(format!("agent-backup service install{system}")));
        return found;
    }
    let state = match look(service) {
        Ok(state) => state,
        Err(error) => return vec![Finding::unchecked("service", format!("{path}: {error:#}"))],
    };
    let log = |finding: Finding| match &service.log {
        Some(command) => finding.hint(format!("{command} shows why")),
        None => finding,
    };
    let how = state.failed.as_ref().map(|how| format!(": {}", sanitize::text(how)));
    let how = how.unwrap_or_default();
    if !state.enabled {
        let what = format!("{path} is installed, and does not start by itself{how}");
        found.push(Finding::fault("service-disabled", what).mend(commands(&service.enable)));
    } else if state.running == Some(false) {
        let what = format!("{path} does not run{how}");
        found.push(log(Finding::fault("service-failed", what).mend(commands(&service.restart))));
    } else {
        found.push(Finding::fine("service", format!("{path} is installed and runs")));
    }
    if lingers(service, owner) == Some(false) {
        let what = format!("the service runs only while {} is logged in", owner.user);
        found.push(Finding::advice("service-linger", what).mend(shell(&linger(&owner.user).words)));
    }
    found
}

/// Whether jobs are done as their schedules say; what was never pushed is told with the repository.
fn late(local: &Local, daemon: &Daemon) -> Vec<Finding> {
    let mut found = Vec::new();
    for trouble in judge(local, None, &limits(daemon, local), Timestamp::now()) {
        let Trouble::Overdue { job, done, by } = trouble else { continue };
        let shown = |at: Timestamp| time::show_secs(at.as_second());
        let failing =
            local.record.as_ref().and_then(|record| record.jobs.get(&job)?.failing.as_ref());
        let mut what =
            format!("the last {job} was at {}, the next was due by {}", shown(done), shown(by));
        if let Some(failing) = failing {
            let since = shown(failing.since);
            what = format!("{what}; it fails since {since}: {}", sanitize::text(&failing.message));
        }
        let finding = match job {
            Job::Push => Finding::fault("push-overdue", what),
            _ => Finding::advice("job-overdue", what),
        };
        found.push(match failing.map(|failing| &failing.hint) {
            Some(Some(hint)) => finding.hint(hint.clone()),
            Some(None) => finding,
            None if job == Job::Push => finding.mend("agent-backup push"),
            None => finding.hint("agent-backup status says what the daemon plans"),
        });
    }
    found
}

/// Something else that starts this program at times: a unit, an agent of launchd, a line of cron.
fn timer(home: &Path, tool: &str) -> Option<String> {
    let dirs = [
        home.join(".config/systemd/user"),
        home.join("Library/LaunchAgents"),
        PathBuf::from("/etc/systemd/system"),
        PathBuf::from("/etc/systemd/user"),
        PathBuf::from("/etc/cron.d"),
    ];
    let names = |text: &str| {
        let mut lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        lines.any(|line| line.contains(tool))
    };
    let files = dirs.iter().flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten());
    let mut files: Vec<PathBuf> = files.map(|entry| entry.path()).collect();
    files.push(PathBuf::from("/etc/crontab"));
    files.sort();
    for file in files.into_iter().filter(|file| file.is_file()) {
        if std::fs::read_to_string(&file).is_ok_and(|text| names(&text)) {
            return Some(sanitize::path(&file));
        }
    }
    let table = Command::new("crontab").arg("-l").output().ok()?;
    names(&String::from_utf8_lossy(&table.stdout)).then(|| "crontab".to_owned())
}
