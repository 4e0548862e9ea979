//! What can go wrong, and where in the file. No message holds a value of the file.

use std::io;

use crate::format::Format;

/// Why a file is not redacted or restored. Nothing of the file may be sent then.
///
/// Lines and columns count from 1; a column counts characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is longer than is read, or holds more values; of JSON those count that are named.
    #[error(
        "larger than is redacted: {format} of at most {bytes_max} bytes and {values_max} {values}",
        values = if format.is_json() { "values to leave out" } else { "values" }
    )]
    TooLarge {
        /// The format it was read as.
        format: Format,
        /// [`Format::bytes_max`].
        bytes_max: usize,
        /// How many values one file may hold.
        values_max: usize,
    },
    /// The file is not UTF-8.
    #[error("line {line}: not UTF-8, so it is not read as {format}")]
    Encoding {
        /// The format it was read as.
        format: Format,
        /// The line of the first bad byte.
        line: usize,
    },
    /// The file does not parse, or nests deeper than the parser follows.
    #[error("line {line}, column {column}: does not parse as {format}, or nests too deep")]
    Syntax {
        /// The format it was read as.
        format: Format,
        /// Where the parser stopped.
        line: usize,
        /// Where the parser stopped.
        column: usize,
    },
    /// The file parses, but a value in it cannot be replaced without risk.
    #[error("line {line}, column {column}: {reason}")]
    Refused {
        /// Where it is.
        line: usize,
        /// Where it is.
        column: usize,
        /// What stands there.
        reason: &'static str,
    },
    /// The file could not be read, or not be read again as it was.
    #[error("it could not be read: {reason}")]
    Read {
        /// What the system said.
        reason: String,
    },
    /// The result did not read back as it should. That is a mistake of this program.
    #[error("the redacted {format} does not read back as what was meant; please report this")]
    Unproven {
        /// The format it was read as.
        format: Format,
    },
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Read { reason: error.to_string() }
    }
}

/// Line and column, from 1, of byte `at` of `text`.
pub(crate) fn place(text: &str, at: usize) -> (usize, usize) {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// `text` is not `format`, from byte `at` on.
pub(crate) fn syntax(format: Format, text: &str, at: usize) -> Error {
    let (line, column) = place(text, at);
    Error::Syntax { format, line, column }
}

/// What stands at byte `at` of `text` is refused.
pub(crate) fn refused(text: &str, at: usize, reason: &'static str) -> Error {
    let (line, column) = place(text, at);
    Error::Refused { line, column, reason }
}
