//! From an adapter and a machine to the roots that exist there.
//!
//! In: [`Adapter`], [`Env`]. Out: roots with labels that mean the same on every machine, rules
//! included. Invariants: a path is in at most one root of an adapter (see `carve`); the home
//! directory, or one above it, is never a root of its own.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::adapter::{Adapter, Env, Os, RootSpec};
use crate::carve::Carved;
use crate::pattern;
use crate::place::Spot;
use crate::rules::{Decision, Lists, Rules};

/// A directory to back up.
#[derive(Debug, Clone)]
pub struct Root {
    /// `<adapter id>/<root label>`, and for roots that are several `/<what the wildcards matched>`
    /// or the directory's name. Unique, of `[a-z0-9._/-]`, the same on every machine.
    pub label: String,
    /// The directory as it was found; it may be reached through a symbolic link.
    pub dir: PathBuf,
    /// What of it is backed up.
    pub rules: Arc<Rules>,
}

/// A directory that an adapter points to and that is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The label it would have had.
    pub label: String,
    /// The directory.
    pub path: PathBuf,
    /// Why not, in words for the user.
    pub why: String,
}

/// What [`Adapter::survey`] found.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// What can be backed up, in the order of the adapter file.
    pub roots: Vec<Root>,
    /// What was found but not taken, each path once.
    pub refused: Vec<Refused>,
}

/// A root before overlaps are settled.
struct Claim {
    label: String,
    dir: PathBuf,
    real: PathBuf,
    rules: Arc<Rules>,
}

/// A place that a root may have here, with the end of its label.
struct Site {
    path: PathBuf,
    suffix: String,
    file: Option<String>,
}

impl Adapter {
    /// The roots that exist here. [`Adapter::survey`] also says what was refused.
    pub fn resolve(&self, env: &Env) -> Vec<Root> {
        self.survey(env).roots
    }

    /// The roots that exist here, and what was found but not taken.
    pub fn survey(&self, env: &Env) -> Survey {
        let (mut claims, mut refused): (Vec<Claim>, Vec<Refused>) = (Vec::new(), Vec::new());
        let mut labels = HashSet::new();
        for spec in &self.roots {
            for site in spec.sites(env) {
                match spec.look(&site, env) {
                    Look::Nothing => continue,
                    Look::Refused(why) => {
                        let label = self.label(spec, &site);
                        if !refused.iter().any(|known| known.path == site.path) {
                            refused.push(Refused { label, path: site.path, why });
                        }
                    }
                    Look::Found(real, mut rules) => {
                        if !claims.iter().any(|claim| claim.covers(&real, &rules)) {
                            let label = unused(&mut labels, &self.label(spec, &site));
                            self.name_groups(spec, &label, &mut rules);
                            claims.push(Claim { label, dir: site.path, real, rules });
                        }
                    }
                }
                if !spec.several {
                    break;
                }
            }
        }
        Survey { roots: settle(claims), refused }
    }

    /// Every place where it looks, whether anything is there or not; wildcards as written.
    pub fn candidates(&self, env: &Env) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for spec in &self.roots {
            let overridden = spec.overridden(env);
            let shown: Vec<PathBuf> = if !overridden.is_empty() {
                overridden.into_iter().map(Site::whole).collect()
            } else if spec.env_file.is_empty() {
                let dirs = spec.places(env.os).iter().filter_map(|place| place.show(env));
                dirs.flat_map(|dir| spec.lists.named(&dir)).collect()
            } else {
                Vec::new()
            };
            for path in shown {
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
        }
        paths
    }

    /// Where the root of this label is on this machine, or would be: the target of a restore.
    /// None for a label that this adapter does not give here.
    pub fn locate(&self, label: &str, env: &Env) -> Option<PathBuf> {
        if let Some(root) = self.resolve(env).into_iter().find(|root| root.label == label) {
            return Some(root.dir);
        }
        // numbered as a survey does where all of them are there
        let mut labels = HashSet::new();
        for spec in &self.roots {
            let sites = spec.sites(env);
            let targets = if spec.env_file.is_empty() || !sites.is_empty() {
                sites
            } else {
                spec.standing(env)
            };
            let mut named =
                targets.into_iter().map(|one| (unused(&mut labels, &self.label(spec, &one)), one));
            if let Some((_, hit)) = named.find(|(own, _)| own == label) {
                return Some(hit.path);
            }
        }
        None
    }

