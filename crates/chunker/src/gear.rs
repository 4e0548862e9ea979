//! The gear table: 256 secret words, one per byte value, that the rolling hash adds up.
//!
//! Chunk lengths depend on the content, so somebody who sees lengths and knows the table can tell
//! which known file they came from. A whole table from the repository's key makes that harder than
//! the one-word seed of `fastcdc`; it does not make it impossible (Truong et al., IACR eprint
//! 2025/558), which is why no chunk length is visible in a repository.
//!
//! Some tables cut text badly ([`crate::self_check`] says why). They are passed over, so the table
//! is a pure function of key and sizes: the first that passes.

use std::fmt;
use std::hint::black_box;

use crate::Sizes;
use crate::self_check::SelfCheck;

/// Domain of the table's bytes; the key must still be used for nothing else.
const LABEL: &[u8] = b"agent-backup 2026-11 chunker gear table";

/// How many tables are tried.
///
/// Of 2,000 tables at most 37 fail, at any size (`fewer_than_one_table_in_twenty_is_refused` in
/// [`crate::self_check`]). With 0.05 for that, all 64 fail with probability `0.05^64`, 5e-84: no key
/// ever reaches the panic.
const TRIES_MAX: u32 = 64;

/// A secret gear table, checked for one set of sizes. Overwritten when dropped; `Debug` hides it.
pub struct Gear {
    /// On the heap, so that moving a `Gear` leaves no copy of the words behind.
    tables: Box<Tables>,
}

struct Tables {
    values: [u64; 256],
    /// `values` shifted left by one bit: the hash takes two bytes a step.
    shifted: [u64; 256],
}

impl Gear {
    /// The table for `key` and `sizes`: for `n` = 0, 1, ... the 2,048 bytes of keyed BLAKE3 in
    /// extended output over the label and `n` (four bytes), read as little-endian words; the first
    /// `n` whose table passes the self-check.
    ///
    /// Takes a few milliseconds; keep the result.
    pub fn derive(key: &[u8; 32], sizes: &Sizes) -> Gear {
        let check = SelfCheck::new(*sizes);
        match (0..TRIES_MAX).map(|n| Gear::candidate(key, n)).find(|gear| check.accepts(gear)) {
            Some(gear) => gear,
            None => unreachable!(
                "{TRIES_MAX} gear tables in a row failed the self-check; the odds are 5e-84, \
                 so the check or the sizes {sizes:?} are broken"
            ),
        }
    }

    /// Table number `n` of `key`, unchecked.
    pub(crate) fn candidate(key: &[u8; 32], n: u32) -> Gear {
        let mut stream =
            blake3::Hasher::new_keyed(key).update(LABEL).update(&n.to_le_bytes()).finalize_xof();
        Gear::from_values(|_| {
            let mut word = [0; 8];
            stream.fill(&mut word);
            u64::from_le_bytes(word)
        })
    }

    /// A table of any words, also of useless ones.
    pub(crate) fn from_values(mut value: impl FnMut(usize) -> u64) -> Gear {
        let mut tables = Box::new(Tables { values: [0; 256], shifted: [0; 256] });
        for byte in 0..256 {
            tables.values[byte] = value(byte);
            tables.shifted[byte] = tables.values[byte] << 1;
        }
        Gear { tables }
    }

    pub(crate) fn values(&self) -> &[u64] {
        &self.tables.values
    }

    pub(crate) fn shifted(&self) -> &[u64] {
        &self.tables.shifted
    }
}

impl Drop for Gear {
    fn drop(&mut self) {
        self.tables.values = [0; 256];
        self.tables.shifted = [0; 256];
        // The words are secret: keep the compiler from dropping stores that nobody reads.
        black_box(&mut self.tables);
    }
}

impl fmt::Debug for Gear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gear(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_machines_with_one_key_get_one_table_and_another_key_gets_another() {
        let table = |byte| Gear::derive(&[byte; 32], &Sizes::DEFAULT).values().to_vec();
        assert_eq!(table(1), table(1));
        let shared = table(1).iter().zip(table(2)).filter(|(a, b)| **a == *b).count();
        assert_eq!(shared, 0);
    }

    #[test]
    fn a_log_line_with_a_gear_in_it_gives_nothing_away() {
        let gear = Gear::derive(&[3; 32], &Sizes::DEFAULT);
        assert_eq!(format!("{gear:?}"), "Gear(secret)");
    }

    #[test]
    fn the_second_table_is_the_first_shifted_by_one_bit() {
        let gear = Gear::candidate(&[4; 32], 0);
        for (value, shifted) in gear.values().iter().zip(gear.shifted()) {
            assert_eq!(value.wrapping_mul(2), *shifted);
        }
    }
}
