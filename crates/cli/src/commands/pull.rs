//! `pull`: a snapshot becomes files again, below a directory or where each root lives here.

mod live;
mod moved;
mod report;
mod safety;
mod session;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result};
use engine::Session;
use engine::pull::{self, Options, Part, Placement, Plan, SnapshotContent, strip_path};
use engine::view::split_spec;
use repo::{RootRecord, Snapshot};
use store::Address;

use crate::args::{Overwrite, Pull};
use crate::commands::snapshots::short_id;
use crate::commands::{Context, named, push};
use crate::connect::{self, Wanted};
use crate::exit::{Exit, Stop, Usage};
use crate::settings::absolute;
use crate::ui::progress::Meter;
use crate::ui::{Screen, count, sanitize};
use live::Live;
use moved::Mapped;

/// Reads from a bucket under way at once: each waits for the network most of the time.
const REMOTE_WORKERS: usize = 8;

pub(crate) fn run(args: &Pull, context: &Context<'_>) -> Result<Exit> {
    if let Some(id) = &args.session {
        return session::run(id, args, context);
    }
    let Context { settings, screen, .. } = context;
    let limit_upload = settings.push.limit_upload;
    let cancel = context.signals.flag();
    let wanted_store = Wanted { patient: true, limit_upload, cancel, ..Wanted::default() };
    let connection = connect::open(settings, wanted_store, screen)?;
    let session = &connection.session;
    named::check(&args.agent, session, settings)?;
    let (spec, path) = split_spec(&args.snapshot);
    // every snapshot keeps what is gone of all agents of its machine
    let agent = args.agent.as_deref().filter(|_| !args.gone);
    let mut snapshot = session.select(spec, agent, args.host.as_deref())?;
    if args.gone {
        let gone = std::mem::take(&mut snapshot.gone_roots);
        snapshot.roots.extend(gone);
    }
    let (roots, mut globs) =
        wanted(&snapshot, path, args.agent.as_deref(), !args.paths.is_empty())?;
    globs.extend(args.paths.iter().cloned());
    let here = snapshot.machine == *session.machine_id();
    if !here && spec.starts_with("latest") && args.host.is_none() {
        tell_whose(&snapshot, agent, session, screen)?;
    }
    let live = Live::look(&roots, settings)?;
    let to = match &args.to {
        Some(dir) => Placement::Under(absolute(dir)?),
        None => Placement::Each(live.places(&roots, here)?),
    };
    let mapped = moved::decide(args, &snapshot, &roots, &live, context)?;
    let labels: Vec<Vec<u8>> = roots.iter().map(|r| r.label.clone().into_bytes()).collect();
    let mut options = Options {
        labels: labels.clone(),
        paths: globs,
        overwrite: overwrite(args.overwrite, args.gone),
        delete: args.delete,
        verify: args.verify,
        even_if_open: args.even_if_open,
        filters: live.filters(&roots)?,
        secrets_stay: push::secrets_stay(settings)?,
        shared: vec![settings.adapters_env.home.clone()],
        moves: mapped.moves.clone(),
        ..Options::new(to)
    };
    if !matches!(settings.which.address(), Address::Local(_)) {
        options.workers = options.workers.max(REMOTE_WORKERS);
    }
    let content = if args.gone {
        SnapshotContent::gone(session, &snapshot)?
    } else {
        SnapshotContent::open(session, &snapshot)?
    };
    let content = Part::new(content, labels);
    // where nobody is asked, what is not restored because of a signal is told from here on
    let asks = args.to.is_none() && !args.yes && !args.dry_run;
    let cancel = if asks { context.signals.flag() } else { Arc::clone(context.signals.graceful()) };
    let mut plan = Plan::make(&content, &options, &cancel).context("cannot plan the restore")?;
    if plan.items.is_empty() {
        let what = format!("snapshot {} has nothing that fits", short_id(&snapshot.id));
        let ls = if args.gone { "ls --gone" } else { "ls -R" };
        let hint = format!("agent-backup {ls} shows what it has");
        return Err(Stop::new(Exit::Failed, what, hint).into());
    }
    let running = if args.to.is_none() { live.running(&roots, Some(&plan)) } else { Vec::new() };
    let running = live::tell_running(&running, screen).filter(|_| !args.while_running);
    if args.dry_run {
        let rewrites = in_scratch(&mapped, |scratch| {
            plan.rehearse(&content, &options.filters, scratch, &cancel)
        })?;
        let saved = !args.no_safety_snapshot && plan.replaces();
        let ahead = report::Ahead { running, saved, mapped: &mapped, rewrites, session: None };
        return report::dry_run(&plan, &snapshot, &ahead, context);
    }
    if let Some(running) = running {
        let what = format!("{running}; it would write over what is restored");
        let hint = "stop it and run this again; --while-running restores all the same";
        return Err(Stop::new(Exit::Refused, what, hint).into());
    }
    // what is as a move makes it is neither asked about nor saved
    in_scratch(&mapped, |scratch| {
        plan.settle_databases(&content, &options.filters, scratch, &cancel)
    })?;
    if args.to.is_none() && !args.yes {
        confirm(&plan, &snapshot, context)?;
    }
    let cancel: &Arc<AtomicBool> = context.signals.graceful();
    let before = if args.no_safety_snapshot {
        safety::Done::default()
    } else {
        let roots = live.roots(&roots, &options.to)?;
        safety::save(&mut plan, &roots, options.overwrite, session, context)?
    };
    let meter = Meter::new(screen);
    let done = pull::apply(&content, &plan, &options, &meter, cancel);
    let told = [before.told, meter.finish()].concat();
    let done = done.context("the restore stopped")?;
    report::tell(&done, (&mapped, &plan), &told, &snapshot, before.snapshot.as_ref(), None, context)
}

