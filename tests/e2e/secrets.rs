//! Canaries: the passphrase, the storage key, the recovery code, the machine's secret and the content of
//! files appear nowhere but where they belong.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use data_encoding::HEXLOWER;
use store::{Address, Credentials, Options, Secret};
use testkit::Server;
use testkit::server::{Config, Fault};

use crate::desk::{Desk, Ran, private_file, recovery_code};
use crate::gate::point_to;
use crate::state::{contains, files_with};

const PASSPHRASE: &str = "canary-passphrase-zQ7 vu\u{e9}";
const STORAGE_SECRET: &str = "K004canaryStorageSecret8Wn2";
const CONTENT: &str = "canary-content-p3Lx";

/// Things that must not be seen, each with a name.
#[derive(Default)]
struct Canaries(Vec<(&'static str, Vec<u8>)>);

impl Canaries {
    fn add(&mut self, name: &'static str, secret: impl Into<Vec<u8>>) {
        self.0.push((name, secret.into()));
    }

    fn add_code(&mut self, code: &str) {
        self.add("recovery code", code);
        self.add("recovery code in one piece", code.replace('-', ""));
    }

    /// The secret of this machine's key, as it stands in its file and as bytes.
    fn add_machine(&mut self, desk: &Desk) {
        let path = desk.repo_state().join("machine.key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(path).unwrap();
        let hex = text.lines().find_map(|line| line.strip_prefix("secret ")).unwrap();
        self.add("machine secret", hex);
        self.add("machine secret, raw", HEXLOWER.decode(hex.as_bytes()).unwrap());
    }

    #[track_caller]
    fn not_in(&self, bytes: &[u8], place: &str) {
        for (name, secret) in &self.0 {
            assert!(!contains(bytes, secret), "the {name} stands in {place}");
        }
    }

    /// In no file below `dir`, the machine's key file and those of `known` aside.
    #[track_caller]
    fn not_below(&self, dir: &Path, known: &[&Path]) {
        for (name, secret) in &self.0 {
            let mut found = files_with(dir, secret);
            let own = |path: &Path| path.ends_with("machine.key") && name.starts_with("machine");
            found.retain(|path| !own(path) && !known.iter().any(|one| path.starts_with(one)));
            assert!(found.is_empty(), "the {name} stands in {found:?}");
        }
    }
}

fn source(desk: &Desk) -> String {
    let dir = desk.beside("src");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("small"), CONTENT).unwrap();
    fs::write(dir.join("large"), format!("{CONTENT}\n").repeat(40_000)).unwrap();
    format!("src={}", dir.display())
}

#[test]
fn a_directory_and_everything_we_keep_here_hold_no_secret() {
    let mut desk = Desk::new();
    let path = source(&desk);
    let repo = desk.beside("repo");
    desk.set("AGENT_BACKUP_REPO", repo.to_str().unwrap());
    desk.set("AGENT_BACKUP_PASSWORD", PASSPHRASE);
    let mut canaries = Canaries::default();
    canaries.add_code(&recovery_code(&desk.ok(&["init"])));
    canaries.add_machine(&desk);
    canaries.add("passphrase", PASSPHRASE);
    canaries.add("content", CONTENT);
    desk.ok(&["push", "--path", &path]);
    desk.unset("AGENT_BACKUP_PASSWORD");
    desk.ok(&["push", "--path", &path, "--always"]);
    desk.pull("latest", "out");
    for dir in [desk.home(), desk.tmp(), repo] {
        canaries.not_below(&dir, &[]);
    }
    // the directory tells nobody else even the sizes
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&desk.beside("repo")), 0o700);
    assert_eq!(mode(&desk.repo_state()), 0o700);
}

/// A bucket whose secret is a canary, with a repository in it.
struct Bucket {
    server: Server,
    desk: Desk,
    canaries: Canaries,
    path: String,
    seen: Vec<(String, Vec<u8>)>,
}

