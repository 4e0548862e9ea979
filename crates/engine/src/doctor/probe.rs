//! Tries a store out: everything a repository does with one, on objects of its own that are removed again.
//!
//! In: an empty store beside the repository, never the repository's own: a collection would stop at names
//! that it does not know. Out: what works, and the names of what could not be removed.

use bytes::Bytes;
use store::{Error, Store};

use super::Finding;

/// Small enough for any line, large enough to be sent in several pieces.
const BODY_BYTES: usize = 300_000;
const FIRST: &str = "probe/first";
const SECOND: &str = "probe/second";

/// What came of it.
#[derive(Debug)]
pub struct Probe {
    /// One for each thing that was tried.
    pub findings: Vec<Finding>,
    /// Objects that could not be removed.
    pub left: Vec<String>,
}

/// Tries `store` out.
pub fn probe(store: &dyn Store) -> Probe {
    let mut findings = Vec::new();
    let ended = try_all(store, &mut findings);
    if let Err(finding) = ended {
        findings.push(finding);
    }
    let mut left = Vec::new();
    let mut refused = None;
    for name in [FIRST, SECOND] {
        if let Err(e) = store.delete(name) {
            left.push(name.to_owned());
            refused = Some(e);
        }
    }
    match refused {
        None => findings.push(match store.list("") {
            Ok(items) if items.is_empty() => Finding::fine("probe-delete", "deleting works"),
            Ok(items) => {
                let what = format!("{} is listed after it was deleted", items[0].name);
                Finding::fault("probe-delete", what)
                    .hint("a storage that shows what is gone makes gc slow; nothing is lost by it")
            }
            Err(e) => failed("probe-delete", "the listing after it", &e),
        }),
        Some(Error::Denied { .. }) => {
            let what = "the key may not delete: push works, gc does not";
            findings.push(Finding::unchecked("probe-delete", what));
        }
        Some(e) => findings.push(failed("probe-delete", "deleting", &e)),
    }
    Probe { findings, left }
}

fn failed(check: &'static str, what: &str, error: &Error) -> Finding {
    let hint = match error {
        Error::Denied { .. } => {
            "the key needs listFiles, readFiles and writeFiles (or s3:ListBucket, \
                                 s3:GetObject and s3:PutObject)"
        }
        Error::CapReached { .. } => {
            "raise the cap of the account, or wait for the next day (00:00 GMT)"
        }
        Error::Unavailable { .. } => "check the network and the endpoint",
        _ => "check the address and the storage",
    };
    Finding::fault(check, format!("{what} failed: {error}")).hint(hint)
}

/// Ends at the first thing that does not work: the rest stands on it.
fn try_all(store: &dyn Store, findings: &mut Vec<Finding>) -> Result<(), Finding> {
    // bytes that no proxy compresses or takes for text
    let mut state = 0x9e37_79b9_u32;
    let body: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    })
    .take(BODY_BYTES)
    .collect();
    let body = Bytes::from(body);
    let put = |name: &str, body: &Bytes| {
        let parts = vec![body.slice(..100), body.slice(100..)];
        store.put(name, parts).map_err(|e| failed("probe-write", "writing", &e))
    };
    put(FIRST, &body)?;
    findings.push(Finding::fine("probe-write", "writing works"));

    let wrong = |check, what: &str| {
        Err(Finding::fault(check, what).hint("no backup is safe on a storage that does this"))
    };
    let read = store.get(FIRST).map_err(|e| failed("probe-read", "reading", &e))?;
    if read != body {
        return wrong("probe-read", "what was read is not what was written");
    }
    let part = store.get_range(FIRST, 1_000..2_000);
    if part.map_err(|e| failed("probe-read", "reading a part", &e))? != body.slice(1_000..2_000) {
        return wrong("probe-read", "a part that was read is not what was written");
    }
    findings.push(Finding::fine("probe-read", "reading works, whole and in part"));

    put(SECOND, &body.slice(..1_000))?;
    let listed = store.list("").map_err(|e| failed("probe-list", "listing", &e))?;
    let names: Vec<(&str, u64)> = listed.iter().map(|i| (i.name.as_str(), i.size)).collect();
    if names != [(FIRST, BODY_BYTES as u64), (SECOND, 1_000)] {
        return wrong("probe-list", "a listing does not show what was written a moment before");
    }
    findings.push(Finding::fine("probe-list", "a listing shows what was written a moment before"));

    // heartbeats are written again and again
    put(SECOND, &body.slice(..2_000))?;
    let read = store.get(SECOND).map_err(|e| failed("probe-rewrite", "reading", &e))?;
    if read.len() != 2_000 {
        return wrong("probe-rewrite", "an object that was written again is read as it was before");
    }
    findings.push(Finding::fine("probe-rewrite", "writing again works"));
    let what = match store.honours_if_none_match(SECOND) {
        Ok(Some(true)) => "conditional writes work; no repository depends on them",
        Ok(Some(false)) => "conditional writes do not work; no repository depends on them",
        Ok(None) => return Ok(()),
        Err(e) => {
            let what = format!("conditional writes: {e}");
            findings.push(Finding::unchecked("probe-conditional", what));
            return Ok(());
        }
    };
    findings.push(Finding::fine("probe-conditional", what));
    Ok(())
}

