//! From settings to an open repository.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result};
use engine::{Dirs, Session, SystemClock};
use repo::keys::SecretInput;
use store::{Address, Cancel, Foreign, Store};
use zeroize::Zeroizing;

use crate::exit::{Exit, Stop};
use crate::settings::secret::as_input;
use crate::settings::{self, Settings, Which};
use crate::ui::Screen;

/// An open repository and the directory of a cache that ends with it.
pub(crate) struct Connection {
    pub(crate) session: Session,
    pub(crate) dirs: Dirs,
    _cache: Option<tempfile::TempDir>,
}

impl Connection {
    pub(crate) fn new(session: Session, dirs: Dirs, cache: Option<tempfile::TempDir>) -> Self {
        Self { session, dirs, _cache: cache }
    }
}

/// For how long a bucket may be out of reach before somebody who waits is told.
const RETRY_SECS_WAITING: u32 = 30;
/// The same for work of hours.
const RETRY_SECS_WORKING: u32 = 300;

/// How the store is wanted.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// For work that may take hours.
    pub(crate) patient: bool,
    /// Makes a missing directory.
    pub(crate) create: bool,
    /// Upload limit in bytes a second.
    pub(crate) limit_upload: Option<u64>,
    /// Ends waiting calls.
    pub(crate) cancel: Arc<AtomicBool>,
    /// Nobody is there to be asked for a passphrase.
    pub(crate) unattended: bool,
}

/// Opens the store of the repository that is meant.
pub(crate) fn store(
    settings: &Settings,
    wanted: Wanted,
    screen: &Screen,
) -> Result<Arc<dyn Store>> {
    let address = settings.which.address();
    Ok(address.open(options(settings, &address, wanted, screen)?)?)
}

/// Opens a place that another program wrote, to be read.
pub(crate) fn foreign(
    settings: &Settings,
    wanted: Wanted,
    screen: &Screen,
) -> Result<Arc<dyn Foreign>> {
    let address = settings.which.address();
    Ok(address.open_foreign(options(settings, &address, wanted, screen)?)?)
}

fn options(
    settings: &Settings,
    address: &Address,
    wanted: Wanted,
    screen: &Screen,
) -> Result<store::Options> {
    screen.set_place(&address.to_string());
    let credentials = match &address {
        Address::Local(_) => None,
        Address::S3 { .. } | Address::B2 { .. } => {
            let key = settings.credentials()?.ok_or_else(|| settings::Error::Credentials {
                what: format!("{address} needs a storage key and none is set"),
            })?;
            Some(key)
        }
    };
    let standard = if wanted.patient { RETRY_SECS_WORKING } else { RETRY_SECS_WAITING };
    let budget = Duration::from_secs(settings.retry_secs.unwrap_or(standard).into());
    Ok(store::Options {
        credentials,
        retry: store::Retry::with_budget(budget),
        endpoint: settings.endpoint.clone(),
        region: settings.region.clone(),
        upload_bytes_per_second: wanted.limit_upload,
        cancel: Cancel::from_flag(wanted.cancel),
        create: wanted.create,
    })
}

/// Our directories; without a cache of earlier runs, a private one that ends with this run.
pub(crate) fn dirs(settings: &Settings) -> Result<(Dirs, Option<tempfile::TempDir>)> {
    let state = settings.state_dir.clone();
    if !settings.no_cache {
        return Ok((Dirs { state, cache: settings.cache_dir.clone() }, None));
    }
    let temp = tempfile::Builder::new().prefix("agent-backup-").tempdir();
    let temp = temp.context("cannot make a directory for this run's cache")?;
    Ok((Dirs { state, cache: temp.path().to_owned() }, Some(temp)))
}

/// Opens the repository that is there.
pub(crate) fn open(settings: &Settings, wanted: Wanted, screen: &Screen) -> Result<Connection> {
    let unattended = wanted.unattended;
    let store = match store(settings, wanted, screen) {
        Err(error) if is_missing(&error) => return Err(missing(settings, error)),
        other => other?,
    };
    let (dirs, cache) = dirs(settings)?;
    // the engine asks; why there is no answer is told by us
    let mut refused = None;
    let ask = |config: &repo::config::Config| {
        secret(settings, Session::has_machine_key(&dirs, config), unattended).map_err(|error| {
            refused = Some(error);
            engine::Error::Cancelled
        })
    };
    let machine = settings.machine.clone();
    let opened = Session::open(store, ask, &dirs, machine, Arc::new(SystemClock));
    if let Some(error) = refused {
        return Err(error);
    }
    let session = match opened {
        Err(e @ engine::Error::Repo(repo::Error::NoRepository { .. })) => {
            return Err(missing(settings, e.into()));
        }
        other => other.context("cannot open the repository")?,
    };
    session.remember_address(&settings.which.address().to_string());
    Ok(Connection::new(session, dirs, cache))
}

/// What opens the repository; none: the machine's own key.
fn secret(
    settings: &Settings,
    has_machine_key: bool,
    unattended: bool,
) -> Result<Option<SecretInput>> {
    match &settings.password {
        Some(password) if password.explicit || !has_machine_key => {
            Ok(Some(as_input(password.source.read()?)))
        }
        _ if has_machine_key => Ok(None),
        _ if unattended => Err(no_secret(settings)),
        _ => match prompt("passphrase or recovery code: ")? {
            Some(typed) => Ok(Some(as_input(typed))),
            None => Err(no_secret(settings)),
        },
    }
}

/// Whoever comes from agent-backup-core may think that there is a passphrase.
fn no_secret(settings: &Settings) -> anyhow::Error {
    let error = settings::Error::NoSecret;
    if !settings.relied_on_storage_key() {
        return error.into();
    }
    let what = format!(
        "{error}: agent-backup-core took B2_APPLICATION_KEY as one, and that is not done here, because \
         whoever gets at the storage would read the backup"
    );
    let hint = "set B2_ENCRYPTION_KEY to the passphrase or recovery code of this repository; backups of the old engine \
                are read by agent-backup import";
    Stop::new(Exit::WrongKey, what, hint).into()
}

/// Asks for a secret on the terminal; none without one.
pub(crate) fn prompt(question: &str) -> Result<Option<Zeroizing<String>>> {
    use std::io::IsTerminal as _;
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let typed = rpassword::prompt_password(question).context("cannot read the passphrase")?;
    Ok(Some(Zeroizing::new(typed)))
}

/// Asks for a new passphrase, twice; an empty one is none.
pub(crate) fn prompt_new(question: &str) -> Result<Option<Zeroizing<String>>> {
    let Some(first) = prompt(question)? else { return Ok(None) };
    if first.is_empty() {
        return Ok(None);
    }
    let again = prompt("the same again: ")?;
    if again.as_ref() != Some(&first) {
        let what = "the two passphrases are not the same";
        return Err(Stop::new(Exit::Failed, what, "run it again").into());
    }
    Ok(Some(first))
}

fn is_missing(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(store::Error::NoSuchStore { .. }))
}

/// No repository: what to do depends on whether one was named.
fn missing(settings: &Settings, error: anyhow::Error) -> anyhow::Error {
    match &settings.which {
        Which::Named(_) => error.context("cannot open the repository"),
        Which::Embedded(_) => Stop::new(
            Exit::NoRepository,
            "there is no repository yet on this machine, and none was named",
            "agent-backup push makes one here; or name yours: -r ADDRESS, AGENT_BACKUP_REPO",
        )
        .into(),
    }
}
