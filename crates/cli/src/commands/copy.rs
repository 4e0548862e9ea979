//! `copy`: snapshots go to another repository.

use anyhow::{Context as _, Result};
use engine::copy::{self, Copied};
use serde::Serialize;

use crate::args::Copy;
use crate::commands::Context;
use crate::commands::damaged::{self, DamagedRecord};
use crate::commands::snapshots::short_id;
use crate::exit::{Exit, Usage};
use crate::ui::{count, sanitize, size};

#[derive(Serialize)]
struct Document {
    to: String,
    snapshots: Vec<Record>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damaged_snapshots: Vec<DamagedRecord>,
}

#[derive(Serialize)]
struct Record {
    snapshot: String,
    copy: String,
    was_there: bool,
    bytes_stored: u64,
}

pub(crate) fn run(args: &Copy, context: &Context<'_>) -> Result<Exit> {
    let Context { settings, screen, signals, .. } = context;
    let to = context.other(&args.to)?;
    if to.which.address() == settings.which.address() {
        return Err(Usage("--to is the repository itself".into()).into());
    }
    let target = context.open_other(&to, args.limit_upload.or(settings.push.limit_upload))?;
    screen.set_place(&settings.which.address().to_string());
    let source = context.open_patiently()?;
    let (snapshots, damaged) = match args.snapshots.as_slice() {
        [] => source.session.snapshots_listed()?,
        some => {
            let one = |one: &String| Ok(source.session.select(one, None, None)?);
            (some.iter().map(one).collect::<Result<_>>()?, Vec::new())
        }
    };
    let address = to.which.address().to_string();
    screen.set_place(&address);
    let mut failed = Ok(());
    let mut told = |one: &Copied| {
        if !screen.json() && failed.is_ok() {
            failed = screen.line(line(one));
        }
    };
    let cancel = signals.graceful();
    let done = copy::copy(&source.session, &target.session, &snapshots, &mut told, cancel);
    let done = done.context("the copy stopped")?;
    failed?;
    screen.set_place(&settings.which.address().to_string());
    let (done, damaged) = (done.copied, [damaged, done.damaged].concat());
    let exit = damaged::tell(&damaged, screen, Exit::Done);
    if screen.json() {
        let record = |one: &Copied| Record {
            snapshot: one.from.hex(),
            copy: one.to.hex(),
            was_there: one.was_there,
            bytes_stored: one.bytes_stored,
        };
        let snapshots = done.iter().map(record).collect();
        let damaged_snapshots = damaged::records(&damaged);
        screen.document(&Document { to: address, snapshots, damaged_snapshots })?;
        return Ok(exit);
    }
    let fresh = done.iter().filter(|one| !one.was_there).count() as u64;
    let bytes: u64 = done.iter().map(|one| one.bytes_stored).sum();
    screen.note(format_args!(
        "{} copied to {}, {} stored",
        count(fresh, "snapshot", "snapshots"),
        sanitize::text(&address),
        size::show(bytes)
    ));
    Ok(exit)
}

fn line(one: &Copied) -> String {
    let (from, to) = (short_id(&one.from), short_id(&one.to));
    if one.was_there {
        return format!("{from}   is there already as {to}");
    }
    format!("{from}   copied as {to}, {} stored", size::show(one.bytes_stored))
}
