//! How much of a trace is here: whether a page trace, or a request, can be shown.

use std::collections::BTreeSet;
#[cfg(feature = "query")]
use std::future::pending;
#[cfg(feature = "query")]
use std::pin::pin;
use std::time::Duration;

use arrow::array::Array;
#[cfg(feature = "query")]
use futures::FutureExt;
#[cfg(feature = "query")]
use futures::future::select;
use spanstore_format::TraceId;
use spanstore_format::span::SpanColumn;

use super::Team;
use crate::clock::elapsed;
use crate::error::Error;
use crate::read::lookup;
use crate::spans::Spans;

/// How much of a trace, or of a request, is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceStatus {
    /// No span of it.
    Unknown,
    /// Spans, of which more may come.
    Partial {
        /// How many there are.
        spans: u64,
        /// Whether one of them has no parent.
        has_root: bool,
    },
    /// A root, and nothing came for a while
    /// ([`StoreOptions::trace_quiet_time`](crate::StoreOptions::trace_quiet_time)), or all that
    /// came is sealed or came before the store was opened. Spans whose parents are missing do
    /// not matter. Late spans are stored and shown all the same.
    Ready,
}

/// How long a wait for a root does not look again, at most.
#[cfg(feature = "query")]
const MOST_PAUSE: Duration = Duration::from_millis(100);

impl Team {
    /// How much of a trace is here.
    ///
    /// # Errors
    /// As [`Team::trace`].
    pub fn trace_status(&self, trace: TraceId) -> Result<TraceStatus, Error> {
        // The time of the last append is asked for after its spans.
        let spans = self.trace(trace)?;
        Ok(self.progress(trace, &spans)?.0)
    }

    /// How much of a request is here: of all traces with a span of this request id together.
    /// It is ready when each of them is.
    ///
    /// # Errors
    /// As [`Team::trace`].
    pub fn request_status(&self, request: &str) -> Result<TraceStatus, Error> {
        let mut sum = TraceStatus::Unknown;
        let mut is_ready = true;
        for (trace, spans) in self.traces_of_request(request)? {
            let count = spans.len() as u64;
            let (is_trace_ready, is_root_here) = match self.progress(trace, &spans)?.0 {
                TraceStatus::Unknown => continue,
                TraceStatus::Partial { has_root, .. } => (false, has_root),
                TraceStatus::Ready => (true, true),
            };
            is_ready &= is_trace_ready;
            sum = match sum {
                TraceStatus::Partial { spans, has_root } => TraceStatus::Partial {
                    spans: spans + count,
                    has_root: has_root || is_root_here,
                },
                _ => TraceStatus::Partial {
                    spans: count,
                    has_root: is_root_here,
                },
            };
        }
        let is_known = sum != TraceStatus::Unknown;
        Ok(if is_known && is_ready {
            TraceStatus::Ready
        } else {
            sum
        })
    }

    /// All traces with a span of a request id, each with all its spans, by trace id; those
    /// without a root too.
    ///
    /// # Errors
    /// As [`Team::trace`].
    pub fn traces_of_request(&self, request: &str) -> Result<Vec<(TraceId, Spans)>, Error> {
        let (snapshot, never) = (self.snapshot_of_all(), self.never());
        let mut traces = BTreeSet::new();
        for batch in lookup::request(&snapshot, &self.id, request, &never)? {
            let ids = SpanColumn::TraceId.ids(&batch);
            let ids = ids.map_err(|error| Error::corrupt("spans", error))?;
            traces.extend((0..ids.len()).map(|row| ids.value(row).to_vec()));
        }
        let traces = traces.iter().map(|id| {
            let id = TraceId::from_bytes(id)?;
            let spans = lookup::trace(&snapshot, &self.id, id, &never)?;
            Ok((id, Spans::new(spans).by_start()?))
        });
        traces.collect()
    }

