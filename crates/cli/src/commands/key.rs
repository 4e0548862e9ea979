//! `key`: the key slots of the repository.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use engine::{RotateOptions, Session};
use repo::SlotId;
use repo::keys::{self, Kdf, Note, RecoveryCode, SecretInput, SlotKind};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::args::{Key, KeyCommand, NewKey};
use crate::commands::{Context, init};
use crate::connect::{self, Connection};
use crate::exit::{Exit, Stop, Usage};
use crate::settings::secret::{How, Source};
use crate::ui::table::{Align, Table};
use crate::ui::{sanitize, time};

/// Digits of a slot's id that are shown.
const ID_DIGITS: usize = 12;
/// Fewest digits that name a slot.
const ID_DIGITS_MIN: usize = 4;

#[derive(Serialize)]
struct Document {
    keys: Vec<KeyRecord>,
}

#[derive(Serialize)]
struct KeyRecord {
    id: String,
    kind: &'static str,
    label: Option<String>,
    created: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    here: bool,
}

#[derive(Serialize)]
struct Changed {
    #[serde(skip_serializing_if = "Option::is_none")]
    added: Option<String>,
    removed: Vec<String>,
}

#[derive(Serialize)]
struct RotatedDocument {
    epoch: usize,
    added: Vec<String>,
    removed: Vec<String>,
    left: Vec<String>,
}

pub(crate) fn run(args: &Key, context: &Context<'_>) -> Result<Exit> {
    let connection = context.open()?;
    let session = &connection.session;
    match &args.command {
        KeyCommand::List => list(&connection, context),
        KeyCommand::Add(new) => {
            let added = add(session, new, context)?;
            changed(Some(added), &[], context)
        }
        KeyCommand::Passwd(new) => passwd(session, new, context),
        KeyCommand::Remove { id } => {
            let id = find(session, id)?;
            remove(&connection, id, context)
        }
        KeyCommand::Rotate { new, drop_others } => rotate(&connection, new, *drop_others, context),
        KeyCommand::Enroll { label } => {
            let label = label.as_deref().unwrap_or(&context.settings.machine.host);
            let made = session.enroll(&connection.dirs, label);
            let (added, replaced) = made.context("cannot make a key")?;
            context.screen.note("this machine has a key of its own now and needs no passphrase");
            changed(Some(added), replaced.as_slice(), context)
        }
    }
}

fn list(connection: &Connection, context: &Context<'_>) -> Result<Exit> {
    let screen = context.screen;
    let repo = connection.session.repo();
    let own = connection.session.own_slot(&connection.dirs);
    let mut records = Vec::new();
    for id in keys::list(repo.store())? {
        let slot = keys::read(repo.store(), id)?;
        // a slot whose note does not open still opens the repository
        let note = slot.note(repo.id(), repo.keys().keyring()).ok();
        let created = note.as_ref().and_then(|note| i64::try_from(note.created_secs).ok());
        records.push((id, kind(slot.kind()), note.map(|note| note.label), created));
    }
    if screen.json() {
        let record = |(id, kind, label, created): (SlotId, _, _, Option<i64>)| KeyRecord {
            id: id.hex(),
            kind,
            label,
            created: created.and_then(|secs| time::rfc3339(secs, 0)),
            here: Some(id) == own,
        };
        screen.document(&Document { keys: records.into_iter().map(record).collect() })?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("KIND", Align::Left),
        ("CREATED", Align::Left),
        ("LABEL", Align::Left),
    ]);
    for (id, kind, label, created) in records {
        let label = label.map_or_else(|| "?".to_owned(), |label| sanitize::text(&label));
        table.row(vec![
            id.hex()[..ID_DIGITS].to_owned(),
            kind.to_owned(),
            created.map_or_else(|| "?".to_owned(), time::show_secs),
            if Some(id) == own { format!("{label} (this machine)") } else { label },
        ]);
    }
    for line in table.lines() {
        screen.line(line)?;
    }
    Ok(Exit::Done)
}

fn kind(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::Machine => "machine",
        SlotKind::Passphrase => "passphrase",
        SlotKind::Recovery => "recovery",
    }
}

