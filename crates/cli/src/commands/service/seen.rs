//! What a service sees of this machine, and whether that is enough.
//!
//! A service is started without a shell: it has the home, and of the variables those that its file names.
//! [`plan`] takes along what it needs and is no secret; [`Trial`] runs this program with just that.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use adapters::Adapter;
use anyhow::{Context as _, Result};
use rustix::fs::Access;
use serde::Deserialize;
use store::Address;

use crate::args::{Global, InstallService};
use crate::exit::{Exit, Stop};
use crate::service::{Credential, Manager, Owner, Plan};
use crate::settings::secret::{CREDENTIAL_PASSWORD, CREDENTIAL_STORAGE, How};
use crate::settings::{Environment, SECRET_VARIABLES, Settings, Which, absolute};
use crate::ui::sanitize;

/// Variables of ours, and of the libraries below us, that are taken along as they are.
const TAKEN: [&str; 32] = [
    "AGENT_BACKUP_REGION",
    "AGENT_BACKUP_ENDPOINT",
    "AGENT_BACKUP_RETRY",
    "AGENT_BACKUP_KEY_ID",
    "AGENT_BACKUP_PASSWORD_COMMAND",
    "AGENT_BACKUP_SECRET_KEY_COMMAND",
    "B2_KEY_ID",
    "B2_APPLICATION_KEY_ID",
    "B2_BUCKET",
    "B2_BUCKET_NAME",
    "B2_PREFIX",
    "B2_REGION",
    "B2_ENDPOINT",
    "B2_ENCRYPT",
    "B2_SCHEDULE",
    "B2_KEEP_SNAPSHOTS",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "AGENT_BACKUP_REPO",
];
/// The same, but paths that may be relative to where the shell is.
const TAKEN_PATHS: [&str; 4] = [
    "AGENT_BACKUP_STATE_DIR",
    "AGENT_BACKUP_CACHE_DIR",
    "AGENT_BACKUP_PASSWORD_FILE",
    "AGENT_BACKUP_SECRET_KEY_FILE",
];
/// Ids of storage keys, with the variable of the secret half.
const KEYS: [(&str, &str); 3] = [
    ("AGENT_BACKUP_KEY_ID", "AGENT_BACKUP_SECRET_KEY"),
    ("B2_KEY_ID", "B2_APPLICATION_KEY"),
    ("B2_APPLICATION_KEY_ID", "B2_APPLICATION_KEY"),
];
/// What a service manager searches for programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Last of a stop, after the last push was cut: what runs ends where nothing is lost.
const STOP_MORE_SECS: u64 = 30;

/// What the service sees, tried out.
pub(super) struct Trial {
    /// The settings as the service resolves them.
    pub(super) settings: Settings,
    /// Secrets of this shell that no file may name.
    lost: Vec<String>,
    /// Only systemd can open them.
    sealed_password: bool,
    sealed_key: bool,
    session: Vec<(String, OsString)>,
}

