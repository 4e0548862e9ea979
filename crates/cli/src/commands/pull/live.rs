//! What holds for the roots of a restore on this machine: where each lives, what a push takes of it,
//! and whether its agent runs.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adapters::{Adapter, Root, Rules};
use anyhow::Result;
use engine::pull::moves::MovedRoot;
use engine::pull::safety::LiveRoot;
use engine::pull::{Filters, Placement, Plan};
use engine::running::{self, Process};
use engine::scan::Filter;
use repo::RootRecord;

use crate::commands::roots::with_excludes;
use crate::exit::{Exit, Stop};
use crate::settings::Settings;
use crate::ui::{Screen, sanitize};

/// The agents that are known here, and what of them is here.
pub(super) struct Live<'s> {
    settings: &'s Settings,
    known: Vec<Adapter>,
    /// What is here of the agents of the snapshot.
    here: Vec<Root>,
}

impl<'s> Live<'s> {
    pub(super) fn look(roots: &[&RootRecord], settings: &'s Settings) -> Result<Self> {
        let known = settings.adapters()?;
        let wanted = |adapter: &&Adapter| {
            roots.iter().any(|root| root.agent.as_deref() == Some(adapter.id()))
        };
        let here = known.iter().filter(wanted);
        let here = here.flat_map(|a| a.survey(&settings.adapters_env).roots).collect();
        Ok(Self { settings, known, here })
    }

    fn adapter(&self, root: &RootRecord) -> Option<&Adapter> {
        self.known.iter().find(|adapter| root.agent.as_deref() == Some(adapter.id()))
    }

    /// Where each root lives on this machine.
    pub(super) fn places(
        &self,
        roots: &[&RootRecord],
        same_machine: bool,
    ) -> Result<Vec<(Vec<u8>, PathBuf)>> {
        let place = |root: &&RootRecord| {
            let located = self.place(root);
            let recorded = || {
                let dir = PathBuf::from(OsStr::from_bytes(&root.dir));
                (same_machine && dir.is_absolute()).then_some(dir)
            };
            let dir = located.or_else(recorded).ok_or_else(|| {
                let label = sanitize::text(&root.label);
                let what = format!("'{label}' has no place on this machine that is known");
                Stop::new(Exit::Usage, what, "name a directory: agent-backup pull --to DIR")
            })?;
            Ok((root.label.clone().into_bytes(), dir))
        };
        roots.iter().map(place).collect()
    }

    /// Where the adapter of a root has it on this machine.
    pub(super) fn place(&self, root: &RootRecord) -> Option<PathBuf> {
        let recorded = Path::new(OsStr::from_bytes(&root.dir));
        self.adapter(root)?.locate_as(&root.label, recorded, &self.settings.adapters_env)
    }

    /// The home of this machine's user.
    pub(super) fn home(&self) -> &Path {
        &self.settings.machine.home
    }

    /// The roots in which an adapter says where paths stand.
    pub(super) fn moved(&self, roots: &[&RootRecord]) -> Vec<MovedRoot> {
        let moved = |root: &&RootRecord| {
            let rules = self.adapter(root)?.rules(&root.label)?;
            let (label, dir) = (root.label.clone().into_bytes(), root.dir.clone());
            rules.has_binds().then_some(MovedRoot { label, dir, rules })
        };
        roots.iter().filter_map(moved).collect()
    }

    /// What the agents of these roots bind to a machine: the agent's name, and words.
    pub(super) fn portability(&self, roots: &[&RootRecord]) -> Vec<(String, String)> {
        let concerned = |adapter: &&Adapter| {
            roots.iter().any(|root| root.agent.as_deref() == Some(adapter.id()))
        };
        let lines = |adapter: &Adapter| {
            let name = adapter.name().to_owned();
            let line = move |line: &String| (name.clone(), line.clone());
            adapter.portability().iter().map(line).collect::<Vec<_>>()
        };
        self.known.iter().filter(concerned).flat_map(lines).collect()
    }

