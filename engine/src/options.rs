//! Settings of a store.

use std::num::NonZero;
use std::time::Duration;

use spanstore_format::catalog::TeamSettings;
use spanstore_format::otlp::MAX_VALUE_NESTING;
use spanstore_format::otlp::body::SMALL_BYTES;

/// When an acknowledged batch is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Written and synced with its group before `append` returns: neither a
    /// crash of the process nor a power cut loses it.
    #[default]
    Sync,
    /// Written before `append` returns, synced at this interval: a power cut
    /// loses at most what the interval covers.
    Interval(Duration),
    /// Written before `append` returns, synced when the system pleases, and at
    /// seals: a power cut may lose all since then.
    None,
}

/// What a team pays for; each plan has its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Plan {
    /// The free plan.
    #[default]
    Hobby,
    /// The plan of small companies.
    Pro,
    /// The plan of large companies.
    Enterprise,
}

impl Plan {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Hobby => 0,
            Self::Pro => 1,
            Self::Enterprise => 2,
        }
    }
}

/// Spans that a team of each plan may write in a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanLimits {
    /// Limit of [`Plan::Hobby`], spans a month.
    pub hobby: u64,
    /// Limit of [`Plan::Pro`], spans a month.
    pub pro: u64,
    /// Limit of [`Plan::Enterprise`], spans a month.
    pub enterprise: u64,
}

impl Default for PlanLimits {
    fn default() -> Self {
        Self {
            hobby: 1_000_000,
            pro: 1_000_000,
            enterprise: 1_000_000,
        }
    }
}

impl PlanLimits {
    /// The limit of a team with these settings, spans a month.
    pub(crate) fn of(&self, settings: &TeamSettings) -> u64 {
        settings.limit.unwrap_or(match settings.plan {
            0 => self.hobby,
            1 => self.pro,
            _ => self.enterprise,
        })
    }
}

/// Limits of what is appended. A span over one of them is refused, the others of its
/// batch are not; a batch over one of those named `batch_` is refused whole.
///
/// They hold for every batch alike, whether it came as protobuf, as JSON or was made
/// in Rust, and before anything is acknowledged. One thing differs: a text or number
/// of more than 4 MiB refuses the whole body in JSON, since it cannot be read piece by
/// piece, and its span alone in protobuf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How far back the start of a span may lie; none for no limit.
    pub oldest: Option<Duration>,
    /// How far ahead the start of a span may lie; none for no limit.
    pub furthest_ahead: Option<Duration>,
    /// Bytes of a span's name, and of an event's.
    pub name_bytes: usize,
    /// Bytes of a session or request id.
    pub id_bytes: usize,
    /// Attributes of a span, an event, a link, a resource or a scope.
    pub attributes: usize,
    /// Bytes of an attribute's key.
    pub attribute_key_bytes: usize,
    /// Bytes of an attribute's value. Each value within it takes two more.
    pub attribute_value_bytes: usize,
    /// Arrays and key-value lists within each other; at most 16 in any case.
    pub attribute_depth: usize,
    /// Bytes of a text that becomes a column, such as `service.name` or `url.full`.
    pub mapped_text_bytes: usize,
    /// Events of a span.
    pub events: usize,
    /// Links of a span.
    pub links: usize,
    /// Bytes of a span in OTLP protobuf; at most 1 MiB in any case.
    pub span_bytes: usize,
    /// Bytes of a resource in OTLP protobuf; at most 64 KiB in any case.
    pub resource_bytes: usize,
    /// Bytes of an instrumentation scope in OTLP protobuf; at most 64 KiB in any case.
    pub scope_bytes: usize,
    /// Bytes of the schema URL of a resource or of a scope.
    pub schema_url_bytes: usize,
    /// Spans of a batch, and its resources, and its scopes; at most 1,000,000 in any
    /// case.
    pub batch_spans: usize,
    /// Bytes of a batch, as it comes and in OTLP protobuf; at most 96 MiB in any case.
    pub batch_bytes: usize,
    /// Bytes of the texts that become columns, such as `service.name`, summed over the
    /// spans of a batch: a resource is stored once, and its texts in each row's columns.
    pub batch_column_bytes: usize,
    /// Bytes of memory that a batch may take until its append is answered, as they
    /// are reckoned from the elements of its body before it is decoded. A larger
    /// batch may take seven times its bytes.
    pub batch_memory_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            oldest: Some(Duration::from_hours(744)),
            furthest_ahead: Some(Duration::from_mins(10)),
            name_bytes: 1_024,
            id_bytes: 256,
            attributes: 512,
            attribute_key_bytes: 256,
            attribute_value_bytes: 64 << 10,
            attribute_depth: MAX_VALUE_NESTING,
            mapped_text_bytes: 16 << 10,
            events: 512,
            links: 512,
            span_bytes: MOST_SPAN_BYTES,
            resource_bytes: SMALL_BYTES,
            scope_bytes: SMALL_BYTES,
            schema_url_bytes: 2 << 10,
            batch_spans: 100_000,
            batch_bytes: 64 << 20,
            batch_column_bytes: 256 << 20,
            batch_memory_bytes: 192 << 20,
        }
    }
}

