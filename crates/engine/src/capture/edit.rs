//! Row rules carried out: an image from which rows and values are left out.
//!
//! In: a copy of a database in a private file of ours, and what of it is left out ([`RowRule`]). Out:
//! the same file, edited. SQLite does the editing (`secure_delete`, no VACUUM: pages stay where they
//! are); then [`super::scrub`] clears whatever the database does not use, so that values which were
//! changed or deleted long ago are not in it either.
//!
//! Invariants: the same copy and the same rules give the same bytes. The header says what it said at
//! the source, but for the free pages. Nothing that is written in the file runs: no trigger, no
//! view, no virtual table. An error means that the file must not be used.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use adapters::{RowAction, RowRule, RowValues};
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::connection::{connect_own, explain};
use super::health::Health;
use super::{marks, scrub};
use crate::marks::{Marking, Tally};

/// The largest image that is edited: it is written once and read twice more, at every push that
/// finds a change. The largest agent's database that is known has 73 GB.
pub(crate) const IMAGE_BYTES_MAX: u64 = 128 << 30;
/// What stays free on the disk besides the copy, for everybody else.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// What stands in place of a value that was left out.
pub(crate) const MARKER: &str = "[left out by agent-backup]";
/// Part of every fingerprint. A change in how images are edited must change it, so that they are
/// made again.
const EDITION: &[u8] = b"agent-backup rows 1";

/// What is left out of an image.
#[derive(Debug, Clone)]
pub(crate) struct Edit {
    /// Rows and values, in this order.
    pub(crate) rules: Vec<Arc<RowRule>>,
    /// How secrets are replaced, if they are, and the path of the database as stored.
    pub(crate) marking: Option<(Arc<Marking>, Vec<u8>)>,
    /// A larger image is an error.
    pub(crate) image_bytes_max: u64,
    /// What was done, once the image is there.
    pub(crate) done: Arc<OnceLock<Edited>>,
}

/// What an edit did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edited {
    /// Rows that were left out or in which a value was.
    pub(crate) rows_count: u64,
    /// Tables and columns that rules name and the database does not have.
    pub(crate) absent: Vec<String>,
    /// Secrets that were replaced.
    pub(crate) tally: Tally,
}

impl Edit {
    /// `None` if there is nothing to do.
    pub(crate) fn of(
        rules: &[Arc<RowRule>],
        marking: Option<(Arc<Marking>, Vec<u8>)>,
    ) -> Option<Self> {
        let rules = rules.to_vec();
        let any = !rules.is_empty() || marking.is_some();
        let done = Arc::default();
        any.then_some(Self { rules, marking, image_bytes_max: IMAGE_BYTES_MAX, done })
    }

    /// Refuses an image that is too large, or for which there is no room in `dir`.
    pub(super) fn check_room(&self, bytes: u64, dir: &Path) -> io::Result<()> {
        let refuse = |kind, what| Err(io::Error::new(kind, what));
        if bytes > self.image_bytes_max {
            let max = self.image_bytes_max;
            let what = format!("it has {bytes} bytes, and more than {max} are not copied for that");
            return refuse(io::ErrorKind::FileTooLarge, what);
        }
        let disk = rustix::fs::statvfs(dir)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < bytes.saturating_add(FREE_BYTES_MIN) {
            let what = format!(
                "the copy it needs has {bytes} bytes, and {} has {free} bytes free, of which \
                 {FREE_BYTES_MIN} stay free",
                dir.display()
            );
            return refuse(io::ErrorKind::StorageFull, what);
        }
        Ok(())
    }
}

