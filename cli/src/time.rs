//! Times on the command line.

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Nanoseconds of a second.
pub const SECOND: i64 = 1_000_000_000;
/// Nanoseconds of a day.
pub const DAY: i64 = 86_400 * SECOND;

/// A point in time, absolute or counted back from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeArgument {
    /// Nanoseconds since 1970.
    At(i64),
    /// Nanoseconds before now.
    Ago(i64),
}

/// Why a text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected RFC 3339 (2026-11-20T12:00:00Z), a date (2026-11-20) or a time ago (15m, 2h, 3d)"
)]
pub struct InvalidTime;

impl TimeArgument {
    /// The time in nanoseconds since 1970.
    pub fn resolve(self, now_nanos: i64) -> i64 {
        match self {
            Self::At(nanos) => nanos,
            Self::Ago(nanos) => now_nanos.saturating_sub(nanos),
        }
    }
}

impl FromStr for TimeArgument {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let text = text.trim();
        if let Some(nanos) = ago(text) {
            return Ok(Self::Ago(nanos));
        }
        let time = match text.parse::<Timestamp>() {
            Ok(time) => time,
            // A date that is followed by a time of day needs its offset too.
            Err(_) if text.len() == "2026-11-20".len() => text
                .parse::<Date>()
                .and_then(|date| date.to_zoned(TimeZone::UTC))
                .map_err(|_| InvalidTime)?
                .timestamp(),
            Err(_) => return Err(InvalidTime),
        };
        i64::try_from(time.as_nanosecond())
            .map(Self::At)
            .map_err(|_| InvalidTime)
    }
}

/// Reads `15m` or `15m ago`.
fn ago(text: &str) -> Option<i64> {
    let text = text.strip_suffix("ago").unwrap_or(text).trim_end();
    let unit = text.chars().next_back()?;
    let count: i64 = text.strip_suffix(unit)?.parse().ok()?;
    let nanos = match unit {
        's' => SECOND,
        'm' => 60 * SECOND,
        'h' => 3_600 * SECOND,
        'd' => DAY,
        'w' => 7 * DAY,
        _ => return None,
    };
    count.checked_mul(nanos).filter(|nanos| *nanos >= 0)
}

/// The present time in nanoseconds since 1970.
pub fn now_nanos() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// A duration for people, such as `1.25 ms` or `2 m 05 s`.
pub fn humanise(nanos: i64) -> String {
    let absolute = nanos.unsigned_abs();
    let sign = if nanos < 0 { "-" } else { "" };
    let scaled = |unit: f64, name| {
        let number = absolute as f64 / unit;
        let decimals = if number < 10.0 {
            2
        } else {
            usize::from(number < 100.0)
        };
        format!("{sign}{number:.decimals$} {name}")
    };
    match absolute {
        0..1_000 => format!("{sign}{absolute} ns"),
        1_000..1_000_000 => scaled(1e3, "µs"),
        1_000_000..1_000_000_000 => scaled(1e6, "ms"),
        1_000_000_000..60_000_000_000 => scaled(1e9, "s"),
        _ => {
            let seconds = absolute / SECOND.unsigned_abs();
            let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
            match hours {
                0 => format!("{sign}{minutes} m {seconds:02} s"),
                _ => format!("{sign}{hours} h {minutes:02} m"),
            }
        }
    }
}

/// A time for people: date and time of day in UTC, to the millisecond.
pub fn short(unix_nanos: i64) -> String {
    match Timestamp::from_nanosecond(i128::from(unix_nanos)) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        Err(_) => unix_nanos.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_ways_to_write_a_time() {
        for (text, expected) in [
            ("1970-01-02", TimeArgument::At(DAY)),
            (
                "1970-01-01T00:00:01.000000002Z",
                TimeArgument::At(SECOND + 2),
            ),
            ("1970-01-01T02:00:00+02:00", TimeArgument::At(0)),
            ("90s", TimeArgument::Ago(90 * SECOND)),
            ("15m", TimeArgument::Ago(900 * SECOND)),
            ("2h ago", TimeArgument::Ago(7_200 * SECOND)),
            ("3d", TimeArgument::Ago(3 * DAY)),
            ("1w", TimeArgument::Ago(7 * DAY)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "m",
            "-5m",
            "5y",
            "yesterday",
            "2026-13-01",
            "2026-11-20T12:00:00",
            "5",
            "99999999999d",
            "µ",
        ] {
            assert_eq!(text.parse::<TimeArgument>(), Err(InvalidTime), "{text}");
        }
        assert_eq!(TimeArgument::Ago(5).resolve(12), 7);
    }

    #[test]
    fn durations_for_people() {
        for (nanos, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_500, "1.50 µs"),
            (12_345_678, "12.3 ms"),
            (123_456_789, "123 ms"),
            (59_000_000_000, "59.0 s"),
            (125_000_000_000, "2 m 05 s"),
            (7_260_000_000_000, "2 h 01 m"),
            (-1_500_000, "-1.50 ms"),
        ] {
            assert_eq!(humanise(nanos), text);
        }
        assert_eq!(short(SECOND + 2_000_000), "1970-01-01 00:00:01.002");
    }
}
