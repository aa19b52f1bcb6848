//! Hot rows into segments: write beside, sync, rename, sync the directory,
//! commit the catalog, publish, let go of the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never};
use spanstore_format::segment::layout::order::arrange;
use spanstore_format::segment::promotion::choose::{SAMPLE_ROWS, Sample};
use spanstore_format::segment::{NewSegment, Origin, SegmentSummary};
use spanstore_format::{Month, SegmentId, TeamId};

use super::without_panic;
use crate::catalog::SealCommit;
use crate::clock::Clock;
use crate::error::Error;
use crate::health::{Health, Task};
use crate::hot::HotBuffer;
use crate::recent::{Recent, RecentFiles};
use crate::registry::Registry;
use crate::retention::RetentionClock;
use crate::segment_file::SegmentFile;
use crate::segments::Segments;
use crate::write::message::{Control, SealJob};

/// How long a seal that failed waits for the next try.
const RETRY: Duration = Duration::from_secs(5);

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

/// What callers ask of the sealer.
#[derive(Debug)]
pub(crate) enum Request {
    /// Seal everything so far.
    Seal(Sender<Result<SealReport, Error>>),
    /// End.
    Stop,
}

/// The sealing thread's state.
#[derive(Debug)]
pub(crate) struct Sealer {
    pub(crate) segments: Arc<Segments>,
    pub(crate) recent: Arc<Recent>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) recent_files: Arc<RecentFiles>,
    pub(crate) health: Arc<Health>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retention: Arc<RetentionClock>,
    /// Whether a seal that failed is tried again without being asked for.
    pub(crate) is_background: bool,
    pub(crate) writer: Sender<Control>,
    /// Told when there are new segments.
    pub(crate) compactor: Sender<()>,
    /// Rows that were set apart and could not be written; they come first.
    pub(crate) unfinished: Option<SealJob>,
}

impl Sealer {
    /// Runs until it is told to stop. What could not be written is tried again
    /// every now and then: appends may be waiting for its memory.
    pub(crate) fn run(mut self, requests: &Receiver<Request>, due: &Receiver<()>) {
        let due = if self.is_background { due } else { &never() };
        loop {
            let patience = match &self.unfinished {
                Some(_) if self.is_background => RETRY,
                _ => Duration::MAX,
            };
            crossbeam_channel::select! {
                recv(requests) -> request => match request {
                    Ok(Request::Seal(reply)) => drop(reply.send(self.attempt())),
                    Ok(Request::Stop) | Err(_) => break,
                },
                recv(due) -> word => match word {
                    Ok(()) => drop(self.attempt()),
                    Err(_) => break,
                },
                default(patience) => drop(self.attempt()),
            }
        }
    }

    /// Seals everything; a failure is noted, and told to those who wait for it.
    fn attempt(&mut self) -> Result<SealReport, Error> {
        let health = Arc::clone(&self.health);
        let sealed = without_panic("the seal", || self.seal_all());
        if let Err(error @ Error::Internal { .. }) = &sealed {
            // The next attempt would meet the same; the log has the rows.
            health.poison(&error.to_string());
        }
        let sealed = health.note(Task::Seal, self.clock.now_nanos(), sealed);
        if sealed.is_err() {
            if is_planted!(DropUnfinishedSeal) {
                self.unfinished = None;
            }
            // A writer that has ended needs no word.
            drop(self.writer.send(Control::SealFailed));
        }
        sealed
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
        self.health.check()?;
        // Everything below is sealed.
        let log = self.segments.first_unsealed()?..job.first_unsealed;
        let mut given = Vec::new();
        let rows = count_rows(&job.rows);
        let time = self.retention.to_keep();
        let files = &self.recent_files;
        let has_recent = files.write(&self.recent, job.first_unsealed, job.recent_before)?;
        let is_named = has_recent && !is_planted!(LoseRecent);
        let recent_file = is_named.then_some(job.first_unsealed);
        let sealed = write_months(&self.segments, &job.rows, &Origin::sealed(log), &mut given)
            .and_then(|summaries| {
                if is_planted!(ReleaseLogEarly) {
                    drop(self.writer.send(Control::EndSeal(job.first_unsealed)));
                }
                self.segments.add_sealed(&SealCommit {
                    segments: &summaries,
                    rows: &rows,
                    first_unsealed: job.first_unsealed,
                    retention_clock: time,
                    recent_file,
                    sessions: &job.sessions,
                })?;
                Ok(summaries)
            });
        let summaries = sealed.inspect_err(|_| {
            // The next try writes them again.
            for (month, id) in &given {
                self.segments.abandon(*month, &[*id]);
            }
        })?;
        self.registry.end_seal();
        if let Some(time) = time {
            self.retention.was_kept(time);
        }
        // What stays goes with the next seal, or when the store is opened.
        if let Err(error) = files.remove_others(recent_file) {
            tracing::warn!(%error, "old files of recent appends stay");
        }
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

/// Writes one segment a month; `given` are the ids of those that were begun.
fn write_months(
    segments: &Segments,
    rows: &HotBuffer,
    origin: &Origin,
    given: &mut Vec<(Month, SegmentId)>,
) -> Result<Vec<SegmentSummary>, Error> {
    let mut summaries = Vec::new();
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
        let Segments {
            disk,
            removals,
            root,
            ..
        } = segments;
        let id = segments.next_id();
        given.push((*month, id));
        let new = NewSegment {
            id,
            month: *month,
            origin: origin.clone(),
            promotion: sample.choose(),
        };
        let mut segment = SegmentFile::create(disk, removals, root, new)?;
        let partitions = partitions.iter().map(|(_, batches)| batches.clone());
        arrange(partitions, |batch| segment.write(batch))?;
        summaries.push(segment.finish()?);
    }
    Ok(summaries)
}