impl Bucket {
    fn new() -> Self {
        let secret = STORAGE_SECRET.to_owned();
        let server = Server::start(Config { secret, ..Config::default() }).unwrap();
        let mut desk = Desk::new();
        point_to(&mut desk, &server);
        desk.set("AGENT_BACKUP_RETRY", "0");
        desk.set("RUST_LOG", "trace");
        desk.set("RUST_BACKTRACE", "full");
        private_file(&desk.beside("pass"), PASSPHRASE);
        let path = source(&desk);
        let mut bucket =
            Self { server, desk, canaries: Canaries::default(), path, seen: Vec::new() };
        let command = bucket.command();
        let init = bucket.desk.ok(&["init", "-vvv", "--password-command", &command]);
        bucket.canaries.add_code(&recovery_code(&init));
        bucket.canaries.add_machine(&bucket.desk);
        bucket.canaries.add("passphrase", PASSPHRASE);
        bucket.canaries.add("storage key", STORAGE_SECRET);
        bucket.canaries.add("content", CONTENT);
        bucket.seen.push(("init".to_owned(), init.err.into_bytes()));
        bucket
    }

    /// Prints the passphrase, and takes down what it was given.
    fn command(&self) -> String {
        let [pass, env] = ["pass", "env-seen"].map(|name| self.desk.beside(name));
        format!("env >'{}'; cat '{}'", env.display(), pass.display())
    }

    fn keep(&mut self, what: &str, ran: Ran) {
        self.seen.push((format!("{what} (error)"), ran.err.into_bytes()));
        self.seen.push((format!("{what} (output)"), ran.out));
    }

    fn look(&mut self, code: i32, args: &[&str]) {
        let mut args = args.to_vec();
        args.push("-vvv");
        let ran = self.desk.ends(code, &args);
        self.keep(&args.join(" "), ran);
    }
}

#[test]
fn no_log_no_message_and_no_request_holds_a_secret() {
    let mut bucket = Bucket::new();
    let path = bucket.path.clone();
    let command = bucket.command();
    bucket.look(0, &["push", "--path", &path]);
    bucket.look(0, &["push", "--path", &path, "--always", "--password-command", &command]);
    bucket.look(0, &["snapshots", "--json"]);
    bucket.look(0, &["ls", "-R", "-l"]);
    bucket.look(0, &["stats"]);
    bucket.look(0, &["key", "list"]);
    let to = bucket.desk.beside("out");
    bucket.look(0, &["pull", "--to", to.to_str().unwrap(), "--verify"]);
    let logged: usize = bucket.seen.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(logged > 2_000, "nothing was logged: {logged} bytes");

    // every way to be refused
    for (fault, code) in [
        (Fault::BadKey, 13),
        (Fault::NoCapability, 13),
        (Fault::CapExceeded, 14),
        (Fault::SlowDown(None), 15),
        (Fault::Portal, 15),
        (Fault::Close, 15),
    ] {
        bucket.server.on(move |_| Some(fault.clone()));
        bucket.look(code, &["push", "--path", &path, "--always"]);
        bucket.look(code, &["snapshots", "--json"]);
    }
    bucket.server.heal();
    // the wrong secret in the wrong place
    bucket.desk.set("AGENT_BACKUP_PASSWORD", STORAGE_SECRET);
    bucket.look(12, &["snapshots"]);
    bucket.desk.unset("AGENT_BACKUP_PASSWORD");
    bucket.desk.set("AGENT_BACKUP_REPO", &format!("https://id:{STORAGE_SECRET}@host/bucket"));
    bucket.look(19, &["snapshots"]);
    point_to(&mut bucket.desk, &bucket.server);
    let config = bucket.desk.home().join(".config/agent-backup/config.toml");
    let good = fs::read(&config).unwrap();
    private_file(&config, &format!("[storage]\nkey_id = 'x'\nsecret_kee = '{STORAGE_SECRET}'\n"));
    bucket.look(19, &["snapshots"]);
    private_file(&config, &format!("[storage]\nsecret_key = {STORAGE_SECRET}\n"));
    bucket.look(19, &["snapshots"]);
    fs::write(&config, good).unwrap();

    for (what, bytes) in &bucket.seen {
        bucket.canaries.not_in(bytes, what);
    }
    for request in bucket.server.requests() {
        bucket.canaries.not_in(format!("{request:?}").as_bytes(), "a request");
    }
    for dir in [bucket.desk.home(), bucket.desk.tmp()] {
        bucket.canaries.not_below(&dir, &[]);
    }
}

