//! The verbs of agent-backup as functions: options in, stats out. Owns threads, files and time;
//! never prints, never reads the environment.

mod capture;
mod clock;
pub mod copy;
mod error;
mod monitor;
pub mod pull;
pub mod push;
pub mod repair;
pub mod scan;
mod session;
mod state;
pub mod verify;
pub mod view;

pub use clock::{Clock, SystemClock};
pub use error::{Error, Result};
pub use monitor::{Monitor, Problem, Progress, Silent};
pub use session::{Dirs, InitOptions, Machine, PARAMS, Session};
