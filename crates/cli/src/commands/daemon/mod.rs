//! `daemon`: the engine's daemon with this machine's settings, its lines on standard error.

mod heap;
mod work;

use std::collections::BTreeMap;
use std::ffi::OsString;

use anyhow::Result;
use engine::SystemClock;
use engine::daemon::health::Health;
use engine::daemon::{self, Ended, Event, Hooks, Job, Options, Place, Power};
use engine::status::Local;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::args;
use crate::commands::Context;
use crate::exit::{Exit, Stop};
use crate::settings::Daemon;
use crate::signals;
use crate::ui::table::{Align, Table};
use crate::ui::{count, sanitize, time};
use work::Worker;

#[derive(Serialize)]
struct Document {
    pushes: u64,
}

#[derive(Serialize)]
struct DryDocument {
    dry_run: bool,
    repository: String,
    jobs: Vec<Planned>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Planned {
    job: &'static str,
    schedule: Vec<String>,
    next: Option<String>,
}

pub(crate) fn run(args: &args::Daemon, context: &Context<'_>) -> Result<Exit> {
    let Context { settings, screen, .. } = context;
    let daemon = context.daemon()?;
    let address = settings.which.address().to_string();
    screen.set_place(&address);
    if args.dry_run {
        return dry_run(&daemon, &address, context);
    }
    heap::have_one(context.env);
    let place = Place::take(&settings.state_dir, &address)?;
    let options = options(&daemon, address, context);
    let silent = screen.json() || screen.quiet();
    let local = Local::read(&settings.state_dir, &options.address);
    let last = Job::ALL.into_iter().filter_map(|job| Some((job, local.done(job)?))).collect();
    let worker = Worker::new(settings.clone(), daemon, local.repository.is_some(), silent);
    for note in &options.notes {
        worker.say(None, note);
    }
    worker.say(None, &format!("started for {}", options.address));
    let (sender, events) = daemon::channel();
    let stop = sender.clone();
    // a daemon that is gone needs no signal
    let handle = signals::tell(move || drop(stop.send(Event::Stop)))?;
    let ended = daemon::run(&place, &options, &worker, &SystemClock, (&sender, &events), &last);
    handle.close();
    drop(worker);
    finish(ended, context)
}

fn finish(ended: Ended, context: &Context<'_>) -> Result<Exit> {
    if let Some(failed) = ended.failed {
        let exit = Exit::of_code(failed.code).unwrap_or(Exit::Failed);
        return Err(Stop { exit, what: failed.message, hint: failed.hint }.into());
    }
    if ended.cut {
        return Ok(signals::exit());
    }
    if context.screen.json() {
        context.screen.document(&Document { pushes: ended.pushes })?;
    } else {
        context.screen.note(format_args!("ended after {}", count(ended.pushes, "push", "pushes")));
    }
    Ok(Exit::Done)
}

/// What the settings ask for, and what of it this machine cannot do.
fn options(daemon: &Daemon, address: String, context: &Context<'_>) -> Options {
    let Context { settings, screen, .. } = context;
    let env: Vec<(OsString, OsString)> = settings
        .adapters_env
        .vars
        .iter()
        .map(|(name, value)| (name.into(), value.clone()))
        .collect();
    let path = settings.adapters_env.vars.get("PATH").cloned();
    let power = Power {
        mains: daemon.wait_for_mains,
        unmetered: daemon.wait_for_unmetered,
        path: path.unwrap_or_else(|| Power::any().path),
        ..Power::any()
    };
    let mut notes = power.unknown();
    notes.extend(lower_priority(daemon.nice));
    Options {
        address,
        timetables: daemon.timetables.clone(),
        machine: format!("{} {}", settings.machine.host, settings.machine.user),
        jitter: daemon.jitter,
        restore: daemon.restore_when_empty,
        quiet: daemon.quiet,
        last_push: daemon.last_push,
        hooks: Hooks {
            before: daemon.before.clone(),
            after: daemon.after.clone(),
            failed: daemon.failed.clone(),
            time_max: daemon.hook_time_max,
            env,
            silent: screen.json() || screen.quiet(),
        },
        health: Health {
            heartbeat: daemon.heartbeat.as_ref().map(|url| url.0.to_string()),
            prometheus: daemon.prometheus.clone(),
            desktop: daemon.desktop.clone(),
        },
        power,
        notes,
    }
}

/// Others go first. On Linux the priority at the disk follows that at the processor. Must come before any
/// thread is started: there each has its own.
fn lower_priority(nice: i32) -> Option<String> {
    if nice == 0 {
        return None;
    }
    let lowered = rustix::process::nice(nice);
    lowered.err().map(|e| format!("the priority was not lowered: {e}"))
}

/// What would run when.
fn dry_run(daemon: &Daemon, address: &str, context: &Context<'_>) -> Result<Exit> {
    let screen = context.screen;
    let now = Timestamp::now();
    let table_of = |job: &Job| daemon.timetables.get(job);
    let jobs: Vec<(Job, Vec<String>, Option<Timestamp>)> = Job::ALL
        .into_iter()
        .filter_map(|job| Some((job, table_of(&job)?)))
        .map(|(job, table)| {
            (job, table.texts().map(str::to_owned).collect(), table.next_after(now))
        })
        .collect();
    let power = Power {
        mains: daemon.wait_for_mains,
        unmetered: daemon.wait_for_unmetered,
        ..Power::any()
    };
    let notes = power.unknown();
    if screen.json() {
        let planned = |(job, schedule, next): (Job, Vec<String>, Option<Timestamp>)| Planned {
            job: job.name(),
            schedule,
            next: next.map(|at| at.to_string()),
        };
        let jobs = jobs.into_iter().map(planned).collect();
        let repository = address.to_owned();
        screen.document(&DryDocument { dry_run: true, repository, jobs, notes })?;
        return Ok(Exit::Done);
    }
    let columns = [("JOB", Align::Left), ("SCHEDULE", Align::Left), ("NEXT", Align::Left)];
    let mut table = Table::new(&columns);
    for (job, texts, next) in jobs {
        let next = next.map_or("never".to_owned(), |at| time::show_secs(at.as_second()));
        table.row(vec![job.name().to_owned(), sanitize::text(&texts.join("; ")), next]);
    }
    for line in table.lines() {
        screen.line(line)?;
    }
    for note in notes {
        screen.note(note);
    }
    screen.note("dry run: nothing was started");
    Ok(Exit::Done)
}

/// Schedules and jitter of this machine, for whoever judges what is overdue.
pub(crate) fn limits(daemon: &Daemon, local: &Local) -> engine::status::Limits {
    // without a daemon and a schedule that somebody named, nobody promised anything
    let promised = daemon.push_is_scheduled || local.record.is_some();
    let timetables = if promised { daemon.timetables.clone() } else { BTreeMap::new() };
    let jitter = daemon.jitter.try_into().unwrap_or_default();
    engine::status::Limits { timetables, jitter, age_max: None }
}

/// A line of the daemon, with its time.
fn line(job: Option<Job>, text: &str) -> String {
    let now = Timestamp::now().to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S");
    let job = job.map(|job| format!("{job}: ")).unwrap_or_default();
    format!("{now} {job}{}", sanitize::text(text))
}