pub(super) fn plan(
    args: &InstallService,
    owner: Owner,
    manager: Manager,
    flags: &Global,
    env: &Environment,
) -> Result<(Plan, Trial)> {
    let sealed = sealed(args, manager)?;
    let is_sealed = |name: &str| sealed.iter().any(|one| one.name == name);
    let (sealed_password, sealed_key) =
        (is_sealed(CREDENTIAL_PASSWORD), is_sealed(CREDENTIAL_STORAGE));
    let lost = lost(env);
    let mut seen = taken(env, sealed_key)?;
    // stands for what systemd will open
    let stand_in = tempfile::tempdir().context("cannot make a directory")?;
    for one in &sealed {
        std::fs::write(stand_in.path().join(one.name), "")?;
    }
    if !sealed.is_empty() {
        seen.vars.insert("CREDENTIALS_DIRECTORY".to_owned(), stand_in.path().into());
    }
    let resolved = resolve(flags, &seen).map_err(|error| without(&lost, error))?;
    let known = resolved.adapters()?;
    let moved = adapters_variables(&known, env, &mut seen)?;
    // agents' variables change nothing but where agents are
    let settings = resolve(flags, &seen)?;
    let daemon = settings.daemon.clone().with_environment(&seen)?;
    for name in ["CREDENTIALS_DIRECTORY", "AGENT_BACKUP_CONFIG"] {
        seen.vars.remove(name);
    }
    let variables: Vec<(String, String)> = seen
        .vars
        .iter()
        .filter(|(name, _)| *name != "HOME")
        .map(|(name, value)| Ok((name.clone(), text(name, value)?)))
        .collect::<Result<_>>()?;
    let mut writes = vec![settings.state_dir.clone(), settings.cache_dir.clone()];
    if let Address::Local(path) = settings.which.address() {
        writes.push(path);
    }
    writes.extend(settings.push.paths.values().cloned());
    writes.extend(daemon.rehearsal_dir.clone());
    writes.extend(daemon.prometheus.as_deref().and_then(Path::parent).map(Path::to_owned));
    writes.extend(moved);
    let mut places: Vec<PathBuf> = writes.iter().filter_map(|path| nearest(path)).collect();
    let here = known.iter().flat_map(|adapter| adapter.candidates(&settings.adapters_env));
    places.extend(here.filter_map(|path| path.canonicalize().ok()));
    places.sort();
    places.dedup();
    // no unit gives more than the user may
    let may_write = |path: &PathBuf| rustix::fs::access(path, Access::WRITE_OK).is_ok();
    let (writes, mut reads): (Vec<_>, Vec<_>) = places.into_iter().partition(may_write);
    let program = program(env)?;
    reads.push(program.clone());
    reads.extend(program.canonicalize().ok());
    if settings.config_found {
        reads.extend(settings.config_path.parent().map(Path::to_owned));
    }
    let mut credentials = sealed;
    let takes_credentials = owner.system && manager == Manager::Systemd;
    let mut by_file = |name: Option<&'static str>, path: &Path| match name {
        Some(name) if takes_credentials => {
            credentials.push(Credential { name, path: path.to_owned(), encrypted: false });
        }
        _ => reads.push(path.to_owned()),
    };
    if let Some(password) = &settings.password
        && let How::File(path) = &password.source.how
    {
        lasting(path, &password.source.from)?;
        // one that was given for this run counts before any key; a credential does not
        by_file((!password.explicit).then_some(CREDENTIAL_PASSWORD), path);
    }
    if let Some((path, from)) = settings.storage_key_file() {
        lasting(path, from)?;
        by_file(Some(CREDENTIAL_STORAGE), path);
    }
    let stop_secs = daemon.last_push.as_secs() + STOP_MORE_SECS;
    let flags = words(flags, &settings)?;
    let plan = Plan { owner, program, flags, variables, reads, writes, credentials, stop_secs };
    let session = ["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"]
        .into_iter()
        .filter(|_| !args.whose.system)
        .filter_map(|name| Some((name.to_owned(), env.vars.get(name)?.clone())))
        .collect();
    Ok((plan, Trial { settings, lost, sealed_password, sealed_key, session }))
}

/// This program by the name under which `PATH` has it: where that is a link, it outlives an update.
fn program(env: &Environment) -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let is_this = |path: &PathBuf| {
        path.is_absolute() && path.canonicalize().is_ok_and(|real| real == program)
    };
    let path = env.vars.get("PATH").cloned().unwrap_or_default();
    let named = std::env::split_paths(&path).map(|dir| dir.join(env.tool.name)).find(is_this);
    Ok(named.unwrap_or(program))
}

fn resolve(flags: &Global, seen: &Environment) -> Result<Settings> {
    Ok(Settings::resolve(flags, seen)?)
}

/// Credentials that only systemd can open.
fn sealed(args: &InstallService, manager: Manager) -> Result<Vec<Credential>> {
    let mut all = Vec::new();
    for (name, path) in [
        (CREDENTIAL_PASSWORD, &args.encrypted_password_file),
        (CREDENTIAL_STORAGE, &args.encrypted_secret_key_file),
    ] {
        let Some(path) = path else { continue };
        if manager != Manager::Systemd {
            let what = "encrypted credentials are systemd's";
            return Err(Stop::new(Exit::Usage, what, "password_file in config.toml").into());
        }
        all.push(Credential { name, path: absolute(path)?, encrypted: true });
    }
    Ok(all)
}

