//! What happened in a run: a hash over all of it, and as much as is kept to be read.

/// Lines shown of a run that failed.
const SHOWN_MAX: usize = 4000;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    DoneTwice,
    DoneUnheard,
    Failed,
    Late,
    /// A late or repeated request reached the store.
    Landed,
    NotFound,
    Page,
}

#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    keep: bool,
    lines: Vec<String>,
}

impl Trace {
    pub(crate) fn new(keep: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, keep, lines: Vec::new() }
    }

    fn mix(&mut self, bytes: &[u8]) {
        // FNV-1a
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(crate) fn call(
        &mut self,
        actor: usize,
        verb: &str,
        name: &str,
        outcome: Outcome,
        crash: bool,
    ) {
        self.mix(&[u8::try_from(actor).unwrap_or(u8::MAX), outcome as u8, u8::from(crash)]);
        self.mix(verb.as_bytes());
        self.mix(name.as_bytes());
        if self.keep {
            let who = if actor == usize::MAX { "-".to_owned() } else { actor.to_string() };
            let crash = if crash { ", and it crashed" } else { "" };
            self.lines.push(format!("{who:>2} {verb:6} {name} {outcome:?}{crash}"));
        }
    }

    pub(crate) fn note(&mut self, actor: usize, text: impl FnOnce() -> String) {
        if self.keep {
            self.lines.push(format!("{actor:>2} == {}", text()));
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines.
    pub(crate) fn shown(&self) -> String {
        let skipped = self.lines.len().saturating_sub(SHOWN_MAX);
        self.lines[skipped..].join("\n")
    }
}
