//! Rows that never left their machine: a restored database gets them back from the live one.
//!
//! In: a database as it is stored, whole and verified, under its temporary name; what is at its place
//! now; and the row rules of the roots here ([`Filters`]). Out: the database with the rows and values
//! that are there ([`regain`]). What the live one has not stays blank, and the report names it.
//! Invariant: a live database whose rows cannot be told or read is not replaced, unless it is told to
//! go ([`Overwrite::Always`]): nobody else has them.
//!
//! It is the rules that say so and not the entry's flag: a database that had no login when it was
//! stored may have one now.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use adapters::{FieldRules, RowAction, RowRule};
use repo::{Entry, flag};

use super::Overwrite;
use super::apply::Run;
use super::fields::Written;
use super::file::Failed;
use super::inspect::hash_file;
use super::plan::Item;
use super::select::strip_path;
use super::target::{Facts, Found, Temp};
use crate::capture::regain::{self, Regained, regain};
use crate::scan::Filter;

/// What a push takes of each root, by its label.
#[derive(Clone, Default)]
pub struct Filters(Vec<(Vec<u8>, Arc<dyn Filter>)>);

impl fmt::Debug for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(label, _)| show(label))).finish()
    }
}

fn show(label: &[u8]) -> String {
    super::error::show(label)
}

impl FromIterator<(Vec<u8>, Arc<dyn Filter>)> for Filters {
    fn from_iter<I: IntoIterator<Item = (Vec<u8>, Arc<dyn Filter>)>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

impl Filters {
    /// The row rules for a path, label first.
    pub(super) fn rows(&self, path: &[u8]) -> Vec<Arc<RowRule>> {
        self.root_of(path).map(|(filter, rest)| filter.row_rules(rest)).unwrap_or_default()
    }

    /// The field rules for a path, label first.
    pub(super) fn fields(&self, path: &[u8]) -> Option<FieldRules> {
        self.root_of(path).and_then(|(filter, rest)| filter.field_rules(rest))
    }

    /// The innermost root that a path lies in, and the path there.
    fn root_of<'p>(&self, path: &'p [u8]) -> Option<(&dyn Filter, &'p [u8])> {
        let mut best: Option<(&dyn Filter, &[u8])> = None;
        for (label, filter) in &self.0 {
            if let Some(rest) = strip_path(path, label)
                && best.is_none_or(|(_, known)| rest.len() < known.len())
            {
                best = Some((filter.as_ref(), rest));
            }
        }
        best
    }
}

/// Puts the live rows into a whole and verified database.
pub(super) fn keep_live(
    run: &Run<'_>,
    index: usize,
    temp: &Temp,
    file: &File,
) -> Result<(), Failed> {
    let item = &run.items[index];
    let (entry, place) = item.target().ok_or(Failed::Over)?;
    let rules = run.options.filters.rows(&item.path);
    let there = run.targets[place.base].facts(&place.rel)?;
    let live = there.is_some_and(|facts| facts.found == Found::File && facts.size > 0);
    if !live {
        tell_blanks(run, item, temp, &rules);
        return Ok(());
    }
    let stays = |why: &dyn fmt::Display| {
        if run.options.overwrite == Overwrite::Always {
            let what = "it replaced a database; rows that are left out of backups, such as logins, \
                        are not in it";
            run.notice(item, format!("{what}: {why}"));
            return Ok(());
        }
        let why = format!(
            "what is there may have rows that nobody else has: {why}; move it away, or restore \
             elsewhere with --to DIR"
        );
        Err(Failed::Content(why))
    };
    if rules.is_empty() {
        if entry.flags & flag::SQLITE_EDITED != 0 {
            return stays(&"rows were left out of the stored one, and no adapter here says which");
        }
        return Ok(());
    }
    let name = place.rel.split().map(|(_, name)| name.to_vec()).ok_or(Failed::Over)?;
    let (image, live) = match (temp.path(), temp.beside(&name)) {
        (Ok(image), Ok(live)) => (image, live),
        (Err(error), _) | (_, Err(error)) => return stays(&error),
    };
    match regain(&image, &live, &rules) {
        Ok(regained) => tell(run, item, &regained),
        Err(regain::Failed::Live(error)) => stays(&error)?,
        Err(regain::Failed::Image(error)) => {
            let why = format!("the live rows could not be put into it: {error}");
            return Err(Failed::Content(why));
        }
    }
    written(run, index, entry, file)
}

/// Remembers what the file is now.
fn written(run: &Run<'_>, index: usize, entry: &Entry, file: &File) -> Result<(), Failed> {
    let hash = hash_file(file, run.cancel).map_err(|_| Failed::Over)??;
    if hash != entry.hash {
        run.set_written(index, Written { size: Facts::of(file)?.size, hash });
    }
    Ok(())
}

fn tell(run: &Run<'_>, item: &Item, regained: &Regained) {
    run.kept_rows(regained.rows_count);
    if !regained.blanks.is_empty() {
        run.blank(item, regained.blanks.clone());
    }
    for lost in &regained.lost {
        let lost = show(lost.as_bytes());
        run.notice(item, format!("not kept of the live database, and in no backup: {lost}"));
    }
}

/// Nothing was there: what is blank in the stored one has to be filled in.
fn tell_blanks(run: &Run<'_>, item: &Item, temp: &Temp, rules: &[Arc<RowRule>]) {
    if !rules.iter().any(|rule| matches!(rule.action, RowAction::Redact(_))) {
        return;
    }
    let count = |image: &Path| regain::blanks(image, rules);
    match temp.path().and_then(|image| count(&image)) {
        Ok(blanks) if blanks.is_empty() => {}
        Ok(blanks) => run.blank(item, blanks),
        // a damaged database is restored as it was stored
        Err(error) => tracing::debug!(%error, action = item.action.word(), "no count of blanks"),
    }
}
