//! Segments as the engine holds them: where their files lie, mapping or reading
//! them, and what stays in memory of them.

use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, ArrayRef};
use bytes::Bytes;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter, Weighter};
use roaring::RoaringBitmap;
use spanstore_format::segment::layout::checksum::BLOCK_BYTES;
use spanstore_format::segment::{
    CodedColumn, ReadFile, RowReader, SegmentReader, SegmentSummary, Source,
};
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
    readers: Cache<Key, Arc<SegmentReader>, UnitWeighter>,
    /// Parsed metadata and dictionaries.
    rows: Cache<Key, Arc<RowReader>, ByMemory>,
    /// Codes of whole row groups of columns.
    codes: Cache<CodesKey, Arc<[u16]>, ByCodes>,
    #[cfg_attr(
        not(feature = "query"),
        expect(dead_code, reason = "only queries for requests ask for them")
    )]
    shared_trace_rows: SharedTraceRowsCache,
    sessions: Cache<(SegmentId, u32), Arc<KeptSessions>, BySessions>,
}

/// What the stored requests of a team in a segment say of each session.
#[derive(Debug)]
pub(crate) struct KeptSessions {
    /// The requests that are left out of it.
    pub(crate) left_out: RoaringBitmap,
    /// A row for each session; who keeps it knows the columns.
    pub(crate) columns: Vec<ArrayRef>,
}

/// Bytes of [`KeptSessions`] that are kept, at most: of 10,000 sessions one takes about a million.
const MOST_SESSION_BYTES: u64 = 8 << 20;

/// Teams' parts of segments of which they are kept, about.
const MOST_SESSION_LISTS: usize = 1 << 10;

#[derive(Debug, Clone)]
struct BySessions;

impl Weighter<(SegmentId, u32), Arc<KeptSessions>> for BySessions {
    fn weight(&self, _: &(SegmentId, u32), kept: &Arc<KeptSessions>) -> u64 {
        let columns = kept.columns.iter();
        let bytes: usize = columns.map(Array::get_array_memory_size).sum();
        KEPT_BYTES + (bytes + kept.left_out.serialized_size()) as u64
    }
}

/// Which rows of a team in two segments may belong to traces that both have: those of the
/// first segment, then those of the second.
pub(crate) type SharedTraceRows = (RoaringBitmap, RoaringBitmap);

/// Two segments, the one with the lesser id first, and the first row of the team in that.
type SegmentPair = (SegmentId, SegmentId, u32);
type SharedTraceRowsCache = Cache<SegmentPair, Arc<SharedTraceRows>, BySharedTraces>;

/// Bytes of [`SharedTraceRows`] that are kept, at most. Most pairs share no trace and take
/// [`SHARED_BYTES`].
const MOST_SHARED_BYTES: u64 = 8 << 20;
const SHARED_BYTES: u64 = 128;

#[derive(Debug, Clone)]
struct BySharedTraces;

impl Weighter<SegmentPair, Arc<SharedTraceRows>> for BySharedTraces {
    fn weight(&self, _: &SegmentPair, rows: &Arc<SharedTraceRows>) -> u64 {
        let bytes = |rows: &RoaringBitmap| rows.serialized_size() as u64;
        SHARED_BYTES + bytes(&rows.0) + bytes(&rows.1)
    }
}

/// A segment, or the segment of requests in its file.
type Key = (SegmentId, Contents);

/// What the rows of a segment are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Contents {
    Spans,
    Requests,
}

#[derive(Debug, Clone)]
struct ByMemory;

impl Weighter<Key, Arc<RowReader>> for ByMemory {
    fn weight(&self, _: &Key, rows: &Arc<RowReader>) -> u64 {
        rows.memory().max(1) as u64
    }
}

/// A segment, the first row of a row group and a column of its file.
type CodesKey = (Key, u32, u32);

/// Columns of row groups whose codes are kept, about.
const MOST_CODED_COLUMNS: usize = 1 << 10;

/// Bytes that codes take beside themselves, about.
const KEPT_BYTES: u64 = 128;

#[derive(Debug, Clone)]
struct ByCodes;

impl Weighter<CodesKey, Arc<[u16]>> for ByCodes {
    fn weight(&self, _: &CodesKey, codes: &Arc<[u16]>) -> u64 {
        KEPT_BYTES + size_of_val::<[u16]>(codes) as u64
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
        let code_bytes = (bytes / 2) as u64;
        let (block_bytes, bytes) = match read_by {
            ReadBy::Map => (0, bytes / 2),
            ReadBy::Pread => (bytes / 4, bytes / 4),
        };
        let blocks = block_bytes / BLOCK_BYTES as usize;
        Self {
            read_by,
            blocks: Arc::new(cache(blocks, block_bytes as u64, ByBytes)),
            readers: cache(open_files, open_files as u64, UnitWeighter),
            rows: cache(open_files, bytes as u64, ByMemory),
            codes: cache(MOST_CODED_COLUMNS, code_bytes, ByCodes),
            shared_trace_rows: cache(
                (MOST_SHARED_BYTES / SHARED_BYTES) as usize,
                MOST_SHARED_BYTES,
                BySharedTraces,
            ),
            sessions: cache(MOST_SESSION_LISTS, MOST_SESSION_BYTES, BySessions),
        }
    }