/// Identifies rules: an image made under others is made again. `None` if there are no rules.
pub(crate) fn fingerprint(rules: &[Arc<RowRule>]) -> Option<[u8; 32]> {
    if rules.is_empty() {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    let mut put = |tag: u8, text: &str| {
        hasher.update(&[tag]).update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    };
    for rule in rules {
        put(b't', &rule.table);
        if let Some(rows) = &rule.rows {
            put(b'c', &rows.column);
            let (tag, values) = match &rows.values {
                RowValues::Is(values) => (b'i', values),
                RowValues::Glob(globs) => (b'g', globs),
            };
            for value in values {
                put(tag, value);
            }
        }
        match &rule.action {
            RowAction::Delete => put(b'd', ""),
            RowAction::Redact(columns) => columns.iter().for_each(|column| put(b'r', column)),
        }
    }
    Some(*hasher.update(EDITION).update(MARKER.as_bytes()).finalize().as_bytes())
}

/// Edits the database at `path`, which nobody else has open. `check` looks at it when that is done.
pub(super) fn edit(
    path: &Path,
    edit: &Edit,
    check: &dyn Fn(&Connection) -> Option<Health>,
) -> io::Result<(Edited, Option<Health>)> {
    let header = Header::prepare(path)?;
    let db = connect_own(path).map_err(explain)?;
    let mut edited = Edited { rows_count: 0, absent: Vec::new(), tally: Tally::default() };
    db.execute_batch("BEGIN EXCLUSIVE").map_err(explain)?;
    for rule in &edit.rules {
        Table::find(&db, rule, &mut edited)?
            .map_or(Ok(()), |table| table.carry_out(&mut edited))?;
    }
    if let Some((marking, name)) = &edit.marking {
        edited.tally = marks::put_in(&db, marking, name)?;
    }
    db.execute_batch("COMMIT").map_err(explain)?;
    let health = check(&db);
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    scrub::scrub(&db, &file)?;
    db.close().map_err(|(_, error)| explain(error))?;
    header.put_back(&file)?;
    if let Some((marking, name)) = &edit.marking {
        let left = marking.find(name, &mut file)?;
        if left.count() > 0 {
            let what = format!("not in a table, or over several values: {}", left.words());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        edited.tally.reported = left.reported;
    }
    Ok((edited, health))
}

/// A table that a rule is carried out on.
struct Table<'a> {
    db: &'a Connection,
    rule: &'a RowRule,
    /// As the database spells it.
    name: String,
    columns: Vec<String>,
}

impl<'a> Table<'a> {
    /// `None` if there is nothing to do: the database has no such table, or not the column that its
    /// rows are found by.
    fn find(
        db: &'a Connection,
        rule: &'a RowRule,
        edited: &mut Edited,
    ) -> io::Result<Option<Self>> {
        let query = "SELECT name, type, rootpage FROM main.sqlite_schema \
                     WHERE name=?1 COLLATE NOCASE AND type IN ('table', 'view')";
        let found = db
            .query_row(query, [&rule.table], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
            })
            .optional()
            .map_err(|e| failed(rule, explain(e)))?;
        let Some((name, kind, root_page)) = found else {
            edited.absent.push(format!("table '{}'", rule.table));
            return Ok(None);
        };
        if kind != "table" || root_page == 0 {
            return Err(refused(rule, "it is a view or a virtual table".to_owned()));
        }
        let table = Self { columns: columns(db, &name).map_err(explain)?, db, rule, name };
        match &rule.rows {
            Some(rows) if !table.has(&rows.column) => {
                edited.absent.push(format!("column '{}' of '{}'", rows.column, rule.table));
                Ok(None)
            }
            _ => Ok(Some(table)),
        }
    }

    fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|known| known.eq_ignore_ascii_case(column))
    }

    fn carry_out(&self, edited: &mut Edited) -> io::Result<()> {
        let fail = |error| failed(self.rule, explain(error));
        let count = match &self.rule.action {
            RowAction::Delete => self.delete().map_err(fail)?,
            RowAction::Redact(columns) => {
                let (here, absent): (Vec<_>, Vec<_>) =
                    columns.iter().partition(|column| self.has(column));
                let named = |column| format!("column '{column}' of '{}'", self.rule.table);
                edited.absent.extend(absent.into_iter().map(named));
                self.redact(here).map_err(fail)?
            }
        };
        if count > 0 {
            if let Some(index) = index_of(self.db, &self.name).map_err(fail)? {
                let what = format!("the full-text index '{index}' would keep what is left out");
                return Err(refused(self.rule, what));
            }
            forget_samples(self.db, &self.name).map_err(fail)?;
        }
        edited.rows_count += count as u64;
        Ok(())
    }

    fn delete(&self) -> rusqlite::Result<usize> {
        let (condition, values) = condition(self.rule, 1);
        let sql = format!("DELETE FROM main.{}{condition}", quoted(&self.name));
        self.db.execute(&sql, params_from_iter(values))
    }

    fn redact(&self, mut columns: Vec<&String>) -> rusqlite::Result<usize> {
        // the column that rows are found by must keep its value until the others are done
        let finds = |column: &&String| {
            self.rule.rows.as_ref().is_some_and(|rows| rows.column.eq_ignore_ascii_case(column))
        };
        columns.sort_by_key(finds);
        let (condition, values) = condition(self.rule, 2);
        let and = if condition.is_empty() { " WHERE " } else { " AND " };
        let mut count = 0;
        for column in columns {
            let (table, column) = (quoted(&self.name), quoted(column));
            let sql = format!(
                "UPDATE main.{table} SET {column}=?1{condition}{and}\
                 {column} IS NOT NULL AND {column} IS NOT ?1"
            );
            let marker = std::iter::once(MARKER);
            count +=
                self.db.execute(&sql, params_from_iter(marker.chain(values.iter().copied())))?;
        }
        Ok(count)
    }
}

