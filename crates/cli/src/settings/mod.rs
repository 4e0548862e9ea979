//! What was meant: flags over environment variables over `config.toml`, resolved once.
//!
//! In: the global flags and the [`Environment`]. Out: [`Settings`]. Invariants: nothing else in the
//! program reads the environment; a secret is read when it is needed, and never printed; the
//! passphrase never defaults to the key of the storage.

mod daemon;
mod environment;
mod error;
mod file;
mod other;
pub(crate) mod secret;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use store::{Address, Credentials};
use zeroize::Zeroizing;

use crate::args::{Global, ScanSecrets};
use crate::tool::Tool;

pub(crate) use daemon::Daemon;
pub(crate) use environment::{Environment, SECRET_VARIABLES, absolute};
pub(crate) use error::{Error, Result};
pub(crate) use file::template;
use file::{ConfigFile, Gone};
use secret::{How, Source};

/// Which repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one that was named: never made by accident.
    Named(Address),
    /// None was named: the one in our data directory, made on first use.
    Embedded(PathBuf),
}

impl Which {
    /// Its address.
    pub(crate) fn address(&self) -> Address {
        match self {
            Self::Named(address) => address.clone(),
            Self::Embedded(path) => Address::Local(path.clone()),
        }
    }
}

/// What opens the repository, and whether this machine's own key comes first.
#[derive(Debug, Clone)]
pub(crate) struct Password {
    /// Where it comes from.
    pub(crate) source: Source,
    /// Given for this run (flag, environment): used whatever else there is.
    pub(crate) explicit: bool,
}

/// What `push` takes from the configuration where no flag says otherwise.
#[derive(Debug, Clone, Default)]
pub(crate) struct PushDefaults {
    pub(crate) agents: Vec<String>,
    pub(crate) paths: BTreeMap<String, PathBuf>,
    pub(crate) exclude: Vec<String>,
    pub(crate) exclude_larger_than: Option<u64>,
    pub(crate) limit_upload: Option<u64>,
    pub(crate) one_file_system: bool,
    pub(crate) scan_secrets: ScanSecrets,
    pub(crate) redact_secrets: bool,
    pub(crate) gone: Gone,
}

/// Everything a command needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) which: Which,
    /// The repository that is taken where none is named; none without a home.
    pub(crate) embedded: Option<PathBuf>,
    pub(crate) password: Option<Password>,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
    /// For how long a bucket may be out of reach, where somebody said so.
    pub(crate) retry_secs: Option<u32>,
    pub(crate) state_dir: PathBuf,
    pub(crate) cache_dir: PathBuf,
    pub(crate) no_cache: bool,
    pub(crate) config_path: PathBuf,
    pub(crate) config_found: bool,
    pub(crate) adapters_dir: PathBuf,
    pub(crate) adapters_env: adapters::Env,
    pub(crate) machine: engine::Machine,
    pub(crate) push: PushDefaults,
    /// Findings of secrets that are not told.
    pub(crate) secrets_ignored: Vec<String>,
    /// Without what the environment says of it: [`Daemon::with_environment`].
    pub(crate) daemon: Daemon,
    /// What the user should know about variables that are set.
    pub(crate) notes: Vec<String>,
    storage_key: Option<(String, Source)>,
    tool: Tool,
}

