//! Paths in a text file, rewritten: the file in, the file with its paths for the new place out.
//!
//! JSON, TOML and YAML are read whole and keep every byte that is not a path (the crate `redact`). JSON
//! Lines go line by line, so a transcript may be as long as it likes; a line that is no JSON, as the
//! last one of a session that was killed, stays as it is. A file that is one path may end with a line end.

use std::io::{self, BufRead, BufReader, Read, Write};

use adapters::{BindFormat, FileBind};
use redact::{Format, Part, Rule};

use super::path::{Maps, path_in};
use super::{Bound, Tally};

/// A file that is longer, or a line of one, is not read whole.
const WHOLE_BYTES_MAX: u64 = 64 << 20;
/// A file that is one path is no longer than this.
const PATH_BYTES_MAX: u64 = 64 << 10;

/// Why a file was not rewritten.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It could not be read or written.
    Local(io::Error),
    /// What is in it: it is to stay as it is.
    Content(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Local(error)
    }
}

/// The binds of a file, as they are carried out.
struct Ready {
    format: BindFormat,
    rules: Vec<Rule>,
    places: Vec<String>,
}

impl Ready {
    fn new(binds: &[FileBind]) -> Result<Self, Trouble> {
        let Some(first) = binds.first() else {
            return Err(Trouble::Content("nothing says where its paths stand".into()));
        };
        let mut ready = Self { format: first.format, rules: Vec::new(), places: Vec::new() };
        for bind in binds.iter().filter(|bind| bind.format == first.format) {
            let values = bind.paths.iter().map(|path| (path, Part::Value));
            for (path, part) in values.chain(bind.keys.iter().map(|path| (path, Part::Keys))) {
                let parsed = path.parse().map_err(|error: redact::PathError| {
                    Trouble::Content(format!("its adapter has a mistake: {error}"))
                })?;
                ready.rules.push(Rule { path: parsed, part });
                ready.places.push(match part {
                    Part::Value => path.clone(),
                    Part::Keys => format!("keys of {path}"),
                });
            }
        }
        Ok(ready)
    }
}

/// Rewrites what `from` gives into `to`. True if anything in it changed.
pub(super) fn rewrite(
    bound: &Bound,
    maps: &Maps,
    from: impl Read,
    to: &mut dyn Write,
    tally: &mut Tally,
) -> Result<bool, Trouble> {
    let ready = Ready::new(&bound.texts)?;
    let mut count = 0_u64;
    let mut change = |place: &str, old: &str| {
        let new = maps.apply(old)?;
        tally.add(place, old, &new, 1);
        count += 1;
        Some(new)
    };
    let mut left = Vec::new();
    match ready.format {
        BindFormat::Jsonl => lines(&ready, maps, from, to, &mut change, &mut left)?,
        BindFormat::Text => {
            let text = whole(from, PATH_BYTES_MAX)?;
            let path = text.trim_end_matches(['\n', '\r']);
            let new = change("(the whole file)", path);
            to.write_all(new.as_deref().unwrap_or(path).as_bytes())?;
            to.write_all(&text.as_bytes()[path.len()..])?;
        }
        BindFormat::Json => document(Format::Json, &ready, from, to, &mut change, &mut left)?,
        BindFormat::Toml => document(Format::Toml, &ready, from, to, &mut change, &mut left)?,
        BindFormat::Yaml => document(Format::Yaml, &ready, from, to, &mut change, &mut left)?,
    }
    tally.left.append(&mut left);
    Ok(count > 0)
}

type Changing<'c> = dyn FnMut(&str, &str) -> Option<String> + 'c;

