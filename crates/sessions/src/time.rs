//! Times as agents write them: RFC 3339, SQLite's `CURRENT_TIMESTAMP`, and numbers of four units.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value;

/// Milliseconds since 1970. A number is in seconds, milliseconds, microseconds or nanoseconds, by
/// its size: each unit covers the years 1973 to 5138.
pub fn parse_time(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => {
            let number = number.as_i64().or_else(|| number.as_f64().and_then(whole))?;
            from_number(number)
        }
        Value::String(text) => {
            if let Ok(number) = text.parse::<i64>() {
                return from_number(number);
            }
            if let Ok(time) = text.parse::<Timestamp>() {
                return Some(time.as_millisecond());
            }
            // without an offset it is UTC, as SQLite writes it
            let civil = text.parse::<DateTime>().ok()?;
            Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond())
        }
        _ => None,
    }
}

#[allow(clippy::cast_possible_truncation, reason = "checked to be in range")]
fn whole(number: f64) -> Option<i64> {
    (number.is_finite() && number.abs() < 9.0e18).then_some((number * 1000.0) as i64 / 1000)
}

fn from_number(number: i64) -> Option<i64> {
    let millis = match number {
        100_000_000_000_000_000.. => number / 1_000_000,
        100_000_000_000_000.. => number / 1000,
        100_000_000_000.. => number,
        1.. => number * 1000,
        _ => return None,
    };
    Timestamp::from_millisecond(millis).ok().map(Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_way_an_agent_writes_a_time_is_the_same_moment() {
        let moment = Some(1_793_440_800_000);
        for value in [
            json!("2026-10-31T10:00:00Z"),
            json!("2026-10-31T10:00:00.000Z"),
            json!("2026-10-31T12:00:00+02:00"),
            json!("2026-10-31 10:00:00"),
            json!(1_793_440_800),
            json!(1_793_440_800.0),
            json!(1_793_440_800_000_i64),
            json!(1_793_440_800_000_000_i64),
            json!(1_793_440_800_000_000_000_i64),
            json!("1793440800000"),
        ] {
            assert_eq!(parse_time(&value), moment, "{value}");
        }
        for value in [json!("soon"), json!(null), json!(0), json!(-5), json!([1])] {
            assert_eq!(parse_time(&value), None, "{value}");
        }
    }
}
