//! Times of snapshots and files for people (local time) and for programs (RFC 3339, UTC).

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Nanoseconds since 1970 as local time, to the second.
pub(crate) fn show_nanos(nanos: i64) -> String {
    show(Timestamp::from_nanosecond(i128::from(nanos)).ok())
}

/// Seconds since 1970 as local time, to the second.
pub(crate) fn show_secs(secs: i64) -> String {
    show(Timestamp::from_second(secs).ok())
}

fn show(time: Option<Timestamp>) -> String {
    let Some(time) = time else { return "?".to_owned() };
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A time of the store's clock as local time, to the second.
pub(crate) fn show_system(time: SystemTime) -> String {
    show(Timestamp::try_from(time).ok())
}

/// A time of the store's clock as RFC 3339.
pub(crate) fn rfc3339_system(time: SystemTime) -> Option<String> {
    Timestamp::try_from(time).ok().map(|time| time.to_string())
}

/// Nanoseconds since 1970 as RFC 3339; none for a time that no calendar has.
pub(crate) fn rfc3339_nanos(nanos: i64) -> Option<String> {
    Timestamp::from_nanosecond(i128::from(nanos)).ok().map(|time| time.to_string())
}

/// Seconds and nanoseconds since 1970 as RFC 3339; none for a time that no calendar has.
pub(crate) fn rfc3339(secs: i64, nanos: u32) -> Option<String> {
    let time = i128::from(secs) * 1_000_000_000 + i128::from(nanos);
    Timestamp::from_nanosecond(time).ok().map(|time| time.to_string())
}

/// Milliseconds since 1970 as RFC 3339; none for a time that no calendar has.
pub(crate) fn rfc3339_millis(millis: i64) -> Option<String> {
    Timestamp::from_millisecond(millis).ok().map(|time| time.to_string())
}

/// Milliseconds since 1970 as local time, to the minute.
pub(crate) fn show_millis(millis: i64) -> String {
    let Ok(time) = Timestamp::from_millisecond(millis) else { return "?".to_owned() };
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
}

/// Reads a moment: a day of this place, a time, or how long ago. Milliseconds since 1970.
pub(crate) fn parse_moment(text: &str) -> Result<i64, String> {
    if let Ok(span) = parse_span(text) {
        let ago = Timestamp::now().checked_sub(span).map_err(|e| format!("'{text}': {e}"))?;
        return Ok(ago.as_millisecond());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_millisecond());
    }
    let day = text.parse::<jiff::civil::Date>().ok();
    let start = day.and_then(|day| day.to_zoned(TimeZone::system()).ok());
    let start = start.ok_or_else(|| {
        format!(
            "'{text}' is not a time; write 2026-10-31, 2026-10-31T10:00:00Z, or 30d for 30 days ago"
        )
    })?;
    Ok(start.timestamp().as_millisecond())
}

/// Reads a stretch of time: `90`, `90s`, `30m`, `2h`, `1d`.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let bad = || format!("'{text}' is not a time; write 90s, 30m, 2h or 1d");
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let secs = match unit.trim() {
        "" | "s" | "sec" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(secs).map(Duration::from_secs).ok_or_else(bad)
}

/// A stretch of time: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`.
pub(crate) fn show_span(nanos: i64) -> String {
    let tenths = nanos.max(0) / 100_000_000;
    let secs = tenths / 10;
    match secs {
        0..10 => format!("{secs}.{} s", tenths % 10),
        10..60 => format!("{secs} s"),
        60..3600 => format!("{} min {} s", secs / 60, secs % 60),
        _ => format!("{} h {} min", secs / 3600, secs % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_get_utc_and_odd_times_do_not_panic() {
        assert_eq!(rfc3339_nanos(0).unwrap(), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(-1, 500_000_000).unwrap(), "1969-12-31T23:59:59.5Z");
        assert_eq!(rfc3339(i64::MAX, 0), None);
        assert_eq!(show_secs(i64::MIN), "?");
        assert!(rfc3339_nanos(i64::MIN).is_some());
    }

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, secs) in [("90", 90), ("90s", 90), ("30m", 1800), ("2 h", 7200), ("1d", 86_400)]
        {
            assert_eq!(parse_span(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        for text in ["", "h", "-1", "1.5h", "2 weeks", "99999999999999999999"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_use_the_unit_a_person_would_choose() {
        let second = 1_000_000_000;
        for (nanos, shown) in [
            (-5, "0.0 s"),
            (450_000_000, "0.4 s"),
            (12 * second, "12 s"),
            (200 * second, "3 min 20 s"),
            (7500 * second, "2 h 5 min"),
        ] {
            assert_eq!(show_span(nanos), shown);
        }
    }
}
