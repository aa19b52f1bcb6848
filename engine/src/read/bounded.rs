//! Numbers that each span has, of which segments know the bounds page by page.

use arrow::array::RecordBatch;
use spanstore_format::FormatError;
use spanstore_format::span::SpanColumn;

/// A number that each span has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bounded {
    /// The start, ns since 1970.
    Start,
    /// The duration, ns.
    Duration,
}

impl Bounded {
    /// The number that a column has, if its bounds are known.
    pub(crate) fn of(column: SpanColumn) -> Option<Self> {
        match column {
            SpanColumn::StartTime => Some(Self::Start),
            SpanColumn::Duration => Some(Self::Duration),
            _ => None,
        }
    }

    pub(crate) fn column(self) -> SpanColumn {
        match self {
            Self::Start => SpanColumn::StartTime,
            Self::Duration => SpanColumn::Duration,
        }
    }

    /// The name of its column.
    pub(crate) fn name(self) -> &'static str {
        self.column().name()
    }

    /// The numbers of rows.
    pub(crate) fn numbers(self, rows: &RecordBatch) -> Result<&[i64], FormatError> {
        Ok(match self {
            Self::Start => SpanColumn::StartTime.times(rows)?.values(),
            Self::Duration => SpanColumn::Duration.int64s(rows)?.values(),
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
