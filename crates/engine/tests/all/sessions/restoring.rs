//! One session comes back: into an empty home, where its agent's own catalogue must list it, and into a
//! live one, where nothing else may change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use engine::pull::{self, Options, Placement};
use engine::sessions::{self, MergeOptions, Merged};
use rusqlite::Connection;

use super::{Case, one};

/// Restores a session and what belongs to it.
pub(super) fn restore(case: &Case, id: &str, to: &Placement) -> (Vec<String>, Vec<Merged>) {
    let all = case.sessions();
    let cancel = AtomicBool::new(false);
    let session = case.bench.open().unwrap();
    let found = all.all.iter().find(|found| found.id == id).unwrap_or_else(|| one(&all, id));
    let restore = sessions::restore(&session, &all.family(found), &cancel).unwrap();
    let options = Options {
        labels: restore.labels().into_iter().collect(),
        paths: restore.files().to_vec(),
        secrets_stay: case.options.redact_secrets.then(|| case.options.ignored.clone()),
        ..Options::new(to.clone())
    };
    if !restore.files().is_empty() {
        let report = pull::pull(&restore, &options, &(), &cancel).unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
    }
    let (options, none) = (MergeOptions::default(), BTreeSet::new());
    let merged = sessions::merge(&session, &restore, &none, to, options, &cancel).unwrap();
    (restore.files().to_vec(), merged)
}

pub(super) fn problems(merged: &[Merged]) -> Vec<&String> {
    merged.iter().filter_map(|one| one.problem.as_ref()).collect()
}

/// Everything below a directory, by path.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                all.insert(name, fs::read(path).unwrap());
            }
        }
    }
    all
}

/// Restores into an empty home; gives the home and the names of what is in it.
fn into_empty(case: &Case, id: &str) -> (tempfile::TempDir, Vec<String>) {
    let home = tempfile::tempdir().unwrap();
    let (_, merged) = restore(case, id, &Placement::Under(home.path().to_owned()));
    assert_eq!(problems(&merged), Vec::<&String>::new());
    let names = files(home.path()).into_keys().collect();
    (home, names)
}

