//! Open segments: where their files lie, and mapping them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use spanstore_format::FormatError;
use spanstore_format::segment::{SegmentReader, SegmentSummary};

use crate::error::Error;
use crate::io::Disk;

/// The directory of all segments of a store.
pub(crate) fn directory(root: &Path) -> PathBuf {
    root.join("segments")
}

/// A segment and its file. The file is mapped when it is read for the first
/// time, so that opening a store costs nothing per segment.
#[derive(Debug)]
pub(crate) struct Segment {
    summary: SegmentSummary,
    path: PathBuf,
    disk: Arc<dyn Disk>,
    reader: std::sync::OnceLock<Arc<SegmentReader>>,
}

impl Segment {
    /// The segment of a summary, not opened yet.
    pub(crate) fn new(disk: &Arc<dyn Disk>, root: &Path, summary: SegmentSummary) -> Self {
        let path = path(root, &summary);
        Self {
            summary,
            path,
            disk: Arc::clone(disk),
            reader: std::sync::OnceLock::new(),
        }
    }

    /// What the catalog keeps of it.
    pub(crate) fn summary(&self) -> &SegmentSummary {
        &self.summary
    }

    /// Its file, for messages.
    pub(crate) fn file(&self) -> String {
        self.path.display().to_string()
    }

    /// The open segment.
    pub(crate) fn reader(&self) -> Result<&Arc<SegmentReader>, Error> {
        if let Some(reader) = self.reader.get() {
            return Ok(reader);
        }
        let file = self
            .disk
            .map(&self.path)
            .map_err(|error| Error::io("map", &self.path, error))?;
        let reader =
            SegmentReader::open(file, self.summary.clone()).map_err(|error| self.corrupt(error))?;
        Ok(self.reader.get_or_init(|| Arc::new(reader)))
    }

    /// Damage in this segment.
    pub(crate) fn corrupt(&self, source: FormatError) -> Error {
        Error::corrupt(self.file(), source)
    }
}

/// Where the file of a segment lies.
pub(crate) fn path(root: &Path, summary: &SegmentSummary) -> PathBuf {
    directory(root)
        .join(summary.month.to_string())
        .join(format!("{}.parquet", summary.id))
}
