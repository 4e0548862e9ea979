//! What the engine we replace did wrong, where one needs the whole program to see that we do not: one test
//! for each, by its number in `docs/parity.md`. Others stand in `crates/engine/tests/all/seed_defects.rs` and
//! `seed_trust.rs`.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use crate::desk::{Desk, private_file};
use crate::state::{self, files_with};

#[test]
fn d9_a_restore_that_misses_a_root_is_not_the_new_truth() {
    let desk = Desk::new();
    drop(state::agents(&desk.home()));
    desk.ok(&["push"]);
    let both = desk.snapshots().remove(0);
    // a machine where one of the agents is not; pushes go on, and a policy keeps only the newest
    fs::remove_dir_all(desk.home().join(".codex")).unwrap();
    for n in 0..4 {
        fs::write(desk.home().join(".claude/CLAUDE.md.new"), n.to_string()).unwrap();
        desk.ok(&["push"]);
        desk.ok(&["forget", "--keep-last", "1", "--prune", "--yes"]);
    }
    let left = desk.snapshots();
    assert_eq!(left.len(), 2, "one of both agents, one of the one that is here");
    assert_eq!(left[0], both);
    desk.ok(&["pull", &both, "--agent", "codex", "--yes"]);
    assert!(desk.home().join(".codex/sessions/2026/11/rollout-1.jsonl").exists());

    // a root without a place here stops a restore; it is not passed over
    let notes = desk.beside("notes");
    fs::create_dir(&notes).unwrap();
    fs::write(notes.join("a"), "x").unwrap();
    desk.ok(&["push", "claude-code", "--path", &format!("notes={}", notes.display())]);
    let id = desk.snapshots().pop().unwrap();
    let mut other = Desk::new();
    other.set("AGENT_BACKUP_REPO", desk.embedded().to_str().unwrap());
    let word = desk.beside("word");
    private_file(&word, "a passphrase of four words\n");
    desk.ok(&["key", "add", "--new-password-file", word.to_str().unwrap()]);
    other.set("AGENT_BACKUP_PASSWORD_FILE", word.to_str().unwrap());
    other.fails(2, "usage", &["pull", &id], &["'notes' has no place", "--to DIR"]);
    assert!(!other.home().join(".claude").exists(), "nothing of the rest was restored in silence");
}

#[test]
fn f8_a_push_without_network_says_so_and_the_next_one_works() {
    let server = testkit::Server::start(testkit::server::Config::default()).unwrap();
    let mut desk = Desk::new();
    drop(state::agents(&desk.home()));
    crate::gate::point_to(&mut desk, &server);
    desk.set("AGENT_BACKUP_RETRY", "0");
    desk.ok(&["init", "--no-passphrase"]);
    let address = format!("s3:{}/{}/agents", server.url(), server.config().bucket);
    // a port where nobody listens
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = format!("s3:http://{closed}/{}/agents", server.config().bucket);
    desk.set("AGENT_BACKUP_REPO", &nowhere);
    desk.fails(15, "storage-unreachable", &["push"], &["run it again: nothing is lost"]);
    desk.set("AGENT_BACKUP_REPO", &address);
    desk.ok(&["push"]);
    assert_eq!(desk.snapshots().len(), 1);
}

#[test]
fn s3_there_is_no_repository_without_encryption() {
    let mut desk = Desk::new();
    fs::create_dir(desk.home().join(".claude")).unwrap();
    fs::write(desk.home().join(".claude/CLAUDE.md"), "API_KEY=sk-CANARY-3").unwrap();
    for no in ["false", "0", "no", "off", "FALSE"] {
        desk.set("B2_ENCRYPT", no);
        desk.fails(19, "configuration", &["push"], &["unset B2_ENCRYPT"]);
    }
    assert!(!desk.embedded().exists(), "nothing was made");
    desk.unset("B2_ENCRYPT");
    let config = desk.home().join(".config/agent-backup/config.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, "encrypt = false\n").unwrap();
    desk.fails(19, "configuration", &["push"], &["config.toml:1", "encrypt"]);
    fs::remove_file(&config).unwrap();
    desk.ok(&["push"]);
    desk.ok(&["push", "--always"]);
    assert!(files_with(&desk.embedded(), b"").len() > 6);
    assert_eq!(files_with(&desk.embedded(), b"sk-CANARY-3"), Vec::<PathBuf>::new());
}
