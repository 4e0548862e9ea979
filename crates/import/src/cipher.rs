//! Sealed objects of the old engine, opened piece by piece.
//!
//! `"B2EN" | salt (32) | iv (12) | tag (16) | ciphertext`. The tag is known only at the end, so what
//! [`Opener::open`] gives is not to be believed before [`Opener::finish`] says so.

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use ctr::Ctr32BE;
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use ghash::GHash;
use ghash::universal_hash::UniversalHash as _;
use zeroize::Zeroizing;

/// Length of what stands before the ciphertext.
pub(crate) const HEADER_BYTES: usize = 64;
/// Length of a block; all pieces but the last are whole blocks.
pub(crate) const BLOCK_BYTES: usize = 16;
const MAGIC: &[u8] = b"B2EN";
/// Cost of scrypt: N = 2^14, r = 8, p = 1.
const SCRYPT: (u8, u32, u32) = (14, 8, 1);

/// What stands before the ciphertext.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    salt: [u8; 32],
    iv: [u8; 12],
    tag: [u8; 16],
}

impl Header {
    /// The header of a sealed object; none for bytes that do not begin like one.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (salt, rest) = rest.split_first_chunk()?;
        let (iv, rest) = rest.split_first_chunk()?;
        let (tag, _) = rest.split_first_chunk()?;
        Some(Self { salt: *salt, iv: *iv, tag: *tag })
    }
}

/// AES-256-GCM (NIST SP 800-38D) without associated data, for ciphertext that comes in pieces.
pub(crate) struct Opener {
    keystream: Ctr32BE<Aes256>,
    ghash: GHash,
    /// What the tag is masked with: the first block of the keystream.
    mask: [u8; BLOCK_BYTES],
    tag: [u8; BLOCK_BYTES],
    bytes: u64,
}

impl Opener {
    pub(crate) fn new(passphrase: &str, header: &Header) -> Self {
        let (log2n, r, p) = SCRYPT;
        let params = scrypt::Params::new(log2n, r, p).expect("these are valid");
        let mut key = Zeroizing::new([0; 32]);
        scrypt::scrypt(passphrase.as_bytes(), &header.salt, &params, &mut *key)
            .expect("32 bytes are a valid length");
        let mut hash_key = ghash::Key::default();
        Aes256::new((&*key).into()).encrypt_block(&mut hash_key);
        let mut counter = [0; BLOCK_BYTES];
        counter[..12].copy_from_slice(&header.iv);
        counter[15] = 1;
        let mut keystream = Ctr32BE::<Aes256>::new((&*key).into(), (&counter).into());
        let mut mask = [0; BLOCK_BYTES];
        keystream.apply_keystream(&mut mask);
        Self { keystream, ghash: GHash::new(&hash_key), mask, tag: header.tag, bytes: 0 }
    }

    /// Turns the next piece of ciphertext into plaintext.
    pub(crate) fn open(&mut self, piece: &mut [u8]) {
        assert!(
            self.bytes.is_multiple_of(BLOCK_BYTES as u64),
            "only the last piece has a part of a block"
        );
        self.bytes += piece.len() as u64;
        self.ghash.update_padded(piece);
        self.keystream.apply_keystream(piece);
    }

    /// Whether all of it was what the holder of the passphrase had sealed.
    pub(crate) fn finish(mut self) -> bool {
        let mut lengths = [0; BLOCK_BYTES];
        lengths[8..].copy_from_slice(&(self.bytes * 8).to_be_bytes());
        self.ghash.update_padded(&lengths);
        let hash = self.ghash.finalize();
        hash.iter().zip(self.mask).zip(self.tag).all(|((hash, mask), tag)| hash ^ mask == tag)
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    /// Made by Node's own `crypto`, as the old engine uses it.
    const FROM_NODE: &str = "4232454e000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f64\
        65666768696a6b6c6d6e6fdf6ba9770268d524a78f1b468473e1ff62b450f02c7165184143de3c6c0ee1c8ee4eabe3dcf0\
        4e06d6e6cccb65b31b727d3c85085c";
    const EMPTY_FROM_NODE: &str = "4232454e000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e\
        1f6465666768696a6b6c6d6e6f87e49cc18d88f00de54e0d438c8ebd6c";

    fn open(sealed: &[u8], passphrase: &str, piece: usize) -> Option<Vec<u8>> {
        let mut opener = Opener::new(passphrase, &Header::parse(sealed)?);
        let mut plain = sealed[HEADER_BYTES..].to_vec();
        plain.chunks_mut(piece).for_each(|piece| opener.open(piece));
        opener.finish().then_some(plain)
    }

    #[test]
    fn what_node_sealed_opens_whatever_pieces_it_comes_in() {
        let sealed = HEXLOWER.decode(FROM_NODE.as_bytes()).unwrap();
        for piece in [16, 32, 48, 4096] {
            let plain = open(&sealed, "p\u{e4}ssword 1", piece).unwrap();
            assert_eq!(plain, b"a transcript of thirty-seven bytes..\n");
        }
        let empty = HEXLOWER.decode(EMPTY_FROM_NODE.as_bytes()).unwrap();
        assert_eq!(open(&empty, "p", 16).unwrap(), b"");
        // the letter as two code points is another passphrase to Node
        assert_eq!(open(&sealed, "pa\u{308}ssword 1", 16), None);
    }

    #[test]
    fn any_bit_that_is_not_what_it_was_is_noticed() {
        let sealed = HEXLOWER.decode(FROM_NODE.as_bytes()).unwrap();
        for at in (0..sealed.len()).step_by(7).chain([36, 48, 63, 64, sealed.len() - 1]) {
            let mut bad = sealed.clone();
            bad[at] ^= 0x20;
            assert_eq!(open(&bad, "p\u{e4}ssword 1", 16), None, "byte {at}");
        }
        assert_eq!(open(&sealed[..sealed.len() - 1], "p\u{e4}ssword 1", 16), None);
        assert!(Header::parse(&sealed[..HEADER_BYTES - 1]).is_none());
    }
}
