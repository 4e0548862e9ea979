//! `pull --session`: one session with its forks, sub-agents and further files, and its entries in the
//! catalogues of its agent.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use engine::pull::{self, Options, Placement, Plan};
use engine::sessions::{self, MergeOptions, Merged};
use repo::RootRecord;
use serde::Serialize;
use store::Address;

use super::live::{self, Live};
use super::moved::Mapped;
use super::report::{self, SessionPart};
use super::{REMOTE_WORKERS, confirm, literal, overwrite, safety};
use crate::args::Pull;
use crate::commands::{Context, damaged, named, push};
use crate::connect::{self, Wanted};
use crate::exit::{Exit, Stop};
use crate::settings::absolute;
use crate::ui::progress::Meter;
use crate::ui::{count, json, sanitize};

/// What happened to a catalogue, in documents.
#[derive(Debug, Clone, Serialize)]
pub(super) struct CatalogueRecord {
    #[serde(flatten)]
    path: json::Path,
    added: u64,
    created: bool,
    other: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    absent: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blanks: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl From<&Merged> for CatalogueRecord {
    fn from(merged: &Merged) -> Self {
        Self {
            path: json::Path::new(merged.path.as_bytes()),
            added: merged.added,
            created: merged.created,
            other: merged.other,
            absent: merged.absent.clone(),
            blanks: merged.blanks.clone(),
            problem: merged.problem.clone(),
        }
    }
}

pub(super) fn run(id: &str, args: &Pull, context: &Context<'_>) -> Result<Exit> {
    let Context { settings, screen, .. } = context;
    let limit_upload = settings.push.limit_upload;
    let cancel = context.signals.flag();
    let wanted_store = Wanted { patient: true, limit_upload, cancel, ..Wanted::default() };
    let connection = connect::open(settings, wanted_store, screen)?;
    let session = &connection.session;
    named::check(&args.agent, session, settings)?;
    let adapters = settings.adapters()?;
    let graceful = context.signals.graceful();
    let all = sessions::find(session, &adapters, graceful)?;
    // an older snapshot may have less of it
    let not_all = damaged::tell(&all.damaged, screen, Exit::Done);
    let found = all.select(id, args.agent.as_deref(), args.host.as_deref())?;
    let family = all.family(found);
    let mut restore = sessions::restore(session, &family, graceful)?;
    let roots = restore.roots().to_vec();
    let roots: Vec<&RootRecord> = roots.iter().collect();
    let here = restore.snapshot().machine == *session.machine_id();
    let live = Live::look(&roots, settings)?;
    let to = match &args.to {
        Some(dir) => Placement::Under(absolute(dir)?),
        None => Placement::Each(live.places(&roots, here)?),
    };
    let mut options = Options {
        labels: restore.labels().into_iter().collect(),
        paths: restore.files().iter().map(|path| literal(path)).collect(),
        overwrite: overwrite(args.overwrite, false),
        verify: args.verify,
        even_if_open: args.even_if_open,
        filters: live.filters(&roots)?,
        secrets_stay: push::secrets_stay(settings)?,
        shared: vec![settings.adapters_env.home.clone()],
        ..Options::new(to.clone())
    };
    if !matches!(settings.which.address(), Address::Local(_)) {
        options.workers = options.workers.max(REMOTE_WORKERS);
    }
    let part = |sessions, merged: &[Merged]| SessionPart {
        sessions,
        catalogues: merged.iter().map(CatalogueRecord::from).collect(),
        damaged_snapshots: damaged::records(&all.damaged),
    };
    let ids: Vec<String> = family.iter().map(|one| one.id.clone()).collect();
    if family.len() > 1 {
        let more = count(family.len() as u64 - 1, "fork or sub-agent", "forks and sub-agents");
        screen.note(format_args!("with {more}"));
    }
    let snapshot = &restore.snapshot().clone();
    let has_files = !restore.files().is_empty();
    let mut plan = Plan::make(&restore, &options, graceful).context("cannot plan the restore")?;
    for (path, at) in restore.catalogues(&to) {
        plan.adds_to(path, at);
    }
    let mapped = Mapped::default();
    let running = if args.to.is_none() { live.running(&roots, None) } else { Vec::new() };
    let running = live::tell_running(&running, screen).filter(|_| !args.while_running);
    let merging = MergeOptions { dry_run: args.dry_run, even_if_open: args.even_if_open };
    if args.dry_run {
        let none = BTreeSet::new();
        let merged = sessions::merge(session, &restore, &none, &to, merging, graceful)?;
        tell(&merged, true, context)?;
        let saved = !args.no_safety_snapshot && plan.replaces();
        let (mapped, rewrites, session) = (&mapped, Vec::new(), Some(part(ids, &merged)));
        let ahead = report::Ahead { running, saved, mapped, rewrites, session };
        return report::dry_run(&plan, snapshot, &ahead, context);
    }
    if let Some(running) = running {
        let what =
            format!("{running}; it would not see what is added to its lists, or write over it");
        let hint = "stop it and run this again; --while-running restores all the same";
        return Err(Stop::new(Exit::Refused, what, hint).into());
    }
    if args.to.is_none() && !args.yes {
        confirm(&plan, snapshot, context)?;
    }
    let before = if args.no_safety_snapshot {
        safety::Done::default()
    } else {
        let roots = live.roots(&roots, &to)?;
        safety::save(&mut plan, &roots, options.overwrite, session, context)?
    };
    for one in &before.closed {
        restore.close(&one.path, one.what.clone());
    }
    let meter = Meter::new(screen);
    let cancel = Arc::clone(context.signals.graceful());
    // files first: what a catalogue lists is there
    let done = pull::apply(&restore, &plan, &options, &meter, &cancel);
    let told = [before.told, meter.finish()].concat();
    let mut done = done.context("the restore stopped")?;
    let missing = restore.missing(&done);
    let merged = sessions::merge(session, &restore, &missing, &to, merging, &cancel)?;
    tell(&merged, false, context)?;
    done.problems.extend(merged.iter().filter_map(problem));
    if !has_files && merged.is_empty() {
        let what = format!("nothing of session {} can be restored", sanitize::text(&found.id));
        return Err(Stop::new(Exit::Failed, what, "agent-backup sessions --json").into());
    }
    let part = part(ids, &merged);
    let saved = before.snapshot.as_ref();
    let exit = report::tell(&done, (&mapped, &plan), &told, snapshot, saved, Some(part), context)?;
    Ok(if exit == Exit::Done { not_all } else { exit })
}

fn problem(merged: &Merged) -> Option<pull::Problem> {
    let reason = merged.problem.clone()?;
    Some(pull::Problem { path: merged.path.clone().into_bytes(), reason })
}

/// What happened to catalogues, for people.
fn tell(merged: &[Merged], dry_run: bool, context: &Context<'_>) -> Result<()> {
    let screen = context.screen;
    for one in merged {
        let path = sanitize::text(&one.path);
        if let Some(why) = &one.problem {
            screen.note(format_args!("not merged: {path}: {}", sanitize::text(why)));
            continue;
        }
        let entries = count(one.added, "entry", "entries");
        let line = match (dry_run, one.created) {
            (true, _) => format!("merge    {path} ({entries})"),
            (false, true) => format!("{path}: made with {entries} of this session"),
            (false, false) => format!("{path}: {entries} added"),
        };
        screen.line(line)?;
        if one.other > 0 {
            let other = count(one.other, "entry is", "entries are");
            screen.note(format_args!("  {other} there and different; what is there stays"));
        }
        if !one.blanks.is_empty() {
            let blanks = sanitize::text(&one.blanks.join(", "));
            screen.note(format_args!("  marks stand in it, to be filled in by hand: {blanks}"));
        }
        if !one.absent.is_empty() {
            let absent = sanitize::text(&one.absent.join(", "));
            screen.note(format_args!("  not there, so left out: {absent}"));
        }
    }
    Ok(())
}
