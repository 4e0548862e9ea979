//! A session comes back whose secrets stayed at home: once, and with them where the live home has them.

use std::fs;

use engine::pull::Placement;
use rusqlite::Connection;

use super::Case;
use super::restoring::{CLAUDE, in_place, problems, restore, rows, text};
use crate::support;

/// What the rules know, put together here so that no scanner takes this file for a leak.
fn canary(sign: char) -> String {
    format!("ghp_{sign}R8kTz5Wq2Yx7Vn4Bm9Lc3Jd6Hf1Gs0Pa5Qe")
}

fn redacting(id: &str) -> Case {
    let mut case = Case::of(id);
    case.options.redact_secrets = true;
    case
}

/// No block of the repository has it, nor a half of it.
fn is_nowhere(case: &Case, secret: &str) {
    let everything = support::everything(&case.bench.open().unwrap());
    for part in [&secret[..22], &secret[22..]] {
        let has = |block: &Vec<u8>| block.windows(part.len()).any(|at| at == part.as_bytes());
        assert!(!everything.iter().any(has), "{part}");
    }
}

#[test]
fn a_transcript_and_its_lines_in_the_history_come_back_with_their_secrets_and_once() {
    let (case, secret) = (redacting("claude-code"), canary('a'));
    let home = case.path("claude-code/home", "");
    let transcript = home.join(format!("projects/-home-a-work/{CLAUDE}.jsonl"));
    let said = fs::read_to_string(&transcript).unwrap();
    let said = format!(
        "{said}{{\"type\":\"user\",\"message\":{{\"role\":\"user\",\"content\":\"use {secret}\"}}}}\n"
    );
    fs::write(&transcript, &said).unwrap();
    let with = format!("{{\"display\":\"use {secret}\",\"sessionId\":\"{CLAUDE}\"}}\n");
    let later = format!("{{\"display\":\"go on\",\"sessionId\":\"{CLAUDE}\"}}\n");
    let history = home.join("history.jsonl");
    let lines = format!("{}{with}{later}", fs::read_to_string(&history).unwrap());
    fs::write(&history, &lines).unwrap();
    case.push();
    is_nowhere(&case, &secret);

    // all is there: nothing is added, and nothing is said to differ
    let (_, merged) = restore(&case, CLAUDE, &in_place(&case));
    let quiet = merged.iter().all(|one| one.added == 0 && one.other == 0 && one.problem.is_none());
    assert!(quiet, "{merged:?}");
    assert_eq!(fs::read_to_string(&history).unwrap(), lines);
    assert_eq!(fs::read_to_string(&transcript).unwrap(), said);
    // the last line was lost, and the transcript has one that nobody wrote
    fs::write(&history, lines.strip_suffix(&later).unwrap()).unwrap();
    fs::write(&transcript, format!("{said}{{}}\n")).unwrap();
    let (_, merged) = restore(&case, CLAUDE, &in_place(&case));
    assert_eq!(problems(&merged), Vec::<&String>::new());
    assert_eq!((merged.len(), merged[0].added, merged[0].other), (1, 1, 0), "{merged:?}");
    assert_eq!(fs::read_to_string(&history).unwrap(), lines);
    assert_eq!(fs::read_to_string(&transcript).unwrap(), said);

    // an empty home has marks
    let empty = tempfile::tempdir().unwrap();
    let (_, merged) = restore(&case, CLAUDE, &Placement::Under(empty.path().to_owned()));
    assert_eq!(problems(&merged), Vec::<&String>::new());
    let blanks: Vec<&String> = merged.iter().flat_map(|one| &one.blanks).collect();
    assert_eq!(blanks, ["1 secret (github-pat)"], "{merged:?}");
    let lines = text(empty.path(), "claude-code/home/history.jsonl");
    assert!(lines.contains("\"use [REDACTED:github-pat:") && !lines.contains(&secret), "{lines}");
}

#[test]
fn rows_of_a_session_with_a_secret_are_not_there_twice() {
    let (case, secret) = (redacting("goose"), canary('b'));
    let path = case.path("goose/data", "sessions/sessions.db");
    let live = Connection::open(&path).unwrap();
    let said = format!("[{{\"type\":\"text\",\"text\":\"use {secret}\"}}]");
    let sql = "UPDATE messages SET content_json = ?1 WHERE session_id = '20261031_1' \
               AND id = (SELECT max(id) FROM messages WHERE session_id = '20261031_1')";
    assert_eq!(live.execute(sql, [&said]).unwrap(), 1);
    drop(live);
    case.push();
    is_nowhere(&case, &secret);
    let all =
        "SELECT session_id || coalesce(message_id, '') || content_json FROM messages ORDER BY 1";
    let before = rows(path.clone(), all);
    assert!(before.iter().any(|row| row.contains(&secret)), "{before:?}");
    let (_, merged) = restore(&case, "20261031_1", &in_place(&case));
    let quiet = merged.iter().all(|one| one.added == 0 && one.other == 0 && one.problem.is_none());
    assert!(quiet, "{merged:?}");
    assert_eq!(rows(path.clone(), all), before);
    // another message of it was lost
    let live = Connection::open(&path).unwrap();
    let sql = "DELETE FROM messages WHERE session_id = '20261031_1' \
               AND id = (SELECT min(id) FROM messages WHERE session_id = '20261031_1')";
    assert_eq!(live.execute(sql, []).unwrap(), 1);
    drop(live);
    let (_, merged) = restore(&case, "20261031_1", &in_place(&case));
    assert_eq!(problems(&merged), Vec::<&String>::new());
    assert_eq!((merged[0].added, merged[0].other), (1, 0), "{merged:?}");
    assert_eq!(merged[0].blanks, [""; 0], "its secret is there");
    assert_eq!(rows(path.clone(), all), before);
    // where it is not, the mark is named: in rows that are added and in a database that is made
    let live = Connection::open(&path).unwrap();
    live.execute_batch("DELETE FROM messages WHERE session_id = '20261031_1'").unwrap();
    drop(live);
    let empty = tempfile::tempdir().unwrap();
    for to in [in_place(&case), Placement::Under(empty.path().to_owned())] {
        let (_, merged) = restore(&case, "20261031_1", &to);
        assert_eq!(problems(&merged), Vec::<&String>::new());
        assert_eq!(merged[0].blanks, ["1 secret (github-pat)"], "{merged:?}");
    }
}
