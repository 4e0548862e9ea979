//! Transactions that tell from any image of a database whether it is a state between two commits.
//!
//! Each transaction adds a row to a log, counts in one table, folds the row into a checksum in another,
//! and moves an amount from one of many cells to another, which lie on pages all over the file. An
//! image that holds a part of a transaction, or pages of different times, breaks at least one of:
//! counter = rows of the log = newest touch of a cell; checksum = fold of the log; cells sum to 0.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rusqlite::{Connection, OpenFlags, params};
use serde::{Deserialize, Serialize};

use crate::databases::is_whole;
use crate::draws::Draws;

/// Cells, a little over three to a page.
const CELLS: i64 = 6_000;
const CELL_PAD_BYTES: usize = 1_100;
/// Cells that a long transaction moves between before it waits.
const LONG_MOVES: usize = 400;

/// A connection as an agent has it.
pub fn open(path: &Path) -> Result<Connection> {
    let db = Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(60))?;
    db.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;")?;
    Ok(db)
}

/// Makes the ledger's tables in a database.
pub fn prepare(db: &mut Connection) -> Result<()> {
    let transaction = db.transaction()?;
    transaction.execute_batch(
        "CREATE TABLE ledger_counter(n INTEGER NOT NULL);
         INSERT INTO ledger_counter VALUES(0);
         CREATE TABLE ledger_log(n INTEGER PRIMARY KEY, value INTEGER NOT NULL, text TEXT NOT NULL);
         CREATE TABLE ledger_cells(id INTEGER PRIMARY KEY, amount INTEGER NOT NULL,
             touched INTEGER NOT NULL, pad BLOB NOT NULL);
         CREATE TABLE ledger_checksum(sum INTEGER NOT NULL);
         INSERT INTO ledger_checksum VALUES(0);",
    )?;
    let mut draws = Draws::seeded(1);
    for id in 0..CELLS {
        let pad = draws.noise(CELL_PAD_BYTES);
        transaction.execute("INSERT INTO ledger_cells VALUES(?1, 0, 0, ?2)", params![id, pad])?;
    }
    Ok(transaction.commit()?)
}

/// The next transaction. With `wait` it is a long one: moves many amounts, waits, commits.
pub fn transact(db: &Connection, draws: &mut Draws, wait: Option<Duration>) -> Result<()> {
    db.execute_batch("BEGIN IMMEDIATE")?;
    let run = |sql: &str, values: &[i64]| -> Result<()> {
        db.prepare_cached(sql)?.execute(rusqlite::params_from_iter(values))?;
        Ok(())
    };
    let n: i64 = db
        .prepare_cached("UPDATE ledger_counter SET n = n + 1 RETURNING n")?
        .query_row([], |row| row.get(0))?;
    for _ in 0..if wait.is_some() { LONG_MOVES } else { 1 } {
        let (from, by) = (i64::try_from(draws.below(6_000))? % CELLS, draws.between(1, 5_999));
        let to = (from + i64::try_from(by)?) % CELLS;
        let amount = i64::try_from(draws.below(1_000))?;
        let sql = "UPDATE ledger_cells SET amount = amount + ?2, touched = ?3 WHERE id = ?1";
        run(sql, &[from, -amount, n])?;
        run(sql, &[to, amount, n])?;
    }
    let value = draws.next().cast_signed();
    let text_len = draws.length(600);
    db.prepare_cached("INSERT INTO ledger_log VALUES(?1, ?2, ?3)")?.execute(params![
        n,
        value,
        draws.text(text_len)
    ])?;
    if let Some(wait) = wait {
        std::thread::sleep(wait);
    }
    let sum: i64 = db.query_row("SELECT sum FROM ledger_checksum", [], |row| row.get(0))?;
    run("UPDATE ledger_checksum SET sum = ?1", &[fold(sum, value)])?;
    Ok(db.execute_batch("COMMIT")?)
}

/// One row into the checksum: order matters.
fn fold(sum: i64, value: i64) -> i64 {
    Draws::seeded((sum ^ value).cast_unsigned()).next().cast_signed()
}

/// What an image says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Transactions it holds.
    pub transactions: i64,
    /// What is wrong with it; empty if it is a state between two commits.
    pub faults: Vec<String>,
}

/// Checks a restored image. It is opened as it lies there, without sidecars.
pub fn check(path: &Path) -> Verdict {
    let mut verdict = Verdict::default();
    if let Err(error) = judge(path, &mut verdict) {
        verdict.faults.push(format!("cannot be read: {error:#}"));
    }
    verdict
}

