//! A restore for another home or machine: which maps hold, what is proposed, and what was done with them.
//!
//! In: `--map`, where the roots of the snapshot were and where they are here. Out: [`Mapped`]. A proposal is
//! taken with `--map auto` or a yes on a terminal, and never by itself.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use engine::pull::moves::{MovedRoot, Moves, PathMap, Rename, Rewrite};
use engine::pull::{Plan, Problem};
use repo::{RootRecord, Snapshot};
use serde::Serialize;

use super::live::Live;
use crate::args::Pull;
use crate::commands::Context;
use crate::commands::snapshots::short_id;
use crate::exit::{Exit, Stop, Usage};
use crate::ui::{count, json, sanitize};

/// The word that takes the proposal.
const AUTO: &str = "auto";
/// Values of one file that are shown; `--json` has more.
const CHANGES_SHOWN_MAX: usize = 20;

/// What holds for this run.
#[derive(Debug, Default)]
pub(super) struct Mapped {
    /// What the engine is to do.
    pub(super) moves: Option<Moves>,
    /// What was proposed and not taken.
    proposed: Vec<PathMap>,
    /// What agents bind to a machine: name and words.
    bound: Vec<(String, String)>,
}

/// Reads the maps, or proposes some.
pub(super) fn decide(
    args: &Pull,
    snapshot: &Snapshot,
    roots: &[&RootRecord],
    live: &Live<'_>,
    context: &Context<'_>,
) -> Result<Mapped> {
    let wrong = |error: engine::pull::moves::MapError| Usage(format!("--map {error}"));
    let typed = args.maps.iter().filter(|map| *map != AUTO);
    let mut maps =
        typed.map(|map| PathMap::parse(map)).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    PathMap::check_all(&maps).map_err(wrong)?;
    let auto = args.maps.iter().any(|map| map == AUTO);
    let mut mapped = Mapped::default();
    if auto || maps.is_empty() {
        let found = propose(snapshot, roots, &maps, live);
        match (auto, found) {
            (true, None) => {
                let what = format!("snapshot {} does not tell its home", short_id(&snapshot.id));
                return Err(Stop::new(Exit::Usage, what, "write --map OLD=NEW").into());
            }
            (true, Some(found)) => {
                if found.is_empty() && maps.is_empty() {
                    context.screen.note("--map auto: all is where it was; nothing is mapped");
                }
                maps.extend(found);
            }
            (false, Some(found)) if !found.is_empty() => {
                if ask(args, snapshot, &found, context)? {
                    maps = found;
                } else {
                    mapped.proposed = found;
                }
            }
            (false, _) => {}
        }
    }
    if maps.is_empty() {
        return Ok(mapped);
    }
    mapped.bound = live.portability(roots);
    mapped.moves =
        Some(Moves { maps, roots: live.moved(roots), transcripts: args.rewrite_transcripts });
    Ok(mapped)
}

/// Maps from where things were to where they are here; none if the snapshot does not tell its home.
fn propose(
    snapshot: &Snapshot,
    roots: &[&RootRecord],
    typed: &[PathMap],
    live: &Live<'_>,
) -> Option<Vec<PathMap>> {
    let old_home = snapshot.home.as_deref()?;
    let old_home = Path::new(OsStr::from_bytes(old_home));
    let places: Vec<_> = live
        .moved(roots)
        .into_iter()
        .filter_map(|root: MovedRoot| {
            let label = std::str::from_utf8(&root.label).ok()?;
            let place = live.place(roots.iter().find(|one| one.label == label)?)?;
            Some((root.dir, place))
        })
        .collect();
    Some(between(old_home, live.home(), &places, typed))
}

/// Maps from an old home to a new one, and for each root that is not where the home alone would bring
/// it. `places` are roots: where each was, and where it is here.
fn between(
    old_home: &Path,
    new_home: &Path,
    places: &[(Vec<u8>, PathBuf)],
    typed: &[PathMap],
) -> Vec<PathMap> {
    let map = |old: &Path, new: &Path| PathMap::new(old.to_str()?, new.to_str()?).ok();
    let mut maps = Vec::new();
    if old_home != new_home && !places.is_empty() {
        maps.extend(map(old_home, new_home));
    }
    for (old, new) in places {
        let old = Path::new(OsStr::from_bytes(old));
        let by_home = old.strip_prefix(old_home).map(|rest| new_home.join(rest));
        // single files of a home lie in it, and the home has a map of its own
        if old_home.starts_with(old) || by_home.as_deref().unwrap_or(old) == new {
            continue;
        }
        maps.extend(map(old, new));
    }
    maps.retain(|map| !typed.iter().any(|typed| typed.old() == map.old()));
    let mut seen = HashSet::new();
    maps.retain(|map| seen.insert(map.old()));
    maps
}