/// The samples that ANALYZE keeps of an index are values of its rows.
pub(super) fn forget_samples(db: &Connection, table: &str) -> rusqlite::Result<()> {
    for samples in ["sqlite_stat3", "sqlite_stat4"] {
        let query = "SELECT 1 FROM main.sqlite_schema WHERE name=?1 AND rootpage>0";
        if db.query_row(query, [samples], |_| Ok(())).optional()?.is_some() {
            let sql = format!("DELETE FROM main.{samples} WHERE tbl=?1 COLLATE NOCASE");
            db.execute(&sql, [table])?;
        }
    }
    Ok(())
}

/// The rows of a rule: a condition and its values, which begin at the parameter `first`.
pub(super) fn condition(rule: &RowRule, first: usize) -> (String, Vec<&str>) {
    let Some(rows) = &rule.rows else { return (String::new(), Vec::new()) };
    let (operator, values) = match &rows.values {
        RowValues::Is(values) => ("=", values),
        RowValues::Glob(globs) => ("GLOB", globs),
    };
    let column = quoted(&rows.column);
    let tests: Vec<String> = (first..first + values.len())
        .map(|at| format!("CAST({column} AS TEXT) COLLATE BINARY {operator} ?{at}"))
        .collect();
    let condition = format!(" WHERE ({})", tests.join(" OR "));
    (condition, values.iter().map(String::as_str).collect())
}

/// A virtual table that has the text of a table's rows too.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) name: String,
    /// It is a full-text index that SQLite can make anew from the table.
    pub(crate) of_table: bool,
    /// How it is declared and filled, as [`plain`].
    sql: String,
}

impl Index {
    /// May it have what stands in this column of the table?
    pub(crate) fn has(&self, column: &str) -> bool {
        self.sql.contains(&plain(column))
    }
}

/// The first of [`indexes_of`], by name.
pub(super) fn index_of(db: &Connection, table: &str) -> rusqlite::Result<Option<String>> {
    Ok(indexes_of(db, table)?.into_iter().next().map(|index| index.name))
}

