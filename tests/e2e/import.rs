//! Who comes from agent-backup-core: its bucket becomes snapshots here, with the binary as a user runs it.

use std::fs;
use std::path::Path;

use serde_json::Value;
use testkit::CoreBucket;
use testkit::server::{self, Server};

use crate::desk::Desk;

const PASSPHRASE: &str = "correct horse";
const FIRST: &str = "2025-03-01T10:00:00.125Z";
const SECOND: &str = "2025-03-02T10:00:00.251Z";
const THIRD: &str = "2025-03-03T10:00:00.375Z";
const FILES: [(&str, &[u8]); 4] = [
    ("config/config.yaml", b"GOOSE_MODEL: x\n"),
    ("config/recipes/\u{e9} #1.yaml", b"title: tea\n"),
    ("data/projects.json", b"{}\n"),
    ("state/history.txt", b"one\n"),
];

fn encrypted() -> CoreBucket {
    CoreBucket::new("goose-backup", Some(PASSPHRASE))
}

/// A desk with a repository, an old bucket beside it and the old passphrase in a private file.
fn desk(bucket: &CoreBucket) -> Desk {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = Desk::new();
    desk.ok(&["init", "--no-passphrase"]);
    bucket.write_to(&desk.beside("old"));
    let file = desk.beside("old.txt");
    fs::write(&file, format!("{PASSPHRASE}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    desk
}

fn args<'a>(from: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["import", "agent-backup-core", from][..], more].concat()
}

fn results(document: &Value) -> Vec<&str> {
    let all = document["snapshots"].as_array().unwrap();
    all.iter().map(|one| one["result"].as_str().unwrap()).collect()
}

fn restores_equal(desk: &Desk, id: &str, name: &str, files: &[(&str, &[u8])]) {
    let to = desk.pull(id, name);
    let mut count = 0;
    for (path, content) in files {
        assert_eq!(&fs::read(to.join("goose").join(path)).unwrap(), content, "{path}");
        count += 1;
    }
    assert_eq!(files_below(&to), count, "no more than that");
}

fn files_below(dir: &Path) -> usize {
    let below = |entry: fs::DirEntry| {
        if entry.path().is_dir() { files_below(&entry.path()) } else { 1 }
    };
    fs::read_dir(dir).unwrap().map(|entry| below(entry.unwrap())).sum()
}

fn bytes_below(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(bytes_below(&path));
        } else {
            all.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    all.sort();
    all
}

#[test]
fn an_old_bucket_is_imported_once_restores_equal_and_stays_as_it_was() {
    let mut bucket = encrypted();
    bucket.snapshot(FIRST, &FILES[..2]);
    bucket.safety(SECOND, &FILES[1..]);
    bucket.snapshot(THIRD, &FILES);
    let desk = desk(&bucket);
    let (old, pass) = (desk.beside("old"), desk.beside("old.txt").display().to_string());
    let before = bytes_below(&old);
    let from = old.display().to_string();
    let import = args(&from, &["--source-password-file", &pass]);

    let dry = desk.ok(&[&import[..], &["-n"]].concat());
    assert_eq!(dry.text().matches("would be imported").count(), 3, "{}", dry.text());
    assert!(dry.text().contains("a safety snapshot"), "{}", dry.text());
    let dry = desk.json(&[&import[..], &["-n"]].concat());
    assert_eq!((&dry["dry_run"], results(&dry)), (&true.into(), vec!["new"; 3]));
    assert!(desk.snapshots().is_empty());

    let run = desk.ok(&import);
    assert_eq!(run.text().matches("imported as").count(), 3, "{}", run.text());
    assert!(run.err.contains("nothing was changed there"), "{}", run.err);
    let listed = desk.json(&["snapshots"]);
    let all = listed["snapshots"].as_array().unwrap();
    let times: Vec<&str> = all.iter().map(|one| one["time"].as_str().unwrap()).collect();
    assert_eq!(times, [FIRST, SECOND, THIRD]);
    assert_eq!(all[1]["reason"], "safety");
    assert!(all.iter().all(|one| one["imported"]["from"] == "agent-backup-core"));
    assert!(all.iter().all(|one| one["agents"][0] == "goose"));
    let ids = desk.snapshots();
    restores_equal(&desk, &ids[0], "out-0", &FILES[..2]);
    restores_equal(&desk, &ids[1], "out-1", &FILES[1..]);
    restores_equal(&desk, "latest", "out-2", &FILES);
    // to where the agent of today keeps it
    desk.ok(&["pull", "--agent", "goose", "--yes"]);
    let config = fs::read(desk.home().join(".config/goose/config.yaml")).unwrap();
    assert_eq!(config, FILES[0].1);
    desk.ok(&["verify", "--read-data"]);

    let again = desk.ok(&import);
    assert_eq!(again.text().matches("is there already").count(), 3, "{}", again.text());
    assert_eq!(desk.snapshots(), ids);
    assert_eq!(results(&desk.json(&import)), ["there"; 3]);
    assert_eq!(bytes_below(&old), before);
}

#[test]
fn a_bucket_is_reached_by_address_and_storage_key_and_only_read() {
    let server = Server::start(server::Config::default()).unwrap();
    // encryptionKey was not set: the storage's secret was the passphrase
    let secret = server.config().secret.clone();
    let mut bucket = CoreBucket::new("goose-backup", Some(&secret));
    bucket.snapshot(FIRST, &FILES);
    bucket.plant(&server);
    let mut desk = desk(&encrypted());
    let from = format!("s3:{}/{}", server.url(), server.config().bucket);
    desk.set("AGENT_BACKUP_OTHER_KEY_ID", &server.config().key_id);
    desk.set("AGENT_BACKUP_OTHER_SECRET_KEY", &secret);
    desk.set("AGENT_BACKUP_OTHER_REGION", &server.config().region);
    let run = desk.ok(&args(&format!("{from}/goose-backup"), &[]));
    assert!(run.text().contains("imported as"), "{}", run.text());
    restores_equal(&desk, "latest", "out", &FILES);
    assert!(server.requests().iter().all(|request| request.method == "GET"));
    // the bucket as a whole is the same place
    assert_eq!(results(&desk.json(&args(&from, &[]))), ["there"]);
    let shown = format!("{}{}", run.text(), run.err);
    assert!(!shown.contains(&secret), "{shown}");
}

#[test]
fn what_may_be_forged_is_refused_by_name_and_what_is_damaged_told_and_the_rest_is_imported() {
    let mut bucket = encrypted();
    let name = bucket.snapshot(FIRST, &FILES);
    let missing = bucket.key(&name, FILES[2].0);
    bucket.objects.remove(&missing);
    let desk = desk(&bucket);
    let pass = desk.beside("old.txt").display().to_string();
    let from = desk.beside("old").display().to_string();
    let import = args(&from, &["--source-password-file", &pass]);
    let run = desk.ends(3, &import);
    assert!(run.err.contains(&missing), "{}", run.err);
    assert!(run.text().contains("without 1 file"), "{}", run.text());
    let (id, rest) = (desk.snapshots()[0].clone(), [FILES[0], FILES[1], FILES[3]]);
    restores_equal(&desk, &id, "out", &rest);
    // again: nothing is new, and nothing is wrong that was not told
    desk.ok(&import);

    let damaged = bucket.snapshot(SECOND, &FILES);
    bucket.object(&damaged, "manifest.json")[80] ^= 4;
    bucket.write_to(&desk.beside("old"));
    let run = desk.ends(4, &import);
    assert!(run.err.contains(&damaged), "{}", run.err);

    bucket.encrypt(None);
    let forged = bucket.snapshot(THIRD, &[("config/hook.sh", b"evil")]);
    bucket.encrypt(Some(PASSPHRASE));
    let time = "2025-03-04T10:00:00.000Z";
    let escaped = bucket.snapshot(time, &[("config/../../outside", b"evil")]);
    bucket.write_to(&desk.beside("old"));
    let run = desk.ends(17, &import);
    for name in [&forged, &escaped, &damaged] {
        assert!(run.err.contains(name.as_str()), "{name}: {}", run.err);
    }
    assert!(run.err.contains("config/../../outside"), "{}", run.err);
    assert!(run.err.contains("--plain-manifests"), "{}", run.err);
    let document = desk.json_ends(17, &import);
    assert_eq!(results(&document), ["there", "damaged", "refused", "refused"]);
    assert_eq!(desk.snapshots().len(), 1);
    // the user's word takes the plain one, never the path
    let taken = [&import[..], &["--plain-manifests"]].concat();
    desk.ends(17, &taken);
    assert_eq!(desk.snapshots().len(), 2);
}

#[test]
fn the_old_passphrase_comes_from_a_file_a_command_or_a_variable_and_never_is_ours() {
    let mut bucket = encrypted();
    bucket.snapshot(FIRST, &FILES[..1]);
    let mut desk = desk(&bucket);
    let from = desk.beside("old").display().to_string();
    desk.fails(12, "wrong-key", &args(&from, &[]), &["--source-password-file"]);
    desk.set("AGENT_BACKUP_OTHER_PASSWORD", "wrong");
    desk.fails(12, "wrong-key", &args(&from, &[]), &["none of the manifests opens"]);
    desk.unset("AGENT_BACKUP_OTHER_PASSWORD");
    // a passphrase for our repository is not tried on theirs
    desk.set("B2_APPLICATION_KEY", "not it");
    desk.set("B2_KEY_ID", "id");
    desk.fails(12, "wrong-key", &args(&from, &[]), &["storage key"]);
    desk.unset("B2_APPLICATION_KEY");
    desk.unset("B2_KEY_ID");
    let command = format!("echo '{PASSPHRASE}'");
    let dry = args(&from, &["-n", "--source-password-command", &command]);
    assert!(desk.ok(&dry).text().contains("would be imported"));
    desk.set("AGENT_BACKUP_OTHER_PASSWORD", PASSPHRASE);
    let run = desk.ok(&args(&from, &[]));
    assert!(run.text().contains("imported as"), "{}", run.text());
}

#[test]
fn an_address_without_an_old_bucket_is_told_as_that() {
    let desk = desk(&encrypted());
    let from = desk.beside("tmp").display().to_string();
    desk.fails(10, "no-repository", &args(&from, &[]), &["agent-backup-core", "goose-backup"]);
    let from = desk.beside("nowhere").display().to_string();
    desk.fails(10, "no-repository", &args(&from, &[]), &["nowhere"]);
    desk.ends(2, &["import", "restic", "/srv"]);
}
