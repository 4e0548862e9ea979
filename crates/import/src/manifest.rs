//! Manifests: JSON in, files with their hashes out, and no path that could lead out of a directory.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER_PERMISSIVE;
use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::layout::Listed;

/// The only version there is.
const VERSION: u64 = 1;
/// Longest path, in bytes: with a label before it, it still fits a tree of ours.
const PATH_BYTES_MAX: usize = 30 << 10;

/// What a snapshot holds.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// When it was made.
    pub time: Timestamp,
    /// Its files, by path.
    pub files: BTreeMap<String, Record>,
    /// SHA-256 of the manifest's plaintext: tells a snapshot from every other, wherever it lies.
    pub sha256: [u8; 32],
}

/// What a manifest says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
    /// Its length when it was looked at, which was before it was read.
    pub size: u64,
}

#[derive(Deserialize)]
struct Text {
    version: u64,
    timestamp: String,
    files: BTreeMap<String, TextRecord>,
}

#[derive(Deserialize)]
struct TextRecord {
    hash: String,
    size: u64,
}

/// Reads a manifest. `named` says that the snapshot's name must be the time in it: not so where the
/// engine took the two at different moments.
pub(crate) fn parse(bytes: &[u8], listed: &Listed, named: bool) -> Result<Manifest> {
    let key = listed.manifest();
    let text: Text = serde_json::from_slice(bytes)
        .map_err(|e| Error::damaged(&key, format!("it is no manifest: {e}")))?;
    if text.version != VERSION {
        let what = format!("it is of version {}; only {VERSION} is known", text.version);
        return Err(Error::damaged(&key, what));
    }
    let time: Timestamp = text
        .timestamp
        .parse()
        .map_err(|_| Error::damaged(&key, format!("{:?} is no time", text.timestamp)))?;
    if named && !stamps(&text.timestamp).contains(&listed.stamp().to_owned()) {
        let what = format!("it was made for the snapshot of {}, not for this one", text.timestamp);
        return Err(Error::refused(&key, what));
    }
    let mut files = BTreeMap::new();
    for (path, record) in text.files {
        if let Some(why) = unsafe_path(&path) {
            return Err(Error::refused(&key, format!("a path in it {why}: {path:?}")));
        }
        let hash = HEXLOWER_PERMISSIVE.decode(record.hash.as_bytes()).ok();
        let sha256 = hash.and_then(|hash| hash.try_into().ok()).ok_or_else(|| {
            Error::damaged(&key, format!("what it has for {path:?} is no SHA-256"))
        })?;
        files.insert(path, Record { sha256, size: record.size });
    }
    if let Some(path) = files.keys().find(|path| is_below_a_file(path, &files)) {
        return Err(Error::refused(&key, format!("a path in it is below a file: {path:?}")));
    }
    Ok(Manifest { time, files, sha256: Sha256::digest(bytes).into() })
}

/// How a time stands in the name of its snapshot: with and without the fraction.
fn stamps(timestamp: &str) -> [String; 2] {
    let whole = timestamp.replace([':', '.'], "-");
    let short = match timestamp.split_once('.') {
        Some((seconds, _)) => format!("{}Z", seconds.replace(':', "-")),
        None => whole.clone(),
    };
    [whole, short]
}

/// Why a path may not be restored. Both slashes part: a manifest may come from Windows.
fn unsafe_path(path: &str) -> Option<&'static str> {
    let has_drive = matches!(path.as_bytes(), [_, b':', b'/' | b'\\', ..]);
    if path.len() > PATH_BYTES_MAX {
        Some("is longer than any path")
    } else if path.contains('\0') {
        Some("holds a zero byte")
    } else if has_drive || path.starts_with(['/', '\\']) {
        Some("is absolute")
    } else if path.split(['/', '\\']).any(|part| matches!(part, "." | "..")) {
        Some("leads out of its directory")
    } else if path.split('/').any(str::is_empty) {
        Some("has an empty part")
    } else {
        None
    }
}

