//! `scan`: where secrets seem to be in what a push would send.

use std::path::Path;

use anyhow::Result;
use data_encoding::HEXLOWER;
use engine::scan::ScanRoot;
use engine::suspects::{self, Place, Search};
use serde::Serialize;

use crate::args::Scan;
use crate::commands::roots::{self, Named};
use crate::commands::{Context, push};
use crate::exit::{Exit, Stop};
use crate::ui::progress::{Meter, records};
use crate::ui::{count, json, sanitize, size};

#[derive(Serialize)]
struct Document {
    secrets: Vec<PlaceRecord>,
    files: u64,
    bytes: u64,
    ignored: u64,
    problems: Vec<json::Problem>,
    notices: Vec<json::Problem>,
}

#[derive(Serialize)]
struct PlaceRecord {
    #[serde(flatten)]
    path: json::Path,
    rule: String,
    line: Option<u64>,
    offset: u64,
    length: u64,
    fingerprint: String,
}

pub(crate) fn run(args: &Scan, context: &Context<'_>) -> Result<Exit> {
    let Context { settings, screen, signals, .. } = context;
    let bad = |path: &Path, why: &dyn std::fmt::Display| {
        let what = format!("cannot use the rules in {}: {why}", path.display());
        Stop::new(Exit::Configuration, what, "give a file of rules as gitleaks 8 reads it")
    };
    let rules = match &args.rules {
        Some(path) => Some(std::fs::read_to_string(path).map_err(|e| bad(path, &e))?),
        None => None,
    };
    let Scan { agents, paths, exclude, .. } = args;
    let chosen = roots::choose(Named { agents, paths, exclude }, settings)?;
    if chosen.roots.is_empty() {
        return Err(chosen.nothing(settings).into());
    }
    let meter = Meter::new(screen);
    let scans: Vec<ScanRoot> = chosen.roots.iter().map(|root| root.scan.clone()).collect();
    let mut places: Vec<Place> = Vec::new();
    let ignored = push::ignored(settings)?;
    let search = Search { rules: rules.as_deref(), ignored: &ignored };
    let looked = suspects::look_through(
        &scans,
        &push::scanning(settings).scan,
        search,
        signals.graceful(),
        &mut |place| places.push(place),
        &mut |path, why| meter.tell(path, why, false),
    );
    let looked = match (looked, &args.rules) {
        (Err(engine::Error::Rules(why)), Some(path)) => return Err(bad(path, &why).into()),
        (looked, _) => looked?,
    };
    let told = meter.finish();
    let clean = places.is_empty() && told.is_empty();
    let exit = if clean { Exit::Done } else { Exit::Skipped };
    if screen.json() {
        let record = |place: &Place| PlaceRecord {
            path: json::Path::new(&place.path),
            rule: place.rule.clone(),
            line: place.line,
            offset: place.bytes.0,
            length: place.bytes.1 - place.bytes.0,
            fingerprint: HEXLOWER.encode(&place.fingerprint),
        };
        screen.document(&Document {
            secrets: places.iter().map(record).collect(),
            files: looked.files,
            bytes: looked.bytes,
            ignored: looked.ignored,
            problems: records(&told, false),
            notices: records(&told, true),
        })?;
        return Ok(exit);
    }
    for place in &places {
        let line = place.line.map_or_else(String::new, |line| format!(":{line}"));
        let (path, fingerprint) =
            (sanitize::bytes(&place.path), HEXLOWER.encode(&place.fingerprint));
        screen.line(format_args!("{path}{line}: {}   {fingerprint}", place.rule))?;
    }
    screen.note(format_args!(
        "{} in {}, {}",
        count(places.len() as u64, "likely secret", "likely secrets"),
        count(looked.files, "file", "files"),
        size::show(looked.bytes)
    ));
    if looked.ignored > 0 {
        screen.note(format_args!("{} not told, as they are on the list", looked.ignored));
    }
    Ok(exit)
}