/// Removes a key. That by which this machine opened the repository just now stays: nothing shows yet that
/// another one is at hand.
fn remove(connection: &Connection, id: SlotId, context: &Context<'_>) -> Result<Exit> {
    let (session, screen) = (&connection.session, context.screen);
    let store = session.repo().store();
    let is_own = session.own_slot(&connection.dirs) == Some(id);
    let is_last = keys::list(store)?.len() < 2; // which is another story
    if is_own
        && !is_last
        && !context.settings.password.as_ref().is_some_and(|password| password.explicit)
    {
        let what = "this is the key by which this machine opens the repository";
        let hint = "run it with the passphrase or recovery code (--password-file), to show that it opens without";
        return Err(Stop::new(Exit::Refused, what, hint).into());
    }
    if is_own {
        // what opens it now must open all that is stored
        session.refuse_old_keys(&connection.dirs).context("the key was not removed")?;
    }
    keys::remove(store, id).context("cannot remove the key")?;
    let exit = changed(None, &[id], context)?;
    if is_own {
        screen.note(
            "this machine needs the passphrase or recovery code from now on; \
             agent-backup key enroll makes it a new key",
        );
    }
    tell_what_is_left(session, &[], context);
    Ok(exit)
}

/// Machines are lost, and their keys with them. `old` open nothing that is stored from now on.
fn tell_what_is_left(session: &Session, old: &[SlotId], context: &Context<'_>) {
    let store = session.repo().store();
    // all is done already: what cannot be looked at is not told of
    let Ok(ids) = keys::list(store) else { return };
    let now = ids.iter().filter(|id| !old.contains(id));
    let kinds: Vec<SlotKind> =
        now.filter_map(|id| keys::read(store, *id).ok()).map(|slot| slot.kind()).collect();
    let screen = context.screen;
    if !kinds.iter().any(|kind| *kind != SlotKind::Machine) {
        screen.note(
            "only keys of machines open the repository now: agent-backup key add --recovery makes a code \
             for the day on which they are lost",
        );
    } else if !kinds.contains(&SlotKind::Recovery) {
        screen.note(
            "no recovery code opens all of the repository now; agent-backup key add --recovery makes one",
        );
    }
}

/// Adds a passphrase or a recovery code.
fn add(session: &Session, new: &NewKey, context: &Context<'_>) -> Result<SlotId> {
    if new.recovery && (new.new_password_file.is_some() || new.new_password_command.is_some()) {
        let what = "--recovery makes a code, --new-password-... a passphrase: one at a time";
        return Err(Usage(what.into()).into());
    }
    let repo = session.repo();
    let (secret, code) = if new.recovery {
        let code = RecoveryCode::random();
        (SecretInput::Recovery(code.clone()), Some(code))
    } else {
        (SecretInput::Passphrase(new_passphrase(new)?), None)
    };
    let standard = if new.recovery { "recovery code" } else { "passphrase" };
    let label = new.label.clone().unwrap_or_else(|| standard.to_owned());
    let note = Note { label, created_secs: now_secs() };
    let keyring = repo.keys().keyring();
    let id = keys::add(repo.store(), repo.id(), keyring, &secret, &note, Kdf::DEFAULT)
        .context("cannot add the key")?;
    if let Some(code) = code {
        init::show(&code, context.screen)?;
    }
    Ok(id)
}

/// A new passphrase takes the place of all others.
fn passwd(session: &Session, new: &NewKey, context: &Context<'_>) -> Result<Exit> {
    if new.recovery {
        return Err(Usage("passwd makes a passphrase; key add --recovery a code".into()).into());
    }
    let store = session.repo().store();
    let mut old = Vec::new();
    for id in keys::list(store)? {
        if keys::read(store, id)?.kind() == SlotKind::Passphrase {
            old.push(id);
        }
    }
    let added = add(session, new, context)?;
    for id in &old {
        keys::remove(store, *id).context("the new passphrase is there; an old one stayed")?;
    }
    changed(Some(added), &old, context)
}

