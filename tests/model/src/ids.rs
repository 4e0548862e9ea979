//! Small sets of small numbers: operations, packs, index objects, collections or blocks.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Sub, SubAssign};

/// How many different numbers there are.
pub(crate) const IDS: u8 = 16;

/// A set of numbers below 16.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Ids(u16);

impl Ids {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// Every number.
    pub const ALL: Self = Self(u16::MAX);

    /// The set of one number.
    pub const fn one(id: u8) -> Self {
        Self(1 << id)
    }

    /// The set of some numbers.
    pub const fn of(ids: &[u8]) -> Self {
        let (mut bits, mut n) = (0, 0);
        while n < ids.len() {
            bits |= 1 << ids[n];
            n += 1;
        }
        Self(bits)
    }

    /// True if `id` is in it.
    pub const fn has(self, id: u8) -> bool {
        self.0 & (1 << id) != 0
    }

    /// True if nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True if some number is in both.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// True if all numbers of `other` are in it.
    pub const fn holds(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// How many there are.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// The numbers, rising.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..IDS).filter(move |id| self.has(*id))
    }

    /// The least number in it.
    pub fn first(self) -> Option<u8> {
        self.iter().next()
    }

    /// Every subset but the empty one.
    pub(crate) fn subsets(self) -> impl Iterator<Item = Self> {
        let mut next = self.0;
        std::iter::from_fn(move || {
            let this = next;
            next = this.wrapping_sub(1) & self.0;
            (this != 0).then_some(Self(this))
        })
    }
}

impl BitOr for Ids {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Ids {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Ids {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Sub for Ids {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl SubAssign for Ids {
    fn sub_assign(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

impl FromIterator<u8> for Ids {
    fn from_iter<I: IntoIterator<Item = u8>>(ids: I) -> Self {
        ids.into_iter().fold(Self::NONE, |set, id| set | Self::one(id))
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