fn judge(path: &Path, verdict: &mut Verdict) -> Result<()> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let number = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0));
    let counter = number("SELECT n FROM ledger_counter")?;
    verdict.transactions = counter;
    let mut expect = |what: &str, is: i64, should: i64| {
        if is != should {
            verdict.faults.push(format!("{what} is {is} and should be {should}"));
        }
    };
    expect("rows of the log", number("SELECT count(*) FROM ledger_log")?, counter);
    expect("newest row", number("SELECT coalesce(max(n), 0) FROM ledger_log")?, counter);
    let mut sum = 0;
    let mut log = db.prepare("SELECT value FROM ledger_log ORDER BY n")?;
    for value in log.query_map([], |row| row.get(0))? {
        sum = fold(sum, value?);
    }
    expect("checksum", number("SELECT sum FROM ledger_checksum")?, sum);
    expect("cells", number("SELECT count(*) FROM ledger_cells")?, CELLS);
    expect("sum of the cells", number("SELECT sum(amount) FROM ledger_cells")?, 0);
    expect("newest touch", number("SELECT max(touched) FROM ledger_cells")?, counter);
    if !is_whole(&db)? {
        verdict.faults.push("integrity_check finds damage".to_owned());
    }
    Ok(())
}

/// What a writer saw.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Written {
    /// Elapsed.
    pub secs: f64,
    /// Microseconds of each short transaction, from BEGIN to COMMIT.
    pub micros: Vec<u64>,
    /// How many long ones there were between them.
    pub long_count: u64,
}

impl Written {
    /// The latency in milliseconds that `percent` of the transactions stay within.
    pub fn percentile_ms(&self, percent: usize) -> f64 {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(place).map_or(0.0, |micros| *micros as f64 / 1e3)
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, other: &Written) -> Written {
        self.secs += other.secs;
        self.micros.extend(&other.micros);
        self.long_count += other.long_count;
        self
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn image(dir: &Path, name: &str, transactions: usize) -> PathBuf {
        let path = dir.join(name);
        let mut db = open(&path).unwrap();
        prepare(&mut db).unwrap();
        let mut draws = Draws::seeded(7);
        for n in 0..transactions {
            let wait = (n % 20 == 19).then_some(Duration::ZERO);
            transact(&db, &mut draws, wait).unwrap();
        }
        db.close().unwrap();
        path
    }

    #[test]
    fn a_state_between_two_commits_is_good_whatever_the_transactions_were() {
        let dir = tempfile::tempdir().unwrap();
        let verdict = check(&image(dir.path(), "a.db", 60));
        assert_eq!(verdict, Verdict { transactions: 60, faults: vec![] });
    }

    #[test]
    fn an_image_with_one_page_of_an_earlier_time_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        let early = fs::read(image(dir.path(), "early.db", 60)).unwrap();
        let late = fs::read(image(dir.path(), "late.db", 61)).unwrap();
        assert_eq!(check(&dir.path().join("late.db")).faults, [""; 0]);
        let pages = (1..late.len() / 4096).filter(|n| {
            early.get(n * 4096..(n + 1) * 4096) != Some(&late[n * 4096..(n + 1) * 4096])
        });
        let mut torn_count = 0;
        for page in pages {
            let mut torn = late.clone();
            let Some(old) = early.get(page * 4096..(page + 1) * 4096) else { continue };
            torn[page * 4096..][..4096].copy_from_slice(old);
            let path = dir.path().join("torn.db");
            fs::write(&path, torn).unwrap();
            assert_ne!(check(&path).faults, [""; 0], "page {page}");
            torn_count += 1;
        }
        // Counter, checksum, log and two cells at least.
        assert!(torn_count >= 4, "{torn_count}");
    }

    #[test]
    fn an_image_cut_short_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = image(dir.path(), "a.db", 10);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert_ne!(check(&path).faults, [""; 0]);
    }

    #[test]
    fn percentiles_are_those_of_the_samples() {
        let written =
            Written { micros: (1..=100).rev().map(|n| n * 1000).collect(), ..Written::default() };
        let [half, most, all] = [50, 99, 100].map(|p| written.percentile_ms(p));
        assert!(
            (half - 50.0).abs() < 1e-9 && (most - 99.0).abs() < 1e-9 && (all - 100.0).abs() < 1e-9
        );
    }
}