/// How the files of segments are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadBy {
    /// They are mapped into memory. That is fastest, but a sector that the
    /// medium cannot read ends the process with the signal SIGBUS.
    #[default]
    Map,
    /// They are read in blocks of 16 KiB. A sector that the medium cannot read is
    /// [`Error::Io`](crate::Error::Io), which names the file and the place. Blocks
    /// are kept within a quarter of [`StoreOptions::cache_bytes`].
    Pread,
}

/// Bytes of a batch in any case: a record of the log must hold it, and what is said
/// of it.
const MOST_BATCH_BYTES: usize = 96 << 20;

/// Spans of a batch in any case: the log must hold a receipt that refuses each.
const MOST_BATCH_SPANS: usize = 1_000_000;

/// Bytes of a span in any case: a page of a segment holds a thousand.
const MOST_SPAN_BYTES: usize = 1 << 20;

impl Limits {
    /// Bytes of a batch, as set and in any case.
    pub(crate) fn most_batch_bytes(&self) -> usize {
        self.batch_bytes.min(MOST_BATCH_BYTES)
    }

    /// Spans of a batch, as set and in any case.
    pub(crate) fn most_batch_spans(&self) -> usize {
        self.batch_spans.min(MOST_BATCH_SPANS)
    }

    /// Bytes of a span, as set and in any case.
    pub(crate) fn most_span_bytes(&self) -> usize {
        self.span_bytes.min(MOST_SPAN_BYTES)
    }

    /// Bytes of a resource, as set and in any case.
    pub(crate) fn most_resource_bytes(&self) -> usize {
        self.resource_bytes.min(SMALL_BYTES)
    }

    /// Bytes of a scope, as set and in any case.
    pub(crate) fn most_scope_bytes(&self) -> usize {
        self.scope_bytes.min(SMALL_BYTES)
    }

    /// Containers within each other, as set and in any case: what reads the log and
    /// the segments reads so many.
    pub(crate) fn most_attribute_depth(&self) -> usize {
        self.attribute_depth.min(MAX_VALUE_NESTING)
    }
}

/// How much is remembered of appends, so that one that is sent again is known.
/// Nothing is remembered when one of both is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// How long an append is remembered.
    pub time: Duration,
    /// Bytes of memory for all teams; one team gets at most a sixteenth. At the
    /// limit the oldest is forgotten. An append takes about 400 bytes.
    pub bytes: usize,
}

/// Limits of queries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryLimits {
    /// Time that a query may take. What its reader does between two batches
    /// does not count: the query waits meanwhile.
    pub time: Duration,
    /// Bytes that one query may take: rows that it found, values of facets that
    /// it counts, batches that it scans, and what it sorts, groups and joins.
    /// Not counted are batches on their way from one operator to the next, of
    /// 8,192 rows at most, and up to two batches that wait for the reader. A scan
    /// reads batches of about 16 MiB at most, and gives the rows that a filter
    /// found in batches of about 32 MiB.
    pub memory_bytes: usize,
    /// Bytes that all queries of the store may take together, counted likewise.
    pub total_memory_bytes: usize,
    /// Threads of the store that queries work on, at least one, and the tasks
    /// that an SQL query is divided among. They start with the first query.
    pub threads: usize,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(10),
            memory_bytes: 256 << 20,
            total_memory_bytes: 512 << 20,
            threads: std::thread::available_parallelism().map_or(1, NonZero::get),
        }
    }
}

