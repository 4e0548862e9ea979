//! Who is told how it goes without asking: a heartbeat's service, a file for Prometheus, the desktop.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;

use super::{Hooks, Record, run_command};

/// The command that shows a message on a Linux desktop.
const NOTIFY: &str = "exec notify-send --app-name=agent-backup --icon=dialog-warning agent-backup \"$AGENT_BACKUP_MESSAGE\"";
/// The same on a Mac; the text comes through the environment, so it is never code.
const NOTIFY_MAC: &str = "exec osascript -e 'display notification (system attribute \"AGENT_BACKUP_MESSAGE\") with title \"agent-backup\"'";

/// Who is told.
#[derive(Clone, Default)]
pub struct Health {
    /// Asked with a GET after each push whose snapshot was seen in the store. May hold a secret.
    pub heartbeat: Option<String>,
    /// Written anew after each job, in Prometheus' text format.
    pub prometheus: Option<PathBuf>,
    /// Shows what begins to fail: a command that finds the text in `AGENT_BACKUP_MESSAGE`.
    pub desktop: Option<String>,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").field("prometheus", &self.prometheus).finish_non_exhaustive()
    }
}

impl Health {
    /// The command that shows a message where none was named.
    pub fn desktop_command() -> &'static str {
        if cfg!(target_os = "macos") { NOTIFY_MAC } else { NOTIFY }
    }

    /// Shows a message on the desktop. That this does not work is told, and harms nothing.
    pub(super) fn desktop(&self, text: &str, hooks: &Hooks, tell: &dyn Fn(&str)) {
        let Some(command) = &self.desktop else { return };
        let vars = [("AGENT_BACKUP_MESSAGE", text.to_owned())];
        if let Err(why) = run_command(command, &vars, hooks, &AtomicBool::new(false)) {
            tell(&format!("the command that notifies {why}"));
        }
    }

    /// Writes the file for Prometheus.
    pub(super) fn file(&self, record: &Record, now: Timestamp, tell: &dyn Fn(&str)) {
        let Some(path) = &self.prometheus else { return };
        if let Err(error) = write_public(path, metrics(record, now).as_bytes()) {
            tell(&format!("{} is not written: {error}", path.display()));
        }
    }
}

/// A file that others read: whole or as it was.
fn write_public(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".agent-backup-").tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
}

/// The text that Prometheus reads.
pub fn metrics(record: &Record, now: Timestamp) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, rows: Vec<(String, String)>| {
        if rows.is_empty() {
            return;
        }
        // writing to a string does not fail
        let _ =
            writeln!(text, "# HELP agent_backup_{name} {help}\n# TYPE agent_backup_{name} {kind}");
        for (labels, value) in rows {
            let _ = writeln!(text, "agent_backup_{name}{{{labels}}} {value}");
        }
    };
    let repository = format!("repository=\"{}\"", escaped(&record.repository));
    let job = |name: &str| format!("{repository},job=\"{name}\"");
    let of = |value: &dyn Fn(&super::JobRecord) -> Option<String>| -> Vec<(String, String)> {
        let rows =
            record.jobs.iter().filter_map(|(one, record)| Some((job(one.name()), value(record)?)));
        rows.collect()
    };
    let time = |at: Timestamp| at.as_second().to_string();
    let one = |value: String| vec![(repository.clone(), value)];
    metric("written_seconds", "gauge", "When this file was written.", one(time(now)));
    metric("started_seconds", "gauge", "When the daemon started.", one(time(record.started)));
    metric("job_done_seconds", "gauge", "When a job was done last.", of(&|r| r.done.map(time)));
    metric("job_next_seconds", "gauge", "When a job comes next.", of(&|r| r.next.map(time)));
    metric(
        "job_failing",
        "gauge",
        "Exit code of a job's last failure, 0 if it did not fail.",
        of(&|r| Some(r.failing.as_ref().map_or(0, |failing| failing.code).to_string())),
    );
    metric(
        "job_failing_since_seconds",
        "gauge",
        "Since when a job fails.",
        of(&|r| r.failing.as_ref().map(|failing| time(failing.since))),
    );
    metric("job_runs_total", "counter", "Runs that were done.", of(&|r| Some(r.runs.to_string())));
    metric(
        "job_failures_total",
        "counter",
        "Runs that failed.",
        of(&|r| Some(r.failures.to_string())),
    );
    metric(
        "job_problems",
        "gauge",
        "Items that had problems in the last run that was done.",
        of(&|r| r.done.map(|_| r.problems.to_string())),
    );
    if let Some(size) = record.size() {
        metric("repository_bytes", "gauge", "Size of the repository.", one(size.bytes.to_string()));
        metric(
            "repository_objects",
            "gauge",
            "Objects in the repository.",
            one(size.objects.to_string()),
        );
        metric(
            "snapshots",
            "gauge",
            "Snapshots in the repository.",
            one(size.snapshots.to_string()),
        );
    }
    if let Some(day) = record.days.last() {
        let class = |name: &str| format!("{repository},class=\"{name}\"");
        let rows = [("a", day.class_a), ("b", day.class_b), ("c", day.class_c)];
        let rows = rows.map(|(name, value)| (class(name), value.to_string())).to_vec();
        metric(
            "requests_today",
            "gauge",
            "Requests of the daemon on the last day (UTC) with any.",
            rows,
        );
    }
    text
}

