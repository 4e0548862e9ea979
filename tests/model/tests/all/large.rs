//! Configurations that take minutes and gigabytes:
//!
//! ```sh
//! cargo test --release -p agent-backup-model -- --ignored --nocapture --test-threads 1
//! ```

use agent_backup_model::{
    Existence, Ids, Milestone, Role, Setup, Verdict, World, check, check_deep,
};

const PUSH: Role = Role::Push(Ids::of(&[0]));
const PUSH_OTHER: Role = Role::Push(Ids::of(&[1]));
const PUSH_BOTH: Role = Role::Push(Ids::of(&[0, 1]));
const GC: Role = Role::Collect;

/// Walks all of it.
fn safe(setup: Setup) {
    let verdict = check(setup, 400_000_000);
    println!("{verdict}");
    assert!(verdict.is_safe() && verdict.exhausted, "{verdict}");
}

/// Walks at least 20 million different states.
fn safe_as_far(verdict: &Verdict) {
    println!("{verdict}");
    assert!(verdict.is_safe(), "{verdict}");
    assert!(verdict.exhausted || verdict.states >= 20_000_000, "{verdict}");
    for milestone in [Milestone::GarbageDeleted, Milestone::PushedAgain] {
        assert!(verdict.reached.contains(&milestone), "never happened: {milestone:?}");
    }
}

#[test]
#[ignore = "run: cargo test --release -p agent-backup-model -- --ignored"]
fn two_pushers_beside_two_collectors() {
    safe(Setup::new(&[(PUSH, 1), (PUSH, 1), (GC, 1), (GC, 1)]));
}

#[test]
#[ignore = "run: cargo test --release -p agent-backup-model -- --ignored"]
fn a_collector_that_begins_again_beside_another_with_late_requests() {
    safe(Setup { late: true, ..Setup::new(&[(PUSH, 1), (GC, 2), (GC, 1)]) });
}

#[test]
#[ignore = "run: cargo test --release -p agent-backup-model -- --ignored"]
fn two_collectors_that_copy_out_of_partly_live_packs() {
    let setup = Setup::new(&[(PUSH_BOTH, 1), (GC, 1), (GC, 1)]);
    safe(Setup { world: World::PARTLY, repacks: true, paged: true, ..setup });
}

#[test]
#[ignore = "run: cargo test --release -p agent-backup-model -- --ignored"]
fn a_compaction_that_crashes_with_late_requests() {
    let setup = Setup::new(&[(PUSH, 1), (GC, 1), (Role::Compact, 2)]);
    safe(Setup { world: World::TWICE, late: true, ..setup });
    let setup = Setup::new(&[(PUSH_OTHER, 1), (GC, 2), (Role::Compact, 1)]);
    safe(Setup { world: World::APART, late: true, ..setup });
}

#[test]
#[ignore = "run: cargo test --release -p agent-backup-model -- --ignored"]
fn two_pushers_with_late_requests_and_forgotten_snapshots() {
    let setup = Setup::new(&[(PUSH, 2), (PUSH, 2), (GC, 1)]);
    let setup = Setup { late: true, forgets_new: true, ..setup };
    safe_as_far(&check(setup, 150_000_000));
}

#[test]
#[ignore = "run: cargo test --release -p agent-backup-model -- --ignored"]
fn everything_at_once() {
    let setup = Setup::new(&[(PUSH, 2), (PUSH, 2), (GC, 2), (GC, 2)]);
    let setup = Setup {
        existence: Existence::Either,
        kills: 2,
        late: true,
        paged: true,
        forgets_new: true,
        tidies: true,
        ..setup
    };
    safe_as_far(&check_deep(setup, 150_000_000));
}
