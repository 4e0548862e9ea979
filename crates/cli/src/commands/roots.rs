//! What a push covers: agents that were named or found, and directories that were named.
//!
//! In: arguments, settings, adapters. Out: roots for the engine. Named agents and paths are taken
//! exactly; with none named, those of the configuration; with none there, every agent found here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use adapters::{Adapter, Refused, Rules};
use anyhow::Result;
use engine::gone::MissingRoots;
use engine::push::PushRoot;
use engine::scan::{Filter, ScanRoot};

use crate::exit::{Exit, Stop, Usage};
use crate::settings::{Settings, absolute};
use crate::ui::sanitize;

/// Places that a message names before it says how many more there are.
const PLACES_NAMED_MAX: usize = 8;

/// The roots of a push.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    pub(crate) roots: Vec<PushRoot>,
    /// Agents that were named and are not here.
    pub(crate) absent: Vec<String>,
    /// Directories that an adapter points to and that are not taken.
    pub(crate) refused: Vec<Refused>,
    /// Rules of agents of which something may not be here any more; none if only a part was named.
    pub(crate) missing: Option<Arc<dyn MissingRoots>>,
    /// Where was looked in vain: for each agent its shortest place, and how many others there are.
    looked: Vec<PathBuf>,
    others: usize,
}

/// What the command line says of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) agents: &'a [String],
    /// Each `LABEL=DIR` or `DIR`.
    pub(crate) paths: &'a [String],
    pub(crate) exclude: &'a [String],
}

/// Decides what to push.
pub(crate) fn choose(named: Named<'_>, settings: &Settings) -> Result<Chosen> {
    let known = settings.adapters()?;
    let excludes: Vec<String> =
        named.exclude.iter().chain(&settings.push.exclude).cloned().collect();
    let named_here = !named.agents.is_empty() || !named.paths.is_empty();
    let agents = if named_here { named.agents } else { &settings.push.agents };
    let mut chosen = Chosen::default();
    let all = !named_here && agents.is_empty();
    let picked = pick(&known, agents, all)?;
    for adapter in &picked {
        chosen.add(adapter, settings, &excludes, !all)?;
    }
    if !named_here {
        let adapters = picked.into_iter().cloned().collect();
        chosen.missing = Some(Arc::new(Missing { adapters, excludes: excludes.clone() }));
    }
    for given in named.paths {
        chosen.roots.push(path_root(given, &settings.machine.home, &excludes)?);
    }
    if !named_here {
        for (label, dir) in &settings.push.paths {
            chosen.roots.push(labelled(label, dir, &excludes)?);
        }
    }
    Ok(chosen)
}

/// Adapters of which a root may not be here any more.
#[derive(Debug)]
struct Missing {
    adapters: Vec<Adapter>,
    excludes: Vec<String>,
}

impl MissingRoots for Missing {
    fn filter(&self, agent: &str, label: &str) -> Option<Arc<dyn Filter>> {
        let adapter = self.adapters.iter().find(|adapter| adapter.id() == agent)?;
        Some(with_excludes(&adapter.rules(label)?, &self.excludes).ok()?)
    }
}

fn pick<'a>(known: &'a [Adapter], named: &[String], all: bool) -> Result<Vec<&'a Adapter>> {
    if all {
        return Ok(known.iter().collect());
    }
    let one = |name: &String| {
        known.iter().find(|adapter| adapter.id() == name).ok_or_else(|| {
            let ids: Vec<&str> = known.iter().map(Adapter::id).collect();
            let name = sanitize::text(name);
            Usage(format!("no agent is called '{name}'; known are {}", ids.join(", "))).into()
        })
    };
    named.iter().map(one).collect()
}

impl Chosen {
    fn add(
        &mut self,
        adapter: &Adapter,
        settings: &Settings,
        excludes: &[String],
        named: bool,
    ) -> Result<()> {
        let survey = adapter.survey(&settings.adapters_env);
        self.refused.extend(survey.refused);
        if survey.roots.is_empty() {
            let places = adapter.candidates(&settings.adapters_env);
            self.others += places.len().saturating_sub(1);
            self.looked.extend(places.into_iter().min_by_key(|path| path.as_os_str().len()));
            if named {
                self.absent.push(adapter.id().to_owned());
            }
        }
        for root in survey.roots {
            let rules = with_excludes(&root.rules, excludes)?;
            self.roots.push(PushRoot {
                scan: ScanRoot { label: root.label, dir: root.dir, files: None, filter: rules },
                agent: Some(adapter.id().to_owned()),
            });
        }
        Ok(())
    }

    /// The failure of a push without roots: where it looked, and what to do.
    pub(crate) fn nothing(&self, settings: &Settings) -> Stop {
        let home = &settings.machine.home;
        let places: Vec<String> = self.looked.iter().map(|path| shorten(path, home)).collect();
        let hidden = places.len().saturating_sub(PLACES_NAMED_MAX);
        let named = places[..places.len() - hidden].join(", ");
        let more = hidden + self.others;
        let what = match (places.len(), more) {
            (0, _) => "nothing to back up".to_owned(),
            (_, 0) => format!("nothing to back up: there is nothing in {named}"),
            _ => format!("nothing to back up: looked in {named} and {more} more places"),
        };
        let hint = "name a directory: agent-backup push --path LABEL=DIR; every place that is \
                    looked at: agent-backup agents -v";
        Stop::new(Exit::Failed, what, hint)
    }
}

