//! Progress of push and pull: a bar with rate and time left on a terminal, a line for each tenth
//! at `-v` elsewhere, nothing with `-q` or `--json`. Problems are told at once and kept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use engine::push::Suspects;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Screen, count, json, sanitize, size, stderr_line};

const BAR: &str =
    "{bar:24} {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left  {msg}";
const SPINNER: &str = "{spinner} {msg}";

/// Something that did not go as it should.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// Path as raw bytes.
    pub(crate) path: Vec<u8>,
    /// What happened.
    pub(crate) what: String,
    /// Nothing is missing because of it.
    pub(crate) notice: bool,
}

/// Shows how far a run is. Used from several threads.
#[derive(Debug)]
pub(crate) struct Meter {
    bar: ProgressBar,
    /// Lines instead of a bar.
    lines: bool,
    silent: bool,
    verbose: bool,
    tenth: AtomicU64,
    scanned: AtomicU64,
    /// Bytes written by a pull; bytes there are to do.
    written: AtomicU64,
    total: AtomicU64,
    /// Longest hold of a live database, in microseconds; 0 if there was none.
    held: AtomicU64,
    suspects: Mutex<Suspects>,
    told: Mutex<Vec<Told>>,
}

impl Meter {
    pub(crate) fn new(screen: &Screen) -> Self {
        let silent = screen.json() || screen.quiet();
        let target =
            if silent { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        Self {
            lines: bar.is_hidden() && !silent && screen.verbose() > 0,
            bar,
            silent,
            verbose: screen.verbose() > 0,
            tenth: AtomicU64::new(0),
            scanned: AtomicU64::new(0),
            written: AtomicU64::new(0),
            total: AtomicU64::new(0),
            held: AtomicU64::new(0),
            suspects: Mutex::default(),
            told: Mutex::new(Vec::new()),
        }
    }

    /// For how many milliseconds a live database was held at most, if any was read.
    pub(crate) fn held_ms_max(&self) -> Option<u64> {
        let micros = self.held.load(Ordering::Relaxed);
        (micros > 0).then(|| micros.div_ceil(1000))
    }

    /// What looks like a secret in what is new.
    pub(crate) fn suspects(&self) -> Suspects {
        std::mem::take(&mut *self.suspects.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the bar away and hands over what was told.
    pub(crate) fn finish(self) -> Vec<Told> {
        self.bar.finish_and_clear();
        self.told.into_inner().unwrap_or_default()
    }

    fn style(&self, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("##-"));
        }
    }

    /// The totals are not final yet.
    fn scanning(&self, message: String) {
        match self.scanned.fetch_max(1, Ordering::Relaxed) {
            0 => self.style(SPINNER),
            1 => {}
            _ => return, // a thread that was late
        }
        self.bar.set_message(message);
        self.bar.tick();
    }

    /// The totals are final.
    fn working(&self, done: u64, of: u64, message: String) {
        self.bar.set_length(of);
        if self.scanned.swap(2, Ordering::Relaxed) != 2 {
            self.style(BAR);
            self.bar.reset();
        }
        self.bar.set_position(done.min(of));
        self.bar.set_message(message);
        let tenth = done.saturating_mul(10) / of.max(1);
        if self.lines && tenth.min(10) > self.tenth.fetch_max(tenth.min(10), Ordering::Relaxed) {
            stderr_line(format_args!("{} of {}", size::show(done.min(of)), size::show(of)));
        }
    }

    /// Shows how many bytes were read of so many.
    pub(crate) fn bytes(&self, done: u64, of: u64) {
        self.working(done, of, String::new());
    }

    /// Takes the bar away: there is nothing more to wait for.
    pub(crate) fn hide(&self) {
        self.bar.finish_and_clear();
    }

    /// Tells of an item.
    pub(crate) fn tell(&self, path: &[u8], what: &str, notice: bool) {
        if !self.silent && (!notice || self.verbose) {
            let mark = if notice { "note" } else { "problem" };
            let line = format!("{mark}: {}: {}", sanitize::bytes(path), sanitize::text(what));
            self.bar.suspend(|| stderr_line(&line));
        }
        if let Ok(mut told) = self.told.lock() {
            told.push(Told { path: path.to_vec(), what: what.to_owned(), notice });
        }
    }
}

impl engine::Monitor for Meter {
    fn progress(&self, p: &engine::Progress) {
        let stored = format!("{} stored", size::show(p.bytes_stored));
        // a push scans twice where it can: what the first scan found holds for the second
        let found = self.total.fetch_max(p.bytes_found, Ordering::Relaxed).max(p.bytes_found);
        if p.scanned || self.scanned.load(Ordering::Relaxed) == 2 {
            self.working(p.bytes_done, found, stored);
        } else {
            let files = count(p.files_found, "file", "files");
            let (found, done) = (size::show(found), size::show(p.bytes_done));
            self.scanning(format!("{files} of {found} found, {done} done, {stored}"));
        }
    }

    fn problem(&self, problem: &engine::Problem) {
        self.tell(&problem.path, &problem.what, problem.notice);
    }

    fn held(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.held.fetch_max(micros, Ordering::Relaxed);
    }

    fn suspects(&self, suspects: &Suspects) {
        *self.suspects.lock().unwrap_or_else(PoisonError::into_inner) = suspects.clone();
    }
}

impl engine::pull::Monitor for Meter {
    fn event(&self, event: engine::pull::Event<'_>) {
        use engine::pull::Event;
        match event {
            Event::Planned(totals) => {
                self.total.store(totals.bytes, Ordering::Relaxed);
                self.working(0, totals.bytes, String::new());
            }
            Event::Bytes(more) => {
                let done = self.written.fetch_add(more, Ordering::Relaxed) + more;
                self.working(done, self.total.load(Ordering::Relaxed), String::new());
            }
            Event::Problem(problem) => self.tell(&problem.path, &problem.reason, false),
            Event::Notice(problem) => self.tell(&problem.path, &problem.reason, true),
            _ => {}
        }
    }
}

/// What was told, for a document: problems or notices.
pub(crate) fn records(told: &[Told], notices: bool) -> Vec<json::Problem> {
    told.iter()
        .filter(|one| one.notice == notices)
        .map(|one| json::Problem { path: json::Path::new(&one.path), what: one.what.clone() })
        .collect()
}
