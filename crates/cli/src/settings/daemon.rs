//! `[daemon]` of `config.toml`: when what runs, and who hears of it.
//!
//! In: the table as written, and what the environment says of schedules (`B2_SCHEDULE` and
//! `B2_KEEP_SNAPSHOTS` of agent-backup-core win, as all variables do). Out: [`Daemon`], checked in full: a
//! wrong schedule is found when the file is read, not when its moment comes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use engine::daemon::Job;
use engine::forget::{Policy, Within};
use engine::status::Prices;
use jiff::tz::TimeZone;
use schedule::Timetable;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use toml::Spanned;
use zeroize::Zeroizing;

use super::environment::Environment;
use super::error::{Error, Result};
use super::file::At;
use crate::ui::{size, time};

/// Schedules where none is named. Forgetting needs a policy too.
const DEFAULTS: [(Job, &str); 5] = [
    (Job::Push, "hourly"),
    (Job::Forget, "30 3 * * *"),
    (Job::Gc, "0 4 * * 0"),
    (Job::Verify, "0 5 * * 3"),
    (Job::Rehearsal, "0 6 1 * *"),
];
/// The word for no schedule.
const NONE: &str = "none";

/// The table as written.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    push: Option<Spanned<Texts>>,
    forget: Option<Spanned<Texts>>,
    gc: Option<Spanned<Texts>>,
    verify: Option<Spanned<Texts>>,
    rehearsal: Option<Spanned<Texts>>,
    time_zone: Option<Spanned<String>>,
    jitter: Option<Spanned<String>>,
    push_on_change: bool,
    quiet: Option<Spanned<String>>,
    last_push: Option<Spanned<String>>,
    restore_when_empty: Option<bool>,
    nice: Option<Spanned<i32>>,
    limit_upload: Option<Spanned<String>>,
    wait_for_mains: bool,
    wait_for_unmetered: bool,
    verify_max_bytes: Option<Spanned<String>>,
    verify_max_time: Option<Spanned<String>>,
    rehearsal_dir: Option<Spanned<String>>,
    keep: RawKeep,
    hooks: RawHooks,
    health: RawHealth,
    prices: Option<RawPrices>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawKeep {
    last: usize,
    hourly: usize,
    daily: usize,
    weekly: usize,
    monthly: usize,
    yearly: usize,
    within: Option<Spanned<String>>,
    tags: Vec<String>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawHooks {
    before: Option<Spanned<String>>,
    after: Option<Spanned<String>>,
    failed: Option<Spanned<String>>,
    time_limit: Option<Spanned<String>>,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawHealth {
    heartbeat: Option<Spanned<String>>,
    prometheus: Option<Spanned<String>>,
    desktop: bool,
    desktop_command: Option<Spanned<String>>,
}

// by hand, because an address may hold a secret
impl fmt::Debug for RawHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawHealth").field("prometheus", &self.prometheus).finish_non_exhaustive()
    }
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawPrices {
    storage_gb_month: Option<f64>,
    storage_gb_free: Option<f64>,
    class_b_10000: Option<f64>,
    class_c_1000: Option<f64>,
    requests_free_day: Option<u64>,
    download_gb: Option<f64>,
    download_free_times: Option<f64>,
}

/// A schedule, or several.
#[derive(Debug)]
struct Texts(Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Texts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a schedule such as \"hourly\", or a list of them")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> std::result::Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = seq.next_element()? {
                    texts.push(text);
                }
                Ok(Texts(texts))
            }
        }
        from.deserialize_any(OneOrMany)
    }
}

/// The table, understood. Paths are as written; `~/` is opened later.
#[derive(Debug, Clone)]
pub(crate) struct Daemon {
    /// The schedule of each job that has one.
    pub(crate) timetables: BTreeMap<Job, Timetable>,
    /// Somebody named the schedule of pushes: what is older than it says is overdue, also without a daemon.
    pub(crate) push_is_scheduled: bool,
    pub(crate) zone: TimeZone,
    pub(crate) jitter: Duration,
    /// Push when something changed and it was quiet for so long.
    pub(crate) quiet: Option<Duration>,
    pub(crate) last_push: Duration,
    pub(crate) restore_when_empty: bool,
    pub(crate) nice: i32,
    pub(crate) limit_upload: Option<u64>,
    pub(crate) wait_for_mains: bool,
    pub(crate) wait_for_unmetered: bool,
    pub(crate) verify_bytes_max: Option<u64>,
    pub(crate) verify_time_max: Option<Duration>,
    pub(crate) rehearsal_dir: Option<PathBuf>,
    pub(crate) keep: Policy,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
    pub(crate) failed: Option<String>,
    pub(crate) hook_time_max: Duration,
    /// May hold a secret.
    pub(crate) heartbeat: Option<Hidden>,
    pub(crate) prometheus: Option<PathBuf>,
    pub(crate) desktop: Option<String>,
    pub(crate) prices: Option<Prices>,
}

