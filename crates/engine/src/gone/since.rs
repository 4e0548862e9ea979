//! Since when an entry is gone, as a name in a tree.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use minicbor::{Decode, Encode};

/// How the name of a time is written.
const FORM: &str = "%Y%m%dT%H%M%SZ";
/// The name of entries whose place could not be looked at.
const UNSEEN: &str = "unseen";
/// Times that have a name of the usual length: the years 0 to 9999, but for their last day, which the
/// library of times does not have.
const SECS: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_207_200;

/// Since when an entry is gone. Sorts as the names do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Since {
    /// The push that missed it; seconds since 1970.
    #[n(0)]
    At(#[n(0)] i64),
    /// Its place cannot be looked at: whether it is gone is not known.
    #[n(1)]
    Unseen,
}

impl Since {
    /// Its name in a tree.
    pub fn name(self) -> String {
        let Self::At(secs) = self else { return UNSEEN.to_owned() };
        let secs = secs.clamp(*SECS.start(), *SECS.end());
        let time = Timestamp::from_second(secs).unwrap_or_default();
        time.to_zoned(TimeZone::UTC).strftime(FORM).to_string()
    }

    /// The time of a name.
    pub fn parse(name: &[u8]) -> Option<Self> {
        let name = std::str::from_utf8(name).ok()?;
        if name == UNSEEN {
            return Some(Self::Unseen);
        }
        let time = jiff::civil::DateTime::strptime(FORM, name).ok()?;
        let secs = time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
        // one form only: names must sort as times do
        Some(Self::At(secs)).filter(|since| since.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_times_do_and_come_back() {
        let times = [i64::MIN, -1, 0, 1_795_000_000, 4_102_444_800, i64::MAX];
        let names: Vec<String> = times.iter().map(|secs| Since::At(*secs).name()).collect();
        assert!(names.is_sorted() && names.iter().all(|name| name.len() == 16), "{names:?}");
        assert!(names.last().unwrap() < &Since::Unseen.name());
        for since in [Since::At(1_795_000_000), Since::At(0), Since::Unseen] {
            assert_eq!(Since::parse(since.name().as_bytes()), Some(since));
        }
        for other in ["", "seen", "2026-01-02", "20260102T030405", "20261302T030405Z"] {
            assert_eq!(Since::parse(other.as_bytes()), None, "{other}");
        }
    }
}
