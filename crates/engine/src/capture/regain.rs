//! What row rules left out of an image comes back from the live database that the image replaces.
//!
//! In: an image in a private file of ours, the database that is to be replaced, and the rules. Out:
//! the image with the rows and values that only the live database has, and a list of what it has not.
//!
//! | rule | the live database has | then |
//! |---|---|---|
//! | `delete` | rows that the rule names | they are put in, under their own row number where that is free; none takes the place of a row of the image. An image that has such rows was made without the rule: it keeps them, and that is told |
//! | `redact` | the row, by its key ([`Table::key`]) | its value takes the place of the marker |
//! | `redact` | no such row, or a marker too | the marker stays, and the column is listed |
//! | `redact` | a value for which the image has no marker | it has no place, and that is told |
//!
//! Two connections and no ATTACH, so that each is guarded as elsewhere here: nothing that is written
//! in either file runs. The live one is only read, in one transaction. An error of either side says
//! whose it is; what was put in before an error of the live side stays.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adapters::{RowAction, RowRule};
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Statement, params_from_iter};

use super::connection::{connect_own, connect_there, explain};
use super::edit::{self, Header, MARKER, condition, quoted};
use super::sqlite::{How, side_file};

/// How long a lock on the live database is waited for.
const WAIT: Duration = Duration::from_secs(5);

/// What came back, and what did not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Regained {
    /// Rows put in, and rows in which a value was.
    pub(crate) rows_count: u64,
    /// Columns whose marker stays, as `table.column`, with the number of rows.
    pub(crate) blanks: Vec<String>,
    /// Rows and columns of the live database that have no place in the image, in words.
    pub(crate) lost: Vec<String>,
}

/// Which side failed.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The live database cannot be read.
    Live(io::Error),
    /// The image cannot be read or written.
    Image(io::Error),
}

type Result<T> = std::result::Result<T, Failed>;

#[allow(clippy::needless_pass_by_value, reason = "the argument of map_err")]
pub(super) fn live_failed(error: rusqlite::Error) -> Failed {
    Failed::Live(explain(error))
}

#[allow(clippy::needless_pass_by_value, reason = "the argument of map_err")]
pub(super) fn image_failed(error: rusqlite::Error) -> Failed {
    Failed::Image(explain(error))
}

/// Puts what the database at `live` has into the image. Nobody else has the image open; after an
/// error of its own it is worth nothing.
pub(crate) fn regain(image: &Path, live: &Path, rules: &[Arc<RowRule>]) -> Result<Regained> {
    let header = Header::prepare(image).map_err(Failed::Image)?;
    let to = connect_own(image).map_err(image_failed)?;
    let mut regained = Regained::default();
    to.execute_batch("BEGIN EXCLUSIVE").map_err(image_failed)?;
    let result = open_live(live).and_then(|from| {
        let mut work = Work { from: &from, to: &to, regained: &mut regained };
        rules.iter().try_for_each(|rule| work.carry_out(rule))
    });
    if !matches!(result, Err(Failed::Image(_))) {
        to.execute_batch("COMMIT").map_err(image_failed)?;
    }
    to.close().map_err(|(_, error)| image_failed(error))?;
    header.put_back_at(image).map_err(Failed::Image)?;
    result.map(|()| regained)
}

/// Columns of an image that have markers, as [`Regained::blanks`]; nothing is written.
pub(crate) fn blanks(image: &Path, rules: &[Arc<RowRule>]) -> io::Result<Vec<String>> {
    let db = connect_there(image, How::Closed, Duration::ZERO).map_err(explain)?;
    let count = || -> rusqlite::Result<Vec<String>> {
        let mut blanks = BTreeMap::new();
        for rule in rules {
            let RowAction::Redact(columns) = &rule.action else { continue };
            let Some(table) = Table::look(&db, &rule.table)? else { continue };
            for column in columns.iter().filter_map(|column| table.column(column)) {
                let sql = format!(
                    "SELECT count(*) FROM main.{} WHERE {} IS ?1",
                    quoted(&table.name),
                    quoted(column)
                );
                let rows: i64 = db.query_row(&sql, [MARKER], |row| row.get(0))?;
                if rows > 0 {
                    blanks.insert(format!("{}.{column}", table.name), rows.unsigned_abs());
                }
            }
        }
        Ok(blanks.into_iter().map(|(column, rows)| blank(&column, rows)).collect())
    };
    count().map_err(explain)
}