/// Shows a proposal; asks whether it is taken where somebody can answer and live files are at stake.
fn ask(args: &Pull, snapshot: &Snapshot, found: &[PathMap], context: &Context<'_>) -> Result<bool> {
    let screen = context.screen;
    let maps: Vec<String> =
        found.iter().map(|map| format!("--map {}", sanitize::text(&map.to_string()))).collect();
    screen.note(format_args!(
        "snapshot {} is of another home or place. Names of project directories and paths in catalogues \
         are those of the old one; {AUTO} maps them: {}",
        short_id(&snapshot.id),
        maps.join(" ")
    ));
    if args.to.is_none() && !args.yes && !args.dry_run {
        let answer = screen.ask("Rewrite them for this one?")?;
        if answer == Some(true) {
            return Ok(true);
        }
    }
    screen.note(format_args!("they stay as they are; to rewrite them: --map {AUTO}"));
    Ok(false)
}

/// What a document says of a move.
#[derive(Debug, Default, Serialize)]
pub(super) struct Record {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    maps: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    proposed_maps: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    renames: Vec<RenameRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rewrites: Vec<RewriteRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unmoved: Vec<json::Problem>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bound: Vec<BoundRecord>,
}

#[derive(Debug, Serialize)]
struct RenameRecord {
    #[serde(flatten)]
    path: json::Path,
    name: String,
    guess: bool,
}

#[derive(Debug, Serialize)]
struct RewriteRecord {
    #[serde(flatten)]
    path: json::Path,
    count: u64,
    changes: Vec<ChangeRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ChangeRecord {
    place: String,
    old: String,
    new: String,
    count: u64,
}

#[derive(Debug, Serialize)]
struct BoundRecord {
    agent: String,
    what: String,
}

impl Mapped {
    /// For a document.
    pub(super) fn record(&self, plan: &Plan, rewrites: &[Rewrite]) -> Record {
        let texts = |maps: &[PathMap]| maps.iter().map(ToString::to_string).collect();
        let rename = |rename: &Rename| RenameRecord {
            path: json::Path::new(&rename.path),
            name: json::name(&rename.name).0,
            guess: rename.guess,
        };
        let rewrite = |rewrite: &Rewrite| RewriteRecord {
            path: json::Path::new(&rewrite.path),
            count: rewrite.count,
            changes: rewrite
                .changes
                .iter()
                .map(|change| ChangeRecord {
                    place: change.place.clone(),
                    old: change.old.clone(),
                    new: change.new.clone(),
                    count: change.count,
                })
                .collect(),
            left: rewrite.left.clone(),
        };
        let unmoved = |one: &Problem| json::Problem {
            path: json::Path::new(&one.path),
            what: one.reason.clone(),
        };
        let bound = |(agent, what): &(String, String)| BoundRecord {
            agent: agent.clone(),
            what: what.clone(),
        };
        Record {
            maps: texts(self.moves.as_ref().map_or(&[], |moves| &moves.maps)),
            proposed_maps: texts(&self.proposed),
            renames: plan.renames().iter().map(rename).collect(),
            rewrites: rewrites.iter().map(rewrite).collect(),
            unmoved: plan.unmoved().iter().map(unmoved).collect(),
            bound: self.bound.iter().map(bound).collect(),
        }
    }

    /// Every name and value, on standard output: what a dry run is for.
    pub(super) fn list(
        &self,
        plan: &Plan,
        rewrites: &[Rewrite],
        context: &Context<'_>,
    ) -> Result<()> {
        let screen = context.screen;
        for rename in plan.renames() {
            let (path, name) = (sanitize::bytes(&rename.path), sanitize::bytes(&rename.name));
            screen.line(format_args!("rename   {path} -> {name}{}", guess(rename)))?;
        }
        for rewrite in rewrites {
            let path = sanitize::bytes(&rewrite.path);
            for change in rewrite.changes.iter().take(CHANGES_SHOWN_MAX) {
                let (old, new) = (sanitize::text(&change.old), sanitize::text(&change.new));
                let place = sanitize::text(&change.place);
                let times = if change.count == 1 {
                    String::new()
                } else {
                    format!(" ({} times)", change.count)
                };
                screen.line(format_args!("rewrite  {path}: {place}: {old} -> {new}{times}"))?;
            }
            let shown: u64 =
                rewrite.changes.iter().take(CHANGES_SHOWN_MAX).map(|change| change.count).sum();
            if shown < rewrite.count {
                let more = rewrite.count - shown;
                screen.line(format_args!("rewrite  {path}: and {more} more; --json has them"))?;
            }
        }
        self.tell_rest(plan, rewrites, context);
        Ok(())
    }

