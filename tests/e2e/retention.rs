//! Snapshots come and go: forget, pin, undelete, gc and new keys, as a user meets them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::Tree;
use testkit::server::Fault;
use testkit::tree::assert_equal;

use crate::desk::{Desk, private_file, recovery_code};
use crate::gate::bucket;
use crate::state::Random;

/// A desk with a repository and three snapshots of a directory, and what each held.
fn three() -> (Desk, PathBuf, Vec<(String, Tree)>) {
    let mut desk = Desk::new();
    let repo = desk.beside("repo");
    desk.set("AGENT_BACKUP_REPO", repo.to_str().unwrap());
    recovery_code(&desk.ok(&["init", "--no-passphrase"]));
    fs::create_dir(desk.beside("src")).unwrap();
    let snapshots = (0..3).map(|n| push(&desk, n)).collect();
    (desk, repo, snapshots)
}

/// Changes the source and pushes it.
fn push(desk: &Desk, n: u64) -> (String, Tree) {
    let src = desk.beside("src");
    fs::write(src.join("same"), Random(1).bytes(300_000)).unwrap();
    fs::write(src.join("changes"), Random(100 + n).bytes(300_000)).unwrap();
    let arg = format!("src={}", src.display());
    let document = desk.json(&["push", "--path", &arg]);
    assert_eq!(document["result"], "made", "{document}");
    (document["snapshot"]["id"].as_str().unwrap().to_owned(), Tree::read(&src).unwrap())
}

/// A snapshot restores to what it was.
#[track_caller]
fn restores(desk: &Desk, id: &str, tree: &Tree, name: &str) {
    assert_equal(tree, &Tree::read(&desk.pull(id, name).join("src")).unwrap());
}

/// Every object of a repository with its length.
fn objects(repo: &Path) -> BTreeMap<PathBuf, u64> {
    fn walk(dir: &Path, out: &mut BTreeMap<PathBuf, u64>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, out);
            } else {
                out.insert(path.clone(), fs::metadata(&path).unwrap().len());
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(repo, &mut out);
    out
}

fn bytes(repo: &Path) -> u64 {
    objects(repo).values().sum()
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect()
}

#[test]
fn old_snapshots_go_and_the_last_one_stays_as_it_was() {
    let (desk, repo, snapshots) = three();
    let before = objects(&repo);
    let plan = desk.json(&["forget", "--keep-last", "1", "-n"]);
    assert_eq!(plan["dry_run"], true);
    let group = &plan["groups"][0];
    assert_eq!(ids(&group["keep"]), [&snapshots[2].0]);
    assert_eq!(group["keep"][0]["reasons"][0], "last");
    assert_eq!(group["roots"][0], "src");
    assert_eq!(ids(&group["forget"]).len(), 2);
    let shown = desk.ok(&["forget", "--keep-last", "1", "--dry-run"]);
    assert!(shown.text().contains("keep") && shown.text().contains("forget"), "{}", shown.text());
    assert_eq!(objects(&repo), before, "a dry run writes nothing");

    let ran = desk.ok(&["forget", "--keep-last", "1"]);
    assert!(ran.text().contains("forgot 2 snapshots, 1 stay"), "{}", ran.text());
    assert_eq!(desk.snapshots(), [snapshots[2].0.clone()]);
    let forgotten = objects(&repo);
    let plan = desk.json(&["gc", "-n"]);
    assert_eq!(plan["dry_run"], true);
    assert!(plan["free_bytes"].as_u64().unwrap() > 250_000, "{plan}");
    assert_eq!(objects(&repo), forgotten, "a dry run writes nothing");
    let full = bytes(&repo);
    let told = desk.ok(&["gc", "--more-than-half"]);
    assert!(told.text().contains("freed"), "{}", told.text());
    assert!(bytes(&repo) + 250_000 < full, "{} of {full}", bytes(&repo));
    restores(&desk, &snapshots[2].0, &snapshots[2].1, "kept");
    assert_eq!(desk.json(&["prune"])["freed_packs"], 0);
    // and the machine goes on
    let (id, tree) = push(&desk, 9);
    restores(&desk, &id, &tree, "next");
}