/// Variables of this shell that hold what a daemon may need and no file should.
fn lost(env: &Environment) -> Vec<String> {
    let with_user = |name: &&str| {
        let value = env.vars.get(*name).map(|value| value.to_string_lossy().into_owned());
        name.to_ascii_lowercase().ends_with("_proxy") && value.is_some_and(|v| v.contains('@'))
    };
    let secrets = SECRET_VARIABLES.into_iter().filter(|name| !name.contains("_OTHER_"));
    let secrets = secrets.filter(|name| env.vars.contains_key(*name));
    secrets.chain(TAKEN.into_iter().filter(with_user)).map(str::to_owned).collect()
}

/// The environment with what is taken along and no more.
fn taken(env: &Environment, sealed_key: bool) -> Result<Environment> {
    let lost = lost(env);
    let mut seen = env.clone();
    // half a key is none: that of the configuration counts then
    let is_set = |name: String| env.vars.contains_key(&name);
    let half = |name: &str| {
        let secret = KEYS.iter().find(|(id, _)| *id == name).map(|(_, secret)| *secret);
        let lost = |secret: &str| {
            let elsewhere = is_set(format!("{secret}_FILE")) || is_set(format!("{secret}_COMMAND"));
            is_set(secret.to_owned()) && !elsewhere
        };
        !sealed_key && secret.is_some_and(lost)
    };
    seen.vars.retain(|name, _| {
        let name = name.as_str();
        let ours = TAKEN.contains(&name) || TAKEN_PATHS.contains(&name) || name == "HOME";
        ours && !lost.iter().any(|gone| gone == name) && !half(name)
    });
    if let Some(path) = env.path("AGENT_BACKUP_CONFIG") {
        // becomes a flag
        seen.vars.insert("AGENT_BACKUP_CONFIG".to_owned(), absolute(&path)?.into());
    }
    for name in TAKEN_PATHS {
        if let Some(path) = seen.path(name) {
            seen.vars.insert(name.to_owned(), absolute(&path)?.into());
        }
    }
    if let Some(repo) = env.text("AGENT_BACKUP_REPO")? {
        seen.vars.insert("AGENT_BACKUP_REPO".to_owned(), repo_again(repo)?.into());
    }
    Ok(seen)
}

/// Takes along by which variables agents are looked for elsewhere; where that is.
fn adapters_variables(
    known: &[Adapter],
    env: &Environment,
    seen: &mut Environment,
) -> Result<Vec<PathBuf>> {
    let all = env.for_adapters()?;
    let places = |env: &adapters::Env| -> Vec<PathBuf> {
        known.iter().flat_map(|one| one.candidates(env)).collect()
    };
    let with = places(&all);
    let mut moved = Vec::new();
    for (name, value) in all.vars.iter().filter(|(name, _)| *name != "HOME") {
        let mut fewer = all.clone();
        fewer.vars.remove(name);
        let without = places(&fewer);
        if with != without {
            moved.extend(with.iter().filter(|path| !without.contains(path)).cloned());
            seen.vars.insert(name.clone(), value.clone());
        }
    }
    Ok(moved)
}

/// The flags that mean the same again, wherever the service is started.
fn words(flags: &Global, settings: &Settings) -> Result<Vec<String>> {
    let path = |path: &Path| -> Result<String> { text("a path", absolute(path)?.as_os_str()) };
    let mut words = Vec::new();
    // named, so that a home that is not there yet is no machine without settings
    if settings.config_found {
        words.extend(["--config".to_owned(), path(&settings.config_path)?]);
    }
    if let Some(repo) = &flags.repo {
        words.extend(["--repo".to_owned(), repo_again(repo)?]);
    }
    for (flag, file) in
        [("--cache-dir", &flags.cache_dir), ("--password-file", &flags.password_file)]
    {
        if let Some(file) = file {
            words.extend([flag.to_owned(), path(file)?]);
        }
    }
    if let Some(command) = &flags.password_command {
        words.extend(["--password-command".to_owned(), command.clone()]);
    }
    if let Some(secs) = flags.retry {
        words.extend(["--retry".to_owned(), secs.to_string()]);
    }
    if flags.no_cache {
        words.push("--no-cache".to_owned());
    }
    Ok(words)
}

