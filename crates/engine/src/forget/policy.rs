//! Retention policies: which moments are kept, as restic's `forget` decides it. Pure.
//!
//! In: times and tags of the snapshots of one group, newest first. Out: for each the reasons why it is
//! kept; none: it goes. `--keep-daily 7` keeps the newest snapshot of each of the last seven days
//! that have one; days without snapshots do not count. If fewer days have snapshots than are to be
//! kept, the oldest snapshot is kept too: history stays as long as the rule allows. Every rule looks at
//! all snapshots, and one that any rule keeps is kept.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// Snapshots that a rule keeps, at most; [`UNLIMITED`] for all.
pub type Count = usize;

/// No bound.
pub const UNLIMITED: Count = usize::MAX;

/// What to keep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest so many.
    pub last: Count,
    /// The newest of so many hours.
    pub hourly: Count,
    /// The newest of so many days.
    pub daily: Count,
    /// The newest of so many weeks, Monday to Sunday.
    pub weekly: Count,
    /// The newest of so many months.
    pub monthly: Count,
    /// The newest of so many years.
    pub yearly: Count,
    /// All that are so much older than the newest one, at most.
    pub within: Option<Within>,
    /// All that have one of these tags.
    pub tags: Vec<String>,
}

/// One of the rules that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Every snapshot counts.
    Last,
    /// One an hour.
    Hourly,
    /// One a day.
    Daily,
    /// One a week.
    Weekly,
    /// One a month.
    Monthly,
    /// One a year.
    Yearly,
}

const RULES: [Rule; 6] =
    [Rule::Last, Rule::Hourly, Rule::Daily, Rule::Weekly, Rule::Monthly, Rule::Yearly];

/// Why a snapshot is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is the newest of its hour, day, ...
    Rule(Rule),
    /// It is the oldest there is, and the rule is not used up.
    Oldest(Rule),
    /// It is new enough.
    Within,
    /// It has this tag.
    Tag(String),
    /// It is pinned.
    Pinned,
    /// It was made before something was replaced or removed.
    Safety,
    /// The newest of its machine, and it keeps what is gone from its source.
    Archive,
    /// The last one in which this database is not damaged.
    Healthy(Vec<u8>),
}

/// A snapshot as a policy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// When it was made.
    pub time: Timestamp,
    /// Its tags.
    pub tags: Vec<String>,
}

/// A stretch of time in calendar units: `30d`, `1y5m7d2h`. A month is `m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Within {
    years: i64,
    months: i64,
    days: i64,
    hours: i64,
}

impl Policy {
    /// It keeps nothing, whatever there is.
    pub fn is_empty(&self) -> bool {
        RULES.iter().all(|rule| self.count(*rule) == 0)
            && self.within.is_none()
            && self.tags.is_empty()
    }

    fn count(&self, rule: Rule) -> Count {
        match rule {
            Rule::Last => self.last,
            Rule::Hourly => self.hourly,
            Rule::Daily => self.daily,
            Rule::Weekly => self.weekly,
            Rule::Monthly => self.monthly,
            Rule::Yearly => self.yearly,
        }
    }

    /// Why each of these, newest first, is kept. Hours, days, weeks begin as they do in `zone`.
    pub fn reasons(&self, moments: &[Moment], zone: &TimeZone) -> Vec<Vec<Reason>> {
        let mut left = RULES.map(|rule| (rule, self.count(rule), None));
        let newest = moments.first().map(|moment| moment.time);
        let since = newest.zip(self.within).map(|(newest, within)| within.before(newest, zone));
        let reasons = |(at, moment): (usize, &Moment)| {
            let mut reasons = Vec::new();
            for (rule, count, last) in &mut left {
                if *count == 0 {
                    continue;
                }
                let bucket = Some(bucket(*rule, at, moment.time, zone));
                let is_new = bucket != *last;
                if is_new || at + 1 == moments.len() {
                    reasons.push(if is_new { Reason::Rule(*rule) } else { Reason::Oldest(*rule) });
                    *last = bucket;
                    *count = if *count == UNLIMITED { UNLIMITED } else { *count - 1 };
                }
            }
            if since.is_some_and(|since| since.is_none_or(|since| moment.time > since)) {
                reasons.push(Reason::Within);
            }
            let tag = self.tags.iter().find(|tag| moment.tags.contains(tag));
            reasons.extend(tag.cloned().map(Reason::Tag));
            reasons
        };
        moments.iter().enumerate().map(reasons).collect()
    }
}

/// Two moments are of one hour, day, ... if this is the same for both.
fn bucket(rule: Rule, at: usize, time: Timestamp, zone: &TimeZone) -> [i64; 3] {
    let local = time.to_zoned(zone.clone());
    let (year, month) = (i64::from(local.year()), i64::from(local.month()));
    match rule {
        Rule::Last => [i64::try_from(at).unwrap_or(i64::MAX), 0, 0],
        Rule::Hourly => {
            let day = i64::from(local.day_of_year());
            // the hour that comes twice when summer time ends is two hours
            [year, day * 24 + i64::from(local.hour()), i64::from(local.offset().seconds())]
        }
        Rule::Daily => [year, i64::from(local.day_of_year()), 0],
        Rule::Weekly => {
            let week = local.date().iso_week_date();
            [i64::from(week.year()), i64::from(week.week()), 0]
        }
        Rule::Monthly => [year, month, 0],
        Rule::Yearly => [year, 0, 0],
    }
}

impl Within {
    /// So long before a moment, by the calendar; none: before all time.
    fn before(self, time: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let span = Span::new()
            .try_years(self.years)
            .and_then(|span| span.try_months(self.months))
            .and_then(|span| span.try_days(self.days))
            .and_then(|span| span.try_hours(self.hours))
            .ok()?;
        Some(time.to_zoned(zone.clone()).checked_sub(span).ok()?.timestamp())
    }
}

impl FromStr for Within {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("'{text}' is not a stretch of time; write 30d, 12h or 1y5m7d2h");
        let mut within = Self { years: 0, months: 0, days: 0, hours: 0 };
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
            let number: i64 = rest[..digits].parse().map_err(|_| bad())?;
            let unit = match rest.as_bytes()[digits] {
                b'y' => &mut within.years,
                b'm' => &mut within.months,
                b'd' => &mut within.days,
                b'h' => &mut within.hours,
                _ => return Err(bad()),
            };
            *unit = unit.checked_add(number).ok_or_else(bad)?;
            rest = &rest[digits + 1..];
        }
        let is_zero = [within.years, within.months, within.days, within.hours] == [0; 4];
        if is_zero { Err(bad()) } else { Ok(within) }
    }
}

impl Rule {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        }
    }
}

/// In words; a path in them is escaped.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => f.write_str(rule.word()),
            Self::Oldest(rule) => write!(f, "oldest {}", rule.word()),
            Self::Within => f.write_str("within"),
            Self::Tag(tag) => write!(f, "tag {tag}"),
            Self::Pinned => f.write_str("pinned"),
            Self::Safety => f.write_str("safety"),
            Self::Archive => f.write_str("keeps what is gone"),
            Self::Healthy(path) => write!(f, "last healthy {}", path.escape_ascii()),
        }
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