#[test]
fn a_forgotten_snapshot_comes_back_before_a_collection_and_not_after_it() {
    let (desk, _, snapshots) = three();
    let (second, tree) = &snapshots[1];
    desk.ok(&["forget", &second[..8]]);
    let shown = desk.json(&["snapshots", "--forgotten"]);
    assert_eq!(ids(&shown["snapshots"]), [second]);
    let back = desk.json(&["undelete", &second[..8]]);
    let id = back["undeleted"][0]["snapshot"]["id"].as_str().unwrap().to_owned();
    assert_eq!(back["undeleted"][0]["forgotten"], **second);
    assert_ne!(&id, second);
    restores(&desk, &id, tree, "back");
    assert_eq!(desk.snapshots()[1], id, "as old as it was");
    desk.fails(1, "failed", &["undelete", &id[..8]], &["was not forgotten"]);
    let again = desk.json(&["undelete", &second[..8]]);
    assert_eq!(again["undeleted"][0]["snapshot"]["id"], *id, "it is back: {again}");
    assert_eq!(desk.snapshots().len(), 3);
    assert!(ids(&desk.json(&["snapshots", "--forgotten"])["snapshots"]).is_empty());

    let done = desk.json(&["forget", &id[..12], "--prune"]);
    assert_eq!(done["forgotten"][0], *id);
    assert!(done["gc"]["freed_packs"].as_u64().unwrap() > 0, "{done}");
    desk.fails(1, "failed", &["undelete", &id[..8]], &["a collection has removed"]);
    assert!(ids(&desk.json(&["snapshots", "--forgotten"])["snapshots"]).is_empty());
    let told = desk.ok(&["snapshots", "--forgotten"]);
    assert!(told.err.contains("cannot be brought back"), "{}", told.err);
    for (id, tree) in [&snapshots[0], &snapshots[2]] {
        restores(&desk, id, tree, &id[..8]);
    }
}

#[test]
fn a_pinned_snapshot_stays_until_it_is_let_go() {
    let (desk, _, snapshots) = three();
    let first = &snapshots[0].0;
    desk.ok(&["pin", "latest~2"]);
    let shown = desk.json(&["snapshots"]);
    assert_eq!(shown["snapshots"][0]["pinned"], true, "{shown}");
    assert!(desk.ok(&["snapshots"]).text().contains("pinned"));
    desk.ok(&["forget", "--keep-last", "1"]);
    assert_eq!(desk.snapshots(), [first.clone(), snapshots[2].0.clone()]);
    let words = ["is pinned", "agent-backup pin --remove"];
    desk.fails(17, "stopped-for-safety", &["forget", &first[..8]], &words);
    desk.ok(&["pin", "--remove", &first[..8]]);
    desk.ok(&["forget", &first[..8]]);
    assert_eq!(desk.snapshots(), [snapshots[2].0.clone()]);
}

#[test]
fn what_could_empty_a_repository_by_accident_is_refused() {
    let (desk, _, snapshots) = three();
    let id = &snapshots[0].0[..8];
    desk.fails(2, "usage", &["forget"], &["--keep-last"]);
    desk.fails(2, "usage", &["forget", "--keep-last", "0"], &["what to keep"]);
    desk.fails(2, "usage", &["forget", "--unsafe-allow-remove-all"], &["--host"]);
    for wrong in [
        &["forget", id, "--keep-last", "1"][..],
        &["forget", "--keep-last", "many"],
        &["forget", "--keep-within", "3w"],
        &["forget", "--keep-last", "1", "--group-by", "size"],
        &["gc", "--max-repack-bytes", "lots"],
        &["pin"],
        &["undelete"],
    ] {
        desk.ends(2, wrong);
    }
    let words = ["keeps none of 3 snapshots", "--unsafe-allow-remove-all"];
    desk.fails(17, "stopped-for-safety", &["forget", "--keep-tag", "gold"], &words);
    assert_eq!(desk.snapshots().len(), 3);
    desk.ok(&["forget", "--keep-tag", "gold", "--unsafe-allow-remove-all"]);
    assert!(desk.snapshots().is_empty());
    let words = ["more than half", "--more-than-half"];
    let plan = desk.ok(&["gc", "-n"]);
    assert!(words.iter().all(|word| plan.err.contains(word)), "a plan says it: {}", plan.err);
    assert!(!desk.ok(&["gc", "-n", "--more-than-half"]).err.contains("more than half"));
    assert_eq!(desk.json(&["gc", "-n"])["more_than_half"], true);
    desk.fails(17, "stopped-for-safety", &["gc"], &words);
    desk.ok(&["undelete", id]);
    assert_eq!(desk.snapshots().len(), 1);
}

