//! The tables and one operation on each: what an agent does when it works.

use std::fmt::Write as _;

use anyhow::Result;
use rusqlite::{Connection, params};

use super::{Database, Kind};
use crate::draws::Draws;
use crate::prose::json_string;

/// Cursor's two tables.
pub(super) const VALUES_SCHEMA: &str = "
    CREATE TABLE ItemTable(key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB);
    CREATE TABLE cursorDiskKV(key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB);";

/// Sessions, messages and their full-text search; and the parts of the other agent.
pub(super) const MESSAGES_SCHEMA: &str = "
    CREATE TABLE sessions(id TEXT PRIMARY KEY, description TEXT NOT NULL, working_dir TEXT NOT NULL,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, total_tokens INTEGER);
    CREATE TABLE messages(id INTEGER PRIMARY KEY AUTOINCREMENT,
        session_id TEXT NOT NULL REFERENCES sessions(id), message_id TEXT, role TEXT NOT NULL,
        content_json TEXT NOT NULL, created_timestamp INTEGER NOT NULL, tokens INTEGER,
        metadata_json TEXT);
    CREATE INDEX idx_messages_session ON messages(session_id);
    CREATE INDEX idx_messages_timestamp ON messages(created_timestamp);
    CREATE INDEX idx_messages_message_id ON messages(message_id);
    CREATE VIRTUAL TABLE messages_fts USING fts5(content_json, content='messages', content_rowid='id');
    CREATE TRIGGER messages_ai AFTER INSERT ON messages BEGIN
        INSERT INTO messages_fts(rowid, content_json) VALUES (new.id, new.content_json); END;
    CREATE TRIGGER messages_ad AFTER DELETE ON messages BEGIN
        INSERT INTO messages_fts(messages_fts, rowid, content_json)
            VALUES ('delete', old.id, old.content_json); END;
    CREATE TRIGGER messages_au AFTER UPDATE OF content_json ON messages BEGIN
        INSERT INTO messages_fts(messages_fts, rowid, content_json)
            VALUES ('delete', old.id, old.content_json);
        INSERT INTO messages_fts(rowid, content_json) VALUES (new.id, new.content_json); END;
    CREATE TABLE part(id TEXT PRIMARY KEY, message_id TEXT NOT NULL, session_id TEXT NOT NULL,
        time_created INTEGER NOT NULL, time_updated INTEGER NOT NULL, data TEXT NOT NULL);
    CREATE INDEX part_message_idx ON part(message_id);
    CREATE INDEX part_session_idx ON part(session_id);";

const MESSAGE_BYTES: usize = 1_700;
const PART_BYTES: usize = 2_400;
/// Parts of one session.
pub(super) const SESSION_PARTS: u64 = 60;
/// Means of Cursor's values, from what users reported of large installations.
const BUBBLE_BYTES: usize = 10_000;
const BLOB_BYTES: usize = 11_000;
const CHECKPOINT_BYTES: usize = 114_000;
const COMPOSER_BYTES: usize = 70_000;
/// The one large value.
const BIG_BYTES: usize = 2 << 20;
const SETTINGS: usize = 200;
/// The first moment of every database, in milliseconds.
const EPOCH_MS: u64 = 1_760_000_000_000;

impl Database {
    /// One new row, as often in each table as makes their shares of the file those of the study.
    pub(super) fn add(&mut self, draws: &mut Draws) -> Result<()> {
        match (self.kind, draws.below(100)) {
            (Kind::Mixed, 0..=55) => self.add_message(draws),
            (Kind::Mixed, 56..=89) => self.add_part(draws),
            _ => self.add_value(draws),
        }
    }

    /// An old row rewritten or deleted.
    pub(super) fn age(&mut self, draws: &mut Draws) -> Result<()> {
        let what = if self.kind == Kind::Kv { 9 } else { draws.below(10) };
        match (what, draws.chance(50)) {
            (0..=4, true) => self.rewrite_message(draws),
            (0..=4, false) => self.delete_message(draws),
            (5..=7, true) => {
                let part = old(draws, self.counts.parts);
                self.rewrite_part(draws, part)
            }
            (5..=7, false) => {
                let part = self.part_id(old(draws, self.counts.parts));
                run(&self.db, "DELETE FROM part WHERE id = ?1", params![part])
            }
            (_, true) => {
                let value = old(draws, self.counts.values);
                self.put_value(draws, value)
            }
            (_, false) => self.delete_value(old(draws, self.counts.values)),
        }
    }

