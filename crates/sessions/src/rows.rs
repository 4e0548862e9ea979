//! Sessions that are rows of a database, and their messages in further tables.
//!
//! In: an open connection on which nothing of the file's own runs, and a rule. Names of tables and
//! columns are quoted, values bound. A table or column that is not there belongs to another version of
//! the agent and is passed over.

use std::collections::HashMap;

use adapters::sessions::{MessageTable, RowTemplate, SessionRule, SessionSource, Values};
use adapters::{RowMatch, RowValues};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params_from_iter};
use serde_json::{Map, Number, Value};

use crate::digest::{Digest, Fold, Known, meant};
use crate::record::{Slots, Wanted};
use crate::show::{Message, Shown};
use crate::time::parse_time;
use crate::{Error, Result, blocks};

/// A session that is a row.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RowSession {
    /// What was found.
    pub digest: Digest,
    /// Its id and title.
    pub known: Known,
}

/// Reads all sessions of a database.
pub fn read_rows(db: &Connection, rule: &SessionRule) -> Result<Vec<RowSession>> {
    let mut found = Vec::new();
    each_session(db, rule, &mut |session| {
        found.push(session);
        true
    })?;
    Ok(found)
}

fn each_session(
    db: &Connection,
    rule: &SessionRule,
    take: &mut dyn FnMut(RowSession) -> bool,
) -> Result<()> {
    let SessionSource::Rows { table, rows } = &rule.source else { return Ok(()) };
    let fold = Fold::new(rule, false);
    let (condition, values) = match rows {
        None => (String::new(), Vec::new()),
        Some(rows) => {
            let Some(column) = columns(db, table)?.into_iter().find(|c| same(c, &rows.column))
            else {
                return Ok(());
            };
            matching(&column, rows)
        }
    };
    let select = Select { table, condition: &condition, values: &values, order: &[] };
    each_row(db, &select, &fold.wanted, &[], &mut |slots| {
        let mut digest = Digest::default();
        fold.take(slots, &mut digest);
        match digest.known(rule, "") {
            Some(known) => take(RowSession { digest, known }),
            None => true,
        }
    })
}

fn matching(column: &str, rows: &RowMatch) -> (String, Vec<String>) {
    let (test, values) = match &rows.values {
        RowValues::Is(values) => ("=", values),
        RowValues::Glob(values) => ("GLOB", values),
    };
    (any_of(column, test, values.len()), values.clone())
}

fn any_of(column: &str, test: &str, count: usize) -> String {
    let one = format!("{} {test} ?", quote(column));
    vec![one; count].join(" OR ")
}

/// Condition and values for the rows of a session.
pub(crate) fn of_session(rows: &RowTemplate, session: &Values) -> (String, Vec<String>) {
    let is: Vec<String> = rows.is.iter().filter_map(|text| session.text(text)).collect();
    let glob: Vec<String> = rows.glob.iter().filter_map(|text| session.glob(text)).collect();
    let mut tests = Vec::new();
    for (test, count) in [("=", is.len()), ("GLOB", glob.len())] {
        if count > 0 {
            tests.push(any_of(&rows.column, test, count));
        }
    }
    let condition = if tests.is_empty() { "0".to_owned() } else { tests.join(" OR ") };
    (condition, [is, glob].concat())
}

/// What is read of a table.
struct Select<'a> {
    table: &'a str,
    condition: &'a str,
    values: &'a [String],
    order: &'a [String],
}

