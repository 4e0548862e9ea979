//! A session's transcript, from the snapshot that holds it.

use std::io::Read;
use std::sync::atomic::AtomicBool;

use adapters::sessions::{RecordFormat, SessionSource};
use sessions::Shown;

use super::bytes::{Work, damaged};
use super::digest::is_compressed;
use super::image::Image;
use super::{Found, Place};
use crate::error::{Error, Result};
use crate::session::Session;

/// Shows what a session holds, from the best of its places that has something. False if nothing can be
/// shown.
pub fn show(
    session: &Session,
    found: &Found,
    shown: &mut Shown<'_>,
    cancel: &AtomicBool,
) -> Result<bool> {
    let work = Work::new(session, cancel);
    for place in &found.places {
        if place.rule.content.is_empty() && place.rule.messages.is_empty() {
            continue;
        }
        let mut any = false;
        match shown {
            Shown::Messages(say) => {
                let mut say = |message| {
                    any = true;
                    say(message)
                };
                show_place(&work, &found.id, place, &mut Shown::Messages(&mut say))?;
            }
            Shown::Records(say) => {
                let mut say = |record| {
                    any = true;
                    say(record)
                };
                show_place(&work, &found.id, place, &mut Shown::Records(&mut say))?;
            }
        }
        if any {
            return Ok(true);
        }
    }
    Ok(false)
}

fn show_place(work: &Work<'_>, id: &str, place: &Place, shown: &mut Shown<'_>) -> Result<()> {
    let SessionSource::File { format, .. } = &place.rule.source else {
        let mut image = Image::new(work)?;
        image.become_version(work, &place.entry)?;
        let db = image.connect().map_err(|e| damaged(&e.to_string()))?;
        return told(None, sessions::show_rows(&db, &place.rule, id, shown));
    };
    if *format == RecordFormat::Document {
        let mut content = work.open(&place.entry, 0)?;
        let done = sessions::show_document(&place.rule, &mut content, shown);
        return told(content.failure(), done);
    }
    let mut failure = None;
    let mut open = |read: &mut dyn FnMut(&mut dyn Read) -> sessions::Result<()>| {
        let mut content = work.open(&place.entry, 0).map_err(|e| {
            let told = std::io::Error::other(e.to_string());
            failure = Some(e);
            sessions::Error::Io(told)
        })?;
        let done = read(&mut content);
        if let Some(error) = content.failure() {
            failure = Some(error);
        }
        done
    };
    let done = sessions::show_lines(&place.rule, is_compressed(&place.rel), &mut open, shown);
    told(failure, done)
}

fn told(failure: Option<Error>, done: sessions::Result<()>) -> Result<()> {
    match (failure, done) {
        (Some(error), _) => Err(error),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) => Err(damaged(&error.to_string())),
    }
}
