//! Normalisation of SQLite pages: pointers relative to the page that holds them.
//!
//! A page of an SQLite database names other pages by their numbers. When VACUUM or an insert moves
//! pages inside the file, a page with the same records has other bytes, and would be stored again.
//! Here every such pointer becomes its distance from the page's own number, so that a group of pages
//! that moved together has the bytes it had.
//!
//! In: a page and its number. Out: the page normalised, or as it was. The invariant: what
//! [`PageFormat::normalise`] accepts, [`PageFormat::restore`] turns back into the same bytes. Where
//! the pointers are never depends on their values, so both directions find the same ones, unless
//! a page that is garbage has cells over each other; the encoder checks each page for that.
//!
//! ```text
//! b-tree page, from byte H (100 on page 1, else 0):
//!     H       type: 2 interior index, 5 interior table, 10 leaf index, 13 leaf table
//!     H + 3   number of cells, u16
//!     H + 8   right-most child, u32 [types 2 and 5]        a pointer
//!     then    offset of each cell, u16
//! cell:       left child, u32 [2, 5]                       a pointer
//!             varint length of the payload [2, 10, 13]
//!             varint row id [13], or the key [5]
//!             payload, as much as stays on the page [2, 10, 13]
//!             first overflow page, u32 [if not all stays]  a pointer
//! other page: next overflow or free list trunk page, u32   a pointer; page 1 has none
//! ```
//! All big-endian. Source: "Database File Format" (sqlite.org/fileformat2.html), sections 1.5 to
//! 1.6. `docs/FORMAT.md`, section 13, is normative; the module is part of the format.

/// Parameters of one database: the size of its pages, and what of a page is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageFormat {
    page_size: u32,
    usable: u32,
}

/// How the payload of a cell is found, by the type of its page.
#[derive(Clone, Copy)]
struct Cells {
    /// A child pointer comes first.
    interior: bool,
    /// The most payload that stays on the page whole; none: the cells have no payload.
    local_max: Option<u64>,
    /// A row id stands between the length of the payload and the payload.
    row_id: bool,
}

impl PageFormat {
    /// The smallest usable size SQLite allows.
    const USABLE_BYTES_MIN: u32 = 480;
    /// The header of the database, at the start of page 1.
    const HEADER_BYTES: usize = 100;

    /// Pages of `page_size` bytes, a power of two from 512 to 65,536, whose last `reserved` bytes
    /// SQLite leaves to extensions. `None` if there is no such database.
    pub fn new(page_size: u32, reserved: u8) -> Option<Self> {
        let usable = page_size.checked_sub(u32::from(reserved))?;
        let valid = page_size.is_power_of_two()
            && (512..=65_536).contains(&page_size)
            && usable >= Self::USABLE_BYTES_MIN;
        valid.then_some(Self { page_size, usable })
    }

    /// What the first 100 bytes of a database say; `None` if they are no SQLite header.
    pub fn of_header(header: &[u8; 100]) -> Option<Self> {
        if !header.starts_with(b"SQLite format 3\0") {
            return None;
        }
        let page_size = match u16::from_be_bytes([header[16], header[17]]) {
            1 => 65_536,
            bytes => u32::from(bytes),
        };
        Self::new(page_size, header[20])
    }

    /// Bytes of a page.
    pub fn page_size(self) -> u32 {
        self.page_size
    }

    /// Bytes at the end of each page that SQLite does not use.
    pub fn reserved(self) -> u8 {
        u8::try_from(self.page_size - self.usable).expect("made from a u8")
    }

    /// Normalises page number `pgno` (the first is 1) in place.
    ///
    /// `false`: it would not come back (or has not the length of a page, or is number 0); the page
    /// is as it was, and is to be stored so. `scratch` is working space, kept by the caller so that
    /// no page needs an allocation; what it holds before and after means nothing.
    #[must_use]
    pub fn normalise(self, page: &mut [u8], pgno: u32, scratch: &mut Vec<u8>) -> bool {
        if !self.fits(page, pgno) {
            return false;
        }
        scratch.clear();
        scratch.extend_from_slice(page);
        if self.each_pointer(page, pgno, |to| relative(to, pgno)) == 0 {
            return true;
        }
        // The check. The rules above rule out all but overlaps in garbage and a pointer whose new
        // bytes look like a page type, but doing it backwards needs no proof.
        scratch.extend_from_slice(page);
        let (raw, again) = scratch.split_at_mut(page.len());
        self.restore(again, pgno);
        let comes_back = again == raw;
        if !comes_back {
            page.copy_from_slice(raw);
        }
        comes_back
    }

