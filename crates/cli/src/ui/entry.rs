//! One entry of a snapshot as a line, the way `ls -l` shows it, and as JSON.

use data_encoding::HEXLOWER;
use engine::gone::Since;
use repo::{Entry, Kind, flag};
use serde::Serialize;

use super::{json, sanitize, size, time};

/// An entry in a document.
#[derive(Debug, Serialize)]
pub(crate) struct EntryRecord {
    #[serde(flatten)]
    path: json::Path,
    kind: &'static str,
    mode: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<String>,
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_base64: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    sqlite: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    copied_as_it_lay: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    damaged: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    changed_while_read: bool,
    /// It is gone from its source: since when, or `unseen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    gone_since: Option<String>,
    /// The path that it had.
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    was_base64: Option<String>,
}

impl EntryRecord {
    pub(crate) fn new(path: &[u8], entry: &Entry) -> Self {
        let pair = |name: &Option<Vec<u8>>| match name {
            Some(raw) => {
                let (text, base64) = json::name(raw);
                (Some(text), base64)
            }
            None => (None, None),
        };
        let (target, target_base64) = pair(&entry.target);
        let (link, link_base64) = pair(&entry.link);
        let is_file = entry.kind == Kind::File;
        let gone = repo::gone::split(path);
        let gone = gone.and_then(|(name, was)| Some((Since::parse(name)?, was.to_vec())));
        let gone_since = gone.as_ref().and_then(|(since, _)| match since {
            Since::At(secs) => time::rfc3339(*secs, 0),
            Since::Unseen => Some(since.name()),
        });
        let (was, was_base64) = pair(&gone.map(|(_, was)| was));
        Self {
            path: json::Path::new(path),
            kind: kind(entry.kind),
            mode: entry.mode,
            mtime: time::rfc3339(entry.mtime_secs, entry.mtime_nanos),
            uid: entry.uid,
            gid: entry.gid,
            user: entry.user.clone(),
            group: entry.group.clone(),
            size: is_file.then_some(entry.size),
            hash: (is_file && link.is_none()).then(|| HEXLOWER.encode(&entry.hash)),
            target,
            target_base64,
            link,
            link_base64,
            sqlite: entry.flags & (flag::SQLITE | flag::SQLITE_RAW) != 0,
            copied_as_it_lay: entry.flags & flag::SQLITE_RAW != 0,
            damaged: entry.flags & flag::SQLITE_DAMAGED != 0,
            changed_while_read: entry.flags & flag::CHANGED_WHILE_READ != 0,
            gone_since,
            was,
            was_base64,
        }
    }
}

/// The kind in one word.
pub(crate) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Dir => "dir",
        Kind::Symlink => "symlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::Device => "device",
    }
}

/// Path and what follows from the kind: `dir/`, `link -> target`.
pub(crate) fn short(path: &[u8], entry: &Entry) -> String {
    let shown = sanitize::bytes(path);
    match (entry.kind, &entry.target, &entry.link) {
        (Kind::Dir, ..) => format!("{shown}/"),
        (Kind::Symlink, Some(target), _) => format!("{shown} -> {}", sanitize::bytes(target)),
        (_, _, Some(first)) => format!("{shown} = {}", sanitize::bytes(first)),
        _ => shown,
    }
}

/// Mode, owner, size, time and path.
pub(crate) fn long(path: &[u8], entry: &Entry) -> String {
    let owner = |name: &Option<String>, id: u32| match name {
        Some(name) => sanitize::text(name),
        None => id.to_string(),
    };
    let size = if entry.kind == Kind::File { size::show(entry.size) } else { "-".to_owned() };
    format!(
        "{} {:<8} {:<8} {size:>10} {} {}",
        mode(entry.kind, entry.mode),
        owner(&entry.user, entry.uid),
        owner(&entry.group, entry.gid),
        time::show_secs(entry.mtime_secs),
        short(path, entry)
    )
}

/// `drwxr-xr-x`.
fn mode(kind: Kind, mode: u32) -> String {
    let first = match kind {
        Kind::File => '-',
        Kind::Dir => 'd',
        Kind::Symlink => 'l',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
        Kind::Device => 'b',
    };
    let mut out = String::from(first);
    for (shift, special, set, unset) in
        [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
    {
        let bits = mode >> shift;
        out.push(if bits & 4 == 0 { '-' } else { 'r' });
        out.push(if bits & 2 == 0 { '-' } else { 'w' });
        out.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => set,
            (false, true) => unset,
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_look_like_those_of_ls() {
        for (kind, bits, shown) in [
            (Kind::File, 0o644, "-rw-r--r--"),
            (Kind::Dir, 0o1777, "drwxrwxrwt"),
            (Kind::File, 0o6750, "-rwsr-s---"),
            (Kind::File, 0o4644, "-rwSr--r--"),
            (Kind::Symlink, 0o777, "lrwxrwxrwx"),
        ] {
            assert_eq!(mode(kind, bits), shown);
        }
    }

    #[test]
    fn an_entry_cannot_drive_the_terminal_through_any_of_its_names() {
        let entry = Entry {
            user: Some("me\x1b[2J".into()),
            target: Some(b"t\x1b[2J\xff".to_vec()),
            ..Entry::new(Kind::Symlink)
        };
        let line = long(b"p\x1b[2J", &entry);
        assert!(!line.contains('\x1b'), "{line}");
        assert!(line.ends_with("p\\x1b[2J -> t\\x1b[2J\\xff"), "{line}");
    }
}
