//! Work that may be done on several threads: this crate hands it out and starts none.

use std::fmt::Debug;

/// A piece of work that any thread can do.
pub type Job<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Does jobs on threads of its own, or on that of the caller.
pub trait Workers: Debug + Send + Sync {
    /// Does all of these jobs, in any order, and returns when they are done.
    fn work(&self, jobs: Vec<Job<'_>>);
}

/// Rows from which on work on them is worth sharing.
const LEAST_SHARED_ROWS: usize = 1_024;

/// Who does work on so many rows: with few the caller is done sooner than others would
/// begin.
pub(crate) fn for_rows(rows: usize, workers: &dyn Workers) -> &dyn Workers {
    if rows < LEAST_SHARED_ROWS {
        &Caller
    } else {
        workers
    }
}

/// The thread of the caller.
#[derive(Debug, Clone, Copy, Default)]
pub struct Caller;

impl Workers for Caller {
    fn work(&self, jobs: Vec<Job<'_>>) {
        for job in jobs {
            job();
        }
    }
}
