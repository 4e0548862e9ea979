//! The moments of a schedule: cron texts read in a time zone.
//!
//! croner finds matches on the face of a clock; what the zone makes of them is decided here, as cron does it.
//! Where the clock is set forward, what would have come in the gap comes at its end, once; where it is set back,
//! a fixed time comes once, the first time. A text whose hour has a `*` means "each hour" and goes on in
//! real hours either way.

use std::fmt;

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// Changes of a zone's clock that are looked past for one moment: centuries of them.
const CHANGES_MAX: usize = 1_000;

/// Words for texts that everybody needs.
const WORDS: [(&str, &str); 5] = [
    ("hourly", "0 * * * *"),
    ("daily", "0 0 * * *"),
    ("weekly", "0 0 * * 0"),
    ("monthly", "0 0 1 * *"),
    ("yearly", "0 0 1 1 *"),
];

/// A schedule that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no schedule: {what}")]
pub struct Error {
    /// What was written.
    pub text: String,
    /// What is wrong with it.
    pub what: String,
}

/// One or several cron texts in a time zone: a moment of any is a moment of all.
#[derive(Debug, Clone)]
pub struct Timetable {
    lines: Vec<Line>,
    zone: TimeZone,
}

#[derive(Clone)]
struct Line {
    text: String,
    cron: Cron,
    each_hour: bool,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Timetable {
    /// Reads texts: `hourly`, `daily`, `weekly`, `monthly`, `yearly`, or cron with five fields, six with
    /// seconds before them.
    pub fn new<T: AsRef<str>>(texts: &[T], zone: TimeZone) -> Result<Self, Error> {
        let lines = texts.iter().map(|text| Line::new(text.as_ref(), &zone));
        Ok(Self { lines: lines.collect::<Result<_, _>>()?, zone })
    }

    /// The texts as written.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(|line| line.text.as_str())
    }

    /// The first moment later than `at`; none only where no calendar reaches.
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        self.lines.iter().filter_map(|line| line.next_after(at, &self.zone)).min()
    }

    /// When what was done at `done` is older than two intervals: the second moment after it is over, and twice
    /// the time between the two has passed. The second matters for what is done between moments, the
    /// first for schedules with pauses (working hours).
    pub fn overdue_from(&self, done: Timestamp) -> Option<Timestamp> {
        let first = self.next_after(done)?;
        let second = self.next_after(first)?;
        let twice = second.duration_since(first).checked_mul(2)?;
        Some(second.max(done.checked_add(twice).ok()?))
    }
}

impl Line {
    fn new(text: &str, zone: &TimeZone) -> Result<Self, Error> {
        let wrong = |what: String| Error { text: text.to_owned(), what };
        let word = text.trim().strip_prefix('@').unwrap_or(text.trim());
        let known = WORDS.iter().find(|(name, _)| *name == word);
        let fields = known.map_or(text.trim(), |(_, fields)| fields);
        let parser = CronParser::builder().seconds(Seconds::Optional).build();
        let cron = parser.parse(fields).map_err(|e| {
            wrong(format!("{e}; write hourly, daily, weekly or a cron text such as '0 3 * * *'"))
        })?;
        let hour = match fields.split_whitespace().count() {
            5 => 1,
            _ => 2,
        };
        let each_hour = fields.split_whitespace().nth(hour).is_some_and(|hour| hour.contains('*'));
        let line = Self { text: text.to_owned(), cron, each_hour };
        match line.next_after(Timestamp::UNIX_EPOCH, zone) {
            Some(_) => Ok(line),
            None => Err(wrong("no such moment ever comes".to_owned())),
        }
    }

    fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut from = after;
        let mut face = Face::of(from, zone.to_offset(from));
        let mut inclusive = false;
        if !self.each_hour
            && let Some(end) = end_of_repeat(from, zone)
        {
            (face, inclusive) = (end, true);
        }
        for _ in 0..CHANGES_MAX {
            let offset = zone.to_offset(from);
            let found = face.find(&self.cron, inclusive)?;
            let at = found.instant(offset)?;
            let change = zone.following(from).next().filter(|change| change.timestamp() <= at);
            let Some(change) = change else { return Some(at) };
            // no match before the change: look on from there, with the clock that holds then
            from = change.timestamp();
            let (before, then) = (Face::of(from, offset), Face::of(from, change.offset()));
            if then > before && !self.each_hour && found < then {
                return Some(from);
            }
            face = if then < before && !self.each_hour { before } else { then };
            inclusive = true;
        }
        None
    }
}

/// If the clock was set back not long ago and shows times a second time: what it showed when it was set.
fn end_of_repeat(at: Timestamp, zone: &TimeZone) -> Option<Face> {
    let tick = SignedDuration::from_nanos(1);
    let change = zone.preceding(at.checked_add(tick).ok()?).next()?;
    let set = change.timestamp();
    let before = Face::of(set, zone.to_offset(set.checked_sub(tick).ok()?));
    (Face::of(at, zone.to_offset(at)) < before).then_some(before)
}

/// What a clock on the wall shows, in croner's terms: a time without a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Face(DateTime<Utc>);

impl Face {
    fn of(at: Timestamp, offset: Offset) -> Self {
        let secs = at.as_second().saturating_add(offset.seconds().into());
        // a fraction of a second matters: the match of a whole second after it is the next one
        let nanos = at.subsec_nanosecond().unsigned_abs();
        let (secs, nanos) = if at.subsec_nanosecond() < 0 && nanos > 0 {
            (secs.saturating_sub(1), 1_000_000_000 - nanos)
        } else {
            (secs, nanos)
        };
        Self(DateTime::from_timestamp(secs, nanos).unwrap_or(DateTime::<Utc>::MAX_UTC))
    }

    fn find(self, cron: &Cron, inclusive: bool) -> Option<Self> {
        cron.find_next_occurrence(&self.0, inclusive).ok().map(Self)
    }

