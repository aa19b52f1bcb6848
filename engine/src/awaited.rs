//! Those who wait for spans: of a trace, or of a team.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Wakes those who wait for one thing.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    pub(crate) notify: Notify,
    times: AtomicU64,
}

impl Signal {
    /// Wakes all who wait.
    pub(crate) fn give(&self) {
        // What it is given for is visible already: who looks after asking for the number sees it.
        self.times.fetch_add(1, Ordering::Release);
        self.notify.notify_waiters();
    }

    /// How often it was given.
    #[cfg(feature = "query")]
    pub(crate) fn times(&self) -> u64 {
        self.times.load(Ordering::Acquire)
    }
}

/// What somebody waits for.
#[derive(Debug)]
pub(crate) struct Awaited<K> {
    /// For each how many wait, and what wakes them.
    keys: Mutex<HashMap<K, (usize, Arc<Signal>)>>,
    /// How many these are: mostly none, and an append need not look.
    count: AtomicUsize,
}

impl<K> Default for Awaited<K> {
    fn default() -> Self {
        Self {
            keys: Mutex::default(),
            count: AtomicUsize::new(0),
        }
    }
}

/// A wait. It ends when it is dropped.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "query"),
    expect(dead_code, reason = "who waits needs the timer of queries")
)]
pub(crate) struct Waiting<K: Eq + Hash> {
    awaited: Arc<Awaited<K>>,
    key: K,
    pub(crate) signal: Arc<Signal>,
}

impl<K: Eq + Hash> Awaited<K> {
    fn keys(&self) -> MutexGuard<'_, HashMap<K, (usize, Arc<Signal>)>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to wait. Whoever looks at the view after this, and does not find spans that
    /// come, is woken by them.
    #[cfg_attr(
        not(feature = "query"),
        expect(dead_code, reason = "who waits needs the timer of queries")
    )]
    pub(crate) fn wait_for(self: &Arc<Self>, key: K) -> Waiting<K>
    where
        K: Clone,
    {
        let mut keys = self.keys();
        let (waiting, signal) = keys.entry(key.clone()).or_default();
        *waiting += 1;
        let signal = Arc::clone(signal);
        self.count.store(keys.len(), Ordering::Relaxed);
        Waiting {
            awaited: Arc::clone(self),
            key,
            signal,
        }
    }

    /// What wakes those who wait for one of these. It is to be called without locks: their
    /// runtimes may do anything then.
    pub(crate) fn of(&self, wanted: impl IntoIterator<Item = K>) -> Vec<Arc<Signal>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let keys = self.keys();
        let awaited = wanted.into_iter().filter_map(|key| keys.get(&key));
        awaited.map(|(_, signal)| Arc::clone(signal)).collect()
    }

    /// Wakes all.
    pub(crate) fn wake_all(&self) {
        let all: Vec<_> = {
            let keys = self.keys();
            let all = keys.values().map(|(_, signal)| Arc::clone(signal));
            all.collect()
        };
        for signal in all {
            signal.give();
        }
    }
}

impl<K: Eq + Hash> Drop for Waiting<K> {
    fn drop(&mut self) {
        let mut keys = self.awaited.keys();
        if let Some((waiting, _)) = keys.get_mut(&self.key) {
            *waiting -= 1;
            if *waiting == 0 {
                keys.remove(&self.key);
            }
        }
        self.awaited.count.store(keys.len(), Ordering::Relaxed);
    }
}
