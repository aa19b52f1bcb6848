//! Segments as the engine holds them: where their files lie, mapping or reading
//! them, and what stays in memory of them.

use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter, Weighter};
use spanstore_format::segment::layout::checksum::BLOCK_BYTES;
use spanstore_format::segment::{ReadFile, RowReader, SegmentReader, SegmentSummary, Source};
use spanstore_format::{FormatError, Month, SegmentId, TeamId};

use crate::error::Error;
use crate::io::{Disk, DiskFile, OpenMode};
use crate::options::ReadBy;
use crate::removal::Removals;

/// The directory of all segments of a store.
pub(crate) fn directory(root: &Path) -> PathBuf {
    root.join("segments")
}

/// The directory of files that a repair found damaged.
pub(crate) fn quarantine(root: &Path) -> PathBuf {
    root.join("quarantine")
}

/// Where the file of a segment lies.
pub(crate) fn path(root: &Path, summary: &SegmentSummary) -> PathBuf {
    path_of(root, summary.month, summary.id)
}

/// Where the file of a segment of a month lies.
pub(crate) fn path_of(root: &Path, month: Month, id: SegmentId) -> PathBuf {
    directory(root)
        .join(month.to_string())
        .join(format!("{id}.parquet"))
}

/// What is kept of segments between reads, within budgets. What does not fit
/// is read from the file again.
#[derive(Debug)]
pub(crate) struct SegmentCache {
    read_by: ReadBy,
    /// Blocks of files that are not mapped.
    blocks: Arc<Blocks>,
    /// Open or mapped files.
    readers: Cache<SegmentId, Arc<SegmentReader>, UnitWeighter>,
    /// Parsed metadata and dictionaries.
    rows: Cache<SegmentId, Arc<RowReader>, ByMemory>,
}

#[derive(Debug, Clone)]
struct ByMemory;

impl Weighter<SegmentId, Arc<RowReader>> for ByMemory {
    fn weight(&self, _: &SegmentId, rows: &Arc<RowReader>) -> u64 {
        rows.memory().max(1) as u64
    }
}

/// Verified blocks of segments.
type Blocks = Cache<(SegmentId, u64), Bytes, ByBytes>;

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<(SegmentId, u64), Bytes> for ByBytes {
    fn weight(&self, _: &(SegmentId, u64), bytes: &Bytes) -> u64 {
        bytes.len().max(1) as u64
    }
}

/// A segment's file that is read block by block.
#[derive(Debug)]
struct BlockFile {
    segment: SegmentId,
    file: Box<dyn DiskFile>,
    bytes: u64,
    blocks: Arc<Blocks>,
}

impl ReadFile for BlockFile {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn kept(&self, block: u64) -> Option<Bytes> {
        self.blocks.get(&(self.segment, block))
    }

    fn keep(&self, block: u64, bytes: Bytes) {
        self.blocks.insert((self.segment, block), bytes);
    }
}

impl SegmentCache {
    /// A cache of at most so many open files, and of so many bytes.
    pub(crate) fn new(open_files: usize, bytes: usize, read_by: ReadBy) -> Self {
        let (block_bytes, bytes) = match read_by {
            ReadBy::Map => (0, bytes),
            ReadBy::Pread => (bytes / 2, bytes / 2),
        };
        let blocks = block_bytes / BLOCK_BYTES as usize;
        Self {
            read_by,
            blocks: Arc::new(cache(blocks, block_bytes as u64, ByBytes)),
            readers: cache(open_files, open_files as u64, UnitWeighter),
            rows: cache(open_files, bytes as u64, ByMemory),
        }
    }

    fn forget(&self, id: SegmentId) {
        self.readers.remove(&id);
        self.rows.remove(&id);
    }
}

fn cache<K: Eq + Hash, V: Clone, W: Weighter<K, V> + Clone>(
    items: usize,
    weight: u64,
    weighter: W,
) -> Cache<K, V, W> {
    // One shard: the budget is small in items, and each may be large.
    let options = OptionsBuilder::new()
        .estimated_items_capacity(items.max(1))
        .weight_capacity(weight.max(1))
        .shards(1)
        .build();
    match options {
        Ok(options) => Cache::with_options(
            options,
            weighter,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        ),
        Err(_) => Cache::with_weighter(items.max(1), weight.max(1), weighter),
    }
}

/// A segment. Its file is opened when it is read, so that opening a store
/// costs nothing per segment. The file of one that a rewrite replaced is
/// removed when the last reader lets go of it.
#[derive(Debug)]
pub(crate) struct Segment {
    summary: SegmentSummary,
    path: PathBuf,
    disk: Arc<dyn Disk>,
    cache: Arc<SegmentCache>,
    removals: Arc<Removals>,
    is_replaced: AtomicBool,
}

impl Segment {
    /// The segment of a summary, not opened yet.
    pub(crate) fn new(
        disk: &Arc<dyn Disk>,
        root: &Path,
        cache: &Arc<SegmentCache>,
        removals: &Arc<Removals>,
        summary: SegmentSummary,
    ) -> Self {
        Self {
            path: path(root, &summary),
            summary,
            disk: Arc::clone(disk),
            cache: Arc::clone(cache),
            removals: Arc::clone(removals),
            is_replaced: AtomicBool::new(false),
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

    /// Whether it may hold rows of a team, as far as the catalog tells.
    pub(crate) fn may_hold(&self, team: &TeamId) -> bool {
        let team = team.as_str();
        self.summary.first_team.as_str() <= team && team <= self.summary.last_team.as_str()
    }

    /// The open segment.
    pub(crate) fn reader(&self) -> Result<Arc<SegmentReader>, Error> {
        let id = self.summary.id;
        self.cache
            .readers
            .get_or_insert_with(&id, || self.open().map(Arc::new))
    }

    /// Opens the file anew: nothing of it counts as verified.
    pub(crate) fn open(&self) -> Result<SegmentReader, Error> {
        let source = match self.cache.read_by {
            ReadBy::Map => {
                let file = self.disk.map(&self.path);
                Source::Whole(file.map_err(|error| Error::io("map", &self.path, error))?)
            }
            ReadBy::Pread => Source::File(Arc::new(self.block_file()?)),
        };
        SegmentReader::open(source, self.summary.clone()).map_err(|error| self.corrupt(error))
    }

    fn block_file(&self) -> Result<BlockFile, Error> {
        let failed = |error| Error::io("open", &self.path, error);
        let file = self.disk.open(&self.path, OpenMode::Existing);
        let file = file.map_err(failed)?;
        Ok(BlockFile {
            segment: self.summary.id,
            bytes: file.len().map_err(failed)?,
            file,
            blocks: Arc::clone(&self.cache.blocks),
        })
    }

    /// What reading rows needs, parsed.
    pub(crate) fn row_reader(&self) -> Result<Arc<RowReader>, Error> {
        let id = self.summary.id;
        self.cache.rows.get_or_insert_with(&id, || {
            let rows = self.reader()?.row_reader();
            rows.map(Arc::new).map_err(|error| self.corrupt(error))
        })
    }

    /// Damage in this segment, or an unreadable part of it.
    pub(crate) fn corrupt(&self, source: FormatError) -> Error {
        Error::corrupt(self.file(), source)
    }

    /// Notes that no catalog names it any more: its file goes with its last
    /// reader.
    pub(crate) fn replaced(&self) {
        self.is_replaced.store(true, Ordering::Release);
        self.cache.forget(self.summary.id);
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if self.is_replaced.load(Ordering::Acquire) {
            self.cache.forget(self.summary.id);
            self.removals.remove(&self.path);
        }
    }
}
