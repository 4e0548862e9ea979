//! Text as it reads when the escapes of strings are undone, with the way back.
//!
//! A transcript is JSON, and what a tool printed is often JSON in JSON: a private key has `\n` or
//! `\\n` where its lines end, and `\nAKIA...` has no word boundary before its first letter. So
//! nothing is matched against raw text. A run of backslashes together with the character that
//! ends it is one escape, however deeply it is nested, and is one byte here:
//!
//! | raw | here |
//! |---|---|
//! | `\n` `\\n` `\\\\n`, the same with r, t, b, f | the control character |
//! | `\"` `\'` `\/`, at any depth | the character |
//! | `\u0022`, below U+0080 | the character |
//! | `\u00e9`, any other | 0xff: some character that is not ASCII |
//! | backslashes before anything else | one backslash; the other character stays |
//! | anything else | itself |
//!
//! In: raw bytes, in pieces of any size. Out: the bytes above, and for each place in them where it
//! lies in the raw text. Invariants: the same text gives the same view however it is split; every
//! escape of a JSON string lies wholly in one byte of the view, so a range here never cuts one.

use memchr::memchr;

/// Backslashes that one escape may have; a longer run is cut here, at an even place. Without a
/// limit one byte of the view could stand for any length of text.
const RUN_MAX: u8 = 64;

/// From `view` on, one raw byte a byte, beginning at `raw`; until the next step.
#[derive(Debug, Clone, Copy)]
struct Step {
    view: usize,
    raw: u64,
}

/// Where in an escape the text stops so far.
#[derive(Debug, Clone, Copy)]
enum State {
    Plain,
    /// So many backslashes.
    Run(u8),
    /// The same, then `u`, then some of its four digits.
    Hex {
        run: u8,
        seen: u8,
        digits: [u8; 4],
    },
}

/// The view of a text; old parts can be dropped.
pub(crate) struct View {
    bytes: Vec<u8>,
    steps: Vec<Step>,
    state: State,
    /// Where in the raw text the next byte of the view begins.
    raw_next: u64,
}

impl View {
    /// A view of a text that begins at `raw` of its file.
    pub(crate) fn new(raw: u64) -> View {
        let steps = vec![Step { view: 0, raw }];
        View { bytes: Vec::new(), steps, state: State::Plain, raw_next: raw }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The raw place of the byte at `view`; of the end, if that is the length.
    pub(crate) fn raw(&self, view: usize) -> u64 {
        if view == self.bytes.len() {
            return self.raw_next;
        }
        let after = self.steps.partition_point(|step| step.view <= view);
        let step = self.steps[after - 1]; // the first step is at 0
        step.raw + (view - step.view) as u64
    }

    /// Takes the next raw bytes.
    pub(crate) fn push(&mut self, mut raw: &[u8]) {
        while !raw.is_empty() {
            match self.state {
                State::Plain => {
                    let plain = memchr(b'\\', raw).unwrap_or(raw.len());
                    self.plain(&raw[..plain]);
                    raw = &raw[plain..];
                    if !raw.is_empty() {
                        self.state = State::Run(1);
                        raw = &raw[1..];
                    }
                }
                State::Run(run) => raw = self.after_run(run, raw),
                State::Hex { run, seen, digits } => raw = self.after_digits(run, seen, digits, raw),
            }
        }
    }

    /// The text ends here.
    pub(crate) fn end(&mut self) {
        match std::mem::replace(&mut self.state, State::Plain) {
            State::Plain => {}
            State::Run(run) => self.escape(b'\\', run.into()),
            State::Hex { run, seen, digits } => self.no_hex(run, seen, digits),
        }
    }

    /// Forgets what lies before `view`.
    pub(crate) fn drop_before(&mut self, view: usize) {
        let raw = self.raw(view);
        let after = self.steps.partition_point(|step| step.view <= view);
        self.steps.drain(..after);
        for step in &mut self.steps {
            step.view -= view;
        }
        self.steps.insert(0, Step { view: 0, raw });
        self.bytes.drain(..view);
    }

    fn after_run<'r>(&mut self, run: u8, raw: &'r [u8]) -> &'r [u8] {
        let byte = match raw[0] {
            b'\\' if run < RUN_MAX => {
                self.state = State::Run(run + 1);
                return &raw[1..];
            }
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 0x08,
            b'f' => 0x0c,
            quote @ (b'"' | b'\'' | b'/') => quote,
            b'u' => {
                self.state = State::Hex { run, seen: 0, digits: [0; 4] };
                return &raw[1..];
            }
            _ => {
                self.escape(b'\\', run.into());
                self.state = State::Plain;
                return raw;
            }
        };
        self.escape(byte, u64::from(run) + 1);
        self.state = State::Plain;
        &raw[1..]
    }

    fn after_digits<'r>(
        &mut self,
        run: u8,
        seen: u8,
        mut digits: [u8; 4],
        raw: &'r [u8],
    ) -> &'r [u8] {
        if !raw[0].is_ascii_hexdigit() {
            self.no_hex(run, seen, digits);
            self.state = State::Plain;
            return raw;
        }
        digits[usize::from(seen)] = raw[0];
        if seen < 3 {
            self.state = State::Hex { run, seen: seen + 1, digits };
            return &raw[1..];
        }
        let value = |digit: u8| char::from(digit).to_digit(16).unwrap_or(0); // they are hex digits
        let code = digits.iter().fold(0, |code, digit| code << 4 | value(*digit));
        let byte = u8::try_from(code).ok().filter(u8::is_ascii).unwrap_or(0xff);
        self.escape(byte, u64::from(run) + 5);
        self.state = State::Plain;
        &raw[1..]
    }

    /// `\u` without four digits is a backslash and text.
    fn no_hex(&mut self, run: u8, seen: u8, digits: [u8; 4]) {
        self.escape(b'\\', run.into());
        self.plain(b"u");
        self.plain(&digits[..usize::from(seen)]);
    }

    fn plain(&mut self, raw: &[u8]) {
        self.step();
        self.bytes.extend_from_slice(raw);
        self.raw_next += raw.len() as u64;
    }

    fn escape(&mut self, byte: u8, raw_bytes: u64) {
        self.step();
        self.bytes.push(byte);
        self.raw_next += raw_bytes;
    }

    /// A step is due where the raw text does not go on by one byte a byte.
    fn step(&mut self) {
        let (view, raw) = (self.bytes.len(), self.raw_next);
        match self.steps.last_mut() {
            Some(last) if last.view == view => last.raw = raw,
            Some(last) if last.raw + (view - last.view) as u64 == raw => {}
            _ => self.steps.push(Step { view, raw }),
        }
    }
}
