//! Each rule of the protocol, broken: the checker has to find how that loses data. A model in which
//! a broken protocol is safe would prove nothing.
//!
//! M1 to M14 are the numbers of docs/decisions/0005-the-protocol-is-model-checked.md.

use agent_backup_model::{Existence, Flaw, GENERATED_MAX, Ids, Role, Setup, World, check};

const PUSH: Role = Role::Push(Ids::of(&[0]));
const PUSH_OTHER: Role = Role::Push(Ids::of(&[1]));
const PUSH_BOTH: Role = Role::Push(Ids::of(&[0, 1]));
const GC: Role = Role::Collect;
const PIN: Role = Role::Pin(0);

fn flawed(flaw: Flaw, world: World, clients: &[(Role, u8)]) -> Setup {
    Setup { flaw: Some(flaw), world, ..Setup::new(clients) }
}

/// A promise is broken, and it is not broken without the flaw.
fn loses(setup: Setup) {
    let verdict = check(setup.clone(), GENERATED_MAX);
    println!("{verdict}");
    assert!(!verdict.is_safe(), "not found: {verdict}");
    let sound = check(Setup { flaw: None, ..setup }, GENERATED_MAX);
    assert!(sound.is_safe() && sound.exhausted, "not the flaw alone: {sound}");
}

/// Nothing is lost: the rule is margin, here.
fn keeps(setup: Setup) {
    let verdict = check(setup, GENERATED_MAX);
    println!("{verdict}");
    assert!(verdict.is_safe() && verdict.exhausted, "{verdict}");
}

#[test]
fn m1_a_push_that_announces_itself_late_is_not_waited_for() {
    loses(flawed(Flaw::AnnouncedAfterReading, World::ONE, &[(PUSH, 1), (GC, 1)]));
}

#[test]
fn m2_a_push_that_reads_the_index_first_meets_packs_condemned_since() {
    loses(flawed(Flaw::IndexBeforeCondemned, World::ONE, &[(PUSH, 1), (GC, 1)]));
}

#[test]
fn m3_what_a_dead_push_indexed_is_gone() {
    loses(flawed(Flaw::DeadTrusted, World::STALE, &[(PUSH, 1), (GC, 1)]));
    let whole_story = flawed(Flaw::DeadTrusted, World::ONE, &[(PUSH, 2), (GC, 1), (GC, 1)]);
    loses(Setup { crashes: false, ..whole_story });
}

#[test]
fn m4_a_push_that_was_declared_dead_believes_that_it_committed() {
    loses(flawed(Flaw::NoLookForKill, World::ONE, &[(PUSH, 1), (GC, 1)]));
}

#[test]
fn m5_a_sweep_that_does_not_wait_deletes_what_a_push_reuses() {
    loses(flawed(Flaw::NoWait, World::ONE, &[(PUSH, 1), (GC, 1)]));
}

#[test]
fn m6_a_push_that_outlasts_the_time_allowed_loses_its_blocks() {
    loses(flawed(Flaw::Timeout, World::ONE, &[(PUSH, 1), (GC, 1)]));
}

#[test]
fn m8_two_sweeps_delete_the_copy_that_the_other_relies_on() {
    loses(flawed(Flaw::ForeignListsIgnored, World::SPARE, &[(PUSH, 1), (GC, 1), (GC, 1)]));
}

#[test]
fn m9_a_condemned_pack_that_is_taken_back_is_deleted_by_another_sweep() {
    let setup = flawed(Flaw::Uncondemned, World::ONE, &[(PUSH, 2), (GC, 1), (GC, 1)]);
    loses(Setup { crashes: false, ..setup });
}

#[test]
fn m12_without_its_list_a_dying_pack_is_reused() {
    loses(flawed(Flaw::ListFirst, World::ONE, &[(PUSH, 1), (GC, 1)]));
}

#[test]
fn m13_a_pack_whose_name_comes_back_is_deleted_by_a_late_sweep() {
    loses(flawed(Flaw::NamesReused, World::ONE, &[(PUSH, 1), (GC, 1)]));
}

#[test]
fn m14_a_snapshot_that_lands_after_its_push_gave_up_is_broken() {
    let setup = flawed(Flaw::AbortRecordedAsEnd, World::ONE, &[(PUSH, 2), (GC, 1)]);
    loses(Setup { late: true, ..setup });
}

#[test]
fn m7_m10_m11_are_margin() {
    let two = [(PUSH, 1), (GC, 1), (GC, 1)];
    for flaw in [Flaw::OwnKillIgnored, Flaw::LiveOwnersCondemned, Flaw::PacksBeforeIndex] {
        keeps(flawed(flaw, World::ONE, &two));
        keeps(flawed(flaw, World::SHARED, &two));
        keeps(flawed(flaw, World::TWICE, &[(PUSH, 1), (GC, 1), (Role::Compact, 1)]));
    }
}

#[test]
fn a_restart_that_declares_itself_dead_takes_back_what_it_acknowledged() {
    loses(flawed(Flaw::DeadAtOnce, World::ONE, &[(PUSH, 2)]));
}

