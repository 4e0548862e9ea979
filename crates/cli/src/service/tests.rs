//! Each file stands in `tests/service` and changes only on purpose (`UPDATE_SERVICE=1` writes them again); a
//! parser reads those that have one, and where systemd is installed, it says what it thinks of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::*;

fn plan(system: bool) -> Plan {
    let password = Credential {
        name: "agent-backup-password",
        path: PathBuf::from("/home/alice/my secrets/password"),
        encrypted: false,
    };
    let key = Credential {
        name: "agent-backup-storage-key",
        path: PathBuf::from("/etc/credstore.encrypted/agent-backup-storage-key"),
        encrypted: true,
    };
    Plan {
        owner: Owner {
            tool: "agent-backup",
            user: "alice".to_owned(),
            uid: 1000,
            home: PathBuf::from("/home/alice"),
            system,
        },
        program: PathBuf::from("/usr/local/bin/agent-backup"),
        flags: vec!["--config".to_owned(), "/home/alice/my config & \"more\".toml".to_owned()],
        variables: vec![("CLAUDE_CONFIG_DIR".to_owned(), "/data/100%/$x \u{e9}".to_owned())],
        reads: vec![PathBuf::from("/home/shared/config"), PathBuf::from("/etc/agent-backup")],
        writes: vec![
            PathBuf::from("/home/alice/.cache/agent-backup"),
            PathBuf::from("/home/shared/repository"),
            PathBuf::from("/mnt/the backup"),
        ],
        credentials: if system { vec![password, key] } else { Vec::new() },
        stop_secs: 90,
    }
}

const MANAGERS: [(Manager, &str); 3] =
    [(Manager::Systemd, "service"), (Manager::Launchd, "plist"), (Manager::TaskScheduler, "xml")];

#[test]
fn every_file_of_a_service_is_as_recorded() {
    #[allow(clippy::disallowed_methods, reason = "a switch of this test")]
    let update = std::env::var_os("UPDATE_SERVICE").is_some();
    for (manager, ending) in MANAGERS {
        for (system, whose) in [(false, "user"), (true, "system")] {
            let name = format!("agent-backup-{whose}.{ending}");
            let text = file(manager, &plan(system)).unwrap();
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/service").join(&name);
            if update {
                std::fs::write(&path, &text).unwrap();
            }
            let recorded = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(recorded == text, "{name} differs; UPDATE_SERVICE=1 writes it. Now:\n{text}");
        }
    }
}

#[test]
fn the_program_is_found_again_in_every_file() {
    let odd = if cfg!(windows) { "C:\\a b\\x.exe" } else { "/opt/100% \"a\" & $b/agent-backup" };
    for (manager, _) in MANAGERS {
        for program in [odd, "/usr/bin/agent-backup"] {
            let plan = Plan { program: PathBuf::from(program), ..plan(false) };
            let text = file(manager, &plan).unwrap();
            let service = Service::of(manager, &plan.owner);
            assert_eq!(service.program(&text), Some(PathBuf::from(program)), "{text}");
        }
    }
}

