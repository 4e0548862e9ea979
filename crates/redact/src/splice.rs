//! A file with other bytes in some places: made as it is read, and proved before.

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;

use crate::error::Error;
use crate::format::Format;
use crate::read::events::{Event, Events, What};
use crate::source::{Source, Stop, Text};

/// A range of a text, and what takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Patch {
    pub(crate) range: Range<usize>,
    pub(crate) new: New,
}

/// What takes the place of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum New {
    Text(String),
    /// This range of another text.
    Of(Range<usize>),
}

/// What of a file is replaced, and by what: a file as it becomes, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splice {
    /// Bytes of its byte order mark, and of that of the other file.
    marks: (usize, usize),
    /// In order.
    patches: Vec<Patch>,
}

impl Splice {
    pub(crate) fn new(text: &Text<'_>, other: Option<&Text<'_>>, mut patches: Vec<Patch>) -> Self {
        patches.sort_unstable_by_key(|patch| patch.range.start);
        Self { marks: (text.mark, other.map_or(0, |other| other.mark)), patches }
    }

    /// Does it change nothing?
    pub fn is_empty(&self) -> bool {
        self.patches.is_empty()
    }

    /// The file as it becomes. `from` is what it is, and `other` the file that values are taken from, both as
    /// they were when this was made.
    pub fn reader<'s>(
        &'s self,
        from: &'s dyn Source,
        other: Option<&'s dyn Source>,
    ) -> io::Result<Spliced<'s>> {
        Ok(Spliced {
            old: from.read_from(0)?,
            at: 0,
            splice: self,
            next: 0,
            other,
            part: Part::Old,
        })
    }

    /// All of it.
    pub(crate) fn bytes(&self, from: &[u8], other: Option<&dyn Source>) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::with_capacity(from.len());
        let read = self.reader(&from, other).and_then(|mut all| all.read_to_end(&mut bytes));
        read.map_or_else(|error| Err(error.into()), |_| Ok(bytes))
    }

    /// Reads the file as it becomes, and is true if it holds what the old one holds, but for values and
    /// keys in the places of patches, which are those of the patches. `see` is told what is in it.
    pub(crate) fn holds(
        &self,
        format: Format,
        old: &Text<'_>,
        other: Option<&Text<'_>>,
        see: &mut dyn FnMut(&Event<'_>) -> Result<(), Stop>,
    ) -> Result<bool, Error> {
        let told = |text: &Text<'_>, stop| text.error(format, stop);
        let is_told = |stop| match stop {
            Stop::Read(error) => Err(error.into()),
            // whatever it is, it is not what was meant
            _ => Ok(false),
        };
        let mut new = self.reader(old.source, other.map(|other| other.source))?;
        let mut mark = vec![0; old.mark];
        new.read_exact(&mut mark)?;
        let mut new = Events::within(format, Box::new(new), usize::MAX);
        let mut olds = Events::new(format, old.read_from(0)?);
        let mut see_same = |new: &mut Events<'_>, what: What<'_>, document| match new.next() {
            Ok(Some(event)) if event.what == what && event.document == document => {
                see(&event).map_or_else(is_told, |()| Ok(true))
            }
            Ok(_) => Ok(false),
            Err(stop) => is_told(stop),
        };
        let mut patches = self.patches.iter().peekable();
        while let Some(event) = olds.next().map_err(|stop| told(old, stop))? {
            let (what, Range { start, end }, document) = (event.what, event.range, event.document);
            let patch = patches.next_if(|patch| what != What::End && patch.range.start == start);
            let Some(patch) = patch else {
                if !see_same(&mut new, what, document)? {
                    return Ok(false);
                }
                continue;
            };
            let is_key = matches!(what, What::Key(_));
            let end = match what {
                What::Map | What::List => olds.skip().map_err(|stop| told(old, stop))?,
                _ => end,
            };
            if patch.range.end != end {
                return Ok(false);
            }
            let bytes: Box<dyn Read + '_> = match (&patch.new, other) {
                (New::Text(text), _) => Box::new(text.as_bytes()),
                (New::Of(range), Some(other)) => {
                    let from = other.read_from(range.start)?;
                    Box::new(from.take(range.len() as u64))
                }
                (New::Of(_), None) => return Ok(false),
            };
            let mut parts = Events::within(format, bytes, usize::MAX);
            while let Some(part) = match parts.next() {
                Ok(part) => part,
                Err(stop) => return is_told(stop),
            } {
                let what = match part.what {
                    What::Text(text) if is_key => What::Key(text),
                    what => what,
                };
                if !see_same(&mut new, what, document)? {
                    return Ok(false);
                }
            }
        }
        match new.next() {
            Ok(None) => Ok(patches.next().is_none()),
            Ok(Some(_)) => Ok(false),
            Err(stop) => is_told(stop),
        }
    }
}

/// A file being read as it becomes.
pub struct Spliced<'s> {
    old: Box<dyn Read + 's>,
    /// Bytes of the old file that are behind.
    at: usize,
    splice: &'s Splice,
    /// The patch that comes next.
    next: usize,
    other: Option<&'s dyn Source>,
    part: Part<'s>,
}

impl fmt::Debug for Spliced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spliced").field("at", &self.at).field("next", &self.next).finish()
    }
}

/// Where the next bytes come from.
enum Part<'s> {
    Old,
    Text(&'s [u8]),
    Other(io::Take<Box<dyn Read + 's>>),
}

impl Read for Spliced<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let short = || Err(io::ErrorKind::UnexpectedEof.into());
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match &mut self.part {
                Part::Text(text) if !text.is_empty() => return text.read(buffer),
                Part::Other(other) if other.limit() > 0 => {
                    return match other.read(buffer)? {
                        0 => short(),
                        read => Ok(read),
                    };
                }
                Part::Old | Part::Text(_) | Part::Other(_) => self.part = Part::Old,
            }
            let Some(Patch { range, new }) = self.splice.patches.get(self.next) else {
                return self.old.read(buffer);
            };
            let (mark, other_mark) = self.splice.marks;
            if self.at < mark + range.start {
                let len = buffer.len().min(mark + range.start - self.at);
                let read = self.old.read(&mut buffer[..len])?;
                self.at += read;
                return if read == 0 { short() } else { Ok(read) };
            }
            let len = range.len() as u64;
            if io::copy(&mut (&mut self.old).take(len), &mut io::sink())? != len {
                return short();
            }
            self.at += range.len();
            self.next += 1;
            self.part = match (new, self.other) {
                (New::Text(text), _) => Part::Text(text.as_bytes()),
                (New::Of(range), Some(other)) => {
                    let from = other.read_from((other_mark + range.start) as u64)?;
                    Part::Other(from.take(range.len() as u64))
                }
                (New::Of(_), None) => return short(),
            };
        }
    }
}
