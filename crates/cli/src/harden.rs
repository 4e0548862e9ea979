//! The process itself: secrets in its memory stay there, it may open files enough, and a bug is told in one
//! line.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::ui::{sanitize, stderr_line};

/// No core files, and no debugger of another process of this user, where the system can do that.
pub(crate) fn no_core_files() {
    // best effort: a system that refuses still runs backups
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Open files at a time: a restore has some hundred directories open.
const OPEN_FILES: u64 = 4096;

/// As many open files as this needs and the system lets it have; macOS starts programs with 256.
pub(crate) fn more_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES, |most| most.min(OPEN_FILES));
    if limit.current.is_some_and(|now| now < wanted) {
        // best effort: what cannot be opened then is named
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit });
    }
}

/// A panic is a bug: one line, once, and no backtrace unless `RUST_BACKTRACE` asks for it.
pub(crate) fn one_line_panics() {
    static TOLD: AtomicBool = AtomicBool::new(false);
    std::panic::set_hook(Box::new(|info| {
        if TOLD.swap(true, Ordering::SeqCst) {
            return; // threads that fall over each other
        }
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let what = text.unwrap_or("no message");
        let place = info.location().map(|at| format!(" ({}:{})", at.file(), at.line()));
        stderr_line(format_args!(
            "agent-backup: bug: {}{}; please report this, with the version (code 70 bug)",
            sanitize::text(what),
            place.unwrap_or_default()
        ));
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            stderr_line(trace);
        }
    }));
}