impl Settings {
    /// Puts flags, environment and configuration file together.
    pub(crate) fn resolve(flags: &Global, env: &Environment) -> Result<Self> {
        if let Some(value) = env.text("B2_ENCRYPT")?
            && matches!(value.to_ascii_lowercase().as_str(), "false" | "0" | "no" | "off")
        {
            return Err(Error::Unencrypted);
        }
        let named = flags.config.clone().or_else(|| env.path("AGENT_BACKUP_CONFIG"));
        let config_path = match &named {
            Some(path) => absolute(path)?,
            None => env.xdg("XDG_CONFIG_HOME", ".config")?.join("config.toml"),
        };
        let config = match ConfigFile::read(&config_path)? {
            None if named.is_some() => {
                let source = rustix::io::Errno::NOENT.into();
                return Err(Error::ConfigRead { path: config_path, source });
            }
            config => config,
        };
        let config_found = config.is_some();
        let brought = env.tool.config.map(|text| ConfigFile::brought(text, env.tool.name));
        let mut config =
            config.map_or_else(|| brought.unwrap_or_else(|| Ok(ConfigFile::default())), Ok)?;
        let mut secrets_ignored = std::mem::take(&mut config.secrets_ignored);
        secrets_ignored.extend(file::read_ignored(&config_path.with_file_name("secrets-ignore"))?);
        let which = which(flags, env, &config)?;
        let at_b2 = matches!(which, Which::Named(Address::B2 { .. }));
        let text = |name| Ok(env.text(name)?.map(str::to_owned));
        let b2_region = if at_b2 { text("B2_REGION")? } else { None };
        let b2_endpoint = if at_b2 { text("B2_ENDPOINT")? } else { None };
        let opened = |path: &Option<String>| path.as_ref().map(|p| env.open_tilde(p)).transpose();
        let dir = |flag: Option<PathBuf>, variable, configured, xdg, below| -> Result<PathBuf> {
            let chosen = flag.or_else(|| env.path(variable));
            let chosen = chosen.map_or_else(|| opened(configured), |path| Ok(Some(path)))?;
            chosen.map_or_else(|| env.xdg(xdg, below), |path| absolute(&path))
        };
        Ok(Self {
            password: password(flags, env, &config)?,
            storage_key: storage_key(env, &mut config)?,
            region: text("AGENT_BACKUP_REGION")?.or(b2_region).or(config.region),
            endpoint: text("AGENT_BACKUP_ENDPOINT")?.or(b2_endpoint).or(config.endpoint),
            retry_secs: flags
                .retry
                .map_or_else(|| retry(env), |s| Ok(Some(s)))?
                .or(config.retry_secs),
            state_dir: dir(
                None,
                "AGENT_BACKUP_STATE_DIR",
                &config.state_dir,
                "XDG_STATE_HOME",
                ".local/state",
            )?,
            cache_dir: dir(
                flags.cache_dir.clone(),
                "AGENT_BACKUP_CACHE_DIR",
                &config.cache_dir,
                "XDG_CACHE_HOME",
                ".cache",
            )?,
            no_cache: flags.no_cache,
            config_found,
            secrets_ignored,
            adapters_dir: config_path.with_file_name("agents"),
            config_path,
            adapters_env: env.for_adapters()?,
            machine: engine::Machine {
                host: config.host.unwrap_or_else(|| env.host.clone()),
                user: env.user.clone(),
                home: env.home()?,
                os: std::env::consts::OS.to_owned(),
            },
            push: PushDefaults {
                agents: config.agents,
                paths: config
                    .paths
                    .iter()
                    .map(|(label, dir)| Ok((label.clone(), env.open_tilde(dir)?)))
                    .collect::<Result<_>>()?,
                exclude: config.exclude,
                exclude_larger_than: config.exclude_larger_than,
                limit_upload: config.limit_upload,
                one_file_system: config.one_file_system,
                scan_secrets: config.scan_secrets,
                redact_secrets: config.redact_secrets,
                gone: config.gone,
            },
            daemon: config.daemon,
            notes: notes(env),
            which,
            embedded: embedded(env).ok(),
            tool: env.tool,
        })
    }

    /// The agents that are known.
    pub(crate) fn adapters(
        &self,
    ) -> std::result::Result<Vec<adapters::Adapter>, adapters::AdapterError> {
        self.tool.adapters(&self.adapters_dir)
    }

    /// The secret half of the storage key, read now.
    pub(crate) fn storage_secret(&self) -> Result<Option<Zeroizing<String>>> {
        self.storage_key.as_ref().map(|(_, secret)| secret.read()).transpose()
    }

