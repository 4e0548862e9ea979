//! What agents leave on a disk, made from a seed: transcripts, settings, links, odd names, a database.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use testkit::tree::Kind;
use testkit::{Plant, Tree};

/// Where each root of [`agents`] stands below a home, and below the target of a pull.
const PLACES: [(&str, &str); 3] = [
    (".claude.json", "claude-code/dot/.claude.json"),
    (".claude", "claude-code/home"),
    (".codex", "codex/home"),
];
/// The live database of [`agents`], below the home.
pub(crate) const DATABASE: &str = ".codex/state_5.sqlite";

/// A sequence that looks random and is the same for the same seed (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Bytes that do not compress.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.next().to_le_bytes());
        }
        out.truncate(len);
        out
    }

    /// Lines of a transcript, about so many bytes.
    pub(crate) fn transcript(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 256);
        while out.len() < len {
            let (id, say) = (self.next(), self.next());
            writeln!(
                out,
                r#"{{"type":"assistant","uuid":"{id:016x}","message":"the answer is {say:x}, as before"}}"#
            )
            .unwrap();
        }
        out
    }
}

/// A few MB of Claude Code and Codex below `home`. Returns the connection that keeps the database
/// alive: its last rows are in the log, not in the main file.
pub(crate) fn agents(home: &Path) -> Connection {
    let mut random = Random(7);
    let mut plant = Plant::at(home).unwrap();
    let chat = ".claude/projects/-home-me-src/0b9f2c5e-3d1a-4a61-9c7e-5f0d9a1b2c3d.jsonl";
    plant.file(".claude.json", br#"{"numStartups":12,"projects":{}}"#).unwrap();
    plant.file(".claude/settings.json", b"{\"model\":\"opus\"}\n").unwrap();
    plant.file(".claude/CLAUDE.md", b"# remember\n").unwrap();
    plant.file(chat, random.transcript(2 << 20)).unwrap();
    for n in 0..40 {
        let name = format!(".claude/projects/-home-me-src/side-{n}.jsonl");
        plant.file(&name, random.transcript(300 * n)).unwrap();
    }
    plant.file(".claude/projects/-home-me-src/empty.jsonl", b"").unwrap();
    plant.file(".claude/projects/caf\u{e9} \u{1f600}/a b.jsonl", b"x\n").unwrap();
    plant.file(".claude/file-history/picture", random.bytes(700_000)).unwrap();
    plant.folder(".claude/todos").unwrap();
    plant.folder(".claude/agents/deep/empty").unwrap();
    plant.link(".claude/latest", "projects/-home-me-src").unwrap();
    plant.link(".claude/dangling", "/nowhere/at all").unwrap();
    plant.hard_link(".claude/same.jsonl", chat).unwrap();
    plant.file(".codex/config.toml", b"model = \"o9\"\n").unwrap();
    plant.file(".codex/sessions/2026/11/rollout-1.jsonl", random.transcript(900_000)).unwrap();
    plant.file(".codex/bin/run", b"#!/bin/sh\nexit 0\n").unwrap();
    // left out: a login, a cache
    plant.file(".claude/.credentials.json", b"{\"token\":\"sk-ant-LOGIN\"}").unwrap();
    plant.file(".codex/auth.json", b"{\"token\":\"sk-LOGIN\"}").unwrap();
    for (name, mode) in [
        (".claude/settings.json", 0o600),
        (".codex/bin/run", 0o755),
        (".claude/CLAUDE.md", 0o444),
        (".claude/agents", 0o700),
        (".claude/todos", 0o1750),
    ] {
        plant.mode(name, mode).unwrap();
    }
    for (name, secs, nanos) in [
        (chat, 1_700_000_001, 123_456_789),
        (".claude/CLAUDE.md", 1, 1),
        (".claude/dangling", 1_600_000_000, 999_999_999),
        (".claude/todos", 1_500_000_000, 5),
        (".claude/agents/deep", 1_400_000_000, 500_000_000),
        (".codex/config.toml", 4_102_444_800, 7),
    ] {
        plant.time(name, secs, nanos).unwrap();
    }
    let database = database(&home.join(DATABASE));
    plant.done().unwrap();
    database
}

/// A database with a write-ahead log that nobody has folded into it yet.
pub(crate) fn database(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;
         CREATE TABLE thread(id INTEGER PRIMARY KEY, title TEXT, body BLOB);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 800)
         INSERT INTO thread SELECT i, 'thread ' || i, randomblob(i % 900) FROM n;
         PRAGMA wal_checkpoint(TRUNCATE);
         INSERT INTO thread(title) VALUES('only in the log')",
    )
    .unwrap();
    db
}

