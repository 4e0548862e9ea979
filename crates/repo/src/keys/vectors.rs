//! Golden vectors: `tests/vectors/keys.json`. A change here is a change of the format.