    /// The storage key, read now; none if there is none.
    pub(crate) fn credentials(&self) -> Result<Option<Credentials>> {
        let Some((key_id, secret)) = &self.storage_key else { return Ok(None) };
        let secret = store::Secret::new(std::mem::take(&mut *secret.read()?));
        Ok(Some(Credentials { key_id: key_id.clone(), secret }))
    }

    /// Set up as agent-backup-core was, which took the storage key where it had no passphrase.
    pub(crate) fn relied_on_storage_key(&self) -> bool {
        let from = self.storage_key.as_ref().map(|(_, source)| source.from.as_str());
        self.password.is_none() && from == Some("B2_APPLICATION_KEY")
    }

    /// The file with the secret half of the storage key, if it is one, and what named it.
    pub(crate) fn storage_key_file(&self) -> Option<(&std::path::Path, &str)> {
        match self.storage_key.as_ref().map(|(_, source)| (&source.how, &source.from)) {
            Some((How::File(path), from)) => Some((path, from)),
            _ => None,
        }
    }
}

/// A variable, or the one that other tools of its family have for the same.
fn either<'e>(env: &'e Environment, name: &str, other: &str) -> Result<Option<&'e str>> {
    Ok(env.text(name)?.or(env.text(other)?))
}

fn retry(env: &Environment) -> Result<Option<u32>> {
    let name = "AGENT_BACKUP_RETRY";
    let wrong =
        |_| Error::Value { name: name.to_owned(), what: "write a number of seconds".into() };
    env.text(name)?.map(|text| text.parse().map_err(wrong)).transpose()
}

fn which(flags: &Global, env: &Environment, config: &ConfigFile) -> Result<Which> {
    let parse = |name: &str, text: &str| {
        let address = Address::parse(text)
            .map_err(|e| Error::Value { name: name.to_owned(), what: e.to_string() })?;
        Ok(Which::Named(match address {
            Address::Local(path) => Address::Local(absolute(&path)?),
            other => other,
        }))
    };
    if let Some(address) = &flags.repo {
        return parse("--repo", address);
    }
    if let Some(address) = env.text("AGENT_BACKUP_REPO")? {
        return parse("AGENT_BACKUP_REPO", address);
    }
    if let Some(bucket) = either(env, "B2_BUCKET", "B2_BUCKET_NAME")? {
        // the program's own name, as in agent-backup-core
        let prefix = env.text("B2_PREFIX")?.unwrap_or(env.tool.name);
        return parse("B2_BUCKET and B2_PREFIX", &format!("b2:{bucket}/{prefix}"));
    }
    match &config.repo {
        Some(text) if text.starts_with('~') => {
            Ok(Which::Named(Address::Local(env.open_tilde(text)?)))
        }
        Some(text) => parse("repo", text),
        None => Ok(Which::Embedded(embedded(env)?)),
    }
}

/// The repository where none is named.
fn embedded(env: &Environment) -> Result<PathBuf> {
    Ok(env.xdg("XDG_DATA_HOME", ".local/share")?.join("repository"))
}

fn password(flags: &Global, env: &Environment, config: &ConfigFile) -> Result<Option<Password>> {
    let given = |name: &str, how| Some(Password { source: Source::new(name, how), explicit: true });
    if let Some(file) = &flags.password_file {
        return Ok(given("--password-file", How::File(file.clone())));
    }
    if let Some(command) = &flags.password_command {
        return Ok(given("--password-command", How::Command(command.clone())));
    }
    if let Some(text) = env.text("AGENT_BACKUP_PASSWORD")? {
        return Ok(given("AGENT_BACKUP_PASSWORD", How::Value(text.to_owned().into())));
    }
    if let Some(file) = env.path("AGENT_BACKUP_PASSWORD_FILE") {
        return Ok(given("AGENT_BACKUP_PASSWORD_FILE", How::File(file)));
    }
    if let Some(command) = env.text("AGENT_BACKUP_PASSWORD_COMMAND")? {
        return Ok(given("AGENT_BACKUP_PASSWORD_COMMAND", How::Command(command.to_owned())));
    }
    if let Some(text) = env.text("B2_ENCRYPTION_KEY")? {
        return Ok(given("B2_ENCRYPTION_KEY", How::Value(text.to_owned().into())));
    }
    if let Some(how) = secret::credential(env, secret::CREDENTIAL_PASSWORD) {
        let source = Source::new(secret::CREDENTIAL_PASSWORD, how);
        return Ok(Some(Password { source, explicit: false }));
    }
    let Some(source) = &config.password else { return Ok(None) };
    Ok(Some(Password { source: opened(source, env)?, explicit: false }))
}

