//! The guide, followed to the letter: the steps of `docs/guide.md` are cut out of its text and run by a
//! shell as they are. Only where Backblaze is says a variable: a server here, which has the bucket and the
//! key of the text. What is typed goes to standard input.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testkit::Server;
use testkit::server::Config;

use crate::desk::{BINARY, Desk, Ran, recovery_code};

/// What the guide writes where its reader has a bucket and a key.
const BUCKET: &str = "my-bucket";
const KEY_ID: &str = "0040123456789ab0000000001";

fn repository_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The block of the guide that follows this mark.
fn steps(name: &str) -> String {
    let guide = fs::read_to_string(repository_root().join("docs/guide.md")).unwrap();
    let mark = format!("<!-- tested: {name}");
    let parts: Vec<&str> = guide.split(&mark).collect();
    assert_eq!(parts.len(), 2, "docs/guide.md has no single block '{name}'");
    let (comment, rest) = parts[1].split_once("-->\n```sh\n").expect("a block follows the mark");
    assert!(!comment.contains('\n'));
    rest.split_once("```").unwrap().0.to_owned()
}

/// The storage of the guide.
fn storage() -> Server {
    let (bucket, key_id) = (BUCKET.to_owned(), KEY_ID.to_owned());
    Server::start(Config { bucket, key_id, ..Config::default() }).unwrap()
}

/// Follows steps as its reader does, typing `typed`.
fn follow(desk: &Desk, server: &Server, steps: &str, typed: &str) -> Ran {
    let mut shell = Command::new("sh");
    desk.surround(&mut shell);
    let bin = desk.beside("bin");
    if !bin.exists() {
        fs::create_dir(&bin).unwrap();
        symlink(BINARY, bin.join("agent-backup")).unwrap();
    }
    shell.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()));
    shell.env("AGENT_BACKUP_ENDPOINT", server.url());
    shell.args(["-eu", "-c", steps]).current_dir(desk.home());
    let mut child =
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let ran = Ran::new(child.wait_with_output().unwrap(), steps.to_owned());
    ran.ended(0);
    ran
}

#[test]
fn d8_a_restore_needs_no_directory_of_an_agent() {
    let server = storage();
    let secret = server.config().secret.clone();
    let old = Desk::new();
    drop(crate::state::agents(&old.home()));
    let made = follow(&old, &server, &steps("setup"), &format!("{secret}\n"));
    follow(&old, &server, &steps("push"), "");
    let new = Desk::new();
    let typed = format!("{secret}\n{}\n", recovery_code(&made));
    follow(&new, &server, &(steps("new machine") + &steps("go on")), &typed);
    let (expected, there) =
        (crate::state::expected(&old.home()), crate::state::expected(&new.home()));
    testkit::tree::assert_equal(&expected, &there);
    let rows = |desk: &Desk| {
        let db = rusqlite::Connection::open(desk.home().join(crate::state::DATABASE)).unwrap();
        crate::state::rows(&db)
    };
    assert_eq!(rows(&old), rows(&new));
}
