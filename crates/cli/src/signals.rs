//! SIGINT and SIGTERM. While something is written the first one asks the run to end cleanly and
//! the second ends it at once; otherwise the first one ends it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
pub(crate) use signal_hook::iterator::Handle;

use crate::exit::Exit;

/// The signal that came last, 0 if none did.
static RECEIVED: AtomicUsize = AtomicUsize::new(0);

/// The handlers' flags.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signals {
    cancel: Arc<AtomicBool>,
    at_once: Arc<AtomicBool>,
}

impl Signals {
    /// Installs the handlers.
    pub(crate) fn install() -> std::io::Result<Self> {
        let signals = Self::default();
        signals.at_once.store(true, Ordering::SeqCst);
        for (signal, exit) in [(SIGINT, Exit::Interrupted), (SIGTERM, Exit::Terminated)] {
            // order matters: the one that raises `at_once` must not find it raised by itself
            let status = i32::from(exit.code());
            flag::register_conditional_shutdown(signal, status, Arc::clone(&signals.at_once))?;
            flag::register(signal, Arc::clone(&signals.at_once))?;
            flag::register(signal, Arc::clone(&signals.cancel))?;
            let number = usize::try_from(signal).unwrap_or_default();
            flag::register_usize(signal, &RECEIVED, number)?;
        }
        Ok(signals)
    }

    /// The flag that the first signal raises. From now on that is all the first one does.
    pub(crate) fn graceful(&self) -> &Arc<AtomicBool> {
        if !self.cancel.load(Ordering::SeqCst) {
            self.at_once.store(false, Ordering::SeqCst);
        }
        &self.cancel
    }

    /// The flag that the first signal raises.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancel)
    }
}

/// Hears signals for a daemon: the first and the second go to `tell`, the third ends the process at once.
/// The thread that listens ends when the handle is closed.
pub(crate) fn tell(tell: impl Fn() + Send + 'static) -> std::io::Result<Handle> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let handle = signals.handle();
    std::thread::spawn(move || {
        for (n, signal) in signals.forever().enumerate() {
            RECEIVED.store(usize::try_from(signal).unwrap_or_default(), Ordering::SeqCst);
            if n >= 2 {
                std::process::exit(exit().code().into());
            }
            tell();
        }
    });
    Ok(handle)
}

/// The exit code of a run that was cancelled.
pub(crate) fn exit() -> Exit {
    let terminated = usize::try_from(SIGTERM).is_ok_and(|t| RECEIVED.load(Ordering::SeqCst) == t);
    if terminated { Exit::Terminated } else { Exit::Interrupted }
}
