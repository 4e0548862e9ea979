//! Where the bytes of a file come from: memory, or a file that is read piece by piece.

use std::io::{self, BufReader, Read};

use crate::error::Error;
use crate::format::Format;
use crate::read::too_large;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Bytes that can be read more than once.
///
/// They must be the same each time: values are left out by their places. What may change meanwhile is
/// to be compared, and a reader to fail before it gives a byte that is not the one of before.
pub trait Source {
    /// Reads from byte `at` on, to the end.
    fn read_from(&self, at: u64) -> io::Result<Box<dyn Read + '_>>;
}

impl Source for &[u8] {
    fn read_from(&self, at: u64) -> io::Result<Box<dyn Read + '_>> {
        let at = usize::try_from(at).map_or(self.len(), |at| at.min(self.len()));
        Ok(Box::new(&self[at..]))
    }
}

/// A source as text: what is behind its byte order mark. Places are places in that.
#[derive(Clone, Copy)]
pub(crate) struct Text<'s> {
    pub(crate) source: &'s dyn Source,
    /// Bytes of the mark.
    pub(crate) mark: usize,
}

impl<'s> Text<'s> {
    pub(crate) fn of(source: &'s dyn Source) -> Result<Self, Error> {
        let mut head = Vec::new();
        let read = source
            .read_from(0)
            .and_then(|from| from.take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut head));
        read?;
        let mark = if head == BYTE_ORDER_MARK { head.len() } else { 0 };
        Ok(Self { source, mark })
    }

    pub(crate) fn read_from(&self, at: usize) -> io::Result<Box<dyn Read + 's>> {
        self.source.read_from((self.mark + at) as u64)
    }

    /// Mark and all.
    pub(crate) fn whole(&self, format: Format) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let from = self.source.read_from(0)?;
        from.take(format.bytes_max() as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Why a reader of this text stopped, for a person.
    pub(crate) fn error(&self, format: Format, stop: Stop) -> Error {
        match stop {
            Stop::Syntax(at) => {
                let (line, column) = self.place(at);
                Error::Syntax { format, line, column }
            }
            Stop::Refused(at, reason) => {
                let (line, column) = self.place(at);
                Error::Refused { line, column, reason }
            }
            Stop::Encoding(at) => Error::Encoding { format, line: self.place(at).0 },
            Stop::TooLarge => too_large(format),
            Stop::Read(error) => error.into(),
        }
    }

    /// Line and column, from 1, of a byte. If it cannot be read again, of the last one that can be.
    fn place(&self, at: usize) -> (usize, usize) {
        let (mut line, mut column) = (1, 1);
        let Ok(from) = self.read_from(0) else { return (line, column) };
        for byte in BufReader::new(from.take(at as u64)).bytes().map_while(Result::ok) {
            match byte {
                b'\n' => (line, column) = (line + 1, 1),
                0x80..0xc0 => {}
                _ => column += 1,
            }
        }
        (line, column)
    }
}

/// Why a reader went no further, and at which byte.
#[derive(Debug)]
pub(crate) enum Stop {
    Syntax(usize),
    Refused(usize, &'static str),
    Encoding(usize),
    TooLarge,
    Read(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}
