//! Writes a segment's file so that it is there whole or not at all: beside its
//! name, synced, renamed, its directory synced.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use spanstore_format::FormatError;
use spanstore_format::jobs::Workers;
use spanstore_format::segment::{NewSegment, SegmentSummary, SegmentWriteError, SegmentWriter};
use spanstore_format::span::table;

use crate::error::Error;
use crate::io::{Disk, FileWriter, OpenMode};
use crate::removal::Removals;
use crate::segment;

/// A segment that is being written. What is dropped before it is finished
/// leaves no file.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    disk: Arc<dyn Disk>,
    removals: Arc<Removals>,
    root: PathBuf,
    unfinished: PathBuf,
    /// None once it is finished.
    writer: Option<SegmentWriter<FileWriter>>,
}

impl SegmentFile {
    /// Begins a segment.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        removals: &Arc<Removals>,
        root: &Path,
        new: NewSegment,
    ) -> Result<Self, Error> {
        let id = new.id;
        let directory = segment::directory(root).join(new.month.to_string());
        disk.create_dir_all(&directory)
            .map_err(|error| Error::io("create", &directory, error))?;
        let unfinished = directory.join(format!("{id}.parquet.unfinished"));
        // An earlier attempt may have left its file; nothing reads it.
        match disk.remove_file(&unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &unfinished, error));
            }
            _ => {}
        }
        let file = disk
            .open(&unfinished, OpenMode::CreateNew)
            .map_err(|error| Error::io("create", &unfinished, error))?;
        let mut segment = Self {
            disk: Arc::clone(disk),
            removals: Arc::clone(removals),
            root: root.to_path_buf(),
            unfinished,
            writer: None,
        };
        let writer = SegmentWriter::new(FileWriter::new(file), table(), new);
        segment.writer = Some(writer.map_err(|error| segment.failed(error))?);
        Ok(segment)
    }

    fn failed(&self, error: SegmentWriteError) -> Error {
        match error {
            SegmentWriteError::Io(error) => Error::io("write", &self.unfinished, error),
            SegmentWriteError::Rows(error) => {
                Error::corrupt(self.unfinished.display().to_string(), error)
            }
            other => Error::io("write", &self.unfinished, std::io::Error::other(other)),
        }
    }

    /// Shares the work of encoding among workers.
    pub(crate) fn with_workers(mut self, workers: &Arc<dyn Workers>) -> Self {
        let writer = self.writer.take();
        self.writer = writer.map(|writer| writer.with_workers(Arc::clone(workers)));
        self
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> u32 {
        self.writer.as_ref().map_or(0, SegmentWriter::rows)
    }

    /// Adds rows in the order of a segment.
    pub(crate) fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        self.add(|writer| writer.write(rows))
    }

    /// Adds rows that are split already, in the order of a segment.
    pub(crate) fn write_split(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        self.add(|writer| writer.write_split(rows))
    }

    fn add(
        &mut self,
        write: impl FnOnce(&mut SegmentWriter<FileWriter>) -> Result<(), SegmentWriteError>,
    ) -> Result<(), Error> {
        let written = self.writer.as_mut().map_or(Ok(()), write);
        written.map_err(|error| self.failed(error))
    }

    /// Completes the segment: it has its name and is durable.
    pub(crate) fn finish(mut self) -> Result<SegmentSummary, Error> {
        let Some(writer) = self.writer.take() else {
            return Err(Error::Closed);
        };
        let path = self.unfinished.clone();
        let finished = self.complete(writer);
        if finished.is_err() {
            self.removals.remove(&path);
        }
        finished
    }

    fn complete(&self, writer: SegmentWriter<FileWriter>) -> Result<SegmentSummary, Error> {
        let unfinished = &self.unfinished;
        let (out, summary) = writer.finish().map_err(|error| self.failed(error))?;
        let (file, bytes) = out
            .finish()
            .map_err(|error| Error::io("write", unfinished, error))?;
        if bytes != summary.bytes {
            let expected = format!("{} bytes", summary.bytes);
            let error =
                FormatError::malformed("segment", bytes, expected, format!("{bytes} bytes"));
            return Err(Error::corrupt(unfinished.display().to_string(), error));
        }
        file.sync_data()
            .map_err(|error| Error::io("sync", unfinished, error))?;
        let path = segment::path(&self.root, &summary);
        self.disk
            .rename(unfinished, &path)
            .map_err(|error| Error::io("rename", &path, error))?;
        if let Some(directory) = path.parent() {
            self.disk
                .sync_dir(directory)
                .map_err(|error| Error::io("sync", directory, error))?;
        }
        Ok(summary)
    }
}

impl Drop for SegmentFile {
    fn drop(&mut self) {
        if self.writer.is_some() {
            self.removals.remove(&self.unfinished);
        }
    }
}
