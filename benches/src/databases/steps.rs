//! What happens to a database between two pushes.

use anyhow::Result;
use serde::Serialize;

use super::rows::SESSION_PARTS;
use super::{Database, Kind};
use crate::draws::Draws;

const APPENDED: usize = 200;
const SCATTERED: usize = 100;
const DAY_TRANSACTIONS: usize = 5_000;
/// Pages for each incremental merge of the search index, as its documentation advises.
const MERGE_PAGES: i32 = 200;
const MERGES: usize = 5;

/// One step; they stand in the order in which they are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// 200 messages (bubbles in a key-value database).
    Append,
    /// 100 rows anywhere, rewritten.
    Scatter,
    /// 5 % of sessions, parts and values deleted, as many inserted.
    Reuse,
    /// The 2 MB value overwritten.
    BigValue,
    /// Incremental merges of the search index.
    FtsMerge,
    /// The search index made one segment.
    FtsOptimize,
    /// 5,000 small transactions of all kinds. The number tells days apart.
    Day(u32),
    /// VACUUM.
    Vacuum,
}

impl Step {
    /// The steps of one kind, in order.
    pub fn all(kind: Kind) -> Vec<Step> {
        let all = [
            Step::Append,
            Step::Scatter,
            Step::Reuse,
            Step::BigValue,
            Step::FtsMerge,
            Step::FtsOptimize,
            Step::Day(1),
            Step::Vacuum,
            Step::Day(2),
        ];
        let has_search = kind == Kind::Mixed;
        let fits = |step: &Step| has_search || !matches!(step, Step::FtsMerge | Step::FtsOptimize);
        all.into_iter().filter(fits).collect()
    }

    /// Its name in tables.
    pub fn name(self) -> String {
        match self {
            Step::Append => "append 200".to_owned(),
            Step::Scatter => "100 scattered updates".to_owned(),
            Step::Reuse => "delete and reuse 5 %".to_owned(),
            Step::BigValue => "2 MB value overwritten".to_owned(),
            Step::FtsMerge => "FTS merge".to_owned(),
            Step::FtsOptimize => "FTS optimize".to_owned(),
            Step::Day(n) => format!("day {n}"),
            Step::Vacuum => "VACUUM".to_owned(),
        }
    }

    /// The bar: multiples of the limit, and bytes on top of it.
    pub fn bar(self, kind: Kind) -> Option<(f64, u64)> {
        match (self, kind) {
            (Step::Append | Step::Scatter | Step::Reuse | Step::Day(_), _) => {
                Some((1.05, 48 << 10))
            }
            (Step::Vacuum, Kind::Mixed) => Some((0.65, 0)),
            (Step::Vacuum, Kind::Kv) => Some((0.20, 0)),
            _ => None,
        }
    }
}

impl Database {
    /// Does one step, then empties the WAL into the file.
    pub fn apply(&mut self, step: Step) -> Result<()> {
        self.db.set_prepared_statement_cache_capacity(64);
        let mut draws = Draws::named(self.seed, &format!("{step:?}"));
        match step {
            Step::Append => self.append(&mut draws)?,
            Step::Scatter => self.scatter(&mut draws)?,
            Step::Reuse => self.reuse(&mut draws)?,
            Step::BigValue => self.set_big_value(&mut draws)?,
            Step::FtsMerge => {
                let merge = format!(
                    "INSERT INTO messages_fts(messages_fts, rank) VALUES('merge', -{MERGE_PAGES})"
                );
                for _ in 0..MERGES {
                    self.db.execute(&merge, [])?;
                }
            }
            Step::FtsOptimize => {
                let optimize = "INSERT INTO messages_fts(messages_fts) VALUES('optimize')";
                self.db.execute(optimize, [])?;
            }
            Step::Day(_) => self.day(&mut draws)?,
            Step::Vacuum => {
                self.db.flush_prepared_statement_cache();
                self.db.execute_batch("VACUUM")?;
            }
        }
        self.settle()
    }

