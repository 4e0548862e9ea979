//! `verify` and `repair` as a user meets them: damage has code 4 and names files, and live files, a mirror
//! or an accepted loss make the repository whole again.

use std::fs;
use std::path::{Path, PathBuf};

use testkit::Tree;
use testkit::tree::assert_equal;

use crate::desk::{Desk, recovery_code};
use crate::state::Random;

/// A repository in a directory with one snapshot of a few files.
fn stored() -> (Desk, PathBuf, PathBuf) {
    let mut desk = Desk::new();
    let repo = desk.beside("repo");
    desk.set("AGENT_BACKUP_REPO", repo.to_str().unwrap());
    recovery_code(&desk.ok(&["init", "--no-passphrase"]));
    let source = desk.beside("src");
    fs::create_dir_all(source.join("deep")).unwrap();
    fs::write(source.join("a.txt"), "first").unwrap();
    fs::write(source.join("deep/log.jsonl"), "{\"a\":1}\n{\"b\":2}\n").unwrap();
    fs::write(source.join("large"), Random(3).bytes(9_000_000)).unwrap();
    desk.ok(&["push", "--path", source.to_str().unwrap()]);
    (desk, repo, source)
}

#[test]
fn a_second_copy_is_not_where_pushes_go_from_then_on() {
    let desk = Desk::new();
    let (source, mirror) = (desk.beside("src"), desk.beside("mirror"));
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("a.txt"), "first").unwrap();
    desk.ok(&["push", "--path", source.to_str().unwrap()]);
    let (here, there) = (desk.embedded(), mirror.to_str().unwrap());
    desk.ok(&["-r", there, "init", "--no-passphrase", "--like", here.to_str().unwrap()]);
    desk.ok(&["copy", "--to", there]);
    fs::write(source.join("a.txt"), "second").unwrap();
    desk.ok(&["push", "--path", source.to_str().unwrap()]);
    for (repo, snapshots) in [(&here, 2), (&mirror, 1)] {
        let listed = desk.json(&["-r", repo.to_str().unwrap(), "snapshots"]);
        assert_eq!(listed["snapshots"].as_array().unwrap().len(), snapshots, "{listed}");
    }
}

#[test]
fn a_second_repository_says_that_pushes_go_there_now() {
    let desk = Desk::new();
    let source = desk.beside("src");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("a.txt"), "first").unwrap();
    desk.ok(&["push", "--path", source.to_str().unwrap()]);
    let there = desk.beside("other");
    let there = there.to_str().unwrap();
    let ran = desk.ok(&["-r", there, "init", "--no-passphrase"]);
    let words = format!("and no longer to {}", desk.embedded().display());
    assert!(ran.err.contains("pushes go to") && ran.err.contains(&words), "{}", ran.err);
    fs::write(source.join("a.txt"), "second").unwrap();
    desk.ok(&["push", "--path", source.to_str().unwrap()]);
    assert_eq!(desk.snapshots().len(), 1);
    let listed = desk.json(&["-r", there, "snapshots"]);
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 1, "{listed}");
}