    /// The same, for a root that was at `recorded` on another machine: one that a wildcard found there has its
    /// place here also while nothing is here yet. `recorded` is a claim of a snapshot; what comes back is
    /// always a candidate of this adapter, with names in it that its wildcards match.
    pub fn locate_as(&self, label: &str, recorded: &Path, env: &Env) -> Option<PathBuf> {
        let foreseen = || self.roots.iter().find_map(|s| self.foreseen(s, label, recorded, env));
        self.locate(label, env).or_else(foreseen)
    }

    fn foreseen(
        &self,
        spec: &RootSpec,
        label: &str,
        recorded: &Path,
        env: &Env,
    ) -> Option<PathBuf> {
        if !spec.several || !spec.overridden(env).is_empty() {
            return None;
        }
        let systems = [env.os, Os::Linux, Os::Macos, Os::Windows];
        let fitting = |wild: &Vec<String>| {
            let own = format!("{}/{}{}", self.id, spec.label, matched(wild));
            label.strip_prefix(&own).is_some_and(is_number)
        };
        let mut names =
            systems.iter().flat_map(|os| spec.places(*os)).filter_map(|p| p.wild_in(recorded));
        let wild = names.find(fitting)?;
        // first the place that found it there: others may have as many wildcards
        let here = spec.places(env.os);
        let same = here.iter().filter(|place| place.wild_in(recorded).as_ref() == Some(&wild));
        same.chain(here).find_map(|place| place.filled(&wild, env))
    }

    /// A group is one per agent, and where its roots are several, one per end of their labels.
    fn name_groups(&self, spec: &RootSpec, label: &str, rules: &mut Arc<Rules>) {
        if !spec.lists.groups.is_empty() {
            let end = &label[self.id.len() + 1 + spec.label.len()..];
            Arc::make_mut(rules).name_groups(|name| format!("{}/{name}{end}", self.id));
        }
    }

    fn label(&self, spec: &RootSpec, site: &Site) -> String {
        format!("{}/{}{}", self.id, spec.label, site.suffix)
    }
}

enum Look {
    Nothing,
    Refused(String),
    /// There: its canonical path and the rules for it.
    Found(PathBuf, Arc<Rules>),
}

impl RootSpec {
    /// The places of this root here, best first.
    fn sites(&self, env: &Env) -> Vec<Site> {
        let overridden = self.overridden(env);
        if !overridden.is_empty() || !self.env_file.is_empty() {
            return overridden;
        }
        self.standing(env)
    }

    /// The places that variables name.
    fn overridden(&self, env: &Env) -> Vec<Site> {
        let file = |path: PathBuf| {
            let name = path.file_name()?.to_str()?.to_owned();
            Some(Site {
                path: path.parent()?.to_path_buf(),
                suffix: String::new(),
                file: Some(name),
            })
        };
        let dir = |path: PathBuf| {
            let suffix =
                if self.several { format!("/{}", slug(&name_of(&path))) } else { String::new() };
            Site { path, suffix, file: None }
        };
        for variable in &self.env_file {
            let found: Vec<_> = variable.expand(env, false).into_iter().filter_map(file).collect();
            if !found.is_empty() {
                return found;
            }
        }
        for variable in &self.env {
            let found = variable.expand(env, self.several);
            if !found.is_empty() {
                return found.into_iter().map(dir).collect();
            }
        }
        Vec::new()
    }

    /// The places that the file lists for this system.
    fn standing(&self, env: &Env) -> Vec<Site> {
        let site = |spot: Spot| Site {
            // one segment whatever matched: no label may lie below another
            suffix: match spot.wild.as_slice() {
                [] if self.several => format!("/{}", slug(&name_of(&spot.path))),
                [] => String::new(),
                wild => matched(wild),
            },
            path: spot.path,
            file: None,
        };
        self.places(env.os).iter().flat_map(|place| place.expand(env)).map(site).collect()
    }

    /// Rules are compiled only for what is there: most agents are not on most machines.
    fn look(&self, site: &Site, env: &Env) -> Look {
        let real = match site.path.canonicalize() {
            Ok(real) if real.is_dir() => real,
            Ok(_) => return Look::Nothing,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Look::Nothing,
                    _ => Look::Refused(format!("cannot be looked at: {error}")),
                };
            }
        };
        if let Some(marker) = &self.marker
            && !real.join(marker).exists()
        {
            return Look::Nothing;
        }
        let rules = site.rules(self);
        if rules.is_files() {
            return if has_any(&real, &rules) { Look::Found(real, rules) } else { Look::Nothing };
        }
        let home = env.home.canonicalize().unwrap_or_else(|_| env.home.clone());
        if home.starts_with(&real) {
            return Look::Refused("is the home directory or holds it; name it with --path".into());
        }
        Look::Found(real, rules)
    }
}

