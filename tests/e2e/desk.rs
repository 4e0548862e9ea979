//! A desk: a home directory with nothing around it, and the binary that is run there.
//!
//! In: arguments. Out: [`Ran`], what a shell would have seen. Invariant: no variable, terminal or
//! directory of whoever runs the tests reaches the binary.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_agent-backup");

/// A machine of one user.
#[derive(Debug)]
pub(crate) struct Desk {
    room: TempDir,
    variables: Vec<(String, String)>,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Exit code; `128 + n` where signal `n` ended it, as a shell says it.
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
    pub(crate) what: String,
}

impl Desk {
    /// An empty home, an empty place for temporary files.
    pub(crate) fn new() -> Self {
        let room = tempfile::Builder::new().prefix("e2e-").tempdir().unwrap();
        let desk = Self { room, variables: Vec::new() };
        fs::create_dir(desk.home()).unwrap();
        fs::create_dir(desk.tmp()).unwrap();
        desk
    }

    /// Sets a variable for all runs from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.unset(name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// The variable is not set any more.
    pub(crate) fn unset(&mut self, name: &str) {
        self.variables.retain(|(known, _)| known != name);
    }

    /// The home directory.
    pub(crate) fn home(&self) -> PathBuf {
        self.room.path().join("home")
    }

    /// `TMPDIR`.
    pub(crate) fn tmp(&self) -> PathBuf {
        self.room.path().join("tmp")
    }

    /// A place beside the home.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    /// The repository that `push` makes where none is named.
    pub(crate) fn embedded(&self) -> PathBuf {
        self.home().join(".local/share/agent-backup/repository")
    }

    /// State directory of the only repository this desk knows.
    pub(crate) fn repo_state(&self) -> PathBuf {
        let repos = self.home().join(".local/state/agent-backup/repos");
        let mut dirs: Vec<PathBuf> =
            fs::read_dir(repos).unwrap().map(|d| d.unwrap().path()).collect();
        assert_eq!(dirs.len(), 1, "one repository: {dirs:?}");
        dirs.remove(0)
    }

    /// The command, ready to be run.
    pub(crate) fn command<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args).current_dir(self.room.path()).stdin(Stdio::null());
        self.surround(&mut command);
        command
    }

    /// The environment of a run, for any program.
    pub(crate) fn surround(&self, command: &mut Command) {
        command.env_clear().env("HOME", self.home()).env("TMPDIR", self.tmp());
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }

    /// Runs and waits.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let output = self.command(args.iter().copied()).output().unwrap();
        Ran::new(output, format!("agent-backup {}", args.join(" ")))
    }

    /// Starts; standard output and error are kept for [`end`].
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        let mut command = self.command(args.iter().copied());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs; it must succeed.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> Ran {
        self.ends(0, args)
    }

    /// Runs; it must end with this code.
    #[track_caller]
    pub(crate) fn ends(&self, code: i32, args: &[&str]) -> Ran {
        let ran = self.run(args);
        ran.ended(code);
        ran
    }

    /// Runs with `--json`: one document, and silence beside it.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        self.json_ends(0, args)
    }

    /// The same, ending with this code.
    #[track_caller]
    pub(crate) fn json_ends(&self, code: i32, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.push("--json");
        let ran = self.ends(code, &args);
        ran.document()
    }

    /// A failure, told both ways: code and name, at most three lines, `words` in them, something to
    /// do. `words` must stand in the document too, as far as it repeats them.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, name: &str, args: &[&str], words: &[&str]) -> Ran {
        let ran = self.ends(code, args);
        ran.is_an_error(code, name, words);
        let document = self.json_ends(code, args);
        let error = &document["error"];
        assert_eq!(error["code"], code, "{document}");
        assert_eq!(error["name"], name, "{document}");
        let told: String = ["message", "repository", "hint"]
            .iter()
            .filter_map(|key| error[key].as_str())
            .collect();
        for word in words {
            assert!(told.contains(word), "no '{word}' in {document}");
        }
        ran
    }

    /// Ids of all snapshots, oldest first.
    #[track_caller]
    pub(crate) fn snapshots(&self) -> Vec<String> {
        let document = self.json(&["snapshots"]);
        let all = document["snapshots"].as_array().unwrap();
        all.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Restores a snapshot into a new directory beside the home.
    #[track_caller]
    pub(crate) fn pull(&self, snapshot: &str, name: &str) -> PathBuf {
        let to = self.beside(name);
        self.ok(&["pull", snapshot, "--to", to.to_str().unwrap()]);
        to
    }
}

/// Waits for a run that was started.
pub(crate) fn end(child: Child) -> Ran {
    Ran::new(child.wait_with_output().unwrap(), "the run".to_owned())
}

impl Ran {
    pub(crate) fn new(output: Output, what: String) -> Self {
        let code = output.status.code();
        let code = code.or_else(|| output.status.signal().map(|number| 128 + number)).unwrap();
        let err = String::from_utf8(output.stderr).expect("messages are UTF-8");
        Self { code, out: output.stdout, err, what }
    }

    /// Standard output as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("results are UTF-8")
    }

    #[track_caller]
    pub(crate) fn ended(&self, code: i32) {
        assert_eq!(
            self.code,
            code,
            "{}\n--- out\n{}\n--- err\n{}",
            self.what,
            String::from_utf8_lossy(&self.out),
            self.err
        );
    }

    /// The document of a run with `--json`.
    #[track_caller]
    pub(crate) fn document(&self) -> Value {
        assert_eq!(self.err, "", "{}: --json and words on standard error", self.what);
        let text = self.text();
        assert_eq!(text.lines().count(), 1, "{}: not one document: {text}", self.what);
        let document: Value = serde_json::from_str(text).unwrap();
        assert_eq!(document["v"], 1, "{}: {text}", self.what);
        document
    }

    /// Three lines at most: what, where with the code, what to do.
    #[track_caller]
    pub(crate) fn is_an_error(&self, code: i32, name: &str, words: &[&str]) {
        let lines: Vec<&str> = self.err.lines().collect();
        assert!(
            (2..=3).contains(&lines.len()),
            "{}: three lines at most:\n{}",
            self.what,
            self.err
        );
        assert!(lines[0].starts_with("agent-backup: "), "{}", self.err);
        assert!(lines[1].ends_with(&format!("code: {code} {name}")), "{}", self.err);
        if let Some(hint) = lines.get(2) {
            assert!(hint.starts_with("  try: ") && hint.len() > 10, "{}", self.err);
        }
        for word in words {
            assert!(self.err.contains(word), "no '{word}' in:\n{}", self.err);
        }
    }
}

/// The recovery code on the screen of the run that made it, once.
#[track_caller]
pub(crate) fn recovery_code(ran: &Ran) -> String {
    let text = ran.text();
    let after: Vec<&str> = text.split("RECOVERY CODE").collect();
    assert_eq!(after.len(), 2, "one recovery code:\n{text}");
    let code = after[1].lines().map(str::trim).skip(1).find(|line| !line.is_empty()).unwrap();
    assert!(code.len() > 20 && !code.contains(' '), "no code: {code}");
    code.to_owned()
}

/// A file that only its owner can read.
pub(crate) fn private_file(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
