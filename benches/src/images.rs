//! What changed in a database between two looks at its file, and the least that a push of it by
//! whole pages would cost.
//!
//! In: a file that nobody writes meanwhile, its WAL checkpointed. Kept: a hash for each page, so no
//! second copy is needed. Out: a [`Change`].

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Serialize;
use zstd::bulk::Compressor;

use crate::clock::CpuClock;

/// The page of the bars, whatever the database's own is.
pub const PAGE_BYTES: usize = 4096;
/// Changed pages that the limit compresses together.
pub const GROUP_PAGES: usize = 16;
/// The level of the limit.
pub const LEVEL: i32 = 3;

/// Difference of two images of a database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Pages of the new image.
    pub pages_total: u64,
    /// Pages that differ from those at the same place in the old one.
    pub pages_changed: u64,
    /// Runs of adjacent changed pages.
    pub runs: u64,
    /// L: zstd-3 over the changed pages, 16 at a time in page order.
    pub limit_bytes: u64,
}

/// The last image, by hashes of its pages. Starts empty: then all pages are changed.
#[derive(Debug, Default)]
pub struct Image {
    hashes: Vec<[u8; 16]>,
}

impl Image {
    /// Reads the file, compares it with the last image and remembers it.
    pub fn advance(&mut self, path: &Path) -> io::Result<Change> {
        let mut file = File::open(path)?;
        let mut limit = Limit::new()?;
        let mut change = Change::default();
        let (mut page, mut number, mut in_run) = (vec![0; PAGE_BYTES], 0, false);
        while read_page(&mut file, &mut page)? {
            let mut hash = [0; 16];
            hash.copy_from_slice(&blake3::hash(&page).as_bytes()[..16]);
            let changed = self.hashes.get(number) != Some(&hash);
            if changed {
                limit.add(&page)?;
                change.pages_changed += 1;
                change.runs += u64::from(!in_run);
            }
            match self.hashes.get_mut(number) {
                Some(old) => *old = hash,
                None => self.hashes.push(hash),
            }
            in_run = changed;
            number += 1;
        }
        self.hashes.truncate(number);
        change.pages_total = number as u64;
        change.limit_bytes = limit.finish()?;
        Ok(change)
    }
}

/// Fills `page`; zeros stand for what is missing of the last one. False at the end.
fn read_page(file: &mut File, page: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < page.len() {
        match file.read(&mut page[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    page[filled..].fill(0);
    Ok(filled > 0)
}

/// Sums up compressed groups.
struct Limit {
    compressor: Compressor<'static>,
    group: Vec<u8>,
    bytes: u64,
}

impl Limit {
    fn new() -> io::Result<Limit> {
        let group = Vec::with_capacity(GROUP_PAGES * PAGE_BYTES);
        Ok(Limit { compressor: Compressor::new(LEVEL)?, group, bytes: 0 })
    }

    fn add(&mut self, page: &[u8]) -> io::Result<()> {
        self.group.extend_from_slice(page);
        if self.group.len() == GROUP_PAGES * PAGE_BYTES { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> io::Result<()> {
        self.bytes += self.compressor.compress(&self.group)?.len() as u64;
        self.group.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<u64> {
        if !self.group.is_empty() {
            self.close()?;
        }
        Ok(self.bytes)
    }
}

/// By how much zstd-3 shrinks the whole file, by so many pages at a time.
pub fn ratio_by(path: &Path, pages: usize) -> io::Result<f64> {
    let mut file = File::open(path)?;
    let mut compressor = Compressor::new(LEVEL)?;
    let (mut read, mut stored, mut group) = (0, 0, Vec::new());
    loop {
        group.clear();
        let len = (&mut file).take((pages * PAGE_BYTES) as u64).read_to_end(&mut group)?;
        if len == 0 {
            return Ok(read as f64 / f64::max(stored as f64, 1.0));
        }
        read += len;
        stored += compressor.compress(&group)?.len();
    }
}

/// CPU seconds of reading and hashing the file with BLAKE3 on one thread, as `b3sum --num-threads 1`
/// does; the least of three.
pub fn hash_cpu_secs(path: &Path) -> io::Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..3 {
        let clock = CpuClock::start();
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        std::hint::black_box(hasher.finalize());
        least = least.min(clock.seconds());
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn noise(pages: usize, seed: u64) -> Vec<u8> {
        crate::draws::Draws::seeded(seed).noise(pages * PAGE_BYTES)
    }

    #[test]
    fn only_pages_that_differ_count_and_sixteen_share_a_frame() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let mut bytes = noise(64, 1);
        fs::write(&path, &bytes).unwrap();
        let mut image = Image::default();
        let all = image.advance(&path).unwrap();
        assert_eq!((all.pages_changed, all.pages_total, all.runs), (64, 64, 1));
        assert_eq!(image.advance(&path).unwrap().pages_changed, 0);

        // Eight equal pages here and eight there are one group: the page once, nearly.
        let page = noise(1, 2);
        for at in (3..11).chain(40..48) {
            bytes[at * PAGE_BYTES..][..PAGE_BYTES].copy_from_slice(&page);
        }
        fs::write(&path, &bytes).unwrap();
        let some = image.advance(&path).unwrap();
        assert_eq!((some.pages_changed, some.runs), (16, 2));
        assert!((4096..4400).contains(&some.limit_bytes), "{some:?}");
    }

    #[test]
    fn a_page_that_comes_back_after_the_file_shrank_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let bytes = noise(8, 1);
        let mut image = Image::default();
        for (pages, changed) in [(8, 8), (5, 0), (8, 3)] {
            fs::write(&path, &bytes[..pages * PAGE_BYTES]).unwrap();
            assert_eq!(image.advance(&path).unwrap().pages_changed, changed, "{pages} pages");
        }
    }
}