pub(super) fn rows(db: PathBuf, sql: &str) -> Vec<String> {
    let db = Connection::open(db).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let mut statement = db.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

pub(super) fn text(home: &Path, name: &str) -> String {
    fs::read_to_string(home.join(name)).unwrap()
}

pub(super) const CLAUDE: &str = "0b8f2c1e-1111-4222-8333-444455556666";
const CODEX: &str = "019a3b10-aaaa-7bbb-8ccc-ddddeeeeffff";

#[test]
fn claude_code_lists_a_session_in_an_empty_home_with_its_fork_and_all_its_files() {
    let case = Case::of("claude-code");
    case.push();
    let (home, names) = into_empty(&case, CLAUDE);
    let project = "claude-code/home/projects/-home-a-work";
    let expected = [
        format!("claude-code/home/file-history/{CLAUDE}/1a2b@v1"),
        "claude-code/home/history.jsonl".to_owned(),
        format!("{project}/{CLAUDE}.jsonl"),
        format!("{project}/{CLAUDE}/subagents/agent-1.jsonl"),
        format!("{project}/{CLAUDE}/tool-results/1.txt"),
        format!("{project}/7e1b3c52-3333-4444-8555-666677778888.jsonl"),
        format!("{project}/sessions-index.json"),
        format!("claude-code/home/tasks/{CLAUDE}/1.json"),
        format!("claude-code/home/todos/{CLAUDE}-agent-1.json"),
    ];
    assert_eq!(names, expected);
    let history = text(home.path(), "claude-code/home/history.jsonl");
    assert!(history.contains(CLAUDE) && history.lines().count() == 1, "{history}");
    let index: serde_json::Value =
        serde_json::from_str(&text(home.path(), &format!("{project}/sessions-index.json")))
            .unwrap();
    assert_eq!(index["entries"].as_array().unwrap().len(), 1);
    assert_eq!(index["entries"][0]["sessionId"], CLAUDE);
    let source =
        fs::read(case.path("claude-code/home", &format!("projects/-home-a-work/{CLAUDE}.jsonl")));
    assert_eq!(files(home.path())[&expected[2]], source.unwrap());
}

#[test]
fn codex_lists_a_thread_in_an_empty_home_with_its_sub_agent() {
    let case = Case::of("codex");
    case.push();
    let (home, names) = into_empty(&case, CODEX);
    let day = "codex/home/sessions/2026/10/31";
    let expected = [
        "codex/home/history.jsonl".to_owned(),
        "codex/home/session_index.jsonl".to_owned(),
        format!("{day}/rollout-2026-10-31T10-00-00-{CODEX}.jsonl"),
        format!("{day}/rollout-2026-10-31T11-00-00-019a3b11-aaaa-7bbb-8ccc-ddddeeee0000.jsonl"),
        "codex/home/state_5.sqlite".to_owned(),
    ];
    assert_eq!(names, expected);
    let db = || home.path().join("codex/home/state_5.sqlite");
    assert_eq!(
        rows(db(), "SELECT title FROM threads ORDER BY id"),
        ["fix the tests", "look around"]
    );
    assert_eq!(rows(db(), "SELECT name FROM thread_dynamic_tools"), ["ask"]);
    assert_eq!(rows(db(), "SELECT parent_thread_id FROM thread_spawn_edges"), [CODEX]);
    assert_eq!(
        rows(db(), "SELECT description FROM _sqlx_migrations"),
        ["threads"],
        "it is its agent's"
    );
    let index = text(home.path(), "codex/home/session_index.jsonl");
    assert!(index.contains("Green tests") && !index.contains("Else"), "{index}");
}

#[test]
fn opencode_lists_a_session_in_an_empty_home() {
    let case = Case::of("opencode");
    case.push();
    let (home, names) = into_empty(&case, "ses_1");
    assert!(names.contains(&"opencode/data/opencode.db".to_owned()), "{names:?}");
    let db = || home.path().join("opencode/data/opencode.db");
    assert_eq!(rows(db(), "SELECT id FROM session ORDER BY id"), ["ses_1", "ses_2"]);
    assert_eq!(rows(db(), "SELECT id FROM project"), ["p1"]);
    assert_eq!(rows(db(), "SELECT id FROM part ORDER BY id"), ["prt_1", "prt_2", "prt_3", "prt_4"]);
    assert_eq!(rows(db(), "SELECT content FROM todo"), ["build"]);
}

#[test]
fn goose_lists_a_session_in_an_empty_home() {
    let case = Case::of("goose");
    case.push();
    let (home, names) = into_empty(&case, "20261031_1");
    assert_eq!(names, ["goose/data/sessions/sessions.db"]);
    let db = || home.path().join("goose/data/sessions/sessions.db");
    assert_eq!(rows(db(), "SELECT name FROM sessions"), ["Fix the build"]);
    assert_eq!(rows(db(), "SELECT message_id FROM messages ORDER BY id"), ["a", "c"]);
    let bytes = fs::read(db()).unwrap();
    let other = b"something else";
    assert!(!bytes.windows(other.len()).any(|part| part == other), "nothing of another session");
}

#[test]
fn gemini_cli_finds_a_session_in_an_empty_home_by_its_project() {
    let case = Case::of("gemini-cli");
    case.push();
    let id = "3f0c9a7e-4444-4555-8666-777788889999";
    let (home, names) = into_empty(&case, id);
    let expected = [
        "gemini-cli/home/projects.json".to_owned(),
        "gemini-cli/home/tmp/shop/.project_root".to_owned(),
        format!("gemini-cli/home/tmp/shop/chats/{id}/sub-1.jsonl"),
        "gemini-cli/home/tmp/shop/chats/session-2026-10-31T10-00-3f0c9a7e.jsonl".to_owned(),
        "gemini-cli/home/tmp/shop/logs.json".to_owned(),
        format!("gemini-cli/home/tmp/shop/tool-outputs/session-{id}/1.txt"),
    ];
    assert_eq!(names, expected);
    let projects = text(home.path(), "gemini-cli/home/projects.json");
    assert_eq!(projects.trim(), r#"{"projects": {"/home/a/code/shop": "shop"}}"#);
    let logs: serde_json::Value =
        serde_json::from_str(&text(home.path(), "gemini-cli/home/tmp/shop/logs.json")).unwrap();
    assert_eq!(logs.as_array().unwrap().len(), 2);
}

#[test]
fn cursor_lists_a_chat_in_an_empty_home() {
    let case = Case::of("cursor");
    case.push();
    let id = "a1b2c3d4-6666-4777-8888-99990000aaaa";
    let (home, names) = into_empty(&case, id);
    let expected = [
        format!("cursor/dot/projects/home-a-work/agent-transcripts/{id}/{id}.jsonl"),
        "cursor/user/globalStorage/state.vscdb".to_owned(),
        "cursor/user/workspaceStorage/0123abcd/state.vscdb".to_owned(),
    ];
    assert_eq!(names, expected);
    let user = home.path().join("cursor/user");
    let global = || user.join("globalStorage/state.vscdb");
    let keys = rows(global(), "SELECT key FROM cursorDiskKV ORDER BY key");
    let expected = [
        format!("bubbleId:{id}:a"),
        format!("bubbleId:{id}:z"),
        format!("checkpointId:{id}:1"),
        format!("composerData:{id}"),
        "inlineDiffs-0123abcd".to_owned(),
    ];
    assert_eq!(keys, expected);
    let list = "SELECT json_array_length(value, '$.allComposers') || json_extract(value, \
                '$.allComposers[0].composerId') FROM ItemTable WHERE key LIKE 'composer.composer%'";
    assert_eq!(rows(global(), list), [format!("1{id}")]);
    let workspace = user.join("workspaceStorage/0123abcd/state.vscdb");
    assert_eq!(rows(workspace, list), [format!("1{id}")]);
}

#[test]
fn cline_lists_a_session_and_a_task_in_an_empty_home() {
    let case = Case::of("cline");
    case.push();
    let (home, names) = into_empty(&case, "abc");
    let expected = [
        "cline/db/sessions.db",
        "cline/sessions/abc/messages.json",
        "cline/sessions/abc/transcript.jsonl",
    ];
    assert_eq!(names, expected);
    let db = home.path().join("cline/db/sessions.db");
    assert_eq!(rows(db, "SELECT session_id FROM sessions"), ["abc"]);
    let (home, names) = into_empty(&case, "1");
    let editor = "cline/editor/code";
    let expected = [
        format!("{editor}/state/taskHistory.json"),
        format!("{editor}/tasks/1/api_conversation_history.json"),
        format!("{editor}/tasks/1/ui_messages.json"),
    ];
    assert_eq!(names, expected);
    let list: serde_json::Value =
        serde_json::from_str(&text(home.path(), &format!("{editor}/state/taskHistory.json")))
            .unwrap();
    assert_eq!((list.as_array().unwrap().len(), list[0]["id"].as_str()), (1, Some("1")));
}

/// Where the roots of a case are.
pub(super) fn in_place(case: &Case) -> Placement {
    let each = case.roots.iter().map(|root| (root.label.clone().into_bytes(), root.dir.clone()));
    Placement::Each(each.collect())
}

#[test]
fn what_a_live_home_has_stays_to_the_byte_and_what_was_lost_is_back() {
    for (id, session) in [
        ("claude-code", CLAUDE),
        ("codex", CODEX),
        ("gemini-cli", "3f0c9a7e-4444-4555-8666-777788889999"),
        ("goose", "20261031_1"),
        ("opencode", "ses_1"),
        ("cursor", "a1b2c3d4-6666-4777-8888-99990000aaaa"),
        ("cline", "abc"),
    ] {
        let case = Case::of(id);
        case.push();
        let before = files(case.dir.path());
        // all is there: nothing changes
        let (_, merged) = restore(&case, session, &in_place(&case));
        let quiet =
            merged.iter().all(|one| one.added == 0 && one.other == 0 && one.problem.is_none());
        assert!(quiet, "{id}: {merged:?}");
        let after = files(case.dir.path());
        for (name, bytes) in &before {
            assert!(after.get(name) == Some(bytes), "{id}: {name} changed");
        }
        assert_eq!(after.len(), before.len(), "{id}");
    }
}

#[test]
fn a_deleted_session_comes_back_beside_sessions_that_came_later() {
    let case = Case::of("goose");
    case.push();
    let path = case.path("goose/data", "sessions/sessions.db");
    let live = Connection::open(&path).unwrap();
    live.execute_batch(
        "DELETE FROM messages WHERE session_id = '20261031_1'; DELETE FROM sessions WHERE id = '20261031_1';
         INSERT INTO sessions (id, name, working_dir) VALUES ('20261101_1', 'Later', '/x');
         INSERT INTO messages (id, session_id, role, content_json, created_timestamp) VALUES (1, '20261101_1', 'user', '[]', 1);",
    )
    .unwrap();
    drop(live);
    case.push();
    let (_, merged) = restore(&case, "20261031_1", &in_place(&case));
    assert_eq!(problems(&merged), Vec::<&String>::new());
    assert_eq!(merged[0].added, 3);
    let names = rows(path.clone(), "SELECT name FROM sessions ORDER BY id");
    assert_eq!(names, ["Fix the build", "Something else", "Later"]);
    let said =
        rows(path, "SELECT session_id || coalesce(message_id, '') FROM messages ORDER BY id");
    assert_eq!(said, ["20261101_1", "20261031_2b", "20261031_1a", "20261031_1c"]);
}

#[test]
fn a_transcript_that_its_agent_deleted_comes_back_with_its_lines_in_the_history() {
    let case = Case::of("claude-code");
    case.push();
    let home = case.path("claude-code/home", "");
    let transcript = home.join(format!("projects/-home-a-work/{CLAUDE}.jsonl"));
    let bytes = fs::read(&transcript).unwrap();
    fs::remove_file(&transcript).unwrap();
    fs::remove_dir_all(home.join(format!("file-history/{CLAUDE}"))).unwrap();
    let later = "{\"display\":\"later\",\"sessionId\":\"x\"}\n";
    fs::write(home.join("history.jsonl"), later).unwrap();
    case.push();
    let (_, merged) = restore(&case, CLAUDE, &in_place(&case));
    assert_eq!(problems(&merged), Vec::<&String>::new());
    assert_eq!(fs::read(&transcript).unwrap(), bytes);
    assert!(home.join(format!("file-history/{CLAUDE}/1a2b@v1")).exists());
    let history = text(&home, "history.jsonl");
    assert!(history.starts_with(later) && history.contains(CLAUDE), "{history}");
    assert_eq!(history.lines().count(), 2);
}

#[test]
fn a_catalogue_that_is_no_json_any_more_stays_as_it_is_and_is_named() {
    let case = Case::of("cline");
    case.push();
    let path = case.path("cline/editor/code", "state/taskHistory.json");
    fs::write(&path, "[{\"id\":\"7\"").unwrap();
    let (_, merged) = restore(&case, "1", &in_place(&case));
    assert_eq!(problems(&merged).len(), 1, "{merged:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "[{\"id\":\"7\"");
}

#[test]
fn a_database_that_its_agent_keeps_locked_is_left_alone_and_named() {
    let case = Case::of("goose");
    case.push();
    let path = case.path("goose/data", "sessions/sessions.db");
    let live = Connection::open(&path).unwrap();
    live.execute_batch("DELETE FROM messages WHERE session_id = '20261031_1'; BEGIN EXCLUSIVE")
        .unwrap();
    let before = fs::read(&path).unwrap();
    let (_, merged) = restore(&case, "20261031_1", &in_place(&case));
    let why = problems(&merged);
    assert!(why.len() == 1 && why[0].contains("locked"), "{why:?}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_log_that_an_older_database_left_is_not_played_into_the_one_that_is_made() {
    let case = Case::of("goose");
    case.push();
    let path = case.path("goose/data", "sessions/sessions.db");
    let log = path.with_extension("db-wal");
    // a log of many pages, and its database deleted
    let live = Connection::open(&path).unwrap();
    live.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;
         UPDATE sessions SET name = 'of the old log'; CREATE TABLE old AS SELECT randomblob(20000);",
    )
    .unwrap();
    let bytes = fs::read(&log).unwrap();
    assert!(bytes.len() > 20_000);
    drop(live);
    for end in ["db", "db-wal", "db-shm"] {
        let _ = fs::remove_file(path.with_extension(end));
    }
    fs::write(&log, bytes).unwrap();
    let (_, merged) = restore(&case, "20261031_1", &in_place(&case));
    assert_eq!(problems(&merged), Vec::<&String>::new());
    assert_eq!(rows(path, "SELECT name FROM sessions"), ["Fix the build"]);
}

#[test]
fn nothing_is_added_to_a_database_that_is_damaged() {
    let case = Case::of("goose");
    case.push();
    let path = case.path("goose/data", "sessions/sessions.db");
    let live = Connection::open(&path).unwrap();
    live.execute_batch(
        "PRAGMA journal_mode = DELETE; DELETE FROM messages WHERE session_id = '20261031_1';
         CREATE TABLE other(v); CREATE INDEX other_v ON other(v); INSERT INTO other VALUES('x'), ('y');",
    )
    .unwrap();
    let root: i64 = live
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'other_v'", [], |row| {
            row.get(0)
        })
        .unwrap();
    let size: i64 = live.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    drop(live);
    let mut bytes = fs::read(&path).unwrap();
    let at = usize::try_from((root - 1) * size).unwrap();
    bytes[at + 3..at + 5].copy_from_slice(&[0, 1]); // the index has one cell less than its table
    fs::write(&path, &bytes).unwrap();
    let (_, merged) = restore(&case, "20261031_1", &in_place(&case));
    let why = problems(&merged);
    assert!(why.len() == 1 && why[0].contains("damaged"), "{merged:?}");
    assert!(fs::read(&path).unwrap() == bytes, "it is as it was");
}

const FORK: &str = "7e1b3c52-3333-4444-8555-666677778888";

#[test]
fn a_fork_that_was_deleted_earlier_is_listed_too_by_the_snapshot_that_knew_it() {
    let case = Case::of("claude-code");
    let home = case.path("claude-code/home", "");
    let history = home.join("history.jsonl");
    let before = fs::read_to_string(&history).unwrap();
    let line = format!("{{\"display\":\"of the fork\",\"sessionId\":\"{FORK}\"}}\n");
    fs::write(&history, format!("{line}{before}")).unwrap();
    case.push();
    fs::remove_file(home.join(format!("projects/-home-a-work/{FORK}.jsonl"))).unwrap();
    fs::write(&history, &before).unwrap();
    case.push();
    let (home, _) = into_empty(&case, CLAUDE);
    let history = text(home.path(), "claude-code/home/history.jsonl");
    assert!(history.contains(CLAUDE) && history.contains(&line), "{history}");
    assert_eq!(history.lines().count(), 2, "{history}");
}

#[test]
fn a_session_whose_transcript_is_not_restored_is_not_listed() {
    let case = Case::of("claude-code");
    case.push();
    let all = case.sessions();
    let cancel = AtomicBool::new(false);
    let session = case.bench.open().unwrap();
    let restore = sessions::restore(&session, &all.family(one(&all, CLAUDE)), &cancel).unwrap();
    let home = tempfile::tempdir().unwrap();
    let to = Placement::Under(home.path().to_owned());
    // a directory stands in the transcript's place
    let transcript = format!("claude-code/home/projects/-home-a-work/{CLAUDE}.jsonl");
    fs::create_dir_all(home.path().join(&transcript)).unwrap();
    let options = Options {
        labels: restore.labels().into_iter().collect(),
        paths: restore.files().to_vec(),
        ..Options::new(to.clone())
    };
    let report = pull::pull(&restore, &options, &(), &cancel).unwrap();
    assert_eq!(report.problems.len(), 1, "{report:?}");
    let missing = restore.missing(&report);
    assert_eq!(missing, BTreeSet::from([CLAUDE.to_owned()]));
    let options = MergeOptions::default();
    let merged = sessions::merge(&session, &restore, &missing, &to, options, &cancel).unwrap();
    assert!(!merged.is_empty() && problems(&merged).len() == merged.len(), "{merged:?}");
    assert!(!home.path().join("claude-code/home/history.jsonl").exists());
}
