//! `service`: makes the system's service manager run the daemon, ends that, tells how it stands.
//!
//! What the service will not see is found before it is started: [`seen`] says what it sees, and the
//! program is tried out with that and no more.

mod seen;

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result};
use engine::status::Local;
use rustix::fs::Access;
use serde::Serialize;

use crate::args::{Global, InstallService, ServiceCommand, Whose};
use crate::exit::{Exit, Stop};
use crate::service::{self, Manager, Owner, Plan, Service, State, Step};
use crate::settings::{Environment, SECRET_VARIABLES, Settings};
use crate::ui::{Screen, sanitize};

#[derive(Default, Serialize)]
struct Document {
    manager: &'static str,
    system: bool,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    installed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    program_is_there: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lingers: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

pub(crate) fn run(
    command: &ServiceCommand,
    flags: &Global,
    env: &Environment,
    screen: &Screen,
) -> Result<Exit> {
    match command {
        ServiceCommand::Install(args) => install(args, flags, env, screen),
        ServiceCommand::Uninstall(whose) => uninstall(whose, env, screen),
        ServiceCommand::Status(whose) => status(whose, env, screen),
    }
}

/// The user of this process, as the owner of a service.
pub(super) fn owner(system: bool, env: &Environment) -> Result<Owner> {
    Ok(Owner {
        tool: env.tool.name,
        user: env.user.clone(),
        uid: uzers::get_current_uid(),
        home: env.home()?,
        system,
    })
}

fn of(whose: &Whose, env: &Environment) -> Result<(Owner, Service)> {
    if let Some(user) = env.text("SUDO_USER")?.filter(|user| *user != "root") {
        let user = sanitize::text(user);
        let what = format!("under sudo this is about the agents of root, not those of {user}");
        let hint = format!("run it as {user}: what root has to do is said then");
        return Err(Stop::new(Exit::Usage, what, hint).into());
    }
    let owner = owner(whose.system, env)?;
    let service = Service::of(whose.manager.unwrap_or_else(Manager::here), &owner);
    Ok((owner, service))
}

fn document(owner: &Owner, service: &Service) -> Document {
    Document {
        manager: service.manager.name(),
        system: owner.system,
        path: sanitize::path(&service.path),
        ..Document::default()
    }
}

fn install(
    args: &InstallService,
    flags: &Global,
    env: &Environment,
    screen: &Screen,
) -> Result<Exit> {
    let (owner, service) = of(&args.whose, env)?;
    let (plan, trial) = seen::plan(args, owner, service.manager, flags, env)?;
    let text = service::file(service.manager, &plan)
        .map_err(|what| Stop::new(Exit::Configuration, what, "choose another path"))?;
    let fits = trial.run(&plan);
    let mut told = document(&plan.owner, &service);
    if service.manager == Manager::TaskScheduler {
        let set = |(name, value): &(String, String)| format!("setx {name} \"{value}\"");
        told.notes.extend(plan.variables.iter().map(set));
    }
    if args.dry_run {
        if let Err(error) = fits {
            told.notes.push(format!("it would not work: {error:#}"));
        }
        return dry_run(&service, text, told, screen);
    }
    told.notes.extend(fits?);
    not_twice(&service, &trial.settings)?;
    let before = fs::read(&service.path).ok();
    put(&service.path, text.as_bytes())
        .map_err(|error| not_written(&error, &service, &plan, args))?;
    start(&service, before)?;
    told.installed = true;
    told.lingers = lingers(&service, &plan.owner);
    if told.lingers == Some(false) {
        let linger = shell(&service::linger(&plan.owner.user).words);
        told.notes.push(format!(
            "it runs while you are logged in; `{linger}` makes it start at boot and stay"
        ));
    }
    if screen.json() {
        screen.document(&told)?;
        return Ok(Exit::Done);
    }
    screen.line(format_args!("started, and starts by itself from now on: {}", told.path))?;
    tell_notes(&told, screen);
    screen.note("agent-backup status tells when its first push is done");
    Ok(Exit::Done)
}

fn tell_notes(told: &Document, screen: &Screen) {
    for note in &told.notes {
        screen.note(sanitize::text(note));
    }
}

fn dry_run(service: &Service, text: String, mut told: Document, screen: &Screen) -> Result<Exit> {
    if screen.json() {
        told.file = Some(text);
        screen.document(&told)?;
        return Ok(Exit::Done);
    }
    screen.bytes(text.as_bytes())?;
    tell_notes(&told, screen);
    screen.note(format_args!("would be written to {}; then:", told.path));
    for step in &service.start {
        screen.note(format_args!("  {}", sanitize::text(&shell(&step.words))));
    }
    Ok(Exit::Done)
}

/// A daemon that somebody started by hand would keep that of the service out.
fn not_twice(service: &Service, settings: &Settings) -> Result<()> {
    let local = Local::read(&settings.state_dir, &settings.which.address().to_string());
    let Some(pid) = local.daemon else { return Ok(()) };
    let state = look(service)?;
    if service.path.exists() && state.running == Some(true) {
        return Ok(());
    }
    let pid = pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
    let what = format!("a daemon{pid} runs for this repository, and it is not that of the service");
    Err(Stop::new(Exit::Busy, what, "stop it first: the service starts its own").into())
}

/// Starts what was written, or puts back what was there before.
fn start(service: &Service, before: Option<Vec<u8>>) -> Result<()> {
    let started = service.start.iter().try_for_each(|step| call(step, service));
    if started.is_err() {
        let mut back: Vec<&Step> = service.forget.iter().collect();
        match before {
            Some(old) => {
                put(&service.path, &old)?;
                back.extend(&service.restart);
            }
            None => fs::remove_file(&service.path)?,
        }
        // the error that matters is the first one
        let _ = back.into_iter().try_for_each(|step| call(step, service));
    }
    started
}

/// Service managers refuse files that others may write.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(path.parent().expect("files lie in directories"))?;
    fs::write(path, bytes)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

/// Root's part, as commands that mean the same for root.
fn not_written(
    error: &io::Error,
    service: &Service,
    plan: &Plan,
    args: &InstallService,
) -> anyhow::Error {
    let path = service.path.display();
    if error.kind() != io::ErrorKind::PermissionDenied || !plan.owner.system {
        return anyhow::anyhow!("cannot write {path}: {error}");
    }
    let mut words = vec![plan.program.to_string_lossy().into_owned()];
    words.extend(plan.flags.iter().cloned());
    words.extend(["service", "install", "--system", "--dry-run"].map(str::to_owned));
    for (flag, file) in [
        ("--encrypted-password-file", &args.encrypted_password_file),
        ("--encrypted-secret-key-file", &args.encrypted_secret_key_file),
    ] {
        if let Some(file) = file {
            words.extend([flag.to_owned(), file.to_string_lossy().into_owned()]);
        }
    }
    let file = engine::doctor::quote(&path.to_string());
    let mut hint = format!("{} | sudo tee {file} >/dev/null", shell(&words));
    for step in &service.start {
        hint = format!("{hint} && sudo {}", shell(&step.words));
    }
    Stop::new(Exit::Failed, format!("only root may write {path}"), hint).into()
}

/// A command as text for a shell.
pub(super) fn shell(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| engine::doctor::quote(word)).collect();
    words.join(" ")
}

