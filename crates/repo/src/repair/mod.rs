//! Repair: what is damaged or missing is made again, out of what is left.
//!
//! ```text
//! index    tables of packs that no index object names, from the packs' trailers
//! blocks   (`heal`) out of quarantined packs; out of old versions of packs (`old`); from another repository with the same keys; from the same
//!          chunks elsewhere, or the same bytes of the same path in another snapshot; maps and patches,
//!          coded again
//! snapshot (`put_back`, `old`) the sealed bytes that a cache, or an old version, still has
//! loss     (`accept`) a snapshot without what cannot be had, in the place of the one that needs it
//! ```
//! A block that is made again has the id it had, so every snapshot that needs it is whole again. Nothing
//! is removed but index objects that do not open, after what they held was written anew. Each runs as an
//! announced operation, as a collection does: no collector judges its packs while it runs.

mod accept;
mod chunks;
mod heal;
mod index;
mod maps;
mod old;
mod put_back;

pub use accept::{Accepted, REASON, accept, bury};
pub use heal::{HealOptions, Healed, Remembered, heal};
pub use index::{IndexReport, index};
pub use old::bring_back;
pub use put_back::put_back;