/// What systemd thinks of a unit, and whether it is content; none where there is no systemd.
fn analyze(arguments: &[&str], text: &str) -> Option<(bool, String)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent-backup-test.service");
    // the program must be there for `verify`
    std::fs::write(&path, text.replace("/usr/local/bin/agent-backup", "/bin/sh")).unwrap();
    // a manager of a user wants a place for sockets
    let mut command = Command::new("systemd-analyze");
    let done = command.args(arguments).arg(&path).env("XDG_RUNTIME_DIR", dir.path()).output();
    let Ok(done) = done else {
        // the recorded files have to do: another test compares them
        eprintln!("systemd-analyze is not here: {arguments:?} was not asked");
        return None;
    };
    let said = [done.stdout, done.stderr].concat();
    Some((done.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// The exposure that `systemd-analyze security` finds, in tenths.
fn exposure(system: bool) -> Option<u32> {
    let unit = file(Manager::Systemd, &plan(system)).unwrap();
    let (_, said) = analyze(&["security", "--offline=true", "--no-pager"], &unit)?;
    let level =
        said.split("Overall exposure level for").nth(1).and_then(|rest| rest.split(": ").nth(1));
    let level = level.and_then(|rest| rest.split_whitespace().next());
    let level = level.unwrap_or_else(|| panic!("no level in {said}")).replace('.', "");
    Some(level.parse().unwrap())
}

#[test]
fn the_unit_of_the_machine_is_closed_off() {
    if let Some(tenths) = exposure(true) {
        assert!(tenths <= 15, "exposure {tenths} of 100");
    }
}

#[test]
fn the_unit_of_a_user_is_closed_off_as_far_as_its_manager_can() {
    // half of the points are for namespaces, and for not being root, which no manager of a user is
    if let Some(tenths) = exposure(false) {
        assert!(tenths <= 63, "exposure {tenths} of 100");
    }
    let unit = file(Manager::Systemd, &plan(false)).unwrap();
    for needs_more in ["Private", "Protect", "BindPaths", "ReadWritePaths", "Capability", "User="] {
        let bad = unit.lines().find(|line| line.starts_with(needs_more));
        assert_eq!(bad, None, "a user's manager cannot do this everywhere");
    }
}

#[test]
fn systemd_understands_every_line() {
    for (system, arguments) in [(true, vec!["verify"]), (false, vec!["verify", "--user"])] {
        let unit = file(Manager::Systemd, &plan(system)).unwrap();
        let Some((_, said)) = analyze(&arguments, &unit) else { return };
        // what it says of other units of the machine is not about ours
        let ours: Vec<&str> =
            said.lines().filter(|line| line.contains("agent-backup-test.service")).collect();
        assert_eq!(ours, [""; 0], "{said}");
        // it notices what is wrong
        let wrong = unit.replace("RestartSec=60", "RestartSec=soon\nNoSuchKey=1");
        let (_, said) = analyze(&arguments, &wrong).unwrap();
        assert!(said.contains("Failed to parse sec value") && said.contains("NoSuchKey"), "{said}");
    }
}

#[test]
fn a_unit_hides_no_file_that_a_backup_needs_as_it_is() {
    let unit = file(Manager::Systemd, &plan(true)).unwrap();
    let lines: Vec<&str> = unit.lines().collect();
    for needed in [
        "BindPaths=/home/alice",
        "ReadWritePaths=/home/alice",
        "BindPaths=-/home/shared/repository",
        "ReadWritePaths=\"-/mnt/the backup\"",
        "BindReadOnlyPaths=-/home/shared/config",
        "LoadCredential=agent-backup-password:/home/alice/my secrets/password",
        "TimeoutStopSec=90",
    ] {
        assert!(lines.contains(&needed), "{needed} is not in\n{unit}");
    }
    assert!(!lines.contains(&"SystemCallFilter=@chown"), "only root gives files away");
    let mut root = plan(true);
    root.owner.uid = 0;
    let of_root = file(Manager::Systemd, &root).unwrap();
    assert!(of_root.contains("SystemCallFilter=~@privileged\nSystemCallFilter=@chown\n"));
    for harm in ["PrivateUsers", "RemoveIPC", "BindReadOnlyPaths=-/etc", "Nice="] {
        assert!(!unit.contains(harm), "{harm}");
    }
}

#[test]
fn what_would_break_a_line_or_mean_something_else_is_refused() {
    let line = Plan { flags: vec!["-r\nExecStartPre=/bin/evil".to_owned()], ..plan(true) };
    let relative = Plan { program: PathBuf::from("agent-backup"), ..plan(true) };
    let two = Plan { writes: vec![PathBuf::from("/home/a:/etc")], ..plan(true) };
    for (manager, bad) in [
        (Manager::Systemd, &line),
        (Manager::Launchd, &line),
        (Manager::TaskScheduler, &line),
        (Manager::Systemd, &relative),
        (Manager::Launchd, &relative),
        (Manager::Systemd, &two),
    ] {
        assert!(file(manager, bad).is_err(), "{manager:?} {bad:?}");
    }
    let odd = Owner { user: "DOMAIN\\al/ice".to_owned(), ..plan(true).owner };
    let path = Service::of(Manager::Systemd, &odd).path;
    assert_eq!(path, Path::new("/etc/systemd/system/agent-backup-DOMAIN_al_ice.service"));
}

#[test]
fn how_a_service_stands_is_read_from_what_its_manager_prints() {
    let of = |manager, success, printed: &str| {
        Service::of(manager, &plan(false).owner).state(success, printed)
    };
    let systemd = |text: &str| of(Manager::Systemd, true, text);
    let runs =
        systemd("ActiveState=active\nSubState=running\nUnitFileState=enabled\nResult=success\n");
    assert_eq!(runs, State { enabled: true, running: Some(true), failed: None });
    let again = "ActiveState=activating\nSubState=auto-restart\nUnitFileState=enabled\nResult=exit-code\nExecMainStatus=12\n";
    let again = systemd(again);
    assert_eq!(again.running, Some(false));
    assert_eq!(again.failed.as_deref(), Some("it ended with code 12"));
    let off = systemd("ActiveState=inactive\nUnitFileState=disabled\nResult=success\n");
    assert_eq!(off, State { enabled: false, running: Some(false), failed: None });
    let killed =
        systemd("ActiveState=failed\nUnitFileState=enabled\nResult=oom-kill\nExecMainStatus=9\n");
    assert_eq!(killed.failed.as_deref(), Some("it ended with oom-kill"));

    let launchd = |success, text: &str| of(Manager::Launchd, success, text);
    let runs =
        launchd(true, "gui/501/x = {\n\tstate = running\n\tlast exit code = (never exited)\n}");
    assert_eq!(runs, State { enabled: true, running: Some(true), failed: None });
    let ended = launchd(true, "\tstate = not running\n\tlast exit code = 19\n");
    assert_eq!(ended.failed.as_deref(), Some("it ended with code 19"));
    assert!(!launchd(false, "Could not find service").enabled);
    assert_eq!(of(Manager::TaskScheduler, true, "").running, None);
}

/// A value of a property list.
#[derive(Debug, PartialEq)]
enum Value {
    Text(String),
    Number(i64),
    Bool(bool),
    List(Vec<Value>),
    Table(BTreeMap<String, Value>),
}

/// An element: its name, its text, its children.
#[derive(Debug)]
struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

/// Parses XML; what is not well-formed panics.
fn parse(text: &str) -> Element {
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_end_names = true;
    let name = |start: &BytesStart<'_>| String::from_utf8(start.name().as_ref().to_vec()).unwrap();
    let element = |name| Element { name, text: String::new(), children: Vec::new() };
    let mut open = vec![element(String::new())];
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) => open.push(element(name(&start))),
            Event::Empty(start) => {
                let child = element(name(&start));
                open.last_mut().unwrap().children.push(child);
            }
            Event::Text(text) => open.last_mut().unwrap().text.push_str(&text.decode().unwrap()),
            Event::GeneralRef(name) => {
                let c = match name.resolve_char_ref().unwrap() {
                    Some(c) => c,
                    None => match &*name {
                        b"amp" => '&',
                        b"lt" => '<',
                        b"gt" => '>',
                        b"quot" => '"',
                        other => panic!("{other:?}"),
                    },
                };
                open.last_mut().unwrap().text.push(c);
            }
            Event::End(_) => {
                let child = open.pop().unwrap();
                open.last_mut().unwrap().children.push(child);
            }
            Event::Eof => break,
            _ => {}
        }
    }
    let [root] = open.try_into().expect("everything is closed");
    let [root] = <[Element; 1]>::try_from(root.children).expect("one root");
    root
}

