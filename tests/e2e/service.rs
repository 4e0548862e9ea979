//! `service`, as somebody meets it who wants the daemon to start by itself.
//!
//! The managers are played by scripts on `PATH` that keep their state in files. The one for systemd does
//! what the unit says: it starts the program of `ExecStart` with the variables of the unit and no others.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use testkit::Server;
use testkit::server::Config;

use crate::desk::{BINARY, Desk, private_file, recovery_code};
use crate::gate::point_to;

/// Nothing here takes longer on any machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What `systemctl` does; `@M@` is where it keeps its state.
const SYSTEMCTL: &str = r#"
if [ "$1" = --user ]; then shift; fi
verb=$1
for name; do :; done
unit="$HOME/.config/systemd/user/$name"
stop() {
    if [ -s @M@/pid ]; then
        pid=$(cat @M@/pid)
        kill "$pid" 2>/dev/null
        while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
    fi
    rm -f @M@/pid @M@/active
}
case $verb in
daemon-reload) ;;
enable)
    if [ -e @M@/denied ]; then echo 'Failed to enable unit: Access denied' >&2; exit 1; fi
    if [ ! -e "$unit" ]; then echo "Failed to enable unit: Unit file $name does not exist." >&2; exit 1; fi
    : > @M@/enabled ;;
restart)
    stop
    if [ -e @M@/runs ]; then
        line=$(sed -n 's/^ExecStart=//p' "$unit")
        env -i PATH=/usr/bin:/bin $(sed -n 's/^Environment=//p' "$unit") \
            sh -c "exec $line" > @M@/out 2>&1 < /dev/null &
        echo $! > @M@/pid
    fi
    rm -f @M@/failed
    : > @M@/active ;;
disable) rm -f @M@/enabled; stop ;;
show)
    if [ -e @M@/failed ]; then
        echo ActiveState=failed; echo Result=exit-code; echo ExecMainStatus=19
    elif [ -e @M@/active ]; then echo ActiveState=active; echo Result=success
    else echo ActiveState=inactive; echo Result=success; fi
    if [ -e @M@/enabled ]; then echo UnitFileState=enabled; else echo UnitFileState=disabled; fi ;;
*) echo "Unknown command verb $verb." >&2; exit 1 ;;
esac
"#;

const LOGINCTL: &str = r"
case $1 in
enable-linger) : > @M@/lingers ;;
show-user) if [ -e @M@/lingers ]; then echo yes; else echo no; fi ;;
*) exit 1 ;;
esac
";

const LAUNCHCTL: &str = r#"
case $1 in
bootstrap)
    if [ -e @M@/loaded ]; then echo 'Bootstrap failed: 5: Input/output error' >&2; exit 5; fi
    grep -q '<plist version="1.0">' "$3" || exit 1
    : > @M@/loaded ;;
bootout) if [ ! -e @M@/loaded ]; then exit 3; fi; rm @M@/loaded ;;
enable) ;;
kickstart) ;;
print)
    if [ ! -e @M@/loaded ]; then echo 'Could not find service' >&2; exit 113; fi
    if [ -e @M@/failed ]; then echo '	state = not running'; echo '	last exit code = 19'
    else echo '	state = running'; fi ;;
*) exit 64 ;;
esac
"#;

const SCHTASKS: &str = r#"
case $1 in
/Create)
    for file; do :; done
    grep -q '<Task version' "$file" || exit 1
    : > @M@/task ;;
/Run | /Query) test -e @M@/task ;;
/End) exit 1 ;;
/Delete) rm @M@/task ;;
*) exit 1 ;;
esac
"#;

