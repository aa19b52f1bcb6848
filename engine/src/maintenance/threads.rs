//! The threads of a store. A panic in one of them poisons the store at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::without_panic;
use crate::health::Health;

/// Threads that run until they are told to stop.
#[derive(Debug)]
pub(crate) struct Threads {
    health: Arc<Health>,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    /// The writer's, and those that end with it.
    writer: Vec<JoinHandle<()>>,
    maintenance: Vec<JoinHandle<()>>,
}

impl Threads {
    pub(crate) fn new(health: &Arc<Health>) -> Self {
        Self {
            health: Arc::clone(health),
            running: Mutex::default(),
        }
    }

    fn spawn(
        &self,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        let health = Arc::clone(&self.health);
        std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                let done = without_panic(name, || {
                    work();
                    Ok(())
                });
                if let Err(error) = done {
                    health.poison(&error.to_string());
                }
            })
    }

    /// Starts the writer's thread.
    pub(crate) fn start_writer(&self, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.start_with_writer("spanstore-writer", work)
    }

    /// Starts a thread that ends when the writer's has.
    pub(crate) fn start_with_writer(
        &self,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<()> {
        let thread = self.spawn(name, work)?;
        self.running().writer.push(thread);
        Ok(())
    }

    /// Starts a thread beside it.
    pub(crate) fn start(
        &self,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<()> {
        let thread = self.spawn(name, work)?;
        self.running().maintenance.push(thread);
        Ok(())
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for all threads to end but the writer's and those that end with it.
    pub(crate) fn join_maintenance(&self) {
        let threads = std::mem::take(&mut self.running().maintenance);
        self.join(threads);
    }

    /// Waits for the other threads to end.
    pub(crate) fn join_writer(&self) {
        let threads = std::mem::take(&mut self.running().writer);
        self.join(threads);
    }

    fn join(&self, threads: Vec<JoinHandle<()>>) {
        for thread in threads {
            if thread.join().is_err() {
                self.health.poison("a thread of the store panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_panic_in_a_thread_poisons_the_store() {
        let health = Arc::new(Health::default());
        let threads = Threads::new(&health);
        threads.start("test", || panic!("broken")).unwrap();
        threads.join_maintenance();
        let error = health.check().unwrap_err();
        assert!(
            matches!(&error, Error::Poisoned { cause } if cause.contains("broken")),
            "{error}"
        );
    }
}