/// Looks at what a move would do, if there is one; databases are looked into in a place that is gone then.
fn in_scratch<T: Default>(
    mapped: &Mapped,
    look: impl FnOnce(&Path) -> pull::Result<T>,
) -> Result<T> {
    if mapped.moves.is_none() {
        return Ok(T::default());
    }
    let scratch = tempfile::Builder::new().prefix("agent-backup-move-").tempdir();
    let scratch = scratch.context("cannot make a scratch directory")?;
    look(scratch.path()).context("cannot plan the restore")
}

/// The roots that are wanted, and a glob for a path inside of one.
fn wanted<'s>(
    snapshot: &'s Snapshot,
    path: &str,
    agent: Option<&str>,
    has_globs: bool,
) -> Result<(Vec<&'s RootRecord>, Vec<String>)> {
    let mut roots: Vec<&RootRecord> = snapshot
        .roots
        .iter()
        .filter(|root| agent.is_none_or(|agent| root.agent.as_deref() == Some(agent)))
        .collect();
    if roots.is_empty() {
        let agent = sanitize::text(agent.unwrap_or_default());
        let what = format!("snapshot {} has nothing of {agent}", short_id(&snapshot.id));
        return Err(Stop::new(Exit::Failed, what, "agent-backup snapshots").into());
    }
    if path.is_empty() {
        return Ok((roots, Vec::new()));
    }
    let below = |root: &&RootRecord| strip_path(root.label.as_bytes(), path.as_bytes()).is_some();
    if roots.iter().any(below) {
        roots.retain(below);
        return Ok((roots, Vec::new()));
    }
    if has_globs {
        return Err(Usage("give SNAPSHOT:PATH or --path, not both".into()).into());
    }
    roots.retain(|root| strip_path(path.as_bytes(), root.label.as_bytes()).is_some());
    if roots.is_empty() {
        let shown = sanitize::text(path);
        let what = format!("snapshot {} has nothing at {shown}", short_id(&snapshot.id));
        return Err(Stop::new(Exit::Failed, what, "agent-backup ls -R shows what it has").into());
    }
    Ok((roots, vec![literal(path)]))
}

/// A glob that matches this text alone.
fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '!' | '\\') {
            out.extend(['[', c, ']']);
        } else {
            out.push(c);
        }
    }
    out
}

/// What is there again, where something was gone, is newer.
fn overwrite(typed: Overwrite, gone: bool) -> pull::Overwrite {
    match typed {
        Overwrite::IfChanged if gone => pull::Overwrite::Never,
        Overwrite::Always => pull::Overwrite::Always,
        Overwrite::IfChanged => pull::Overwrite::IfChanged,
        Overwrite::IfNewer => pull::Overwrite::IfNewer,
        Overwrite::Never => pull::Overwrite::Never,
    }
}