#[cfg(test)]
mod tests {
    use store::{MemoryStore, Result};

    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_good_store_is_found_good_and_left_empty() {
        let store = MemoryStore::default();
        let probe = probe(&store);
        assert!(probe.findings.iter().all(|one| one.level == Level::Fine), "{probe:?}");
        assert_eq!(probe.findings.len(), 5, "{probe:?}");
        assert!(store.list("").unwrap().is_empty() && probe.left.is_empty());
    }

    /// A store with one fault.
    #[derive(Debug, Default)]
    struct Odd {
        inside: MemoryStore,
        forgets_in_listings: bool,
        turns_a_bit: bool,
        keeps: bool,
    }

    impl Store for Odd {
        fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<()> {
            self.inside.put(name, parts)
        }
        fn get(&self, name: &str) -> Result<Bytes> {
            let mut bytes = self.inside.get(name)?.to_vec();
            bytes[0] ^= u8::from(self.turns_a_bit);
            Ok(bytes.into())
        }
        fn get_range(&self, name: &str, range: std::ops::Range<u64>) -> Result<Bytes> {
            self.inside.get_range(name, range)
        }
        fn list(&self, prefix: &str) -> Result<Vec<store::Item>> {
            let mut items = self.inside.list(prefix)?;
            if self.forgets_in_listings {
                items.pop();
            }
            Ok(items)
        }
        fn delete(&self, name: &str) -> Result<()> {
            if self.keeps {
                let detail = "403 not entitled".to_owned();
                return Err(Error::Denied { op: "delete", name: name.to_owned(), detail });
            }
            self.inside.delete(name)
        }
        fn address(&self) -> String {
            self.inside.address()
        }
    }

    #[test]
    fn a_store_that_lies_is_found_out_and_cleaned_up() {
        for (store, check) in [
            (Odd { forgets_in_listings: true, ..Odd::default() }, "probe-list"),
            (Odd { turns_a_bit: true, ..Odd::default() }, "probe-read"),
        ] {
            let probe = probe(&store);
            let faults: Vec<_> =
                probe.findings.iter().filter(|f| f.level == Level::Fault).collect();
            assert_eq!(faults[0].check, check, "{probe:?}");
            assert!(store.inside.list("").unwrap().is_empty(), "{check}");
        }
    }

    #[test]
    fn a_key_that_may_not_delete_is_no_fault_and_what_stays_is_named() {
        let probe = probe(&Odd { keeps: true, ..Odd::default() });
        assert!(probe.findings.iter().all(|one| one.level != Level::Fault), "{probe:?}");
        assert_eq!(probe.left, [FIRST, SECOND]);
    }
}
