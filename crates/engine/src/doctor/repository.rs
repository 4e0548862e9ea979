//! The repository as it stands: who can open it, what was begun and not ended, when the last push was.
//!
//! One listing of everything, the key slots and the snapshots; no pack is read.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use repo::gc::{PREFIXES, STALE_AFTER};
use repo::keys::{self, SlotKind};
use repo::{OpId, Snapshot};
use store::Item;

use super::{Finding, quote};
use crate::error::{Error, Result};
use crate::journal::{self, VerifyDone};
use crate::session::{Dirs, Session};
use crate::state::{GcState, State};

/// A list of condemned packs is swept a day later by whoever collects; after so long nobody did.
const CONDEMNED_AFTER: Duration = Duration::from_secs(40 * 24 * 3600);
/// Looks at what is stored should be no further apart.
const LOOK_DAYS_MAX: i64 = 35;
/// How far a clock may be off before ages mean nothing.
const CLOCK_SECS_MAX: i64 = 300;

/// What is known besides the repository.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Our directories.
    pub dirs: &'a Dirs,
    /// The directory that the repository is, if it is one.
    pub local: Option<&'a Path>,
    /// Agents that are on this machine.
    pub agents_here: &'a [String],
    /// The newest push of this machine should be no older.
    pub push_age_max: Duration,
}

/// Looks at an open repository.
pub fn repository(session: &Session, about: About<'_>) -> Result<Vec<Finding>> {
    let listed = session.repo.store().list("")?;
    let mut found = Vec::new();
    strangers(&listed, about.local, &mut found);
    keys(session, about.dirs, &mut found)?;
    unfinished(session, &mut found)?;
    let now_secs = u64::try_from(session.clock.now_secs()).unwrap_or_default();
    operations(&listed, SystemTime::UNIX_EPOCH + Duration::from_secs(now_secs), &mut found);
    snapshots(session, about, &mut found)?;
    Ok(found)
}

/// What no version of ours put there stops a collection.
fn strangers(listed: &[Item], local: Option<&Path>, found: &mut Vec<Finding>) {
    let first = |item: &Item| item.name.split('/').next().unwrap_or_default().to_owned();
    let strange: BTreeSet<String> =
        listed.iter().map(first).filter(|dir| !PREFIXES.contains(&dir.as_str())).collect();
    for name in strange {
        let what =
            format!("{name} in the repository is none of its objects; gc stops because of it");
        let finding = Finding::fault("strangers", what);
        let command = local.and_then(super::quote_path).map(|repo| {
            let name = quote(&name);
            format!("mkdir -p {repo}.strangers && mv {repo}/{name} {repo}.strangers/")
        });
        found.push(match command {
            Some(command) => finding.mend(command),
            None => finding.hint("move it out of the repository's prefix with the storage's tools"),
        });
    }
}

fn keys(session: &Session, dirs: &Dirs, found: &mut Vec<Finding>) -> Result<()> {
    let store = session.repo.store();
    let mut kinds = Vec::new();
    for id in keys::list(store)? {
        match keys::read(store, id) {
            Ok(slot) => kinds.push(slot.kind()),
            Err(e) => found.push(
                Finding::fault("keys", format!("a key does not open: {e}"))
                    .mend("agent-backup verify"),
            ),
        }
    }
    let recovery = "agent-backup key add --recovery";
    match (kinds.contains(&SlotKind::Recovery), kinds.contains(&SlotKind::Passphrase)) {
        (true, _) => found.push(Finding::fine("recovery", "a recovery code opens the repository")),
        (false, true) => found.push(
            Finding::advice("recovery", "no recovery code opens the repository, only a passphrase")
                .mend(recovery),
        ),
        (false, false) => found.push(
            Finding::fault(
                "recovery",
                "only keys of machines open the repository: if they are lost, so is all of it",
            )
            .mend(recovery),
        ),
    }
    if !Session::has_machine_key(dirs, session.repo.config()) {
        let what = "this machine has no key of its own, and needs the passphrase for each run";
        found.push(Finding::advice("machine-key", what).mend("agent-backup key enroll"));
    }
    Ok(())
}

/// What a crash on this machine left, unless it still runs.
fn unfinished(session: &Session, found: &mut Vec<Finding>) -> Result<()> {
    let runs = |dir: &crate::state::StateDir| match dir.lock() {
        Ok(_) => Ok(false),
        Err(Error::Busy { .. }) => Ok(true),
        Err(e) => Err(e),
    };
    if session.state.load::<State>()?.unfinished.is_some() && !runs(&session.state)? {
        let what = "a push of this machine was cut short; until it is ended, gc waits for it";
        found.push(Finding::fault("unfinished-push", what).mend("agent-backup push"));
    }
    let gc = session.state.of_gc()?;
    if gc.load::<GcState>()?.unfinished.is_some() && !runs(&gc)? {
        let what =
            "a collection of this machine was cut short; the space it began to free is in use";
        found.push(Finding::fault("unfinished-gc", what).mend("agent-backup gc"));
    }
    Ok(())
}