    /// What a push takes of a root: by its adapter, and by the excludes of the settings.
    fn rules(&self, root: &RootRecord) -> Result<Arc<Rules>> {
        let here = self.here.iter().find(|here| here.label == root.label);
        let rules = here.map(|here| Arc::clone(&here.rules));
        let rules = rules.or_else(|| self.adapter(root)?.rules(&root.label));
        let rules = rules.unwrap_or_else(|| Arc::new(Rules::everything()));
        with_excludes(&rules, &self.settings.push.exclude)
    }

    /// What a push takes of each root.
    pub(super) fn filters(&self, roots: &[&RootRecord]) -> Result<Filters> {
        let filter = |root: &&RootRecord| {
            let rules: Arc<dyn Filter> = self.rules(root)?;
            Ok((root.label.clone().into_bytes(), rules))
        };
        roots.iter().map(filter).collect()
    }

    /// The roots as a safety snapshot saves them.
    pub(super) fn roots(&self, roots: &[&RootRecord], to: &Placement) -> Result<Vec<LiveRoot>> {
        let live = |root: &&RootRecord| {
            let dir = match to {
                Placement::Under(dir) => Some(dir.join(&root.label)),
                Placement::Each(places) => {
                    let place = places.iter().find(|(label, _)| label == root.label.as_bytes());
                    place.map(|(_, dir)| dir.clone())
                }
            };
            let here = |dir: &PathBuf| {
                self.here.iter().any(|here| here.label == root.label && here.dir == *dir)
            };
            let Some(dir) = dir else { return Ok(None) };
            Ok(Some(LiveRoot {
                whole: here(&dir),
                label: root.label.clone(),
                agent: root.agent.clone(),
                dir,
                rules: self.rules(root)?,
            }))
        };
        roots.iter().filter_map(|root| live(root).transpose()).collect()
    }

    /// Which of the agents whose files a plan changes run; without a plan, of all of the roots.
    pub(super) fn running(&self, roots: &[&RootRecord], plan: Option<&Plan>) -> Vec<Runs> {
        let changed = |adapter: &&Adapter| {
            let own = |root: &&&RootRecord| root.agent.as_deref() == Some(adapter.id());
            let changes = |label: &str| plan.is_none_or(|plan| plan.changes(label.as_bytes()));
            roots.iter().filter(own).any(|root| changes(&root.label))
        };
        let known = self.known.iter().filter(changed).filter(|a| !a.running().is_empty());
        let home = &self.settings.machine.home;
        let look = |adapter: &Adapter| Runs {
            agent: adapter.id().to_owned(),
            processes: running::find(adapter.running(), home),
        };
        known.map(look).collect()
    }
}

/// Whether an agent runs.
pub(super) struct Runs {
    pub(super) agent: String,
    /// `None` if nobody can look here.
    pub(super) processes: Option<Vec<Process>>,
}

/// Says that agents run, or that it is not known whether they do. `None` if none does.
pub(super) fn tell_running(all: &[Runs], screen: &Screen) -> Option<String> {
    let unseen: Vec<&str> =
        all.iter().filter(|one| one.processes.is_none()).map(|one| one.agent.as_str()).collect();
    if !unseen.is_empty() {
        let agents = sanitize::text(&unseen.join(", "));
        screen.note(format_args!(
            "whether an agent runs cannot be looked at on this system: make sure that none of \
             {agents} does"
        ));
    }
    let name = |one: &Runs| {
        let processes = one.processes.as_deref().filter(|processes| !processes.is_empty())?;
        let processes: Vec<String> = processes.iter().map(ToString::to_string).collect();
        Some(format!("{} runs: {}", one.agent, processes.join(", ")))
    };
    let named: Vec<String> = all.iter().filter_map(name).collect();
    (!named.is_empty()).then(|| named.join("; "))
}