#[test]
fn a_cut_snapshot_is_named_beside_the_others_and_each_of_these_restores() {
    let (desk, repo, source) = stored();
    fs::write(source.join("a.txt"), "second needle").unwrap();
    desk.ok(&["push", "--path", source.to_str().unwrap()]);
    let ids = desk.snapshots();
    let object = fs::read_dir(repo.join("snap")).unwrap().map(|entry| entry.unwrap().path());
    let path = object.into_iter().find(|path| path.to_str().unwrap().contains(&ids[0])).unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    // as a machine that has no cache sees it
    let (short, other) = (&ids[0][..12], &ids[1][..12]);
    let ran = desk.ends(4, &["--no-cache", "snapshots"]);
    assert!(ran.err.contains(&format!("snapshot {short} is passed over")), "{}", ran.err);
    assert!(ran.text().contains(other), "{}", ran.text());
    let listed = desk.json_ends(4, &["--no-cache", "snapshots"]);
    assert_eq!(listed["damaged_snapshots"][0]["id"], ids[0], "{listed}");
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 1, "{listed}");
    let to = desk.beside("back");
    let to = to.to_str().unwrap();
    let words = [other, "it may be the snapshot that is asked for", "agent-backup snapshots"];
    desk.fails(4, "damage-found", &["--no-cache", "pull", "--to", to], &words);
    desk.ok(&["--no-cache", "pull", other, "--to", to]);
    assert_eq!(fs::read_to_string(desk.beside("back/src/a.txt")).unwrap(), "second needle");
    let ran = desk.ends(4, &["--no-cache", "grep", "needle"]);
    assert!(ran.text().contains("a.txt:1: second needle"), "{}", ran.text());
    for args in [&["find", "a.txt"][..], &["sessions"], &["stats"]] {
        let ran = desk.ends(4, &[&["--no-cache"], args].concat());
        assert!(ran.err.contains(short), "{args:?}: {}", ran.err);
    }
    desk.fails(4, "damage-found", &["--no-cache", "forget", short], &["repair --accept-loss"]);
    // where nobody has it, the rest of a repair is done all the same
    let left = desk.json_ends(4, &["--no-cache", "repair", "--from-source"]);
    assert_eq!(left["after"]["damaged"], true, "{left}");
    // this machine remembers it
    desk.ok(&["snapshots"]);
    let ran = desk.ok(&["repair", "--from-source"]);
    assert!(ran.text().contains(&format!("snapshot {short} opens again")), "{}", ran.text());
    desk.ok(&["--no-cache", "snapshots"]);
}

