//! The guide, followed to the letter: the steps of `docs/guide.md` are cut out of its text and run by a
//! shell as they are. Only where Backblaze is says a variable: a server here, which has the bucket and the
//! key of the text. What is typed goes to standard input.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testkit::Server;
use testkit::server::Config;

use crate::agents::fixture;
use crate::desk::{BINARY, Desk, Ran, recovery_code};
use crate::state::files_with;

/// What the guide writes where its reader has a bucket and a key.
const BUCKET: &str = "my-bucket";
const KEY_ID: &str = "0040123456789ab0000000001";
const MARKER: &str = "[left out by agent-backup]";

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

/// Files of a list that a backup takes and such that hold a secret, below the home.
fn marked(list: &str, marks: &str) -> BTreeSet<PathBuf> {
    let mut dir = "";
    let mut out = BTreeSet::new();
    for line in list.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', ' '])) {
        if let Some(section) = line.strip_prefix('[') {
            dir = section.split_once("] ").unwrap().1;
        } else if !line.starts_with("env ")
            && let Some((mark, rel)) = line.split_once(' ')
            && marks.contains(mark)
        {
            out.insert(Path::new(dir).join(rel));
        }
    }
    out
}

/// A machine with every agent that there is a list of.
struct Machine {
    desk: Desk,
    variables: Vec<(String, String)>,
    taken: BTreeSet<PathBuf>,
}

impl Machine {
    fn with_every_agent() -> Self {
        let mut desk = Desk::new();
        let (mut variables, mut taken) = (Vec::new(), BTreeSet::new());
        let (mut own, mut rest) = (Vec::new(), Vec::new());
        for (id, list) in fixture::lists() {
            let home = desk.beside(&format!("home of {id}"));
            fs::create_dir(&home).unwrap();
            let old = home.to_str().unwrap().to_owned();
            for (name, value) in fixture::build(&id, &list, &home).env.vars {
                let value = value.to_str().unwrap().replace(&old, desk.home().to_str().unwrap());
                desk.set(&name, &value);
                variables.push((name, value));
            }
            let at = |file: PathBuf| (home.clone(), file);
            own.extend(marked(&list, "+FDR").into_iter().map(at));
            // one letter each: no log that SQLite could read
            let is_side = |file: &PathBuf| {
                let name = file.to_string_lossy();
                ["-wal", "-shm", "-journal"].iter().any(|side| name.ends_with(side))
            };
            rest.extend(marked(&list, "-S").into_iter().filter(|f| !is_side(f)).map(at));
        }
        taken.extend(own.iter().map(|(_, file)| file.clone()));
        // what one agent has in a directory of another gives way to what is that one's own
        for (from, file) in own.iter().chain(&rest) {
            let to = desk.home().join(file);
            if !to.exists() {
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::rename(from.join(file), to).unwrap();
            }
        }
        Self { desk, variables, taken }
    }

    /// An empty machine where the variables of the agents point to the same places of its home.
    fn empty_twin(&self) -> Desk {
        let mut twin = Desk::new();
        let (old, new) = (self.desk.home(), twin.home());
        for (name, value) in &self.variables {
            twin.set(name, &value.replace(old.to_str().unwrap(), new.to_str().unwrap()));
        }
        twin
    }

    /// Every file that a backup takes is on the other machine, equal or with markers; no secret is.
    fn is_back_on(&self, twin: &Desk) {
        for file in &self.taken {
            let (here, there) = (self.desk.home().join(file), twin.home().join(file));
            let bytes = fs::read(&there).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            if bytes.starts_with(b"SQLite format 3\0") {
                let db = rusqlite::Connection::open(&there).unwrap();
                let check: String =
                    db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
                assert_eq!(check, "ok", "{}", file.display());
            } else if bytes != fs::read(here).unwrap() {
                let text = String::from_utf8(bytes).unwrap();
                assert!(text.contains(MARKER), "{} is another file now", file.display());
            }
        }
        let planted = files_with(&self.desk.home(), b"CANARY-").len();
        assert!(planted > 40, "{planted}");
        assert_eq!(files_with(&twin.home(), b"CANARY-"), Vec::<PathBuf>::new());
    }
}

fn found(desk: &Desk) -> BTreeSet<String> {
    let document = desk.json(&["agents"]);
    let agents = document["agents"].as_array().unwrap().iter();
    agents.filter(|one| one["found"] == true).map(|one| one["id"].to_string()).collect()
}

#[test]
fn d8_the_guides_steps_for_a_new_machine_bring_back_every_agent() {
    let server = storage();
    let secret = server.config().secret.clone();
    let old = Machine::with_every_agent();
    let made = follow(&old.desk, &server, &steps("setup"), &format!("{secret}\n"));
    let code = recovery_code(&made);
    let pushed = follow(&old.desk, &server, &steps("push"), "");
    assert!(pushed.text().contains("snapshot "), "{}", pushed.text());

    // nothing but address, storage key and recovery code
    let new = old.empty_twin();
    let script = steps("new machine") + &steps("go on");
    let ran = follow(&new, &server, &script, &format!("{secret}\n{code}\n"));
    old.is_back_on(&new);
    assert_eq!(found(&old.desk), found(&new), "agents that are there");
    assert!(found(&new).len() > 35, "{:?}", found(&new));
    assert!(ran.err.contains("fill them in by hand"), "{}", ran.err);

    // the push from there made a snapshot that a third machine restores, with the new machine's own key
    // given back
    let third = old.empty_twin();
    follow(&third, &server, &steps("new machine"), &format!("{secret}\n{code}\n"));
    old.is_back_on(&third);
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
