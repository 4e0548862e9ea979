//! `init`: a new repository, its keys, and a configuration file to start from.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use engine::{InitOptions, Session, SystemClock};
use repo::Repository;
use repo::keys::{Kdf, RecoveryCode, SecretInput};
use serde::Serialize;

use crate::args::Init;
use crate::commands::Context;
use crate::connect::{self, Connection, Wanted};
use crate::exit::{Exit, Stop};
use crate::settings::{Settings, Which, template};
use crate::ui::{Closed, Screen, sanitize};

#[derive(Serialize)]
struct Document {
    repository: String,
    id: String,
    passphrase: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<String>,
}

pub(crate) fn run(args: &Init, context: &Context<'_>) -> Result<Exit> {
    let Context { settings, screen, .. } = context;
    let passphrase = passphrase(args, context)?;
    let has_passphrase = passphrase.is_some();
    let other = match &args.like {
        Some(address) => {
            // somebody waits
            let wanted = Wanted { cancel: context.signals.flag(), ..Wanted::default() };
            Some(connect::open(&context.other(address)?, wanted, screen)?)
        }
        None => None,
    };
    let keys_of = other.map(|other| other.session.repo().clone());
    // until now, where no repository is named
    let used = settings.embedded.as_ref().filter(|at| at.join("config").exists());
    let connection = make(context, args.label.as_deref(), passphrase, None, keys_of)?;
    let address = settings.which.address().to_string();
    screen.note(format_args!("made a repository at {}", sanitize::text(&address)));
    if !has_passphrase {
        screen.note(
            "it has no passphrase: this machine's key and the recovery code open it \
             (agent-backup key add makes a passphrase)",
        );
        if settings.relied_on_storage_key() {
            screen.note(
                "agent-backup-core would have taken B2_APPLICATION_KEY as the passphrase; here the storage key opens \
                 nothing, so keep the recovery code",
            );
        }
    }
    // with the keys of another one it is a second copy, and not what pushes go to from now on
    let config = if args.like.is_some() { Ok(false) } else { write_config(settings) };
    match &config {
        Ok(true) => {
            screen.note(format_args!("wrote {}", sanitize::path(&settings.config_path)));
            if let Some(embedded) = used {
                screen.note(format_args!(
                    "pushes go to {} from now on, and no longer to {}: the line `repo` in that file says where",
                    sanitize::text(&address),
                    sanitize::path(embedded)
                ));
            }
        }
        Ok(false) if args.like.is_some() => {}
        Ok(false) if matches!(settings.which, Which::Named(_)) => screen.note(format_args!(
            "{} was there already and was left as it is",
            sanitize::path(&settings.config_path)
        )),
        Ok(false) => {}
        Err(error) => screen.note(format_args!("no configuration file: {error:#}")),
    }
    if screen.json() {
        screen.document(&Document {
            repository: address,
            id: connection.session.repo().id().hex(),
            passphrase: has_passphrase,
            config: matches!(config, Ok(true)).then(|| sanitize::path(&settings.config_path)),
        })?;
    }
    Ok(Exit::Done)
}

/// Makes the repository. Its recovery code is shown before it exists: nothing that fails later may
/// lose the code.
pub(crate) fn make(
    context: &Context<'_>,
    label: Option<&str>,
    passphrase: Option<SecretInput>,
    limit_upload: Option<u64>,
    keys_of: Option<Repository>,
) -> Result<Connection> {
    let Context { settings, screen, signals, .. } = context;
    let cancel = signals.flag();
    let wanted = Wanted { create: true, limit_upload, cancel, ..Wanted::default() };
    let store = connect::store(settings, wanted, screen)?;
    let (dirs, cache) = connect::dirs(settings)?;
    let options = InitOptions {
        passphrase,
        label: label.unwrap_or(&settings.machine.host).chars().take(32).collect(),
        kdf: Kdf::DEFAULT,
        keys_of,
    };
    let machine = settings.machine.clone();
    // the engine asks to show it; why that failed is told by us
    let mut unseen = None;
    let tell = |code: &RecoveryCode| {
        show(code, screen).map_err(|error| {
            unseen = Some(error);
            engine::Error::Cancelled
        })
    };
    let clock = Arc::new(SystemClock);
    let made = Session::init_showing(store, &options, &dirs, machine, clock, tell);
    if let Some(error) = unseen {
        // a reader that went away is no failure elsewhere; here it is
        if error.is::<Closed>() {
            let what = "nobody reads standard output, and the recovery code is shown there once";
            return Err(Stop::new(Exit::Failed, what, "run it where you can see it").into());
        }
        return Err(error);
    }
    let session = made.context("cannot make a repository")?;
    session.remember_address(&settings.which.address().to_string());
    Ok(Connection::new(session, dirs, cache))
}

/// The recovery code, impossible to miss; with `--json` it goes into the document.
pub(crate) fn show(code: &RecoveryCode, screen: &Screen) -> Result<()> {
    let text = code.reveal();
    let rule = "=".repeat(72);
    screen.line(&rule)?;
    screen.line("RECOVERY CODE - shown this once. Write it down and keep it away from here:")?;
    screen.line("")?;
    screen.line(format_args!("    {}", *text))?;
    screen.line("")?;
    screen.line("It opens the backup when this machine and the passphrase are lost.")?;
    screen.line("Whoever has it can read the backup.")?;
    screen.line(&rule)?;
    screen.set_recovery_code(text);
    screen.flush()
}

/// The passphrase of a new repository, if it gets one.
fn passphrase(args: &Init, context: &Context<'_>) -> Result<Option<SecretInput>> {
    if args.no_passphrase {
        return Ok(None);
    }
    let given = match &context.settings.password {
        Some(password) => Some(password.source.read()?),
        None => connect::prompt_new("new passphrase (empty for none): ")?,
    };
    Ok(given.map(SecretInput::Passphrase))
}

/// Writes a first configuration file; false if there is one.
fn write_config(settings: &Settings) -> Result<bool> {
    if settings.config_found {
        return Ok(false);
    }
    let address = match &settings.which {
        Which::Named(address) => Some(address.to_string()),
        Which::Embedded(_) => None,
    };
    let path = &settings.config_path;
    let dir = path.parent().context("the configuration file has no directory")?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .context("cannot make its directory")?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", sanitize::path(path)))?;
    file.write_all(template(address.as_deref()).as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", sanitize::path(path)))?;
    Ok(true)
}
