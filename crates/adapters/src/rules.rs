//! What of a root is backed up: one answer per path.
//!
//! In: the pattern lists of a root. Out: a [`Decision`] for each path that the scan meets, and
//! whether a directory is worth entering. Order of precedence: another root's piece, secrets,
//! excludes, includes. Patterns are compiled once; a decision allocates only for names of copies.

use std::sync::Arc;

use globset::{Candidate, GlobSet};

use crate::binds::{Bind, BindTable, Binds};
use crate::carve::Carved;
use crate::copied;
use crate::error::AdapterError;
use crate::fields::{FieldRules, FieldTable, Fields};
use crate::pattern::{self, Case, Cover};
use crate::rows::{RowRule, RowRules, RowTable};
use crate::sessions::{SessionRule, SessionTable, Sessions};

/// What SQLite keeps beside a database. A database is captured as one consistent image, so its
/// side files never are.
const SIDE_FILES: [&[u8]; 3] = [b"-wal", b"-shm", b"-journal"];

/// Names under which databases usually go, for directories that no adapter describes.
const USUAL_DATABASES: &str = "**/*.{db,db3,sqlite,sqlite3,vscdb}";

/// What happens to one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Backed up; a directory is walked too.
    Include,
    /// Backed up as a SQLite database: a consistent image, not the bytes as they lie there.
    IncludeSqlite,
    /// A directory that is only the way to something included.
    Walk,
    /// A file that is left out.
    Exclude,
    /// A file or directory that never leaves the machine. Such a directory is not entered.
    ExcludeSecret,
    /// A directory that is left out and not entered.
    PruneDir,
}

impl Decision {
    /// Whether the path itself is backed up.
    pub fn is_included(self) -> bool {
        matches!(self, Self::Include | Self::IncludeSqlite)
    }

    /// Whether a directory with this decision is entered.
    pub fn is_entered(self) -> bool {
        matches!(self, Self::Include | Self::Walk)
    }
}

/// The pattern lists of a root, as written. An empty `include` is everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lists {
    pub(crate) include: Vec<String>,
    pub(crate) exclude: Vec<String>,
    pub(crate) secret_exclude: Vec<String>,
    pub(crate) sqlite: Vec<String>,
    pub(crate) rows: Vec<RowTable>,
    pub(crate) fields: Vec<FieldTable>,
    pub(crate) binds: Vec<BindTable>,
    pub(crate) sessions: Vec<SessionTable>,
    pub(crate) volatile: Vec<String>,
    /// If there are any, the root is these files directly in its directory and nothing else.
    pub(crate) files: Vec<String>,
    pub(crate) max_file_size: Option<u64>,
    /// Members of groups in this root: the group's name and a pattern. Groups stay together.
    pub(crate) groups: Vec<(String, String)>,
}

/// The compiled rules of one root.
#[derive(Debug, Clone)]
pub struct Rules {
    lists: Lists,
    include: Option<Cover>,
    ways: GlobSet,
    exclude: Cover,
    secret: Cover,
    sqlite: GlobSet,
    rows: RowRules,
    fields: Fields,
    binds: Binds,
    sessions: Sessions,
    volatile: Cover,
    groups: Vec<Group>,
    carved: Vec<Carved>,
}

/// What of this root belongs to a group.
#[derive(Debug, Clone)]
struct Group {
    name: String,
    members: Cover,
    ways: GlobSet,
}

impl Group {
    fn compile(lists: &Lists) -> Result<Vec<Self>, globset::Error> {
        let of_one = |members: &[(String, String)]| {
            let patterns: Vec<String> =
                members.iter().map(|(_, pattern)| pattern.clone()).collect();
            Ok(Self {
                name: members[0].0.clone(),
                members: Cover::compile(&patterns, Case::Exact)?,
                ways: pattern::ways(&patterns)?,
            })
        };
        lists.groups.chunk_by(|a, b| a.0 == b.0).map(of_one).collect()
    }
}

impl Rules {
    /// Everything, for a directory that no adapter describes. Files with the usual names of
    /// databases count as databases.
    pub fn everything() -> Self {
        let sqlite = vec![USUAL_DATABASES.to_owned()];
        #[allow(clippy::expect_used, reason = "a constant that the tests compile")]
        Self::compile(Lists { sqlite, ..Lists::default() }).expect("the constant pattern compiles")
    }