fn output(step: &Step) -> io::Result<Output> {
    let mut command = Command::new(&step.words[0]);
    command.args(&step.words[1..]).stdin(Stdio::null());
    for name in SECRET_VARIABLES {
        command.env_remove(name);
    }
    command.output()
}

fn call(step: &Step, service: &Service) -> Result<()> {
    let said = output(step).map_err(|error| cannot_run(step, service, &error))?;
    if said.status.success() || step.may_fail {
        return Ok(());
    }
    Err(refused(step, &said))
}

fn cannot_run(step: &Step, service: &Service, error: &io::Error) -> anyhow::Error {
    let what = format!("cannot run {}: {error}", step.words[0]);
    let hint = format!(
        "without {} let the service manager of this system start `agent-backup daemon`",
        service.manager.name()
    );
    Stop::new(Exit::Failed, what, hint).into()
}

fn refused(step: &Step, said: &Output) -> anyhow::Error {
    let words = [String::from_utf8_lossy(&said.stderr), String::from_utf8_lossy(&said.stdout)];
    let first = words.iter().flat_map(|text| text.lines()).find(|line| !line.trim().is_empty());
    let what = format!("{} failed: {}", shell(&step.words), first.unwrap_or("it said nothing"));
    let hint = "is the service manager running, and is this its user? nothing was installed";
    Stop::new(Exit::Failed, what, hint).into()
}

/// How the service stands, by its manager.
pub(super) fn look(service: &Service) -> Result<State> {
    let step = &service.look;
    let said = output(step).map_err(|error| cannot_run(step, service, &error))?;
    let printed = String::from_utf8_lossy(&said.stdout);
    if service.manager == Manager::Systemd && !said.status.success() {
        return Err(refused(step, &said));
    }
    Ok(service.state(said.status.success(), &printed))
}

