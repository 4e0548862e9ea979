//! A unit for systemd: of the whole machine, closed off as far as a backup can be, or of a user.
//!
//! A unit of the machine sees of `/home` only the home it backs up, has no rights of root's, no devices, and
//! of the system calls those of an ordinary program; secrets come as credentials. What would change what a
//! backup holds is left out: `PrivateUsers` (files of other users and groups would look like nobody's) and
//! `RemoveIPC` (it would take shared memory from the user's other programs). A user's manager cannot make
//! namespaces without those of users: there the unit takes what works everywhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{Manager, Owner, Plan, Service, State, Step, text};

/// Works under every manager, without namespaces.
const CLOSED_ANYWHERE: &str = "\
LimitCORE=0
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
";

const CLOSED_SYSTEM: &str = "\
AmbientCapabilities=
CapabilityBoundingSet=
DevicePolicy=closed
KeyringMode=private
PrivateDevices=yes
PrivateIPC=yes
PrivateMounts=yes
PrivateTmp=yes
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=tmpfs
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
";

/// Directories that `ProtectHome` and `PrivateTmp` empty.
const EMPTIED: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];

pub(super) fn service(owner: &Owner) -> Service {
    let (name, path, manager) = if owner.system {
        let name = format!("{}-{}.service", owner.tool, file_name(&owner.user));
        let path = Path::new("/etc/systemd/system").join(&name);
        (name, path, "systemctl")
    } else {
        let name = format!("{}.service", owner.tool);
        let path = owner.home.join(".config/systemd/user").join(&name);
        (name, path, "systemctl --user")
    };
    let step = |verb: &str| Step::new(&format!("{manager} {verb}"), &[&name]);
    let reload = Step::new(&format!("{manager} daemon-reload"), &[]);
    let look = "show --property=LoadState,ActiveState,SubState,UnitFileState,Result,ExecMainStatus";
    let log = if owner.system { "journalctl -u" } else { "journalctl --user -u" };
    Service {
        manager: Manager::Systemd,
        path,
        start: vec![reload.clone(), step("enable"), step("restart")],
        // a unit that never was loaded is at its end already
        stop: vec![step("disable --now").or_not()],
        forget: vec![reload],
        look: step(look),
        enable: vec![step("enable"), step("restart")],
        restart: vec![step("restart")],
        log: Some(format!("{log} {name}")),
    }
}

/// A user's name in the name of a unit.
fn file_name(user: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    user.chars().map(|c| if plain(c) { c } else { '_' }).collect()
}

/// What `systemctl show` says.
pub(super) fn state(printed: &str) -> State {
    let told: BTreeMap<&str, &str> =
        printed.lines().filter_map(|line| line.split_once('=')).collect();
    let is = |key: &str, value: &str| told.get(key) == Some(&value);
    let running = is("ActiveState", "active") || is("ActiveState", "reloading");
    // between two starts it is "activating"
    let failed = is("ActiveState", "failed") || is("SubState", "auto-restart");
    let failed = failed.then(|| {
        let result = told.get("Result").copied().unwrap_or("failed");
        match told.get("ExecMainStatus") {
            Some(code) if result == "exit-code" => format!("it ended with code {code}"),
            _ => format!("it ended with {result}"),
        }
    });
    State { enabled: is("UnitFileState", "enabled"), running: Some(running), failed }
}

/// The program of a unit of ours: its first word.
pub(super) fn program(unit: &str) -> Option<String> {
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart="))?;
    let (mut word, quoted) = match line.strip_prefix('"') {
        Some(rest) => (rest.chars(), true),
        None => (line.chars(), false),
    };
    let mut out = String::new();
    while let Some(c) = word.next() {
        match c {
            '"' if quoted => break,
            ' ' if !quoted => break,
            // `%%`, `$$` and what a backslash guards
            '%' | '$' | '\\' => out.extend(word.next()),
            c => out.push(c),
        }
    }
    Some(out)
}

