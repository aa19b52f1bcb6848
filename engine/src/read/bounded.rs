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

/// Bounds that every number lies in.
pub(super) const ANY: (i64, i64) = (i64::MIN, i64::MAX);

/// Whether numbers between two are all at least a limit, or all below it; none when some
/// are and some are not, as far as it is known.
pub(super) fn side(least: i64, greatest: i64, limit: i64) -> Option<bool> {
    if least >= limit {
        Some(true)
    } else if greatest < limit {
        Some(false)
    } else {
        None
    }
}
