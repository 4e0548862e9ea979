//! What agents delete: files that vanish from their source stay in the snapshots that come.
//!
//! A push compares the tree it makes with the newest snapshot of this machine and carries what vanished
//! in a part of the new tree, below `~gone/<since>/<label>/<path>` ([`repo::gone`]), where it stays
//! however few snapshots are kept: until it is back at the source, a limit says otherwise, or somebody
//! forgets it ([`crate::forget::gone`]). Its blocks are those the snapshots before had, so it costs a
//! few bytes of the tree.
//!
//! Kept are files that an adapter calls volatile, and all files of directories that are configured so.
//! `watch` sees a run and decides, `earlier` and `memo` say what was before, `kept` has the limits,
//! `alarm` what happens when much vanishes at once.

mod alarm;
mod earlier;
mod kept;
mod memo;
mod since;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use alarm::{Acknowledged, Alarm, acknowledge, alarms, pin};
pub(crate) use alarm::{alarms_in, raise, take_place};
pub(crate) use earlier::{Earlier, is_damage, read as read_kept};
pub(crate) use kept::{Kept, tidy};
pub(crate) use memo::Memo;
pub use since::Since;
pub(crate) use watch::{Settled, Watch};

use crate::scan::Filter;

/// What of the files that vanish is kept, and for how long.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Labels of directories that belong to no agent and of which everything that vanishes is kept.
    pub labels: Vec<String>,
    /// What is gone for longer is kept no longer.
    pub age_max: Option<Duration>,
    /// The oldest goes when the content of all that is gone is more than this, before compression.
    pub bytes_max: Option<u64>,
    /// A push of all that there is: a root that is not here any more is gone. Rules of such roots. None:
    /// the push covers a part, and says nothing of other roots.
    pub missing: Option<Arc<dyn MissingRoots>>,
}

/// Knows the rules of roots that are not on this machine.
pub trait MissingRoots: fmt::Debug + Send + Sync {
    /// The rules of this root; none for a root that a push of all would not cover.
    fn filter(&self, agent: &str, label: &str) -> Option<Arc<dyn Filter>>;
}
