//! JSON in tokens, in bounded memory: a reader in, one token after the other out, with its place.
//!
//! What is kept of the text is a window around the place where the scan is. Space, comments and strings
//! may be of any length and are looked at as they pass; so this is our own for them. Numbers and words
//! are those of `jsonc-parser`, whose tokens these all are: tests compare them.

use std::io::{self, BufRead as _, BufReader, Read};

use jsonc_parser::tokens::Token as Scanned;
use jsonc_parser::{Scanner, ScannerOptions};
use memchr::{memchr, memchr2};

use crate::source::Stop;
use crate::tree::Digest;

/// Read at once.
const READ_BYTES: usize = 64 << 10;
/// How far behind a number or word a byte may decide where it ends.
const BEHIND_BYTES: usize = 16;
/// The longest escape, `\ud83d\ude00`.
const ESCAPE_BYTES: usize = 12;
/// A longer number or word is none.
const WORD_BYTES_MAX: usize = 64 << 10;
/// A longer key is refused: keys are kept, while what is in them is read.
const KEY_BYTES_MAX: usize = 1 << 20;
/// Of a longer string no more than the hash is kept. Paths and identities are far below.
pub(crate) const TEXT_BYTES_MAX: usize = 8 << 10;

/// What a token is; [`Scan::text`] and [`Scan::long`] have its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    OpenMap,
    CloseMap,
    OpenList,
    CloseList,
    Comma,
    Colon,
    Text,
    /// A number or truth value.
    Bare,
    Null,
    /// A key without quotes.
    Word,
}

/// A text being read.
pub(crate) struct Scan<'s> {
    from: BufReader<Box<dyn Read + 's>>,
    /// A document ends with its line.
    lines: bool,
    /// So many may still come.
    bytes_left: usize,
    /// Read, but the end of the last character is not there yet.
    raw: Vec<u8>,
    window: String,
    /// Where the window begins in the text, and where in the window the scan is.
    base: usize,
    at: usize,
    /// The window has the last of the document.
    ended: bool,
    /// The token: its first byte, and that behind it.
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Its text, decoded; of a long string nothing.
    pub(crate) text: String,
    pub(crate) long: Option<Digest>,
}

impl<'s> Scan<'s> {
    pub(crate) fn new(from: Box<dyn Read + 's>, lines: bool, bytes_max: usize) -> Self {
        Self {
            from: BufReader::with_capacity(READ_BYTES, from),
            lines,
            bytes_left: bytes_max,
            raw: Vec::new(),
            window: String::new(),
            base: 0,
            at: 0,
            ended: false,
            start: 0,
            end: 0,
            text: String::new(),
            long: None,
        }
    }

    /// Goes to the line behind the document that ended; false if there is none.
    pub(crate) fn next_line(&mut self) -> Result<bool, Stop> {
        if !self.lines || fill(&mut self.from)?.is_empty() {
            return Ok(false);
        }
        // the line end is no part of either
        self.base += self.window.len() + 1;
        self.window.clear();
        (self.at, self.ended) = (0, false);
        Ok(true)
    }