fn value(element: &Element) -> Value {
    let all = || element.children.iter();
    match element.name.as_str() {
        "string" => Value::Text(element.text.clone()),
        "integer" => Value::Number(element.text.parse().unwrap()),
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "array" => Value::List(all().map(value).collect()),
        "dict" => {
            let pairs: Vec<&Element> = all().collect();
            assert_eq!(pairs.len() % 2, 0, "a key without a value");
            let pair = |pair: &[&Element]| {
                assert_eq!(pair[0].name, "key");
                (pair[0].text.clone(), value(pair[1]))
            };
            Value::Table(pairs.chunks(2).map(pair).collect())
        }
        other => panic!("no type of a property list: {other}"),
    }
}

#[test]
fn a_property_list_says_all_that_launchd_needs() {
    for system in [true, false] {
        let text = file(Manager::Launchd, &plan(system)).unwrap();
        assert!(text.is_ascii(), "read as whatever encoding");
        let root = parse(&text);
        assert_eq!((root.name.as_str(), root.children.len()), ("plist", 1));
        let Value::Table(all) = value(&root.children[0]) else { panic!("no dict") };
        let words = [
            "/usr/local/bin/agent-backup",
            "--config",
            "/home/alice/my config & \"more\".toml",
            "daemon",
        ];
        let words = words.map(|word| Value::Text(word.to_owned())).into();
        assert_eq!(all["ProgramArguments"], Value::List(words));
        let Value::Table(variables) = &all["EnvironmentVariables"] else { panic!("{all:?}") };
        assert_eq!(variables["CLAUDE_CONFIG_DIR"], Value::Text("/data/100%/$x \u{e9}".to_owned()));
        assert_eq!(variables["HOME"], Value::Text("/home/alice".to_owned()));
        assert_eq!(all.contains_key("UserName"), system);
        let Value::Text(label) = &all["Label"] else { panic!("{all:?}") };
        let path = Service::of(Manager::Launchd, &plan(system).owner).path;
        assert_eq!(
            path.file_stem().unwrap().to_str(),
            Some(label.as_str()),
            "the file has its name"
        );
        // what launchd.plist(5) knows, with the type it has there
        for (key, value) in &all {
            let right = match key.as_str() {
                "Label" | "UserName" | "ProcessType" | "StandardErrorPath" => {
                    matches!(value, Value::Text(_))
                }
                "ProgramArguments" => matches!(value, Value::List(_)),
                "EnvironmentVariables" | "KeepAlive" => matches!(value, Value::Table(_)),
                "RunAtLoad" | "LowPriorityIO" => matches!(value, Value::Bool(true)),
                "ThrottleInterval" | "ExitTimeOut" | "Umask" => matches!(value, Value::Number(_)),
                _ => false,
            };
            assert!(right, "{key}: {value:?}");
        }
        assert_eq!((&all["ExitTimeOut"], &all["Umask"]), (&Value::Number(90), &Value::Number(63)));
    }
}

