//! Paths in columns of a database, rewritten by SQLite in a file of ours.
//!
//! In: a database whose hash fits, under a temporary name, with no log beside it. Out: the same file
//! with its paths for the new place. A value is a path, or a JSON list of paths; anything else stays. The
//! same file and the same maps give the same bytes. Nothing that is written in the file runs: no
//! trigger, no view. A full-text index that SQLite can make anew from the table is made anew; of any other
//! it is told that it has the old paths. After an error the file is what it was.

use std::io;
use std::path::Path;
use std::time::Duration;

use redact::{Format, Part, Rule};
use rusqlite::{Connection, OptionalExtension as _};

use super::Tally;
use super::path::Maps;
use crate::capture::connection::{connect_own, connect_there, explain};
use crate::capture::edit::{Header, columns, indexes_of, quoted};
use crate::capture::sqlite::How;

/// A larger full-text index is not made anew: what it was stays in memory until that is done.
const INDEX_BYTES_MAX: f64 = (64 << 20) as f64;

/// Rewrites `tables`, each with its columns. True if anything changed. Tables and columns that are not
/// there are no error: another version of the agent has none.
pub(super) fn rewrite(
    path: &Path,
    tables: &[(String, Vec<String>)],
    maps: &Maps,
    tally: &mut Tally,
) -> io::Result<bool> {
    let header = Header::prepare(path)?;
    let mut own = Tally::default();
    let done = edit(path, tables, maps, &mut own);
    header.put_back_at(path)?;
    done?;
    let changed = own.count > 0;
    tally.take(own);
    Ok(changed)
}

fn edit(
    path: &Path,
    tables: &[(String, Vec<String>)],
    maps: &Maps,
    tally: &mut Tally,
) -> io::Result<()> {
    let db = connect_own(path).map_err(explain)?;
    let done = transaction(&db, tables, maps, tally);
    if done.is_err() {
        db.execute_batch("ROLLBACK").map_err(explain)?;
    }
    db.close().map_err(|(_, error)| explain(error))?;
    done
}

fn transaction(
    db: &Connection,
    tables: &[(String, Vec<String>)],
    maps: &Maps,
    tally: &mut Tally,
) -> io::Result<()> {
    // there must be a way back, and no file beside it
    db.pragma_update(None, "journal_mode", "MEMORY").map_err(explain)?;
    db.execute_batch(
        "BEGIN EXCLUSIVE; CREATE TEMP TABLE moved (old TEXT PRIMARY KEY, new TEXT NOT NULL) WITHOUT ROWID",
    )
    .map_err(explain)?;
    for (table, wanted) in tables {
        let query = "SELECT name FROM main.sqlite_schema \
                     WHERE name=?1 COLLATE NOCASE AND type='table' AND rootpage>0";
        let found = db.query_row(query, [table], |row| row.get::<_, String>(0)).optional();
        let Some(name) = found.map_err(explain)? else { continue };
        let there = columns(db, &name).map_err(explain)?;
        let mut moved = Vec::new();
        for column in wanted {
            let Some(column) = there.iter().find(|known| known.eq_ignore_ascii_case(column)) else {
                continue;
            };
            let before = tally.count;
            move_column(db, &name, column, maps, tally).map_err(|error| {
                let error = explain(error);
                io::Error::new(error.kind(), format!("table '{table}': {error}"))
            })?;
            if tally.count > before {
                moved.push(column.as_str());
            }
        }
        renew_indexes(db, &name, &moved, tally).map_err(explain)?;
    }
    db.execute_batch("COMMIT").map_err(explain)
}