    /// These rules with more excludes, as a user gives them on the command line: a pattern without
    /// `/` counts at any depth, one with `/` from the root on. A final `/` means nothing.
    pub fn with_excludes(&self, patterns: &[String]) -> Result<Self, AdapterError> {
        let mut lists = self.lists.clone();
        for given in patterns {
            let trimmed = given.strip_suffix('/').unwrap_or(given);
            let pattern = match trimmed.strip_prefix('/') {
                Some(rooted) => rooted.to_owned(),
                None if trimmed.contains('/') || trimmed == "**" => trimmed.to_owned(),
                None => format!("**/{trimmed}"),
            };
            let bad = |what| AdapterError::Pattern { pattern: given.clone(), what };
            if trimmed.is_empty() {
                return Err(bad("is empty".to_owned()));
            }
            pattern::check(&pattern).map_err(bad)?;
            lists.exclude.push(pattern);
        }
        let mut rules = Self::compile(lists).map_err(|error| AdapterError::Pattern {
            pattern: patterns.join(" "),
            what: error.to_string(),
        })?;
        rules.carved.clone_from(&self.carved);
        Ok(rules)
    }

    pub(crate) fn compile(lists: Lists) -> Result<Self, globset::Error> {
        let wanted = if lists.files.is_empty() { &lists.include } else { &lists.files };
        let include =
            if wanted.is_empty() { None } else { Some(Cover::compile(wanted, Case::Exact)?) };
        let mut sqlite = globset::GlobSetBuilder::new();
        // what has row rules is a database: its side files must never be stored by themselves
        let with_rows = lists.rows.iter().flat_map(|table| &table.databases);
        for pattern in lists.sqlite.iter().chain(with_rows) {
            sqlite.add(pattern::glob(pattern, Case::Exact)?);
        }
        Ok(Self {
            include,
            ways: pattern::ways(wanted)?,
            exclude: Cover::compile(&lists.exclude, Case::Exact)?,
            secret: Cover::compile(&lists.secret_exclude, Case::Ignored)?,
            sqlite: sqlite.build()?,
            rows: RowRules::compile(&lists.rows)?,
            fields: Fields::compile(&lists.fields)?,
            binds: Binds::compile(&lists.binds)?,
            sessions: Sessions::compile(&lists.sessions)?,
            volatile: Cover::compile(&lists.volatile, Case::Exact)?,
            groups: Group::compile(&lists)?,
            carved: Vec::new(),
            lists,
        })
    }

    pub(crate) fn carve(&mut self, piece: Carved) {
        self.carved.push(piece);
    }

    /// Whether this root is single files and nothing else.
    pub fn is_files(&self) -> bool {
        !self.lists.files.is_empty()
    }

    pub(crate) fn files(&self) -> &[String] {
        &self.lists.files
    }

    /// The names of a root of single files, compiled; none if the root is a directory.
    pub(crate) fn file_names(&self) -> Option<Arc<GlobSet>> {
        if !self.is_files() {
            return None;
        }
        let mut names = globset::GlobSetBuilder::new();
        for name in &self.lists.files {
            names.add(pattern::glob(name, Case::Exact).ok()?);
        }
        names.build().ok().map(Arc::new)
    }

    /// What happens to the path `rel` inside the root: `/` between segments, bytes as the file
    /// system has them, empty for the root itself. A symbolic link is not a directory.
    pub fn decide(&self, rel: &[u8], is_dir: bool) -> Decision {
        if rel.is_empty() {
            return if self.include.is_none() { Decision::Include } else { Decision::Walk };
        }
        let left_out = if is_dir { Decision::PruneDir } else { Decision::Exclude };
        if self.is_files() && (is_dir || rel.contains(&b'/')) {
            return left_out;
        }
        if self.carved.iter().any(|piece| piece.has(rel, is_dir)) {
            return left_out;
        }
        let path = Candidate::from_bytes(rel);
        if self.secret.has(&path, is_dir) {
            return Decision::ExcludeSecret;
        }
        if self.exclude.has(&path, is_dir) || (!is_dir && self.is_side_file(rel)) {
            return left_out;
        }
        let included = self.include.as_ref().is_none_or(|include| include.has(&path, is_dir));
        match (included, is_dir) {
            (true, false) if self.is_copy_with_secrets(rel) => Decision::ExcludeSecret,
            (true, false) if self.sqlite.is_match_candidate(&path) => Decision::IncludeSqlite,
            (true, _) => Decision::Include,
            (false, true) if self.ways.is_match_candidate(&path) => Decision::Walk,
            (false, _) => left_out,
        }
    }

