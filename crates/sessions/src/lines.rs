//! Transcripts with a JSON value in each line. Read as a stream, also where they are compressed.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};

use adapters::sessions::SessionRule;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::{Digest, Fold};
use crate::show::{Reading, Shown};
use crate::{RECORD_BYTES_MAX, Result};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// A digest of whole lines and where they end: what comes after may be added later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    whole: Digest,
    /// With a last line that has no end: it may still be written.
    cut: Option<Digest>,
    /// Bytes of whole lines that are in it.
    pub offset: u64,
}

impl From<Digest> for Lines {
    fn from(whole: Digest) -> Self {
        Self { whole, cut: None, offset: 0 }
    }
}

impl Lines {
    /// Of a file that is not what its name says.
    pub fn unreadable() -> Self {
        Digest { unread: 1, ..Digest::default() }.into()
    }

    /// What was found.
    pub fn digest(&self) -> &Digest {
        self.cut.as_ref().unwrap_or(&self.whole)
    }
}

/// Reads lines from where `before` ends to the end. `input` begins there.
pub fn read_lines(rule: &SessionRule, before: Lines, input: &mut dyn Read) -> Result<Lines> {
    let mut lines = Lines { cut: None, ..before };
    let (searching, settled) = (Fold::new(rule, true), Fold::new(rule, false));
    each_line(input, &mut |line, whole| {
        let mut cut = whole.is_none().then(|| lines.whole.clone());
        let digest = cut.as_mut().unwrap_or(&mut lines.whole);
        let fold = if digest.prompt.is_none() { &searching } else { &settled };
        match line.map(|line| (fold.wanted.read(line), line)) {
            Some((Some(slots), _)) => fold.take(&slots, digest),
            Some((None, line)) if line.trim_ascii().is_empty() => {}
            _ => digest.unread += 1,
        }
        lines.offset += whole.unwrap_or(0);
        lines.cut = cut;
        Ok(true)
    })?;
    Ok(lines)
}

/// Reads lines that are compressed.
pub fn read_compressed(rule: &SessionRule, input: &mut dyn Read) -> Result<Lines> {
    let lines = read_lines(rule, Lines::default(), &mut decoder(input)?)?;
    Ok(Lines { offset: 0, ..lines })
}

/// Opens a transcript and lets it be read.
pub type Open<'o> = dyn FnMut(&mut dyn FnMut(&mut dyn Read) -> Result<()>) -> Result<()> + 'o;

/// Shows a transcript. Of records with one name the last is shown; `open` is called twice if the rule
/// has names.
pub fn show_lines(
    rule: &SessionRule,
    compressed: bool,
    open: &mut Open<'_>,
    shown: &mut Shown<'_>,
) -> Result<()> {
    let reading = Reading::new(rule);
    let mut latest: HashMap<String, u64> = HashMap::new();
    let mut pass = |take: &mut TakeLine<'_>| {
        open(&mut |input| {
            if compressed { each_line(&mut decoder(input)?, take) } else { each_line(input, take) }
        })
    };
    if !rule.name.is_empty() && matches!(shown, Shown::Messages(_)) {
        let mut number = 0;
        pass(&mut |line, _| {
            let slots = line.and_then(|line| reading.wanted.read(line));
            if let Some(name) = slots.and_then(|slots| reading.name(&slots)) {
                latest.insert(name, number);
            }
            number += 1;
            Ok(true)
        })?;
    }
    let mut number = 0;
    pass(&mut |line, _| {
        let this = number;
        number += 1;
        let Some(line) = line.filter(|line| !line.trim_ascii().is_empty()) else { return Ok(true) };
        Ok(match shown {
            Shown::Records(show) => {
                let text = || Value::String(String::from_utf8_lossy(line).into_owned());
                show(serde_json::from_slice(line).unwrap_or_else(|_| text()))
            }
            Shown::Messages(show) => {
                let Some(slots) = reading.wanted.read(line) else { return Ok(true) };
                let name = reading.name(&slots);
                let old = name.and_then(|name| latest.get(&name)).is_some_and(|last| *last != this);
                match reading.message(&slots) {
                    Some(message) if !old => show(message),
                    _ => true,
                }
            }
        })
    })
}

/// Decompresses.
fn decoder(input: &mut dyn Read) -> io::Result<impl Read> {
    let mut decoder = zstd::stream::read::Decoder::new(input)?;
    // 128 MiB: what the command line of zstd takes without being told
    decoder.window_log_max(27)?;
    Ok(decoder)
}

/// Takes a line; false ends the reading.
type TakeLine<'t> = dyn FnMut(Option<&[u8]>, Option<u64>) -> Result<bool> + 't;

/// Calls `take` for each line: its bytes without the end (none if it is too long), and its length with
/// the end if it has one. Stops when told to.
fn each_line(input: &mut dyn Read, take: &mut TakeLine<'_>) -> Result<()> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    let mut line = Vec::new();
    let mut length = 0_u64;
    loop {
        let buffer = match input.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        let end = memchr::memchr(b'\n', buffer);
        let (bytes, used) = match end {
            Some(at) => (&buffer[..at], at + 1),
            None => (buffer, buffer.len()),
        };
        let at_end = buffer.is_empty();
        length += used as u64;
        if length <= RECORD_BYTES_MAX as u64 {
            line.extend_from_slice(bytes);
        }
        input.consume(used);
        if end.is_none() && !at_end {
            continue;
        }
        if at_end && length == 0 {
            return Ok(());
        }
        let fits = length <= RECORD_BYTES_MAX as u64;
        let more = take(fits.then_some(&line[..]), end.map(|_| length))?;
        if at_end || !more {
            return Ok(());
        }
        line.clear();
        // one long line must not keep its memory for all others
        line.shrink_to(BUFFER_BYTES);
        length = 0;
    }
}
