//! What rows must fulfil, as far as ids and times tell.

use std::collections::BTreeSet;

use spanstore_format::TraceId;

use super::bounded::Limits;

/// What rows must fulfil, as far as ids and times tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Constraints {
    /// The trace is one of these.
    pub(crate) trace_ids: Option<BTreeSet<TraceId>>,
    /// The session is one of these.
    pub(crate) session_ids: Option<BTreeSet<String>>,
    /// The request is one of these.
    pub(crate) request_ids: Option<BTreeSet<String>>,
    /// Limits of the start, ns since 1970.
    pub(crate) starts: Limits,
}

impl Constraints {
    /// Limits of the start alone.
    pub(crate) fn starting(starts: Limits) -> Self {
        Self {
            starts,
            ..Self::default()
        }
    }

    /// Of rows that both hold for.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            trace_ids: intersection(self.trace_ids, other.trace_ids),
            session_ids: intersection(self.session_ids, other.session_ids),
            request_ids: intersection(self.request_ids, other.request_ids),
            starts: self.starts.and(other.starts),
        }
    }

    /// Of rows that one of the two holds for.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            trace_ids: union(self.trace_ids, other.trace_ids),
            session_ids: union(self.session_ids, other.session_ids),
            request_ids: union(self.request_ids, other.request_ids),
            starts: Limits {
                from: self.starts.from.min(other.starts.from),
                below: {
                    let both = self.starts.below.zip(other.starts.below);
                    both.map(|(one, two)| one.max(two))
                },
            },
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
