//! UTC calendar months, the unit of quota and of retention.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};

use crate::error::InvalidId;

/// A UTC calendar month; its text is `2026-11`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Month(u16);

const EXPECTED: &str = "a month such as 2026-11, from 1970-01 to 2262-04";

impl Month {
    /// The month that holds a time, given in nanoseconds since 1970; a
    /// negative time counts as 1970-01.
    pub fn of(unix_nanos: i64) -> Self {
        let time = Timestamp::from_nanosecond(i128::from(unix_nanos.max(0)))
            .unwrap_or(Timestamp::UNIX_EPOCH);
        let date = Offset::UTC.to_datetime(time);
        Self((date.year() - 1970) as u16 * 12 + date.month() as u16 - 1)
    }

    /// The month by its number: months since 1970-01.
    pub fn from_number(number: u16) -> Option<Self> {
        let month = Self(number);
        (month.year() < 2262 || (month.year() == 2262 && month.of_year() <= 4)).then_some(month)
    }

    /// Months since 1970-01.
    pub fn number(self) -> u16 {
        self.0
    }

    fn year(self) -> i16 {
        1970 + (self.0 / 12) as i16
    }

    fn of_year(self) -> i8 {
        (self.0 % 12) as i8 + 1
    }

    /// The first nanosecond of the month, since 1970.
    pub fn start_nanos(self) -> i64 {
        Date::new(self.year(), self.of_year(), 1)
            .and_then(|date| date.to_zoned(TimeZone::UTC))
            .map_or(i64::MAX, |zoned| {
                i64::try_from(zoned.timestamp().as_nanosecond()).unwrap_or(i64::MAX)
            })
    }

    /// The first nanosecond after the month, since 1970: when its quota resets.
    pub fn end_nanos(self) -> i64 {
        Self(self.0 + 1).start_nanos()
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year(), self.of_year())
    }
}

impl fmt::Debug for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Month({self})")
    }
}

impl FromStr for Month {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId::new("month", EXPECTED, text);
        let (year, month) = text.split_once('-').ok_or_else(invalid)?;
        if year.len() != 4 || month.len() != 2 {
            return Err(invalid());
        }
        let year: u16 = year.parse().map_err(|_| invalid())?;
        let month: u16 = month.parse().map_err(|_| invalid())?;
        if year < 1970 || !(1..=12).contains(&month) {
            return Err(invalid());
        }
        Self::from_number((year - 1970) * 12 + month - 1).ok_or_else(invalid)
    }
}

/// A time as RFC 3339 in UTC with nanoseconds, such as
/// `2026-11-20T22:27:00.000000001Z`.
pub fn rfc3339(unix_nanos: i64) -> String {
    match Timestamp::from_nanosecond(i128::from(unix_nanos)) {
        Ok(time) => format!("{time:.9}"),
        Err(_) => format!("{unix_nanos}ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_text() {
        let month: Month = "2026-11".parse().unwrap();
        assert_eq!(month.to_string(), "2026-11");
        assert_eq!(
            rfc3339(month.start_nanos()),
            "2026-11-01T00:00:00.000000000Z"
        );
        assert_eq!(rfc3339(month.end_nanos()), "2026-12-01T00:00:00.000000000Z");
        assert_eq!(Month::of(month.start_nanos()), month);
        assert_eq!(Month::of(month.end_nanos() - 1), month);
        assert_eq!(Month::of(month.end_nanos()).to_string(), "2026-12");
        for bad in [
            "2026-13",
            "2026-1",
            "26-11",
            "2026-00",
            "1969-12",
            "2300-01",
            "2026-11-01",
        ] {
            assert!(bad.parse::<Month>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_month_of_the_range_holds_its_borders() {
        for number in 0..=Month::of(i64::MAX).number() {
            let month = Month::from_number(number).unwrap();
            assert_eq!(Month::of(month.start_nanos()), month);
            assert_eq!(month.to_string().parse(), Ok(month));
            if month.end_nanos() < i64::MAX {
                assert_eq!(Month::of(month.end_nanos() - 1), month);
            }
        }
        assert_eq!(Month::of(-5).number(), 0);
    }
}
