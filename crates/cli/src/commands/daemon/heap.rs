//! One heap for a daemon, where glibc would give it many.
//!
//! glibc gives threads heaps of their own, and keeps what each of them once needed. A process that starts
//! threads for every push, for months, grows by that. How many heaps there may be is read from a variable
//! before `main` begins, so the daemon starts once more in its own place: the same process with the same
//! arguments and descriptors, before it holds anything.

use crate::settings::Environment;

/// Does not return where the process starts once more.
pub(super) fn have_one(env: &Environment) {
    if Environment::has_one_heap() {
        tracing::debug!("started again, with one heap");
    } else if cfg!(all(target_os = "linux", target_env = "gnu")) && !env.heaps_are_set() {
        let error = env.start_again();
        tracing::warn!(%error, "the daemon has many heaps: it may need more memory than it has to");
    }
}
