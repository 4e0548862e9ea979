//! Row rules: what of a database's rows never leaves the machine.
//!
//! In: the `[[roots.rows]]` tables of a root. Out: for each path the [`RowRule`]s that apply to it.
//! A rule only names things: a table, columns, values. It has no SQL of its own, so that whoever
//! carries it out quotes the names and binds the values, and an adapter can do nothing else.

use std::sync::Arc;

use globset::{Candidate, GlobSet, GlobSetBuilder};

use crate::pattern::{self, Case};

/// One rule for the rows of one table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RowRule {
    /// The table, as it is written in the database; SQLite ignores the case of ASCII letters.
    pub table: String,
    /// Which rows; none is every row.
    pub rows: Option<RowMatch>,
    /// What happens to them.
    pub action: RowAction,
}

/// Rows whose value in a column, read as text, is one of a list. NULL is never one of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RowMatch {
    /// The column.
    pub column: String,
    /// What its value is compared with.
    pub values: RowValues,
}

/// Values that a row is found by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RowValues {
    /// One of these, byte for byte.
    Is(Vec<String>),
    /// Matches one of these by SQLite's GLOB: `*`, `?` and `[...]`, the case of letters counts.
    Glob(Vec<String>),
}

/// What happens to a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RowAction {
    /// It is left out.
    Delete,
    /// These columns get a fixed text instead of their value, unless it is NULL.
    Redact(Vec<String>),
}

/// A rule and the databases it is for, as written.
#[derive(Debug, Clone)]
pub(crate) struct RowTable {
    pub(crate) databases: Vec<String>,
    pub(crate) rule: Arc<RowRule>,
}

/// The compiled row rules of a root.
#[derive(Debug, Clone, Default)]
pub(crate) struct RowRules(Vec<(GlobSet, Arc<RowRule>)>);

impl RowRules {
    pub(crate) fn compile(tables: &[RowTable]) -> Result<Self, globset::Error> {
        let compile = |table: &RowTable| {
            let mut set = GlobSetBuilder::new();
            for pattern in &table.databases {
                set.add(pattern::glob(pattern, Case::Exact)?);
            }
            Ok((set.build()?, Arc::clone(&table.rule)))
        };
        tables.iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// The rules for a path, in the order of the file.
    pub(crate) fn of(&self, rel: &[u8]) -> Vec<Arc<RowRule>> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let path = Candidate::from_bytes(rel);
        let fits = |(set, _): &&(GlobSet, Arc<RowRule>)| set.is_match_candidate(&path);
        self.0.iter().filter(fits).map(|(_, rule)| Arc::clone(rule)).collect()
    }
}

/// Says what is wrong with the name of a table, if anything is.
pub(crate) fn check_table(name: &str) -> Result<(), String> {
    check_name(name)?;
    if name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_")) {
        return Err(format!("'{name}' is one of SQLite's own tables"));
    }
    Ok(())
}

/// Says what is wrong with the name of a column, if anything is.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    match name {
        "" => Err("is empty".to_owned()),
        _ if name.contains('\0') => Err("must not contain a NUL".to_owned()),
        _ => Ok(()),
    }
}

/// Says what is wrong with a GLOB pattern, if anything is. SQLite takes every text for one; a class
/// that is never closed matches nothing, and nobody means that.
pub(crate) fn check_glob(glob: &str) -> Result<(), String> {
    check_name(glob)?;
    let mut rest = glob;
    while let Some((_, class)) = rest.split_once('[') {
        let class = class.strip_prefix('^').unwrap_or(class);
        // a ']' that comes first belongs to the class
        let first = class.chars().next().map_or(0, char::len_utf8);
        let Some(end) = class[first..].find(']') else {
            return Err(format!("'{glob}' lacks a ']'"));
        };
        rest = &class[first + end + 1..];
    }
    Ok(())
}