fn blank(column: &str, rows: u64) -> String {
    if rows == 1 { column.to_owned() } else { format!("{column} in {rows} rows") }
}

/// Opens the live database in one transaction; one that nobody has open, without any lock.
pub(super) fn open_live(path: &Path) -> Result<Connection> {
    let is_there = |side: &&str| std::fs::symlink_metadata(side_file(path, side)).is_ok();
    let live = ["-wal", "-journal"].iter().any(is_there);
    let how = if live { How::Live } else { How::Closed };
    let open = || {
        let db = connect_there(path, how, WAIT)?;
        db.execute_batch("BEGIN")?;
        // the transaction begins with the first read
        db.query_row("SELECT count(*) FROM main.sqlite_schema", [], |_| Ok(()))?;
        Ok(db)
    };
    open().map_err(live_failed)
}

struct Work<'w> {
    from: &'w Connection,
    to: &'w Connection,
    regained: &'w mut Regained,
}

impl<'w> Work<'w> {
    fn carry_out(&mut self, rule: &RowRule) -> Result<()> {
        let live = Table::look(self.from, &rule.table).map_err(live_failed)?;
        let image = Table::look(self.to, &rule.table).map_err(image_failed)?;
        match (&rule.action, live, image) {
            (RowAction::Delete, Some(live), image) => self.put_in(rule, &live, image.as_ref()),
            (_, None, None) | (RowAction::Delete, None, _) => Ok(()),
            (RowAction::Redact(columns), live, image) => {
                let all: Vec<&str> = columns.iter().map(String::as_str).collect();
                columns.iter().try_for_each(|column| {
                    if let Some(image) = &image {
                        self.fill(&all, column, live.as_ref(), image)?;
                    }
                    let Some(live) = &live else { return Ok(()) };
                    self.tell_lost(rule, &all, column, live, image.as_ref())
                })
            }
        }
    }

