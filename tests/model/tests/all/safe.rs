//! Configurations of the protocol as it is: whatever the order of steps, no promise is broken. Each
//! test also says what has to have happened somewhere, so that it is about something.

use agent_backup_model::Milestone::{
    AdoptedSwept, AdopterObserved, CollectorStopped, Compacted, CopiedFirst, DeclaredDead,
    GarbageDeleted, NewForgotten, PinGivenUp, PinHeld, PushedAgain, PushedBesideDeletion,
    RestartFound, SurvivedByCopy, Undeleted, Withdrawn,
};
use agent_backup_model::{Existence, GENERATED_MAX, Ids, Milestone, Role, Setup, World, check};

const PUSH: Role = Role::Push(Ids::of(&[0]));
const PUSH_BOTH: Role = Role::Push(Ids::of(&[0, 1]));
const PUSH_OTHER: Role = Role::Push(Ids::of(&[1]));
const GC: Role = Role::Collect;
const PIN: Role = Role::Pin(0);

/// Walks all of it.
fn safe(setup: Setup, expected: &[Milestone]) {
    let verdict = check(setup, GENERATED_MAX);
    println!("{verdict}");
    assert!(verdict.is_safe(), "{verdict}");
    assert!(verdict.exhausted, "{verdict}");
    let lacking: Vec<_> = expected.iter().filter(|m| !verdict.reached.contains(m)).collect();
    assert!(lacking.is_empty(), "never happened: {lacking:?}");
}

#[test]
fn a_pusher_that_begins_again_beside_a_collector() {
    let setup = Setup::new(&[(PUSH, 2), (GC, 1)]);
    safe(
        setup,
        &[
            GarbageDeleted,
            PushedBesideDeletion,
            SurvivedByCopy,
            DeclaredDead,
            PushedAgain,
            RestartFound,
            Withdrawn,
            CollectorStopped,
        ],
    );
}

#[test]
fn two_pushers_beside_a_collector() {
    let setup = Setup::new(&[(PUSH, 1), (PUSH, 1), (GC, 1)]);
    safe(setup, &[PushedBesideDeletion, SurvivedByCopy, DeclaredDead]);
}

#[test]
fn two_pushers_that_begin_again_beside_a_collector() {
    let setup = Setup::new(&[(PUSH, 2), (PUSH, 2), (GC, 1)]);
    safe(setup, &[PushedBesideDeletion, SurvivedByCopy, PushedAgain, RestartFound, Withdrawn]);
}

#[test]
fn late_requests_and_forgotten_snapshots() {
    let setup = Setup::new(&[(PUSH, 2), (PUSH, 1), (GC, 1)]);
    let setup = Setup { late: true, forgets_new: true, ..setup };
    safe(setup, &[PushedBesideDeletion, SurvivedByCopy, PushedAgain, RestartFound, NewForgotten]);
}

#[test]
fn two_strangers_after_another_ask_operations_to_stop() {
    let setup = Setup::new(&[(PUSH, 2), (GC, 1)]);
    safe(Setup { kills: 2, ..setup }, &[PushedAgain, CollectorStopped, Withdrawn]);
}

#[test]
fn two_collectors_that_adopt_each_others_lists() {
    let setup = Setup::new(&[(PUSH, 1), (GC, 1), (GC, 1)]);
    safe(setup, &[PushedBesideDeletion, SurvivedByCopy, AdoptedSwept, AdopterObserved]);
}

#[test]
fn listings_in_pages_forgets_and_tidying_beside_two_collectors() {
    let setup = Setup::new(&[(PUSH, 1), (GC, 1), (GC, 1)]);
    let setup = Setup { paged: true, tidies: true, forgets_new: true, ..setup };
    safe(setup, &[PushedBesideDeletion, SurvivedByCopy, AdoptedSwept, NewForgotten]);
}

#[test]
fn a_pusher_that_begins_again_beside_two_collectors() {
    let setup = Setup::new(&[(PUSH, 2), (GC, 1), (GC, 1)]);
    safe(setup, &[PushedBesideDeletion, SurvivedByCopy, PushedAgain, AdoptedSwept, RestartFound]);
}

#[test]
fn existence_by_listing_and_by_either_way() {
    let setup = Setup::new(&[(PUSH, 1), (GC, 1), (GC, 1)]);
    for existence in [Existence::Listing, Existence::Either] {
        for first_page in [Ids::of(&[0, 2, 4, 6, 8]), Ids::of(&[1, 3, 5, 7, 9])] {
            let setup = Setup { existence, first_page, paged: true, ..setup.clone() };
            safe(setup, &[PushedBesideDeletion, SurvivedByCopy, AdoptedSwept]);
        }
    }
}