/// The command that keeps a user's services without a session.
pub(crate) fn linger(user: &str) -> Step {
    Step::new("loginctl enable-linger", &[user])
}

pub(super) fn unit(plan: &Plan) -> Result<String, String> {
    let (owner, tool) = (&plan.owner, plan.owner.tool);
    let mut out = format!(
        "# Written by `{tool} service install`; `{tool} service uninstall` removes it.\n[Unit]\n"
    );
    let _ = writeln!(out, "Description=Backups of the agents of {}", escape(&owner.user));
    if owner.system {
        out.push_str("Wants=network-online.target\nAfter=network-online.target\n");
        let _ = writeln!(out, "RequiresMountsFor={}", quote(&escape(text(&owner.home))));
    }
    out.push_str("\n[Service]\nType=exec\n");
    if owner.system {
        let _ = writeln!(out, "User={}", escape(&owner.user));
    }
    let words = [text(&plan.program)].into_iter().chain(plan.flags.iter().map(String::as_str));
    // only in a command `$` begins a variable
    let mut words: Vec<String> =
        words.map(|word| quote(&escape(word).replace('$', "$$"))).collect();
    words.push("daemon".to_owned());
    let _ = writeln!(out, "ExecStart={}", words.join(" "));
    let home = ("HOME".to_owned(), text(&owner.home).to_owned());
    for (name, value) in [&home].into_iter().chain(&plan.variables) {
        let _ = writeln!(out, "Environment={}", quote(&escape(&format!("{name}={value}"))));
    }
    for one in &plan.credentials {
        let key = if one.encrypted { "LoadCredentialEncrypted" } else { "LoadCredential" };
        let _ = writeln!(out, "{key}={}:{}", one.name, escape(text(&one.path)));
    }
    out.push_str("Restart=on-failure\nRestartSec=60\nKillMode=mixed\n");
    let _ = writeln!(out, "TimeoutStopSec={}\nUMask=0077", plan.stop_secs);
    if owner.system {
        open(plan, &mut out)?;
        out.push_str(CLOSED_SYSTEM);
    }
    out.push_str(CLOSED_ANYWHERE);
    if owner.uid == 0 {
        // a restore by root gives files their owners; others never ask for that
        out.push_str("SystemCallFilter=@chown\n");
    }
    let wanted = if owner.system { "multi-user.target" } else { "default.target" };
    let _ = writeln!(out, "\n[Install]\nWantedBy={wanted}");
    Ok(out)
}

/// What stays open: the home and what is named outside of it. All but the home may be away, as a disk that is not
/// plugged in: a daemon tells of that, where a unit that does not start tells nothing.
fn open(plan: &Plan, out: &mut String) -> Result<(), String> {
    let home = &plan.owner.home;
    let is_emptied = |path: &Path| EMPTIED.iter().any(|dir| path.starts_with(dir));
    let outside = |path: &&PathBuf| !path.starts_with(home);
    let mut rows = vec![("BindPaths", "", home), ("ReadWritePaths", "", home)];
    for path in plan.writes.iter().filter(outside) {
        if is_emptied(path) {
            rows.push(("BindPaths", "-", path));
        }
        rows.push(("ReadWritePaths", "-", path));
    }
    let reads = plan.reads.iter().filter(outside).filter(|path| is_emptied(path));
    rows.extend(reads.map(|path| ("BindReadOnlyPaths", "-", path)));
    for (key, mark, path) in rows {
        let path = text(path);
        if path.contains(':') {
            return Err(format!("{path}: a `:` cannot stand in a path that a unit opens"));
        }
        let _ = writeln!(out, "{key}={}", quote(&escape(&format!("{mark}{path}"))));
    }
    Ok(())
}

/// `%` begins a specifier in every value.
fn escape(text: &str) -> String {
    text.replace('%', "%%")
}

/// One word.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,=%$".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