/// A new epoch: slots for this machine and for what was given; the rest is told.
fn rotate(
    connection: &Connection,
    new: &NewKey,
    drop_others: bool,
    context: &Context<'_>,
) -> Result<Exit> {
    let screen = context.screen;
    let is_given = new.new_password_file.is_some() || new.new_password_command.is_some();
    let passphrase = match new_passphrase(new) {
        Ok(passphrase) => Some(SecretInput::Passphrase(passphrase)),
        // a recovery code does; without both, the loss of this machine would be the loss of all
        Err(error) if is_given || !new.recovery => return Err(error),
        Err(_) => None,
    };
    let label = new.label.as_ref().unwrap_or(&context.settings.machine.host);
    let options = RotateOptions {
        passphrase,
        recovery: new.recovery,
        drop_others,
        label: label.chars().take(32).collect(),
        kdf: Kdf::DEFAULT,
    };
    let store = connection.session.repo().store();
    let mut kinds = BTreeMap::new();
    for id in keys::list(store)? {
        // one that does not read is no reason against a rotation
        if let Ok(slot) = keys::read(store, id) {
            kinds.insert(id, slot.kind());
        }
    }
    let mut unseen = None;
    let tell = |code: &RecoveryCode| {
        init::show(code, screen).map_err(|error| {
            unseen = Some(error);
            engine::Error::Cancelled
        })
    };
    let done = engine::rotate(&connection.session, &connection.dirs, &options, tell);
    if let Some(error) = unseen {
        return Err(error);
    }
    let rotated = done.context("the keys were not rotated")?;
    if screen.json() {
        let hex = |ids: &[SlotId]| ids.iter().map(SlotId::hex).collect();
        screen.document(&RotatedDocument {
            epoch: rotated.epoch,
            added: hex(&rotated.added),
            removed: hex(&rotated.removed),
            left: hex(&rotated.left),
        })?;
        return Ok(Exit::Done);
    }
    screen.line(format_args!("what is stored from now on has keys of epoch {}", rotated.epoch))?;
    let short = |id: &SlotId| id.hex()[..ID_DIGITS].to_owned();
    for (verb, ids) in [("added", &rotated.added), ("removed", &rotated.removed)] {
        for id in ids {
            let of = kinds.get(id).map(|of| format!(" ({})", kind(*of))).unwrap_or_default();
            screen.line(format_args!("{verb} key {}{of}", short(id)))?;
        }
    }
    for id in &rotated.left {
        screen.line(format_args!(
            "key {} opens what was stored before and nothing later",
            short(id)
        ))?;
    }
    if !rotated.left.is_empty() {
        screen.note("key remove takes them away; other machines get a new one with key enroll");
    }
    tell_what_is_left(&connection.session, &rotated.left, context);
    Ok(Exit::Done)
}

fn new_passphrase(new: &NewKey) -> Result<Zeroizing<String>> {
    let source = match (&new.new_password_file, &new.new_password_command) {
        (Some(file), _) => Some(Source::new("--new-password-file", How::File(file.clone()))),
        (None, Some(command)) => {
            Some(Source::new("--new-password-command", How::Command(command.clone())))
        }
        (None, None) => None,
    };
    if let Some(source) = source {
        return Ok(source.read()?);
    }
    connect::prompt_new("new passphrase: ")?.ok_or_else(|| {
        let what = "no new passphrase was given";
        Stop::new(Exit::Usage, what, "--new-password-file FILE or --new-password-command").into()
    })
}

/// The slot whose id begins so.
fn find(session: &Session, given: &str) -> Result<SlotId> {
    let given = given.to_ascii_lowercase();
    let shown = sanitize::text(&given);
    if given.len() < ID_DIGITS_MIN {
        return Err(Usage(format!("'{shown}': at least {ID_DIGITS_MIN} digits of the id")).into());
    }
    let ids = keys::list(session.repo().store())?;
    let fits: Vec<SlotId> = ids.into_iter().filter(|id| id.hex().starts_with(&given)).collect();
    match fits.as_slice() {
        [id] => Ok(*id),
        [] => Err(Usage(format!("no key has an id that begins with '{shown}'")).into()),
        _ => Err(Usage(format!("several keys have ids that begin with '{shown}'")).into()),
    }
}

fn changed(added: Option<SlotId>, removed: &[SlotId], context: &Context<'_>) -> Result<Exit> {
    let screen = context.screen;
    if screen.json() {
        let removed = removed.iter().map(SlotId::hex).collect();
        screen.document(&Changed { added: added.map(|id| id.hex()), removed })?;
        return Ok(Exit::Done);
    }
    for (verb, id) in
        added.iter().map(|id| ("added", id)).chain(removed.iter().map(|id| ("removed", id)))
    {
        screen.note(format_args!("{verb} key {}", &id.hex()[..ID_DIGITS]));
    }
    Ok(Exit::Done)
}

fn now_secs() -> u64 {
    use engine::Clock as _;
    u64::try_from(engine::SystemClock.now_secs()).unwrap_or_default()
}
