//! Work that may be done on several threads: this crate hands it out and starts none.

use std::fmt::Debug;

/// A piece of work that any thread can do.
pub type Job<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Does jobs on threads of its own, or on that of the caller.
pub trait Workers: Debug + Send + Sync {
    /// Does all of these jobs, in any order, and returns when they are done.
    fn work(&self, jobs: Vec<Job<'_>>);
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
