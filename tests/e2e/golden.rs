//! Repositories of the past, kept in `testdata` for ever: what an old version wrote, this one reads.
//!
//! They are made by `testdata/make.py`, once for each version of the format, and never written again.
//! Beside each lies what it must restore to, and what opens it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use testkit::Tree;
use testkit::tree::{Entry, Kind};

use crate::desk::Desk;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(name)
}

/// Copies a directory: a test writes to a copy only.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A name in ASCII, as `make.py` writes it.
fn shown(name: &Path) -> String {
    name.as_os_str().as_bytes().iter().fold(String::new(), |mut out, byte| {
        match byte {
            b' '..=b'~' if *byte != b'\\' => out.push(char::from(*byte)),
            _ => write!(out, "\\x{byte:02x}").unwrap(),
        }
        out
    })
}

/// An entry in one line, as `make.py` writes it.
fn line(entry: &Entry) -> String {
    let (secs, nanos) = entry.time;
    let what = match &entry.kind {
        Kind::Folder => "dir".to_owned(),
        Kind::Link(target) => return format!("link {secs}.{nanos:09} {}", shown(target)),
        Kind::Special(what) => (*what).to_owned(),
        Kind::File { len, sha256, same_as } => {
            let same = same_as.as_ref().map(|path| format!(" = {}", shown(path)));
            format!("file {len} {}{}", HEXLOWER.encode(sha256), same.unwrap_or_default())
        }
    };
    format!("{:04o} {secs}.{nanos:09} {what}", entry.mode)
}

fn manifest(tree: &Tree) -> BTreeMap<String, String> {
    tree.entries.iter().map(|(path, entry)| (shown(path), line(entry))).collect()
}

fn read_manifest(path: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path).unwrap();
    let split = |line: &str| line.split_once('\t').map(|(a, b)| (a.to_owned(), b.to_owned()));
    text.lines().map(|line| split(line).unwrap()).collect()
}

#[test]
fn a_repository_of_version_1_restores_and_goes_on() {
    let from = testdata("repo-v1");
    let secrets = fs::read_to_string(from.join("secrets.txt")).unwrap();
    let secret = |name: &str| {
        secrets.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
    };
    let mut desk = Desk::new();
    let repo = desk.beside("repo");
    copy(&from.join("repository"), &repo);
    desk.set("AGENT_BACKUP_REPO", repo.to_str().unwrap());
    desk.set("AGENT_BACKUP_PASSWORD", &secret("passphrase:"));
    let snapshots = desk.snapshots();
    assert_eq!(snapshots.len(), 2);
    for (n, id) in snapshots.iter().enumerate() {
        desk.set("AGENT_BACKUP_PASSWORD", &secret(["passphrase:", "recovery code:"][n]));
        let to = desk.pull(id, &format!("out-{n}"));
        let expected = read_manifest(&from.join(format!("manifest-{}.txt", n + 1)));
        assert!(expected.len() > 15, "{expected:?}");
        assert_eq!(manifest(&Tree::read(&to.join("data")).unwrap()), expected, "snapshot {id}");
    }

    // it is no museum piece: a push from a new machine goes on from it
    let path = format!("data={}", desk.beside("out-1/data").display());
    let pushed = desk.json(&["push", "--path", &path]);
    let new = pushed["stats"]["bytes_new"].as_u64().unwrap();
    assert_eq!(pushed["result"], "made");
    // a file that grew is cut anew where it grew: one chunk
    assert!(new < 20_000, "nearly all of it is known: {pushed}");
    let again = desk.pull("latest", "again");
    testkit::tree::assert_same(&desk.beside("out-1"), &again);
    assert_eq!(desk.snapshots().len(), 3);
}