fn repo_again(repo: &str) -> Result<String> {
    match Address::parse(repo)? {
        Address::Local(path) => text("the repository", absolute(&path)?.as_os_str()),
        _ => Ok(repo.to_owned()),
    }
}

fn text(name: &str, value: &std::ffi::OsStr) -> Result<String> {
    let text = value.to_str().map(str::to_owned);
    text.with_context(|| format!("{name}: it is not UTF-8, and a service's file is"))
}

/// A pipe of this shell (`<(...)`) is gone when the service starts.
fn lasting(path: &Path, from: &str) -> Result<()> {
    if !path.exists() || path.is_file() {
        return Ok(());
    }
    let what = format!("{from}: {} is no file that a service finds later", sanitize::path(path));
    Err(Stop::new(Exit::Configuration, what, "write the secret to a file, readable by you alone")
        .into())
}

/// The path, or what of it is there already: a place below can be made then.
fn nearest(path: &Path) -> Option<PathBuf> {
    let there = path.ancestors().find(|path| path.exists())?.canonicalize().ok()?;
    (there != Path::new("/")).then_some(there)
}

/// Names what only this shell has beside an error that may come of it.
fn without(lost: &[String], error: anyhow::Error) -> anyhow::Error {
    if lost.is_empty() {
        return error;
    }
    let what = format!("the service would not see {}: {error:#}", lost.join(", "));
    let hint = "put it into a file of yours alone and name that in config.toml: password_file, [storage] key_id and \
                secret_key_file; or let `agent-backup key enroll` make a key of this machine";
    Stop::new(Exit::Configuration, what, hint).into()
}

/// The document of a run that failed.
#[derive(Deserialize)]
struct Said {
    error: Told,
}

#[derive(Deserialize)]
struct Told {
    code: u8,
    message: String,
    hint: Option<String>,
}

impl Trial {
    /// Opens the repository as the service will: with this program, its flags, its variables, and nobody to
    /// ask. What cannot be tried is a note.
    pub(super) fn run(&self, plan: &Plan) -> Result<Option<String>> {
        if self.sealed_key {
            let what = "not tried: only systemd can open the encrypted storage key";
            return Ok(Some(what.to_owned()));
        }
        let mut command = Command::new(&plan.program);
        command.args(&plan.flags).args(["snapshots", "--json"]).stdin(Stdio::null());
        command.env_clear().env("HOME", &plan.owner.home).env("USER", &plan.owner.user);
        command.env("LOGNAME", &plan.owner.user).env("PATH", PATH).current_dir("/");
        command.envs(self.session.iter().map(|(name, value)| (name, value)));
        command.envs(plan.variables.iter().map(|(name, value)| (name, value)));
        let done = command.output().context("cannot try the service")?;
        if done.status.success() {
            return Ok(None);
        }
        let Ok(Said { error }) = serde_json::from_slice(&done.stdout) else {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            let said = said.lines().next().unwrap_or("it said nothing").to_owned();
            anyhow::bail!("as the service will be started, this program ended badly: {said}");
        };
        let exit = Exit::of_code(error.code).unwrap_or(Exit::Failed);
        let embedded = matches!(self.settings.which, Which::Embedded(_));
        match exit {
            // the first push makes it
            Exit::NoRepository if embedded => Ok(None),
            Exit::StorageUnreachable | Exit::StorageCap | Exit::Busy => {
                Ok(Some(format!("not tried: {}", error.message)))
            }
            Exit::WrongKey if self.sealed_password => {
                Ok(Some("not tried: only systemd can open the encrypted passphrase".to_owned()))
            }
            _ => {
                let what = format!("a service could not open the repository: {}", error.message);
                let stop = Stop { exit, what, hint: error.hint };
                Err(without(&self.lost, stop.into()))
            }
        }
    }
}