impl Site {
    /// The rules of the root if it is here.
    fn rules(&self, spec: &RootSpec) -> Arc<Rules> {
        let Some(name) = &self.file else { return spec.rules() };
        let lists = Lists { files: vec![pattern::escape(name)], ..spec.lists.clone() };
        #[allow(clippy::expect_used, reason = "checked patterns and a name without any pattern")]
        Arc::new(Rules::compile(lists).expect("checked patterns"))
    }

    fn whole(self) -> PathBuf {
        match self.file {
            Some(name) => self.path.join(name),
            None => self.path,
        }
    }
}

impl Lists {
    /// The paths that a root in `dir` stands for, for messages.
    fn named(&self, dir: &Path) -> Vec<PathBuf> {
        if self.files.is_empty() {
            return vec![dir.to_path_buf()];
        }
        self.files.iter().map(|name| dir.join(name)).collect()
    }
}

impl Claim {
    /// Whether a later claim says nothing new.
    fn covers(&self, real: &Path, rules: &Rules) -> bool {
        self.real == real && self.rules.files() == rules.files()
    }
}

/// Whether a file of a root of single files is there, be it a secret: it must then be carved out
/// of the roots around it.
fn has_any(dir: &Path, rules: &Rules) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| {
        let is_file = entry.file_type().is_ok_and(|kind| !kind.is_dir());
        is_file && rules.decide(entry.file_name().as_encoded_bytes(), false) != Decision::Exclude
    })
}

/// Gives each path to the innermost root that claims it, and single files to their own root.
fn settle(claims: Vec<Claim>) -> Vec<Root> {
    let carved: Vec<Vec<Carved>> = (0..claims.len()).map(|outer| pieces(&claims, outer)).collect();
    let root = |(claim, carved): (Claim, Vec<Carved>)| {
        let mut rules = claim.rules;
        for piece in carved {
            Arc::make_mut(&mut rules).carve(piece);
        }
        Root { label: claim.label, dir: claim.dir, rules }
    };
    claims.into_iter().zip(carved).map(root).collect()
}

fn pieces(claims: &[Claim], outer: usize) -> Vec<Carved> {
    let mine = &claims[outer];
    let mut pieces = Vec::new();
    for (at, other) in claims.iter().enumerate() {
        let Ok(rel) = other.real.strip_prefix(&mine.real) else { continue };
        let rel = inside(rel);
        match (mine.rules.is_files(), other.rules.file_names()) {
            _ if at == outer => {}
            (true, Some(names)) if rel.is_empty() && at < outer => {
                pieces.push(Carved::Files(rel, names));
            }
            (false, Some(names)) => pieces.push(Carved::Files(rel, names)),
            (false, None) if !rel.is_empty() => pieces.push(Carved::Dir(rel)),
            _ => {}
        }
    }
    pieces
}

/// The end of a label, of what wildcards matched.
fn matched(wild: &[String]) -> String {
    format!("/{}", wild.iter().map(|name| slug(name)).collect::<Vec<_>>().join("."))
}

/// The number of a label that was taken, or none.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or_default();
    text.is_empty() || (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A relative path as rules see it: bytes, `/` between segments.
fn inside(rel: &Path) -> Vec<u8> {
    let parts: Vec<&[u8]> = rel.iter().map(std::ffi::OsStr::as_encoded_bytes).collect();
    parts.join(&b'/')
}

/// A name as part of a label: `Code - Insiders` becomes `code-insiders`. Letters beyond ASCII
/// become their numbers, so that names in other scripts stay apart.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars().map(|c| c.to_ascii_lowercase()) {
        if !c.is_ascii() {
            slug.extend(format!("{:x}", u32::from(c)).chars());
        } else if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '_' {
            slug.push(c);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_matches(['-', '.']);
    if slug.is_empty() { "root".to_owned() } else { slug.to_owned() }
}

/// The label, numbered if it is taken: `x`, `x-2`, `x-3`.
fn unused(labels: &mut HashSet<String>, label: &str) -> String {
    let mut candidate = label.to_owned();
    let mut n = 1_u32;
    while !labels.insert(candidate.clone()) {
        n += 1;
        candidate = format!("{label}-{n}");
    }
    candidate
}