/// Virtual tables that have the text of a table's rows too: each names the table as its content (or a
/// view, which may be made of it), or a trigger of the table fills it. Triggers do not
/// run here.
pub(crate) fn indexes_of(db: &Connection, table: &str) -> rusqlite::Result<Vec<Index>> {
    let names = |query: &str| -> rusqlite::Result<Vec<(String, String)>> {
        let mut statement = db.prepare(query)?;
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        statement.query_map([], row)?.collect()
    };
    let of = |what| format!("SELECT name, coalesce(sql, '') FROM main.sqlite_schema WHERE {what}");
    let virtuals = names(&of("type='table' AND rootpage=0"))?;
    let views = names(&of("type='view'"))?;
    let triggers: Vec<String> =
        names("SELECT tbl_name, coalesce(sql, '') FROM main.sqlite_schema WHERE type='trigger'")?
            .into_iter()
            .filter(|(of, _)| of.eq_ignore_ascii_case(table))
            .map(|(_, sql)| plain(&sql))
            .collect();
    let content_of = |sql: &str| {
        let content = sql.split_once("content=").map(|(_, rest)| rest);
        content.and_then(|rest| rest.split([',', ')']).next()).map(str::to_owned)
    };
    let keeps = |(name, sql): (String, String)| {
        let sql = plain(&sql);
        let content = content_of(&sql);
        let is_text = ["usingfts4(", "usingfts5("].iter().any(|module| sql.contains(module));
        let of_table = content == Some(plain(table));
        let view = views.iter().find(|(view, _)| content == Some(plain(view)));
        let fills: Vec<&String> = triggers.iter().filter(|t| t.contains(&plain(&name))).collect();
        let any = of_table || view.is_some() || !fills.is_empty();
        any.then(|| {
            let more: String = fills.into_iter().map(String::as_str).collect();
            let view = view.map(|(_, sql)| plain(sql)).unwrap_or_default();
            Index { name, of_table: of_table && is_text, sql: sql + &view + &more }
        })
    };
    Ok(virtuals.into_iter().filter_map(keeps).collect())
}

pub(crate) fn columns(db: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = db.prepare(&format!("PRAGMA main.table_xinfo({})", quoted(table)))?;
    statement.query_map([], |row| row.get("name"))?.collect()
}

/// A name in SQL. Only names that the database has are put there: SQLite reads others as text.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// SQL or a name, without what may be written in several ways: case, quotes, spaces.
fn plain(sql: &str) -> String {
    let kept = |c: &char| !c.is_whitespace() && !matches!(c, '\'' | '"' | '`' | '[' | ']');
    sql.chars().filter(kept).collect::<String>().to_ascii_lowercase()
}

fn refused(rule: &RowRule, what: String) -> io::Error {
    failed(rule, io::Error::new(io::ErrorKind::InvalidData, what))
}

#[allow(clippy::needless_pass_by_value, reason = "it becomes part of the result")]
fn failed(rule: &RowRule, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("table '{}': {error}", rule.table))
}

/// Parts of the header that editing moves, though no content does.
#[derive(Debug)]
pub(crate) struct Header([u8; 100]);

/// How it is written to and read: 1 with a rollback journal, 2 with a log.
const VERSIONS: std::ops::Range<usize> = 18..20;
/// Not zero: pages are moved when some become free. It counts only with the other one.
const LARGEST_ROOT: std::ops::Range<usize> = 52..56;
/// Not zero: they are moved only when somebody asks for it.
const INCREMENTAL_VACUUM: std::ops::Range<usize> = 64..68;
/// What is put back: the ones above, the counter of changes, the same again as the header's own
/// version, and that of the SQLite that wrote.
const KEPT: [std::ops::Range<usize>; 4] = [VERSIONS, 24..28, INCREMENTAL_VACUUM, 92..100];

impl Header {
    /// Makes the file one with a rollback journal, so that no log appears beside it, and one in
    /// which free pages stay where they are.
    pub(crate) fn prepare(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut header = [0; 100];
        file.read_exact_at(&mut header, 0)?;
        let mut changed = header;
        changed[VERSIONS].copy_from_slice(&[1, 1]);
        if header[LARGEST_ROOT] != [0; 4] {
            changed[INCREMENTAL_VACUUM].copy_from_slice(&[0, 0, 0, 1]);
        }
        file.write_all_at(&changed, 0)?;
        Ok(Self(header))
    }

    /// Makes it what it was; nobody has the file open.
    pub(crate) fn put_back_at(&self, path: &Path) -> io::Result<()> {
        self.put_back(&OpenOptions::new().write(true).open(path)?)
    }

    fn put_back(&self, file: &File) -> io::Result<()> {
        for range in KEPT {
            file.write_all_at(&self.0[range.clone()], range.start as u64)?;
        }
        Ok(())
    }
}
