//! The verbs of agent-backup as functions: options in, stats out. Owns threads, files and time;
//! never prints, never reads the environment.

mod capture;
mod clock;
pub mod copy;
pub mod daemon;
pub mod doctor;
mod error;
pub mod forget;
pub mod gc;
pub mod gone;
pub mod grep;
mod ignored;
pub mod journal;
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
pub mod suspects;
pub mod undelete;
pub mod verify;
pub mod view;

pub use clock::{Clock, SystemClock};
pub use error::{Error, Result};
pub use monitor::{Monitor, Problem, Progress, Silent};
pub use rotate::{RotateOptions, Rotated, rotate};
pub use session::{Dirs, InitOptions, Machine, PARAMS, Session};
