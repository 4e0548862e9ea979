//! Marks in a database: put into an image before it is stored, and taken out again of one that replaces
//! a live database.
//!
//! In: an image in a private file of ours; how secrets are replaced, or a live database that has them.
//! Out: the same image, with values of ordinary tables rewritten row by row. Invariants: a value that is
//! looked at is looked at whole, however SQLite spread it over pages; nothing that is written in the file
//! runs; what would stay in a full-text index or in a value that is no text is an error, and then the
//! image must not be used.

use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, params_from_iter};
use secrets::{Finding, Rules, Scanner};

use super::connection::{connect_own, connect_there, explain};
use super::edit::{Header, forget_samples, index_of, quoted};
use super::regain::{Failed, Table, image_failed, open_live};
use super::sqlite::How;
use crate::marks::{Back, Live, Lost, Marking, Secrets, Tally, form_of_value};

/// Values with secrets or marks in one database.
const HITS_MAX: usize = 1 << 20;
/// What every mark begins with.
const OPEN: &[u8] = b"[REDACTED:";

/// A value that is to be rewritten.
struct Hit<'t, 'd> {
    table: &'t Table<'d>,
    column: &'t str,
    key: Vec<Value>,
}

/// Puts marks into the values of a database.
pub(super) fn put_in(db: &Connection, marking: &Marking, path: &[u8]) -> io::Result<Tally> {
    let path = String::from_utf8_lossy(path);
    let mut scanner = marking.scanner(&path);
    let mut tally = Tally::default();
    let tables = tables(db).map_err(explain)?;
    let virtuals = virtuals(db).map_err(explain)?;
    for table in &tables {
        let wanted = |finding: &Finding<'_>| marking.replaces(finding);
        let hits = hits(table, &mut |value| has_finding(&mut scanner, value, &wanted))?;
        if hits.is_empty() {
            continue;
        }
        let refuse = |what: String| {
            let what = format!("table '{}': {what}", table.name);
            Err(io::Error::new(io::ErrorKind::InvalidData, what))
        };
        if let Some(of) = virtuals.iter().find(|of| is_shadow(&table.name, of)) {
            return refuse(format!("it is a part of the virtual table '{of}'"));
        }
        if let Some(index) = index_of(db, &table.name).map_err(explain)? {
            return refuse(format!("the full-text index '{index}' would keep what is replaced"));
        }
        for hit in &hits {
            let marked = |bytes: &[u8]| {
                let (marked, more) = marking.replace(&path, form_of_value(bytes), bytes);
                (marked, more)
            };
            let (value, more) = match hit.value().map_err(explain)? {
                Value::Text(text) => {
                    let (marked, more) = marked(text.as_bytes());
                    (String::from_utf8(marked).ok().map(Value::Text), more)
                }
                Value::Blob(blob) if std::str::from_utf8(&blob).is_ok() => {
                    let (marked, more) = marked(&blob);
                    (Some(Value::Blob(marked)), more)
                }
                _ => (None, Tally::default()),
            };
            let Some(value) = value else {
                return refuse(format!("a value of '{}' is no text", hit.column));
            };
            hit.set(db, &value).map_err(explain)?;
            tally.add(more);
        }
        forget_samples(db, &table.name).map_err(explain)?;
    }
    Ok(tally)
}

/// Puts what a live database has in the place of the marks in an image. Nobody else has the image open;
/// after an error of its own it is worth nothing.
pub(crate) fn take_out(
    image: &Path,
    live: Option<&Path>,
    secrets: Secrets<'_>,
    path: &[u8],
) -> Result<Back, Failed> {
    let header = Header::prepare(image).map_err(Failed::Image)?;
    let to = connect_own(image).map_err(image_failed)?;
    to.execute_batch("BEGIN EXCLUSIVE").map_err(image_failed)?;
    let result = take_out_of(&to, live, secrets, path);
    if !matches!(result, Err(Failed::Image(_))) {
        to.execute_batch("COMMIT").map_err(image_failed)?;
    }
    to.close().map_err(|(_, error)| image_failed(error))?;
    header.put_back_at(image).map_err(Failed::Image)?;
    result
}