/// Rules with what the user excludes besides.
pub(crate) fn with_excludes(rules: &Arc<Rules>, excludes: &[String]) -> Result<Arc<Rules>> {
    if excludes.is_empty() {
        return Ok(Arc::clone(rules));
    }
    Ok(Arc::new(rules.with_excludes(excludes)?))
}

/// `LABEL=DIR`, or a path whose own name is the label.
fn path_root(given: &str, home: &Path, excludes: &[String]) -> Result<PushRoot> {
    if let Some((label, dir)) = given.split_once('=')
        && is_label(label)
    {
        // no shell opens the `~` of `notes=~/notes` everywhere
        let dir = dir.strip_prefix("~/").map_or_else(|| PathBuf::from(dir), |d| home.join(d));
        return labelled(label, &dir, excludes);
    }
    let dir = absolute(Path::new(given))?;
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned());
    let label = name.map(|name| name.trim_matches('.').to_owned()).filter(|name| is_label(name));
    let label = label.ok_or_else(|| {
        Usage(format!("'{}' needs a label: --path LABEL=DIR", sanitize::text(given)))
    })?;
    labelled(&label, &dir, excludes)
}

fn labelled(label: &str, dir: &Path, excludes: &[String]) -> Result<PushRoot> {
    if !is_label(label) {
        let shown = sanitize::text(label);
        return Err(Usage(format!("'{shown}' is no label: letters, digits and . _ - only")).into());
    }
    let path = absolute(dir)?;
    let shown = sanitize::path(&path);
    let meta = std::fs::metadata(&path).map_err(|e| {
        Stop::new(Exit::Failed, format!("cannot back up {shown}: {e}"), "check the path")
    })?;
    let mut scan = ScanRoot {
        label: label.to_owned(),
        dir: path,
        files: None,
        filter: with_excludes(&Arc::new(Rules::everything()), excludes)?,
    };
    if !meta.is_dir() {
        let (Some(parent), Some(name)) = (scan.dir.parent(), scan.dir.file_name()) else {
            return Err(Usage(format!("{shown} is no directory and no file")).into());
        };
        scan.files = Some(vec![name.as_encoded_bytes().to_vec()]);
        scan.dir = parent.to_owned();
    }
    Ok(PushRoot { scan, agent: None })
}

/// Labels are path components that mean the same everywhere.
fn is_label(text: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text != "." && text != ".." && text.chars().all(plain)
}

/// A path with `~` for the home directory.
pub(crate) fn shorten(path: &Path, home: &Path) -> String {
    match path.strip_prefix(home) {
        Ok(rest) if rest.as_os_str().is_empty() => "~".to_owned(),
        Ok(rest) => format!("~/{}", sanitize::path(rest)),
        Err(_) => sanitize::path(path),
    }
}

#[cfg(test)]
mod tests {
    use engine::scan::Verdict;

    use super::*;

    #[test]
    fn a_path_may_bring_its_label_or_lend_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        let notes = dir.path().join("My.notes");
        std::fs::create_dir(&notes).unwrap();
        let text = notes.to_str().unwrap();
        let root = path_root(text, home, &[]).unwrap();
        assert_eq!((root.scan.label.as_str(), &root.scan.dir), ("My.notes", &notes));
        let root = path_root(&format!("n={text}"), home, &[]).unwrap();
        assert_eq!((root.scan.label.as_str(), &root.scan.dir), ("n", &notes));
        assert!(root.agent.is_none());
        let root = path_root("n=~/My.notes", home, &[]).unwrap();
        assert_eq!(root.scan.dir, notes, "where no shell opened the ~");
    }

    #[test]
    fn an_equals_sign_in_a_directorys_name_makes_no_label() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        let odd = dir.path().join("a=b");
        std::fs::create_dir(&odd).unwrap();
        let root = path_root(&format!("odd={}", odd.display()), home, &[]).unwrap();
        assert_eq!(root.scan.dir, odd);
        let error = path_root(odd.to_str().unwrap(), home, &[]).unwrap_err();
        assert!(error.to_string().contains("--path LABEL=DIR"), "{error}");
    }

    #[test]
    fn a_single_file_is_a_root_of_one_name() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("todo.md"), "x").unwrap();
        let root =
            path_root(dir.path().join("todo.md").to_str().unwrap(), dir.path(), &[]).unwrap();
        assert_eq!(root.scan.files, Some(vec![b"todo.md".to_vec()]));
        assert_eq!(root.scan.dir, dir.path());
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_and_not_an_empty_backup() {
        let error = path_root("n=/nonexistent/dir", Path::new("/"), &[]).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent/dir"), "{error:#}");
        for label in ["", ".", "..", "a/b", "a b", "a\n"] {
            assert!(labelled(label, Path::new("/"), &[]).is_err(), "{label:?}");
        }
    }

    #[test]
    fn excludes_reach_the_filter_and_side_files_of_databases_stay_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = labelled("n", dir.path(), &["*.iso".to_owned()]).unwrap();
        let filter = &root.scan.filter;
        assert_eq!(filter.decide(b"a/b.iso", false), Verdict::Skip);
        assert_eq!(filter.decide(b"a/b.txt", false), Verdict::Include);
        assert_eq!(filter.decide(b"state.vscdb", false), Verdict::Sqlite);
        assert_eq!(filter.decide(b"state.vscdb-wal", false), Verdict::Skip);
    }

    #[test]
    fn paths_are_shown_from_home() {
        let home = Path::new("/home/me");
        assert_eq!(shorten(Path::new("/home/me/.claude"), home), "~/.claude");
        assert_eq!(shorten(Path::new("/home/me"), home), "~");
        assert_eq!(shorten(Path::new("/home/mean"), home), "/home/mean");
    }
}
