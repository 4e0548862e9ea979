//! What a person or a program sees: results on standard output, everything else on standard error.
//!
//! With `--json` standard output holds one document and standard error stays silent. Invariant: no
//! name from a repository or a file system reaches a terminal but through [`sanitize`].

pub(crate) mod entry;
pub(crate) mod json;
pub(crate) mod progress;
pub(crate) mod sanitize;
pub(crate) mod size;
pub(crate) mod table;
pub(crate) mod time;

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::args::Global;

/// What this program is called.
static PROGRAM: OnceLock<&'static str> = OnceLock::new();

/// Names the program; the first name stays.
pub(crate) fn name_program(name: &'static str) {
    let _ = PROGRAM.set(name);
}

/// The program's name.
pub(crate) fn program() -> &'static str {
    PROGRAM.get().copied().unwrap_or("agent-backup")
}

/// Words of ours that name a command: under the name of this program.
pub(crate) fn own_words(text: &str) -> Cow<'_, str> {
    match program() {
        "agent-backup" => text.into(),
        name => text.replace("agent-backup ", &format!("{name} ")).into(),
    }
}

/// Whoever read our output went away: the end of the run, and no failure.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
pub(crate) struct Closed;

/// Where output goes.
pub(crate) struct Screen {
    json: bool,
    quiet: bool,
    verbose: u8,
    out: RefCell<Box<dyn Write>>,
    place: RefCell<Option<String>>,
    recovery_code: RefCell<Option<Zeroizing<String>>>,
}

impl Screen {
    pub(crate) fn new(flags: &Global) -> Self {
        let stdout = io::stdout();
        let out: Box<dyn Write> =
            if stdout.is_terminal() { Box::new(stdout) } else { Box::new(BufWriter::new(stdout)) };
        Self {
            json: flags.json,
            quiet: flags.quiet,
            verbose: flags.verbose,
            out: RefCell::new(out),
            place: RefCell::new(None),
            recovery_code: RefCell::new(None),
        }
    }

    /// One for a thread that says nothing by itself.
    pub(crate) fn silent() -> Self {
        Self::new(&Global { quiet: true, ..Global::default() })
    }

    /// One JSON document is wanted and nothing else.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// How often `-v` was given.
    pub(crate) fn verbose(&self) -> u8 {
        self.verbose
    }

    /// Results and errors only.
    pub(crate) fn quiet(&self) -> bool {
        self.quiet
    }

    /// Remembers the repository at work, for an error that comes later.
    pub(crate) fn set_place(&self, address: &str) {
        *self.place.borrow_mut() = Some(sanitize::text(address));
    }

    /// The repository at work, if there is one yet.
    pub(crate) fn place(&self) -> Option<String> {
        self.place.borrow().clone()
    }

    /// A recovery code that was made: the document of the run holds it, also that of a failure.
    pub(crate) fn set_recovery_code(&self, code: Zeroizing<String>) {
        *self.recovery_code.borrow_mut() = Some(code);
    }

    /// A line of the result. Names in it are safe already.
    pub(crate) fn line(&self, line: impl Display) -> Result<()> {
        if self.json {
            return Ok(());
        }
        writeln!(self.out.borrow_mut(), "{line}").or_else(closed)
    }

    /// Bytes of the result as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<()> {
        self.out.borrow_mut().write_all(bytes).or_else(closed)
    }

    /// The one document of a run with `--json`.
    pub(crate) fn document(&self, body: &impl Serialize) -> Result<()> {
        let code = self.recovery_code.borrow_mut().take();
        let text = json::document(body, code.as_ref().map(|code| code.as_str()))?;
        writeln!(self.out.borrow_mut(), "{text}").or_else(closed)
    }

    /// Something to know, on standard error.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.json && !self.quiet {
            self.before_stderr();
            stderr_line(own_words(&text.to_string()));
        }
    }

    /// Something that is wrong and does not end the run, on standard error; also with `--quiet`.
    pub(crate) fn warn(&self, text: impl Display) {
        if !self.json {
            self.before_stderr();
            stderr_line(text);
        }
    }

    /// Something to know for whoever asked with `-v`.
    pub(crate) fn detail(&self, text: impl Display) {
        if !self.json && self.verbose > 0 {
            self.before_stderr();
            stderr_line(text);
        }
    }

    /// Keeps the order of lines where both streams end up in one place. An error comes up again
    /// with the last flush.
    fn before_stderr(&self) {
        let _ = self.flush();
    }

    /// Asks a yes-or-no question on the terminal; none if there is no terminal to ask.
    pub(crate) fn ask(&self, question: &str) -> Result<Option<bool>> {
        if self.json || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Ok(None);
        }
        self.flush()?;
        let mut stderr = io::stderr();
        let mut answer = String::new();
        write!(stderr, "{question} [y/N] ")
            .and_then(|()| stderr.flush())
            .and_then(|()| io::stdin().read_line(&mut answer).map(drop))
            .context("cannot ask")?;
        Ok(Some(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")))
    }

    /// Hands over what is still held back.
    pub(crate) fn flush(&self) -> Result<()> {
        self.out.borrow_mut().flush().or_else(closed)
    }
}

/// A line on standard error. Nothing can be done if that fails.
pub(crate) fn stderr_line(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn closed(error: io::Error) -> Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Err(Closed.into());
    }
    Err(error).context("cannot write to standard output")
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