/// The same for what has no marks: only what the live database has, and it has not, is counted.
pub(crate) fn look_at(
    image: &Path,
    live: &Path,
    secrets: Secrets<'_>,
    path: &[u8],
) -> Result<Back, Failed> {
    let mut known = Live::new(secrets);
    learn(&mut known, live, path)?;
    let mut lost = known.lost();
    // one that is damaged is restored as it was stored, and has none of them
    if lost.count() > 0
        && let Ok(db) = connect_there(image, How::Closed, Duration::ZERO)
        && let Err(error) = spare(&mut lost, &db, secrets, path)
    {
        tracing::debug!(%error, "a database that is not looked through");
    }
    Ok(Back { lost, ..Back::default() })
}

fn take_out_of(
    to: &Connection,
    live: Option<&Path>,
    secrets: Secrets<'_>,
    path: &[u8],
) -> Result<Back, Failed> {
    let (mut known, mut back) = (Live::new(secrets), Back::default());
    let image = tables(to).map_err(image_failed)?;
    let mut marked = Vec::new();
    for table in &image {
        marked.extend(hits(table, &mut has_mark).map_err(Failed::Image)?);
    }
    let mut values = Vec::with_capacity(marked.len());
    for hit in &marked {
        let value = hit.value().map_err(image_failed)?;
        known.want(&mut bytes_of(&value)).map_err(Failed::Image)?;
        values.push(value);
    }
    if let Some(live) = live {
        learn(&mut known, live, path)?;
    }
    for (hit, value) in marked.iter().zip(values) {
        let (mut out, mut one) = (Vec::new(), Back::default());
        known.put(&mut bytes_of(&value), &mut out, &mut one).map_err(Failed::Image)?;
        if one.put > 0 {
            let value = match value {
                Value::Text(_) => String::from_utf8(out).ok().map(Value::Text),
                _ => Some(Value::Blob(out)),
            };
            let no_text = || Failed::Image(io::Error::other("a live value is no text"));
            hit.set(to, &value.ok_or_else(no_text)?).map_err(image_failed)?;
        }
        back.add(one);
    }
    back.lost = known.lost();
    spare(&mut back.lost, to, secrets, path).map_err(Failed::Image)?;
    Ok(back)
}

/// Visits all values with marks.
pub(crate) fn marked_values(db: &Connection, visit: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    for table in &tables(db).map_err(explain)? {
        for hit in hits(table, &mut has_mark)? {
            visit(bytes_of(&hit.value().map_err(explain)?));
        }
    }
    Ok(())
}

fn has_mark(value: &[u8]) -> bool {
    memchr::memmem::find(value, OPEN).is_some()
}

/// Takes out what a database has all the same: rules for rows brought it back.
fn spare(lost: &mut Lost, db: &Connection, secrets: Secrets<'_>, path: &[u8]) -> io::Result<()> {
    if lost.count() == 0 {
        return Ok(());
    }
    let name = String::from_utf8_lossy(path);
    for_each_secret(db, &name, &mut |value| lost.spare_value(secrets, &name, value))
}

/// Learns from all values of a live database.
fn learn(known: &mut Live<'_>, live: &Path, path: &[u8]) -> Result<(), Failed> {
    let from = open_live(live)?;
    let name = String::from_utf8_lossy(path);
    for_each_secret(&from, &name, &mut |value| known.learn_value(&name, value))
        .map_err(Failed::Live)
}

/// Visits all values in which something is found.
fn for_each_secret(db: &Connection, name: &str, visit: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut scanner = Scanner::new(Rules::pinned(), name, &[0; 32]);
    for table in &tables(db).map_err(explain)? {
        let wanted = |finding: &Finding<'_>| !finding.report_only;
        for hit in hits(table, &mut |value| has_finding(&mut scanner, value, &wanted))? {
            visit(bytes_of(&hit.value().map_err(explain)?));
        }
    }
    Ok(())
}

fn bytes_of(value: &Value) -> &[u8] {
    match value {
        Value::Text(text) => text.as_bytes(),
        Value::Blob(blob) => blob,
        _ => &[],
    }
}