#[test]
fn a_restart_that_believes_its_snapshot_after_asking_to_stop_is_declared_dead_by_a_slow_stranger() {
    loses(flawed(Flaw::BelievesAfterKill, World::ONE, &[(PUSH, 2)]));
}

#[test]
fn an_entry_that_was_not_read_again_points_into_a_condemned_pack() {
    loses(flawed(Flaw::CarriedUnchecked, World::ONE, &[(PUSH, 1), (GC, 1)]));
}

#[test]
fn the_short_cut_takes_the_row_of_a_dead_push_for_a_place() {
    let clients = [(PUSH, 1), (PUSH, 1), (GC, 1)];
    let setup = flawed(Flaw::ShortCutBelievesIndex, World::STALE, &clients);
    let setup = Setup { short_cut: Some(2), forgets_new: true, ..setup };
    loses(Setup { existence: Existence::Listing, ..setup.clone() });
    loses(setup);
}

#[test]
fn a_compaction_hides_that_the_owner_of_a_pack_is_dead() {
    let clients = [(PUSH, 1), (GC, 1), (Role::Compact, 1)];
    loses(flawed(Flaw::OwnerFromObject, World::STALE, &clients));
}

#[test]
fn a_compaction_that_was_killed_writes_after_the_sweep() {
    let clients = [(PUSH, 1), (GC, 1), (Role::Compact, 1)];
    loses(flawed(Flaw::DeadWriterTrusted, World::TWICE, &clients));
    loses(flawed(Flaw::DeadWriterTrusted, World::ORPHAN, &[(PUSH, 1)]));
}

#[test]
fn a_compaction_launders_what_a_dead_collector_wrote() {
    loses(flawed(Flaw::DeadMerged, World::ORPHAN, &[(PUSH, 1), (Role::Compact, 1)]));
}

#[test]
fn a_compaction_that_does_not_look_at_condemned_lists_brings_a_pack_back() {
    let clients = [(PUSH_OTHER, 1), (GC, 1), (Role::Compact, 1)];
    let setup = flawed(Flaw::CondemnedMerged, World::APART, &clients);
    // whoever lists packs is not fooled
    keeps(Setup { existence: Existence::Listing, ..setup.clone() });
    loses(setup);
}

#[test]
fn two_sweeps_that_rewrite_one_index_object_bring_back_each_others_packs() {
    let clients = [(PUSH, 1), (GC, 1), (GC, 1)];
    let setup = flawed(Flaw::ForeignEntriesKept, World::SHARED, &clients);
    keeps(Setup { existence: Existence::Listing, ..setup.clone() });
    loses(setup);
}

#[test]
fn an_index_object_that_leaves_out_what_another_one_names_outlives_it() {
    let clients = [(PUSH, 1), (GC, 1), (Role::Compact, 1)];
    loses(flawed(Flaw::OthersTrusted, World::TWICE, &clients));
}

#[test]
fn an_undelete_under_the_old_name_is_not_waited_for() {
    loses(flawed(Flaw::OldNameAgain, World::ONE, &[(Role::Undelete, 1), (PUSH, 1), (GC, 1)]));
}

#[test]
fn blocks_that_were_dead_at_the_mark_are_not_in_its_copies() {
    let setup = flawed(Flaw::CopiesTrusted, World::PARTLY, &[(PUSH_BOTH, 1), (GC, 1)]);
    loses(Setup { repacks: true, ..setup });
}

#[test]
fn an_index_object_that_sorts_before_those_it_replaces_only_costs_a_second_upload() {
    let clients = [(PUSH, 1), (GC, 1), (Role::Compact, 1)];
    let setup = flawed(Flaw::SuccessorSortsFirst, World::TWICE, &clients);
    keeps(Setup { paged: true, ..setup });
}

#[test]
fn a_collector_that_lists_pins_first_misses_one_and_believes_the_record_after_it() {
    let clients = [(PUSH, 1), (Role::Pin(2), 1), (GC, 1)];
    let setup = flawed(Flaw::PinsBeforeRecords, World::ONE, &clients);
    loses(Setup { forgets_new: true, ..setup });
}

#[test]
fn a_forget_that_does_not_look_at_pins_after_its_record_deletes_a_pinned_snapshot() {
    loses(flawed(Flaw::NoLookForPins, World::ONE, &[(PIN, 1)]));
}

#[test]
fn a_pin_that_looks_before_it_is_written_does_not_see_the_forget() {
    loses(flawed(Flaw::PinLooksFirst, World::ONE, &[(PIN, 1)]));
}

#[test]
fn a_pin_of_another_may_be_given_up_or_come_too_late() {
    loses(flawed(Flaw::PinOfAnotherBelieved, World::ONE, &[(PIN, 1), (PIN, 1)]));
}

#[test]
fn a_pinned_snapshot_whose_push_was_asked_to_stop_is_declared_dead() {
    loses(flawed(Flaw::PinOfDoubtful, World::ONE, &[(PUSH, 1), (Role::Pin(2), 1)]));
}

#[test]
fn a_push_in_doubt_takes_back_a_snapshot_that_somebody_pinned() {
    let clients = [(PUSH, 2), (Role::Pin(2), 1)];
    loses(flawed(Flaw::WithdrawnThoughPinned, World::ONE, &clients));
}
