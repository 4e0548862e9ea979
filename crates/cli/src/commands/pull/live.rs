//! What holds for the roots of a restore on this machine: where each lives, and what a push takes of
//! it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use adapters::{Adapter, Root, Rules};
use anyhow::Result;
use engine::pull::Filters;
use engine::scan::Filter;
use repo::RootRecord;

use crate::commands::roots::with_excludes;
use crate::exit::{Exit, Stop};
use crate::settings::Settings;
use crate::ui::sanitize;

/// The agents that are known here, and what of them is here.
pub(super) struct Live<'s> {
    settings: &'s Settings,
    known: Vec<Adapter>,
    /// What is here of the agents of the snapshot.
    here: Vec<Root>,
}

impl<'s> Live<'s> {
    pub(super) fn look(roots: &[&RootRecord], settings: &'s Settings) -> Result<Self> {
        let known = adapters::load(Some(&settings.adapters_dir))?;
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
            let adapter = self.adapter(root);
            let located = adapter.and_then(|a| a.locate(&root.label, &self.settings.adapters_env));
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
}