    /// By its name, is this a copy of a file that is a secret or holds some? One that has rules of its own
    /// is treated by these.
    fn is_copy_with_secrets(&self, rel: &[u8]) -> bool {
        let Some(original) = copied::original(rel) else { return false };
        let is_secret = self.secret.has(&Candidate::from_bytes(&original), false);
        is_secret
            || (self.fields.of(&original).is_some() && self.fields.of(rel).is_none())
            || (!self.rows.of(&original).is_empty() && self.rows.of(rel).is_empty())
    }

    /// Whether the agent deletes this by itself, so that a backup must not follow the deletion.
    pub fn volatile(&self, rel: &[u8]) -> bool {
        self.volatile.has(&Candidate::from_bytes(rel), false)
    }

    /// The group whose members are captured in one pass, if this file belongs to one: unique among
    /// all agents, and the same name in every root that the group spans. The first group counts.
    pub fn group(&self, rel: &[u8]) -> Option<&str> {
        let path = Candidate::from_bytes(rel);
        self.groups.iter().find(|group| group.members.has(&path, false)).map(|g| g.name.as_str())
    }

    /// Whether members of a group may lie in this directory or below it; of the root itself, whether
    /// there are groups at all.
    pub fn leads_to_group(&self, rel: &[u8]) -> bool {
        let path = Candidate::from_bytes(rel);
        let leads =
            |group: &Group| group.ways.is_match_candidate(&path) || group.members.has(&path, true);
        if rel.is_empty() { !self.groups.is_empty() } else { self.groups.iter().any(leads) }
    }

    /// Gives the groups their full names.
    pub(crate) fn name_groups(&mut self, full: impl Fn(&str) -> String) {
        for (name, _) in &mut self.lists.groups {
            *name = full(name);
        }
        for group in &mut self.groups {
            group.name = full(&group.name);
        }
    }

    /// What of the rows of a database is left out, in this order. A file that has such rules may
    /// only be stored after they were carried out.
    pub fn rows(&self, rel: &[u8]) -> Vec<Arc<RowRule>> {
        self.rows.of(rel)
    }

    /// What of the fields of a text file is left out, if anything is. A file that has such rules may
    /// only be stored after they were carried out.
    pub fn fields(&self, rel: &[u8]) -> Option<FieldRules> {
        self.fields.of(rel)
    }

    /// Is it said where paths stand, for any file or directory?
    pub fn has_binds(&self) -> bool {
        !self.lists.binds.is_empty()
    }

    /// Where absolute paths stand in this file, or in the name of this directory.
    pub fn binds(&self, rel: &[u8], is_dir: bool) -> Vec<Arc<Bind>> {
        self.binds.of(rel, is_dir)
    }

    /// How the sessions in a file are read: one rule, and of a database all that name it.
    pub fn sessions(&self, rel: &[u8]) -> Vec<Arc<SessionRule>> {
        self.sessions.of(rel)
    }

    /// All rules about sessions.
    pub fn session_rules(&self) -> impl Iterator<Item = &Arc<SessionRule>> {
        self.sessions.all()
    }

    /// The size guard in bytes: larger files are left out and named.
    pub fn max_file_size(&self) -> Option<u64> {
        self.lists.max_file_size
    }

    fn is_side_file(&self, rel: &[u8]) -> bool {
        SIDE_FILES.iter().any(|suffix| {
            rel.strip_suffix(*suffix).is_some_and(|database| {
                self.sqlite.is_match_candidate(&Candidate::from_bytes(database))
            })
        })
    }
}
