//! Hot rows into segments: write beside, sync, rename, sync the directory,
//! commit the catalog, publish, let go of the log.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use spanstore_format::segment::SegmentSummary;
use spanstore_format::segment::order::arrange;
use spanstore_format::segment::promotion::choose::{SAMPLE_ROWS, Sample};
use spanstore_format::{Month, SegmentId, TeamId};

use crate::catalog::SealCommit;
use crate::error::Error;
use crate::hot::HotBuffer;
use crate::io::Disk;
use crate::segment;
use crate::segment_file::SegmentFile;
use crate::write::message::{Control, SealJob};
use crate::write::shared::Shared;

/// How long a seal that failed waits for the next try.
pub(crate) const RETRY: Duration = Duration::from_secs(5);

/// What a seal wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealReport {
    /// The new segments, one a month.
    pub segments: Vec<SealedSegment>,
}

/// A segment that a seal wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSegment {
    /// The segment.
    pub id: SegmentId,
    /// The month of its rows.
    pub month: Month,
    /// Its rows.
    pub rows: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// Teams with rows in it.
    pub teams: u64,
}

/// What other threads ask of the sealer.
#[derive(Debug)]
pub(crate) enum Request {
    /// A seal is due by size, age or budget.
    Due,
    /// A caller wants everything so far sealed.
    Now(Sender<Result<SealReport, Error>>),
    /// End.
    Stop,
}

/// The sealing thread's state.
#[derive(Debug)]
pub(crate) struct Sealer {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) root: std::path::PathBuf,
    pub(crate) shared: Arc<Shared>,
    pub(crate) writer: Sender<Control>,
    /// Told when there are new segments.
    pub(crate) compactor: Sender<()>,
    /// Rows that were set apart and could not be written; they come first.
    pub(crate) unfinished: Option<SealJob>,
}

impl Sealer {
    /// Runs until it is told to stop. What could not be written is tried again
    /// every now and then: appends may be waiting for its memory.
    pub(crate) fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let request = match &self.unfinished {
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(_) => requests.recv_timeout(RETRY),
            };
            match request {
                Ok(Request::Now(reply)) => drop(reply.send(self.seal_all())),
                Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(Request::Due) | Err(RecvTimeoutError::Timeout) => {
                    if let Err(error) = self.seal_all() {
                        tracing::error!(%error, "seal failed; its rows stay in memory and in the log");
                    }
                }
            }
        }
    }

    /// Seals what an earlier attempt left, then the rows since.
    fn seal_all(&mut self) -> Result<SealReport, Error> {
        let mut report = SealReport::default();
        if self.unfinished.is_some() {
            self.seal_unfinished(&mut report)?;
        }
        let (reply, answer) = bounded(1);
        self.writer
            .send(Control::BeginSeal(reply))
            .map_err(|_| Error::Closed)?;
        self.unfinished = answer.recv().map_err(|_| Error::Closed)??;
        if self.unfinished.is_some() {
            self.seal_unfinished(&mut report)?;
        }
        Ok(report)
    }

    fn seal_unfinished(&mut self, report: &mut SealReport) -> Result<(), Error> {
        let Some(job) = &self.unfinished else {
            return Ok(());
        };
        // Nothing can be committed any more: what is written would only pile up.
        self.shared.check_poison()?;
        let summaries = write_segments(&self.disk, &self.root, &self.shared, &job.rows)?;
        let rows = count_rows(&job.rows);
        let commit = SealCommit {
            segments: &summaries,
            rows: &rows,
            first_unsealed: job.first_unsealed,
        };
        if let Err(error) = self.shared.catalog.commit_seal(&commit) {
            // Whether the transaction is on disk is not known; opening tells.
            self.shared.poison(&error.to_string());
            return Err(error);
        }
        let opened = summaries
            .iter()
            .map(|summary| self.shared.segment(&self.disk, &self.root, summary.clone()));
        self.shared.view.end_seal(opened.collect::<Vec<_>>());
        // A writer that has ended needs no word.
        drop(self.writer.send(Control::EndSeal(job.first_unsealed)));
        report
            .segments
            .extend(summaries.iter().map(|summary| SealedSegment {
                id: summary.id,
                month: summary.month,
                rows: u64::from(summary.rows),
                bytes: summary.bytes,
                teams: u64::from(summary.partitions),
            }));
        self.unfinished = None;
        // One that has ended needs no word either.
        self.compactor.try_send(()).ok();
        Ok(())
    }
}

fn count_rows(rows: &HotBuffer) -> HashMap<(Month, TeamId), u64> {
    rows.partitions()
        .into_iter()
        .map(|((month, team), batches)| {
            let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
            ((month, team.clone()), rows)
        })
        .collect()
}

/// Writes one segment a month, all or none.
fn write_segments(
    disk: &Arc<dyn Disk>,
    root: &Path,
    shared: &Shared,
    rows: &HotBuffer,
) -> Result<Vec<SegmentSummary>, Error> {
    let mut summaries = Vec::new();
    match write_months(disk, root, shared, rows, &mut summaries) {
        Ok(()) => Ok(summaries),
        Err(error) => {
            // The next try writes them again; what stays is a stray for the
            // next open.
            for summary in &summaries {
                drop(disk.remove_file(&segment::path(root, summary)));
            }
            Err(error)
        }
    }
}

fn write_months(
    disk: &Arc<dyn Disk>,
    root: &Path,
    shared: &Shared,
    rows: &HotBuffer,
    summaries: &mut Vec<SegmentSummary>,
) -> Result<(), Error> {
    for partitions in rows
        .partitions()
        .chunk_by(|((one, _), _), ((next, _), _)| one == next)
    {
        let Some(((month, _), _)) = partitions.first() else {
            continue;
        };
        let batches = || partitions.iter().flat_map(|(_, batches)| batches);
        let rows: u64 = batches().map(|batch| batch.num_rows() as u64).sum();
        let mut sample = Sample::default();
        for batch in batches() {
            sample.add(batch, rows.div_ceil(SAMPLE_ROWS) as usize);
        }
        let id = shared.next_segment_id();
        let mut segment = SegmentFile::create(disk, root, id, *month, sample.choose())?;
        let partitions = partitions.iter().map(|(_, batches)| batches.clone());
        arrange(partitions, |batch| segment.write(batch))?;
        summaries.push(segment.finish()?);
    }
    Ok(())
}
