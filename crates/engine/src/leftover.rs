//! Names of what a pull writes beside its place: such a file is no state of an agent, and may hold
//! secrets that came back. A killed pull leaves some.

/// What SQLite keeps beside a database.
pub(crate) const SQLITE_SIDES: [&[u8]; 3] = [b"-wal", b"-shm", b"-journal"];
/// How every temporary name begins; 16 hexadecimal digits follow.
pub(crate) const PREFIX: &str = ".agent-backup-tmp-";

/// Does a pull use this name for its temporary files, or SQLite for what belongs to one?
pub(crate) fn is_temp_name(name: &[u8]) -> bool {
    let main = SQLITE_SIDES.iter().find_map(|side| name.strip_suffix(*side)).unwrap_or(name);
    main.strip_prefix(PREFIX.as_bytes()).is_some_and(|rest| {
        rest.len() == 16 && rest.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}
