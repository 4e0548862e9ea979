//! Likely secrets in what a push would send: all of it, not only what is new.
//!
//! In: roots as for a push. Out: a [`Place`] per finding, in order; never the value. Fields that an
//! adapter leaves out are left out here too. A database is looked at as it lies: rows that rules leave out
//! are still in it, and a value that SQLite spread over several pages is seen in part.

use std::io::Read;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use repo::Kind;
use secrets::{Finding, Rules, Scanner};

use crate::error::{Error, Result};
use crate::push::fields::Fields;
use crate::scan::{self, Found, ScanRoot, SourceRoot};

pub use crate::ignored::Ignored;

/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;

/// Where a secret seems to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Full path: label and path below the root.
    pub path: Vec<u8>,
    /// The rule that fits.
    pub rule: String,
    /// Its line, from 1.
    pub line: Option<u64>,
    /// A hash of rule and secret under a key of this machine, for [`Ignored`].
    pub fingerprint: [u8; 8],
    /// First byte of the secret in the file, and the one behind it.
    pub bytes: (u64, u64),
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looked {
    /// Files.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Findings that were not told, as they are to be ignored.
    pub ignored: u64,
}

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Search<'s> {
    /// A file of rules in gitleaks' format in place of the pinned ones.
    pub rules: Option<&'s str>,
    /// What is not told.
    pub ignored: &'s Ignored,
}

/// Looks through all files of the roots. What cannot be read is a problem, and the rest is looked at.
pub fn look_through(
    roots: &[ScanRoot],
    options: &scan::Options,
    search: Search<'_>,
    cancel: &AtomicBool,
    tell: &mut dyn FnMut(Place),
    problem: &mut dyn FnMut(&[u8], &str),
) -> Result<Looked> {
    let own =
        search.rules.map(Rules::from_toml).transpose().map_err(|e| Error::Rules(e.to_string()))?;
    let rules = own.as_ref().unwrap_or_else(|| Rules::pinned());
    let sources: Vec<Option<SourceRoot>> =
        roots.iter().map(|root| SourceRoot::open_dir(&root.dir).ok()).collect();
    let (mut files, mut problems) = (Vec::new(), Vec::new());
    let mut looked = Looked::default();
    scan::scan(
        roots,
        options,
        cancel,
        &mut |found| {
            if found.kind == Kind::File && found.link.is_none() && found.stat.size > 0 {
                files.push(found);
            }
            ControlFlow::Continue(())
        },
        &mut |one| problems.push(one),
    )?;
    for one in problems.iter().filter(|one| !one.is_notice()) {
        problem(&one.path, &one.to_string());
    }
    for found in files {
        if search.ignored.has_path(&found.path) {
            continue;
        }
        let Some(source) = &sources[found.root] else { continue };
        let ignored = &mut looked.ignored;
        let mut told = |place, finding: &Finding<'_>| {
            if search.ignored.has(finding) { *ignored += 1 } else { tell(place) }
        };
        let scanner = |path: &str| Scanner::new(rules, path, search.ignored.key());
        match file(&found, &roots[found.root], source, scanner, cancel, &mut told) {
            Ok(bytes) => {
                looked.files += 1;
                looked.bytes += bytes;
            }
            Err(why) => problem(&found.path, &why),
        }
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
    }
    Ok(looked)
}

/// Looks through one file; how many bytes it had.
fn file<'r>(
    found: &Found,
    root: &ScanRoot,
    source: &SourceRoot,
    scanner: impl Fn(&str) -> Scanner<'r>,
    cancel: &AtomicBool,
    tell: &mut dyn FnMut(Place, &Finding<'_>),
) -> std::result::Result<u64, String> {
    let rel = found.rel(root);
    let mut file = source.open(rel, &found.stat).map_err(|e| e.to_string())?;
    let path = String::from_utf8_lossy(&found.path).into_owned();
    let mut scanner = scanner(&path);
    let mut told = |finding: Finding<'_>| {
        let place = Place {
            path: found.path.clone(),
            rule: finding.rule.to_owned(),
            line: finding.line,
            fingerprint: finding.fingerprint(),
            bytes: (finding.range.start, finding.range.end),
        };
        tell(place, &finding);
    };
    let raw;
    let splice;
    let mut from: Box<dyn Read + '_> = match root.filter.field_rules(rel) {
        Some(rules) => {
            let fields = Fields::of(&rules);
            raw = fields.read(file.file(), found.stat.size)?;
            (splice, _) = fields.hide(&raw)?;
            Box::new(splice.reader(&raw, None).map_err(|e| e.to_string())?)
        }
        None => Box::new(&mut file),
    };
    let (mut at, mut buffer) = (0, vec![0; READ_BYTES]);
    while !cancel.load(Ordering::Relaxed) {
        let read = from.read(&mut buffer).map_err(|e| e.to_string())?;
        if read == 0 {
            break;
        }
        scanner.feed(&buffer[..read], at, &mut told);
        at += read as u64;
    }
    scanner.finish(&mut told);
    Ok(at)
}