/// Calls `take` with what is wanted of each row. `parsed` are columns whose whole value is JSON.
fn each_row(
    db: &Connection,
    select: &Select<'_>,
    wanted: &Wanted,
    parsed: &[String],
    take: &mut dyn FnMut(&Slots) -> bool,
) -> Result<()> {
    let there = columns(db, select.table)?;
    let mut used: Vec<String> = Vec::new();
    for path in wanted.paths() {
        let column = path.first().and_then(|key| there.iter().find(|c| same(c, key)));
        if column.is_some() && !used.iter().any(|known| same(known, &path[0])) {
            used.push(path[0].clone());
        }
    }
    if used.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = used.iter().map(|name| quote(name)).collect();
    let sql = sql(&names.join(", "), select, &there);
    let mut statement = db.prepare(&sql)?;
    let mut rows = statement.query(params_from_iter(select.values))?;
    while let Some(row) = rows.next()? {
        let mut slots = wanted.empty();
        for (at, column) in used.iter().enumerate() {
            let whole = parsed.iter().any(|name| same(name, column));
            column_into(wanted, column, row.get_ref(at)?, whole, &mut slots);
        }
        if !take(&slots) {
            break;
        }
    }
    Ok(())
}

fn sql(what: &str, select: &Select<'_>, there: &[String]) -> String {
    let mut sql = format!("SELECT {what} FROM {}", quote(select.table));
    if !select.condition.is_empty() {
        sql = format!("{sql} WHERE {}", select.condition);
    }
    let order: Vec<String> = select
        .order
        .iter()
        .filter(|name| there.iter().any(|c| same(c, name)) || same(name, "rowid"))
        .map(|name| quote(name))
        .collect();
    if !order.is_empty() {
        sql = format!("{sql} ORDER BY {}", order.join(", "));
    }
    sql
}

/// Puts a column into the slots, and what is in it where that is wanted.
fn column_into(wanted: &Wanted, column: &str, value: ValueRef<'_>, whole: bool, slots: &mut Slots) {
    let inside = wanted.paths().iter().any(|path| path.len() > 1 && same(&path[0], column));
    let text = match value {
        ValueRef::Text(text) | ValueRef::Blob(text) => Some(text),
        _ => None,
    };
    let plain = || plain(value);
    let value = match text {
        Some(text) if inside && !whole && !wanted.is_slot(column) => {
            // only what is wanted of it is built
            wanted.read_below(column, text, slots);
            return;
        }
        Some(text) if inside || whole => serde_json::from_slice(text).unwrap_or_else(|_| plain()),
        _ => plain(),
    };
    wanted.set(&[column.to_owned()], &value, slots);
}

/// A value of SQLite as one of JSON. Bytes that are no text are only counted.
fn plain(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::from(number),
        ValueRef::Real(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        ValueRef::Text(text) => Value::String(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::String(text.to_owned()),
            Err(_) => Value::String(format!("[{} bytes]", bytes.len())),
        },
    }
}

/// The columns of a table; none if it is not there.
pub(crate) fn columns(db: &Connection, table: &str) -> Result<Vec<String>> {
    let mut statement = db.prepare(
        "SELECT name FROM pragma_table_info(?1) WHERE EXISTS (SELECT 1 FROM sqlite_schema
         WHERE type = 'table' AND lower(name) = lower(?1))",
    )?;
    let names = statement.query_map([table], |row| row.get(0))?;
    Ok(names.collect::<rusqlite::Result<_>>()?)
}

pub(crate) fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// A name as SQL.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The values of a session's own row that templates may name.
pub fn row_values(db: &Connection, rule: &SessionRule, id: &str) -> Result<Values> {
    let mut values = Values::new(id, "");
    let SessionSource::Rows { table, .. } = &rule.source else { return Ok(values) };
    let [adapters::sessions::Pick::Field { path, .. }] = rule.id.as_slice() else {
        return Ok(values);
    };
    let [column] = path.as_slice() else { return Ok(values) };
    let there = columns(db, table)?;
    if !there.iter().any(|known| same(known, column)) {
        return Ok(values);
    }
    let sql = format!("SELECT * FROM {} WHERE {} = ?", quote(table), quote(column));
    let mut statement = db.prepare(&sql)?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut rows = statement.query([id])?;
    if let Some(row) = rows.next()? {
        for (at, name) in names.iter().enumerate() {
            if let Value::String(text) = plain(row.get_ref(at)?) {
                values.set_column(name, text);
            }
        }
    }
    Ok(values)
}

