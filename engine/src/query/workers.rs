//! The threads that queries work on.
//!
//! Queries do not work on the tasks of their callers: an operator that is busy
//! for long would hold up the caller's runtime, and nobody would look at the
//! time. Their callers wait for the answer or the end of the time, whichever
//! comes first. The time is kept by a thread that does nothing else, so it ends
//! although all others are busy.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::{Stream, StreamExt};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::memory::QueryPool;
use super::watch::Watch;
use crate::error::Error;
use crate::read::interrupt::Interrupt;

/// Threads for all queries of a store.
#[derive(Debug)]
pub(super) struct Workers {
    runtime: Option<Runtime>,
    timer: Handle,
    is_done: Arc<Notify>,
}

impl Workers {
    /// Starts threads: `threads` that work, and one that keeps the time.
    pub(super) fn start(threads: usize) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("spanstore-query")
            .build()?;
        let timer = Builder::new_current_thread().enable_time().build()?;
        let handle = timer.handle().clone();
        let is_done = Arc::new(Notify::new());
        let done = Arc::clone(&is_done);
        std::thread::Builder::new()
            .name("spanstore-timer".into())
            .spawn(move || timer.block_on(done.notified()))?;
        Ok(Self {
            runtime: Some(runtime),
            timer: handle,
            is_done,
        })
    }

    /// Waits for an event for some time.
    pub(super) async fn within(&self, time: Duration, event: impl Future<Output = ()>) {
        let event = {
            let _timer = self.timer.enter();
            timeout(time, event)
        };
        // Whether it came is seen by whoever waits.
        event.await.ok();
    }

    fn spawn<T: Send + 'static>(
        &self,
        watch: &Arc<Watch>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<Task<T>, Error> {
        let runtime = self.runtime.as_ref().ok_or(Error::Closed)?;
        Ok(Task {
            handle: runtime.spawn(work),
            watch: Arc::clone(watch),
        })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.is_done.notify_one();
        if let Some(runtime) = self.runtime.take() {
            // May be dropped by a task of any runtime, so it must not wait.
            runtime.shutdown_background();
        }
    }
}

/// Work that ends when it is dropped.
#[derive(Debug)]
struct Task<T> {
    handle: JoinHandle<T>,
    watch: Arc<Watch>,
}

impl<T> Task<T> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<T, Error>> {
        let done = ready!(Pin::new(&mut self.handle).poll(context));
        Poll::Ready(done.map_err(panicked))
    }

    /// Ends the task, and what it has started.
    fn end(&self) {
        self.watch.end();
        self.handle.abort();
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if !self.handle.is_finished() {
            self.end();
        }
    }
}

fn panicked(error: JoinError) -> Error {
    DataFusionError::ExecutionJoin(Box::new(error)).into()
}

/// The end of a query's time.
struct End {
    watch: Arc<Watch>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Keeps the time.
    workers: Arc<Workers>,
}

impl End {
    /// Ready with the error of a query whose time is over.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        loop {
            let Some(deadline) = self.watch.deadline() else {
                // Its time stands still, and wakes the reader when it goes on; or it
                // is over, or there is no limit.
                let is_going_on = matches!(self.watch.poll_check(context), Poll::Ready(Ok(())));
                if is_going_on && self.watch.deadline().is_some() {
                    continue;
                }
                return Poll::Pending;
            };
            let deadline = Instant::from_std(deadline);
            let workers = &self.workers;
            let sleep = self.sleep.get_or_insert_with(|| {
                let _timer = workers.timer.enter();
                Box::pin(sleep_until(deadline))
            });
            if sleep.deadline() != deadline {
                sleep.as_mut().reset(deadline);
            }
            ready!(sleep.as_mut().poll(context));
            if let Err(error) = self.watch.check() {
                return Poll::Ready(error);
            }
        }
    }
}

/// What one query works with.
#[derive(Debug, Clone)]
pub(super) struct Execution {
    pub(super) watch: Arc<Watch>,
    pub(super) memory: Arc<QueryPool>,
    pub(super) workers: Arc<Workers>,
}

impl Execution {
    fn end(&self) -> End {
        End {
            watch: Arc::clone(&self.watch),
            sleep: None,
            workers: Arc::clone(&self.workers),
        }
    }

    /// Lets the threads do some work. It ends with the query's time, and when
    /// nobody waits for it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.watch.check()?;
        let mut task = self.workers.spawn(&self.watch, work)?;
        let mut end = self.end();
        poll_fn(|context| {
            if let Poll::Ready(done) = task.poll(context) {
                return Poll::Ready(done.flatten());
            }
            end.poll(context).map(Err)
        })
        .await
    }

    /// Lets the threads fill a stream. Its reader waits for them at most until
    /// the query's time is over; what the reader does meanwhile takes none of
    /// that time.
    pub(super) fn stream(
        &self,
        stream: SendableRecordBatchStream,
    ) -> Result<SendableRecordBatchStream, Error> {
        let schema = stream.schema();
        let (sender, batches) = mpsc::channel(1);
        let (watch, memory) = (Arc::clone(&self.watch), Arc::clone(&self.memory));
        let task = self
            .workers
            .spawn(&self.watch, fill(watch, memory, stream, sender))?;
        Ok(Box::pin(Answer {
            schema,
            batches,
            task,
            end: self.end(),
            is_done: false,
        }))
    }
}

async fn fill(
    watch: Arc<Watch>,
    memory: Arc<QueryPool>,
    mut stream: SendableRecordBatchStream,
    sender: mpsc::Sender<Result<RecordBatch, DataFusionError>>,
) {
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(|error| memory.explain(error));
        let is_last = batch.is_err();
        watch.pause();
        let is_read = sender.send(batch).await.is_ok();
        watch.resume();
        if is_last || !is_read {
            break;
        }
    }
}

/// The answer of a query, for its reader.
struct Answer {
    schema: SchemaRef,
    batches: mpsc::Receiver<Result<RecordBatch, DataFusionError>>,
    task: Task<()>,
    end: End,
    is_done: bool,
}

impl Answer {
    fn poll_batch(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<RecordBatch, Error>>> {
        match self.batches.poll_recv(context) {
            Poll::Ready(Some(batch)) => Poll::Ready(Some(batch.map_err(Error::from))),
            // A panic must not look like the end.
            Poll::Ready(None) => self.task.poll(context).map(|done| done.err().map(Err)),
            Poll::Pending => self.end.poll(context).map(|error| Some(Err(error))),
        }
    }
}

impl Stream for Answer {
    type Item = Result<RecordBatch, DataFusionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        let batch = ready!(self.poll_batch(context));
        if !matches!(batch, Some(Ok(_))) {
            self.is_done = true;
            self.task.end();
        }
        let external = |error| DataFusionError::External(Box::new(error));
        Poll::Ready(batch.map(|batch| batch.map_err(external)))
    }
}

impl RecordBatchStream for Answer {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