    /// A message in one of the sessions that are going on; some begin a session.
    pub(super) fn add_message(&mut self, draws: &mut Draws) -> Result<()> {
        if self.counts.sessions == 0 || draws.below(40) == 0 {
            let (n, about) = (self.counts.sessions, self.prose.sentences(draws, 50));
            self.counts.sessions += 1;
            let dir = format!("/home/dev/code/project-{:02}", n % 23);
            let now = self.now_ms();
            let sql = "INSERT INTO sessions VALUES(?1, ?2, ?3, ?4, ?4, 0)";
            run(&self.db, sql, params![self.session_id(n), about, dir, now])?;
        }
        let back = draws.below(4) as u64;
        let session = self.session_id(self.counts.sessions.saturating_sub(1 + back));
        self.counts.messages += 1;
        let n = self.counts.messages;
        let role = ["user", "assistant"][draws.below(2)];
        let (content, metadata) = (self.message(draws), metadata(draws));
        let tokens = i64::try_from(content.len() / 4)?;
        let sql = "INSERT INTO messages VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let id = format!("msg_{}", self.hex("message", n));
        let values =
            params![n.cast_signed(), session, id, role, content, self.now_ms(), tokens, metadata];
        run(&self.db, sql, values)?;
        let sql =
            "UPDATE sessions SET updated_at = ?2, total_tokens = total_tokens + ?3 WHERE id = ?1";
        run(&self.db, sql, params![session, self.now_ms(), tokens])
    }

    fn message(&self, draws: &mut Draws) -> String {
        let len = draws.length(MESSAGE_BYTES);
        let body = json_string(&self.prose.body(draws, len));
        if draws.chance(60) {
            let signature = signature(draws);
            return format!(
                "[{{\"type\":\"text\",\"text\":{body}}},{{\"type\":\"thinking\",\"signature\":\"{signature}\"}}]"
            );
        }
        let call = draws.next();
        format!(
            "[{{\"type\":\"toolResponse\",\"id\":\"toolu_{call:016x}\",\"toolResult\":{{\"status\":\"success\",\
             \"value\":[{{\"type\":\"text\",\"text\":{body}}}]}}}}]"
        )
    }

    /// Tokens and cost of an old message: as long as before, so only its own page changes.
    pub(super) fn note_message(&mut self, draws: &mut Draws) -> Result<()> {
        let n = (1 + old(draws, self.counts.messages)).cast_signed();
        let sql = "UPDATE messages SET metadata_json = ?2 WHERE id = ?1";
        run(&self.db, sql, params![n, metadata(draws)])
    }

    pub(super) fn rewrite_message(&mut self, draws: &mut Draws) -> Result<()> {
        let n = (1 + old(draws, self.counts.messages)).cast_signed();
        let sql = "UPDATE messages SET content_json = ?2 WHERE id = ?1";
        run(&self.db, sql, params![n, self.message(draws)])
    }

    pub(super) fn delete_message(&mut self, draws: &mut Draws) -> Result<()> {
        let n = (1 + old(draws, self.counts.messages)).cast_signed();
        run(&self.db, "DELETE FROM messages WHERE id = ?1", params![n])
    }

    pub(super) fn add_part(&mut self, draws: &mut Draws) -> Result<()> {
        let n = self.counts.parts;
        self.counts.parts += 1;
        let message = format!("msg_{}", self.hex("part message", n / 5));
        let session = self.part_session(n / SESSION_PARTS);
        let data = self.part(draws, PART_BYTES);
        let sql = "INSERT INTO part VALUES(?1, ?2, ?3, ?4, ?4, ?5)";
        run(&self.db, sql, params![self.part_id(n), message, session, self.now_ms(), data])
    }

    pub(super) fn rewrite_part(&mut self, draws: &mut Draws, n: u64) -> Result<()> {
        let data = self.part(draws, PART_BYTES);
        let sql = "UPDATE part SET data = ?2, time_updated = ?3 WHERE id = ?1";
        run(&self.db, sql, params![self.part_id(n), data, self.now_ms()])
    }

    /// One of the newest parts, while its answer still comes in.
    pub(super) fn stream_part(&mut self, draws: &mut Draws) -> Result<()> {
        let n = self.counts.parts.saturating_sub(1 + draws.below(3) as u64);
        self.rewrite_part(draws, n)
    }

    fn part(&self, draws: &mut Draws, mean: usize) -> String {
        let len = draws.length(mean);
        let body = json_string(&self.prose.body(draws, len));
        let start = self.now_ms();
        if draws.chance(50) {
            return format!(
                "{{\"type\":\"text\",\"text\":{body},\"time\":{{\"start\":{start},\"end\":{}}}}}",
                start + i64::try_from(draws.below(60_000)).unwrap_or(0)
            );
        }
        let call = draws.next();
        format!(
            "{{\"type\":\"tool\",\"callID\":\"call_{call:016x}\",\"tool\":\"bash\",\"state\":{{\"status\":\"completed\",\
             \"output\":{body},\"metadata\":{{\"exit\":0}},\"time\":{{\"start\":{start}}}}}}}"
        )
    }

