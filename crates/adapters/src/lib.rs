//! What AI coding agents keep where, as data: adapter files, roots and rules