    /// Undoes [`Self::normalise`] in place. Takes any bytes; what was not normalised comes out as
    /// something else, or, if it has not the length of a page or is number 0, as it was.
    pub fn restore(self, page: &mut [u8], pgno: u32) {
        if self.fits(page, pgno) {
            self.each_pointer(page, pgno, |by| absolute(by, pgno));
        }
    }

    fn fits(self, page: &[u8], pgno: u32) -> bool {
        page.len() == self.page_size as usize && pgno > 0
    }

    /// Puts `change` of each pointer in its place, one after the other, and counts them. A pointer
    /// is changed before the next one is looked for: the order is format, for pages of garbage.
    pub(crate) fn each_pointer(
        self,
        page: &mut [u8],
        pgno: u32,
        mut change: impl FnMut(u32) -> u32,
    ) -> u32 {
        let header = if pgno == 1 { Self::HEADER_BYTES } else { 0 };
        let Some(cells) = self.cells(page[header]) else {
            return if pgno == 1 { 0 } else { replace(page, 0, &mut change) };
        };
        let count = usize::from(u16::from_be_bytes([page[header + 3], page[header + 4]]));
        let array = header + if cells.interior { 12 } else { 8 };
        let start = array + 2 * count;
        // from here on the reserved bytes are out of reach
        let page = &mut page[..self.usable as usize];
        if start > page.len() {
            return 0; // no b-tree page has so many cells
        }
        let mut found = 0;
        if cells.interior {
            found += replace(page, header + 8, &mut change);
        }
        for slot in (array..start).step_by(2) {
            let mut cell = usize::from(u16::from_be_bytes([page[slot], page[slot + 1]]));
            if cell < start {
                continue; // header and offsets are never written
            }
            if cells.interior {
                found += replace(page, cell, &mut change);
                cell += 4;
            }
            if let Some(at) = self.overflow(cells, page, cell) {
                found += replace(page, at, &mut change);
            }
        }
        found
    }

    /// The layout of a b-tree page's cells; `None` if `kind` is no type of b-tree page.
    fn cells(self, kind: u8) -> Option<Cells> {
        let usable = u64::from(self.usable);
        let (table, index) = (Some(usable - 35), Some((usable - 12) * 64 / 255 - 23));
        let (interior, local_max, row_id) = match kind {
            2 => (true, index, false),
            5 => (true, None, false),
            10 => (false, index, false),
            13 => (false, table, true),
            _ => return None,
        };
        Some(Cells { interior, local_max, row_id })
    }

    /// Where the pointer to the first overflow page is, of the cell whose payload's length stands
    /// at `at`. `None` if it has none, or the way to it leads out of the page.
    fn overflow(self, cells: Cells, page: &[u8], at: usize) -> Option<usize> {
        let local_max = cells.local_max?;
        let (payload, mut at) = varint(page, at)?;
        if payload <= local_max {
            return None;
        }
        if cells.row_id {
            (_, at) = varint(page, at)?;
        }
        let usable = u64::from(self.usable);
        let local_min = (usable - 12) * 32 / 255 - 23;
        // as much as makes the last overflow page full, if that fits
        let fitted = local_min + (payload - local_min) % (usable - 4);
        let local = if fitted <= local_max { fitted } else { local_min };
        Some(at + usize::try_from(local).ok()?)
    }
}

/// A pointer to page `to` in page `pgno`, as a distance. 0 is no pointer and stays; a pointer of a
/// page to itself (there is none in a sound database) takes the value that this leaves free, so no
/// two pointers become one.
fn relative(to: u32, pgno: u32) -> u32 {
    match to.wrapping_sub(pgno) {
        _ if to == 0 => 0,
        0 => pgno.wrapping_neg(),
        by => by,
    }
}

/// Undoes [`relative`].
fn absolute(by: u32, pgno: u32) -> u32 {
    match by.wrapping_add(pgno) {
        _ if by == 0 => 0,
        0 => pgno,
        to => to,
    }
}

/// Changes the four bytes at `at`, if the page has them; says how many pointers that were.
fn replace(page: &mut [u8], at: usize, change: &mut impl FnMut(u32) -> u32) -> u32 {
    let Some(bytes) = page.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()) else {
        return 0;
    };
    *bytes = change(u32::from_be_bytes(*bytes)).to_be_bytes();
    1
}

/// SQLite's varint at `at`, and where it ends: 7 bits a byte, most significant first, high bit means
/// more; a ninth byte has 8 bits and is the last.
#[inline]
fn varint(page: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for (n, &byte) in page.get(at..)?.iter().take(9).enumerate() {
        if n == 8 {
            return Some((value << 8 | u64::from(byte), at + 9));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((value, at + n + 1));
        }
    }
    None
}