/// All rows of the database at `path`, as text; it must be whole.
pub(crate) fn rows(db: &Connection) -> Vec<String> {
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let mut statement = db
        .prepare(
            "SELECT id || '|' || title || '|' || hex(coalesce(body, '')) FROM thread ORDER BY id",
        )
        .unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// What [`agents`] made and a backup must hold, with the names that a pull gives it. The database
/// is left out: it is compared by its rows.
pub(crate) fn expected(home: &Path) -> Tree {
    let tree = Tree::read(home).unwrap();
    let mut out = BTreeMap::new();
    for (path, mut entry) in tree.entries {
        let renamed = PLACES.iter().find_map(|(from, to)| {
            let rest = path.strip_prefix(from).ok()?;
            Some(if rest.as_os_str().is_empty() {
                PathBuf::from(to)
            } else {
                Path::new(to).join(rest)
            })
        });
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let left_out = ["auth.json", ".credentials.json"].contains(&name.as_str());
        let database = path.to_string_lossy().starts_with(DATABASE);
        if let (Some(renamed), false) = (renamed, left_out || database) {
            if let Kind::File { same_as: Some(first), .. } = &mut entry.kind {
                *first = Path::new(PLACES[1].1).join(first.strip_prefix(PLACES[1].0).unwrap());
            }
            out.insert(renamed, entry);
        }
    }
    Tree { entries: out }
}

/// What a pull made, without the database and the directories that only hold the roots.
pub(crate) fn restored(to: &Path) -> Tree {
    let mut tree = Tree::read(to).unwrap();
    let database = PLACES[2].1.to_owned() + DATABASE.strip_prefix(PLACES[2].0).unwrap();
    tree.entries.retain(|path, _| {
        *path != Path::new(&database)
            && !["claude-code", "claude-code/dot", "codex"]
                .iter()
                .any(|top| *path == Path::new(top))
    });
    tree
}

/// The database in what a pull made; side files would be a mistake.
pub(crate) fn restored_database(to: &Path) -> Connection {
    let path = to.join(PLACES[2].1).join(DATABASE.strip_prefix(".codex/").unwrap());
    for suffix in ["-wal", "-shm", "-journal"] {
        let side = format!("{}{suffix}", path.display());
        assert!(!Path::new(&side).exists(), "a restored database has a side file: {side}");
    }
    Connection::open(path).unwrap()
}

/// Every file below `root` that holds `bytes`; with no bytes, every file.
pub(crate) fn files_with(root: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(listing) = fs::read_dir(root) else { return found };
    for entry in listing {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        if meta.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if meta.is_file() && contains(&fs::read(&path).unwrap(), bytes) {
            found.push(path);
        }
    }
    found
}

/// Whether `needle` stands in `hay`; nothing stands everywhere.
pub(crate) fn contains(hay: &[u8], needle: &[u8]) -> bool {
    let Some(first) = needle.first() else { return true };
    let Some(last) = hay.len().checked_sub(needle.len()) else { return false };
    let mut starts = hay[..=last].iter().enumerate().filter(|(_, byte)| *byte == first);
    starts.any(|(at, _)| hay[at..].starts_with(needle))
}

/// The canaries of these tests are worth what this is worth.
#[test]
fn what_stands_in_bytes_is_found() {
    for (hay, needle, found) in [
        ("abcab", "ab", true),
        ("abcab", "cab", true),
        ("abcab", "abcab", true),
        ("abcab", "abd", false),
        ("ab", "abc", false),
        ("", "a", false),
        ("ab", "", true),
    ] {
        assert_eq!(contains(hay.as_bytes(), needle.as_bytes()), found, "{needle} in {hay}");
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("below")).unwrap();
    fs::write(dir.path().join("below/file"), "xx canary xx").unwrap();
    assert_eq!(files_with(dir.path(), b"canary"), [dir.path().join("below/file")]);
    assert_eq!(files_with(dir.path(), b"").len(), 1);
    assert!(files_with(dir.path(), b"canarY").is_empty());
}
