//! Padme: lengths that leak at most O(log log n) bits and cost at most 12 %.
//!
//! Source: Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with
//! PURBs", PETS 2019. A length keeps as many significant bits as its exponent needs.

/// The padded length of `len`, at least `floor`.
pub(crate) fn padded_len(len: u64, floor: u64) -> u64 {
    let len = len.max(floor).max(2);
    let exponent = len.ilog2();
    let significant = exponent.ilog2() + 1;
    let mask = (1_u64 << exponent.saturating_sub(significant)) - 1;
    (len + mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_follow_the_published_rule() {
        // exponent 13, 4 significant bits below the leading one: steps of 2^(13-4)
        assert_eq!(padded_len(9_000, 0), 9_216);
        assert_eq!(padded_len(100, 4_096), 4_096);
        assert_eq!(padded_len(16_385, 16_384), 16_896 + 512);
        assert_eq!(padded_len(1, 0), 2);
    }

    #[test]
    fn padding_never_shrinks_and_costs_at_most_an_eighth() {
        for len in (2..5_000_000_u64).step_by(997) {
            let padded = padded_len(len, 0);
            assert!(padded >= len && padded - len <= len / 8 + 1, "{len} -> {padded}");
            assert_eq!(padded_len(padded, 0), padded);
        }
    }
}