#[test]
fn snapshots_that_vanish_stop_a_collection() {
    let (desk, repo, snapshots) = three();
    desk.ok(&["gc"]);
    fs::remove_file(repo.join("snap").join(&snapshots[1].0)).unwrap();
    let words = ["nobody forgot", "--accept-vanished"];
    desk.fails(17, "stopped-for-safety", &["gc"], &words);
    desk.ok(&["gc", "--accept-vanished"]);
    for (id, tree) in [&snapshots[0], &snapshots[2]] {
        restores(&desk, id, tree, &id[..8]);
    }
}

#[test]
fn a_second_collection_here_is_told_to_wait_and_a_push_is_not() {
    let (desk, _, snapshots) = three();
    desk.ok(&["gc"]);
    let lock = File::options().write(true).open(desk.repo_state().join("gc/lock")).unwrap();
    lock.lock().unwrap();
    desk.fails(11, "busy", &["gc"], &["another agent-backup"]);
    push(&desk, 7);
    drop(lock);
    let lock = File::options().write(true).open(desk.repo_state().join("lock")).unwrap();
    lock.lock().unwrap();
    desk.ok(&["gc"]);
    desk.fails(11, "busy", &["gc", "--exclusive"], &["another agent-backup"]);
    desk.ok(&["forget", &snapshots[0].0]);
    desk.fails(11, "busy", &["undelete", &snapshots[0].0], &["another agent-backup"]);
    drop(lock);
    desk.ok(&["gc", "--exclusive"]);
}

#[test]
fn at_the_storage_cap_nothing_is_lost_and_what_to_do_is_told() {
    let (server, desk) = bucket();
    recovery_code(&desk.ok(&["init", "--no-passphrase"]));
    fs::create_dir(desk.beside("src")).unwrap();
    let (first, _) = push(&desk, 0);
    let (old, _) = push(&desk, 1);
    let (id, tree) = push(&desk, 2);
    server.on(|request| (request.method == "PUT").then_some(Fault::CapExceeded));
    let words = ["cap", "raise the cap a little", "--max-repack-bytes 0"];
    desk.fails(14, "storage-cap", &["forget", &old], &words);
    desk.fails(14, "storage-cap", &["gc"], &words);
    assert_eq!(desk.snapshots(), [first, old.clone(), id.clone()]);
    server.heal();
    desk.ok(&["forget", &old]);
    let told = desk.ok(&["gc", "--max-repack-bytes", "0"]);
    assert!(told.text().contains("go with the next gc, not before"), "{}", told.text());
    let told = desk.ok(&["gc", "--exclusive"]);
    assert!(told.text().contains("freed"), "{}", told.text());
    restores(&desk, &id, &tree, "kept");
}