    pub(super) fn add_value(&mut self, draws: &mut Draws) -> Result<()> {
        let n = self.counts.values;
        self.counts.values += 1;
        self.put_value(draws, n)
    }

    /// Writes value `n` new; there or not, as `ON CONFLICT REPLACE` makes it.
    pub(super) fn put_value(&mut self, draws: &mut Draws, n: u64) -> Result<()> {
        let value = match shape(n) {
            Shape::Bubble => self.bubble(draws),
            Shape::Blob => {
                let len = draws.length(BLOB_BYTES);
                let body = json_string(&self.prose.body(draws, len));
                format!(
                    "{{\"role\":\"tool\",\"content\":[{{\"type\":\"tool-result\",\"result\":{body}}}]}}"
                )
            }
            Shape::Checkpoint => self.checkpoint(draws),
            Shape::Composer => self.composer(draws, n),
        };
        let sql = "INSERT INTO cursorDiskKV VALUES(?1, ?2)";
        run(&self.db, sql, params![self.value_key(n), value])
    }

    /// The newest value of the kind that is rewritten as a conversation goes on.
    pub(super) fn rewrite_composer(&mut self, draws: &mut Draws) -> Result<()> {
        let newest = (0..self.counts.values).rev().find(|n| shape(*n) == Shape::Composer);
        newest.map_or(Ok(()), |n| self.put_value(draws, n))
    }

    /// One of the small values, anywhere.
    pub(super) fn rewrite_bubble(&mut self, draws: &mut Draws) -> Result<()> {
        let from = old(draws, self.counts.values);
        let n = (from..self.counts.values).find(|n| shape(*n) == Shape::Bubble);
        n.map_or(Ok(()), |n| self.put_value(draws, n))
    }

    pub(super) fn delete_value(&self, n: u64) -> Result<()> {
        run(&self.db, "DELETE FROM cursorDiskKV WHERE key = ?1", params![self.value_key(n)])
    }

    fn bubble(&self, draws: &mut Draws) -> String {
        let (text_len, code_len) = (draws.length(BUBBLE_BYTES / 2), draws.length(BUBBLE_BYTES / 3));
        let text = json_string(&self.prose.sentences(draws, text_len));
        let code = json_string(&self.prose.body(draws, code_len));
        let (request, server, signature) = (uuid(draws), uuid(draws), signature(draws));
        format!(
            "{{\"_v\":3,\"type\":2,\"approximateLintErrors\":[],\"lints\":[],\"codebaseContextChunks\":[],\
             \"commits\":[],\"attachedCodeChunks\":[],\"assistantSuggestedDiffs\":[],\"gitDiffs\":[],\
             \"interpreterResults\":[],\"images\":[],\"attachedFolders\":[],\"isAgentic\":true,\
             \"supportedTools\":[1,5,8,9,15,18],\"requestId\":\"{request}\",\"serverBubbleId\":\"{server}\",\
             \"toolFormerData\":{{\"tool\":7,\"status\":\"completed\",\"result\":{code}}},\"text\":{text},\"signature\":\"{signature}\",\
             \"tokenCount\":{{\"inputTokens\":{},\"outputTokens\":{}}}}}",
            draws.below(90_000),
            draws.below(4_000)
        )
    }

    fn checkpoint(&self, draws: &mut Draws) -> String {
        let len = draws.length(CHECKPOINT_BYTES);
        let mut value = String::from("{\"files\":[");
        while value.len() < len {
            let piece = draws.length(9_000);
            let code = json_string(&self.prose.reread(draws, piece));
            let (id, hash) = (uuid(draws), draws.next());
            let _ = write!(
                value,
                "{{\"uri\":\"file:///home/dev/code/src/{hash:08x}.rs\",\"id\":\"{id}\",\"original\":{code}}},"
            );
        }
        value.push_str("],\"nonExistentFiles\":[],\"newlyCreatedFolders\":[]}");
        value
    }

    /// Heads of the conversation's bubbles, then its context.
    fn composer(&self, draws: &mut Draws, n: u64) -> String {
        let len = draws.length(COMPOSER_BYTES);
        let id = self.hex("composer", n);
        let mut value =
            format!("{{\"_v\":10,\"composerId\":\"{id}\",\"fullConversationHeadersOnly\":[");
        while value.len() < len / 4 {
            let _ = write!(value, "{{\"bubbleId\":\"{}\",\"type\":2}},", uuid(draws));
        }
        value.push_str("],\"context\":[");
        while value.len() < len {
            let piece = draws.length(3_000);
            value.push_str(&json_string(&self.prose.body(draws, piece)));
            value.push(',');
        }
        value.push_str("],\"status\":\"completed\"}");
        value
    }