fn document(
    format: Format,
    ready: &Ready,
    from: impl Read,
    to: &mut dyn Write,
    change: &mut Changing<'_>,
    left: &mut Vec<String>,
) -> Result<(), Trouble> {
    let text = whole(from, WHOLE_BYTES_MAX.min(format.bytes_max() as u64))?;
    let mut of_rule = |rule: usize, old: &str| change(&ready.places[rule], old);
    let done = redact::rewrite(format, text.as_bytes(), &ready.rules, &mut of_rule)
        .map_err(|error| Trouble::Content(error.to_string()))?;
    for (rule, key) in done.clashes {
        let place = &ready.places[rule];
        left.push(format!("{place}: '{key}' stays, as the new name is there already"));
    }
    Ok(to.write_all(&done.bytes)?)
}

fn lines(
    ready: &Ready,
    maps: &Maps,
    from: impl Read,
    to: &mut dyn Write,
    change: &mut Changing<'_>,
    left: &mut Vec<String>,
) -> Result<(), Trouble> {
    let longest = WHOLE_BYTES_MAX;
    let (mut from, mut line, mut unread) = (BufReader::new(from), Vec::new(), 0_u64);
    loop {
        line.clear();
        if from.by_ref().take(longest).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let whole = line.ends_with(b"\n") || (line.len() as u64) < longest;
        let end = line.trim_ascii_end().len();
        let (json, tail) = line.split_at(end);
        let changed = match std::str::from_utf8(json) {
            Ok(text) if whole && !maps.may_be_in(text) => None,
            Ok(text) if whole => {
                let mut of_rule = |rule: usize, old: &str| change(&ready.places[rule], old);
                let done =
                    redact::rewrite(Format::Json, text.as_bytes(), &ready.rules, &mut of_rule);
                unread += u64::from(done.is_err());
                done.ok().map(|done| done.bytes)
            }
            _ => {
                unread += 1;
                None
            }
        };
        to.write_all(changed.as_deref().unwrap_or(json))?;
        to.write_all(tail)?;
        if !whole {
            // the rest of a line that is longer than is read
            copy_line(&mut from, to)?;
        }
    }
    if unread > 0 {
        left.push(format!(
            "{unread} of its lines are no JSON that can be read, and stay as they are"
        ));
    }
    Ok(())
}

fn copy_line(from: &mut impl BufRead, to: &mut dyn Write) -> io::Result<()> {
    loop {
        let part = from.fill_buf()?;
        if part.is_empty() {
            return Ok(());
        }
        let end = part.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let len = end.unwrap_or(part.len());
        to.write_all(&part[..len])?;
        from.consume(len);
        if end.is_some() {
            return Ok(());
        }
    }
}

/// All of a file, as text.
fn whole(from: impl Read, bytes_max: u64) -> Result<String, Trouble> {
    let mut bytes = Vec::new();
    if from.take(bytes_max + 1).read_to_end(&mut bytes)? as u64 > bytes_max {
        return Err(Trouble::Content(format!("it has more than {bytes_max} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| Trouble::Content("it is not UTF-8".into()))
}

/// The paths that a file tells: all strings that are one where binds say so.
pub(super) fn paths(binds: &[FileBind], bytes: &[u8], tell: &mut dyn FnMut(String)) {
    let Ok(ready) = Ready::new(binds) else { return };
    let mut note = |_: usize, old: &str| {
        if let Some(path) = path_in(old) {
            tell(path);
        }
        None
    };
    let mut read = |format, bytes: &[u8]| {
        // what cannot be read tells nothing
        let _ = redact::rewrite(format, bytes, &ready.rules, &mut note);
    };
    match ready.format {
        BindFormat::Jsonl => bytes.split(|byte| *byte == b'\n').for_each(|line| {
            if !line.is_empty() {
                read(Format::Json, line);
            }
        }),
        BindFormat::Json => read(Format::Json, bytes),
        BindFormat::Toml => read(Format::Toml, bytes),
        BindFormat::Yaml => read(Format::Yaml, bytes),
        BindFormat::Text => {
            let text = std::str::from_utf8(bytes).ok();
            if let Some(path) = text.and_then(|text| path_in(text.trim_end())) {
                tell(path);
            }
        }
    }
}
