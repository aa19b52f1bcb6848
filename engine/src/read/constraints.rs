//! What rows must fulfil, as far as ids and times tell.

use std::collections::BTreeSet;

use spanstore_format::TraceId;

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
    /// Whether rows whose starts lie between these may lie within the bounds.
    pub(crate) fn overlap(self, first: i64, last: i64) -> bool {
        self.since.is_none_or(|since| last >= since) && self.until.is_none_or(|until| first < until)
    }
}

impl Constraints {
    /// Bounds of the start alone.
    pub(crate) fn starting(since: Option<i64>, until: Option<i64>) -> Self {
        Self {
            since,
            until,
            ..Self::default()
        }
    }

    /// Bounds of the start.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            since: self.since,
            until: self.until,
        }
    }

    /// Of rows that both hold for.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            trace_ids: intersection(self.trace_ids, other.trace_ids),
            session_ids: intersection(self.session_ids, other.session_ids),
            request_ids: intersection(self.request_ids, other.request_ids),
            since: self.since.max(other.since),
            until: match (self.until, other.until) {
                (Some(one), Some(two)) => Some(one.min(two)),
                (one, two) => one.or(two),
            },
        }
    }

    /// Of rows that one of the two holds for.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            trace_ids: union(self.trace_ids, other.trace_ids),
            session_ids: union(self.session_ids, other.session_ids),
            request_ids: union(self.request_ids, other.request_ids),
            since: self.since.zip(other.since).map(|(one, two)| one.min(two)),
            until: self.until.zip(other.until).map(|(one, two)| one.max(two)),
        }
    }
}

fn intersection<T: Ord>(one: Option<BTreeSet<T>>, two: Option<BTreeSet<T>>) -> Option<BTreeSet<T>> {
    match (one, two) {
        (Some(one), Some(mut two)) => {
            two.retain(|value| one.contains(value));
            Some(two)
        }
        (one, two) => one.or(two),
    }
}

fn union<T: Ord>(one: Option<BTreeSet<T>>, two: Option<BTreeSet<T>>) -> Option<BTreeSet<T>> {
    let (mut one, two) = (one?, two?);
    one.extend(two);
    Some(one)
}
