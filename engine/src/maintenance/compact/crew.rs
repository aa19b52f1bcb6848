//! The threads that share the work of a merge.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use spanstore_format::jobs::{Job, Workers};

/// Does jobs on the thread of the merge and on some beside it, which end with the jobs.
#[derive(Debug)]
pub(super) struct Crew {
    /// How many threads work, that of the merge included.
    threads: AtomicUsize,
}

impl Crew {
    pub(super) fn new(threads: usize) -> Self {
        Self {
            threads: AtomicUsize::new(threads),
        }
    }

    /// Sets how many threads work from now on.
    pub(super) fn set_threads(&self, threads: usize) {
        self.threads.store(threads, Ordering::Relaxed);
    }
}

impl Workers for Crew {
    fn work(&self, jobs: Vec<Job<'_>>) {
        let threads = self.threads.load(Ordering::Relaxed);
        let beside = threads.min(jobs.len()).saturating_sub(1);
        let jobs = Mutex::new(jobs.into_iter());
        let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some(job) = next() {
                job();
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..beside {
                let thread = std::thread::Builder::new().name("spanstore-merger".into());
                // Without it the others do all.
                drop(thread.spawn_scoped(scope, work));
            }
            work();
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn as_many_threads_work_as_are_set() {
        let crew = Crew::new(3);
        let barrier = Barrier::new(3);
        let seen = Mutex::new(HashSet::new());
        let meet = || -> Job<'_> {
            Box::new(|| {
                // Passed only when three threads are here at a time.
                barrier.wait();
                seen.lock().unwrap().insert(std::thread::current().id());
            })
        };
        crew.work((0..3).map(|_| meet()).collect());
        assert_eq!(seen.lock().unwrap().len(), 3);
        crew.set_threads(1);
        seen.lock().unwrap().clear();
        let note = || -> Job<'_> {
            Box::new(|| {
                seen.lock().unwrap().insert(std::thread::current().id());
            })
        };
        crew.work((0..9).map(|_| note()).collect());
        let own = HashSet::from([std::thread::current().id()]);
        assert_eq!(*seen.lock().unwrap(), own);
    }
}
