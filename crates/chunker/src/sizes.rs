//! How long chunks are: smallest, average, largest.
//!
//! Every number is checked here, because `fastcdc` checks its own only in debug builds and would cut
//! wrongly, or index out of its mask table, in a release.

use std::fmt;

/// Smallest minimum that `fastcdc` accepts, in bytes.
const MIN_BYTES_MIN: u32 = 64;
/// Smallest average: below it the list of chunks costs more than deduplication saves.
const AVG_BYTES_MIN: u32 = 1 << 10;
/// Largest average: above it a small change re-sends too much.
const AVG_BYTES_MAX: u32 = 1 << 20;
/// Largest maximum that `fastcdc` accepts, in bytes; also bounds the buffer of [`crate::Chunks`].
const MAX_BYTES_MAX: u32 = 1 << 24;

/// Chunk sizes in bytes. All are powers of two and `min < avg < max`.
///
/// `avg` is the size that the hash masks are chosen for. The mean over random bytes is a little
/// larger, because no cut is looked for in the first `min` bytes of a chunk: 1.22 times `avg` when
/// `min` is a quarter of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Sizes {
    /// No chunk is shorter, but for the last of a file.
    pub min: u32,
    /// The size the masks aim at.
    pub avg: u32,
    /// No chunk is longer.
    pub max: u32,
}

impl Sizes {
    /// What a new repository uses for files: chosen by benchmark,
    /// `docs/decisions/0002-chunk-and-block-sizes.md`.
    pub const DEFAULT: Sizes = Sizes { min: 2 << 10, avg: 8 << 10, max: 64 << 10 };

    /// Checks the numbers: powers of two, `min < avg < max`, `avg` from 1 KiB to 1 MiB, `min` at
    /// least 64 bytes and `max` at most 16 MiB.
    pub fn new(min: u32, avg: u32, max: u32) -> Result<Sizes, SizesError> {
        if [min, avg, max].iter().any(|bytes| !bytes.is_power_of_two()) {
            return Err(SizesError::NotPowerOfTwo);
        }
        if !(min < avg && avg < max) {
            return Err(SizesError::Unordered);
        }
        if min < MIN_BYTES_MIN
            || !(AVG_BYTES_MIN..=AVG_BYTES_MAX).contains(&avg)
            || max > MAX_BYTES_MAX
        {
            return Err(SizesError::OutOfRange);
        }
        Ok(Sizes { min, avg, max })
    }

    /// Panics unless the numbers would pass [`Sizes::new`]; the fields are public and can be set.
    pub(crate) fn assert_valid(&self) {
        if let Err(err) = Sizes::new(self.min, self.avg, self.max) {
            unreachable!("{err}: chunk sizes were changed after Sizes::new checked them");
        }
    }

    /// The mean chunk length over random bytes, in bytes.
    ///
    /// Below `avg` a byte is a cut with probability `1 / 2avg`, above it with `2 / avg` (level 1).
    /// So with `p` and `r` for the two, `q = 1 - p` and `s = 1 - r`, the mean is
    /// `min + (1 - q^(avg-min)) / p + q^(avg-min) * (1 - s^(max-avg)) / r`.
    /// Fixed point with 32 bits after the point, so that every machine gets the same number.
    pub(crate) fn mean_expected(&self) -> u64 {
        let (min, avg, max) = (u64::from(self.min), u64::from(self.avg), u64::from(self.max));
        let past_avg = fixed_pow(ONE - ONE / (2 * avg), avg - min);
        let past_max = fixed_pow(ONE - 2 * ONE / avg, max - avg);
        let below = (2 * avg * (ONE - past_avg)) >> FRACTION_BITS;
        let above = (avg / 2 * fixed_mul(past_avg, ONE - past_max)) >> FRACTION_BITS;
        min + below + above
    }
}

const FRACTION_BITS: u32 = 32;
const ONE: u64 = 1 << FRACTION_BITS;

/// Product of two fixed-point numbers in `0..=1`.
fn fixed_mul(a: u64, b: u64) -> u64 {
    if a == ONE {
        return b;
    }
    if b == ONE { a } else { (a * b) >> FRACTION_BITS }
}

/// `base^exponent` for a fixed-point base in `0..=1`, by squaring.
fn fixed_pow(mut base: u64, mut exponent: u64) -> u64 {
    let mut power = ONE;
    while exponent > 0 {
        if exponent & 1 == 1 {
            power = fixed_mul(power, base);
        }
        base = fixed_mul(base, base);
        exponent >>= 1;
    }
    power
}

/// Why [`Sizes::new`] refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SizesError {
    /// A size is not a power of two.
    NotPowerOfTwo,
    /// Not `min < avg < max`.
    Unordered,
    /// A size is outside what this version cuts.
    OutOfRange,
}

impl fmt::Display for SizesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SizesError::NotPowerOfTwo => "chunk sizes must be powers of two",
            SizesError::Unordered => "chunk sizes must satisfy min < avg < max",
            SizesError::OutOfRange => {
                "chunk sizes out of range: min from 64 bytes, avg 1 KiB to 1 MiB, max up to 16 MiB"
            }
        })
    }
}

impl std::error::Error for SizesError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_with_impossible_sizes_is_refused_before_anything_is_cut() {
        use SizesError::{NotPowerOfTwo, OutOfRange, Unordered};
        let cases = [
            (0, 16384, 65536, NotPowerOfTwo),
            (4096, 16385, 65536, NotPowerOfTwo),
            (4096, 16384, 65535, NotPowerOfTwo),
            (16384, 16384, 65536, Unordered),
            (4096, 16384, 16384, Unordered),
            (65536, 16384, 4096, Unordered),
            (32, 1024, 4096, OutOfRange),
            (64, 512, 4096, OutOfRange),
            (1 << 18, 1 << 21, 1 << 23, OutOfRange),
            (1 << 18, 1 << 20, 1 << 25, OutOfRange),
        ];
        for (min, avg, max, error) in cases {
            assert_eq!(Sizes::new(min, avg, max), Err(error), "{min} {avg} {max}");
        }
    }

    #[test]
    fn the_limits_themselves_and_the_default_are_accepted() {
        assert!(Sizes::new(64, 1 << 10, 2 << 10).is_ok());
        assert!(Sizes::new(1 << 19, 1 << 20, 1 << 24).is_ok());
        let Sizes { min, avg, max } = Sizes::DEFAULT;
        assert_eq!(Sizes::new(min, avg, max), Ok(Sizes::DEFAULT));
    }

    #[test]
    fn the_expected_mean_is_the_formula_in_its_comment() {
        for (min, avg, max) in
            [(4096, 16384, 131_072), (64, 1024, 2048), (1 << 19, 1 << 20, 1 << 24)]
        {
            let (a, m, x) = (f64::from(avg), f64::from(min), f64::from(max));
            let (strict, loose) = (1.0 / (2.0 * a), 2.0 / a);
            let past = (1.0 - strict).powf(a - m);
            let mean = m + (1.0 - past) / strict + past * (1.0 - (1.0 - loose).powf(x - a)) / loose;
            let sizes = Sizes::new(min, avg, max).unwrap();
            let fixed = f64::from(u32::try_from(sizes.mean_expected()).unwrap());
            assert!((fixed / mean - 1.0).abs() < 0.01, "{sizes:?}: {fixed} against {mean}");
        }
    }
}