/// Shows one session of a database.
pub fn show_rows(
    db: &Connection,
    rule: &SessionRule,
    id: &str,
    shown: &mut Shown<'_>,
) -> Result<()> {
    let session = row_values(db, rule, id)?;
    if let Shown::Records(show) = shown {
        for table in &rule.messages {
            let (condition, values) = of_session(&table.rows, &session);
            if !show_records(db, table, &condition, &values, *show)? {
                break;
            }
        }
        return Ok(());
    }
    let Shown::Messages(show) = shown else { return Ok(()) };
    let sequence = sequence(db, rule, id)?;
    let mut speakers: HashMap<String, (Option<String>, Option<i64>)> = HashMap::new();
    for table in &rule.messages {
        if !columns(db, &table.table)?.iter().any(|column| same(column, &table.rows.column)) {
            continue;
        }
        let (condition, values) = of_session(&table.rows, &session);
        let select = Select {
            table: &table.table,
            condition: &condition,
            values: &values,
            order: &table.order,
        };
        if table.content.is_empty() {
            read_speakers(db, table, &select, &mut speakers)?;
        } else if !show_table(db, rule, table, &select, &speakers, &sequence, *show)? {
            break;
        }
    }
    Ok(())
}

fn read_speakers(
    db: &Connection,
    table: &MessageTable,
    select: &Select<'_>,
    speakers: &mut HashMap<String, (Option<String>, Option<i64>)>,
) -> Result<()> {
    let mut wanted = Wanted::default();
    let role = wanted.add(&table.role);
    let (time, name) = (wanted.add(&table.time), wanted.add(&table.name));
    each_row(db, select, &wanted, &[], &mut |slots| {
        if let Some(name) = name.text(slots) {
            let time = time.first(slots).and_then(parse_time);
            speakers.insert(name, (role.text(slots), time));
        }
        true
    })
}

/// Shows the messages of one table. False if nobody wants more.
fn show_table(
    db: &Connection,
    rule: &SessionRule,
    table: &MessageTable,
    select: &Select<'_>,
    speakers: &HashMap<String, (Option<String>, Option<i64>)>,
    sequence: &HashMap<String, usize>,
    show: &mut dyn FnMut(Message) -> bool,
) -> Result<bool> {
    let mut wanted = Wanted::default();
    let (role, content) = (wanted.add(&table.role), wanted.add(&table.content));
    let (time, part_of) = (wanted.add(&table.time), wanted.add(&table.part_of));
    let parsed: Vec<String> = table
        .content
        .iter()
        .filter_map(|pick| match pick {
            adapters::sessions::Pick::Field { path, .. } => path.first().cloned(),
            _ => None,
        })
        .collect();
    let mut more = true;
    let mut take = |slots: &Slots| {
        let whose = part_of.text(slots).and_then(|name| speakers.get(&name));
        let role = role.text(slots).or_else(|| whose.and_then(|(role, _)| role.clone()));
        let mut said = Vec::new();
        content.all(slots).for_each(|value| blocks::blocks(value, &mut said));
        if let Some(role) = role.filter(|_| !said.is_empty()) {
            let time_ms = time.first(slots).and_then(parse_time);
            let time_ms = time_ms.or_else(|| whose.and_then(|(_, time)| *time));
            let role = meant(rule, &role).to_owned();
            more = show(Message { role, time_ms, blocks: said });
        }
        more
    };
    if sequence.is_empty() {
        each_row(db, select, &wanted, &parsed, &mut take)?;
        return Ok(more);
    }
    for rowid in in_sequence(db, table, select, sequence)? {
        let one = Select {
            condition: "rowid = ?",
            values: &[rowid.to_string()],
            table: select.table,
            order: &[],
        };
        each_row(db, &one, &wanted, &parsed, &mut take)?;
    }
    Ok(more)
}