    /// Each in a transaction of its own, as agents write.
    fn append(&mut self, draws: &mut Draws) -> Result<()> {
        for _ in 0..APPENDED {
            self.begin()?;
            match self.kind {
                Kind::Mixed => self.add_message(draws)?,
                Kind::Kv => self.add_value(draws)?,
            }
            self.commit()?;
        }
        Ok(())
    }

    fn scatter(&mut self, draws: &mut Draws) -> Result<()> {
        for n in 0..SCATTERED {
            self.begin()?;
            match (self.kind, n % 10) {
                (Kind::Mixed, 0..=4) => self.note_message(draws)?,
                (Kind::Mixed, 5..=7) => {
                    let part = draws.next() % self.counts.parts.max(1);
                    self.rewrite_part(draws, part)?;
                }
                _ => self.rewrite_bubble(draws)?,
            }
            self.commit()?;
        }
        Ok(())
    }

    /// Deletes every twentieth of each, drawn by lot, and inserts as many.
    fn reuse(&mut self, draws: &mut Draws) -> Result<()> {
        let mut lost = [0_usize; 3];
        self.begin()?;
        for n in 0..self.counts.sessions {
            if draws.chance(5) {
                let id = self.session_id(n);
                lost[0] += self.forget("DELETE FROM messages WHERE session_id = ?1", &id)?;
                self.forget("DELETE FROM sessions WHERE id = ?1", &id)?;
            }
        }
        for n in 0..self.counts.parts / SESSION_PARTS {
            if draws.chance(5) {
                let id = self.part_session(n);
                lost[1] += self.forget("DELETE FROM part WHERE session_id = ?1", &id)?;
            }
        }
        for n in 0..self.counts.values {
            if draws.chance(5) {
                let key = self.value_key(n);
                lost[2] += self.forget("DELETE FROM cursorDiskKV WHERE key = ?1", &key)?;
            }
        }
        self.commit()?;
        self.begin()?;
        while lost != [0; 3] {
            // In turn, so that the freed pages go to all tables.
            for (table, left) in lost.iter_mut().enumerate().filter(|(_, left)| **left > 0) {
                *left -= 1;
                match table {
                    0 => self.add_message(draws)?,
                    1 => self.add_part(draws)?,
                    _ => self.add_value(draws)?,
                }
            }
        }
        self.commit()
    }

    fn forget(&self, sql: &str, id: &str) -> Result<usize> {
        Ok(self.db.prepare_cached(sql)?.execute([id])?)
    }

    fn day(&mut self, draws: &mut Draws) -> Result<()> {
        for _ in 0..DAY_TRANSACTIONS {
            self.begin()?;
            match self.kind {
                Kind::Mixed => self.work(draws)?,
                Kind::Kv => self.work_on_values(draws)?,
            }
            self.commit()?;
        }
        Ok(())
    }

    fn work(&mut self, draws: &mut Draws) -> Result<()> {
        match draws.below(100) {
            0..=39 => self.add_message(draws),
            40..=54 => self.add_part(draws),
            55..=69 => self.stream_part(draws),
            70..=79 => self.add_value(draws),
            80..=84 => self.rewrite_bubble(draws),
            85..=91 => self.change_setting(draws),
            92..=95 => self.note_message(draws),
            96..=97 => self.rewrite_message(draws),
            _ => self.delete_message(draws),
        }
    }

    fn work_on_values(&mut self, draws: &mut Draws) -> Result<()> {
        match draws.below(100) {
            0..=19 => self.add_value(draws),
            20..=29 => self.rewrite_composer(draws),
            30..=39 => self.rewrite_bubble(draws),
            40..=43 => {
                let n = draws.next() % self.counts.values.max(1);
                self.delete_value(n)
            }
            _ => self.change_setting(draws),
        }
    }
}
