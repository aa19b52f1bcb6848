//! The memory that queries take, as far as they account for it: one pool for
//! each query, within one for all queries of a store.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use datafusion::common::DataFusionError as Refusal;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};

use crate::error::Error;

/// Bytes taken of a limit.
#[derive(Debug)]
pub(super) struct Budget {
    /// The option that sets the limit.
    option: &'static str,
    limit: usize,
    taken: AtomicUsize,
}

impl Budget {
    pub(super) fn new(option: &'static str, limit: usize) -> Self {
        Self {
            option,
            limit,
            taken: AtomicUsize::new(0),
        }
    }

    fn try_take(&self, bytes: usize) -> bool {
        let more = |taken: usize| {
            let taken = taken.checked_add(bytes)?;
            (taken <= self.limit).then_some(taken)
        };
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    fn take(&self, bytes: usize) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The pool of one query. First come, first served: nothing spills to disk, so
/// holding memory back for other operators would only waste it.
#[derive(Debug)]
pub(super) struct QueryPool {
    own: Budget,
    shared: Arc<Budget>,
    /// Whether it was the shared budget that refused last.
    was_shared: AtomicBool,
}

impl QueryPool {
    pub(super) fn new(limit: usize, shared: &Arc<Budget>) -> Self {
        Self {
            own: Budget::new("QueryLimits::memory_bytes", limit),
            shared: Arc::clone(shared),
            was_shared: AtomicBool::new(false),
        }
    }

    /// Operators know what to do with this form of error.
    fn refused(&self, reservation: &MemoryReservation, bytes: usize, by: &Budget) -> Refusal {
        let is_shared = std::ptr::eq(by, Arc::as_ptr(&self.shared));
        self.was_shared.store(is_shared, Ordering::Relaxed);
        let who = reservation.consumer().name();
        Refusal::ResourcesExhausted(format!("{}: {who} needs {bytes} bytes more", by.option))
    }

    /// The typed form of the error of a query that took all of its memory.
    /// Operators put texts of their own in place of the refusal's.
    pub(super) fn explain(&self, error: Refusal) -> Refusal {
        if !matches!(error.find_root(), Refusal::ResourcesExhausted(_)) {
            return error;
        }
        let by = if self.was_shared.load(Ordering::Relaxed) {
            &*self.shared
        } else {
            &self.own
        };
        Refusal::External(Box::new(Error::QueryMemory {
            pool: by.option,
            limit: by.limit as u64,
        }))
    }
}

impl fmt::Display for QueryPool {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} of {} bytes", self.own.option, self.own.limit)
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &'static str {
        "spanstore"
    }

    fn grow(&self, _: &MemoryReservation, additional: usize) {
        self.own.take(additional);
        self.shared.take(additional);
    }

    fn shrink(&self, _: &MemoryReservation, bytes: usize) {
        self.own.give_back(bytes);
        self.shared.give_back(bytes);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        if !self.own.try_take(additional) {
            return Err(self.refused(reservation, additional, &self.own));
        }
        if !self.shared.try_take(additional) {
            self.own.give_back(additional);
            return Err(self.refused(reservation, additional, &self.shared));
        }
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.own.taken.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.own.limit)
    }
}

/// Memory that the store's own parts of a query take.
#[derive(Debug)]
pub(super) struct Held {
    reservation: MemoryReservation,
}

impl Held {
    /// None yet.
    pub(super) fn nothing(pool: &Arc<dyn MemoryPool>, what: &'static str) -> Self {
        Self {
            reservation: MemoryConsumer::new(what).register(pool),
        }
    }

    /// Holds so many bytes in place of those before.
    pub(super) fn set(&self, bytes: usize) -> Result<()> {
        self.reservation.try_resize(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_hold_and_what_was_refused_is_not_taken() {
        let shared = Arc::new(Budget::new("all", 100));
        let pool = || Arc::new(QueryPool::new(70, &shared));
        let (first, second) = (pool(), pool());
        let held = |pool: &Arc<QueryPool>| {
            Held::nothing(&(Arc::clone(pool) as Arc<dyn MemoryPool>), "rows")
        };
        let refused = |pool: &QueryPool, error: Refusal| match Error::from(
            pool.explain(error.context("while sorting")),
        ) {
            Error::QueryMemory { pool, limit } => (pool, limit),
            other => panic!("{other:?}"),
        };
        let (one, other) = (held(&first), held(&second));
        one.set(70).unwrap();
        let error = one.set(71).unwrap_err();
        assert_eq!(refused(&first, error), ("QueryLimits::memory_bytes", 70));
        other.set(30).unwrap();
        let error = other.set(31).unwrap_err();
        assert_eq!(refused(&second, error), ("all", 100));
        drop(one);
        other.set(70).unwrap();
        assert_eq!(shared.taken.load(Ordering::Relaxed), 70);
        drop(other);
        assert_eq!(shared.taken.load(Ordering::Relaxed), 0);
        assert_eq!(second.reserved(), 0);
    }
}