/// Row numbers of messages in the order that the session gives; others come after them.
fn in_sequence(
    db: &Connection,
    table: &MessageTable,
    select: &Select<'_>,
    sequence: &HashMap<String, usize>,
) -> Result<Vec<i64>> {
    let mut wanted = Wanted::default();
    let name = wanted.add(&table.name);
    let rowid = ["rowid".to_owned()];
    let column =
        wanted.add(&[adapters::sessions::Pick::Field { when: None, path: rowid.to_vec() }]);
    let mut rows: Vec<(usize, i64)> = Vec::new();
    each_row_with_rowid(db, select, &wanted, &mut |slots| {
        let at = name.text(slots).and_then(|name| sequence.get(&name)).copied();
        if let Some(number) = column.first(slots).and_then(Value::as_i64) {
            rows.push((at.unwrap_or(usize::MAX), number));
        }
        true
    })?;
    rows.sort_unstable();
    Ok(rows.into_iter().map(|(_, number)| number).collect())
}

fn each_row_with_rowid(
    db: &Connection,
    select: &Select<'_>,
    wanted: &Wanted,
    take: &mut dyn FnMut(&Slots) -> bool,
) -> Result<()> {
    let there = columns(db, select.table)?;
    let mut column = wanted.paths().iter().filter_map(|path| path.first());
    let Some(column) = column.find(|name| there.iter().any(|c| same(c, name))) else {
        return Ok(());
    };
    let sql = sql(&format!("rowid, {}", quote(column)), select, &there);
    let mut statement = db.prepare(&sql)?;
    let mut rows = statement.query(params_from_iter(select.values))?;
    while let Some(row) = rows.next()? {
        let mut slots = wanted.empty();
        column_into(wanted, "rowid", row.get_ref(0)?, false, &mut slots);
        column_into(wanted, column, row.get_ref(1)?, false, &mut slots);
        if !take(&slots) {
            break;
        }
    }
    Ok(())
}

/// Where each message stands, by its name, if the session says so.
fn sequence(db: &Connection, rule: &SessionRule, id: &str) -> Result<HashMap<String, usize>> {
    let mut out = HashMap::new();
    let (Some((list, key)), SessionSource::Rows { table, rows }) = (&rule.sequence, &rule.source)
    else {
        return Ok(out);
    };
    let mut wanted = Wanted::default();
    let (ids, lists) = (wanted.add(&rule.id), wanted.add(std::slice::from_ref(list)));
    let (condition, values) =
        rows.as_ref().map_or((String::new(), Vec::new()), |rows| matching(&rows.column, rows));
    let select = Select { table, condition: &condition, values: &values, order: &[] };
    each_row(db, &select, &wanted, &[], &mut |slots| {
        if ids.text(slots).as_deref() != Some(id) {
            return true;
        }
        let items = lists.first(slots).and_then(Value::as_array);
        for (at, item) in items.into_iter().flatten().enumerate() {
            if let Some(name) = item[key.as_str()].as_str() {
                out.insert(name.to_owned(), at);
            }
        }
        false
    })?;
    Ok(out)
}

/// Gives the rows of a session as they are.
fn show_records(
    db: &Connection,
    table: &MessageTable,
    condition: &str,
    values: &[String],
    show: &mut dyn FnMut(Value) -> bool,
) -> Result<bool> {
    let there = columns(db, &table.table)?;
    if !there.iter().any(|column| same(column, &table.rows.column)) {
        return Ok(true);
    }
    let select = Select { table: &table.table, condition, values, order: &table.order };
    let mut statement = db.prepare(&sql("*", &select, &there))?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut rows = statement.query(params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        let record = Map::from_iter([
            ("table".to_owned(), Value::String(table.table.clone())),
            ("row".to_owned(), Value::Object(whole(row, &names)?)),
        ]);
        if !show(Value::Object(record)) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn whole(row: &Row<'_>, names: &[String]) -> Result<Map<String, Value>> {
    let column = |(at, name): (usize, &String)| Ok((name.clone(), plain(row.get_ref(at)?)));
    names.iter().enumerate().map(column).collect::<Result<_>>()
}

impl From<adapters::AdapterError> for Error {
    fn from(error: adapters::AdapterError) -> Self {
        Self::Shape(error.to_string())
    }
}