#[test]
fn no_object_in_the_bucket_holds_a_secret() {
    let mut bucket = Bucket::new();
    let path = bucket.path.clone();
    bucket.look(0, &["push", "--path", &path]);
    let config = bucket.server.config();
    let address = format!("s3:{}/{}/agents", bucket.server.url(), config.bucket);
    let credentials =
        Credentials { key_id: config.key_id.clone(), secret: Secret::new(config.secret.clone()) };
    let region = Some(config.region.clone());
    let options = Options { credentials: Some(credentials), region, ..Options::default() };
    let store = Address::parse(&address).unwrap().open(options).unwrap();
    let objects = store.list("").unwrap();
    assert!(objects.len() >= 7, "config, slots, an operation, a pack, an index, a snapshot");
    for object in objects {
        bucket.canaries.not_in(&store.get(&object.name).unwrap(), &object.name);
        bucket.canaries.not_in(object.name.as_bytes(), "a name");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn no_argument_of_a_running_process_holds_a_secret() {
    use crate::desk::end;
    use crate::gate::{Gate, uploads_a_pack};

    let bucket = Bucket::new();
    // the command waits for us, with its parent, then the upload does
    let go = bucket.desk.beside("go");
    let command = format!(
        "touch '{0}.asked'; while [ ! -e '{0}' ]; do sleep 0.02; done; {1}",
        go.display(),
        bucket.command()
    );
    let gate = Gate::at(&bucket.server, uploads_a_pack);
    let args = ["push", "--path", &bucket.path, "--password-command", &command];
    let mut child = bucket.desk.start(&args);
    let asked = bucket.desk.beside("go.asked");
    while !asked.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it asked");
        std::thread::yield_now();
    }
    let shell = look_at_arguments(&bucket.canaries, &command);
    assert!(shell >= 2, "we and the shell were looked at: {shell}");
    fs::write(&go, "").unwrap();
    gate.wait();
    assert_eq!(look_at_arguments(&bucket.canaries, &command), 1);
    drop(gate);
    end(child).ended(0);

    let env = fs::read(bucket.desk.beside("env-seen")).unwrap();
    assert!(contains(&env, b"HOME="), "the command's environment was taken down");
    bucket.canaries.not_in(&env, "the environment of the password command");
}

/// Looks at the arguments of every process there is; how many of them hold `mark`.
#[cfg(target_os = "linux")]
fn look_at_arguments(canaries: &Canaries, mark: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let arguments = processes.filter_map(|path| fs::read(path.join("cmdline")).ok());
    arguments
        .filter(|bytes| {
            canaries.not_in(bytes, "the arguments of a process");
            contains(bytes, mark.as_bytes())
        })
        .count()
}

#[test]
fn whoever_relied_on_the_storage_key_as_a_passphrase_is_told_why_it_is_none() {
    let server = Server::start(Config::default()).unwrap();
    let mut desk = Desk::new();
    point_to(&mut desk, &server);
    // as agent-backup-core is set up: two variables, and no word of a passphrase
    desk.unset("AGENT_BACKUP_KEY_ID");
    desk.unset("AGENT_BACKUP_SECRET_KEY");
    desk.set("B2_KEY_ID", &server.config().key_id);
    desk.set("B2_APPLICATION_KEY", &server.config().secret);
    let ran = desk.ok(&["init", "--no-passphrase"]);
    assert!(
        ran.err.contains("would have taken B2_APPLICATION_KEY as the passphrase"),
        "{}",
        ran.err
    );
    let code = recovery_code(&ran);
    fs::remove_file(desk.repo_state().join("machine.key")).unwrap();
    let words = ["agent-backup-core took B2_APPLICATION_KEY as one", "B2_ENCRYPTION_KEY"];
    let ran = desk.fails(12, "wrong-key", &["snapshots"], &words);
    assert!(!ran.err.contains(&server.config().secret), "{}", ran.err);
    // the storage key as a passphrase opens nothing, whoever insists
    desk.set("B2_ENCRYPTION_KEY", &server.config().secret);
    desk.fails(12, "wrong-key", &["snapshots"], &[]);
    desk.set("B2_ENCRYPTION_KEY", &code);
    desk.ok(&["snapshots"]);
}