/// Does the scanner find something in this value?
fn has_finding(
    scanner: &mut Scanner<'_>,
    value: &[u8],
    wanted: &dyn Fn(&Finding<'_>) -> bool,
) -> bool {
    let mut found = false;
    let mut note = |finding: Finding<'_>| found |= wanted(&finding);
    scanner.feed(value, 0, &mut note);
    scanner.finish(&mut note);
    found
}

/// The ordinary tables.
fn tables(db: &Connection) -> rusqlite::Result<Vec<Table<'_>>> {
    let names =
        names(db, "type='table' AND rootpage>0 AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")?;
    let tables: rusqlite::Result<Vec<_>> = names.iter().map(|name| Table::look(db, name)).collect();
    Ok(tables?.into_iter().flatten().collect())
}

fn virtuals(db: &Connection) -> rusqlite::Result<Vec<String>> {
    names(db, "type='table' AND rootpage=0")
}

fn names(db: &Connection, which: &str) -> rusqlite::Result<Vec<String>> {
    let query =
        format!("SELECT name FROM main.sqlite_schema WHERE {which} ORDER BY rootpage, name");
    let mut statement = db.prepare(&query)?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// Is it, by its name, a table in which a virtual one keeps what it has?
fn is_shadow(table: &str, of: &str) -> bool {
    let (table, of) = (table.to_ascii_lowercase(), of.to_ascii_lowercase());
    table.strip_prefix(&of).is_some_and(|rest| rest.starts_with('_'))
}

/// The values of a table that are wanted.
fn hits<'t, 'd>(
    table: &'t Table<'d>,
    wanted: &mut dyn FnMut(&[u8]) -> bool,
) -> io::Result<Vec<Hit<'t, 'd>>> {
    let columns: Vec<&str> = table.stored().collect();
    let key = table.own_key();
    let names = key.iter().cloned().chain(columns.iter().map(|name| quoted(name)));
    let names: Vec<String> = names.collect();
    let sql = format!("SELECT {} FROM main.{}", names.join(", "), quoted(&table.name));
    let mut select = table.db.prepare(&sql).map_err(explain)?;
    let mut rows = select.query([]).map_err(explain)?;
    let mut hits = Vec::new();
    while let Some(row) = rows.next().map_err(explain)? {
        for (at, column) in columns.iter().enumerate() {
            let (ValueRef::Text(bytes) | ValueRef::Blob(bytes)) =
                row.get_ref(key.len() + at).map_err(explain)?
            else {
                continue;
            };
            if !wanted(bytes) {
                continue;
            }
            if hits.len() == HITS_MAX {
                let what = format!("more than {HITS_MAX} values of '{}'", table.name);
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            let key: rusqlite::Result<Vec<Value>> = (0..key.len()).map(|at| row.get(at)).collect();
            hits.push(Hit { table, column, key: key.map_err(explain)? });
        }
    }
    Ok(hits)
}

impl Hit<'_, '_> {
    fn place(&self, first: usize) -> String {
        let test = |(at, name): (usize, String)| format!("{name} IS ?{}", first + at);
        let tests: Vec<String> = self.table.own_key().into_iter().enumerate().map(test).collect();
        tests.join(" AND ")
    }

    fn value(&self) -> rusqlite::Result<Value> {
        let (column, table) = (quoted(self.column), quoted(&self.table.name));
        let sql = format!("SELECT {column} FROM main.{table} WHERE {}", self.place(1));
        let mut select = self.table.db.prepare_cached(&sql)?;
        select.query_row(params_from_iter(&self.key), |row| row.get(0))
    }

    fn set(&self, db: &Connection, value: &Value) -> rusqlite::Result<()> {
        let (column, table) = (quoted(self.column), quoted(&self.table.name));
        let sql = format!("UPDATE main.{table} SET {column}=?1 WHERE {}", self.place(2));
        let mut set = db.prepare_cached(&sql)?;
        set.execute(params_from_iter(std::iter::once(value).chain(&self.key))).map(drop)
    }
}
