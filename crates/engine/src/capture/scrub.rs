//! Clears what a database does not use: free pages, the room between cells, the end of the last
//! page of a long value. SQLite leaves there what was deleted or overwritten, unless its owner asked
//! it not to.
//!
//! In: an edited image of ours and a connection to it. Out: the same database, with zeros there. The
//! fragments of up to three bytes that SQLite loses between cells stay.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rusqlite::Connection;

use super::connection::explain;
use super::sqlite::page_size;

/// Where the header has the number of reserved bytes per page.
const RESERVED_OFFSET: usize = 20;
/// Where the header has the first page of the list of free pages.
const FREE_LIST_OFFSET: usize = 32;
/// Bytes of the header of a file, before that of page 1.
const FILE_HEADER_BYTES: usize = 100;

/// Clears what is unused in `file`, which is the database of `db`; nothing is written through `db`.
pub(super) fn scrub(db: &Connection, file: &File) -> io::Result<()> {
    let mut pages = Pages::of(file)?;
    // a table of this name would stand in for SQLite's own
    let query = "SELECT count(*) FROM main.sqlite_schema WHERE name='dbstat' COLLATE NOCASE";
    if db.query_row(query, [], |row| row.get::<_, i64>(0)).map_err(explain)? > 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it has a table named 'dbstat'"));
    }
    let mut statement = db
        .prepare("SELECT pageno, pagetype, payload FROM dbstat WHERE schema='main'")
        .map_err(explain)?;
    let mut rows = statement.query([]).map_err(explain)?;
    while let Some(row) = rows.next().map_err(explain)? {
        let (number, payload): (u32, u32) =
            (row.get(0).map_err(explain)?, row.get(2).map_err(explain)?);
        let kind = row.get_ref(1).map_err(explain)?.as_str().map_err(io::Error::other)?;
        match kind {
            "leaf" | "internal" => pages.clear(number, beside_cells)?,
            "overflow" => pages.clear(number, |page| behind_value(page, payload))?,
            _ => return Err(damaged()),
        }
    }
    pages.clear_free()
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is damaged")
}

/// The pages of the file.
struct Pages<'f> {
    file: &'f File,
    count: u64,
    page: Vec<u8>,
    /// Bytes of a page that SQLite uses.
    usable: usize,
    first_free: u32,
}

/// A page as SQLite uses it.
struct Page<'p> {
    bytes: &'p [u8],
    /// Where it begins in page 1, behind the file's header.
    start: usize,
}

/// What of a page is unused, from where to where; `None` if that cannot be.
type Unused = Option<Vec<(usize, usize)>>;

impl<'f> Pages<'f> {
    fn of(file: &'f File) -> io::Result<Self> {
        let mut header = [0; FILE_HEADER_BYTES];
        file.read_exact_at(&mut header, 0)?;
        let size = page_size(&header).ok_or_else(damaged)?;
        let page = vec![0; size as usize];
        let usable = page.len() - usize::from(header[RESERVED_OFFSET]);
        let first_free = number_at(&header, FREE_LIST_OFFSET).ok_or_else(damaged)?;
        Ok(Self { file, count: file.metadata()?.len() / u64::from(size), page, usable, first_free })
    }

    fn read(&mut self, number: u32) -> io::Result<u64> {
        if number == 0 || u64::from(number) > self.count {
            return Err(damaged());
        }
        let at = u64::from(number - 1) * self.page.len() as u64;
        self.file.read_exact_at(&mut self.page, at)?;
        Ok(at)
    }

    /// Clears what `unused` finds in a page.
    fn clear(&mut self, number: u32, unused: impl Fn(&Page<'_>) -> Unused) -> io::Result<()> {
        let at = self.read(number)?;
        let start = if number == 1 { FILE_HEADER_BYTES } else { 0 };
        let page = Page { bytes: &self.page[..self.usable], start };
        for (from, to) in unused(&page).ok_or_else(damaged)? {
            let part = self.page.get_mut(from..to).ok_or_else(damaged)?;
            if part.iter().any(|byte| *byte != 0) {
                part.fill(0);
                self.file.write_all_at(part, at + from as u64)?;
            }
        }
        Ok(())
    }

    /// Clears the free pages. Trunks of the list keep their numbers: the next trunk, how many
    /// leaves, and those.
    fn clear_free(&mut self) -> io::Result<()> {
        let (mut next, mut seen) = (self.first_free, 0);
        while next != 0 {
            seen += 1;
            self.read(next)?;
            let (trunk, end) = (next, self.usable);
            next = number_at(&self.page, 0).ok_or_else(damaged)?;
            let leaves_count = number_at(&self.page, 4).ok_or_else(damaged)? as usize;
            if seen > self.count || leaves_count > end / 4 - 2 {
                return Err(damaged());
            }
            let used = 8 + 4 * leaves_count;
            let leaves: Vec<u32> =
                (2..2 + leaves_count).filter_map(|at| number_at(&self.page, 4 * at)).collect();
            self.clear(trunk, |_| Some(vec![(used, end)]))?;
            for leaf in leaves {
                self.clear(leaf, |_| Some(vec![(0, end)]))?;
            }
        }
        Ok(())
    }
}

/// Of a page of a b-tree: what lies between the pointers to its cells and the first cell, and
/// its free blocks but for their own headers (the next one, their size).
fn beside_cells(page: &Page<'_>) -> Unused {
    let field = |at| Some(usize::from(u16::from_be_bytes(*page.bytes.get(at..)?.first_chunk()?)));
    let header_bytes = match page.bytes.get(page.start)? {
        2 | 5 => 12,
        10 | 13 => 8,
        _ => return None,
    };
    let pointers_end = page.start + header_bytes + 2 * field(page.start + 3)?;
    let first_cell = match field(page.start + 5)? {
        0 => 65_536,
        first => first,
    };
    if pointers_end > first_cell || first_cell > page.bytes.len() {
        return None;
    }
    let mut unused = vec![(pointers_end, first_cell)];
    let (mut block, mut end) = (field(page.start + 1)?, first_cell);
    while block != 0 {
        let (next, size) = (field(block)?, field(block + 2)?);
        if block < end || size < 4 || block + size > page.bytes.len() {
            return None;
        }
        end = block + size;
        unused.push((block + 4, end));
        block = next;
    }
    Some(unused)
}

/// Of a page of a long value: what follows the value's part.
fn behind_value(page: &Page<'_>, payload: u32) -> Unused {
    let end = usize::try_from(payload).ok()?.checked_add(4)?;
    (end <= page.bytes.len()).then(|| vec![(end, page.bytes.len())])
}

fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
