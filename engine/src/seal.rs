//! Hot rows into segments: write beside, sync, rename, sync the directory,
//! commit the catalog, publish, let go of the log.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use spanstore_format::segment::writer::SegmentWriteError;
use spanstore_format::segment::{SegmentSummary, SegmentWriter};
use spanstore_format::{FormatError, Month, SegmentId, TeamId};

use crate::catalog::SealCommit;
use crate::error::Error;
use crate::hot::HotBuffer;
use crate::io::{Disk, FileWriter, OpenMode};
use crate::segment::{self, Segment};
use crate::write::message::{Control, SealJob};
use crate::write::shared::Shared;

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
        let next = self.shared.catalog.next_segment()?;
        let summaries = write_segments(&self.disk, &self.root, &job.rows, next)?;
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
            .map(|summary| Arc::new(Segment::new(&self.disk, &self.root, summary.clone())));
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

/// Writes one segment a month. When one fails, those before it are strays that
/// the next open removes.
fn write_segments(
    disk: &Arc<dyn Disk>,
    root: &Path,
    rows: &HotBuffer,
    first: SegmentId,
) -> Result<Vec<SegmentSummary>, Error> {
    let mut summaries = Vec::new();
    let mut id = first;
    for partitions in rows
        .partitions()
        .chunk_by(|((one, _), _), ((next, _), _)| one == next)
    {
        let Some(((month, _), _)) = partitions.first() else {
            continue;
        };
        let directory = segment::directory(root).join(month.to_string());
        disk.create_dir_all(&directory)
            .map_err(|error| Error::io("create", &directory, error))?;
        let unfinished = directory.join(format!("{id}.parquet.unfinished"));
        let written = write_segment(disk, &unfinished, id, *month, partitions);
        let summary = match written {
            Ok(summary) => summary,
            Err(error) => {
                // Best effort: what stays is a stray for the next open.
                drop(disk.remove_file(&unfinished));
                return Err(error);
            }
        };
        let path = segment::path(root, &summary);
        disk.rename(&unfinished, &path)
            .map_err(|error| Error::io("rename", &path, error))?;
        disk.sync_dir(&directory)
            .map_err(|error| Error::io("sync", &directory, error))?;
        summaries.push(summary);
        id = SegmentId(id.0 + 1);
    }
    Ok(summaries)
}

type Partitions<'a> = [((Month, &'a TeamId), Vec<arrow::array::RecordBatch>)];

fn write_segment(
    disk: &Arc<dyn Disk>,
    path: &Path,
    id: SegmentId,
    month: Month,
    partitions: &Partitions<'_>,
) -> Result<SegmentSummary, Error> {
    // An earlier attempt may have left its file; nothing reads it.
    match disk.remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("remove", path, error));
        }
        _ => {}
    }
    let file = disk
        .open(path, OpenMode::CreateNew)
        .map_err(|error| Error::io("create", path, error))?;
    let failed = |error: SegmentWriteError| match error {
        SegmentWriteError::Io(error) => Error::io("write", path, error),
        SegmentWriteError::Rows(error) => Error::corrupt(path.display().to_string(), error),
        other => Error::io("write", path, std::io::Error::other(other)),
    };
    let mut writer = SegmentWriter::new(FileWriter::new(file), id, month).map_err(failed)?;
    for ((_, team), batches) in partitions {
        writer.write_partition(team, batches).map_err(failed)?;
    }
    let (out, summary) = writer.finish().map_err(failed)?;
    let (file, bytes) = out
        .finish()
        .map_err(|error| Error::io("write", path, error))?;
    if bytes != summary.bytes {
        let expected = format!("{} bytes", summary.bytes);
        let error = FormatError::malformed("segment", bytes, expected, format!("{bytes} bytes"));
        return Err(Error::corrupt(path.display().to_string(), error));
    }
    file.sync_data()
        .map_err(|error| Error::io("sync", path, error))?;
    Ok(summary)
}