/// Operations that ended without saying so, and packs that nobody sweeps or mends.
fn operations(listed: &[Item], now: SystemTime, found: &mut Vec<Finding>) {
    let old = |item: &Item, after: Duration| {
        now.duration_since(item.modified).is_ok_and(|age| age >= after)
    };
    let under = |dir: &'static str| {
        listed.iter().filter_map(move |item| Some((item.name.strip_prefix(dir)?, item)))
    };
    let ids = |dir| under(dir).filter_map(|(id, _)| OpId::from_hex(id));
    let ended: BTreeSet<OpId> =
        ids("snap/").chain(ids("end/")).chain(ids("dead/")).chain(ids("forgot/")).collect();
    let stale = under("op/")
        .filter(|(_, item)| old(item, STALE_AFTER))
        .filter_map(|(id, _)| OpId::from_hex(id))
        .filter(|id| !ended.contains(id))
        .count();
    if stale > 0 {
        let what = format!(
            "{} began and gave no sign for a day; what they uploaded takes space",
            plural(stale, "operation", "operations")
        );
        found.push(Finding::fault("stale-operations", what).mend("agent-backup gc"));
    }
    let lists = under("gc/").filter(|(name, item)| {
        Path::new(name).extension().is_some_and(|e| e == "d") && old(item, CONDEMNED_AFTER)
    });
    let lists = lists.count();
    if lists > 0 {
        let what = format!(
            "{} of packs to remove {} waited for over a month: no collection came by",
            plural(lists, "list", "lists"),
            if lists == 1 { "has" } else { "have" }
        );
        found.push(Finding::advice("unswept", what).mend("agent-backup gc"));
    }
    let there: BTreeSet<&str> = under("packs/").map(|(name, _)| name).collect();
    let bad = under("gc/bad-").filter(|(name, _)| there.contains(name)).count();
    if bad > 0 {
        let what = format!(
            "{} damaged; `agent-backup verify` says whom that touches",
            if bad == 1 { "1 pack is".to_owned() } else { format!("{bad} packs are") }
        );
        found.push(Finding::advice("quarantine", what).mend("agent-backup repair --from-source"));
    }
}

fn snapshots(session: &Session, about: About<'_>, found: &mut Vec<Finding>) -> Result<()> {
    let (all, damaged) = session.snapshots_listed()?;
    if let Some(first) = damaged.first() {
        let what = match damaged.len() {
            1 => format!("snapshot {} does not open: {}", first.id, first.what),
            n => format!("{n} snapshots do not open, {} among them: {}", first.id, first.what),
        };
        found.push(Finding::fault("damage", what).mend("agent-backup repair --from-source"));
    }
    let ours: Vec<_> =
        all.iter().filter(|s| s.machine == session.machine_id && !s.is_safety()).collect();
    let Some(newest) = ours.iter().max_by_key(|s| s.finished_nanos) else {
        if !damaged.is_empty() {
            return Ok(()); // one of them may be its own
        }
        let what = "this machine never pushed to this repository";
        found.push(Finding::fault("push-age", what).mend("agent-backup push --always"));
        return Ok(());
    };
    let now = session.clock.now_secs();
    let last = journal::read(session.state.path()).verify;
    let secs = |s: &Snapshot| s.finished_nanos.div_euclid(1_000_000_000);
    found.push(last_look(last.as_ref(), ours.iter().map(|s| secs(s)).min(), now));
    found.push(push_age(now, secs(newest), about.push_age_max));
    for agent in newest.agents() {
        if !about.agents_here.iter().any(|here| here == agent) {
            let what = format!(
                "{agent} was in the newest push and is not on this machine any more; \
                 if that is meant, the next push takes note of it"
            );
            let mend = format!("agent-backup pull --agent {} --yes", quote(agent));
            found.push(Finding::advice("agent-gone", what).mend(mend));
        }
    }
    Ok(())
}

