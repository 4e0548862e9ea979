//! Pins: snapshots that no forget takes away.
//!
//! ```text
//! PUT pin/<snapshot>-<own>
//! LIST snap/<snapshot>            absent: none
//! LIST forgot/<snapshot>          there: none
//! GET kill/<snapshot>             absent: acknowledged
//! DELETE pin/<snapshot>-<own>     otherwise: none
//! ```
//!
//! A forget lists `pin/` between its record and the DELETE, a collector after `forgot/`. A record does not
//! count as long as there is a pin.

use crate::ids::Ids;
use crate::plan::Plan;
use crate::setup::{Flaw, Role};
use crate::step::{Look, Step, View};
use crate::store::Store;
use crate::turn::Turn;

impl Plan {
    /// The operations of those who pin one of `snaps`.
    pub(crate) fn pinners(&self, snaps: Ids) -> Ids {
        let of_client = |(role, (first, end)): (&Option<Role>, &(u8, u8))| match role {
            Some(Role::Pin(snap)) if snaps.has(*snap) => (*first..*end).collect(),
            _ => Ids::NONE,
        };
        self.roles.iter().zip(&self.ops).map(of_client).fold(Ids::NONE, |all, ops| all | ops)
    }

    /// Snapshots with a pin.
    pub(crate) fn pinned(&self, store: &Store) -> Ids {
        let pinned = |(role, (first, end)): (&Option<Role>, &(u8, u8))| match role {
            Some(Role::Pin(snap)) if (*first..*end).any(|op| store.pins.has(op)) => Some(*snap),
            _ => None,
        };
        self.roles.iter().zip(&self.ops).filter_map(pinned).collect()
    }

    /// A collector's listings of `forgot/` and `pin/`; with the second it knows what lives.
    pub(crate) fn look_for_forgotten(&self, store: &Store, look: Look, mut view: View) -> View {
        let pins_first = self.is(Flaw::PinsBeforeRecords);
        let (records, pins) = match look {
            Look::Records if pins_first => (store.forgots, view.marked),
            Look::Pins if !pins_first => (view.marked, self.pinned(store)),
            Look::Records => return View { marked: store.forgots, ..view },
            _ => return View { marked: self.pinned(store), ..view },
        };
        view.live = self.reached(view.snaps - (records - pins));
        View { snaps: Ids::NONE, marked: Ids::NONE, ..view }
    }
}

impl Turn<'_> {
    /// What the pinner `op` does after its request of `step`.
    pub(crate) fn pin(&mut self, n: usize, op: u8, step: Step) -> Step {
        let Some(Role::Pin(snap)) = self.plan.roles[n] else { return Step::Done };
        let looks_first = self.plan.is(Flaw::PinLooksFirst);
        let in_doubt = self.plan.is(Flaw::PinOfDoubtful);
        let there = match step {
            Step::FindPin if !self.plan.pinned(self.store).has(snap) => return Step::PutPin,
            Step::PutPin if !looks_first => return Step::FindPinned,
            Step::FindPinned if self.store.snaps.has(snap) => return Step::LookForRecord,
            Step::LookForRecord if !self.store.forgots.has(snap) && !in_doubt => {
                return Step::LookForKillOfPinned;
            }
            Step::LookForRecord => !self.store.forgots.has(snap),
            Step::LookForKillOfPinned if self.store.kills.has(snap) => false,
            Step::LookForKillOfPinned if looks_first => return Step::PutPin,
            Step::LookForKillOfPinned | Step::FindPin | Step::PutPin => true,
            Step::DropPin => return Step::Done,
            _ => false,
        };
        if !there {
            return Step::DropPin;
        }
        // who removed it meanwhile came after it, though this client is told so late
        let looked = matches!(step, Step::LookForRecord | Step::LookForKillOfPinned);
        if !looked || self.store.pins.has(op) {
            *self.held |= Ids::one(snap);
        }
        Step::Done
    }
}