#[test]
fn a_damaged_database_is_marked_where_snapshots_are_listed() {
    let (desk, _, _) = three();
    let path = desk.beside("src/a.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("CREATE TABLE t(body BLOB); INSERT INTO t VALUES(randomblob(300000))")
        .unwrap();
    db.execute_batch("CREATE INDEX i ON t(body)").unwrap();
    drop(db);
    let mut bytes = fs::read(&path).unwrap();
    let whole = bytes.len();
    bytes[whole / 2..whole / 2 + 8192].fill(0xee);
    fs::write(&path, bytes).unwrap();
    let arg = format!("src={}", desk.beside("src").display());
    desk.ends(3, &["push", "--check-databases", "--path", &arg]);
    let shown = desk.json(&["snapshots"]);
    assert_eq!(shown["snapshots"][3]["damaged"][0]["path"], "src/a.db", "{shown}");
    assert!(shown["snapshots"][2].get("damaged").is_none());
    assert!(desk.ok(&["snapshots"]).text().contains("1 damaged database"));
}

#[test]
fn the_last_key_cannot_be_removed_and_new_keys_leave_the_old_ones_behind() {
    let (desk, _, snapshots) = three();
    let keys = |desk: &Desk| -> Vec<(String, String)> {
        let document = desk.json(&["key", "list"]);
        let text = |key: &Value| key.as_str().unwrap().to_owned();
        let keys = document["keys"].as_array().unwrap();
        keys.iter().map(|key| (text(&key["kind"]), text(&key["id"]))).collect()
    };
    let words = ["--new-password-file"];
    desk.fails(2, "usage", &["key", "rotate"], &words);
    let word = desk.beside("word");
    private_file(&word, "a long passphrase\n");
    let word = word.to_str().unwrap();
    let old_code = desk.beside("old-code");
    private_file(&old_code, &recovery_code(&desk.ok(&["key", "add", "--recovery"])));
    let rotated = desk.json(&["key", "rotate", "--new-password-file", word]);
    assert_eq!(rotated["epoch"], 1, "{rotated}");
    assert_eq!(rotated["left"].as_array().unwrap().len(), 2, "the recovery codes: {rotated}");
    // nothing has the new keys yet, but this machine's own
    let words = ["epoch 1", "that the rotation made"];
    let old = old_code.to_str().unwrap();
    desk.fails(12, "wrong-key", &["--password-file", old, "key", "enroll"], &words);
    let (id, tree) = push(&desk, 5);
    restores(&desk, &id, &tree, "new");
    restores(&desk, &snapshots[0].0, &snapshots[0].1, "old");
    // a key by the old code would read nothing of that
    desk.fails(12, "wrong-key", &["--password-file", old, "key", "enroll"], &words);
    let listed = keys(&desk).len();
    let enrolled = desk.json(&["key", "enroll"]);
    assert!(enrolled["added"].is_string(), "{enrolled}");
    assert_eq!(enrolled["removed"].as_array().unwrap().len(), 1, "{enrolled}");
    assert_eq!(keys(&desk).len(), listed, "the key before is gone");
    restores(&desk, &id, &tree, "enrolled");
    let listed = desk.json(&["key", "list"]);
    let own = listed["keys"].as_array().unwrap().iter().find(|key| key["here"] == true).unwrap();
    let own = own["id"].as_str().unwrap();
    let words = ["by which this machine opens", "--password-file"];
    desk.fails(17, "stopped-for-safety", &["key", "remove", own], &words);
    let words = ["the key was not removed", "epoch 1"];
    desk.fails(12, "wrong-key", &["--password-file", old, "key", "remove", own], &words);
    let told = desk.ok(&["--password-file", word, "key", "remove", own]).err;
    assert!(told.contains("needs the passphrase or recovery code from now on"), "{told}");
    desk.ok(&["--password-file", word, "key", "enroll"]);
    let code = recovery_code(&desk.ok(&["key", "rotate", "--recovery", "--drop-others"]));
    let kinds: Vec<String> = keys(&desk).into_iter().map(|(kind, _)| kind).collect();
    assert!(kinds.contains(&"machine".into()) && kinds.contains(&"recovery".into()), "{kinds:?}");
    assert_eq!(kinds.len(), 2, "{kinds:?}");
    private_file(&desk.beside("code"), &code);
    let code = desk.beside("code");
    desk.ok(&["--password-file", code.to_str().unwrap(), "ls", "latest"]);
    desk.fails(12, "wrong-key", &["--password-file", word, "ls"], &[]);

    let (_, id) = keys(&desk).into_iter().find(|(kind, _)| kind == "recovery").unwrap();
    desk.ok(&["key", "remove", &id]);
    let (_, id) = keys(&desk).remove(0);
    desk.fails(17, "stopped-for-safety", &["key", "remove", &id], &["last usable key slot"]);
}