/// A text that no message shows.
#[derive(Clone)]
pub(crate) struct Hidden(pub(crate) Zeroizing<String>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

impl Default for Daemon {
    fn default() -> Self {
        let at = At { text: "", path: std::path::Path::new("") };
        Self::parse(Raw::default(), &at).expect("the defaults are right")
    }
}

impl Daemon {
    /// Whether a value in it should be read by its owner alone.
    pub(super) fn holds_secret(&self) -> bool {
        self.heartbeat.is_some()
    }

    /// Checks the table.
    pub(super) fn parse(raw: Raw, at: &At<'_>) -> Result<Self> {
        let span = |value: Option<Spanned<String>>, standard: u64| {
            let Some(value) = value else { return Ok(Duration::from_secs(standard)) };
            time::parse_span(value.get_ref()).map_err(|e| at.wrong(&value.span(), &e))
        };
        let sized = |value: Option<Spanned<String>>,
                     parse: fn(&str) -> std::result::Result<u64, String>| {
            value.map(|v| parse(v.get_ref()).map_err(|e| at.wrong(&v.span(), &e))).transpose()
        };
        let filled = |value: Option<Spanned<String>>| value.map(|v| at.filled(v)).transpose();
        let path = |value: Option<Spanned<String>>| {
            value.map(|v| Ok(PathBuf::from(at.path(v)?))).transpose()
        };
        let zone = match &raw.time_zone {
            None => TimeZone::system(),
            Some(name) => TimeZone::get(name.get_ref())
                .map_err(|_| at.wrong(&name.span(), "no such time zone; write Europe/Berlin"))?,
        };
        let keep = keep(raw.keep, at)?;
        let mut timetables = BTreeMap::new();
        let push_is_scheduled = raw.push.is_some();
        let written = [raw.push, raw.forget, raw.gc, raw.verify, raw.rehearsal];
        for ((job, standard), texts) in DEFAULTS.into_iter().zip(written) {
            let texts = texts.map(|texts| (texts.span(), texts.into_inner().0));
            let (span, texts) = texts.unwrap_or_else(|| (0..0, vec![standard.to_owned()]));
            if texts == [NONE] || (job == Job::Forget && keep.is_empty()) {
                continue;
            }
            if texts.is_empty() {
                return Err(at.wrong(&span, "name a schedule, or \"none\""));
            }
            let table = Timetable::new(&texts, zone.clone());
            timetables.insert(job, table.map_err(|e| at.wrong(&span, &e.to_string()))?);
        }
        let nice = raw.nice.map_or(Ok(10), |nice| match *nice.get_ref() {
            n @ 0..=19 => Ok(n),
            _ => Err(at.wrong(&nice.span(), "write a number from 0 (as others) to 19 (least)")),
        })?;
        if let Some(url) = &raw.health.heartbeat {
            store::ping::check(url.get_ref()).map_err(|e| at.wrong(&url.span(), &e))?;
        }
        let quiet = span(raw.quiet, 120)?;
        let desktop = match filled(raw.health.desktop_command)? {
            None if raw.health.desktop => {
                Some(engine::daemon::health::Health::desktop_command().to_owned())
            }
            other => other,
        };
        let verify_time_max = match raw.verify_max_time {
            None => None,
            some => Some(span(some, 0)?),
        };
        Ok(Self {
            timetables,
            push_is_scheduled,
            zone,
            jitter: span(raw.jitter, 300)?,
            quiet: raw.push_on_change.then_some(quiet.max(Duration::from_secs(1))),
            last_push: span(raw.last_push, 60)?,
            restore_when_empty: raw.restore_when_empty.unwrap_or(true),
            nice,
            limit_upload: sized(raw.limit_upload, size::parse_rate)?,
            wait_for_mains: raw.wait_for_mains,
            wait_for_unmetered: raw.wait_for_unmetered,
            verify_bytes_max: sized(raw.verify_max_bytes, size::parse)?,
            verify_time_max,
            rehearsal_dir: path(raw.rehearsal_dir)?,
            keep,
            before: filled(raw.hooks.before)?,
            after: filled(raw.hooks.after)?,
            failed: filled(raw.hooks.failed)?,
            hook_time_max: span(raw.hooks.time_limit, 300)?,
            heartbeat: raw.health.heartbeat.map(|url| Hidden(url.into_inner().into())),
            prometheus: path(raw.health.prometheus)?,
            desktop,
            prices: raw.prices.as_ref().map(prices),
        })
    }

    /// What variables of agent-backup-core say.
    pub(crate) fn with_environment(mut self, env: &Environment) -> Result<Self> {
        let wrong = |name: &str, what: String| Error::Value { name: name.to_owned(), what };
        if let Some(text) = env.text("B2_SCHEDULE")? {
            let table = Timetable::new(&[text], self.zone.clone());
            let table = table.map_err(|e| wrong("B2_SCHEDULE", e.to_string()))?;
            self.timetables.insert(Job::Push, table);
            self.push_is_scheduled = true;
        }
        if let Some(text) = env.text("B2_KEEP_SNAPSHOTS")? {
            let count = text.parse().ok().filter(|count| *count > 0);
            let count = count
                .ok_or_else(|| wrong("B2_KEEP_SNAPSHOTS", "write a number from 1".to_owned()))?;
            self.keep = Policy { last: count, ..Policy::default() };
            if !self.timetables.contains_key(&Job::Forget) {
                let standard = Timetable::new(&[DEFAULTS[1].1], self.zone.clone());
                self.timetables.insert(Job::Forget, standard.expect("the default is right"));
            }
        }
        for path in [&mut self.rehearsal_dir, &mut self.prometheus].into_iter().flatten() {
            *path = env.open_tilde(&path.to_string_lossy())?;
        }
        Ok(self)
    }
}

fn keep(raw: RawKeep, at: &At<'_>) -> Result<Policy> {
    let within = raw
        .within
        .map(|text| text.get_ref().parse::<Within>().map_err(|e| at.wrong(&text.span(), &e)));
    Ok(Policy {
        last: raw.last,
        hourly: raw.hourly,
        daily: raw.daily,
        weekly: raw.weekly,
        monthly: raw.monthly,
        yearly: raw.yearly,
        within: within.transpose()?,
        tags: raw.tags,
    })
}

fn prices(raw: &RawPrices) -> Prices {
    let known = Prices::B2;
    Prices {
        storage_gb_month: raw.storage_gb_month.unwrap_or(known.storage_gb_month),
        storage_gb_free: raw.storage_gb_free.unwrap_or(known.storage_gb_free),
        class_b_10000: raw.class_b_10000.unwrap_or(known.class_b_10000),
        class_c_1000: raw.class_c_1000.unwrap_or(known.class_c_1000),
        requests_free_day: raw.requests_free_day.unwrap_or(known.requests_free_day),
        download_gb: raw.download_gb.unwrap_or(known.download_gb),
        download_free_times: raw.download_free_times.unwrap_or(known.download_free_times),
    }
}

/// What `init` writes of it.
pub(super) const TEMPLATE: &str = r#"
# What `agent-backup daemon` does when. A schedule is hourly, daily, weekly, monthly, cron text ("30 8-18 * * 1-5"),
# a list of several, or "none". docs/daemon.md has all of it.
[daemon]
#push = "hourly"
#forget = "30 3 * * *"
#gc = "0 4 * * 0"
#verify = "0 5 * * 3"
#rehearsal = "0 6 1 * *"
#time_zone = "Europe/Berlin"
# Machines of one bucket start at different times: each so much later, at most.
#jitter = "5m"
# Push also when something changed and it was quiet for a while.
#push_on_change = true
#quiet = "2m"
# How long a last push may take when the daemon is asked to stop; "0" for none.
#last_push = "60s"
# Where nothing of any agent is yet, and this machine never pushed, bring back what there is before the first push.
#restore_when_empty = true
#nice = 10
#limit_upload = "2MiB"
#wait_for_mains = true
#wait_for_unmetered = true
#verify_max_bytes = "2GiB"
#verify_max_time = "30m"
#rehearsal_dir = "~/.cache/agent-backup/rehearsal"

# What stays when this machine's snapshots are forgotten; without a rule none is.
[daemon.keep]
#last = 10
#hourly = 24
#daily = 7
#weekly = 5
#monthly = 12
#yearly = 3
#within = "30d"

# Shell commands before and after each job; docs/daemon.md has what they find in their environment.
[daemon.hooks]
#before = "true"
#after = "true"
#failed = "mail -s backup me < /dev/null"
#time_limit = "5m"

[daemon.health]
#heartbeat = "https://hc-ping.com/..."
#prometheus = "/var/lib/node_exporter/agent-backup.prom"
#desktop = true
"#;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::file::ConfigFile;
    use super::*;

    fn read(text: &str) -> Result<Daemon> {
        Ok(ConfigFile::parse(text, Path::new("/c/config.toml"))?.0.daemon)
    }

    #[test]
    fn without_a_word_pushes_are_hourly_and_nothing_is_forgotten() {
        let daemon = read("").unwrap();
        let jobs: Vec<Job> = daemon.timetables.keys().copied().collect();
        assert_eq!(jobs, [Job::Push, Job::Gc, Job::Verify, Job::Rehearsal]);
        assert!(!daemon.push_is_scheduled && daemon.restore_when_empty && daemon.quiet.is_none());
        let daemon = read("[daemon]\ngc = \"none\"\n[daemon.keep]\ndaily = 7\n").unwrap();
        assert!(daemon.timetables.contains_key(&Job::Forget));
        assert!(!daemon.timetables.contains_key(&Job::Gc));
        assert_eq!(daemon.keep.daily, 7);
    }

    #[test]
    fn a_wrong_value_is_an_error_with_its_line_before_anything_runs() {
        for (text, begins) in [
            (
                "[daemon]\npush = \"sometimes\"\n",
                "/c/config.toml:2: push: 'sometimes' is no schedule",
            ),
            (
                "[daemon]\npush = [\"hourly\", \"0 0 30 2 *\"]\n",
                "/c/config.toml:2: push: '0 0 30 2 *'",
            ),
            ("[daemon]\npush = []\n", "/c/config.toml:2: push: name a schedule"),
            ("[daemon]\npush = 7\n", "/c/config.toml:2: push: invalid type"),
            ("[daemon]\nshedule = \"daily\"\n", "/c/config.toml:2: shedule: unknown field"),
            ("[daemon]\ntime_zone = \"Mars\"\n", "/c/config.toml:2: time_zone: no such time zone"),
            ("[daemon]\nquiet = \"soon\"\n", "/c/config.toml:2: quiet: 'soon' is not a time"),
            ("[daemon]\nnice = 30\n", "/c/config.toml:2: nice: write a number"),
            ("[daemon.keep]\nwithin = \"long\"\n", "/c/config.toml:2: within: 'long'"),
            ("[daemon.hooks]\nbefore = \" \"\n", "/c/config.toml:2: before: it is empty"),
            (
                "[daemon.health]\nprometheus = \"x\"\n",
                "/c/config.toml:2: prometheus: write an absolute",
            ),
            (
                "[daemon.health]\nheartbeat = \"hunter2\"\n",
                "/c/config.toml:2: heartbeat: it is no address",
            ),
        ] {
            let said = read(text).unwrap_err().to_string();
            assert!(said.starts_with(begins), "{text:?} gave {said:?}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn a_heartbeat_is_treated_as_a_secret() {
        let text = "[daemon.health]\nheartbeat = \"https://hc-ping.com/hunter2\"\n";
        let (config, holds_secret) = ConfigFile::parse(text, Path::new("c")).unwrap();
        assert!(holds_secret);
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn variables_of_agent_backup_core_set_the_schedule_and_what_is_kept() {
        let mut env = Environment::default();
        env.vars.insert("HOME".into(), "/home/me".into());
        env.vars.insert("B2_SCHEDULE".into(), "weekly".into());
        env.vars.insert("B2_KEEP_SNAPSHOTS".into(), "10".into());
        let daemon = read("[daemon]\npush = \"daily\"\n").unwrap().with_environment(&env).unwrap();
        assert_eq!(daemon.timetables[&Job::Push].texts().collect::<Vec<_>>(), ["weekly"]);
        assert_eq!(daemon.keep.last, 10);
        assert!(daemon.timetables.contains_key(&Job::Forget));
        for (name, value) in [("B2_SCHEDULE", "often"), ("B2_KEEP_SNAPSHOTS", "0")] {
            let mut env = env.clone();
            env.vars.insert(name.into(), value.into());
            let error = Daemon::default().with_environment(&env).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
