//! JSON, JSONC, JSON5 and JSON Lines as events: what a parser would find, in the order of the file.
//!
//! The grammar is that of `jsonc-parser` with all it allows but missing commas, to its limit of depth:
//! the same files are read, the same refused, and tests compare them. What is kept is the way from the
//! top to the place where the reader is.

use std::io::Read;
use std::ops::Range;

use super::scan::{Scan, Token};
use crate::format::Format;
use crate::source::Stop;
use crate::tree::Digest;

/// A list is one level, a map two: itself, and the member that is read.
const LEVELS_MAX: usize = 512;

/// A step of the reader.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event<'e> {
    pub(crate) what: What<'e>,
    /// Its bytes; of a list or map that ends, all of it.
    pub(crate) range: Range<usize>,
    /// The document it is in, from 1: of JSON Lines the line.
    pub(crate) document: usize,
}

/// What the reader came by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum What<'e> {
    Key(&'e str),
    Null,
    /// A string, decoded.
    Text(&'e str),
    /// A string that is too long to be kept.
    Long(Digest),
    /// Any other scalar, as it is written.
    Bare(&'e str),
    Map,
    List,
    /// The list or map that is open ends.
    End,
}

/// A file being read.
pub(crate) struct Events<'s> {
    scan: Scan<'s>,
    state: State,
    open: Vec<Open>,
    levels: usize,
    document: usize,
}

#[derive(Clone, Copy)]
enum State {
    /// Before the value of a document.
    Start,
    /// Behind a bracket or comma.
    Item,
    /// Behind a key.
    Key,
    /// Behind a value.
    Value,
}

struct Open {
    is_map: bool,
    start: usize,
    /// Where the key of its member begins.
    key: usize,
}

impl<'s> Events<'s> {
    /// `from` is behind the byte order mark.
    pub(crate) fn new(format: Format, from: Box<dyn Read + 's>) -> Self {
        Self::within(format, from, format.bytes_max())
    }

    /// Of another length at most.
    pub(crate) fn within(format: Format, from: Box<dyn Read + 's>, bytes_max: usize) -> Self {
        Self {
            scan: Scan::new(from, format == Format::JsonLines, bytes_max),
            state: State::Start,
            open: Vec::new(),
            levels: 0,
            document: 1,
        }
    }

    /// The next step; none at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<Event<'_>>, Stop> {
        loop {
            match self.state {
                State::Start => match self.scan.token(false)? {
                    Some(token) => return self.value(token).map(Some),
                    None if self.scan.next_line()? => self.document += 1,
                    None => return Ok(None),
                },
                State::Item => {
                    let token = self.scan.token(self.in_map())?;
                    return self.item(token).map(Some);
                }
                State::Key => {
                    if self.scan.token(false)? != Some(Token::Colon) {
                        return Err(Stop::Syntax(self.scan.start));
                    }
                    return match self.scan.token(false)? {
                        Some(token) => self.value(token).map(Some),
                        None => Err(Stop::Syntax(self.scan.start)),
                    };
                }
                State::Value if self.open.is_empty() => {
                    if self.scan.token(false)?.is_some() {
                        return Err(Stop::Syntax(self.scan.start));
                    }
                    self.state = State::Start;
                }
                State::Value => {
                    let behind = self.scan.end;
                    let mut token = self.scan.token(self.in_map())?;
                    match token {
                        Some(Token::Comma) => token = self.scan.token(self.in_map())?,
                        Some(Token::Text | Token::Bare | Token::Null) => {
                            return Err(Stop::Syntax(behind));
                        }
                        Some(Token::Word) if self.in_map() => return Err(Stop::Syntax(behind)),
                        Some(Token::OpenMap | Token::OpenList) if !self.in_map() => {
                            return Err(Stop::Syntax(behind));
                        }
                        _ => {}
                    }
                    return self.item(token).map(Some);
                }
            }
        }
    }

    /// Goes to the end of the list or map that just began; where that is.
    pub(crate) fn skip(&mut self) -> Result<usize, Stop> {
        let outside = self.open.len() - 1;
        while self.open.len() > outside && self.next()?.is_some() {}
        Ok(self.scan.end)
    }

    /// Bytes of the text that are in memory, read or decoded.
    #[cfg(test)]
    pub(crate) fn bytes_kept(&self) -> usize {
        self.scan.bytes_kept()
    }

    fn in_map(&self) -> bool {
        self.open.last().is_some_and(|open| open.is_map)
    }

    /// What a bracket or comma is before.
    fn item(&mut self, token: Option<Token>) -> Result<Event<'_>, Stop> {
        let Some(open) = self.open.last_mut() else { return Err(Stop::Syntax(self.scan.start)) };
        match (token, open.is_map) {
            (None, _) => Err(Stop::Syntax(open.start)),
            (Some(Token::CloseMap), true) | (Some(Token::CloseList), false) => {
                let start = open.start;
                self.levels -= if open.is_map { 2 } else { 1 };
                self.open.pop();
                self.state = State::Value;
                Ok(self.event(What::End, start))
            }
            (Some(Token::Text | Token::Bare | Token::Null | Token::Word), true) => {
                open.key = self.scan.start;
                self.state = State::Key;
                let Scan { start, end, ref text, .. } = self.scan;
                Ok(Event { what: What::Key(text), range: start..end, document: self.document })
            }
            (Some(_), true) => Err(Stop::Syntax(self.scan.start)),
            (Some(token), false) => self.value(token),
        }
    }

    fn value(&mut self, token: Token) -> Result<Event<'_>, Stop> {
        if let Some(open) = self.open.last().filter(|_| self.levels > LEVELS_MAX) {
            return Err(Stop::Syntax(if open.is_map { open.key } else { open.start }));
        }
        let start = self.scan.start;
        self.state = State::Value;
        let what = match token {
            Token::OpenMap | Token::OpenList => {
                let is_map = token == Token::OpenMap;
                self.levels += if is_map { 2 } else { 1 };
                self.open.push(Open { is_map, start, key: start });
                self.state = State::Item;
                if is_map { What::Map } else { What::List }
            }
            Token::Text => self.scan.long.map_or(What::Text(&self.scan.text), What::Long),
            Token::Bare => What::Bare(&self.scan.text),
            Token::Null => What::Null,
            Token::CloseMap | Token::CloseList | Token::Comma | Token::Colon | Token::Word => {
                return Err(Stop::Syntax(start));
            }
        };
        Ok(Event { what, range: start..self.scan.end, document: self.document })
    }

    fn event<'e>(&self, what: What<'e>, start: usize) -> Event<'e> {
        Event { what, range: start..self.scan.end, document: self.document }
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