/// Both halves come from the same place: half a key of one storage and half of another would be a
/// riddle. Only a credential of a service is the secret half to whatever id there is.
fn storage_key(env: &Environment, config: &mut ConfigFile) -> Result<Option<(String, Source)>> {
    let credential = secret::credential(env, secret::CREDENTIAL_STORAGE)
        .map(|how| Source::new(secret::CREDENTIAL_STORAGE, how));
    for (id, secret) in
        [("AGENT_BACKUP_KEY_ID", "AGENT_BACKUP_SECRET_KEY"), ("B2_KEY_ID", "B2_APPLICATION_KEY")]
    {
        let missing = |is: &str, not: &str| Error::Credentials {
            what: format!("{is} is set and {not} is not: a storage key has two halves"),
        };
        let key_id = match id {
            "B2_KEY_ID" => either(env, id, "B2_APPLICATION_KEY_ID")?,
            _ => env.text(id)?,
        };
        match (key_id, key_variable(env, secret)?.or_else(|| credential.clone())) {
            (Some(key_id), Some(source)) => return Ok(Some((key_id.to_owned(), source))),
            (Some(_), None) => return Err(missing(id, secret)),
            (None, Some(source)) if source.from != secret::CREDENTIAL_STORAGE => {
                return Err(missing(&source.from, id));
            }
            (None, _) => {}
        }
    }
    let Some(key_id) = config.key_id.clone() else { return Ok(None) };
    if let Some(source) = credential {
        return Ok(Some((key_id, source)));
    }
    let Some(secret) = &config.secret_key else {
        return config.key_alone.take().map_or(Ok(None), Err);
    };
    Ok(Some((key_id, opened(secret, env)?)))
}

/// A source of the configuration file, whose path may begin with `~/`.
fn opened(source: &Source, env: &Environment) -> Result<Source> {
    let how = match &source.how {
        How::File(path) => How::File(env.open_tilde(&path.to_string_lossy())?),
        other => other.clone(),
    };
    Ok(Source::new(source.from.clone(), how))
}

/// The secret half of a storage key, by the variable of this name, or (ours) with `_FILE` or `_COMMAND` behind it.
fn key_variable(env: &Environment, name: &str) -> Result<Option<Source>> {
    if let Some(value) = env.text(name)? {
        return Ok(Some(Source::new(name, How::Value(value.to_owned().into()))));
    }
    if name != "AGENT_BACKUP_SECRET_KEY" {
        return Ok(None);
    }
    let (file, command) = (format!("{name}_FILE"), format!("{name}_COMMAND"));
    if let Some(path) = env.path(&file) {
        return Ok(Some(Source::new(file, How::File(path))));
    }
    let how = env.text(&command)?.map(|text| How::Command(text.to_owned()));
    Ok(how.map(|how| Source::new(command, how)))
}

/// Variables of agent-backup-core that have no effect here, and why.
fn notes(env: &Environment) -> Vec<String> {
    let known = [
        (
            "B2_KEEP_SNAPSHOTS",
            "a push deletes no snapshot; `agent-backup daemon` follows it, and so does `agent-backup \
             forget --keep-last N --prune`",
        ),
        ("B2_SCHEDULE", "push runs once; `agent-backup daemon` follows it"),
    ];
    known
        .iter()
        .filter(|(name, _)| env.vars.contains_key(*name))
        .map(|(name, why)| format!("{name} has no effect: {why}"))
        .collect()
}
