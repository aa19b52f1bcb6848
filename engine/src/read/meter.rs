//! What reads cost.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Adds up what reads cost: those of a [`Team`](crate::Team) that it was handed to
/// ([`Team::metered`](crate::Team::metered)). Clones share it. A read that failed, or is
/// still under way, counts too.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    segments: AtomicU64,
    unsealed: AtomicU64,
    pages: AtomicU64,
    bytes: AtomicU64,
    rows: AtomicU64,
    /// Nanoseconds of each stage.
    stages: [AtomicU64; 4],
}

/// What reads cost. Times are added up over threads, so that of two threads at work may be
/// twice the time that passed. A read that goes over the spans twice counts them twice: a
/// timeline looks for its bounds first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueryStats {
    /// Segments that were looked at; others hold no spans of the team or of the time.
    pub segments: u64,
    /// Spans in memory, not sealed yet, that were looked at.
    pub unsealed: u64,
    /// Pages that were read, each of some thousand values of one column.
    pub pages: u64,
    /// Bytes of pages and postings that were read, as they lie in the files.
    pub bytes: u64,
    /// Rows whose values were read. A row counts again for each column that was read by
    /// itself.
    pub rows: u64,
    /// Time to find out what there is to look at.
    pub planning: Duration,
    /// Time that indexes took.
    pub indexes: Duration,
    /// Time to ask the values of spans whether they fulfil the filter.
    pub values: Duration,
    /// Time to read what was found, to count and to group it.
    pub answer: Duration,
}

/// A stage of a read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stage {
    Planning,
    Indexes,
    Values,
    Answer,
}

impl Meter {
    /// What was added up so far.
    pub fn stats(&self) -> QueryStats {
        let Counters {
            segments,
            unsealed,
            pages,
            bytes,
            rows,
            stages,
        } = &*self.0;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let [planning, indexes, values, answer] = stages
            .each_ref()
            .map(|nanos| Duration::from_nanos(load(nanos)));
        QueryStats {
            segments: load(segments),
            unsealed: load(unsealed),
            pages: load(pages),
            bytes: load(bytes),
            rows: load(rows),
            planning,
            indexes,
            values,
            answer,
        }
    }

    pub(crate) fn segment(&self) {
        add(&self.0.segments, 1);
    }

    pub(crate) fn unsealed(&self, rows: usize) {
        add(&self.0.unsealed, rows as u64);
    }

    pub(crate) fn pages(&self, pages: u64, bytes: u64) {
        add(&self.0.pages, pages);
        add(&self.0.bytes, bytes);
    }

    pub(crate) fn rows(&self, rows: usize) {
        add(&self.0.rows, rows as u64);
    }

    /// Does some work, which is part of a stage.
    pub(crate) fn time<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        if let Some(nanos) = self.0.stages.get(stage as usize) {
            add(nanos, start.elapsed().as_nanos() as u64);
        }
        done
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl fmt::Display for QueryStats {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            segments,
            unsealed,
            pages,
            bytes,
            rows,
            planning,
            indexes,
            values,
            answer,
        } = self;
        writeln!(
            out,
            "{segments} segments and {unsealed} unsealed spans looked at; \
             {pages} pages, {bytes} bytes, {rows} rows read"
        )?;
        write!(
            out,
            "planning {planning:.1?}, indexes {indexes:.1?}, values {values:.1?}, \
             answer {answer:.1?}"
        )
    }
}
