//! The only place that encrypts or decrypts: AES-256-GCM-SIV (RFC 8452), allocating nothing twice.
//!
//! A block: key by (epoch, type, block id), random nonce, associated data binds repository, type,
//! codec, plaintext length and block id. A control object: key by kind, random nonce, associated
//! data binds repository, kind and the object's full name, so no object passes for another.

use aes_gcm_siv::aead::AeadInOut;
use aes_gcm_siv::{Aes256GcmSiv, KeyInit, Nonce, Tag};

use crate::codec::Codec;
use crate::id::{BlockId, RepoId};
use crate::keys::{BlockKind, Secret};

/// Bytes a seal adds: the tag.
pub(crate) const TAG_BYTES: usize = 16;
/// Length of a nonce.
pub(crate) const NONCE_BYTES: usize = 12;

/// Seals `plain` in place; the tag is appended.
pub(crate) fn seal(key: &Secret, nonce: &[u8; NONCE_BYTES], aad: &[u8], plain: &mut Vec<u8>) {
    let tag = Aes256GcmSiv::new(key.expose().into())
        .encrypt_inout_detached(&Nonce::from(*nonce), aad, plain.as_mut_slice().into())
        .expect("a block is far below the cipher's length limit");
    plain.extend_from_slice(&tag);
}

/// Opens what [`seal`] made. `None` if a bit differs anywhere; the plaintext never leaves then.
pub(crate) fn open(
    key: &Secret,
    nonce: &[u8; NONCE_BYTES],
    aad: &[u8],
    sealed: &[u8],
) -> Option<Vec<u8>> {
    let (body, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG_BYTES)?)?;
    let mut plain = body.to_vec();
    let tag = Tag::try_from(tag).ok()?;
    Aes256GcmSiv::new(key.expose().into())
        .decrypt_inout_detached(&Nonce::from(*nonce), aad, plain.as_mut_slice().into(), &tag)
        .ok()?;
    Some(plain)
}

/// Associated data of a block.
pub(crate) fn block_aad(
    repo: &RepoId,
    kind: BlockKind,
    codec: Codec,
    plain_len: u32,
    id: &BlockId,
) -> Vec<u8> {
    let mut aad = Vec::with_capacity(64);
    aad.extend_from_slice(b"ab1\0");
    aad.extend_from_slice(&repo.0);
    aad.push(kind.code());
    aad.push(match codec {
        Codec::Raw => 0,
        Codec::Zstd => 1,
    });
    aad.extend_from_slice(&plain_len.to_le_bytes());
    aad.extend_from_slice(&id.0);
    aad
}

/// Associated data of a control object or trailer.
pub(crate) fn control_aad(repo: &RepoId, kind: u8, name: &str) -> Vec<u8> {
    let mut aad = Vec::with_capacity(32 + name.len());
    aad.extend_from_slice(b"ab1\0");
    aad.extend_from_slice(&repo.0);
    aad.push(kind);
    aad.extend_from_slice(name.as_bytes());
    aad
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_found() {
        let (key, nonce) = (Secret::random(), [7; NONCE_BYTES]);
        let mut sealed = b"forty-two".to_vec();
        seal(&key, &nonce, b"aad", &mut sealed);
        assert_eq!(open(&key, &nonce, b"aad", &sealed).unwrap(), b"forty-two");
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&key, &nonce, b"aad", &bad).is_none());
        }
        assert!(open(&key, &nonce, b"aae", &sealed).is_none());
        assert!(open(&key, &nonce, b"aad", &sealed[..10]).is_none());
        assert!(open(&key, &nonce, b"aad", &[]).is_none());
    }

    /// RFC 8452, appendix C.2, the 8-byte plaintext with an empty associated data.
    #[test]
    fn the_cipher_is_the_one_of_rfc_8452() {
        let mut key = [0; 32];
        key[0] = 1;
        let mut nonce = [0; NONCE_BYTES];
        nonce[0] = 3;
        let mut text = vec![1, 0, 0, 0, 0, 0, 0, 0];
        seal(&Secret::new(key), &nonce, b"", &mut text);
        assert_eq!(
            data_encoding::HEXLOWER.encode(&text),
            "c2ef328e5c71c83b843122130f7364b761e0b97427e3df28"
        );
    }
}
