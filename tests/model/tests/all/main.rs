//! The protocol, checked: as it is, with each rule broken, and in sizes that take minutes.

#![expect(clippy::print_stdout, reason = "--nocapture shows how many states there are")]

mod flaws;
mod large;
mod safe;
