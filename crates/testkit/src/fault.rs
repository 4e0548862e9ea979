//! A store that fails on cue: the n-th call, or whatever a rule picks.
//!
//! In: a store and a rule that sees each call before it happens. Out: the store's answers, or the
//! fault. A call that fails "before" never reached the store; one whose acknowledgement is lost did.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use bytes::{Bytes, BytesMut};
use store::{Error, Item, Listing, Result, Store, Usage, Version};

use crate::call::{Call, Verb, total};

/// What goes wrong with one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and the store never hears of it.
    Fail(Failure),
    /// The store does it, the caller is told [`Error::Unavailable`].
    LoseAnswer,
    /// What is read ends after this many bytes, as if the object did.
    CutTo(usize),
    /// One bit of what is read is flipped, in this byte (modulo the length).
    FlipBit(usize),
    /// One bit of what is written is flipped on its way, and acknowledged.
    FlipBitStored(usize),
    /// The call answers after this time.
    Delay(Duration),
    /// A listing leaves out every name that contains this text (stale listings, hidden objects).
    Omit(String),
    /// The process is gone before this call: it and every later one fail.
    CrashBefore,
    /// The process is gone after the store did this call: it and every later one fail.
    CrashAfter,
}

/// The error of [`Fault::Fail`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// [`Error::Unavailable`].
    Unavailable,
    /// [`Error::Denied`].
    Denied,
    /// [`Error::CapReached`].
    CapReached,
    /// [`Error::NotFound`].
    NotFound,
    /// [`Error::NoSuchStore`].
    NoSuchStore,
    /// [`Error::Cancelled`].
    Cancelled,
    /// [`Error::Io`] of this kind.
    Io(io::ErrorKind),
}

type Rule = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;

/// Wraps a store and injects faults.
pub struct FaultStore {
    inner: Arc<dyn Store>,
    rule: Mutex<Rule>,
    calls: AtomicU64,
    crashed: AtomicBool,
}

impl FaultStore {
    /// Asks `rule` before each call.
    pub fn new(
        inner: Arc<dyn Store>,
        rule: impl FnMut(&Call) -> Option<Fault> + Send + 'static,
    ) -> Self {
        let rule = Mutex::new(Box::new(rule) as Rule);
        Self { inner, rule, calls: AtomicU64::new(0), crashed: AtomicBool::new(false) }
    }

    /// Injects `fault` into call `number` (1 is the first) and no other.
    pub fn at(inner: Arc<dyn Store>, number: u64, fault: Fault) -> Self {
        Self::new(inner, move |call| (call.number == number).then(|| fault.clone()))
    }

    /// Lets `number` calls through; the process is gone before the next one.
    pub fn crash_after(inner: Arc<dyn Store>, number: u64) -> Self {
        Self::at(inner, number + 1, Fault::CrashBefore)
    }

    /// How many calls began.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Whether a crash was reached.
    pub fn crashed(&self) -> bool {
        self.crashed.load(Ordering::SeqCst)
    }

    /// Runs one call: `act` on the store, around it what the rule says.
    fn run<T>(
        &self,
        verb: Verb,
        name: &str,
        bytes: u64,
        act: impl FnOnce(Option<&Fault>) -> Result<T>,
    ) -> Result<T> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let call = Call { number, verb, name: name.to_owned(), bytes };
        if self.crashed() {
            return Err(gone(&call));
        }
        let fault = {
            let mut rule = self.rule.lock().unwrap_or_else(PoisonError::into_inner);
            rule(&call)
        };
        match &fault {
            Some(Fault::Fail(failure)) => Err(failure.error(&call)),
            Some(Fault::CrashBefore) => {
                self.crashed.store(true, Ordering::SeqCst);
                Err(gone(&call))
            }
            Some(Fault::CrashAfter) => {
                let done = act(None);
                self.crashed.store(true, Ordering::SeqCst);
                done.and(Err(gone(&call)))
            }
            Some(Fault::LoseAnswer) => act(None).and(Err(unavailable(&call, "no answer"))),
            Some(Fault::Delay(time)) => {
                std::thread::sleep(*time);
                act(None)
            }
            other => act(other.as_ref()),
        }
    }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.inner;
        f.debug_struct("FaultStore").field("inner", inner).finish_non_exhaustive()
    }
}

