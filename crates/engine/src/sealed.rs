//! A file without a name for what does not fit in memory.
//!
//! In: pieces, by number. Out: the same. Invariant: what is in the file is sealed with
//! AES-256-GCM-SIV under a key that is only in memory and only of this file, one nonce per piece;
//! plaintext never gets there, whatever becomes of the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use aes_gcm_siv::aead::AeadInOut;
use aes_gcm_siv::{Aes256GcmSiv, KeyInit, Nonce, Tag};

/// Bytes a seal adds: the tag.
const TAG_BYTES: usize = 16;

/// The file and its key.
pub(crate) struct SealedFile {
    file: File,
    cipher: Aes256GcmSiv,
}

impl std::fmt::Debug for SealedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedFile").field("file", &self.file).finish_non_exhaustive()
    }
}

impl SealedFile {
    /// A new one, on the file system of this directory.
    pub(crate) fn create(dir: &Path) -> io::Result<Self> {
        let mut key = zeroize::Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice()).map_err(io::Error::other)?;
        let cipher = Aes256GcmSiv::new((&*key).into());
        Ok(Self { file: tempfile::tempfile_in(dir)?, cipher })
    }

    fn nonce(number: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&number.to_le_bytes());
        Nonce::from(nonce)
    }

    /// Seals a piece into the file, from `offset` on, and says where it ends. A number is used once,
    /// also if this fails.
    pub(crate) fn put(&self, number: u64, offset: u64, piece: &[u8]) -> io::Result<u64> {
        let mut sealed = Vec::with_capacity(piece.len() + TAG_BYTES);
        sealed.extend_from_slice(piece);
        let tag = self
            .cipher
            .encrypt_inout_detached(&Self::nonce(number), b"", sealed.as_mut_slice().into())
            .expect("a piece is far below the cipher's length limit");
        sealed.extend_from_slice(&tag);
        self.file.write_all_at(&sealed, offset)?;
        Ok(offset + sealed.len() as u64)
    }

    /// The piece of this number and length, which was put at `offset`.
    pub(crate) fn open(&self, number: u64, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; len + TAG_BYTES];
        self.file.read_exact_at(&mut piece, offset)?;
        let tag = Tag::try_from(&piece[len..]).expect("the tag's length");
        piece.truncate(len);
        self.cipher
            .decrypt_inout_detached(&Self::nonce(number), b"", piece.as_mut_slice().into(), &tag)
            .map_err(|_| io::Error::other("a sealed piece changed on disk"))?;
        Ok(piece)
    }
}
