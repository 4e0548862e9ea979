//! A flag that ends a run: set once, from a signal or another thread; looked at by whoever waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

/// A shared flag that asks a run to end. Clones share it; once set it stays set.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    set: Arc<AtomicBool>,
}

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses a flag that exists, such as one that a signal handler sets.
    pub fn from_flag(set: Arc<AtomicBool>) -> Self {
        Self { set }
    }

    /// Asks everybody who holds a clone to stop.
    pub fn cancel(&self) {
        self.set.store(true, Ordering::SeqCst);
    }

    /// Whether somebody asked.
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    /// [`Error::Cancelled`] if somebody asked.
    pub fn check(&self) -> Result<()> {
        if self.is_set() { Err(Error::Cancelled) } else { Ok(()) }
    }
}