    fn forget(&self, id: SegmentId) {
        for contents in [Contents::Spans, Contents::Requests] {
            self.readers.remove(&(id, contents));
            self.rows.remove(&(id, contents));
        }
        self.codes.retain(|((segment, _), _, _), _| *segment != id);
        self.sessions.retain(|(segment, _), _| *segment != id);
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
    /// The segment in whose file it lies, if it is one of requests.
    outer: Option<Arc<Self>>,
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
            outer: None,
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

    /// The segment of its requests; none when it has none.
    #[cfg(feature = "query")]
    pub(crate) fn requests(self: &Arc<Self>) -> Result<Option<Arc<Self>>, Error> {
        let key = (self.summary.id, Contents::Requests);
        let reader = match self.cache.readers.get(&key) {
            Some(reader) => reader,
            None => {
                let requests = self.reader()?.requests();
                let requests = requests.map_err(|error| self.corrupt(error))?;
                let Some(reader) = requests.map(Arc::new) else {
                    return Ok(None);
                };
                self.cache.readers.insert(key, Arc::clone(&reader));
                reader
            }
        };
        Ok(Some(Arc::new(Self {
            summary: reader.summary().clone(),
            outer: Some(Arc::clone(self)),
            path: self.path.clone(),
            disk: Arc::clone(&self.disk),
            cache: Arc::clone(&self.cache),
            removals: Arc::clone(&self.removals),
            is_replaced: AtomicBool::new(false),
        })))
    }

    /// The rows of a team, whose first row here is `first_row`, that may belong to traces of
    /// another segment with a greater id too. They are looked for once.
    #[cfg(feature = "query")]
    pub(crate) fn shared_trace_rows(
        &self,
        first_row: u32,
        other: &Self,
        find: impl FnOnce() -> Result<SharedTraceRows, Error>,
    ) -> Result<Arc<SharedTraceRows>, Error> {
        let key = (self.summary.id, other.summary.id, first_row);
        let find = || find().map(Arc::new);
        self.cache.shared_trace_rows.get_or_insert_with(&key, find)
    }

    /// What the requests of a team, whose first row here is `first_row`, say of sessions, if it is
    /// kept.
    #[cfg(feature = "query")]
    pub(crate) fn kept_sessions(&self, first_row: u32) -> Option<Arc<KeptSessions>> {
        self.cache.sessions.get(&(self.summary.id, first_row))
    }

    /// Keeps what the requests of a team say of sessions.
    #[cfg(feature = "query")]
    pub(crate) fn keep_sessions(&self, first_row: u32, sessions: &Arc<KeptSessions>) {
        let key = (self.summary.id, first_row);
        self.cache.sessions.insert(key, Arc::clone(sessions));
    }

    fn key(&self) -> Key {
        let contents = match self.outer {
            None => Contents::Spans,
            Some(_) => Contents::Requests,
        };
        (self.summary.id, contents)
    }

    /// The open segment.
    pub(crate) fn reader(&self) -> Result<Arc<SegmentReader>, Error> {
        let open = || self.open().map(Arc::new);
        self.cache.readers.get_or_insert_with(&self.key(), open)
    }

    /// Opens the file anew: nothing of it counts as verified.
    pub(crate) fn open(&self) -> Result<SegmentReader, Error> {
        if let Some(outer) = &self.outer {
            let requests = outer.reader()?.requests();
            let requests = requests.map_err(|error| self.corrupt(error))?;
            return requests.ok_or_else(|| {
                let cause = "a segment of requests that is not there any more";
                Error::internal("segments", &cause)
            });
        }
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
        let file = self.disk.open(&self.path, OpenMode::Read);
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
        self.cache.rows.get_or_insert_with(&self.key(), || {
            let rows = self.reader()?.row_reader();
            rows.map(Arc::new).map_err(|error| self.corrupt(error))
        })
    }

    /// The codes of a column in all rows of a row group, if they are kept.
    pub(crate) fn kept_codes(&self, column: &CodedColumn<'_>) -> Option<Arc<[u16]>> {
        self.cache.codes.get(&self.key_of_codes(column)?)
    }

    /// Reads the codes of a column in all rows of a row group, and keeps them; none when its
    /// pages hold values that the dictionary does not have, when there is nothing to read, and
    /// when a page is damaged, which may be one that nobody asked for.
    pub(crate) fn read_codes(&self, column: &CodedColumn<'_>) -> Option<Arc<[u16]>> {
        let key = self.key_of_codes(column)?;
        let codes = column.read_all().ok()??;
        self.cache.codes.insert(key, Arc::clone(&codes));
        Some(codes)
    }

    fn key_of_codes(&self, column: &CodedColumn<'_>) -> Option<CodesKey> {
        let place = column.file_column().filter(|_| column.is_whole())?;
        Some((self.key(), column.all_rows().start, place))
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