/// Changes bytes in the middle of every pack: of data, as most is data.
fn spoil(repo: &Path) {
    for entry in fs::read_dir(repo.join("packs")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 3;
        bytes[middle] ^= 0xff;
        fs::write(&path, bytes).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

#[test]
fn damage_has_code_4_names_the_file_and_heals_from_the_live_one() {
    let (desk, repo, source) = stored();
    for level in ["structure", "metadata", "sample", "all", "rehearsal"] {
        let ran = desk.ok(&["verify", "--level", level]);
        let told = ran.text();
        assert!(told.contains("no damage found") || level == "rehearsal", "{told}");
        assert_eq!(desk.json(&["check", "--level", level])["damaged"], false);
    }
    spoil(&repo);
    let ran = desk.ends(4, &["verify", "--read-data"]);
    assert!(ran.text().contains("damaged: packs/"), "{}", ran.text());
    assert!(ran.text().contains("src/large"), "{}", ran.text());
    assert!(ran.text().contains("quarantined: packs/"), "{}", ran.text());
    assert!(ran.err.contains("(code 4)") && ran.err.contains("repair"), "{}", ran.err);
    let document = desk.json_ends(4, &["verify", "--read-data"]);
    let touched = document["touched"].as_array().unwrap();
    assert!(touched.iter().any(|one| one["path"] == "src/large"), "{document}");
    assert_eq!(document["findings"][0]["harm"], "files", "{document}");
    desk.ends(4, &["verify", "--level", "rehearsal"]);
    let old = desk.snapshots().remove(0);
    let ran = desk.ok(&["repair", "--from-source"]);
    assert!(ran.text().contains("whole again"), "{}", ran.text());
    desk.ok(&["verify", "--read-data"]);
    let to = desk.pull(&old, "old");
    assert_equal(&Tree::read(&source).unwrap(), &Tree::read(&to.join("src")).unwrap());
    assert!(desk.ok(&["repair", "--from-source"]).text().contains("nothing"));
    let left: Vec<_> = fs::read_dir(desk.tmp()).unwrap().collect();
    assert!(left.is_empty(), "left in TMPDIR: {left:?}");
}

#[test]
fn a_repair_ends_what_status_tells_of_damage() {
    let (desk, repo, _source) = stored();
    desk.ok(&["status"]);
    spoil(&repo);
    desk.ends(4, &["verify", "--read-data"]);
    desk.ends(4, &["status"]);
    desk.ok(&["repair", "--from-source"]);
    desk.ok(&["status"]);
    fs::remove_dir_all(repo.join("index")).unwrap();
    desk.ends(4, &["verify", "--level", "metadata", "--no-cache"]);
    desk.ends(4, &["status"]);
    desk.ok(&["repair", "index"]);
    desk.ok(&["status"]);
    // an index is no data: what is damaged stays told
    let (desk, repo, _source) = stored();
    spoil(&repo);
    desk.ends(4, &["verify", "--read-data"]);
    fs::remove_dir_all(repo.join("index")).unwrap();
    assert!(desk.ends(4, &["repair", "index"]).text().contains("cannot be restored"));
    desk.ends(4, &["status"]);
}

#[test]
fn an_index_that_is_gone_is_made_anew() {
    let (desk, repo, source) = stored();
    fs::remove_dir_all(repo.join("index")).unwrap();
    desk.ends(4, &["verify", "--level", "metadata", "--no-cache"]);
    let document = desk.json(&["repair", "index"]);
    assert!(document["index"]["rebuilt"].as_u64().unwrap() >= 1, "{document}");
    assert_eq!(document["after"]["damaged"], false, "{document}");
    desk.ok(&["verify", "--level", "all"]);
    let to = desk.pull("latest", "out");
    assert_equal(&Tree::read(&source).unwrap(), &Tree::read(&to.join("src")).unwrap());
    fs::write(source.join("more"), "more").unwrap();
    desk.ok(&["push", "--path", source.to_str().unwrap()]);
}

#[test]
fn a_mirror_gives_back_what_the_live_files_cannot() {
    let (desk, repo, source) = stored();
    let mirror = desk.beside("mirror");
    copy(&repo, &mirror);
    let before = Tree::read(&source).unwrap();
    fs::remove_dir_all(&source).unwrap();
    spoil(&repo);
    desk.ends(4, &["verify", "--read-data"]);
    let ran = desk.ends(4, &["repair", "--from-source"]);
    assert!(ran.text().contains("src/large"), "what is left is named: {}", ran.text());
    desk.ok(&["repair", "--from", mirror.to_str().unwrap()]);
    desk.ok(&["verify", "--read-data"]);
    let to = desk.pull("latest", "out");
    assert_equal(&before, &Tree::read(&to.join("src")).unwrap());
    desk.fails(2, "usage", &["repair", "--from", repo.to_str().unwrap()], &["itself"]);
    desk.fails(2, "usage", &["repair"], &[]);
    desk.fails(2, "usage", &["verify", "--read-data", "--level", "all"], &["--level"]);
}

#[test]
fn a_loss_is_accepted_only_where_somebody_says_so() {
    let (desk, repo, source) = stored();
    fs::remove_dir_all(&source).unwrap();
    spoil(&repo);
    desk.ends(4, &["verify", "--read-data"]);
    let ran = desk.ok(&["repair", "--accept-loss"]);
    assert!(ran.text().contains("src/large"), "{}", ran.text());
    desk.ok(&["verify", "--read-data"]);
    let to = desk.pull("latest", "out");
    // what is not named is there
    let named = ran.text().contains("src/a.txt");
    assert_eq!(fs::read(to.join("src/a.txt")).is_ok_and(|text| text == b"first"), !named);
    assert!(!to.join("src/large").exists());
}

#[test]
fn a_copy_elsewhere_has_every_snapshot_and_mends_the_first_repository() {
    let (desk, repo, source) = stored();
    fs::write(source.join("a.txt"), "second").unwrap();
    desk.ok(&["push", "--path", source.to_str().unwrap()]);
    let mirror = desk.beside("mirror");
    let (here, there) = (repo.to_str().unwrap(), mirror.to_str().unwrap());
    let made = desk.ok(&["-r", there, "init", "--no-passphrase", "--like", here]);
    recovery_code(&made);
    let copied = desk.json(&["copy", "--to", there]);
    assert_eq!(copied["snapshots"].as_array().unwrap().len(), 2, "{copied}");
    let again = desk.json(&["copy", "--to", there]);
    assert!(again["snapshots"].as_array().unwrap().iter().all(|one| one["was_there"] == true));
    let out = desk.beside("out");
    desk.ok(&["-r", there, "pull", "--to", out.to_str().unwrap()]);
    assert_equal(&Tree::read(&source).unwrap(), &Tree::read(&out.join("src")).unwrap());
    spoil(&repo);
    desk.ends(4, &["verify", "--read-data"]);
    desk.ok(&["repair", "--from", there]);
    assert!(desk.ok(&["verify", "--read-data"]).text().contains("no damage found"));
    desk.ends(2, &["copy", "--to", here]);
}