fn move_column(
    db: &Connection,
    table: &str,
    column: &str,
    maps: &Maps,
    tally: &mut Tally,
) -> rusqlite::Result<()> {
    let place = format!("{table}.{column}");
    let (table, column) = (quoted(table), quoted(column));
    let text = format!("typeof({column})='text'");
    db.execute("DELETE FROM temp.moved", [])?;
    let mut pairs = Vec::new();
    {
        let group = format!(
            "SELECT {column}, count(*) FROM main.{table} WHERE {text} GROUP BY {column} COLLATE BINARY"
        );
        let mut statement = db.prepare(&group)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let value = row.get_ref(0)?.as_bytes().ok().and_then(|b| std::str::from_utf8(b).ok());
            let Some(old) = value else { continue };
            if let Some(new) = moved(old, maps) {
                pairs.push((old.to_owned(), new, row.get::<_, i64>(1)?));
            }
        }
    }
    if pairs.is_empty() {
        return Ok(());
    }
    let mut insert = db.prepare("INSERT INTO temp.moved VALUES (?1, ?2)")?;
    for (old, new, _) in &pairs {
        insert.execute([old, new])?;
    }
    let sql = format!(
        "UPDATE OR IGNORE main.{table} SET {column}=\
         (SELECT new FROM temp.moved WHERE old={column} COLLATE BINARY) \
         WHERE {text} AND {column} COLLATE BINARY IN (SELECT old FROM temp.moved)"
    );
    let changed = db.execute(&sql, [])?;
    let all: i64 = pairs.iter().map(|(.., count)| count).sum();
    let stay = u64::try_from(all).unwrap_or(0).saturating_sub(changed as u64);
    if stay == 0 {
        for (old, new, count) in &pairs {
            tally.add(&place, old, new, u64::try_from(*count).unwrap_or(0));
        }
        return Ok(());
    }
    // some may not have the new value, as another row has it
    let mut count = db.prepare(&format!(
        "SELECT count(*) FROM main.{table} WHERE {text} AND {column}=?1 COLLATE BINARY"
    ))?;
    for (old, new, before) in &pairs {
        let after: i64 = count.query_row([old], |row| row.get(0))?;
        let done = u64::try_from(before - after).unwrap_or(0);
        if done > 0 {
            tally.add(&place, old, new, done);
        }
    }
    tally.left(format!("{place}: {stay} rows stay, as others have the new value already"));
    Ok(())
}

/// Full-text indexes of a table in which these columns were rewritten.
fn renew_indexes(
    db: &Connection,
    table: &str,
    moved: &[&str],
    tally: &mut Tally,
) -> rusqlite::Result<()> {
    if moved.is_empty() {
        return Ok(());
    }
    for index in indexes_of(db, table)? {
        if !moved.iter().any(|column| index.has(column)) {
            continue;
        }
        let why = if index.of_table {
            renew(db, &index.name)?
        } else {
            Some("only its agent can fill it".to_owned())
        };
        if let Some(why) = why {
            let name = &index.name;
            tally.left(format!("the full-text index '{name}' finds '{table}' by old paths: {why}"));
        }
    }
    Ok(())
}

/// Makes one anew; or says why not, and leaves it as it was.
fn renew(db: &Connection, index: &str) -> rusqlite::Result<Option<String>> {
    let size = |part: &str| {
        let sql = format!("SELECT total(length(block)) FROM main.{}", quoted(part));
        db.query_row(&sql, [], |row| row.get::<_, f64>(0))
    };
    // where the two kinds of full-text index have their words
    let bytes = size(&format!("{index}_data")).or_else(|_| size(&format!("{index}_segments")));
    if bytes.is_ok_and(|bytes| bytes > INDEX_BYTES_MAX) {
        return Ok(Some("it is too large to be made anew".to_owned()));
    }
    db.execute_batch("SAVEPOINT renew")?;
    let name = quoted(index);
    let sql = format!("INSERT INTO main.{name}({name}) VALUES ('rebuild')");
    let failed = db.execute(&sql, []).err();
    if failed.is_some() {
        db.execute_batch("ROLLBACK TO renew")?;
    }
    db.execute_batch("RELEASE renew")?;
    Ok(failed.map(|error| explain(error).to_string()))
}

/// Has a live database paths in these columns that a move would rewrite?
pub(super) fn has_old_paths(
    live: &Path,
    tables: &[(String, Vec<String>)],
    maps: &Maps,
) -> rusqlite::Result<bool> {
    let db = connect_there(live, How::Closed, Duration::ZERO)?;
    for (table, wanted) in tables {
        let there = columns(&db, table)?;
        for column in wanted {
            let Some(column) = there.iter().find(|known| known.eq_ignore_ascii_case(column)) else {
                continue;
            };
            let column = quoted(column);
            let sql = format!(
                "SELECT DISTINCT {column} FROM main.{} WHERE typeof({column})='text'",
                quoted(table)
            );
            let mut statement = db.prepare(&sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let value = row.get_ref(0)?.as_bytes().ok();
                let value = value.and_then(|bytes| std::str::from_utf8(bytes).ok());
                if value.is_some_and(|old| moved(old, maps).is_some()) {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// A value for the new place.
fn moved(old: &str, maps: &Maps) -> Option<String> {
    if !old.starts_with('[') {
        return maps.apply(old);
    }
    let rules = [Rule { path: "*".parse().ok()?, part: Part::Value }];
    let done = redact::rewrite(Format::Json, old.as_bytes(), &rules, &mut |_, old| maps.apply(old));
    String::from_utf8(done.ok()?.bytes).ok().filter(|new| new != old)
}