/// Elements of the schema of tasks (MS-TSCH 2.5), as far as we write any, with what may be in them: the
/// elements, in order where it has one, or the values.
const TASK_SCHEMA: [(&str, &str); 24] = [
    ("Task", "<RegistrationInfo Triggers Principals Settings Actions"),
    ("RegistrationInfo", "<Description"),
    ("Description", ""),
    ("Triggers", "<LogonTrigger BootTrigger"),
    ("LogonTrigger", "<Enabled UserId"),
    ("BootTrigger", "<Enabled"),
    ("Enabled", "true false"),
    ("UserId", ""),
    ("Principals", "<Principal"),
    ("Principal", "<UserId LogonType RunLevel"),
    ("LogonType", "InteractiveToken S4U"),
    ("RunLevel", "LeastPrivilege"),
    (
        "Settings",
        "<MultipleInstancesPolicy DisallowStartIfOnBatteries StopIfGoingOnBatteries StartWhenAvailable ExecutionTimeLimit Priority RestartOnFailure",
    ),
    ("MultipleInstancesPolicy", "Parallel Queue IgnoreNew StopExisting"),
    ("DisallowStartIfOnBatteries", "true false"),
    ("StopIfGoingOnBatteries", "true false"),
    ("StartWhenAvailable", "true false"),
    ("ExecutionTimeLimit", "PT0S"),
    ("Priority", "0 1 2 3 4 5 6 7 8 9 10"),
    ("RestartOnFailure", "<Interval Count"),
    ("Interval", "PT1M"),
    ("Actions", "<Exec"),
    ("Exec", "<Command Arguments"),
    ("Command", ""),
];

fn fits_schema(element: &Element) {
    let name = element.name.as_str();
    let rule = TASK_SCHEMA.iter().find(|(known, _)| *known == name).map(|(_, rule)| *rule);
    match (name, rule) {
        // an unsigned byte, from 1
        ("Count", _) => assert!(element.text.parse::<u8>().unwrap() > 0, "{}", element.text),
        ("Arguments", _) | (_, Some("")) => assert!(!element.text.is_empty(), "{name}"),
        (_, Some(rule)) => match rule.strip_prefix('<') {
            Some(order) => {
                let order: Vec<&str> = order.split(' ').collect();
                let place = |child: &Element| order.iter().position(|name| *name == child.name);
                let places: Vec<usize> = element
                    .children
                    .iter()
                    .map(|child| place(child).unwrap_or_else(|| panic!("{} in {name}", child.name)))
                    .collect();
                assert!(
                    places.is_sorted_by(|a, b| a < b) && !places.is_empty(),
                    "{name}: {places:?}"
                );
                element.children.iter().for_each(fits_schema);
            }
            None => assert!(
                rule.split(' ').any(|word| word == element.text),
                "{name}: {}",
                element.text
            ),
        },
        (_, None) => panic!("{name} is not in the schema"),
    }
}

fn find<'e>(element: &'e Element, name: &str) -> Option<&'e Element> {
    if element.name == name {
        return Some(element);
    }
    element.children.iter().find_map(|child| find(child, name))
}

#[test]
fn a_task_fits_its_schema_and_runs_the_program_with_its_arguments() {
    for system in [true, false] {
        let windows = Plan {
            program: PathBuf::from(r"C:\Program Files\agent-backup\agent-backup.exe"),
            flags: vec![
                "--config".to_owned(),
                r"C:\Users\Al & Co \".to_owned(),
                r#"a"b"#.to_owned(),
            ],
            ..plan(system)
        };
        let text = file(Manager::TaskScheduler, &windows).unwrap();
        assert!(text.is_ascii() && !text.contains("encoding"), "read as whatever encoding");
        let root = parse(&text);
        fits_schema(&root);
        let of = |name: &str| find(&root, name).map(|element| element.text.as_str());
        assert_eq!(of("Command"), Some(r"C:\Program Files\agent-backup\agent-backup.exe"));
        let arguments = r#"--config "C:\Users\Al & Co \\" "a\"b" daemon"#;
        assert_eq!(of("Arguments"), Some(arguments));
        let (trigger, other) =
            if system { ("BootTrigger", "LogonTrigger") } else { ("LogonTrigger", "BootTrigger") };
        assert!(find(&root, trigger).is_some() && find(&root, other).is_none());
    }
}
