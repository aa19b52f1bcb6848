//! The way of batches to the writer thread, bounded in bytes.

use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, unbounded};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use super::message::Job;
use crate::error::Error;

/// Bytes that are counted as one.
const UNIT_BYTES: usize = 1 << 10;

/// Batches on their way, and the bytes that they may take together: from when a
/// batch is checked and encoded to when it is answered.
#[derive(Debug)]
pub(crate) struct Queue {
    /// None once the store is closed.
    jobs: Mutex<Option<Sender<Job>>>,
    room: Arc<Semaphore>,
    units: u32,
}

/// Room in the queue; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Room(
    #[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit,
);

impl Queue {
    /// A queue for batches of so many bytes, and where they come out.
    pub(crate) fn new(bytes: usize) -> (Self, Receiver<Job>) {
        let (jobs, queue) = unbounded();
        let most = Semaphore::MAX_PERMITS.min(u32::MAX as usize);
        let units = (bytes / UNIT_BYTES).clamp(1, most);
        let queue_of_jobs = Self {
            jobs: Mutex::new(Some(jobs)),
            room: Arc::new(Semaphore::new(units)),
            units: units as u32,
        };
        (queue_of_jobs, queue)
    }

    /// What a batch takes of the queue. One that is larger than the queue takes
    /// all of it.
    fn units(&self, bytes: usize) -> u32 {
        let units = bytes.div_ceil(UNIT_BYTES).max(1);
        u32::try_from(units).unwrap_or(u32::MAX).min(self.units)
    }

    /// Waits for room.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub(crate) async fn room(&self, bytes: usize) -> Result<Room, Error> {
        let room = Arc::clone(&self.room).acquire_many_owned(self.units(bytes));
        room.await.map(Room).map_err(|_| Error::Closed)
    }

    /// Takes room if there is some.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Closed`].
    pub(crate) fn try_room(&self, bytes: usize) -> Result<Room, Error> {
        let room = Arc::clone(&self.room).try_acquire_many_owned(self.units(bytes));
        room.map(Room).map_err(|error| match error {
            TryAcquireError::NoPermits => Error::Busy,
            TryAcquireError::Closed => Error::Closed,
        })
    }

    /// Hands a batch to the writer.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub(crate) fn send(&self, job: Job) -> Result<(), Error> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let jobs = jobs.as_ref().ok_or(Error::Closed)?;
        jobs.send(job).map_err(|_| Error::Closed)
    }

    /// Takes no more batches. Those that are in stay in; callers that wait for
    /// room are told.
    pub(crate) fn close(&self) {
        self.room.close();
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        *jobs = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_counted_in_bytes_and_given_back() {
        let (queue, _jobs) = Queue::new(10 << 10);
        let six = queue.try_room(6 << 10).unwrap();
        assert!(matches!(queue.try_room(5 << 10), Err(Error::Busy)));
        let four = queue.try_room((3 << 10) + 1).unwrap();
        assert!(matches!(queue.try_room(0), Err(Error::Busy)));
        drop((six, four));
        // One that is larger than the queue goes alone.
        let all = queue.try_room(1 << 30).unwrap();
        assert!(matches!(queue.try_room(1), Err(Error::Busy)));
        drop(all);
        queue.try_room(10 << 10).unwrap();
    }

    #[test]
    fn a_caller_that_waits_is_told_that_the_queue_is_closed() {
        let (queue, _jobs) = Queue::new(1 << 10);
        let _all = queue.try_room(1 << 10).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| pollster::block_on(queue.room(1)).map(drop));
            queue.close();
            assert!(matches!(waiting.join(), Ok(Err(Error::Closed))));
        });
        assert!(matches!(queue.try_room(1), Err(Error::Closed)));
    }
}