    /// The small settings of an editor.
    pub(super) fn settings(&mut self, draws: &mut Draws) -> Result<()> {
        (0..SETTINGS).try_for_each(|n| self.put_setting(draws, n))
    }

    /// Any of them again.
    pub(super) fn change_setting(&mut self, draws: &mut Draws) -> Result<()> {
        let n = draws.below(SETTINGS);
        self.put_setting(draws, n)
    }

    fn put_setting(&self, draws: &mut Draws, n: usize) -> Result<()> {
        let len = draws.length(if n.is_multiple_of(20) { 8_000 } else { 300 });
        let body = json_string(&self.prose.sentences(draws, len));
        let value = format!("{{\"version\":{},\"state\":{body}}}", draws.below(1_000));
        let sql = "INSERT INTO ItemTable VALUES(?1, ?2)";
        run(&self.db, sql, params![format!("workbench.panel.state.{n:04}"), value])
    }

    /// One value of 2 MiB.
    pub(super) fn set_big_value(&self, draws: &mut Draws) -> Result<()> {
        let mut value = String::from("[");
        while value.len() < BIG_BYTES {
            let piece = draws.length(6_000);
            value.push_str(&json_string(&self.prose.body(draws, piece)));
            value.push(',');
        }
        value.truncate(BIG_BYTES);
        run(&self.db, "INSERT INTO ItemTable VALUES('composer.composerData', ?1)", params![value])
    }

    /// Time goes on with every row.
    fn now_ms(&self) -> i64 {
        let rows = self.counts.messages + self.counts.parts + self.counts.values;
        (EPOCH_MS + rows * 1_713).cast_signed()
    }

    /// 32 digits that follow from seed, table and number.
    fn hex(&self, table: &str, n: u64) -> String {
        let mut draws = Draws::named(self.seed ^ n.rotate_left(32), table);
        format!("{:016x}{:016x}", draws.next(), draws.next())
    }

    pub(super) fn session_id(&self, n: u64) -> String {
        format!("20251012_{n}_{}", &self.hex("session", n)[..8])
    }

    pub(super) fn part_session(&self, n: u64) -> String {
        format!("ses_{}", &self.hex("part session", n)[..26])
    }

    /// Ascends with time, as OpenCode's ids do.
    fn part_id(&self, n: u64) -> String {
        format!("prt_{:012x}{}", EPOCH_MS + n * 977, &self.hex("part", n)[..14])
    }

    pub(super) fn value_key(&self, n: u64) -> String {
        let id = self.hex("value", n);
        // Conversations of 30 rows share the first id.
        let composer = || self.hex("composer", n / 30 * 30);
        match shape(n) {
            Shape::Bubble => format!("bubbleId:{}:{id}", composer()),
            Shape::Blob => format!("agentKv:blob:{id}{}", self.hex("blob", n)),
            Shape::Checkpoint => format!("checkpointId:{}:{id}", composer()),
            Shape::Composer => format!("composerData:{id}"),
        }
    }
}

/// The kinds of values in `cursorDiskKV`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Bubble,
    Blob,
    Checkpoint,
    Composer,
}

/// What value `n` is.
fn shape(n: u64) -> Shape {
    match Draws::seeded(n).below(100) {
        0..=44 => Shape::Bubble,
        45..=91 => Shape::Blob,
        92..=95 => Shape::Checkpoint,
        _ => Shape::Composer,
    }
}

/// The number of an old row.
fn old(draws: &mut Draws, count: u64) -> u64 {
    draws.next() % count.max(1)
}

fn metadata(draws: &mut Draws) -> String {
    format!(
        "{{\"userVisible\":true,\"agentVisible\":true,\"tokens\":{:05},\"cost\":0.{:06},\"hash\":\"{:016x}\"}}",
        draws.below(100_000),
        draws.below(1_000_000),
        draws.next()
    )
}

fn uuid(draws: &mut Draws) -> String {
    let (high, low) = (draws.next(), draws.next());
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}

/// What models sign their thoughts with: does not compress, but for its alphabet.
fn signature(draws: &mut Draws) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let len = draws.length(250);
    draws.noise(len).iter().map(|byte| char::from(ALPHABET[usize::from(byte % 64)])).collect()
}

/// One prepared statement.
fn run(db: &Connection, sql: &str, values: impl rusqlite::Params) -> Result<()> {
    db.prepare_cached(sql)?.execute(values)?;
    Ok(())
}