    /// The trace of a page load: all spans of the trace whose span with this session id starts
    /// first; none while there is no such span.
    ///
    /// # Errors
    /// As [`Team::trace`].
    pub fn page_trace(&self, session: &str) -> Result<Option<(TraceId, Spans)>, Error> {
        let spans = self.session_spans(session)?;
        let Some(first) = spans.batches().first() else {
            return Ok(None);
        };
        let ids = SpanColumn::TraceId.ids(first);
        let ids = ids.map_err(|error| Error::corrupt("spans", error))?;
        let trace = TraceId::from_bytes(ids.value(0))?;
        Ok(Some((trace, self.trace(trace)?)))
    }

    /// Waits until a trace is ready, or some time has passed, and answers how much of it is
    /// here then. It is woken by spans of the trace and by the end of its quiet time, within
    /// milliseconds, in any async runtime.
    ///
    /// # Errors
    /// As [`Team::trace_async`]; [`Error::Closed`] and [`Error::Poisoned`] when no span can come
    /// any more.
    #[cfg(feature = "query")]
    pub async fn wait_for_trace(
        &self,
        trace: TraceId,
        timeout: Duration,
    ) -> Result<TraceStatus, Error> {
        let began = std::time::Instant::now();
        let parts = &self.parts;
        let waiting = parts.view.wait_for_trace(&self.id, trace.0);
        let ended = parts.health.ended();
        let mut has_root = false;
        loop {
            // What comes from here on wakes it, and so does the end.
            let (came, end) = (
                pin!(waiting.signal.notify.notified()),
                pin!(ended.notified()),
            );
            let left = timeout.saturating_sub(began.elapsed());
            // Once the root is here only the time counts, until the last look.
            let mut quiet_in = has_root.then(|| self.quiet_in(trace)).flatten();
            if quiet_in.is_none() || left.is_zero() {
                let spans = self.trace_async(trace).await?;
                let status;
                (status, quiet_in) = self.progress(trace, &spans)?;
                if status == TraceStatus::Ready || left.is_zero() {
                    return Ok(status);
                }
                has_root = quiet_in.is_some();
            }
            // Or nothing can.
            parts.health.check_open()?;
            let most = quiet_in.map_or(left, |quiet| quiet.min(left));
            parts
                .queries
                .within(most, select(came, end).map(drop))
                .await?;
            if !has_root {
                // It is not ready before the quiet time of what came is over. So a busy trace
                // is not looked at for each append.
                let pause = (parts.options.trace_quiet_time / 4).min(MOST_PAUSE);
                let left = timeout.saturating_sub(began.elapsed());
                parts.queries.within(pause.min(left), pending()).await?;
            }
        }
    }

    /// The status of a trace, and how long nothing must come until it is ready.
    fn progress(
        &self,
        trace: TraceId,
        spans: &Spans,
    ) -> Result<(TraceStatus, Option<Duration>), Error> {
        let mut has_root = false;
        for batch in spans.batches() {
            let parents = SpanColumn::ParentSpanId.ids(batch);
            let parents = parents.map_err(|error| Error::corrupt("spans", error))?;
            has_root |= parents.null_count() > 0;
        }
        if spans.is_empty() {
            return Ok((TraceStatus::Unknown, None));
        }
        let quiet_in = has_root.then(|| self.quiet_in(trace)).flatten();
        if has_root && quiet_in.is_none() {
            return Ok((TraceStatus::Ready, None));
        }
        let spans = spans.len() as u64;
        Ok((TraceStatus::Partial { spans, has_root }, quiet_in))
    }

    /// How long nothing must come until the quiet time of a trace is over; none when it is.
    fn quiet_in(&self, trace: TraceId) -> Option<Duration> {
        let parts = &self.parts;
        // What is sealed, or came before the store was opened, came long enough ago.
        let arrived = parts.view.last_arrival(&self.id, trace.0)?;
        let passed = elapsed(&*parts.clock, arrived);
        let left = parts.options.trace_quiet_time.saturating_sub(passed);
        (!left.is_zero()).then_some(left)
    }
}