/// Whether what is stored is whole, nothing here looks: when that was done last, and what it found.
fn last_look(last: Option<&VerifyDone>, first_secs: Option<i64>, now_secs: i64) -> Finding {
    let days = |since: i64| (now_secs - since).max(0) / 86_400;
    let Some(last) = last else {
        let what =
            "this machine never looked whether what is stored is whole; agent-backup verify does";
        let is_young = first_secs.is_none_or(|first| days(first) <= LOOK_DAYS_MAX);
        return if is_young {
            Finding::fine("last-verify", what)
        } else {
            Finding::advice("last-verify", what).mend("agent-backup verify")
        };
    };
    let days = days(last.at.as_second());
    let told = match days {
        0 => "today".to_owned(),
        1 => "yesterday".to_owned(),
        days => format!("{days} days ago"),
    };
    if last.damaged > 0 {
        let what = format!("the last verify ({}), {told}, found damage", last.level);
        return Finding::fault("last-verify", what).mend("agent-backup repair --from-source");
    }
    if days > LOOK_DAYS_MAX {
        let what = format!("the last verify ({}) was {told}", last.level);
        return Finding::advice("last-verify", what).mend("agent-backup verify");
    }
    Finding::fine(
        "last-verify",
        format!("the last verify ({}), {told}, found no damage", last.level),
    )
}

fn push_age(now_secs: i64, newest_secs: i64, max: Duration) -> Finding {
    let age = now_secs - newest_secs;
    if age < -CLOCK_SECS_MAX {
        let what = "the newest push of this machine is in the future: its clock is, or was, wrong";
        return Finding::fault("push-age", what).mend("sudo timedatectl set-ntp true");
    }
    let told = match age.max(0) {
        hours @ 0..172_800 => format!("{} hours", hours / 3600),
        days => format!("{} days", days / 86_400),
    };
    if age > i64::try_from(max.as_secs()).unwrap_or(i64::MAX) {
        let what = format!("the newest snapshot of this machine is {told} old");
        return Finding::fault("push-age", what)
            .mend("agent-backup push --always")
            .hint("if nothing changed since, all is well; --always makes one all the same");
    }
    Finding::fine("push-age", format!("the newest snapshot of this machine is {told} old"))
}

fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn item(name: &str, age_secs: u64) -> Item {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000_000 - age_secs);
        Item { name: name.to_owned(), size: 1, modified }
    }

    fn checks(listed: &[Item]) -> Vec<&'static str> {
        let mut found = Vec::new();
        operations(listed, SystemTime::UNIX_EPOCH + Duration::from_secs(10_000_000), &mut found);
        found.iter().map(|one| one.check).collect()
    }

    #[test]
    fn only_an_operation_that_neither_ended_nor_gave_a_sign_is_stale() {
        let (a, b) = (OpId::random(), OpId::random());
        let day = 86_400;
        assert!(checks(&[item(&format!("op/{a}"), day - 1)]).is_empty(), "it runs");
        assert_eq!(checks(&[item(&format!("op/{a}"), day)]), ["stale-operations"]);
        for mark in ["snap", "end", "dead", "forgot"] {
            let listed = [item(&format!("op/{a}"), day), item(&format!("{mark}/{a}"), 9)];
            assert!(checks(&listed).is_empty(), "{mark}");
            let listed = [item(&format!("op/{a}"), day), item(&format!("{mark}/{b}"), 9)];
            assert_eq!(checks(&listed), ["stale-operations"], "{mark} of another");
        }
    }

    #[test]
    fn a_quarantined_pack_counts_until_it_is_gone() {
        let pack = format!("{}-0", OpId::random());
        let bad = item(&format!("gc/bad-{pack}"), 9);
        assert!(checks(std::slice::from_ref(&bad)).is_empty());
        assert_eq!(checks(&[bad, item(&format!("packs/{pack}"), 9)]), ["quarantine"]);
    }

    #[test]
    fn a_look_that_is_long_ago_is_advised_and_one_that_found_damage_is_a_fault() {
        let look = |days: i64, damaged| {
            let at = jiff::Timestamp::from_second(1_000_000_000 - days * 86_400).unwrap();
            let level = "sample".to_owned();
            let last = VerifyDone { at, level, bytes_read: 1, damaged, packs_never_read: 0 };
            last_look(Some(&last), None, 1_000_000_000).level
        };
        let never = |days: i64| last_look(None, Some(1_000_000_000 - days * 86_400), 1_000_000_000);
        assert_eq!([never(35).level, never(36).level], [Level::Fine, Level::Advice]);
        assert_eq!([look(0, 0), look(35, 0)], [Level::Fine; 2]);
        assert_eq!([look(36, 0), look(0, 1)], [Level::Advice, Level::Fault]);
    }

    #[test]
    fn a_push_that_is_too_old_or_in_the_future_is_told() {
        let max = Duration::from_secs(86_400);
        assert_eq!(push_age(100_000, 100_000 - 86_400, max).level, Level::Fine);
        assert_eq!(push_age(100_000, 100_000 - 86_401, max).level, Level::Fault);
        assert_eq!(push_age(100_000, 100_200, max).level, Level::Fine);
        assert_eq!(push_age(100_000, 100_301, max).level, Level::Fault);
    }
}
