//! Policies against what restic documents, and what holds for any of them.

use jiff::civil::date;
use proptest::prelude::*;

use super::*;

fn zone() -> TimeZone {
    // as in Berlin; spelled out, because a machine may have no time zone data
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

/// Moments by local time, any order; newest first then.
fn moments(times: &[&str]) -> Vec<Moment> {
    let time = |text: &&str| {
        let local: jiff::civil::DateTime = text.parse().unwrap();
        Moment { time: local.to_zoned(zone()).unwrap().timestamp(), tags: Vec::new() }
    };
    let mut all: Vec<Moment> = times.iter().map(time).collect();
    all.sort_by_key(|moment| std::cmp::Reverse(moment.time));
    all
}

/// Which are kept, counted from the newest.
fn kept(policy: &Policy, moments: &[Moment]) -> Vec<usize> {
    let reasons = policy.reasons(moments, &zone());
    reasons.iter().enumerate().filter(|(_, why)| !why.is_empty()).map(|(at, _)| at).collect()
}

const WEEK: [&str; 9] = [
    "2026-11-27T18:00", // Friday
    "2026-11-27T09:00",
    "2026-11-26T23:30",
    "2026-11-26T00:10",
    "2026-11-24T12:00",
    "2026-11-22T12:00", // Sunday of the week before
    "2026-11-01T12:00",
    "2026-10-31T12:00",
    "2025-12-31T12:00",
];

#[test]
fn the_examples_of_restics_manual_come_out_as_it_says() {
    let all = moments(&WEEK);
    let none = Policy::default();
    for (policy, expected) in [
        (Policy { last: 2, ..none.clone() }, vec![0, 1]),
        // the newest of each day that has one; the 25th has none and does not count
        (Policy { daily: 3, ..none.clone() }, vec![0, 2, 4]),
        (Policy { hourly: 2, ..none.clone() }, vec![0, 1]),
        (Policy { weekly: 2, ..none.clone() }, vec![0, 5]),
        (Policy { monthly: 2, ..none.clone() }, vec![0, 7]),
        (Policy { yearly: 1, ..none.clone() }, vec![0]),
        // fewer years than are to be kept: the oldest stays, here as the newest of its year
        (Policy { yearly: 5, ..none.clone() }, vec![0, 8]),
        (Policy { daily: 2, weekly: 2, ..none.clone() }, vec![0, 2, 5]),
        (Policy { last: UNLIMITED, ..none.clone() }, (0..9).collect()),
        (Policy { within: Some("1d".parse().unwrap()), ..none.clone() }, vec![0, 1, 2]),
        (Policy { within: Some("26d6h".parse().unwrap()), ..none.clone() }, (0..6).collect()),
        (Policy { within: Some("1m".parse().unwrap()), ..none.clone() }, (0..8).collect()),
        (Policy { within: Some("9999999y".parse().unwrap()), ..none.clone() }, (0..9).collect()),
        (none, vec![]),
    ] {
        assert_eq!(kept(&policy, &all), expected, "{policy:?}");
    }
}

#[test]
fn the_oldest_is_kept_while_a_rule_is_not_used_up() {
    let all = moments(&["2026-11-27T18:00", "2026-11-26T18:00", "2026-11-26T09:00"]);
    let policy = Policy { daily: 3, ..Policy::default() };
    let reasons = policy.reasons(&all, &zone());
    assert_eq!(reasons[2], [Reason::Oldest(Rule::Daily)]);
    assert_eq!(kept(&Policy { daily: 2, ..policy }, &all), [0, 1]);
}

#[test]
fn days_are_those_of_the_zone_and_the_hour_that_comes_twice_is_two() {
    // 23:30 and 00:30 in Berlin are one day in UTC
    let all = moments(&["2026-11-27T00:30", "2026-11-26T23:30"]);
    let policy = Policy { daily: 2, ..Policy::default() };
    assert!(policy.reasons(&all, &zone())[1] == [Reason::Rule(Rule::Daily)]);
    assert!(policy.reasons(&all, &TimeZone::UTC)[1] == [Reason::Oldest(Rule::Daily)]);
    let first = date(2026, 10, 25).at(0, 30, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp();
    let second = first + Span::new().hours(1);
    let twice = [second, first].map(|time| Moment { time, tags: Vec::new() });
    let policy = Policy { hourly: 5, ..Policy::default() };
    assert!(policy.reasons(&twice, &zone())[1].contains(&Reason::Rule(Rule::Hourly)));
}

#[test]
fn the_week_at_the_end_of_a_year_is_one_week() {
    let all = moments(&["2027-01-02T12:00", "2026-12-29T12:00", "2026-12-27T12:00"]);
    assert_eq!(kept(&Policy { weekly: 2, ..Policy::default() }, &all), [0, 2]);
}

#[test]
fn a_tag_keeps_what_has_it() {
    let mut all = moments(&WEEK);
    all[6].tags = vec!["release".into(), "other".into()];
    let policy = Policy { tags: vec!["gold".into(), "release".into()], ..Policy::default() };
    assert_eq!(kept(&policy, &all), [6]);
    assert_eq!(policy.reasons(&all, &zone())[6], [Reason::Tag("release".into())]);
}

#[test]
fn stretches_of_time_are_read_as_people_write_them_and_nothing_else_is() {
    let whole = Within { years: 1, months: 5, days: 7, hours: 2 };
    assert_eq!("1y5m7d2h".parse(), Ok(whole));
    assert_eq!("30d".parse(), Ok(Within { years: 0, months: 0, days: 30, hours: 0 }));
    for text in ["", "d", "30", "3w", "-1d", "1d ", "0d", "99999999999999999999d", "1\u{e9}"] {
        assert!(text.parse::<Within>().is_err(), "{text}");
    }
}

fn any_moments() -> impl Strategy<Value = Vec<Moment>> {
    // three years, often several on one day
    prop::collection::vec((0_i64..1100, 0_i64..86_400), 0..60).prop_map(|mut times| {
        times.sort_unstable();
        let base = 1_700_000_000;
        let time = |(day, sec): &(i64, i64)| Moment {
            time: Timestamp::from_second(base + day * 86_400 + sec).unwrap(),
            tags: Vec::new(),
        };
        times.iter().rev().map(time).collect()
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    [0_usize..5, 0..5, 0..9, 0..6, 0..6, 0..4].prop_map(|n| Policy {
        last: n[0],
        hourly: n[1],
        daily: n[2],
        weekly: n[3],
        monthly: n[4],
        yearly: n[5],
        ..Policy::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_larger_number_never_keeps_less(all in any_moments(), policy in any_policy(), which in 0_usize..6) {
        let mut more = policy.clone();
        let counts = [
            &mut more.last, &mut more.hourly, &mut more.daily,
            &mut more.weekly, &mut more.monthly, &mut more.yearly,
        ];
        *counts.into_iter().nth(which).unwrap() += 1;
        let (less, more) = (kept(&policy, &all), kept(&more, &all));
        prop_assert!(less.iter().all(|at| more.contains(at)), "{less:?} {more:?}");
    }

    #[test]
    fn the_newest_is_always_kept_and_no_more_than_the_numbers_allow(
        all in any_moments(), policy in any_policy(),
    ) {
        let kept = kept(&policy, &all);
        if !policy.is_empty() && !all.is_empty() {
            prop_assert_eq!(kept[0], 0);
        }
        let allowed: usize = RULES.iter().map(|rule| policy.count(*rule)).sum();
        prop_assert!(kept.len() <= allowed);
    }

    #[test]
    fn the_newest_of_each_of_the_last_days_is_kept(all in any_moments(), days in 1_usize..9) {
        let kept = kept(&Policy { daily: days, ..Policy::default() }, &all);
        let mut seen = Vec::new();
        for (at, moment) in all.iter().enumerate() {
            let day = moment.time.to_zoned(zone()).date();
            if !seen.contains(&day) {
                seen.push(day);
                prop_assert_eq!(kept.contains(&at), seen.len() <= days, "{} {:?}", at, kept);
            }
        }
    }
}