/// `latest` is the newest of all machines.
fn tell_whose(
    snapshot: &Snapshot,
    agent: Option<&str>,
    session: &Session,
    screen: &Screen,
) -> Result<()> {
    let all = session.snapshots()?;
    let ours = all.iter().filter(|s| s.machine == *session.machine_id() && !s.is_safety());
    let ours = ours.filter(|s| agent.is_none_or(|agent| s.agents().contains(&agent)));
    let ours = ours.max_by_key(|s| s.order());
    let ours = ours.map(|own| format!("; the newest of this one is {}", short_id(&own.id)));
    screen.note(format_args!(
        "snapshot {} was made on {}, another machine{}",
        short_id(&snapshot.id),
        sanitize::text(&snapshot.host),
        ours.unwrap_or_default()
    ));
    Ok(())
}

/// Asks before anything that is there changes.
fn confirm(plan: &Plan, snapshot: &Snapshot, context: &Context<'_>) -> Result<()> {
    let totals = &plan.totals;
    let replaced = totals.replace + totals.patch;
    if replaced == 0 {
        return Ok(());
    }
    let what = format!(
        "{} would be replaced by what snapshot {} has",
        count(replaced, "file", "files"),
        short_id(&snapshot.id)
    );
    let question = format!("{what}, and {} made. Go on?", totals.create);
    match context.screen.ask(&question)? {
        Some(true) => Ok(()),
        Some(false) => {
            Err(Stop::new(Exit::Refused, "nothing was changed", "pull --to DIR to look first")
                .into())
        }
        None => {
            let hint = "say --yes, or --to DIR, or --overwrite never; --dry-run shows each file";
            Err(Stop::new(Exit::Refused, what, hint).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_not_the_beginning_of_another_label() {
        assert!(strip_path(b"codex/home", b"codex").is_some());
        assert!(strip_path(b"codex", b"codex").is_some());
        assert!(strip_path(b"codex-2/home", b"codex").is_none());
    }

    fn snapshot() -> Snapshot {
        let root = |label: &str, agent: Option<&str>| RootRecord {
            label: label.into(),
            agent: agent.map(str::to_owned),
            dir: b"/home/me/there".to_vec(),
        };
        Snapshot {
            id: repo::OpId([7; 16]),
            machine: repo::MachineId([1; 16]),
            host: "h".into(),
            user: "u".into(),
            started_nanos: 0,
            finished_nanos: 0,
            counter: 1,
            previous: None,
            previous_hash: None,
            roots: vec![
                root("codex/home", Some("codex")),
                root("codex/state", Some("codex")),
                root("notes", None),
            ],
            tree: repo::BlockId([0; 32]),
            stats: repo::PushStats::default(),
            program: String::new(),
            tags: Vec::new(),
            os: "linux".into(),
            home: None,
            reason: None,
            groups: Vec::new(),
            damaged: Vec::new(),
            origin: None,
            instead_of: None,
            gone_roots: Vec::new(),
            imported: None,
        }
    }

    #[test]
    fn a_path_takes_whole_roots_or_a_part_of_one_and_nothing_beside_it() {
        let snapshot = snapshot();
        let take = |path: &str, agent: Option<&str>| {
            wanted(&snapshot, path, agent, false).map(|(roots, globs)| {
                (roots.iter().map(|r| r.label.as_str()).collect::<Vec<_>>(), globs)
            })
        };
        let all = vec!["codex/home", "codex/state", "notes"];
        assert_eq!(take("", None).unwrap(), (all, vec![]));
        assert_eq!(take("", Some("codex")).unwrap().0, ["codex/home", "codex/state"]);
        assert_eq!(take("codex", None).unwrap(), (vec!["codex/home", "codex/state"], vec![]));
        assert_eq!(take("notes", None).unwrap(), (vec!["notes"], vec![]));
        let part = take("codex/home/a*b", None).unwrap();
        assert_eq!(part, (vec!["codex/home"], vec!["codex/home/a[*]b".to_owned()]));
        for (path, agent) in [("note", None), ("", Some("goose")), ("notes", Some("codex"))] {
            assert!(take(path, agent).is_err(), "{path} {agent:?}");
        }
        assert!(wanted(&snapshot, "notes/x", None, true).is_err(), "two ways to say which part");
        assert!(wanted(&snapshot, "notes", None, true).is_ok());
    }

    #[test]
    fn a_path_with_glob_characters_means_itself() {
        assert_eq!(literal("a/[x]*.md"), "a/[[]x[]][*].md");
        assert_eq!(literal("plain/path-1.txt"), "plain/path-1.txt");
    }
}