    /// Puts the rows that the rule names into the image.
    fn put_in(
        &mut self,
        rule: &RowRule,
        live: &Table<'_>,
        image: Option<&Table<'_>>,
    ) -> Result<()> {
        let finds = |table: &Table<'_>| {
            rule.rows.as_ref().is_none_or(|rows| table.column(&rows.column).is_some())
        };
        if !finds(live) {
            return Ok(()); // a rule that names rows by a column that is not there names none
        }
        let (condition, values) = condition(rule, 1);
        let from = format!("FROM main.{}{condition}", quoted(&live.name));
        let count = |db: &Connection, table: &Table<'_>| -> rusqlite::Result<i64> {
            let sql = format!("SELECT count(*) FROM main.{}{condition}", quoted(&table.name));
            db.query_row(&sql, params_from_iter(&values), |row| row.get(0))
        };
        let rows = count(self.from, live).map_err(live_failed)?;
        if rows == 0 {
            return Ok(());
        }
        let Some(image) = image else {
            self.lose(rows, live, "it has no such table");
            return Ok(());
        };
        if finds(image) && count(self.to, image).map_err(image_failed)? > 0 {
            // it was made when there was no such rule
            self.lose(rows, live, "it has rows of its own there");
            return Ok(());
        }
        if let Some(index) = edit::index_of(self.to, &image.name).map_err(image_failed)? {
            self.lose(rows, live, &format!("its full-text index '{index}' would lack them"));
            return Ok(());
        }
        let refused = self.copy(live, image, &from, &values)?;
        if refused > 0 {
            self.lose(refused, live, "it has others in their place");
        }
        Ok(())
    }

    /// Copies rows `from` the live table into that of the image. Gives how many found no place.
    fn copy(
        &mut self,
        live: &Table<'_>,
        image: &Table<'_>,
        from: &str,
        values: &[&str],
    ) -> Result<i64> {
        let (shared, absent): (Vec<&str>, Vec<&str>) =
            live.stored().partition(|name| image.stored().any(|c| c.eq_ignore_ascii_case(name)));
        if !absent.is_empty() {
            let absent = absent.join("', '");
            let what = format!("column '{absent}' of '{}': the restored table has none", live.name);
            self.regained.lost.push(what);
        }
        let numbered = live.rowid.zip(image.rowid);
        let names: Vec<String> = shared.into_iter().map(quoted).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let select: Vec<&str> =
            numbered.map(|(rowid, _)| rowid).into_iter().chain(names.iter().copied()).collect();
        let mut select = self
            .from
            .prepare(&format!("SELECT {} {from}", select.join(", ")))
            .map_err(live_failed)?;
        let mut with_number = match numbered {
            Some((_, rowid)) => Some(self.insert(image, Some(rowid), &names)?),
            None => None,
        };
        let mut without = self.insert(image, None, &names)?;
        let (skip, width) = (usize::from(numbered.is_some()), select.column_count());
        let mut found = select.query(params_from_iter(values)).map_err(live_failed)?;
        let mut refused = 0;
        while let Some(row) = found.next().map_err(live_failed)? {
            let values: rusqlite::Result<Vec<ValueRef<'_>>> =
                (0..width).map(|at| row.get_ref(at)).collect();
            let values = values.map_err(live_failed)?;
            let put = |statement: &mut Statement<'_>, values: &[ValueRef<'_>]| {
                let values = values.iter().map(|value| ToSqlOutput::Borrowed(*value));
                statement.execute(params_from_iter(values)).map_err(image_failed)
            };
            let done = with_number.as_mut().map_or(Ok(0), |statement| put(statement, &values))?;
            if done > 0 || put(&mut without, &values[skip..])? > 0 {
                self.regained.rows_count += 1;
            } else {
                refused += 1;
            }
        }
        Ok(refused)
    }

    /// A row that would take the place of another is not put in.
    fn insert(
        &self,
        image: &Table<'_>,
        rowid: Option<&str>,
        names: &[&str],
    ) -> Result<Statement<'w>> {
        let columns: Vec<&str> = rowid.into_iter().chain(names.iter().copied()).collect();
        let marks = vec!["?"; columns.len()].join(", ");
        let (table, columns) = (quoted(&image.name), columns.join(", "));
        let sql = format!("INSERT OR IGNORE INTO main.{table}({columns}) VALUES({marks})");
        self.to.prepare(&sql).map_err(image_failed)
    }

    fn lose(&mut self, rows: i64, table: &Table<'_>, why: &str) {
        let rows = if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") };
        self.regained.lost.push(format!("{rows} of '{}': {why}", table.name));
    }

    /// Puts live values in the place of markers. `all` are the columns that have some.
    fn fill(
        &mut self,
        all: &[&str],
        column: &str,
        live: Option<&Table<'_>>,
        image: &Table<'_>,
    ) -> Result<()> {
        let Some(here) = image.column(column) else { return Ok(()) };
        let there = live.and_then(|live| Some((live, live.column(column)?)));
        let key = match there {
            Some((live, _)) => image.key(live, all).map_err(image_failed)?,
            None => None,
        };
        let (Some(key), Some((live, there))) = (key, there) else {
            let sql = format!(
                "SELECT count(*) FROM main.{} WHERE {} IS ?1",
                quoted(&image.name),
                quoted(here)
            );
            let rows: i64 =
                self.to.query_row(&sql, [MARKER], |row| row.get(0)).map_err(image_failed)?;
            self.leave(image, here, rows.unsigned_abs());
            return Ok(());
        };
        let equals = |first: usize| {
            let test =
                |(at, (column, _)): (usize, &(String, String))| format!("{column}=?{}", first + at);
            key.iter().enumerate().map(test).collect::<Vec<_>>().join(" AND ")
        };
        let names: Vec<&str> = key.iter().map(|(column, _)| column.as_str()).collect();
        let (table, column) = (quoted(&image.name), quoted(here));
        let marked = format!("SELECT {} FROM main.{table} WHERE {column} IS ?1", names.join(", "));
        let mut marked = self.to.prepare(&marked).map_err(image_failed)?;
        let marked: Vec<Vec<Value>> = marked
            .query_map([MARKER], |row| (0..names.len()).map(|at| row.get(at)).collect())
            .and_then(Iterator::collect)
            .map_err(image_failed)?;
        let set = format!("UPDATE OR IGNORE main.{table} SET {column}=?1 WHERE {}", equals(2));
        let mut set = self.to.prepare(&set).map_err(image_failed)?;
        let test = |(at, (_, column)): (usize, &(String, String))| format!("{column}=?{}", at + 1);
        let tests: Vec<String> = key.iter().enumerate().map(test).collect();
        let value = format!(
            "SELECT {} FROM main.{} WHERE {} LIMIT 2",
            quoted(there),
            quoted(&live.name),
            tests.join(" AND ")
        );
        let mut value = self.from.prepare(&value).map_err(live_failed)?;
        let mut left = 0;
        for key in marked {
            let values: Vec<Value> = value
                .query_map(params_from_iter(&key), |row| row.get(0))
                .and_then(Iterator::collect)
                .map_err(live_failed)?;
            let marker = Value::Text(MARKER.to_owned());
            // two rows of one key: nobody can tell which one it is
            let done = match values.as_slice() {
                [value] if *value != marker => set
                    .execute(params_from_iter(std::iter::once(value).chain(&key)))
                    .map_err(image_failed)?,
                _ => 0,
            };
            if done > 0 {
                self.regained.rows_count += 1;
            } else {
                left += 1;
            }
        }
        self.leave(image, here, left);
        Ok(())
    }

    /// Lists the values of the live database that a push leaves out and the image has not.
    fn tell_lost(
        &mut self,
        rule: &RowRule,
        all: &[&str],
        column: &str,
        live: &Table<'_>,
        image: Option<&Table<'_>>,
    ) -> Result<()> {
        let finds = rule.rows.as_ref().is_none_or(|rows| live.column(&rows.column).is_some());
        let Some(there) = live.column(column).filter(|_| finds) else { return Ok(()) };
        let here = image.and_then(|image| Some((image, image.column(column)?)));
        let key = match here {
            Some((image, _)) => image.key(live, all).map_err(image_failed)?.zip(here),
            None => None,
        };
        let (condition, values) = condition(rule, 2);
        let and = if condition.is_empty() { " WHERE " } else { " AND " };
        let keys = key.iter().flat_map(|(key, _)| key).map(|(_, name)| name.as_str());
        let names: Vec<String> =
            std::iter::once(quoted(there)).chain(keys.map(str::to_owned)).collect();
        let sql = format!(
            "SELECT {} FROM main.{}{condition}{and}{there} IS NOT NULL AND {there} IS NOT ?1",
            names.join(", "),
            quoted(&live.name),
            there = quoted(there),
        );
        let mut select = self.from.prepare(&sql).map_err(live_failed)?;
        let mut is_there = match &key {
            Some((key, (image, here))) => {
                let test =
                    |(at, (name, _)): (usize, &(String, String))| format!("{name}=?{}", at + 2);
                let tests: Vec<String> = key.iter().enumerate().map(test).collect();
                let sql = format!(
                    "SELECT 1 FROM main.{} WHERE {} IS ?1 AND {}",
                    quoted(&image.name),
                    quoted(here),
                    tests.join(" AND ")
                );
                Some(self.to.prepare(&sql).map_err(image_failed)?)
            }
            None => None,
        };
        let mut found = select
            .query(params_from_iter(std::iter::once(MARKER).chain(values)))
            .map_err(live_failed)?;
        let mut lost = 0_u64;
        while let Some(row) = found.next().map_err(live_failed)? {
            let cells: rusqlite::Result<Vec<Value>> =
                (0..names.len()).map(|at| row.get(at)).collect();
            let cells = cells.map_err(live_failed)?;
            let has = match &mut is_there {
                Some(is_there) => {
                    is_there.exists(params_from_iter(&cells)).map_err(image_failed)?
                }
                None => false,
            };
            lost += u64::from(!has);
        }
        if lost > 0 {
            let values = if lost == 1 { "1 value".to_owned() } else { format!("{lost} values") };
            let what = format!("{values} of '{}.{there}': it has no place there", live.name);
            self.regained.lost.push(what);
        }
        Ok(())
    }

    fn leave(&mut self, table: &Table<'_>, column: &str, rows: u64) {
        if rows > 0 {
            self.regained.blanks.push(blank(&format!("{}.{column}", table.name), rows));
        }
    }
}

