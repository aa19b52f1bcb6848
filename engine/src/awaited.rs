//! Those who wait for spans of a trace.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use spanstore_format::TeamId;
use tokio::sync::Notify;

/// A trace of a team.
type TraceKey = (TeamId, [u8; 16]);

/// Traces that somebody waits for.
#[derive(Debug, Default)]
pub(crate) struct Awaited {
    /// For each how many wait, and what wakes them.
    traces: Mutex<HashMap<TraceKey, (usize, Arc<Notify>)>>,
    /// How many traces these are: mostly none, and an append need not look.
    count: AtomicUsize,
}

/// A wait for spans of a trace. It ends when it is dropped.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "query"),
    expect(dead_code, reason = "who waits needs the timer of queries")
)]
pub(crate) struct Waiting {
    awaited: Arc<Awaited>,
    key: TraceKey,
    pub(crate) notify: Arc<Notify>,
}

impl Awaited {
    fn traces(&self) -> MutexGuard<'_, HashMap<TraceKey, (usize, Arc<Notify>)>> {
        self.traces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to wait. Whoever looks at the view after this, and does not find spans that
    /// come, is woken by them.
    #[cfg_attr(
        not(feature = "query"),
        expect(dead_code, reason = "who waits needs the timer of queries")
    )]
    pub(crate) fn wait_for(self: &Arc<Self>, team: &TeamId, trace: [u8; 16]) -> Waiting {
        let key = (team.clone(), trace);
        let mut traces = self.traces();
        let (waiting, notify) = traces.entry(key.clone()).or_default();
        *waiting += 1;
        let notify = Arc::clone(notify);
        self.count.store(traces.len(), Ordering::Relaxed);
        Waiting {
            awaited: Arc::clone(self),
            key,
            notify,
        }
    }

    /// What wakes those who wait for one of some traces. It is to be called without locks:
    /// their runtimes may do anything then.
    pub(crate) fn of(&self, team: &TeamId, traces: &[[u8; 16]]) -> Vec<Arc<Notify>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let all = self.traces();
        let awaited = traces.iter().filter_map(|trace| {
            let (_, notify) = all.get(&(team.clone(), *trace))?;
            Some(Arc::clone(notify))
        });
        awaited.collect()
    }

    /// Wakes all.
    pub(crate) fn wake_all(&self) {
        let all: Vec<_> = {
            let traces = self.traces();
            let all = traces.values().map(|(_, notify)| Arc::clone(notify));
            all.collect()
        };
        for notify in all {
            notify.notify_waiters();
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut traces = self.awaited.traces();
        if let Entry::Occupied(mut entry) = traces.entry(self.key.clone()) {
            entry.get_mut().0 -= 1;
            if entry.get().0 == 0 {
                entry.remove();
            }
        }
        self.awaited.count.store(traces.len(), Ordering::Relaxed);
    }
}