    fn instant(self, offset: Offset) -> Option<Timestamp> {
        let secs = self.0.timestamp().checked_sub(offset.seconds().into())?;
        Timestamp::from_second(secs).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str, zone: &str) -> Timetable {
        Timetable::new(&[text], TimeZone::get(zone).unwrap()).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The next `n` moments after a time.
    fn moments(table: &Timetable, from: &str, n: usize) -> Vec<String> {
        let next = |at: &Timestamp| table.next_after(*at);
        let first = table.next_after(at(from));
        std::iter::successors(first, next).take(n).map(|at| at.to_string()).collect()
    }

    #[test]
    fn a_fixed_time_that_the_clock_skips_comes_when_it_is_set_forward_and_once() {
        // Berlin, 2026-03-29: 02:00 becomes 03:00 (01:00 UTC)
        let table = table("30 2 * * *", "Europe/Berlin");
        assert_eq!(
            moments(&table, "2026-03-28T00:00:00Z", 3),
            ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
    }

    #[test]
    fn a_fixed_time_that_the_clock_shows_twice_comes_the_first_time_only() {
        // Berlin, 2026-10-25: 03:00 becomes 02:00 (01:00 UTC)
        let table = table("30 2 * * *", "Europe/Berlin");
        let expected = ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"];
        assert_eq!(moments(&table, "2026-10-24T12:00:00Z", 2), expected);
        // asked in the hour that is shown the second time, before and after half past
        assert_eq!(moments(&table, "2026-10-25T01:10:00Z", 1), expected[1..]);
        assert_eq!(moments(&table, "2026-10-25T01:40:00Z", 1), expected[1..]);
    }

    #[test]
    fn each_hour_is_each_real_hour_when_the_clock_is_set() {
        let table = table("hourly", "Europe/Berlin");
        for from in ["2026-03-28T22:30:00Z", "2026-10-24T22:30:00Z"] {
            let all = moments(&table, from, 6);
            let hours: Vec<i64> = all.iter().map(|m| at(m).as_second()).collect();
            assert!(hours.windows(2).all(|pair| pair[1] - pair[0] == 3600), "{all:?}");
        }
    }

    #[test]
    fn a_clock_that_is_set_by_half_an_hour_moves_an_hourly_schedule_with_it() {
        // Lord Howe, 2026-04-05: 02:00 (+11) becomes 01:30 (+10:30), at 15:00 UTC the day before
        let table = table("0 * * * *", "Australia/Lord_Howe");
        assert_eq!(
            moments(&table, "2026-04-04T13:30:00Z", 3),
            ["2026-04-04T14:00:00Z", "2026-04-04T15:30:00Z", "2026-04-04T16:30:00Z"]
        );
    }

    #[test]
    fn a_day_that_a_zone_leaves_out_does_not_stop_a_schedule() {
        // Samoa went from the evening of 2011-12-29 to 2011-12-31
        let table = table("0 12 * * *", "Pacific/Apia");
        assert_eq!(
            moments(&table, "2011-12-29T00:00:00Z", 3),
            ["2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"]
        );
    }

    #[test]
    fn several_texts_are_one_schedule_and_a_moment_of_two_comes_once() {
        let texts = ["0 9 * * 1-5", "0 9 1 * *", "*/30 * * * * *"];
        let table = Timetable::new(&texts[..2], TimeZone::UTC).unwrap();
        assert_eq!(
            moments(&table, "2026-05-29T08:00:00Z", 3), // a Friday; the first is a Monday
            ["2026-05-29T09:00:00Z", "2026-06-01T09:00:00Z", "2026-06-02T09:00:00Z"]
        );
        let table = Timetable::new(&texts[2..], TimeZone::UTC).unwrap();
        assert_eq!(moments(&table, "2026-05-29T08:00:01.5Z", 1), ["2026-05-29T08:00:30Z"]);
        assert_eq!(moments(&table, "2026-05-29T08:00:29.9Z", 1), ["2026-05-29T08:00:30Z"]);
        assert_eq!(moments(&table, "2026-05-29T08:00:30Z", 1), ["2026-05-29T08:01:00Z"]);
        assert_eq!(moments(&table, "2026-05-29T08:00:30.1Z", 1), ["2026-05-29T08:01:00Z"]);
    }

    #[test]
    fn words_mean_what_they_meant_in_agent_backup_core() {
        for (word, from, next) in [
            ("daily", "2026-05-27T12:00:00Z", "2026-05-28T00:00:00Z"),
            ("weekly", "2026-05-27T12:00:00Z", "2026-05-31T00:00:00Z"),
            ("@hourly", "2026-05-27T12:00:00Z", "2026-05-27T13:00:00Z"),
            ("monthly", "2026-05-27T12:00:00Z", "2026-06-01T00:00:00Z"),
        ] {
            assert_eq!(moments(&table(word, "UTC"), from, 1), [next], "{word}");
        }
    }

    #[test]
    fn a_text_that_is_no_schedule_or_never_comes_is_refused_with_its_words() {
        for text in ["", "sometimes", "61 * * * *", "* * *", "0 0 30 2 *", "0 0 * * 9"] {
            let error = Timetable::new(&[text], TimeZone::UTC).unwrap_err();
            assert!(error.to_string().starts_with(&format!("'{text}' is no schedule")), "{error}");
        }
    }

    #[test]
    fn overdue_is_two_intervals_also_across_a_night_without_moments() {
        let hourly = table("hourly", "UTC");
        assert_eq!(
            hourly.overdue_from(at("2026-05-27T10:05:00Z")),
            Some(at("2026-05-27T12:05:00Z"))
        );
        let office = table("0 9-17 * * *", "UTC");
        assert_eq!(
            office.overdue_from(at("2026-05-27T17:05:00Z")),
            Some(at("2026-05-28T10:00:00Z"))
        );
    }
}
