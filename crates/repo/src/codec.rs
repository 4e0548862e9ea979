//! The only place that compresses. A codec number travels with every block.

use std::cell::RefCell;

use crate::limits::BLOCK_PLAIN_BYTES_MAX;

/// How a block's plaintext was coded before sealing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum Codec {
    /// As it is.
    #[n(0)]
    Raw,
    /// One zstd frame: content size on, checksum off (the seal covers it).
    #[n(1)]
    Zstd,
}

thread_local! {
    /// Context and a buffer that the longest result fits, kept for the next block.
    static COMPRESSOR: RefCell<Option<(i32, zstd::bulk::Compressor<'static>, Vec<u8>)>> =
        const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> =
        const { RefCell::new(None) };
}

/// Compresses a block at `level`, or leaves it raw when it shrinks by less than a twentieth.
pub(crate) fn encode(plain: &[u8], level: i32) -> (Codec, Vec<u8>) {
    let worth = |packed: usize, of: usize| packed < of - of / 20;
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|(l, ..)| *l != level) {
            let mut new = zstd::bulk::Compressor::new(level).expect("zstd makes a context");
            new.include_contentsize(true).expect("zstd knows this parameter");
            new.include_checksum(false).expect("zstd knows this parameter");
            *slot = Some((level, new, Vec::new()));
        }
        let (_, compressor, buffer) = slot.as_mut().expect("made above");
        buffer.resize(zstd::zstd_safe::compress_bound(plain.len()), 0);
        match compressor.compress_to_buffer(plain, buffer.as_mut_slice()) {
            Ok(len) if worth(len, plain.len()) => (Codec::Zstd, with_room_for_tag(&buffer[..len])),
            _ => (Codec::Raw, with_room_for_tag(plain)),
        }
    })
}

fn with_room_for_tag(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + crate::seal::TAG_BYTES);
    out.extend_from_slice(bytes);
    out
}

/// Decodes a block whose authenticated plaintext length is `plain_len`. Never allocates more. The
/// error says what does not fit.
pub(crate) fn decode(codec: Codec, coded: Vec<u8>, plain_len: u32) -> Result<Vec<u8>, String> {
    if plain_len > BLOCK_PLAIN_BYTES_MAX {
        return Err(format!("plaintext of {plain_len} bytes is over the limit"));
    }
    let plain_len = plain_len as usize;
    let plain = match codec {
        Codec::Raw => coded,
        Codec::Zstd => DECOMPRESSOR.with_borrow_mut(|slot| {
            let decompressor = slot.get_or_insert_with(|| {
                zstd::bulk::Decompressor::new().expect("zstd makes a context")
            });
            decompressor.decompress(&coded, plain_len).map_err(|e| format!("zstd: {e}"))
        })?,
    };
    if plain.len() != plain_len {
        return Err(format!("{} bytes where {plain_len} were sealed", plain.len()));
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_shrinks_and_comes_back() {
        let plain = b"{\"type\":\"assistant\"}\n".repeat(50_000);
        let (codec, coded) = encode(&plain, 3);
        assert_eq!(codec, Codec::Zstd);
        assert!(coded.len() < plain.len() / 20);
        let len = u32::try_from(plain.len()).unwrap();
        assert_eq!(decode(codec, coded, len).unwrap(), plain);
    }

    #[test]
    fn noise_stays_raw() {
        let mut plain = vec![0; 1 << 20];
        crate::random::fill(&mut plain);
        let (codec, coded) = encode(&plain, 3);
        assert_eq!((codec, coded.len()), (Codec::Raw, plain.len()));
    }

    #[test]
    fn a_bomb_is_refused_before_it_unfolds() {
        let (codec, coded) = encode(&vec![0; 4 << 20], 3);
        assert_eq!(codec, Codec::Zstd);
        assert!(decode(codec, coded.clone(), 1000).is_err());
        assert!(decode(codec, coded, BLOCK_PLAIN_BYTES_MAX + 1).is_err());
    }
}
