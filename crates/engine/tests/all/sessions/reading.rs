//! What reading costs, and what is found of sessions that are gone.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::sync::atomic::AtomicBool;

use engine::sessions::show;
use sessions::{Message, Shown};
use testkit::Verb;

use super::{Case, one};

const TRANSCRIPT: &str = "projects/-home-a-work/0b8f2c1e-1111-4222-8333-444455556666.jsonl";

fn append(case: &Case, text: &str) {
    let path = case.path("claude-code/home", TRANSCRIPT);
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    writeln!(file, "{text}").unwrap();
}

fn line(minute: u32, text: &str) -> String {
    format!(
        r#"{{"type":"user","message":{{"role":"user","content":"{text}"}},"timestamp":"2026-10-31T11:{minute:02}:00Z"}}"#
    )
}

/// Ranged reads of packs, each range once: no block is fetched a second time.
fn fetched(case: &Case) -> Vec<String> {
    case.store
        .take()
        .into_iter()
        .filter(|call| call.verb == Verb::GetRange)
        .map(|call| format!("{call}"))
        .collect()
}

#[test]
fn a_second_list_reads_no_pack_and_a_list_after_a_push_only_what_is_new() {
    let case = Case::of("claude-code");
    for round in 0..10 {
        append(&case, &line(round, "more"));
        case.push();
    }
    case.store.take();
    let first = case.sessions();
    let reads = fetched(&case);
    assert!(!reads.is_empty());
    let mut times: BTreeMap<&String, u32> = BTreeMap::new();
    for read in &reads {
        *times.entry(read).or_default() += 1;
    }
    assert!(times.values().all(|times| *times == 1), "{times:?}");

    let again = case.sessions();
    assert_eq!(fetched(&case), Vec::<String>::new(), "nothing is new");
    let ids = |all: &engine::sessions::Sessions| {
        all.all.iter().map(|f| (f.id.clone(), f.messages, f.last_ms)).collect::<Vec<_>>()
    };
    assert_eq!(ids(&first), ids(&again));

    append(&case, &line(30, "the last"));
    case.push();
    case.store.take();
    let later = case.sessions();
    let new = fetched(&case).len();
    assert!(new < reads.len() && new <= 8, "{new} of {}", reads.len());
    let (before, now) = (one(&again, "0b8f2c1e"), one(&later, "0b8f2c1e"));
    assert_eq!(now.messages, before.messages.map(|n| n + 1), "what was added is counted once");

    // the cache may go at any time
    fs::remove_dir_all(case.bench.dirs().cache).unwrap();
    assert_eq!(ids(&case.sessions()), ids(&later));
}

