//! The program as a user meets it: the built binary, its own home directory, an empty environment.
//!
//! Each module is a story. Nothing here knows the inside of a library; `desk` runs the binary and
//! `state` makes what an agent leaves on a disk.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test stands on must be there")]

mod agents;
mod care;
mod daemon;
mod defects;
mod desk;
mod doctor;
mod exits;
mod gate;
mod golden;
mod gone;
mod grep;
mod guide;
mod import;
mod kill;
mod live;
mod main_job;
mod moves;
mod pages;
mod parity;
mod quill;
mod restore_kill;
mod retention;
mod rooms;
mod safety;
mod secrets;
mod service;
mod sessions;
mod state;
mod suspects;
mod tidy;
mod tool;
mod unattended;
