//! Ends a query that takes too long.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::Stream;

use crate::error::Error;

/// When a query has to be done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    end: Instant,
    limit: Duration,
}

impl Deadline {
    pub(super) fn after(limit: Duration) -> Self {
        Self {
            end: Instant::now() + limit,
            limit,
        }
    }

    /// Answers the error of a query that took too long.
    pub(super) fn check(&self) -> Result<(), Error> {
        if Instant::now() < self.end {
            Ok(())
        } else {
            Err(Error::TimedOut {
                limit_seconds: self.limit.as_secs(),
            })
        }
    }

    /// A stream that ends with an error at the deadline. It is looked at each
    /// time the query yields, which scans do after every batch.
    pub(super) fn watch(self, stream: SendableRecordBatchStream) -> SendableRecordBatchStream {
        Box::pin(Watched {
            stream,
            deadline: self,
        })
    }
}

struct Watched {
    stream: SendableRecordBatchStream,
    deadline: Deadline,
}

impl Stream for Watched {
    type Item = Result<RecordBatch, DataFusionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Err(error) = self.deadline.check() {
            return Poll::Ready(Some(Err(DataFusionError::External(Box::new(error)))));
        }
        self.stream.as_mut().poll_next(context)
    }
}

impl RecordBatchStream for Watched {
    fn schema(&self) -> SchemaRef {
        self.stream.schema()
    }
}

/// Lets other tasks of the runtime run, whatever the runtime.
pub(super) async fn yield_now() {
    let mut is_first = true;
    std::future::poll_fn(|context| {
        if std::mem::take(&mut is_first) {
            context.waker().wake_by_ref();
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
}