/// Managers that do as they are told and write down what that was.
pub(crate) fn managers(desk: &mut Desk) {
    let (tools, state) = (desk.beside("tools"), desk.beside("manager"));
    fs::create_dir(&tools).unwrap();
    fs::create_dir(&state).unwrap();
    for (name, script) in [
        ("systemctl", SYSTEMCTL),
        ("loginctl", LOGINCTL),
        ("launchctl", LAUNCHCTL),
        ("schtasks", SCHTASKS),
    ] {
        let head = format!(
            "#!/bin/sh\necho \"{name} $*\" >> @M@/log\nif [ -e @M@/broken ]; then\n\
             echo 'Failed to connect to bus: No medium found' >&2; exit 1; fi\n"
        );
        let text = format!("{head}{script}").replace("@M@", state.to_str().unwrap());
        let path = tools.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    desk.set("PATH", &format!("{}:/usr/bin:/bin", tools.display()));
}

/// Something that a manager remembers.
pub(crate) fn mark(desk: &Desk, name: &str) -> PathBuf {
    desk.beside("manager").join(name)
}

/// What was asked of managers since the last time.
fn asked(desk: &Desk) -> Vec<String> {
    let log = mark(desk, "log");
    let text = fs::read_to_string(&log).unwrap_or_default();
    let _ = fs::remove_file(log);
    text.lines().map(str::to_owned).collect()
}

pub(crate) fn unit(desk: &Desk) -> PathBuf {
    desk.home().join(".config/systemd/user/agent-backup.service")
}

/// A machine with an agent, a repository and managers.
fn machine() -> Desk {
    let mut desk = Desk::new();
    managers(&mut desk);
    agent(&desk.home().join(".claude"));
    configure(&desk, "");
    recovery_code(&desk.ok(&["init", "--no-passphrase"]));
    desk
}

fn agent(dir: &Path) {
    fs::create_dir_all(dir.join("projects/p")).unwrap();
    fs::write(dir.join("settings.json"), "{}").unwrap();
    fs::write(dir.join("projects/p/s.jsonl"), "{\"n\":1}\n").unwrap();
}

fn configure(desk: &Desk, more: &str) {
    let path = desk.home().join(".config/agent-backup/config.toml");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    private_file(&path, &format!("repo = \"{}\"\n{more}\n", desk.beside("repo").display()));
}

/// Waits until the daemon that was started after `before` has done a push.
fn until_pushed(desk: &Desk, before: Timestamp) -> Value {
    let time = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let began = Instant::now();
    loop {
        let ran = desk.run(&["status", "--offline", "--json"]);
        let document: Value = serde_json::from_str(ran.text()).unwrap();
        let jobs = document["jobs"].as_array().unwrap();
        let push = jobs.iter().find(|job| job["job"] == "push").unwrap_or(&Value::Null);
        let started = time(&document["daemon"]["started"]).filter(|at| *at > before);
        let is_done = push["running_since"].is_null() && time(&push["done"]) > started;
        if document["daemon"]["running"] == true && started.is_some() && is_done {
            return document;
        }
        let said = fs::read_to_string(mark(desk, "out")).unwrap_or_default();
        assert!(began.elapsed() < PATIENCE, "no push: {document}\n{said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn f11_the_service_finds_its_program_its_variables_and_its_roots() {
    let mut desk = machine();
    fs::write(mark(&desk, "runs"), "").unwrap();
    // where only a variable of this shell says
    fs::remove_dir_all(desk.home().join(".claude")).unwrap();
    let elsewhere = desk.beside("elsewhere");
    agent(&elsewhere);
    desk.set("CLAUDE_CONFIG_DIR", elsewhere.to_str().unwrap());
    desk.set("EDITOR", "vi");
    // a path that means something else where the service is started
    fs::create_dir(desk.beside("state")).unwrap();
    desk.set("AGENT_BACKUP_STATE_DIR", "state");
    let code = desk.beside("code");
    recovery(&desk, &code);
    desk.ok(&["key", "enroll", "--password-file", code.to_str().unwrap()]);
    let ran = desk.ok(&["service", "install"]);
    assert!(ran.text().contains("starts by itself"), "{}", ran.text());
    assert!(ran.err.contains("loginctl enable-linger"), "{}", ran.err);
    let text = fs::read_to_string(unit(&desk)).unwrap();
    let config = desk.home().join(".config/agent-backup/config.toml");
    let program = format!("ExecStart={BINARY} --config {} daemon", config.display());
    let variables: Vec<&str> =
        text.lines().filter(|line| line.starts_with("Environment=")).collect();
    assert!(text.lines().any(|line| line == program), "{text}");
    let expected = [
        format!("Environment=HOME={}", desk.home().display()),
        format!("Environment=AGENT_BACKUP_STATE_DIR={}", desk.beside("state").display()),
        format!("Environment=CLAUDE_CONFIG_DIR={}", elsewhere.display()),
    ];
    assert_eq!(variables, expected);
    let asked_for = [
        "systemctl --user daemon-reload",
        "systemctl --user enable agent-backup.service",
        "systemctl --user restart agent-backup.service",
    ];
    assert_eq!(asked(&desk)[..3], asked_for);

    let document = until_pushed(&desk, Timestamp::UNIX_EPOCH);
    assert_eq!(document["agents"][0]["agent"], "claude-code", "{document}");
    let stands = desk.json(&["service", "status"]);
    assert_eq!((&stands["running"], &stands["enabled"]), (&true.into(), &true.into()), "{stands}");
    assert_eq!(
        (&stands["program"], &stands["lingers"]),
        (&BINARY.into(), &false.into()),
        "{stands}"
    );
    // installed again while it runs: its daemon gives way to the new one
    let before = Timestamp::now();
    desk.ok(&["service", "install"]);
    until_pushed(&desk, before);

    fs::write(elsewhere.join("projects/p/t.jsonl"), "{\"n\":2}\n").unwrap();
    desk.ok(&["service", "uninstall"]);
    assert!(!unit(&desk).exists() && !mark(&desk, "pid").exists());
    let out = desk.pull("latest", "out");
    let said = fs::read_to_string(mark(&desk, "out")).unwrap();
    assert!(out.join("claude-code/home/projects/p/t.jsonl").exists(), "{said}");
    desk.ends(1, &["service", "status"]);
    assert!(desk.ok(&["service", "uninstall"]).text().contains("is not there"));
}

/// Writes a recovery code of the repository to a private file.
fn recovery(desk: &Desk, path: &Path) {
    let mut plain = Desk::new();
    plain.set("HOME", desk.home().to_str().unwrap());
    let ran = plain.ok(&["key", "add", "--recovery"]);
    private_file(path, &recovery_code(&ran));
}

#[test]
fn an_install_that_fails_leaves_what_was_there() {
    let desk = machine();
    fs::write(mark(&desk, "denied"), "").unwrap();
    desk.fails(1, "failed", &["service", "install"], &["Access denied", "nothing was installed"]);
    assert!(!unit(&desk).exists());
    assert_eq!(asked(&desk).last().unwrap(), "systemctl --user daemon-reload");
    // one that was there stays as it was
    fs::remove_file(mark(&desk, "denied")).unwrap();
    desk.ok(&["service", "install"]);
    let before = fs::read(unit(&desk)).unwrap();
    fs::write(mark(&desk, "broken"), "").unwrap();
    desk.fails(1, "failed", &["--retry", "7", "service", "install"], &["No medium found"]);
    assert_eq!(fs::read(unit(&desk)).unwrap(), before);
    desk.fails(1, "failed", &["service", "status"], &["No medium found"]);
    fs::remove_file(mark(&desk, "broken")).unwrap();
    desk.ok(&["--retry", "7", "service", "install"]);
    assert!(fs::read_to_string(unit(&desk)).unwrap().contains(" --retry 7 daemon\n"));
    // a machine without systemd
    fs::remove_file(desk.beside("tools/systemctl")).unwrap();
    if !Path::new("/usr/bin/systemctl").exists() && !Path::new("/bin/systemctl").exists() {
        let words = ["cannot run systemctl", "without systemd"];
        desk.fails(1, "failed", &["service", "install"], &words);
    }
}

#[test]
fn a_secret_that_only_the_shell_has_is_found_before_the_service_is_started() {
    // a passphrase
    let mut desk = machine();
    let pass = desk.beside("pass");
    private_file(&pass, "correct horse battery\n");
    desk.ok(&["key", "add", "--new-password-file", pass.to_str().unwrap()]);
    fs::remove_file(desk.repo_state().join("machine.key")).unwrap();
    desk.set("AGENT_BACKUP_PASSWORD", "correct horse battery");
    desk.ok(&["snapshots"]);
    let words = ["would not see AGENT_BACKUP_PASSWORD", "password_file"];
    let ran = desk.fails(19, "configuration", &["service", "install"], &words);
    assert!(!ran.err.contains("correct horse"), "{}", ran.err);
    assert!(!unit(&desk).exists() && asked(&desk).is_empty(), "nothing was begun");
    let shown = desk.ok(&["service", "install", "--dry-run"]);
    assert!(shown.text().contains("[Install]") && !shown.text().contains("correct horse"));
    assert!(shown.err.contains("it would not work: "), "{}", shown.err);
    // one that only a command of this shell prints
    desk.unset("AGENT_BACKUP_PASSWORD");
    desk.set("WORD", "correct horse battery");
    configure(&desk, "password_command = \"echo $WORD\"");
    desk.ok(&["snapshots"]);
    desk.fails(19, "configuration", &["service", "install"], &["password_command", "it is empty"]);
    // a file that ends with the shell
    let pipe =
        format!("echo correct horse battery | {BINARY} --password-file /dev/stdin service install");
    let mut shell = std::process::Command::new("/bin/sh");
    desk.surround(&mut shell);
    let done = shell.arg("-c").arg(pipe).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("is no file that a service finds later"), "{said}");
    // mended as it is said
    configure(&desk, &format!("password_file = \"{}\"", pass.display()));
    desk.set("AGENT_BACKUP_PASSWORD", "correct horse battery");
    desk.ok(&["service", "install"]);
    let text = fs::read_to_string(unit(&desk)).unwrap();
    assert!(!text.contains("correct") && !text.contains("AGENT_BACKUP_PASSWORD"), "{text}");
}

#[test]
fn a_storage_key_of_the_shell_is_no_key_of_the_service() {
    let server = Server::start(Config::default()).unwrap();
    let mut desk = Desk::new();
    managers(&mut desk);
    agent(&desk.home().join(".claude"));
    point_to(&mut desk, &server);
    recovery_code(&desk.ok(&["init", "--no-passphrase"]));
    let words = ["would not see AGENT_BACKUP_SECRET_KEY", "secret_key_file"];
    desk.fails(19, "configuration", &["service", "install"], &words);
    assert!(!unit(&desk).exists());
    // from a file, by variables that are no secret
    let key = desk.beside("key");
    private_file(&key, &server.config().secret);
    desk.unset("AGENT_BACKUP_SECRET_KEY");
    desk.set("AGENT_BACKUP_SECRET_KEY_FILE", key.to_str().unwrap());
    desk.ok(&["service", "install"]);
    let text = fs::read_to_string(unit(&desk)).unwrap();
    assert!(text.contains(&format!("AGENT_BACKUP_SECRET_KEY_FILE={}", key.display())), "{text}");
    assert!(text.contains("Environment=AGENT_BACKUP_REPO=s3:http://"), "{text}");
    assert!(!text.contains(&server.config().secret), "{text}");
    // a wrong one is told by what the storage says
    private_file(&key, "another");
    desk.fails(13, "storage-denied", &["service", "install"], &["a service could not open"]);
    // a network that is away is no reason
    private_file(&key, &server.config().secret);
    desk.set("AGENT_BACKUP_RETRY", "0");
    drop(server);
    let ran = desk.ok(&["service", "install"]);
    assert!(ran.err.contains("not tried: "), "{}", ran.err);
}

#[test]
fn the_unit_of_the_machine_gets_secrets_as_credentials() {
    let desk = machine();
    let pass = desk.home().join("pass");
    private_file(&pass, "correct horse battery\n");
    let (notes, away) = (desk.beside("notes"), desk.beside("away/later"));
    fs::create_dir(&notes).unwrap();
    configure(
        &desk,
        &format!(
            "password_file = \"~/pass\"\n[push.paths]\nnotes = \"{}\"\naway = \"{}\"\n\
             [daemon]\nlast_push = \"10m\"",
            notes.display(),
            away.display()
        ),
    );
    let install = ["service", "install", "--system", "--dry-run"];
    let ran = desk.ok(&install);
    assert!(!ran.err.contains("would not work"), "{}", ran.err);
    assert!(ran.err.contains("/etc/systemd/system/agent-backup-"), "{}", ran.err);
    let lines: Vec<&str> = ran.text().lines().collect();
    let beside = desk.beside("").canonicalize().unwrap();
    for needed in [
        format!("LoadCredential=agent-backup-password:{}", pass.display()),
        format!("BindPaths={}", desk.home().display()),
        format!("ReadWritePaths=-{}", desk.beside("repo").canonicalize().unwrap().display()),
        format!("ReadWritePaths=-{}", notes.canonicalize().unwrap().display()),
        // what of it is there: the rest can be made
        format!("ReadWritePaths=-{}", beside.display()),
        "TimeoutStopSec=630".to_owned(),
        "CapabilityBoundingSet=".to_owned(),
    ] {
        assert!(
            lines.contains(&needed.trim_end_matches('/')),
            "{needed} is not in\n{}",
            ran.text()
        );
    }
    // as systemd hands it over, the passphrase opens the repository
    let mut desk = desk;
    desk.ok(&["key", "add", "--new-password-file", pass.to_str().unwrap()]);
    fs::remove_file(desk.repo_state().join("machine.key")).unwrap();
    configure(&desk, "");
    desk.ends(12, &["snapshots"]);
    let credentials = desk.beside("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("agent-backup-password"), "correct horse battery\n").unwrap();
    desk.set("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap());
    desk.ok(&["snapshots"]);
    desk.unset("CREDENTIALS_DIRECTORY");
    // sealed ones are for systemd alone: nothing else can try them
    let sealed = desk.beside("sealed");
    fs::write(&sealed, "x").unwrap();
    let sealed = sealed.to_str().unwrap();
    let ran = desk.ok(&[&install[..], &["--encrypted-password-file", sealed]].concat());
    let line = format!("LoadCredentialEncrypted=agent-backup-password:{sealed}");
    assert!(ran.text().lines().any(|one| one == line), "{}", ran.text());
    assert!(!ran.err.contains("would not work"), "{}", ran.err);
    let other = ["--manager", "launchd", "--encrypted-password-file", sealed];
    desk.ends(2, &[&install[..], &other].concat());
}

#[test]
fn launchd_and_the_task_scheduler_are_asked_in_their_own_words() {
    let desk = machine();
    let list = desk.home().join("Library/LaunchAgents/dev.agent-backup.agent-backup.plist");
    let launchd = ["--manager", "launchd"];
    let call = |verb: &str| desk.ok(&[&["service", verb], &launchd[..]].concat());
    call("install");
    // again: what is loaded makes way
    call("install");
    let uid = rustix::process::getuid().as_raw();
    let label = format!("gui/{uid}/dev.agent-backup.agent-backup");
    let asked_for = [
        format!("launchctl bootout {label}"),
        format!("launchctl enable {label}"),
        format!("launchctl bootstrap gui/{uid} {}", list.display()),
    ];
    assert_eq!(asked(&desk), [&asked_for[..], &asked_for[..]].concat());
    assert!(call("status").text().contains("runs              yes"));
    fs::write(mark(&desk, "failed"), "").unwrap();
    let ran = desk.ends(1, &[&["service", "status"], &launchd[..]].concat());
    assert!(ran.text().contains("no, it ended with code 19"), "{}", ran.text());
    call("uninstall");
    assert!(!list.exists() && !mark(&desk, "loaded").exists());

    let task = ["--manager", "task-scheduler"];
    let call = |verb: &str| desk.ok(&[&["service", verb], &task[..]].concat());
    call("install");
    let file = desk.home().join("agent-backup-task.xml");
    assert!(file.exists() && mark(&desk, "task").exists());
    call("status");
    call("uninstall");
    assert!(!file.exists() && !mark(&desk, "task").exists());
}

#[test]
fn a_daemon_that_runs_already_and_a_wrong_user_are_told() {
    let mut desk = machine();
    let mut daemon = desk.start(&["daemon"]);
    until_pushed(&desk, Timestamp::UNIX_EPOCH);
    let id = daemon.id().to_string();
    desk.fails(11, "busy", &["service", "install"], &["a daemon", &id, "stop it first"]);
    assert!(!unit(&desk).exists());
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    desk.set("SUDO_USER", "alice");
    for verb in ["install", "uninstall", "status"] {
        desk.fails(2, "usage", &["service", verb, "--system"], &["run it as alice"]);
    }
    desk.unset("SUDO_USER");
    fs::write(mark(&desk, "lingers"), "").unwrap();
    let ran = desk.ok(&["service", "install"]);
    assert!(!ran.err.contains("linger"), "{}", ran.err);
    // by the name that outlives an update
    let link = desk.beside("tools/agent-backup");
    std::os::unix::fs::symlink(BINARY, &link).unwrap();
    let ran = desk.ok(&["service", "install", "--dry-run"]);
    assert!(ran.text().contains(&format!("ExecStart={} ", link.display())), "{}", ran.text());
    fs::remove_file(link).unwrap();
    // a program that is gone is no service that runs
    let text = fs::read_to_string(unit(&desk)).unwrap();
    fs::write(unit(&desk), text.replace(BINARY, "/nonexistent/agent-backup")).unwrap();
    let ran = desk.ends(1, &["service", "status"]);
    assert!(ran.text().contains("/nonexistent/agent-backup, which is gone"), "{}", ran.text());
}