fn is_below_a_file(path: &str, files: &BTreeMap<String, Record>) -> bool {
    path.match_indices('/').any(|(at, _)| files.contains_key(&path[..at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn read(name: &str, timestamp: &str, paths: &[&str]) -> Result<Manifest> {
        let listed = Listed { name: format!("p/{name}"), prefix: "p".to_owned(), safety: false };
        let files: serde_json::Map<_, _> = paths
            .iter()
            .map(|path| ((*path).to_owned(), serde_json::json!({"hash": HASH, "size": 0})))
            .collect();
        let text =
            serde_json::json!({"version": 1, "timestamp": timestamp, "files": files}).to_string();
        parse(text.as_bytes(), &listed, true)
    }

    const TIME: &str = "2026-11-22T08:45:49.754Z";
    const NAME: &str = "2026-11-22T08-45-49-754Z";

    #[test]
    fn a_path_that_leads_anywhere_but_down_is_refused_by_name() {
        for path in [
            "home/../outside",
            "../x",
            "..",
            ".",
            "home/..",
            "a/./b",
            "/etc/passwd",
            "home//x",
            "",
            "a/",
            "home/x\0y",
            "home\\..\\x",
            "..\\x",
            "C:\\x",
            "c:/x",
            "\\\\server\\x",
        ] {
            match read(NAME, TIME, &["home/fine", path]) {
                Err(Error::Unsafe { what, .. }) => {
                    assert!(what.contains(&format!("{path:?}")), "{what}");
                }
                other => panic!("{path:?}: {other:?}"),
            }
        }
        let long = "x".repeat(PATH_BYTES_MAX + 1);
        assert!(matches!(read(NAME, TIME, &[&long]), Err(Error::Unsafe { .. })));
        let fine = ["home/..x", "home/x..", "home/ ", "home/a\\b", "c:x", "home/\u{e9}\n"];
        assert_eq!(read(NAME, TIME, &fine).unwrap().files.len(), fine.len());
    }

    #[test]
    fn a_file_cannot_be_a_directory_too() {
        let error = read(NAME, TIME, &["a/b", "a/b-c", "a/b/c"]).unwrap_err();
        assert!(
            matches!(&error, Error::Unsafe { what, .. } if what.contains("\"a/b/c\"")),
            "{error}"
        );
    }

    #[test]
    fn a_manifest_under_another_snapshots_name_is_refused() {
        for name in [NAME, "2026-11-22T08-45-49Z", "2026-11-22T08-45-49-754Z-0123abcd"] {
            assert!(read(name, TIME, &["a/b"]).is_ok(), "{name}");
        }
        for name in ["9999-11-22T08-45-49-754Z", "2026-11-22T08-45-49-755Z", "2026-11-22T08-45-50Z"]
        {
            assert!(matches!(read(name, TIME, &["a/b"]), Err(Error::Unsafe { .. })), "{name}");
        }
        assert!(read("2026-11-22T08-45-49Z", "2026-11-22T08:45:49Z", &["a/b"]).is_ok());
    }

    #[test]
    fn what_is_no_manifest_is_damaged_and_not_an_empty_snapshot() {
        let listed = Listed { name: NAME.to_owned(), prefix: String::new(), safety: false };
        let file = format!("{{\"hash\":\"{HASH}\",\"size\":1}}");
        for text in [
            String::new(),
            "{}".to_owned(),
            format!("{{\"version\":2,\"timestamp\":\"{TIME}\",\"files\":{{}}}}"),
            "{\"version\":1,\"timestamp\":\"yesterday\",\"files\":{}}".to_owned(),
            format!(
                "{{\"version\":1,\"timestamp\":\"{TIME}\",\"files\":{{\"a/b\":{{\"hash\":\"00\",\"size\":1}}}}}}"
            ),
            format!("{{\"version\":1,\"timestamp\":\"{TIME}\",\"files\":{{\"a/b\":{file}}}"),
            format!(
                "{{\"version\":1,\"timestamp\":\"{TIME}\",\"files\":{{\"a/\\ud800\":{file}}}}}"
            ),
        ] {
            let outcome = parse(text.as_bytes(), &listed, true);
            assert!(matches!(outcome, Err(Error::Damaged { .. })), "{text}: {outcome:?}");
        }
    }
}
