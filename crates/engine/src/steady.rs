//! A file that is read more than once and must be the same each time.
//!
//! In: an open file that its owner may write to meanwhile. Out: readers of its first bytes, in bounded
//! memory. Invariant: no reader gives a byte that differs from what another one gave at that place; it
//! fails instead. Values that may not leave are found by their places, so this is what keeps them in.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

use redact::Source;

/// Read and compared at once.
const BLOCK_BYTES: u64 = 64 << 10;
/// A file up to here is read once, and kept.
const KEPT_BYTES_MAX: u64 = 4 << 20;

/// The first bytes of a file.
pub(crate) enum Steady<'f> {
    Kept(Vec<u8>),
    Compared(Compared<'f>),
}

impl<'f> Steady<'f> {
    pub(crate) fn new(file: &'f File, size: u64) -> io::Result<Self> {
        let hashes = vec![None; usize::try_from(size.div_ceil(BLOCK_BYTES)).unwrap_or(0)];
        let compared =
            Compared { file, size, hashes: RefCell::new(hashes), last: RefCell::default() };
        if size > KEPT_BYTES_MAX {
            return Ok(Self::Compared(compared));
        }
        let mut bytes = Vec::new();
        Reader { of: &compared, at: 0, block: Block::default() }.read_to_end(&mut bytes)?;
        Ok(Self::Kept(bytes))
    }
}

impl Source for Steady<'_> {
    fn read_from(&self, at: u64) -> io::Result<Box<dyn Read + '_>> {
        match self {
            Self::Kept(bytes) => {
                let at = usize::try_from(at).map_or(bytes.len(), |at| at.min(bytes.len()));
                Ok(Box::new(&bytes[at..]))
            }
            Self::Compared(of) => Ok(Box::new(Reader { of, at, block: Block::default() })),
        }
    }
}

/// A file of which each block has to be what it was when it was first read.
pub(crate) struct Compared<'f> {
    file: &'f File,
    size: u64,
    hashes: RefCell<Vec<Option<[u8; 32]>>>,
    /// What was read last: readers begin where others are.
    last: RefCell<Block>,
}

/// The bytes of a block, by its number.
type Block = Option<(u64, Rc<Vec<u8>>)>;

impl Compared<'_> {
    fn block(&self, number: u64) -> io::Result<Rc<Vec<u8>>> {
        if let Some((_, bytes)) = self.last.borrow().as_ref().filter(|(last, _)| *last == number) {
            return Ok(Rc::clone(bytes));
        }
        let changed = || io::Error::other("it changed while it was read");
        let start = number * BLOCK_BYTES;
        let len = usize::try_from(BLOCK_BYTES.min(self.size - start)).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, start).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => changed(),
            _ => error,
        })?;
        let hash = *blake3::hash(&bytes).as_bytes();
        let index = usize::try_from(number).map_err(io::Error::other)?;
        if *self.hashes.borrow_mut()[index].get_or_insert(hash) != hash {
            return Err(changed());
        }
        let bytes = Rc::new(bytes);
        *self.last.borrow_mut() = Some((number, Rc::clone(&bytes)));
        Ok(bytes)
    }
}

struct Reader<'s, 'f> {
    of: &'s Compared<'f>,
    at: u64,
    block: Block,
}

impl Read for Reader<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.of.size {
            return Ok(0);
        }
        let number = self.at / BLOCK_BYTES;
        let bytes = match &self.block {
            Some((there, bytes)) if *there == number => bytes,
            _ => &self.block.insert((number, self.of.block(number)?)).1,
        };
        let from = usize::try_from(self.at % BLOCK_BYTES).map_err(io::Error::other)?;
        let len = buffer.len().min(bytes.len() - from);
        buffer[..len].copy_from_slice(&bytes[from..from + len]);
        self.at += len as u64;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(steady: &Steady<'_>, at: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        steady.read_from(at)?.read_to_end(&mut bytes).map(|_| bytes)
    }

    #[test]
    fn no_reader_gives_what_another_one_did_not() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
        file.write_all_at(&bytes, 0).unwrap();
        let size = bytes.len() as u64 - 1;
        let steady = Steady::new(&file, size).unwrap();
        assert!(all(&steady, 0).unwrap() == bytes[..4_999_999], "the first bytes, and no more");
        for at in [1, 65_535, 65_536, 4_999_998] {
            assert!(all(&steady, at).unwrap() == bytes[at as usize..4_999_999], "{at}");
        }
        assert!(all(&steady, size).unwrap().is_empty());
        // a byte changes under a reader that is in the middle
        let mut begun = steady.read_from(0).unwrap();
        begun.read_exact(&mut vec![0; 100_000]).unwrap();
        file.write_all_at(b"\xff", 3_000_000).unwrap();
        let error = begun.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "it changed while it was read");
        assert!(all(&steady, 0).is_err());
        assert_eq!(all(&steady, 4_000_000).unwrap(), bytes[4_000_000..4_999_999]);
        file.write_all_at(&bytes, 0).unwrap();
        all(&steady, 0).unwrap();
        file.set_len(4_999_990).unwrap();
        assert!(all(&steady, 0).is_err(), "its end is gone");
    }

    #[test]
    fn a_short_file_is_what_it_was_when_it_was_read_whatever_happens_to_it() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"before", 0).unwrap();
        let steady = Steady::new(&file, 6).unwrap();
        file.write_all_at(b"behind", 0).unwrap();
        assert_eq!(all(&steady, 0).unwrap(), b"before");
        assert_eq!(all(&steady, 9).unwrap(), b"");
        assert!(Steady::new(&file, 7).is_err());
    }
}