/// An ordinary table, as its database spells it.
pub(super) struct Table<'d> {
    pub(super) db: &'d Connection,
    pub(super) name: String,
    columns: Vec<Column>,
    /// A name of the row number that no column has; none if rows have no number.
    rowid: Option<&'static str>,
}

struct Column {
    name: String,
    /// Its place in the primary key, from 1; 0 if it is in none.
    key: i64,
    /// It is computed.
    generated: bool,
}

impl<'d> Table<'d> {
    /// `None` if there is no such table, or it is none in which rows lie.
    pub(super) fn look(db: &'d Connection, name: &str) -> rusqlite::Result<Option<Self>> {
        let query = "SELECT name FROM main.sqlite_schema \
                     WHERE name=?1 COLLATE NOCASE AND type='table' AND rootpage>0";
        let found = db.query_row(query, [name], |row| row.get::<_, String>(0)).optional()?;
        let Some(name) = found else { return Ok(None) };
        let quoted = quoted(&name);
        let mut info = db.prepare(&format!("PRAGMA main.table_xinfo({quoted})"))?;
        let column = |row: &rusqlite::Row<'_>| {
            let generated = row.get::<_, i64>("hidden")? != 0;
            Ok(Column { name: row.get("name")?, key: row.get("pk")?, generated })
        };
        let columns: Vec<Column> = info.query_map([], column)?.collect::<rusqlite::Result<_>>()?;
        let mut list = db.prepare(&format!("PRAGMA main.table_list({quoted})"))?;
        let plain: Vec<bool> = list
            .query_map([], |row| row.get::<_, i64>("wr"))?
            .map(|wr| wr.map(|wr| wr == 0))
            .collect::<rusqlite::Result<_>>()?;
        let free = |rowid: &&str| !columns.iter().any(|c| c.name.eq_ignore_ascii_case(rowid));
        let rowid = ["rowid", "_rowid_", "oid"].into_iter().find(free);
        let rowid = rowid.filter(|_| plain.first() == Some(&true));
        Ok(Some(Self { db, name, columns, rowid }))
    }

    /// How the database spells a column.
    fn column(&self, name: &str) -> Option<&str> {
        self.columns.iter().map(|c| c.name.as_str()).find(|known| known.eq_ignore_ascii_case(name))
    }

    /// Columns that are not computed.
    pub(super) fn stored(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().filter(|column| !column.generated).map(|column| column.name.as_str())
    }

    /// What a row is found again by in this database, in SQL: its number, or else its primary key.
    pub(super) fn own_key(&self) -> Vec<String> {
        if let Some(rowid) = self.rowid {
            return vec![rowid.to_owned()];
        }
        let key = self.columns.iter().filter(|column| column.key > 0);
        key.map(|column| quoted(&column.name)).collect()
    }

    /// What a row is found again by, in SQL, here and in the other table: the primary key; else columns
    /// that are unique; else its number. None of the columns in `marked`, and only what both have.
    fn key(
        &self,
        other: &Self,
        marked: &[&str],
    ) -> rusqlite::Result<Option<Vec<(String, String)>>> {
        let mut keys: Vec<Vec<String>> = Vec::new();
        let mut primary: Vec<&Column> = self.columns.iter().filter(|c| c.key > 0).collect();
        primary.sort_by_key(|column| column.key);
        keys.push(primary.into_iter().map(|column| column.name.clone()).collect());
        keys.extend(self.unique()?);
        let both = |column: &String| {
            let marked = marked.iter().any(|marked| marked.eq_ignore_ascii_case(column));
            let there = other.column(column).filter(|_| !marked)?;
            Some((quoted(column), quoted(there)))
        };
        let fits = |key: Vec<String>| key.iter().map(both).collect::<Option<Vec<_>>>();
        let found = keys.into_iter().filter(|key| !key.is_empty()).find_map(fits);
        let numbers =
            || self.rowid.zip(other.rowid).map(|(a, b)| vec![(a.to_owned(), b.to_owned())]);
        Ok(found.or_else(numbers))
    }

    /// The columns of each index that has a row once.
    fn unique(&self) -> rusqlite::Result<Vec<Vec<String>>> {
        let sql = format!("PRAGMA main.index_list({})", quoted(&self.name));
        let mut list = self.db.prepare(&sql)?;
        let index = |row: &rusqlite::Row<'_>| {
            let whole = row.get::<_, i64>("unique")? != 0 && row.get::<_, i64>("partial")? == 0;
            Ok(row.get::<_, String>("name").map(|name| whole.then_some(name)))
        };
        let names: Vec<Option<String>> =
            list.query_map([], index)?.map(|name| name?).collect::<rusqlite::Result<_>>()?;
        let mut all = Vec::new();
        for name in names.into_iter().flatten() {
            let mut info =
                self.db.prepare(&format!("PRAGMA main.index_info({})", quoted(&name)))?;
            // an expression has no name
            let columns: Option<Vec<String>> =
                info.query_map([], |row| row.get("name"))?.collect::<rusqlite::Result<_>>()?;
            all.extend(columns);
        }
        Ok(all)
    }
}