#[test]
fn packs_that_are_partly_live_are_copied_before_they_are_condemned() {
    let setup = Setup::new(&[(PUSH_BOTH, 1), (PUSH, 1), (GC, 1)]);
    let setup = Setup { world: World::PARTLY, repacks: true, paged: true, ..setup };
    safe(setup, &[PushedBesideDeletion, SurvivedByCopy, CopiedFirst]);
}

#[test]
fn a_collector_that_crashes_while_it_copies_begins_again() {
    let setup = Setup::new(&[(PUSH_BOTH, 1), (GC, 2)]);
    let setup = Setup { world: World::PARTLY, repacks: true, late: true, paged: true, ..setup };
    safe(setup, &[PushedBesideDeletion, CopiedFirst, AdoptedSwept, AdopterObserved]);
}

#[test]
fn two_lists_whose_packs_share_an_index_object() {
    let setup = Setup::new(&[(PUSH, 1), (GC, 1), (GC, 1)]);
    safe(Setup { world: World::SHARED, ..setup }, &[PushedBesideDeletion, AdoptedSwept]);
}

#[test]
fn two_lists_that_hold_the_same_block() {
    let setup = Setup::new(&[(PUSH, 1), (GC, 1), (GC, 1)]);
    safe(Setup { world: World::SPARE, ..setup }, &[PushedBesideDeletion, SurvivedByCopy]);
}

#[test]
fn index_objects_are_merged_beside_a_sweep() {
    for world in [World::TWICE, World::STALE, World::APART] {
        for push in [PUSH, PUSH_OTHER] {
            let setup = Setup::new(&[(push, 1), (GC, 1), (Role::Compact, 1)]);
            safe(Setup { world, paged: true, ..setup }, &[Compacted]);
        }
    }
    // what dead operations wrote is left alone, and then there is nothing to merge
    for push in [PUSH, PUSH_OTHER] {
        let setup = Setup::new(&[(push, 1), (GC, 1), (Role::Compact, 1)]);
        safe(Setup { world: World::ORPHAN, paged: true, ..setup }, &[CollectorStopped]);
    }
    let setup = Setup::new(&[(PUSH, 1), (GC, 1), (Role::Compact, 1)]);
    safe(Setup { world: World::TWICE, ..setup }, &[SurvivedByCopy, Compacted, CollectorStopped]);
}

#[test]
fn a_forgotten_snapshot_comes_back_under_a_new_id() {
    let setup = Setup::new(&[(Role::Undelete, 2), (PUSH, 1), (GC, 1)]);
    safe(Setup { late: true, ..setup }, &[Undeleted, SurvivedByCopy, PushedAgain, RestartFound]);
}

#[test]
fn the_short_cut_for_blocks_that_are_carried_over() {
    let setup = Setup::new(&[(PUSH, 1), (PUSH, 1), (GC, 1)]);
    let setup = Setup { world: World::STALE, short_cut: Some(2), forgets_new: true, ..setup };
    safe(setup.clone(), &[PushedBesideDeletion, NewForgotten]);
    safe(Setup { existence: Existence::Listing, ..setup }, &[PushedBesideDeletion, NewForgotten]);
}

#[test]
fn a_pinned_snapshot_stays_whoever_forgets_and_collects() {
    let pinned = [GarbageDeleted, PinHeld, PinGivenUp];
    safe(Setup { unpins: true, late: true, ..Setup::new(&[(PIN, 2), (GC, 1)]) }, &pinned);
    safe(Setup { unpins: true, ..Setup::new(&[(PIN, 1), (PIN, 1), (GC, 1)]) }, &pinned);
    safe(Setup { unpins: true, ..Setup::new(&[(PIN, 1), (GC, 1), (GC, 1)]) }, &pinned);
    safe(Setup { unpins: true, ..Setup::new(&[(PIN, 1), (PUSH, 1), (GC, 1)]) }, &pinned);
    let new = Setup::new(&[(PUSH, 2), (Role::Pin(2), 1), (GC, 1)]);
    safe(Setup { forgets_new: true, ..new }, &[NewForgotten, PinHeld, PinGivenUp, Withdrawn]);
}
