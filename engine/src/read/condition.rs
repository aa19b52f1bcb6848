//! Conditions on rows, and what must hold for rows that fulfil them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use spanstore_format::TraceId;
use spanstore_format::segment::Column;

use crate::error::Error;

/// A condition on the values of some columns.
pub(crate) trait Predicate: fmt::Debug + Send + Sync {
    /// For each row of a batch with these columns, whether the condition is true, false or
    /// null.
    ///
    /// # Errors
    /// What its evaluation answers.
    fn holds(&self, rows: &RecordBatch) -> Result<BooleanArray, Error>;

    /// The condition as text, for people.
    fn text(&self) -> String;
}

/// A condition that only values tell.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    /// The columns that it is over, in the order in which it expects them.
    pub(crate) columns: Vec<Column>,
    pub(crate) predicate: Arc<dyn Predicate>,
    /// What must hold where it does.
    pub(crate) necessary: Constraints,
}

impl Leaf {
    /// Tells it from the other leaves of a condition.
    pub(crate) fn key(&self) -> usize {
        Arc::as_ptr(&self.predicate).cast::<()>().addr()
    }
}

/// A condition on rows. For each row it is true, false or null, as in SQL.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    /// All of these; true when there is none.
    And(Vec<Self>),
    /// One of these; false when there is none.
    Or(Vec<Self>),
    /// The opposite.
    Not(Box<Self>),
    /// The start lies at or after this, ns since 1970.
    Since(i64),
    /// The start lies before this, ns since 1970.
    Until(i64),
    /// A condition, and what must hold where it does.
    Implying(Box<Self>, Constraints),
    /// A condition that only values tell.
    Leaf(Leaf),
}

/// For people, in one line.
impl fmt::Display for Condition {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, word) = match self {
            Self::And(parts) if parts.is_empty() => return out.write_str("every span"),
            Self::Or(parts) if parts.is_empty() => return out.write_str("no span"),
            Self::And(parts) => (parts, " and "),
            Self::Or(parts) => (parts, " or "),
            Self::Not(one) => return write!(out, "not ({one})"),
            Self::Since(time) => return write!(out, "start_time >= {time}"),
            Self::Until(time) => return write!(out, "start_time < {time}"),
            Self::Implying(one, _) => return one.fmt(out),
            Self::Leaf(leaf) => return out.write_str(&leaf.predicate.text()),
        };
        for (number, part) in parts.iter().enumerate() {
            if number > 0 {
                out.write_str(word)?;
            }
            if parts.len() == 1 {
                part.fmt(out)?;
            } else {
                write!(out, "({part})")?;
            }
        }
        Ok(())
    }
}

/// What rows must fulfil, as far as ids and times tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Constraints {
    /// The trace is one of these.
    pub(crate) trace_ids: Option<BTreeSet<TraceId>>,
    /// The session is one of these.
    pub(crate) session_ids: Option<BTreeSet<String>>,
    /// The request is one of these.
    pub(crate) request_ids: Option<BTreeSet<String>>,
    /// The start lies at or after this, ns since 1970.
    pub(crate) since: Option<i64>,
    /// The start lies before this, ns since 1970.
    pub(crate) until: Option<i64>,
}

/// Bounds of the start of rows: at or after, and before; ns since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) since: Option<i64>,
    pub(crate) until: Option<i64>,
}

impl Bounds {
    fn and(self, other: Self) -> Self {
        let until = match (self.until, other.until) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let since = self.since.max(other.since);
        Self { since, until }
    }

    fn or(self, other: Self) -> Self {
        Self {
            since: self.since.zip(other.since).map(|(one, two)| one.min(two)),
            until: self.until.zip(other.until).map(|(one, two)| one.max(two)),
        }
    }

    /// Whether rows whose starts lie between these may lie within the bounds.
    pub(crate) fn overlap(self, first: i64, last: i64) -> bool {
        self.since.is_none_or(|since| last >= since) && self.until.is_none_or(|until| first < until)
    }
}

impl Constraints {
    /// Bounds of the start.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            since: self.since,
            until: self.until,
        }
    }
}

impl Condition {
    /// The condition that is true for every row.
    pub(crate) fn always() -> Self {
        Self::And(Vec::new())
    }

    /// The condition without those of its terms, joined by `and`, that are over a column
    /// alone. The column must not be one of ids or times, which [`Constraints`] tell of.
    pub(crate) fn without(&self, column: &Column) -> Self {
        match self {
            Self::And(all) => {
                let others = all.iter().filter(|term| !term.is_over(column));
                Self::And(others.map(|term| term.without(column)).collect())
            }
            Self::Implying(one, necessary) => {
                Self::Implying(Box::new(one.without(column)), necessary.clone())
            }
            term if term.is_over(column) => Self::always(),
            other => other.clone(),
        }
    }

    /// Whether [`Condition::without`] leaves something out.
    pub(crate) fn has_term_over(&self, column: &Column) -> bool {
        match self {
            Self::And(all) => all.iter().any(|term| term.has_term_over(column)),
            Self::Implying(one, _) => one.has_term_over(column),
            term => term.is_over(column),
        }
    }

    /// Whether it asks for the values of this column, and for nothing else.
    fn is_over(&self, column: &Column) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) => {
                !parts.is_empty() && parts.iter().all(|part| part.is_over(column))
            }
            Self::Not(one) | Self::Implying(one, _) => one.is_over(column),
            Self::Since(_) | Self::Until(_) => false,
            Self::Leaf(leaf) => leaf.columns.as_slice() == std::slice::from_ref(column),
        }
    }

    /// Bounds of the start of rows that fulfil it.
    pub(crate) fn bounds(&self) -> Bounds {
        match self {
            Self::Since(since) => Bounds {
                since: Some(*since),
                until: None,
            },
            Self::Until(until) => Bounds {
                since: None,
                until: Some(*until),
            },
            Self::And(all) => all
                .iter()
                .map(Self::bounds)
                .fold(Bounds::default(), Bounds::and),
            Self::Or(any) => {
                let bounds = any.iter().map(Self::bounds).reduce(Bounds::or);
                bounds.unwrap_or_default()
            }
            Self::Implying(one, necessary) => one.bounds().and(necessary.bounds()),
            Self::Leaf(leaf) => leaf.necessary.bounds(),
            Self::Not(_) => Bounds::default(),
        }
    }
}
