//! Sizes in binary units, both ways.

/// A count of bytes for people: `312 B`, `1.4 KiB`, `27.0 GiB`.
pub(crate) fn show(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // tenths of the unit, rounded; integers all the way, so that no digit is made up
    let mut unit = 0;
    let mut scale = 1024_u128;
    let tenths = |scale: u128| (u128::from(bytes) * 10 + scale / 2) / scale;
    while tenths(scale) >= 10_240 && unit + 1 < UNITS.len() {
        unit += 1;
        scale *= 1024;
    }
    let tenths = tenths(scale);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Reads `4096`, `512K`, `1.5MiB`, `2 GB`: all units are binary.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let bad = || format!("'{text}' is not a size; write 4096, 512K, 1.5MiB or 2G");
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if matches!(unit.as_str(), "" | "b") => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(bad()),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && part.is_empty()) || part.contains('.') || part.len() > 6 {
        return Err(bad());
    }
    let digits = |text: &str| if text.is_empty() { Ok(0) } else { text.parse::<u128>() };
    let (whole, fraction) = (digits(whole).map_err(|_| bad())?, digits(part).map_err(|_| bad())?);
    let places = 10_u128.pow(u32::try_from(part.len()).map_err(|_| bad())?);
    let bytes = whole
        .checked_mul(1 << shift)
        .and_then(|bytes| bytes.checked_add((fraction << shift) / places))
        .ok_or_else(bad)?;
    u64::try_from(bytes).map_err(|_| bad())
}

/// Reads a rate in bytes a second: a size, with or without `/s`; zero would never end.
pub(crate) fn parse_rate(text: &str) -> Result<u64, String> {
    let size = text.trim().strip_suffix("/s").unwrap_or(text);
    match parse(size) {
        Ok(0) => Err("a rate of 0 would never end".to_owned()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_the_unit_a_person_would_choose() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1.0 MiB"),
            (1 << 20, "1.0 MiB"),
            (27 << 30, "27.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(show(bytes), shown, "{bytes}");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("10b", 10),
            ("512K", 512 << 10),
            ("1.5MiB", 3 << 19),
            (" 2 gb ", 2 << 30),
            ("1TiB", 1 << 40),
            (".5k", 512),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_and_not_guessed() {
        for text in ["", "K", "-1", "1,5M", "1.2.3M", "5 apples", "1i", "ib", "99999999999T", "1e9"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_may_say_per_second_and_is_never_zero() {
        assert_eq!(parse_rate("2MiB/s"), Ok(2 << 20));
        assert_eq!(parse_rate("300k"), Ok(300 << 10));
        assert!(parse_rate("0").is_err());
        assert!(parse_rate("0.0001").is_err());
    }
}
