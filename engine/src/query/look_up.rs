//! Look-ups by id as queries: on threads of the store, within their limits.

use std::sync::Arc;

use arrow::array::RecordBatch;
use spanstore_format::TeamId;

use super::builder::Source;
use super::job::Job;
use crate::error::Error;
use crate::read::interrupt::Interrupt;
use crate::view::Snapshot;

/// Looks something up in a snapshot.
pub(crate) async fn look_up(
    source: &dyn Source,
    snapshot: Snapshot,
    find: impl FnOnce(&Snapshot, &TeamId, &Arc<dyn Interrupt>) -> Result<Vec<RecordBatch>, Error>
    + Send
    + 'static,
) -> Result<Vec<RecordBatch>, Error> {
    let execution = source.engine().begin(source.meter())?;
    let job = Job::new(source, snapshot, &execution);
    let found = async move { find(&job.snapshot, &job.team, &job.interrupt()) };
    execution.run(found).await
}