/// Settings of a store. `StoreOptions::default()` suits a service with a
/// gigabyte and a half to spare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Make the store where there is none.
    pub create: bool,
    /// Read the store alone, also while another process has it open and writes to it. Nothing of
    /// it is changed or locked, and calls that would change something answer
    /// [`Error::ReadOnly`](crate::Error::ReadOnly). What is seen is what the files had when the
    /// store was opened, and what [`Store::refresh`](crate::Store::refresh) has found since;
    /// spans may be seen a moment before their append is acknowledged, and when that fails for a
    /// full disk they are taken back. The catalog is copied into memory, the log is replayed as
    /// in any open, and all segments are mapped, whatever [`StoreOptions::open_files`] says.
    ///
    /// Segments that the other process replaces stay readable with [`ReadBy::Map`]. With
    /// [`ReadBy::Pread`] a query may find that one is gone; then the store is to be opened
    /// again.
    pub read_only: bool,
    /// When an acknowledged batch is on disk.
    pub durability: Durability,
    /// Spans that a team may write in a month, by its plan.
    pub plan_limits: PlanLimits,
    /// Limits of what is appended.
    pub limits: Limits,
    /// Limits of a query.
    pub query_limits: QueryLimits,
    /// How much is remembered of accepted bodies. A body that comes again is not
    /// stored and not charged again; see [`Receipt::repeated`](crate::Receipt::repeated).
    pub repeats: Remembered,
    /// How much is remembered of idempotency keys; see
    /// [`SpanBatch::with_idempotency_key`](crate::SpanBatch::with_idempotency_key).
    pub idempotency: Remembered,
    /// Bytes of batches on their way, from when they are checked and encoded to
    /// when they are answered. At the limit `append` waits and `try_append`
    /// answers [`Error::Busy`](crate::Error::Busy). A batch that is larger goes
    /// alone.
    pub queue_bytes: usize,
    /// Bytes of rows in memory, sealed ones excluded. At half of it a seal
    /// begins; at the limit `append` waits for the seal and `try_append` answers
    /// [`Error::Busy`](crate::Error::Busy).
    pub hot_bytes: usize,
    /// Bytes of the log at which a seal begins.
    pub log_bytes: u64,
    /// Rows in memory at which a seal begins.
    pub seal_rows: u64,
    /// Rows of small appends of a team that are put together in memory, as what a read of
    /// unsealed rows costs depends on how many batches they are. It begins when the team's
    /// rows are read, or appends pause for some milliseconds: the first question after many
    /// small appends at full rate may take a second. While rows are copied, less than 64 MiB
    /// of them are in memory twice.
    pub gather_rows: usize,
    /// Age of the oldest unsealed row at which a seal begins; none for no limit.
    pub seal_age: Option<Duration>,
    /// How long nothing of a trace must come until it is ready
    /// ([`TraceStatus::Ready`](crate::TraceStatus::Ready)).
    pub trace_quiet_time: Duration,
    /// How segments are read.
    pub read_by: ReadBy,
    /// Segments that are open or mapped at a time, one of which requests are asked counting
    /// twice; at the limit one that is read little is let go when its last reader is done.
    pub open_files: usize,
    /// Bytes of segments that are kept in memory. One half is for codes of columns that
    /// questions counted, grouped or compared row by row, two bytes a row and column; the
    /// other for parsed metadata and dictionaries, about 8 MiB for a segment of a million rows
    /// of which all columns were read. Where segments are read in place of mapped
    /// ([`ReadBy::Pread`]), their blocks take half of that other half. At the limit what is
    /// used little is let go, and read again when it is needed.
    pub cache_bytes: usize,
    /// Whether the store does by itself what is due: seals, merges, removing what
    /// retention has let go. The latter once an hour: segments of which nothing is
    /// kept, and rows of teams whose month has lain beyond retention for a day, in
    /// segments of about 8 × `segment_rows` rows together. Without it nothing happens but what is asked for;
    /// [`Store::maintain`](crate::Store::maintain) does all that is due, and
    /// appends at the limit of memory answer [`Error::Busy`](crate::Error::Busy).
    pub background: bool,
    /// Share of its time, in percent, that the background thread works while merging
    /// is not behind; it rests for the others. With more than 8 segments of one
    /// partition ([`MergeDebt`](crate::MergeDebt)) it works more, with 12 all the time.
    /// With 13 and more appends wait after each group of batches, at most a second,
    /// and `try_append` answers [`Error::Busy`](crate::Error::Busy) meanwhile; not
    /// where merges fail, and not without [`StoreOptions::background`].
    pub compaction_percent: u8,
    /// Threads that a merge works on, at least one, where it does not rest; those
    /// beyond the first end with it.
    pub compaction_threads: usize,
    /// Rows at which a merge begins another segment, between two teams.
    pub segment_rows: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            create: true,
            read_only: false,
            durability: Durability::Sync,
            plan_limits: PlanLimits::default(),
            limits: Limits::default(),
            query_limits: QueryLimits::default(),
            repeats: Remembered {
                time: Duration::from_mins(10),
                bytes: 64 << 20,
            },
            idempotency: Remembered {
                time: Duration::from_hours(24),
                bytes: 64 << 20,
            },
            queue_bytes: 128 << 20,
            hot_bytes: 512 << 20,
            log_bytes: 256 << 20,
            seal_rows: 262_144,
            gather_rows: 16_384,
            seal_age: Some(Duration::from_hours(1)),
            trace_quiet_time: Duration::from_secs(2),
            read_by: ReadBy::Map,
            open_files: 1_024,
            cache_bytes: 256 << 20,
            background: true,
            compaction_percent: 50,
            compaction_threads: std::thread::available_parallelism().map_or(1, NonZero::get),
            segment_rows: 2 << 20,
        }
    }
}
