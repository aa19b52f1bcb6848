//! The time that a query has.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;

use crate::error::Error;
use crate::read::interrupt::{Held, Interrupt};
use crate::read::meter::Meter;

/// The clock of one query, and what adds up its cost. It runs while the query works and stands still
/// while the query waits for its reader.
#[derive(Debug)]
pub(super) struct Watch {
    limit: Duration,
    meter: Meter,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    time: Time,
    /// Tasks of the query that wait until the clock runs again.
    waiting: Vec<Waker>,
}

#[derive(Debug, Clone, Copy)]
enum Time {
    /// The clock runs; without an end when the limit lies beyond all times.
    Until(Option<Instant>),
    /// The clock stands still with this time left.
    Left(Option<Duration>),
    /// The query is to end.
    Over,
}

impl Watch {
    /// A clock that runs from now on.
    pub(super) fn start(limit: Duration, meter: Meter) -> Self {
        Self {
            limit,
            meter,
            state: Mutex::new(State {
                time: Time::Until(Instant::now().checked_add(limit)),
                waiting: Vec::new(),
            }),
        }
    }

    /// Stops the clock until [`Watch::resume`].
    pub(super) fn pause(&self) {
        let mut state = self.state();
        if let Time::Until(end) = state.time {
            state.time = Time::Left(end.map(|end| end.saturating_duration_since(Instant::now())));
        }
    }

    /// Lets the clock run again.
    pub(super) fn resume(&self) {
        let mut state = self.state();
        if let Time::Left(left) = state.time {
            state.time = Time::Until(left.and_then(|left| Instant::now().checked_add(left)));
        }
        wake(state);
    }

    /// Ends the query.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.time = Time::Over;
        wake(state);
    }

    /// When the time is over; none while the clock stands still.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state().time {
            Time::Until(end) => end,
            Time::Left(_) | Time::Over => None,
        }
    }

    /// Like [`Interrupt::check`], and waits while the clock stands still: what
    /// a query does beside answering its reader stands still, too.
    pub(super) fn poll_check(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.state();
        match state.time {
            Time::Left(_) => {
                let waker = context.waker();
                if !state.waiting.iter().any(|one| one.will_wake(waker)) {
                    state.waiting.push(waker.clone());
                }
                Poll::Pending
            }
            Time::Until(Some(end)) if Instant::now() < end => Poll::Ready(Ok(())),
            Time::Until(None) => Poll::Ready(Ok(())),
            Time::Until(_) | Time::Over => Poll::Ready(Err(self.error())),
        }
    }

    fn error(&self) -> Error {
        Error::TimedOut { limit: self.limit }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waiting = std::mem::take(&mut state.waiting);
    drop(state);
    waiting.into_iter().for_each(Waker::wake);
}

impl Interrupt for Watch {
    fn check(&self) -> Result<(), Error> {
        match self.state().time {
            Time::Until(Some(end)) if end <= Instant::now() => Err(self.error()),
            Time::Over => Err(self.error()),
            Time::Until(_) | Time::Left(_) => Ok(()),
        }
    }

    /// The parts of a plan account for what they hold.
    fn hold(&self, _: &RecordBatch) -> Result<Held, Error> {
        Ok(Box::new(()))
    }

    fn hold_bytes(&self, _: usize) -> Result<Held, Error> {
        Ok(Box::new(()))
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl std::task::Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn time_is_over_at_the_limit_and_never_for_the_longest() {
        let watch = Watch::start(Duration::ZERO, Meter::default());
        assert!(matches!(
            watch.check(),
            Err(Error::TimedOut {
                limit: Duration::ZERO
            })
        ));
        for limit in [Duration::from_hours(1), Duration::MAX] {
            assert!(Watch::start(limit, Meter::default()).check().is_ok());
        }
    }

    #[test]
    fn a_paused_watch_keeps_what_is_left() {
        let watch = Watch::start(Duration::from_hours(1), Meter::default());
        let before = watch.deadline().unwrap();
        watch.pause();
        assert_eq!(watch.deadline(), None);
        assert!(watch.check().is_ok());
        std::thread::sleep(Duration::from_millis(5));
        watch.resume();
        assert!(watch.deadline().unwrap() >= before + Duration::from_millis(5));
    }

    #[test]
    fn work_waits_while_the_watch_is_paused() {
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&counter));
        let mut context = Context::from_waker(&waker);
        let watch = Watch::start(Duration::from_hours(1), Meter::default());
        assert!(watch.poll_check(&mut context).is_ready());
        watch.pause();
        assert!(watch.poll_check(&mut context).is_pending());
        assert!(watch.poll_check(&mut context).is_pending());
        watch.resume();
        assert_eq!(counter.0.load(Ordering::Relaxed), 1);
        assert!(matches!(
            watch.poll_check(&mut context),
            Poll::Ready(Ok(()))
        ));
        watch.pause();
        assert!(watch.poll_check(&mut context).is_pending());
        watch.end();
        assert_eq!(counter.0.load(Ordering::Relaxed), 2);
        assert!(matches!(
            watch.poll_check(&mut context),
            Poll::Ready(Err(Error::TimedOut { .. }))
        ));
    }
}
