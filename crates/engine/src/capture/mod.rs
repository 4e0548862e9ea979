//! Capture: a consistent image of what must not be read as it lies.

pub(crate) mod sqlite;
