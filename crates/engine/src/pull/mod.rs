//! pull
mod error;
mod source;
mod target;