/// The program that an installed service starts; none if its file is not one of ours.
pub(super) fn program(service: &Service) -> Option<PathBuf> {
    service.program(&fs::read_to_string(&service.path).ok()?)
}

/// Whether it can be started.
pub(super) fn is_program(path: &Path) -> bool {
    let mode = fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|meta| meta.mode());
    mode.is_some_and(|mode| mode & 0o111 != 0)
}

/// Whether a user's services run without a session; none where that is no question.
pub(super) fn lingers(service: &Service, owner: &Owner) -> Option<bool> {
    if service.manager != Manager::Systemd || owner.system {
        return None;
    }
    let asked = Step {
        words: ["loginctl", "show-user", &owner.user, "--property=Linger", "--value"]
            .map(str::to_owned)
            .to_vec(),
        may_fail: true,
    };
    if let Ok(said) = output(&asked)
        && said.status.success()
    {
        return Some(String::from_utf8_lossy(&said.stdout).trim() == "yes");
    }
    // who is not logged in is not known to it
    Some(Path::new("/var/lib/systemd/linger").join(&owner.user).exists())
}

fn uninstall(whose: &Whose, env: &Environment, screen: &Screen) -> Result<Exit> {
    let (owner, service) = of(whose, env)?;
    let told = document(&owner, &service);
    let there = service.path.exists();
    if there {
        may_remove(&service, &owner)?;
        for step in &service.stop {
            let said = output(step).map_err(|error| cannot_run(step, &service, &error))?;
            if !said.status.success() {
                // what does not run, or nobody knows any more, is ended
                screen.detail(format_args!("{:#}", refused(step, &said)));
            }
        }
        fs::remove_file(&service.path).with_context(|| format!("cannot remove {}", told.path))?;
        service.forget.iter().try_for_each(|step| call(step, &service))?;
    }
    let what = if there { "is removed; backups stay" } else { "is not there" };
    screen.line(format_args!("{} {what}", told.path))?;
    if screen.json() {
        screen.document(&told)?;
    }
    Ok(Exit::Done)
}

/// Before anything is stopped.
fn may_remove(service: &Service, owner: &Owner) -> Result<()> {
    let dir = service.path.parent().expect("files lie in directories");
    if !owner.system || rustix::fs::access(dir, Access::WRITE_OK).is_ok() {
        return Ok(());
    }
    let path = service.path.display();
    let remove = format!("rm {}", engine::doctor::quote(&path.to_string()));
    let all = service.stop.iter().map(|step| shell(&step.words));
    let all = all.chain([remove]).chain(service.forget.iter().map(|step| shell(&step.words)));
    let all: Vec<String> = all.map(|command| format!("sudo {command}")).collect();
    Err(Stop::new(Exit::Failed, format!("only root may remove {path}"), all.join(" && ")).into())
}

fn status(whose: &Whose, env: &Environment, screen: &Screen) -> Result<Exit> {
    let (owner, service) = of(whose, env)?;
    let mut told = document(&owner, &service);
    told.installed = service.path.exists();
    if told.installed {
        let state = look(&service)?;
        let program = program(&service);
        told.program_is_there = program.as_deref().map(is_program);
        told.program = program.map(|path| sanitize::path(&path));
        told.enabled = Some(state.enabled);
        told.running = state.running;
        told.failed = state.failed;
        told.lingers = lingers(&service, &owner);
        show(&told, service.log.as_deref(), screen)?;
    } else {
        screen.line("no service is installed: agent-backup service install")?;
    }
    if screen.json() {
        screen.document(&told)?;
    }
    let is_right = told.running != Some(false) && told.program_is_there != Some(false);
    Ok(if told.installed && is_right { Exit::Done } else { Exit::Failed })
}

fn show(told: &Document, log: Option<&str>, screen: &Screen) -> Result<()> {
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    screen.line(format_args!("service           {}", told.path))?;
    if let Some(program) = &told.program {
        let gone = if told.program_is_there == Some(false) { ", which is gone" } else { "" };
        screen.line(format_args!("its program       {program}{gone}"))?;
    }
    screen.line(format_args!("starts by itself  {}", yes(told.enabled == Some(true))))?;
    let running = told.running.map_or("the manager does not say", yes);
    let how = told.failed.as_ref().map(|how| format!(", {}", sanitize::text(how)));
    screen.line(format_args!("runs              {running}{}", how.unwrap_or_default()))?;
    if let Some(lingers) = told.lingers {
        screen.line(format_args!("without a session {}", yes(lingers)))?;
    }
    if let Some(log) = log {
        screen.line(format_args!("its lines         {}", sanitize::text(log)))?;
    }
    Ok(())
}