impl Store for FaultStore {
    fn put(&self, name: &str, mut parts: Vec<Bytes>) -> Result<()> {
        self.run(Verb::Put, name, total(&parts), |fault| {
            if let Some(Fault::FlipBitStored(at)) = fault {
                parts = vec![flipped(&parts.concat(), *at)];
            }
            self.inner.put(name, parts)
        })
    }

    fn get(&self, name: &str) -> Result<Bytes> {
        self.run(Verb::Get, name, 0, |fault| Ok(spoil(self.inner.get(name)?, fault)))
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        self.run(Verb::GetRange, name, range.end.saturating_sub(range.start), |fault| {
            Ok(spoil(self.inner.get_range(name, range)?, fault))
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<Item>> {
        self.run(Verb::List, prefix, 0, |fault| {
            let mut items = self.inner.list(prefix)?;
            if let Some(Fault::Omit(text)) = fault {
                items.retain(|item| !item.name.contains(text));
            }
            Ok(items)
        })
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.run(Verb::Delete, name, 0, |_| self.inner.delete(name))
    }

    fn old_versions(&self, prefix: &str) -> Result<Option<Vec<Version>>> {
        self.run(Verb::List, prefix, 0, |fault| {
            let mut versions = self.inner.old_versions(prefix)?;
            if let (Some(Fault::Omit(text)), Some(all)) = (fault, &mut versions) {
                all.retain(|one| !one.name.contains(text));
            }
            Ok(versions)
        })
    }

    fn get_version(&self, version: &Version) -> Result<Bytes> {
        let get = |fault: Option<&Fault>| Ok(spoil(self.inner.get_version(version)?, fault));
        self.run(Verb::Get, &version.name, 0, get)
    }

    fn address(&self) -> String {
        self.inner.address()
    }

    fn listing(&self) -> Listing {
        self.inner.listing()
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn renew_connections(&self) {
        self.inner.renew_connections();
    }
}

impl Failure {
    fn error(self, call: &Call) -> Error {
        let (op, name, detail) = (op(call.verb), call.name.clone(), "injected".to_owned());
        match self {
            Self::Unavailable => Error::Unavailable { op, name, detail },
            Self::Denied => Error::Denied { op, name, detail },
            Self::CapReached => Error::CapReached { op, name, detail },
            Self::NotFound => Error::NotFound { name },
            Self::NoSuchStore => Error::NoSuchStore { address: "fault:".to_owned(), detail },
            Self::Cancelled => Error::Cancelled,
            Self::Io(kind) => Error::Io { op, name, source: kind.into() },
        }
    }
}

fn gone(call: &Call) -> Error {
    unavailable(call, "the process crashed")
}

fn unavailable(call: &Call, detail: &str) -> Error {
    Error::Unavailable { op: op(call.verb), name: call.name.clone(), detail: detail.to_owned() }
}

fn op(verb: Verb) -> &'static str {
    match verb {
        Verb::Put => "put",
        Verb::Get | Verb::GetRange => "get",
        Verb::List => "list",
        Verb::Delete => "delete",
    }
}

fn spoil(mut bytes: Bytes, fault: Option<&Fault>) -> Bytes {
    match fault {
        Some(Fault::CutTo(len)) => {
            bytes.truncate(*len);
            bytes
        }
        Some(Fault::FlipBit(at)) => flipped(&bytes, *at),
        _ => bytes,
    }
}

fn flipped(bytes: &[u8], at: usize) -> Bytes {
    let mut bytes = BytesMut::from(bytes);
    if !bytes.is_empty() {
        let at = at % bytes.len();
        bytes[at] ^= 0x10;
    }
    bytes.freeze()
}