#[test]
fn of_a_long_transcript_that_grew_only_the_rest_is_read() {
    let case = Case::of("claude-code");
    let filler = noise(6 << 20);
    for (at, chunk) in filler.chunks(2000).enumerate() {
        let text = data_encoding::BASE64.encode(chunk);
        append(&case, &format!(r#"{{"type":"progress","n":{at},"data":"{text}"}}"#));
    }
    case.push();
    case.sessions();
    append(&case, &line(1, "short"));
    case.push();
    case.store.take();
    let all = case.sessions();
    let bytes: u64 =
        case.store.take().iter().filter(|c| c.verb == Verb::GetRange).map(|c| c.bytes).sum();
    let size = one(&all, "0b8f2c1e").bytes.unwrap();
    assert!(size > 4 << 20 && bytes < size / 8, "{bytes} of {size}");
    assert_eq!(one(&all, "0b8f2c1e").last_ms, Some(1_793_444_460_000));
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn a_session_that_its_agent_deleted_is_gone_and_can_still_be_read() {
    let case = Case::of("claude-code");
    let held = case.push().snapshot().id;
    fs::remove_file(case.path("claude-code/home", TRANSCRIPT)).unwrap();
    case.push();
    let all = case.sessions();
    let gone = one(&all, "0b8f2c1e");
    assert!(!gone.here);
    // the push may carry it among what is gone: then the newest snapshot holds it
    let carried = gone.places.iter().any(|place| place.path.starts_with(b"~gone/"));
    assert!(gone.newest == held || carried, "{gone:?}");
    let others = all.all.iter().filter(|f| f.id != gone.id);
    assert!(others.clone().count() > 0 && others.clone().all(|f| f.here));
    let session = case.bench.open().unwrap();
    let mut messages = 0;
    let mut say = |_: Message| {
        messages += 1;
        true
    };
    let cancel = AtomicBool::new(false);
    assert!(show(&session, gone, &mut Shown::Messages(&mut say), &cancel).unwrap());
    assert_eq!(messages, 3);
}

#[test]
fn a_row_that_vanished_from_a_database_is_found_in_the_snapshot_that_has_it() {
    let case = Case::of("opencode");
    let held = case.push().snapshot().id;
    let db = rusqlite::Connection::open(case.path("opencode/data", "opencode.db")).unwrap();
    db.execute_batch("DELETE FROM session WHERE id = 'ses_3'").unwrap();
    drop(db);
    let now = case.push().snapshot().id;
    let all = case.sessions();
    let gone = one(&all, "ses_3");
    assert_eq!((gone.here, gone.newest), (false, held));
    let here = one(&all, "ses_1");
    assert_eq!((here.here, here.newest), (true, now));
    // a second list opens no database again
    case.store.take();
    case.sessions();
    assert_eq!(fetched(&case), Vec::<String>::new());
}

#[test]
fn a_transcript_that_was_overwritten_with_less_is_told_where_more_of_it_is() {
    let case = Case::of("claude-code");
    let held = case.push().snapshot().id;
    let path = case.path("claude-code/home", TRANSCRIPT);
    fs::write(path, line(0, "blank") + "\n").unwrap();
    case.push();
    let all = case.sessions();
    let (snapshot, bytes) = one(&all, "0b8f2c1e").longer.unwrap();
    assert!(snapshot == held && bytes > one(&all, "0b8f2c1e").bytes.unwrap());
    assert!(all.all.iter().filter(|f| !f.id.starts_with("0b8f")).all(|f| f.longer.is_none()));
}

#[test]
fn a_rollout_is_one_session_before_and_after_its_agent_compresses_it() {
    let case = Case::of("codex");
    case.push();
    let name = "rollout-2026-10-31T12-00-00-019a3b12-aaaa-7bbb-8ccc-ddddeeee1111.jsonl";
    let path = case.path("codex/home", &format!("sessions/2026/10/31/{name}"));
    let packed = zstd::bulk::compress(&fs::read(&path).unwrap(), 3).unwrap();
    fs::write(path.with_file_name(format!("{name}.zst")), packed).unwrap();
    fs::remove_file(path).unwrap();
    case.push();
    let all = case.sessions();
    let found = one(&all, "019a3b12");
    assert!(found.here);
    assert_eq!(found.title.as_deref(), Some("Else"));
    assert_eq!(found.messages, Some(3));
    let same = all.all.iter().filter(|f| f.id.starts_with("019a3b12")).count();
    assert_eq!(same, 1);
}

#[test]
fn a_beginning_that_fits_two_sessions_or_none_is_refused() {
    let case = Case::of("codex");
    case.push();
    let all = case.sessions();
    let wrong = |id: &str| all.select(id, None, None).unwrap_err().to_string();
    assert_eq!(wrong("019a3b1"), "019a3b1: 3 sessions have ids that begin so");
    assert_eq!(wrong("ffffffff"), "ffffffff: no session has an id that begins so");
    assert!(wrong("01").contains("at least 4 characters"));
    assert!(all.select("019a3b10", Some("goose"), None).is_err());
}

#[test]
fn sessions_of_two_machines_that_only_count_alike_are_two() {
    let mut case = Case::of("goose");
    case.options.always = true;
    case.push();
    let ids =
        |all: &engine::sessions::Sessions| all.all.iter().map(|f| f.id.clone()).collect::<Vec<_>>();
    let alone = ids(&case.sessions());
    let id = alone.iter().find(|id| id.starts_with("2026")).unwrap().clone();
    let file = case.bench.dirs().state.join("machine-id");
    let first = fs::read_to_string(&file).unwrap();
    let become_machine = |id: &str| fs::write(&file, format!("{}\n", id.trim())).unwrap();
    become_machine(&"2".repeat(32));
    case.push();
    let all = case.sessions();
    assert_eq!(all.all.len(), alone.len() * 2, "{:?}", ids(&all));
    let machine = |all: &engine::sessions::Sessions| one(all, &id).machine.hex();
    assert_eq!(machine(&all), "2".repeat(32));
    become_machine(&first);
    assert_eq!(machine(&case.sessions()), first.trim());
    become_machine(&"3".repeat(32));
    let all = case.sessions();
    let error = all.select(&id, None, None).unwrap_err().to_string();
    assert!(error.contains("several machines have a session with this id"), "{error}");
    assert!(error.contains("here (22222222)"), "{error}");
    assert_eq!(all.select(&id, None, Some("22222222")).unwrap().machine.hex(), "2".repeat(32));
    assert!(all.select(&id, None, Some("here")).is_err(), "both are called so");
    // one with an id that nobody else makes is one wherever it is
    let mut case = Case::of("codex");
    case.options.always = true;
    case.push();
    let alone = case.sessions().all.len();
    fs::write(case.bench.dirs().state.join("machine-id"), "2".repeat(32)).unwrap();
    case.push();
    assert_eq!(case.sessions().all.len(), alone);
}

#[test]
fn what_is_no_transcript_is_passed_over_and_harms_no_other() {
    let case = Case::of("claude-code");
    let dir = case.path("claude-code/home", "projects/-home-a-work");
    fs::write(dir.join("odd.jsonl"), b"\xff\xfe\n{\"sessionId\":7\nnull\n[1]\n\"x\"\n").unwrap();
    fs::write(dir.join("empty.jsonl"), b"").unwrap();
    case.push();
    let all = case.sessions();
    assert!(all.unread.is_empty());
    let odd = one(&all, "odd");
    assert_eq!((odd.title.as_deref(), odd.messages, odd.last_ms), (None, None, None));
    assert_eq!(one(&all, "0b8f2c1e").title.as_deref(), Some("Fix the build"));
}
