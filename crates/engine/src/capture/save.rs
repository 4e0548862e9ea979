//! One live database into a file of the caller's: the capture of a push, for programs that want the image
//! itself.
//!
//! In: the path of a database, and the path of the image. Out: the image, one committed state with
//! everything that was only in the log, whole and durable under its name or not there at all. The
//! database is not written to and nobody who works with it is stopped for long.

use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use super::gate;
use super::sqlite::{Budget, How, Image, Moved, Request, Ways, side_file};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::scan::Stat;

/// The last try takes no turns and reads no database as closed: it always ends.
const TRIES_MAX: u32 = 3;
/// A file that was written to so lately may be again without a change of its time.
const SETTLED_NANOS: i64 = 2_000_000_000;
/// Bytes that go into the image at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Writes a consistent image of the SQLite database at `path` into the file `to`, which it replaces (mode
/// 0600). `lock_wait` says how long to wait for a lock. Returns the length of the image in bytes.
///
/// What SQLite cannot read (locked, encrypted, damaged, no database) is an error; nothing is copied as it
/// lies.
pub fn capture_database(path: &Path, to: &Path, lock_wait: Duration) -> Result<u64> {
    let at_image = |e| Error::local("write", to, e);
    let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // for spools and copies, and for the image until it is whole: private, on the image's disk
    let scratch = tempfile::Builder::new()
        .prefix(".agent-backup-capture-")
        .tempdir_in(dir)
        .map_err(at_image)?;
    let image = scratch.path().join("image");
    for attempt in 1.. {
        let last = attempt >= TRIES_MAX;
        let before = Marks::of(path).map_err(|e| Error::local("read", path, e))?;
        let how = if before.is_closed_and_settled() && !last { How::Closed } else { How::Live };
        let request = Request {
            path: path.to_owned(),
            how,
            lock_wait,
            scratch: scratch.path().to_owned(),
            budget: Budget::default(),
            twice: false,
            turn: (!last).then_some(Moved::TURN),
            check: None,
            edit: None,
            ways: Ways::default(),
        };
        let hold = gate::hold(path, &before.main);
        let copied = copy(request, &image);
        drop(hold);
        match copied {
            Err(Copying::Source(e)) if !last && Moved::is(&e) => {}
            Err(Copying::Source(e)) => return Err(Error::local("capture", path, e)),
            Err(Copying::Image(e)) => return Err(at_image(e)),
            Ok(_) if how == How::Closed && Marks::of(path).ok() != Some(before) => {}
            Ok(bytes) => {
                std::fs::rename(&image, to).map_err(at_image)?;
                std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(at_image)?;
                return Ok(bytes);
            }
        }
    }
    unreachable!("the last try ends")
}

/// Whose fault it was.
enum Copying {
    Source(io::Error),
    Image(io::Error),
}

fn copy(request: Request, image: &Path) -> std::result::Result<u64, Copying> {
    use std::io::Read as _;
    let mut source = Image::open(request).map_err(Copying::Source)?;
    let mut file = std::fs::File::create(image).map_err(Copying::Image)?;
    let (mut piece, mut total) = (vec![0; PIECE_BYTES], 0);
    loop {
        let len = source.read(&mut piece).map_err(Copying::Source)?;
        if len == 0 {
            break;
        }
        file.write_all(&piece[..len]).map_err(Copying::Image)?;
        total += len as u64;
    }
    source.finish();
    private(&file).and_then(|()| file.sync_all()).map_err(Copying::Image)?;
    Ok(total)
}

fn private(file: &std::fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

/// How a database and its side files look from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    main: Stat,
    changed_nanos: i64,
    log: Option<(u64, i64, i64)>,
    journal: Option<(u64, i64, i64)>,
}

impl Marks {
    fn of(path: &Path) -> io::Result<Self> {
        let main = std::fs::metadata(path)?;
        let side = |suffix| {
            let meta = std::fs::metadata(side_file(path, suffix)).ok()?;
            Some((meta.len(), meta.mtime(), meta.mtime_nsec()))
        };
        Ok(Self {
            changed_nanos: main.mtime().saturating_mul(1_000_000_000) + main.mtime_nsec(),
            main: Stat::of_metadata(&main),
            log: side("-wal"),
            journal: side("-journal"),
        })
    }

    fn is_closed_and_settled(&self) -> bool {
        let age = SystemClock.now_nanos().saturating_sub(self.changed_nanos);
        self.log.is_none() && self.journal.is_none() && age > SETTLED_NANOS
    }
}
