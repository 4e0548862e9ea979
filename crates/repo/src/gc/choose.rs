//! Which packs to condemn: a pure decision.
//!
//! In: for each pack its length and how much of it lives. Out: packs without anything that lives,
//! packs to be emptied because little of them does, and small packs to be merged. Costs are bytes
//! moved (downloaded and uploaded again), gains are bytes freed.

use crate::id::PackId;
use crate::limits::{PACK_SMALL_BYTES, PACKS_SMALL_MAX};

/// Bytes that do not live may stay up to this part of all that is stored: one fortieth.
const UNUSED_DIVISOR: u64 = 40;
/// Bytes moved to free bytes may be this part of those freed: three tenths.
const MOVED_TENTHS: u64 = 3;
/// Small packs that stay after a merge: the next pushes add to them.
const PACKS_SMALL_KEPT: usize = PACKS_SMALL_MAX / 2;

/// One pack as a collector sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackUse {
    pub(crate) pack: PackId,
    /// Length of the object.
    pub(crate) bytes: u64,
    /// Sealed bytes of the blocks that live here: those that have a better place do not.
    pub(crate) live_bytes: u64,
    /// Sealed bytes of its other blocks. Padding and trailer are neither.
    pub(crate) dead_bytes: u64,
    /// It may be condemned: its owner has ended, and it is neither condemned nor quarantined.
    pub(crate) is_candidate: bool,
    /// Its blocks may be moved: it is not known to be damaged.
    pub(crate) is_movable: bool,
}

/// What is to happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Nothing in them lives.
    pub(crate) dead: Vec<PackId>,
    /// What lives in them moves, then they are condemned.
    pub(crate) emptied: Vec<PackId>,
    /// Of those, how many are emptied only because they are small.
    pub(crate) merged_count: usize,
    /// Sealed bytes that move.
    pub(crate) moved_bytes: u64,
    /// Bytes that are stored less in the end.
    pub(crate) freed_bytes: u64,
    /// Bytes that do not live and stay, because moving what lives beside them costs more.
    pub(crate) unused_bytes: u64,
}

/// Chooses. `moved_bytes_max` bounds what is moved in this run.
pub(crate) fn choose(packs: &[PackUse], moved_bytes_max: u64) -> Choice {
    let mut choice = Choice::default();
    let total: u64 = packs.iter().map(|pack| pack.bytes).sum();
    let (dead, partly): (Vec<&PackUse>, Vec<&PackUse>) =
        packs.iter().filter(|pack| pack.is_candidate).partition(|pack| pack.live_bytes == 0);
    for pack in dead {
        choice.dead.push(pack.pack);
        choice.freed_bytes += pack.bytes;
    }
    let mut movable: Vec<&PackUse> = partly.into_iter().filter(|pack| pack.is_movable).collect();
    // what frees most for what it moves comes first; ids make the order one for all
    let cost = |pack: &PackUse| pack.live_bytes * 1000 / (pack.live_bytes + pack.dead_bytes);
    movable.sort_by_key(|pack| (cost(pack), pack.pack));
    choice.unused_bytes = movable.iter().map(|pack| pack.dead_bytes).sum();
    let mut rest = Vec::new();
    for pack in movable {
        let too_little = choice.unused_bytes <= (total - choice.freed_bytes) / UNUSED_DIVISOR;
        let moved = choice.moved_bytes + pack.live_bytes;
        let freed = choice.freed_bytes + pack.dead_bytes;
        let too_dear = moved * 10 > freed * MOVED_TENTHS;
        if too_little || too_dear || moved > moved_bytes_max || pack.dead_bytes == 0 {
            rest.push(pack);
            continue;
        }
        choice.unused_bytes -= pack.dead_bytes;
        (choice.moved_bytes, choice.freed_bytes) = (moved, freed);
        choice.emptied.push(pack.pack);
    }
    merge_small(&mut choice, rest, moved_bytes_max);
    choice
}

/// Many small packs cost requests and memory: the smallest are merged once there are too many.
fn merge_small(choice: &mut Choice, rest: Vec<&PackUse>, moved_bytes_max: u64) {
    let mut small: Vec<&PackUse> =
        rest.into_iter().filter(|pack| pack.bytes < PACK_SMALL_BYTES).collect();
    if small.len() < PACKS_SMALL_MAX {
        return;
    }
    small.sort_by_key(|pack| (pack.bytes, pack.pack));
    small.truncate(small.len() - PACKS_SMALL_KEPT);
    for pack in small {
        let moved = choice.moved_bytes + pack.live_bytes;
        if moved > moved_bytes_max {
            break;
        }
        choice.moved_bytes = moved;
        choice.freed_bytes += pack.dead_bytes;
        choice.unused_bytes -= pack.dead_bytes;
        choice.emptied.push(pack.pack);
        choice.merged_count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::OpId;

    const MIB: u64 = 1 << 20;

    fn packs(sizes: &[(u64, u64)]) -> Vec<PackUse> {
        let pack = |(n, (bytes, live_bytes)): (usize, &(u64, u64))| PackUse {
            pack: PackId { op: OpId([1; 16]), n: u32::try_from(n).unwrap() },
            bytes: *bytes,
            live_bytes: *live_bytes,
            dead_bytes: bytes - live_bytes,
            is_candidate: true,
            is_movable: true,
        };
        sizes.iter().enumerate().map(pack).collect()
    }

    fn numbers(packs: &[PackId]) -> Vec<u32> {
        packs.iter().map(|pack| pack.n).collect()
    }

    #[test]
    fn a_pack_is_emptied_only_where_that_frees_more_than_it_moves() {
        let sizes =
            [(32 * MIB, 0), (32 * MIB, 2 * MIB), (32 * MIB, 16 * MIB), (32 * MIB, 31 * MIB)];
        let choice = choose(&packs(&sizes), u64::MAX);
        assert_eq!(numbers(&choice.dead), [0]);
        assert_eq!(numbers(&choice.emptied), [1, 2]);
        assert!(choice.moved_bytes * 10 <= choice.freed_bytes * 3);
        let poor = choose(&packs(&sizes[2..]), u64::MAX);
        assert_eq!(poor.emptied, [], "half a pack moved to free half a pack");
    }

    #[test]
    fn what_is_not_a_candidate_stays_and_the_limit_on_moved_bytes_holds() {
        let mut packs = packs(&[(32 * MIB, 0), (32 * MIB, MIB), (32 * MIB, MIB), (32 * MIB, MIB)]);
        packs[0].is_candidate = false;
        packs[1].is_movable = false;
        let choice = choose(&packs, MIB);
        assert_eq!(choice.dead, []);
        assert_eq!(numbers(&choice.emptied), [2]);
    }

    #[test]
    fn many_small_packs_become_few_and_few_stay_as_they_are() {
        let few = packs(&vec![(16 << 10, 12 << 10); PACKS_SMALL_MAX - 1]);
        assert_eq!(choose(&few, u64::MAX).emptied, []);
        let many = packs(&vec![(16 << 10, 16 << 10); 500]);
        let choice = choose(&many, u64::MAX);
        assert_eq!(choice.merged_count, 500 - PACKS_SMALL_KEPT);
        assert_eq!(choice.emptied.len(), choice.merged_count);
    }
}
