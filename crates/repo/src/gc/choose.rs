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
    /// Of those, how many are emptied because they are small and many.
    pub(crate) merged_count: usize,
    /// Sealed bytes that move.
    pub(crate) moved_bytes: u64,
    /// Bytes that are stored less in the end.
    pub(crate) freed_bytes: u64,
    /// Bytes that do not live and stay, because moving what lives beside them costs more.
    pub(crate) unused_bytes: u64,
}

impl Choice {
    /// What lives in the pack moves, and the pack goes.
    fn empty(&mut self, pack: &PackUse) {
        self.moved_bytes += pack.live_bytes;
        self.freed_bytes += pack.dead_bytes;
        self.unused_bytes -= pack.dead_bytes;
        self.emptied.push(pack.pack);
    }
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
    let movable: Vec<&PackUse> = partly.into_iter().filter(|pack| pack.is_movable).collect();
    choice.unused_bytes = movable.iter().map(|pack| pack.dead_bytes).sum();
    // what has to move anyway counts against what may move to free bytes
    let (small, mut rest) = many_small(movable);
    for pack in small {
        if choice.moved_bytes + pack.live_bytes > moved_bytes_max {
            break;
        }
        choice.empty(pack);
        choice.merged_count += 1;
    }
    // what frees most for what it moves comes first; ids make the order one for all
    let cost = |pack: &PackUse| pack.live_bytes * 1000 / (pack.live_bytes + pack.dead_bytes);
    rest.sort_by_key(|pack| (cost(pack), pack.pack));
    for pack in rest {
        let too_little = choice.unused_bytes <= (total - choice.freed_bytes) / UNUSED_DIVISOR;
        let moved = choice.moved_bytes + pack.live_bytes;
        let freed = choice.freed_bytes + pack.dead_bytes;
        let is_dear = |moved: u64, freed: u64| moved * 10 > freed * MOVED_TENTHS;
        let too_dear = is_dear(moved, freed) && is_dear(pack.live_bytes, pack.dead_bytes);
        if !(too_little || too_dear || moved > moved_bytes_max || pack.dead_bytes == 0) {
            choice.empty(pack);
        }
    }
    choice
}

/// Many small packs cost requests and memory: once there are too many, those in which least lives are
/// merged. Returns them, and the others.
fn many_small(packs: Vec<&PackUse>) -> (Vec<&PackUse>, Vec<&PackUse>) {
    let (mut small, mut rest): (Vec<&PackUse>, Vec<&PackUse>) =
        packs.into_iter().partition(|pack| pack.bytes < PACK_SMALL_BYTES);
    let merged_count =
        if small.len() < PACKS_SMALL_MAX { 0 } else { small.len() - PACKS_SMALL_KEPT };
    small.sort_by_key(|pack| (pack.live_bytes, pack.pack));
    rest.extend(small.split_off(merged_count));
    (small, rest)
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

    #[test]
    fn what_is_merged_counts_against_what_may_be_moved_to_free_bytes() {
        let mut sizes = vec![(32 * MIB, MIB), (32 * MIB, 9 * MIB)];
        sizes.extend(vec![(MIB, MIB); PACKS_SMALL_KEPT]);
        let alone = choose(&packs(&sizes), u64::MAX);
        assert_eq!((alone.merged_count, numbers(&alone.emptied)), (0, vec![0, 1]));
        sizes.extend(vec![(MIB, MIB); PACKS_SMALL_MAX]);
        let beside = choose(&packs(&sizes), u64::MAX);
        assert_eq!(beside.merged_count, PACKS_SMALL_MAX);
        let large: Vec<u32> = numbers(&beside.emptied).into_iter().filter(|n| *n < 2).collect();
        assert_eq!(large, [0], "what frees more than it moves goes all the same");
    }

    #[test]
    fn of_small_packs_those_move_in_which_least_lives() {
        let mut sizes = vec![(2 * MIB, 2 * MIB); PACKS_SMALL_KEPT];
        sizes.extend(vec![(3 * MIB, MIB); PACKS_SMALL_KEPT]);
        let choice = choose(&packs(&sizes), u64::MAX);
        assert_eq!(choice.merged_count, PACKS_SMALL_KEPT);
        assert_eq!(choice.moved_bytes, PACKS_SMALL_KEPT as u64 * MIB);
    }
}
