//! Numbers that each row has, of which segments know the bounds page by page.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use spanstore_format::FormatError;
use spanstore_format::table::Table;

/// A number that each row has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bounded {
    /// The start, ns since 1970.
    Start,
    /// The duration, ns.
    Duration,
    /// How many spans a request has.
    Spans,
    /// How many of them are errors.
    Errors,
    /// The sequence of the append that brought a span.
    Sequence,
    /// The greatest sequence of a span of a request.
    LastSequence,
}

impl Bounded {
    /// The number that a column has, if conditions and orders on it are followed by bounds.
    pub(crate) fn of(column: &str) -> Option<Self> {
        let all = [Self::Start, Self::Duration, Self::Spans, Self::Errors];
        all.into_iter().find(|one| one.name() == column)
    }

    /// The name of its column.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Start => "start_time",
            Self::Duration => "duration",
            Self::Spans => "spans",
            Self::Errors => "errors",
            Self::Sequence => "sequence",
            Self::LastSequence => "last_sequence",
        }
    }

    /// The place of its column in a table that has it.
    pub(crate) fn place(self, table: &Table) -> usize {
        match self {
            Self::Start => table.roles().start,
            // No table has a column at the end of all places, so one without it is told.
            _ => table.place_of(self.name()).unwrap_or(usize::MAX),
        }
    }

    /// The numbers of rows.
    pub(crate) fn numbers(self, rows: &RecordBatch) -> Result<&[i64], FormatError> {
        let column = rows.column_by_name(self.name());
        let numbers = column.and_then(|column| match self {
            Self::Start => {
                let times = column.as_primitive_opt::<TimestampNanosecondType>()?;
                Some(times.values())
            }
            _ => Some(column.as_primitive_opt::<Int64Type>()?.values()),
        });
        let numbers = numbers.map(|numbers| &**numbers);
        numbers.ok_or_else(|| {
            let expected = format!("numbers in the column {}", self.name());
            FormatError::malformed("columns", 0, expected, "none")
        })
    }
}

/// Limits of a number: at least `from`, and less than `below`; none where there is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) from: Option<i64>,
    pub(crate) below: Option<i64>,
}

impl Limits {
    pub(crate) fn from(from: i64) -> Self {
        let from = Some(from);
        Self { from, below: None }
    }

    pub(crate) fn below(below: i64) -> Self {
        let below = Some(below);
        Self { from: None, below }
    }

    /// Limits that both hold.
    pub(crate) fn and(self, other: Self) -> Self {
        let below = match (self.below, other.below) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        let from = self.from.max(other.from);
        Self { from, below }
    }

    pub(crate) fn hold(self, number: i64) -> bool {
        self.overlap(number, number)
    }

    /// Whether numbers between two may lie within.
    pub(crate) fn overlap(self, least: i64, greatest: i64) -> bool {
        self.from.is_none_or(|from| greatest >= from)
            && self.below.is_none_or(|below| least < below)
    }

    /// Whether numbers between two all lie within, or all outside; none when it is not known.
    pub(super) fn hold_all(self, least: i64, greatest: i64) -> Option<bool> {
        if !self.overlap(least, greatest) {
            Some(false)
        } else if self.hold(least) && self.hold(greatest) {
            Some(true)
        } else {
            None
        }
    }
}

/// Bounds that every number lies in.
pub(super) const ANY: (i64, i64) = (i64::MIN, i64::MAX);
