//! The verbs of agent-backup as functions: options in, stats out. Owns threads, files and time;
//! never prints, never reads the environment.
//!
//! To back up one agent from a program of your own, begin with [`Backup`]; for a whole command line of such a
//! program, with `run_cli` of the crate `agent-backup`. Everything else has its own module, named by its verb:
//!
//! | To | Look at |
//! |---|---|
//! | make or open a repository | [`Session::init`], [`Session::open`] |
//! | push; push once | [`Backup::push`], [`push::push`] |
//! | pull the latest snapshot, or any other | [`Backup::pull`], [`Backup::pull_to`], [`pull::pull`] |
//! | list snapshots, pick one | [`Backup::snapshots`], [`Session::select`] |
//! | prune | [`Backup::prune`], [`forget`] then [`gc`] |
//! | see what a push would take | [`Backup::gather`], [`scan::scan`] |
//! | compare snapshots | [`Backup::diff`], [`view::diff`] |
//! | copy a live database | [`capture_database`] |
//! | keep pushes away for a while | [`Session::lock`] |

mod backup;
mod capture;
mod clock;
pub mod copy;
pub mod daemon;
mod damaged;
pub mod doctor;
mod error;
pub mod forget;
pub mod gc;
pub mod gone;
pub mod grep;
mod ignored;
pub mod import;
pub mod journal;
mod leftover;
mod marks;
mod monitor;
pub mod pull;
pub mod push;
pub mod repair;
mod rotate;
pub mod running;
pub mod scan;
mod sealed;
mod session;
pub mod sessions;
mod state;
pub mod status;
mod steady;
pub mod suspects;
pub mod undelete;
pub mod verify;
pub mod view;

pub use backup::{Backup, Gathered, GatheredFile, Pruned, Pulled};
pub use capture::capture_database;
pub use clock::{Clock, SystemClock};
pub use damaged::DamagedSnapshot;
pub use error::{Error, Result};
pub use monitor::{Monitor, Problem, Progress, Silent};
pub use rotate::{RotateOptions, Rotated, rotate};
pub use session::{Dirs, InitOptions, Machine, PARAMS, Session};
pub use state::Lock;
