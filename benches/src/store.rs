//! What a push would store: chunks of files, the new ones together in blocks, each block compressed.
//!
//! Counts what the repository format adds: an id and a length for each chunk, and for each block its
//! seal, its id and its place in the index. Padding and metadata of the snapshot are not counted.

use std::collections::HashSet;
use std::io;

use chunker::{Chunks, Cutter, Policy};
use zstd::bulk::Compressor;

use crate::corpus::File;

/// Index bytes per chunk: a 16-byte id and its length.
pub const CHUNK_OVERHEAD_BYTES: usize = 18;
/// Bytes per block: nonce and tag, id, ciphertext hash, place.
pub const BLOCK_OVERHEAD_BYTES: usize = 80;
/// SQLite's usual page.
const PAGE_BYTES: usize = 4096;

/// The chunks known so far, by id.
#[derive(Debug, Default)]
pub struct Known(HashSet<[u8; 16]>);

impl Known {
    /// Takes a chunk; says whether it was new.
    pub fn insert(&mut self, chunk: &[u8]) -> bool {
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::hash(chunk).as_bytes()[..16]);
        self.0.insert(id)
    }
}

/// New chunks, in the order they came.
#[derive(Debug, Default)]
pub struct NewChunks {
    /// Their bytes, back to back.
    pub bytes: Vec<u8>,
    /// Their lengths.
    pub lengths: Vec<usize>,
}

impl NewChunks {
    /// Adds `chunk` unless it is known.
    pub fn offer(&mut self, chunk: &[u8], known: &mut Known) {
        if known.insert(chunk) {
            self.bytes.extend_from_slice(chunk);
            self.lengths.push(chunk.len());
        }
    }

    /// Adds a file's new chunks: pages of a database, content-defined chunks of the rest.
    pub fn offer_file(
        &mut self,
        file: &File,
        cutter: &Cutter,
        known: &mut Known,
    ) -> io::Result<()> {
        let mut chunks = if file.is_database() {
            Chunks::pages(&file.bytes[..], PAGE_BYTES)
        } else {
            Chunks::new(&file.bytes[..], Policy::Content(cutter.clone()))
        };
        while let Some(chunk) = chunks.next()? {
            self.offer(chunk, known);
        }
        Ok(())
    }

    /// Stored bytes with blocks of at most `block_bytes` of plaintext and zstd at `level`.
    pub fn stored_bytes(&self, block_bytes: usize, level: i32) -> io::Result<usize> {
        let mut compressor = Compressor::new(level)?;
        let (mut stored, mut start, mut end) = (0, 0, 0);
        let mut close = |block: &[u8]| -> io::Result<()> {
            stored += compressor.compress(block)?.len().min(block.len()) + BLOCK_OVERHEAD_BYTES;
            Ok(())
        };
        for length in &self.lengths {
            if end - start + length > block_bytes && end > start {
                close(&self.bytes[start..end])?;
                start = end;
            }
            end += length;
        }
        if end > start {
            close(&self.bytes[start..end])?;
        }
        Ok(stored + self.lengths.len() * CHUNK_OVERHEAD_BYTES)
    }
}

/// Sum of zstd frames over `pieces` of `data`: the yardstick of the product's size bars.
pub fn zstd_pieces(data: &[u8], piece_bytes: usize, level: i32) -> io::Result<usize> {
    let mut compressor = Compressor::new(level)?;
    data.chunks(piece_bytes).map(|piece| Ok(compressor.compress(piece)?.len())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn a_chunk_seen_before_costs_nothing_and_a_new_one_its_bytes_and_its_index_entry() {
        let (mut new, mut known) = (NewChunks::default(), Known::default());
        let data = noise(30_000);
        for chunk in data.chunks(10_000).chain(data.chunks(10_000)) {
            new.offer(chunk, &mut known);
        }
        assert_eq!(new.lengths, [10_000; 3]);
        // Noise does not compress: the whole, three entries, and one block or two.
        assert_eq!(new.stored_bytes(30_000, 3).unwrap(), 30_000 + 3 * 18 + 80);
        assert_eq!(new.stored_bytes(29_999, 3).unwrap(), 30_000 + 3 * 18 + 2 * 80);
    }
}
