//! The next cut of a slice: `FastCDC` (Xia et al., USENIX ATC 2016; two bytes a step, 2020) with the
//! repository's own gear table.
//!
//! In: bytes, and whether they end here. Out: the length of their first chunk. The cut depends on
//! nothing but the bytes of the chunk itself, the table and the sizes; that is why an insertion moves
//! only the cuts near it.

use std::sync::Arc;

use fastcdc::v2020::{self, Normalization};

use crate::{Gear, Sizes};

/// Cuts slices. Cheap to clone: the table is shared.
#[derive(Debug, Clone)]
pub struct Cutter {
    rule: Rule,
    gear: Arc<Gear>,
}

impl Cutter {
    /// A cutter with a table that [`Gear::derive`] made for the same sizes.
    ///
    /// Panics if the public fields of `sizes` were changed to something [`Sizes::new`] refuses.
    pub fn new(sizes: Sizes, gear: Arc<Gear>) -> Cutter {
        Cutter { rule: Rule::new(sizes), gear }
    }

    /// The length of the chunk that starts at `data[0]`.
    ///
    /// `eof` says that nothing follows `data`. Without it `data` must hold at least
    /// `sizes().max` bytes, because a cut may be anywhere up to there. Zero only for empty `data`.
    pub fn cut(&self, data: &[u8], eof: bool) -> usize {
        assert!(
            eof || data.len() >= self.rule.max,
            "a cut needs `max` bytes or the end of the file"
        );
        self.rule.first_cut(&self.gear, data)
    }

    /// The sizes this cutter keeps to.
    pub fn sizes(&self) -> Sizes {
        self.rule.sizes
    }

    /// The longest chunk, in bytes.
    pub(crate) fn max_len(&self) -> usize {
        self.rule.max
    }
}

/// Sizes and masks in the form `cut_gear` wants; also what the self-check cuts with.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    sizes: Sizes,
    min: usize,
    avg: usize,
    max: usize,
    mask_strict: u64,
    mask_loose: u64,
}

impl Rule {
    pub(crate) fn new(sizes: Sizes) -> Rule {
        sizes.assert_valid();
        let avg = sizes.avg as usize;
        let (mask_strict, mask_loose) = v2020::select_masks(avg, Normalization::Level1);
        Rule {
            sizes,
            min: sizes.min as usize,
            avg,
            max: sizes.max as usize,
            mask_strict,
            mask_loose,
        }
    }

    /// The first cut of `data`, taken as if nothing followed its first `max` bytes.
    pub(crate) fn first_cut(&self, gear: &Gear, data: &[u8]) -> usize {
        let (_hash, length) = v2020::cut_gear(
            data,
            self.min,
            self.avg,
            self.max,
            self.mask_strict,
            self.mask_loose,
            self.mask_strict << 1,
            self.mask_loose << 1,
            gear.values(),
            gear.shifted(),
        );
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [`Sizes::mean_expected`] counts on masks of exactly log2(avg) + 1 and - 1 bits.
    #[test]
    fn the_masks_have_the_probability_that_the_expected_mean_assumes() {
        for bits in 10..=20 {
            let rule = Rule::new(Sizes::new(1 << (bits - 1), 1 << bits, 1 << (bits + 1)).unwrap());
            assert_eq!(rule.mask_strict.count_ones(), bits + 1);
            assert_eq!(rule.mask_loose.count_ones(), bits - 1);
        }
    }

    #[test]
    #[should_panic(expected = "a cut needs `max` bytes")]
    fn half_a_window_is_refused_because_its_cut_would_depend_on_the_read_size() {
        let gear = Arc::new(Gear::derive(&[7; 32], &Sizes::DEFAULT));
        let window = vec![0; Sizes::DEFAULT.max as usize - 1];
        Cutter::new(Sizes::DEFAULT, gear).cut(&window, false);
    }

    #[test]
    #[should_panic(expected = "changed after Sizes::new")]
    fn sizes_edited_into_nonsense_do_not_reach_the_unchecked_library() {
        let mut sizes = Sizes::DEFAULT;
        sizes.min = 4097;
        Gear::derive(&[7; 32], &sizes);
    }
}