/// A label's value.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::super::{Done, Job};
    use super::*;

    fn record() -> Record {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut record = Record::begin(None, "/srv/\"odd\"\\dir", now);
        record.done(Job::Push, &Done::new("did"), now);
        record
    }

    #[test]
    fn every_metric_has_help_and_type_before_it_and_labels_are_escaped() {
        let text = metrics(&record(), Timestamp::from_second(1_800_000_007).unwrap());
        let repository = r#"repository="/srv/\"odd\"\\dir""#;
        assert!(
            text.contains(&format!("agent_backup_written_seconds{{{repository}}} 1800000007\n")),
            "{text}"
        );
        assert!(text.contains(&format!(
            "agent_backup_job_done_seconds{{{repository},job=\"push\"}} 1800000000\n"
        )));
        assert!(
            text.contains(&format!("agent_backup_job_failing{{{repository},job=\"push\"}} 0\n"))
        );
        let mut typed = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                typed = rest.split(' ').next().unwrap();
            } else if !line.starts_with('#') {
                assert!(line.starts_with(typed) && !typed.is_empty(), "{line}");
            }
        }
    }

    #[test]
    fn the_file_is_whole_and_readable_by_the_one_who_collects() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent-backup.prom");
        let health = Health { prometheus: Some(path.clone()), ..Health::default() };
        for _ in 0..2 {
            health.file(&record(), Timestamp::UNIX_EPOCH, &|text| panic!("{text}"));
        }
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
        let told = std::cell::Cell::new(false);
        let lost = Health { prometheus: Some("/nonexistent/x.prom".into()), ..Health::default() };
        lost.file(&record(), Timestamp::UNIX_EPOCH, &|_| told.set(true));
        assert!(told.get());
    }

    #[test]
    fn a_message_on_the_desktop_is_text_and_never_code() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let desktop = Some(format!("printf %s \"$AGENT_BACKUP_MESSAGE\" > {}", out.display()));
        let hooks = Hooks {
            time_max: std::time::Duration::from_secs(10),
            silent: true,
            ..Hooks::default()
        };
        let health = Health { desktop, ..Health::default() };
        health.desktop("push fails: $(touch x) `y` \"z\"", &hooks, &|text| panic!("{text}"));
        assert_eq!(std::fs::read_to_string(out).unwrap(), "push fails: $(touch x) `y` \"z\"");
    }
}
