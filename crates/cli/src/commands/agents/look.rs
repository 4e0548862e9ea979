//! What an adapter takes on this machine, and what it leaves out and why.
//!
//! In: an adapter and the settings of a push. Out: counts and names for each root. It is a push's own scan,
//! with a filter that also notes its answers; nothing is opened but directories.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use adapters::{Adapter, Decision, Refused, Rules};
use anyhow::Result;
use engine::scan::{self, Filter, ScanRoot, Trouble, Verdict};
use repo::Kind;
use serde::Serialize;

use crate::commands::{Context, push};
use crate::ui::json;

/// One agent, looked at.
pub(super) struct Look<'a> {
    pub(super) adapter: &'a Adapter,
    pub(super) roots: Vec<RootLook>,
    pub(super) refused: Vec<Refused>,
    /// What could not be looked at: path with its label, and what happened.
    pub(super) problems: Vec<(Vec<u8>, String)>,
}

/// One root. Names are paths in it; those of directories end in `/`.
#[derive(Default)]
pub(super) struct RootLook {
    pub(super) label: String,
    pub(super) dir: PathBuf,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) databases: u64,
    /// Files that are stored without some of their fields.
    pub(super) fields: Vec<Vec<u8>>,
    /// Databases that are stored without some of their rows.
    pub(super) rows: Vec<Vec<u8>>,
    pub(super) secrets: Vec<Vec<u8>>,
    pub(super) too_large: Vec<Vec<u8>>,
    /// What the rules leave out otherwise. Empty if the root is single files: the rest of that directory
    /// is not the agent's.
    pub(super) left_out: Vec<Vec<u8>>,
}

/// Rules that note what they leave out.
struct Noting {
    rules: Arc<Rules>,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    secrets: Vec<Vec<u8>>,
    left_out: Vec<Vec<u8>>,
}

impl Filter for Noting {
    fn decide(&self, rel: &[u8], is_dir: bool) -> Verdict {
        let decision = self.rules.decide(rel, is_dir);
        let mut name = rel.to_vec();
        name.extend(is_dir.then_some(b'/'));
        // whoever held it before only pushed: there is nothing half done
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        match decision {
            Decision::Include => Verdict::Include,
            Decision::IncludeSqlite => Verdict::Sqlite,
            Decision::Walk => Verdict::Walk,
            Decision::ExcludeSecret => {
                noted.secrets.push(name);
                Verdict::Skip
            }
            Decision::Exclude | Decision::PruneDir => {
                noted.left_out.push(name);
                Verdict::Skip
            }
        }
    }

    fn max_file_size(&self) -> Option<u64> {
        self.rules.max_file_size()
    }
}

impl<'a> Look<'a> {
    /// Surveys and scans.
    pub(super) fn at(adapter: &'a Adapter, context: &Context<'_>) -> Result<Self> {
        let survey = adapter.survey(&context.settings.adapters_env);
        let filter = |root: &adapters::Root| {
            Arc::new(Noting { rules: Arc::clone(&root.rules), noted: Mutex::default() })
        };
        let filters: Vec<Arc<Noting>> = survey.roots.iter().map(filter).collect();
        let scans: Vec<ScanRoot> = survey
            .roots
            .iter()
            .zip(&filters)
            .map(|(root, filter)| ScanRoot {
                label: root.label.clone(),
                dir: root.dir.clone(),
                files: None,
                filter: Arc::<Noting>::clone(filter),
            })
            .collect();
        let mut roots: Vec<RootLook> = survey
            .roots
            .iter()
            .map(|root| RootLook {
                label: root.label.clone(),
                dir: root.dir.clone(),
                ..RootLook::default()
            })
            .collect();
        let (mut problems, mut too_large) = (Vec::new(), Vec::new());
        let mut found = |one: scan::Found| {
            if one.kind == Kind::File {
                roots[one.root].count(&one, one.rel(&scans[one.root]), &filters[one.root].rules);
            }
            ControlFlow::Continue(())
        };
        let mut problem = |one: scan::Problem| {
            if one.what == Trouble::TooLarge {
                too_large.push((one.root, one.path));
            } else {
                problems.push((one.path.clone(), one.to_string()));
            }
        };
        let options = push::scanning(&context.settings).scan;
        scan::scan(&scans, &options, context.signals.graceful(), &mut found, &mut problem)?;
        for (root, path) in too_large {
            let label_bytes = roots[root].label.len() + 1;
            roots[root].too_large.push(path.get(label_bytes..).unwrap_or_default().to_vec());
        }
        for (root, filter) in roots.iter_mut().zip(&filters) {
            let noted =
                std::mem::take(&mut *filter.noted.lock().unwrap_or_else(PoisonError::into_inner));
            root.secrets = noted.secrets;
            if !filter.rules.is_files() {
                root.left_out = noted.left_out;
            }
            root.secrets.sort();
            root.left_out.sort();
        }
        Ok(Self { adapter, roots, refused: survey.refused, problems })
    }

    pub(super) fn found_something(&self) -> bool {
        !self.roots.is_empty() || !self.refused.is_empty()
    }
}

impl RootLook {
    fn count(&mut self, one: &scan::Found, rel: &[u8], rules: &Rules) {
        self.files += 1;
        self.bytes += if one.link.is_none() { one.stat.size } else { 0 };
        self.databases += u64::from(one.sqlite);
        if !rules.rows(rel).is_empty() {
            self.rows.push(rel.to_vec());
        } else if rules.fields(rel).is_some() {
            self.fields.push(rel.to_vec());
        }
    }

    pub(super) fn record(&self) -> RootRecord {
        let why = |names: &[Vec<u8>], why| {
            names
                .iter()
                .map(|name| LeftOut { path: json::Path::new(name), why })
                .collect::<Vec<_>>()
        };
        let left_out = [
            why(&self.secrets, "secret"),
            why(&self.too_large, "size"),
            why(&self.left_out, "adapter"),
        ];
        RootRecord {
            label: self.label.clone(),
            dir: json::Path::new(self.dir.as_os_str().as_encoded_bytes()),
            files: self.files,
            bytes: self.bytes,
            databases: self.databases,
            in_part: [why(&self.fields, "fields"), why(&self.rows, "rows")].concat(),
            left_out: left_out.concat(),
        }
    }
}

/// A root in the document.
#[derive(Serialize)]
pub(super) struct RootRecord {
    label: String,
    #[serde(flatten)]
    dir: json::Path,
    files: u64,
    bytes: u64,
    databases: u64,
    in_part: Vec<LeftOut>,
    left_out: Vec<LeftOut>,
}

#[derive(Clone, Serialize)]
struct LeftOut {
    #[serde(flatten)]
    path: json::Path,
    why: &'static str,
}
