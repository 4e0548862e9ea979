//! `cat`: the content of one file.

use std::io::{self, Write};

use anyhow::Result;
use data_encoding::BASE64;
use engine::view;
use serde::Serialize;

use crate::args::Cat;
use crate::commands::Context;
use crate::exit::{Exit, Usage};
use crate::ui::Screen;
use crate::ui::entry::EntryRecord;

/// Largest file that `--json` puts in a document.
const JSON_BYTES_MAX: u64 = 64 << 20;

#[derive(Serialize)]
struct Document {
    snapshot: String,
    #[serde(flatten)]
    entry: EntryRecord,
    content_base64: String,
}

/// Standard output as the engine writes to it; keeps the error that says more.
struct Output<'a> {
    screen: &'a Screen,
    stopped: Option<anyhow::Error>,
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.screen.bytes(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.stopped = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn run(args: &Cat, context: &Context<'_>) -> Result<Exit> {
    let screen = context.screen;
    let (spec, path) = view::split_spec(&args.file);
    if path.is_empty() {
        return Err(Usage("name a file: SNAPSHOT:PATH, such as latest:codex/home/x".into()).into());
    }
    let connection = context.open()?;
    let session = &connection.session;
    let snapshot = session.select(spec, None, None)?;
    if !screen.json() {
        let mut output = Output { screen, stopped: None };
        let done = view::cat(session, &snapshot, path.as_bytes(), &mut output);
        output.stopped.map_or(Ok(()), Err)?;
        done?;
        return Ok(Exit::Done);
    }
    let entry = view::entry(session, &snapshot, path.as_bytes())?;
    if entry.size > JSON_BYTES_MAX {
        return Err(Usage("the file is too large for a document; leave out --json".into()).into());
    }
    let mut content = Vec::new();
    let entry = view::cat(session, &snapshot, path.as_bytes(), &mut content)?;
    screen.document(&Document {
        snapshot: snapshot.id.hex(),
        entry: EntryRecord::new(path.as_bytes(), &entry),
        content_base64: BASE64.encode(&content),
    })?;
    Ok(Exit::Done)
}
