//! Catalogues that are rows of a database, or a list in the JSON of one.
//!
//! Rows go into the database that is there in one transaction: all of them or none, with the locks that
//! SQLite's users keep. What is there stays: a row that conflicts with another is not written. Triggers of
//! the live database fire, as they would for its agent: its full-text indexes have to know. Foreign keys are
//! enforced when the transaction ends.

use adapters::sessions::{Catalogue, CatalogueEntries, RowTemplate, Values, any_session};
use rusqlite::types::Value as Cell;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params_from_iter};

use super::Whose;
use super::file::{merge, stored};
use crate::rows::{columns, of_session, quote, same};
use crate::{Error, Result};

/// What of a catalogue is wanted, and for which sessions.
#[derive(Debug, Clone)]
pub struct Wanted<'c> {
    /// The catalogue.
    pub catalogue: &'c Catalogue,
    /// The sessions.
    pub whose: Whose,
}

/// What happened to rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// Rows, or entries of lists, that were missing and are there now.
    pub added: u64,
    /// Rows that are there and say something else, or that do not fit. They stay, or stay out.
    pub other: u64,
    /// Tables and columns that the database does not have.
    pub absent: Vec<String>,
}

/// How many rows of the sessions a database has.
pub fn count_rows(db: &Connection, wanted: &[Wanted<'_>]) -> Result<u64> {
    let mut count = 0;
    for one in wanted {
        match &one.catalogue.entries {
            CatalogueEntries::Rows { table, rows, .. } => {
                for (condition, values) in conditions(db, table, rows, &one.whose)? {
                    let sql = format!("SELECT count(*) FROM {} WHERE {condition}", quote(table));
                    let some: i64 =
                        db.query_row(&sql, params_from_iter(&values), |row| row.get(0))?;
                    count += u64::try_from(some).unwrap_or_default();
                }
            }
            CatalogueEntries::RowList { .. } => {
                if let Some(found) = list_of(db, one.catalogue)? {
                    count += stored(&as_list(one.catalogue), &found.0, &one.whose)?.len() as u64;
                }
            }
            _ => {}
        }
    }
    Ok(count)
}

/// Puts the rows of sessions into the database that is there. `added` sees each text that comes in.
pub fn merge_rows(
    from: &Connection,
    live: &mut Connection,
    wanted: &[Wanted<'_>],
    added: &mut dyn FnMut(&[u8]),
) -> Result<Rows> {
    live.pragma_update(None, "foreign_keys", true)?;
    let transaction = live.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.pragma_update(None, "defer_foreign_keys", true)?;
    let mut done = Rows::default();
    for one in wanted {
        match &one.catalogue.entries {
            CatalogueEntries::Rows { table, rows, number } => {
                let number = number.as_deref();
                merge_table(from, &transaction, table, rows, number, &one.whose, &mut done, added)?;
            }
            CatalogueEntries::RowList { .. } => {
                merge_list(from, &transaction, one, &mut done, added)?;
            }
            _ => {}
        }
    }
    transaction.commit()?;
    Ok(done)
}

#[allow(clippy::too_many_arguments, reason = "rows, where they come from and go to")]
fn merge_table(
    from: &Connection,
    live: &Connection,
    table: &str,
    rows: &RowTemplate,
    number: Option<&str>,
    whose: &Whose,
    done: &mut Rows,
    added: &mut dyn FnMut(&[u8]),
) -> Result<()> {
    let (old, new) = (columns(from, table)?, columns(live, table)?);
    let chosen = conditions(from, table, rows, whose)?;
    if old.is_empty() || chosen.is_empty() {
        return Ok(());
    }
    if new.is_empty() {
        done.absent.push(table.to_owned());
        return Ok(());
    }
    let counts = |name: &String| number.is_some_and(|number| same(number, name));
    let (shared, lost): (Vec<String>, Vec<String>) = old
        .into_iter()
        .filter(|name| !counts(name))
        .partition(|name| new.iter().any(|other| same(name, other)));
    done.absent.extend(lost.iter().map(|column| format!("{table}.{column}")));
    let names: Vec<String> = shared.iter().map(|name| quote(name)).collect();
    let list = names.join(", ");
    let same_row: Vec<String> = names.iter().map(|name| format!("{name} IS ?")).collect();
    let table = quote(table);
    let mut is_there =
        live.prepare(&format!("SELECT 1 FROM {table} WHERE {} LIMIT 1", same_row.join(" AND ")))?;
    let marks = vec!["?"; names.len()].join(", ");
    let mut insert =
        live.prepare(&format!("INSERT OR IGNORE INTO {table} ({list}) VALUES ({marks})"))?;
    for (condition, values) in chosen {
        let mut select = from.prepare(&format!("SELECT {list} FROM {table} WHERE {condition}"))?;
        let mut found = select.query(params_from_iter(&values))?;
        while let Some(row) = found.next()? {
            let cells: Vec<Cell> =
                (0..names.len()).map(|at| row.get(at)).collect::<rusqlite::Result<_>>()?;
            if is_there.exists(params_from_iter(&cells))? {
                continue;
            }
            if insert.execute(params_from_iter(&cells))? == 0 {
                done.other += 1;
                continue;
            }
            done.added += 1;
            for cell in &cells {
                match cell {
                    Cell::Text(text) => added(text.as_bytes()),
                    Cell::Blob(bytes) => added(bytes),
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

fn merge_list(
    from: &Connection,
    live: &Connection,
    one: &Wanted<'_>,
    done: &mut Rows,
    added: &mut dyn FnMut(&[u8]),
) -> Result<()> {
    let CatalogueEntries::RowList { table, row, json, .. } = &one.catalogue.entries else {
        return Ok(());
    };
    let Some((text, kind)) = list_of(from, one.catalogue)? else { return Ok(()) };
    let entries = stored(&as_list(one.catalogue), &text, &one.whose)?;
    if entries.is_empty() {
        return Ok(());
    }
    if columns(live, table)?.is_empty() {
        done.absent.push(table.clone());
        return Ok(());
    }
    let there = list_of(live, one.catalogue)?;
    let kind = there.as_ref().map_or(kind, |(_, kind)| *kind);
    let merged =
        merge(&as_list(one.catalogue), there.as_ref().map(|(text, _)| &text[..]), &entries)?;
    done.other += merged.other.len() as u64;
    if merged.added == 0 {
        return Ok(());
    }
    done.added += merged.added as u64;
    merged.new.iter().for_each(|entry| added(entry));
    let value = cell(merged.bytes, kind)?;
    let (table, json, column) = (quote(table), quote(json), quote(&row.0));
    let key = Cell::Text(row.1.clone());
    if there.is_some() {
        live.execute(&format!("UPDATE {table} SET {json} = ? WHERE {column} = ?"), [value, key])?;
    } else {
        live.execute(
            &format!("INSERT INTO {table} ({json}, {column}) VALUES (?, ?)"),
            [value, key],
        )?;
    }
    Ok(())
}

/// Leaves out of an image of ours the rows of all other sessions.
pub fn prune_rows(image: &Connection, wanted: &[Wanted<'_>]) -> Result<()> {
    for one in wanted {
        match &one.catalogue.entries {
            CatalogueEntries::Rows { table, rows, .. } => {
                prune_table(image, table, rows, &one.whose)?;
            }
            CatalogueEntries::RowList { table, row, json, .. } => {
                let Some((text, kind)) = list_of(image, one.catalogue)? else { continue };
                let alone = merge(
                    &as_list(one.catalogue),
                    None,
                    &stored(&as_list(one.catalogue), &text, &one.whose)?,
                )?;
                if alone.bytes.is_empty() {
                    continue;
                }
                let (table, json, column) = (quote(table), quote(json), quote(&row.0));
                let sql = format!("UPDATE {table} SET {json} = ? WHERE {column} = ?");
                image.execute(&sql, [cell(alone.bytes, kind)?, Cell::Text(row.1.clone())])?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn prune_table(image: &Connection, table: &str, rows: &RowTemplate, whose: &Whose) -> Result<()> {
    if !columns(image, table)?.iter().any(|name| same(name, &rows.column)) {
        return Ok(());
    }
    // every row that belongs to some session, and to none of these
    let any: Vec<Option<String>> =
        rows.is.iter().chain(&rows.glob).map(|template| any_session(template)).collect();
    let mut values: Vec<String> = Vec::new();
    let of_any = if any.contains(&None) {
        "1".to_owned()
    } else {
        values.extend(any.into_iter().flatten());
        vec![format!("{} GLOB ?", quote(&rows.column)); values.len()].join(" OR ")
    };
    let mut mine = Vec::new();
    for (condition, more) in conditions(image, table, rows, whose)? {
        mine.push(format!("({condition})"));
        values.extend(more);
    }
    let mine = if mine.is_empty() { "0".to_owned() } else { mine.join(" OR ") };
    let sql = format!("DELETE FROM {} WHERE ({of_any}) AND ({mine}) IS NOT 1", quote(table));
    image.execute(&sql, params_from_iter(&values))?;
    Ok(())
}

/// For each session the condition of its rows; none if the table or its column is not there.
fn conditions(
    db: &Connection,
    table: &str,
    rows: &RowTemplate,
    whose: &Whose,
) -> Result<Vec<(String, Vec<String>)>> {
    if !columns(db, table)?.iter().any(|name| same(name, &rows.column)) {
        return Ok(Vec::new());
    }
    // two sessions of one project name one row
    let mut all: Vec<_> =
        whose.values.iter().map(|values: &Values| of_session(rows, values)).collect();
    all.sort();
    all.dedup();
    Ok(all)
}

/// Whether a list is stored as text or as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Blob,
}

fn cell(bytes: Vec<u8>, kind: Kind) -> Result<Cell> {
    match kind {
        Kind::Blob => Ok(Cell::Blob(bytes)),
        Kind::Text => {
            let text = String::from_utf8(bytes);
            Ok(Cell::Text(text.map_err(|_| Error::Shape("its list is no text".to_owned()))?))
        }
    }
}

/// The JSON with a list of sessions; none if there is no such row.
fn list_of(db: &Connection, catalogue: &Catalogue) -> Result<Option<(Vec<u8>, Kind)>> {
    let CatalogueEntries::RowList { table, row, json, .. } = &catalogue.entries else {
        return Ok(None);
    };
    let there = columns(db, table)?;
    if ![json, &row.0].iter().all(|name| there.iter().any(|known| same(known, name))) {
        return Ok(None);
    }
    let sql = format!("SELECT {} FROM {} WHERE {} = ?", quote(json), quote(table), quote(&row.0));
    let found: Option<Cell> = db.query_row(&sql, [&row.1], |row| row.get(0)).optional()?;
    Ok(match found {
        Some(Cell::Text(text)) => Some((text.into_bytes(), Kind::Text)),
        Some(Cell::Blob(bytes)) => Some((bytes, Kind::Blob)),
        _ => None,
    })
}

/// The list in the JSON of a row, as one of a document.
fn as_list(catalogue: &Catalogue) -> Catalogue {
    let mut document = catalogue.clone();
    if let CatalogueEntries::RowList { list, key, .. } = &catalogue.entries {
        document.entries = CatalogueEntries::List { list: list.clone(), key: key.clone() };
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use adapters::sessions::Pick;

    fn open(sql: &str) -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(sql).unwrap();
        db
    }

    fn catalogue(entries: CatalogueEntries) -> Catalogue {
        let (title, project) = (Vec::new(), Vec::new());
        Catalogue { root: None, files: vec!["x".to_owned()], entries, title, project }
    }

    fn rows(table: &str, column: &str, is: &[&str], number: Option<&str>) -> Catalogue {
        let is = is.iter().map(|text| (*text).to_owned()).collect();
        let rows = RowTemplate { column: column.to_owned(), is, glob: Vec::new() };
        let number = number.map(str::to_owned);
        catalogue(CatalogueEntries::Rows { table: table.to_owned(), rows, number })
    }

    fn whose(id: &str) -> Whose {
        Whose { ids: [id.to_owned()].into(), values: vec![Values::new(id, "")] }
    }

    fn texts(db: &Connection, sql: &str) -> Vec<String> {
        let mut statement = db.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<rusqlite::Result<_>>().unwrap()
    }

    const SCHEMA: &str = "CREATE TABLE s (id TEXT PRIMARY KEY, t TEXT);
        CREATE TABLE m (n INTEGER PRIMARY KEY AUTOINCREMENT, s TEXT NOT NULL REFERENCES s(id), t TEXT);";

    #[test]
    fn messages_with_a_running_number_do_not_push_out_those_of_another_session() {
        let from = open(&format!(
            "{SCHEMA} INSERT INTO s VALUES ('a', '1'), ('b', '2');
            INSERT INTO m VALUES (1, 'a', 'x'), (2, 'b', 'y'), (3, 'a', 'z');"
        ));
        let mut live = open(&format!("{SCHEMA} INSERT INTO s VALUES ('c', '3');
            INSERT INTO m VALUES (1, 'c', 'mine'), (3, 'c', 'too');
            CREATE TABLE fts (t); CREATE TRIGGER i AFTER INSERT ON m BEGIN INSERT INTO fts VALUES (NEW.t); END;"));
        let (s, m) = (rows("s", "id", &["{id}"], None), rows("m", "s", &["{id}"], Some("n")));
        let all = [&s, &m].map(|catalogue| Wanted { catalogue, whose: whose("a") });
        assert_eq!(count_rows(&from, &all).unwrap(), 3);
        let done = merge_rows(&from, &mut live, &all, &mut |_| {}).unwrap();
        assert_eq!((done.added, done.other), (3, 0));
        let now = texts(&live, "SELECT s || ':' || t FROM m ORDER BY n");
        assert_eq!(now, ["c:mine", "c:too", "a:x", "a:z"]);
        assert_eq!(texts(&live, "SELECT t FROM fts"), ["x", "z"], "its own index knows them");
        let again = merge_rows(&from, &mut live, &all, &mut |_| {}).unwrap();
        assert_eq!(again, Rows::default(), "a second time adds nothing");
    }

    #[test]
    fn a_row_that_is_there_and_differs_stays_and_is_told() {
        let from = open(&format!("{SCHEMA} INSERT INTO s VALUES ('a', 'old');"));
        let mut live = open(&format!("{SCHEMA} INSERT INTO s VALUES ('a', 'new');"));
        let s = rows("s", "id", &["{id}"], None);
        let all = [Wanted { catalogue: &s, whose: whose("a") }];
        let done = merge_rows(&from, &mut live, &all, &mut |_| {}).unwrap();
        assert_eq!((done.added, done.other), (0, 1));
        assert_eq!(texts(&live, "SELECT t FROM s"), ["new"]);
    }

    #[test]
    fn what_would_break_a_reference_leaves_the_live_database_as_it_was() {
        let from = open(&format!(
            "{SCHEMA} INSERT INTO s VALUES ('a', '1'); INSERT INTO m VALUES (1, 'a', 'x');"
        ));
        let mut live = open(SCHEMA);
        let m = rows("m", "s", &["{id}"], Some("n"));
        let all = [Wanted { catalogue: &m, whose: whose("a") }];
        assert!(merge_rows(&from, &mut live, &all, &mut |_| {}).is_err());
        assert!(texts(&live, "SELECT t FROM m").is_empty());
    }

    #[test]
    fn another_version_of_the_agent_lacks_a_table_or_a_column_and_gets_the_rest() {
        let from = open(&format!(
            "{SCHEMA} CREATE TABLE extra (id TEXT); INSERT INTO s VALUES ('a', '1'); INSERT INTO extra VALUES ('a');"
        ));
        let mut live = open("CREATE TABLE s (id TEXT PRIMARY KEY, more TEXT DEFAULT 'd');");
        let (s, extra) = (rows("s", "id", &["{id}"], None), rows("extra", "id", &["{id}"], None));
        let none = rows("none", "id", &["{id}"], None);
        let all = [&s, &extra, &none].map(|catalogue| Wanted { catalogue, whose: whose("a") });
        let done = merge_rows(&from, &mut live, &all, &mut |_| {}).unwrap();
        assert_eq!((done.added, done.absent), (1, vec!["s.t".to_owned(), "extra".to_owned()]));
        assert_eq!(texts(&live, "SELECT more FROM s"), ["d"]);
    }

    #[test]
    fn an_image_for_an_empty_home_has_the_session_and_what_is_of_none() {
        let image = open("CREATE TABLE kv (key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB);
            INSERT INTO kv VALUES ('data:a', '1'), ('data:b', '2'), ('bubble:a:1', '3'), ('bubble:b:1', '4'), ('setting', '5'),
            ('heads', '{\"all\":[{\"id\":\"a\"},{\"id\":\"b\"}],\"x\":1}');");
        let glob = vec!["bubble:{id}:*".to_owned()];
        let is = vec!["data:{id}".to_owned()];
        let rows = RowTemplate { column: "key".to_owned(), is, glob };
        let keys = catalogue(CatalogueEntries::Rows { table: "kv".to_owned(), rows, number: None });
        let heads = catalogue(CatalogueEntries::RowList {
            table: "kv".to_owned(),
            row: ("key".to_owned(), "heads".to_owned()),
            json: "value".to_owned(),
            list: vec!["all".to_owned()],
            key: Pick::Field { when: None, path: vec!["id".to_owned()] },
        });
        let all = [&keys, &heads].map(|catalogue| Wanted { catalogue, whose: whose("a") });
        prune_rows(&image, &all).unwrap();
        let left = texts(&image, "SELECT key FROM kv ORDER BY key");
        assert_eq!(left, ["bubble:a:1", "data:a", "heads", "setting"]);
        let heads = texts(&image, "SELECT value FROM kv WHERE key = 'heads'");
        assert_eq!(heads, [r#"{"all":[{"id":"a"}],"x":1}"#]);

        // and into a list that has others
        let mut live = open(
            "CREATE TABLE kv (key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB);
            INSERT INTO kv VALUES ('heads', '{\"all\":[{\"id\":\"c\"}]}');",
        );
        let done = merge_rows(&image, &mut live, &all, &mut |_| {}).unwrap();
        assert_eq!((done.added, done.other), (3, 0));
        let heads = texts(&live, "SELECT value FROM kv WHERE key = 'heads'");
        assert_eq!(heads, [r#"{"all":[{"id":"c"},{"id":"a"}]}"#]);
    }
}
