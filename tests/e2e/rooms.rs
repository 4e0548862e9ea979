//! Disks of a chosen size: a small tmpfs in a mount namespace of its own, and what a full disk
//! does to a push and a pull.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testkit::tree::assert_same;

use crate::desk::{BINARY, Desk, Ran, recovery_code};
use crate::state::Random;

/// Begins every script: a disk with 3 MB free at `room`, more without `room/filler`, and `run NAME
/// ARGUMENTS` for the binary.
const PRELUDE: &str = r#"
set -eu
mkdir room notes
mount -t tmpfs -o size=32m none room
head -c 29M /dev/zero >room/filler
run() {
    name=$1; shift
    code=0; "$BINARY" "$@" >"notes/$name.out" 2>"notes/$name.err" || code=$?
    echo "$code" >"notes/$name.code"
}
"#;

/// How to get a mount namespace here: as root, else as root of a user namespace.
fn namespace() -> Option<Vec<&'static str>> {
    [vec!["unshare", "-m"], vec!["unshare", "-r", "-m"]].into_iter().find(|way| {
        let mut probe = Command::new(way[0]);
        probe.args(&way[1..]).args(["sh", "-c", "mount -t tmpfs -o size=1m none /mnt"]);
        let probe = probe.stdout(Stdio::null()).stderr(Stdio::null()).status();
        probe.is_ok_and(|status| status.success())
    })
}

/// Runs a script beside the desk's home; false if this machine lets nobody mount.
fn in_a_room(desk: &Desk, script: &str) -> bool {
    let Some(way) = namespace() else {
        // not println: that is shown for failed tests alone
        let told =
            writeln!(std::io::stderr(), "SKIPPED: full disks: nobody here may mount a tmpfs");
        told.unwrap();
        return false;
    };
    let mut shell = Command::new(way[0]);
    desk.surround(&mut shell);
    shell.args(&way[1..]).args(["sh", "-c", &format!("{PRELUDE}{script}")]);
    shell.env("BINARY", BINARY).current_dir(desk.beside(""));
    let output = shell.stdin(Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the script failed: {told}");
    true
}

/// What `run NAME` saw.
fn seen(desk: &Desk, name: &str) -> Ran {
    let note = |what: &str| fs::read(desk.beside(&format!("notes/{name}.{what}"))).unwrap();
    let code = String::from_utf8(note("code")).unwrap().trim().parse().unwrap();
    let err = String::from_utf8(note("err")).unwrap();
    Ran { code, out: note("out"), err, what: name.to_owned() }
}

/// A source with something small, and something that is larger than the room beside it.
fn source(desk: &Desk) -> PathBuf {
    let source = desk.beside("src");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("small"), Random(1).transcript(20_000)).unwrap();
    fs::write(desk.beside("big"), Random(2).bytes(8 << 20)).unwrap();
    source
}

fn told_of_a_full_disk(desk: &Desk, names: [&str; 2]) {
    let [plain, json] = names.map(|name| seen(desk, name));
    plain.ended(18);
    plain.is_an_error(18, "local-disk", &["No space left", "free some space"]);
    json.ended(18);
    let document = json.document();
    assert_eq!(document["error"]["code"], 18, "{document}");
    assert!(document["error"]["hint"].as_str().unwrap().contains("free some space"), "{document}");
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn a_push_to_a_full_disk_says_so_and_loses_nothing() {
    let desk = Desk::new();
    let source = source(&desk);
    let script = r"
        run init init -r room/repo --no-passphrase
        run first push --path src=src
        cp -a src before
        mv big src/big
        run full push --path src=src
        run full-json push --path src=src --json
        find room/repo/.tmp -type f >notes/left
        run look pull --to out-1
        rm room/filler
        run after push --path src=src
        run all pull --to out-2
        run old pull latest~1 --to out-3
    ";
    if !in_a_room(&desk, script) {
        return;
    }
    recovery_code(&seen(&desk, "init"));
    for name in ["first", "look", "after", "all", "old"] {
        seen(&desk, name).ended(0);
    }
    told_of_a_full_disk(&desk, ["full", "full-json"]);
    assert_eq!(fs::read_to_string(desk.beside("notes/left")).unwrap(), "", "half-written objects");
    assert_same(&desk.beside("before"), &desk.beside("out-1/src"));
    assert_same(&source, &desk.beside("out-2/src"));
    assert_same(&desk.beside("before"), &desk.beside("out-3/src"));
    assert!(is_empty(&desk.tmp()));
}

#[test]
fn a_pull_to_a_full_disk_says_so_and_can_go_on_later() {
    let desk = Desk::new();
    let source = source(&desk);
    let script = r"
        mv big src/big
        run init init -r repo --no-passphrase
        run first push --path src=src
        run full pull --to room/out
        run full-json pull --to room/out --json
        find room/out -name '.agent-backup-tmp-*' >notes/left
        find room/out -name big >>notes/left
        rm room/filler
        run after pull --to room/out
        cp -a room/out out
        run again push --path src=src
    ";
    if !in_a_room(&desk, script) {
        return;
    }
    for name in ["init", "first", "after", "again"] {
        seen(&desk, name).ended(0);
    }
    told_of_a_full_disk(&desk, ["full", "full-json"]);
    let left = fs::read_to_string(desk.beside("notes/left")).unwrap();
    assert_eq!(left, "", "a file that is not whole stayed");
    assert_same(&source, &desk.beside("out/src"));
    assert!(seen(&desk, "again").text().contains("nothing changed"));
}