    /// The next token of the document; none at its end. Of what may be a `key` all of the text is kept.
    pub(crate) fn token(&mut self, key: bool) -> Result<Option<Token>, Stop> {
        self.text.clear();
        self.long = None;
        loop {
            let rest = &self.window[self.at..];
            // the white space of Unicode is what the parser takes for space, too
            self.at += rest.len() - rest.trim_start().len();
            self.start = self.base + self.at;
            self.end = self.start;
            match self.ahead(2)?.as_bytes() {
                [] => return Ok(None),
                [b'/', b'/', ..] => self.line_comment()?,
                [b'/', b'*', ..] => self.block_comment()?,
                // there was no more in the window than space
                [first, ..]
                    if !first.is_ascii() || first.is_ascii_whitespace() || *first == 0xb =>
                {
                    let rest = &self.window[self.at..];
                    if !rest.starts_with(char::is_whitespace) {
                        return self.word().map(Some);
                    }
                }
                [first, ..] => {
                    let sign = match first {
                        b'{' => Token::OpenMap,
                        b'}' => Token::CloseMap,
                        b'[' => Token::OpenList,
                        b']' => Token::CloseList,
                        b',' => Token::Comma,
                        b':' => Token::Colon,
                        b'"' | b'\'' => {
                            let quote = *first;
                            return self.string(quote, key).map(Some);
                        }
                        _ => return self.word().map(Some),
                    };
                    self.at += 1;
                    self.end = self.start + 1;
                    return Ok(Some(sign));
                }
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn bytes_kept(&self) -> usize {
        self.from.capacity() + self.raw.capacity() + self.window.capacity() + self.text.capacity()
    }

    /// What is ahead: so many bytes, or all up to the end.
    fn ahead(&mut self, len: usize) -> Result<&str, Stop> {
        while self.window.len() - self.at < len && self.more()? {}
        Ok(&self.window[self.at..])
    }

    /// Reads on, and lets go of what is behind; false at the end of the document.
    fn more(&mut self) -> Result<bool, Stop> {
        if self.ended {
            return Ok(false);
        }
        self.base += self.at;
        self.window.drain(..self.at);
        self.at = 0;
        let read = fill(&mut self.from)?;
        let line = if self.lines { memchr(b'\n', read) } else { None };
        let part = &read[..line.unwrap_or(read.len())];
        self.ended = read.is_empty() || line.is_some();
        self.raw.extend_from_slice(part);
        let taken = part.len() + usize::from(line.is_some());
        self.from.consume(taken);
        self.bytes_left = self.bytes_left.checked_sub(taken).ok_or(Stop::TooLarge)?;
        let whole = match std::str::from_utf8(&self.raw) {
            Ok(text) => text,
            Err(error) => {
                let (good, bad) = self.raw.split_at(error.valid_up_to());
                if error.error_len().is_some() || self.ended {
                    return Err(Stop::Encoding(self.base + self.window.len() + good.len()));
                }
                let text = std::str::from_utf8(good).unwrap_or_default();
                self.window.push_str(text);
                self.raw = bad.to_vec();
                return Ok(true);
            }
        };
        self.window.push_str(whole);
        self.raw.clear();
        Ok(true)
    }

    fn line_comment(&mut self) -> Result<(), Stop> {
        self.at += 2;
        loop {
            let rest = &self.window[self.at..];
            let end = memchr2(b'\n', b'\r', rest.as_bytes());
            let part = end.unwrap_or(rest.len());
            self.pass_comment(part)?;
            if end.is_some() || !self.more()? {
                return Ok(());
            }
        }
    }

    fn block_comment(&mut self) -> Result<(), Stop> {
        self.at += 2;
        loop {
            let rest = &self.window[self.at..];
            if let Some(end) = rest.find("*/") {
                self.pass_comment(end)?;
                self.at += 2;
                return Ok(());
            }
            // a star at the end of the window may be half of the end
            let part = rest.len() - usize::from(rest.ends_with('*'));
            self.pass_comment(part)?;
            if !self.more()? {
                return Err(Stop::Syntax(self.start));
            }
        }
    }

    fn pass_comment(&mut self, len: usize) -> Result<(), Stop> {
        if self.window[self.at..self.at + len].contains(['\u{2028}', '\u{2029}']) {
            let reason = "a comment with a Unicode line end in it: JSON5 ends the comment there, \
                          and others do not";
            return Err(Stop::Refused(self.start, reason));
        }
        self.at += len;
        Ok(())
    }

    fn string(&mut self, quote: u8, key: bool) -> Result<Token, Stop> {
        self.at += 1;
        let mut kept = Kept { key, hasher: None };
        loop {
            let rest = &self.window[self.at..];
            let Some(end) = memchr2(quote, b'\\', rest.as_bytes()) else {
                kept.take(&mut self.text, rest)?;
                self.at = self.window.len();
                if !self.more()? {
                    return Err(Stop::Syntax(self.start));
                }
                continue;
            };
            kept.take(&mut self.text, &rest[..end])?;
            self.at += end;
            if self.window.as_bytes()[self.at] == quote {
                self.at += 1;
                self.end = self.base + self.at;
                self.long = kept.hasher.map(|hasher| Digest(*hasher.finalize().as_bytes()));
                return Ok(Token::Text);
            }
            let backslash = self.base + self.at;
            let (len, decoded) = match self.ahead(ESCAPE_BYTES)? {
                "\\" => return Err(Stop::Syntax(self.start)),
                ahead => escape(&ahead[1..]).ok_or(Stop::Syntax(backslash))?,
            };
            self.at += 1 + len;
            if let Some(c) = decoded {
                kept.take(&mut self.text, c.encode_utf8(&mut [0; 4]))?;
            }
        }
    }

    fn word(&mut self) -> Result<Token, Stop> {
        loop {
            let rest = &self.window[self.at..];
            let here = self.base + self.at;
            let mut scanner = Scanner::new(rest, &ScannerOptions::default());
            let (reach, found) = match scanner.scan() {
                Ok(token) => {
                    let token = match token {
                        Some(Scanned::Word(_)) => Some(Token::Word),
                        Some(Scanned::Number(_) | Scanned::Boolean(_)) => Some(Token::Bare),
                        Some(Scanned::Null) => Some(Token::Null),
                        // nothing else begins with such a character
                        _ => None,
                    };
                    (scanner.token_end(), token.ok_or(Stop::Syntax(here)))
                }
                Err(error) => {
                    let range = error.range();
                    (range.end, Err(Stop::Syntax(here + range.start)))
                }
            };
            if reach + BEHIND_BYTES > rest.len() && !self.ended {
                if rest.len() > WORD_BYTES_MAX {
                    return Err(Stop::Syntax(here));
                }
                self.more()?;
                continue;
            }
            let token = found?;
            self.text.push_str(&rest[..reach]);
            self.at += reach;
            self.end = here + reach;
            return Ok(token);
        }
    }
}

/// The text of a string, as far as it is kept.
struct Kept {
    key: bool,
    hasher: Option<blake3::Hasher>,
}

impl Kept {
    fn take(&mut self, text: &mut String, part: &str) -> Result<(), Stop> {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(part.as_bytes());
            return Ok(());
        }
        text.push_str(part);
        if self.key && text.len() > KEY_BYTES_MAX {
            return Err(Stop::TooLarge);
        }
        if !self.key && text.len() > TEXT_BYTES_MAX {
            let mut hasher = blake3::Hasher::new();
            hasher.update(text.as_bytes());
            self.hasher = Some(hasher);
            text.clear();
        }
        Ok(())
    }
}

fn fill<'r>(from: &'r mut BufReader<Box<dyn Read + '_>>) -> io::Result<&'r [u8]> {
    while let Err(error) = from.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(from.buffer())
}

/// What stands behind a backslash: how long it is, and for what it stands. A line end stands for nothing.
fn escape(text: &str) -> Option<(usize, Option<char>)> {
    let c = text.chars().next()?;
    let behind = &text[c.len_utf8()..];
    let decoded = match c {
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '0' if !behind.starts_with(|c: char| c.is_ascii_digit()) => '\0',
        '0'..='9' => return None,
        'x' => return Some((3, char::from_u32(hex(behind, 2)?))),
        'u' => return unicode(behind),
        '\r' => return Some((1 + usize::from(behind.starts_with('\n')), None)),
        '\n' | '\u{2028}' | '\u{2029}' => return Some((c.len_utf8(), None)),
        other => other,
    };
    Some((c.len_utf8(), Some(decoded)))
}

/// What stands behind `\u`. Half of a pair stands for nothing, and is refused.
fn unicode(text: &str) -> Option<(usize, Option<char>)> {
    let first = hex(text, 4)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Some((5, Some(char::from_u32(first)?)));
    }
    let second = hex(text[4..].strip_prefix("\\u")?, 4)?;
    let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
    Some((11, Some(char::from_u32(0x10000 + ((first - 0xd800) << 10) + low)?)))
}

fn hex(text: &str, digits: usize) -> Option<u32> {
    let digits = text.get(..digits)?;
    let all = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| all)
}