    /// What was done, in a few lines.
    pub(super) fn tell(&self, plan: &Plan, rewrites: &[Rewrite], context: &Context<'_>) {
        if self.moves.is_none() {
            return;
        }
        let values: u64 = rewrites.iter().map(|rewrite| rewrite.count).sum();
        let files = rewrites.iter().filter(|rewrite| rewrite.count > 0).count() as u64;
        context.screen.note(format_args!(
            "moved: {} with a new name, {} rewritten in {}",
            count(plan.renames().len() as u64, "directory", "directories"),
            count(values, "path", "paths"),
            count(files, "file", "files")
        ));
        self.tell_rest(plan, rewrites, context);
    }

    /// What is not certain, what stays, and what no restore can move.
    fn tell_rest(&self, plan: &Plan, rewrites: &[Rewrite], context: &Context<'_>) {
        let screen = context.screen;
        for rename in plan.renames().iter().filter(|rename| rename.guess) {
            let (path, name) = (sanitize::bytes(&rename.path), sanitize::bytes(&rename.name));
            screen.note(format_args!("  {path} -> {name}{}", guess(rename)));
        }
        for one in plan.unmoved() {
            let (path, reason) = (sanitize::bytes(&one.path), sanitize::text(&one.reason));
            screen.note(format_args!("  not moved: {path}: {reason}"));
        }
        for rewrite in rewrites {
            for left in &rewrite.left {
                let (path, left) = (sanitize::bytes(&rewrite.path), sanitize::text(left));
                screen.note(format_args!("  not moved: {path}: {left}"));
            }
        }
        for (agent, what) in &self.bound {
            let (agent, what) = (sanitize::text(agent), sanitize::text(what));
            screen.note(format_args!("  bound to its machine: {agent}: {what}"));
        }
    }
}

fn guess(rename: &Rename) -> &'static str {
    if rename.guess { " (by its beginning alone: no file tells its path)" } else { "" }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use adapters::{Env, Os, builtin};

    use super::*;

    fn proposed(labels: &[&str], old: &Env, new: &Env, typed: &[&str]) -> Vec<String> {
        let known = builtin();
        let place = |label: &&str| {
            let adapter = known.iter().find(|one| label.starts_with(one.id())).unwrap();
            let old = adapter.locate(label, old).unwrap().into_os_string().into_encoded_bytes();
            (old, adapter.locate(label, new).unwrap())
        };
        let places: Vec<_> = labels.iter().map(place).collect();
        let typed: Vec<PathMap> = typed.iter().map(|map| PathMap::parse(map).unwrap()).collect();
        let maps = between(&old.home, &new.home, &places, &typed);
        maps.iter().map(ToString::to_string).collect()
    }

    fn machine(home: &str, os: Os, vars: &[(&str, &str)]) -> Env {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).into()));
        Env { home: home.into(), vars: vars.collect::<BTreeMap<_, _>>(), os }
    }

    #[test]
    fn roots_that_lie_elsewhere_on_another_system_get_maps_of_their_own() {
        let mac = machine("/Users/a", Os::Macos, &[]);
        let linux = machine("/home/b", Os::Linux, &[]);
        let labels = ["claude-code/dot", "claude-code/home", "cursor/user", "codex/home"];
        assert_eq!(
            proposed(&labels, &mac, &linux, &[]),
            [
                "/Users/a=/home/b",
                "/Users/a/Library/Application Support/Cursor/User=/home/b/.config/Cursor/User"
            ]
        );
        assert_eq!(
            proposed(&labels, &linux, &mac, &["/home/b=/Users/else"]),
            ["/home/b/.config/Cursor/User=/Users/a/Library/Application Support/Cursor/User"]
        );
        // only a variable differs; that .claude.json is a single file moves no home
        let vars = [("CODEX_HOME", "/data/codex"), ("CLAUDE_CONFIG_DIR", "/data/claude")];
        let other = machine("/home/b", Os::Linux, &vars);
        assert_eq!(
            proposed(&labels, &linux, &other, &[]),
            ["/home/b/.claude=/data/claude", "/home/b/.codex=/data/codex"]
        );
        assert!(proposed(&labels, &linux, &linux, &[]).is_empty());
        assert!(proposed(&[], &mac, &linux, &[]).is_empty());
    }
}
