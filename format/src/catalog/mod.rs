//! The records of the catalog.
//!
//! Values are protobuf messages
//! (<https://protobuf.dev/programming-guides/encoding/>), so that fields can be
//! added.

mod sums;

use prost::Message;

use crate::error::FormatError;
use crate::id::{SegmentId, TeamId, TraceId};
use crate::month::Month;
use crate::segment::SegmentSummary;

pub use sums::{CatalogSums, SUM_BLOCK_BYTES};

/// A segment, as table `segments` keeps it.
#[derive(Clone, PartialEq, Message)]
struct SegmentRecord {
    #[prost(uint32, tag = "1")]
    month: u32,
    #[prost(uint32, tag = "2")]
    rows: u32,
    #[prost(uint32, tag = "3")]
    partitions: u32,
    #[prost(uint64, tag = "4")]
    bytes: u64,
    #[prost(uint64, tag = "5")]
    index_offset: u64,
    #[prost(uint64, tag = "6")]
    tail_offset: u64,
    #[prost(fixed32, tag = "7")]
    tail_crc: u32,
    #[prost(sfixed64, tag = "8")]
    first_start: i64,
    #[prost(sfixed64, tag = "9")]
    last_start: i64,
    #[prost(string, tag = "10")]
    first_team: String,
    #[prost(string, tag = "11")]
    last_team: String,
    #[prost(uint32, tag = "12")]
    level: u32,
    #[prost(uint64, tag = "13")]
    run: u64,
}

/// The record of a segment.
pub fn encode_segment(summary: &SegmentSummary) -> Vec<u8> {
    SegmentRecord {
        month: u32::from(summary.month.number()),
        rows: summary.rows,
        partitions: summary.partitions,
        bytes: summary.bytes,
        index_offset: summary.index_offset,
        tail_offset: summary.tail_offset,
        tail_crc: summary.tail_crc,
        first_start: summary.first_start,
        last_start: summary.last_start,
        first_team: summary.first_team.clone(),
        last_team: summary.last_team.clone(),
        level: summary.level,
        run: summary.run.0,
    }
    .encode_to_vec()
}

/// Reads the record of the segment `id`.
///
/// # Errors
/// [`FormatError::Malformed`] when the bytes are not one.
pub fn decode_segment(id: SegmentId, bytes: &[u8]) -> Result<SegmentSummary, FormatError> {
    let malformed =
        |found: String| FormatError::malformed("catalog", id.0, "the record of a segment", found);
    let record = SegmentRecord::decode(bytes).map_err(|error| malformed(error.to_string()))?;
    let month = u16::try_from(record.month)
        .ok()
        .and_then(Month::from_number);
    Ok(SegmentSummary {
        id,
        month: month.ok_or_else(|| malformed(format!("month {}", record.month)))?,
        rows: record.rows,
        partitions: record.partitions,
        bytes: record.bytes,
        index_offset: record.index_offset,
        tail_offset: record.tail_offset,
        tail_crc: record.tail_crc,
        first_start: record.first_start,
        last_start: record.last_start,
        first_team: record.first_team,
        last_team: record.last_team,
        level: record.level,
        run: SegmentId(record.run),
    })
}

/// What is set for one team, as table `settings` keeps it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TeamSettings {
    /// Number of the plan: 0 hobby, 1 pro, 2 enterprise.
    #[prost(uint32, tag = "1")]
    pub plan: u32,
    /// Spans a month, in place of the plan's.
    #[prost(uint64, optional, tag = "2")]
    pub limit: Option<u64>,
    /// How long spans are kept, ns, in place of the store's.
    #[prost(uint64, optional, tag = "3")]
    pub retention_nanos: Option<u64>,
}

impl TeamSettings {
    /// Reads the record of a team's settings.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the bytes are not one.
    pub fn read(team: &str, bytes: &[u8]) -> Result<Self, FormatError> {
        Self::decode(bytes).map_err(|error| {
            FormatError::malformed(
                "catalog",
                0,
                format!("settings of {team}"),
                error.to_string(),
            )
        })
    }
}

/// A session of the registry, as table `sessions` and log records keep it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SessionRecord {
    /// Whether it is of one page load.
    #[prost(bool, tag = "1")]
    pub is_page_trace: bool,
    /// Who started it.
    #[prost(string, tag = "2")]
    pub user: String,
    /// The browser it is traced in.
    #[prost(string, tag = "3")]
    pub browser: String,
    /// The project.
    #[prost(string, tag = "4")]
    pub project: String,
    /// The deployment.
    #[prost(string, tag = "5")]
    pub deployment: String,
    /// The environment of the deployment.
    #[prost(string, tag = "6")]
    pub environment: String,
    /// The host name.
    #[prost(string, tag = "7")]
    pub host: String,
    /// When it was started, ns since 1970.
    #[prost(sfixed64, tag = "8")]
    pub started_at: i64,
    /// When it was stopped, ns since 1970; none while it is open.
    #[prost(sfixed64, optional, tag = "9")]
    pub stopped_at: Option<i64>,
    /// The session that it was started in place of.
    #[prost(string, optional, tag = "10")]
    pub predecessor: Option<String>,
}

impl SessionRecord {
    /// Reads the record of a session.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the bytes are not one.
    pub fn read(id: &str, bytes: &[u8]) -> Result<Self, FormatError> {
        Self::decode(bytes).map_err(|error| {
            let expected = format!("the record of session {id}");
            FormatError::malformed("catalog", 0, expected, error.to_string())
        })
    }
}

/// Rows that a caller wants gone: those of a team, of one of its traces or of
/// one of its sessions, in the segments below one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Erasure {
    /// The team.
    pub team: TeamId,
    /// Which of its rows.
    pub what: Erased,
    /// The first segment that is not meant: rows that came later stay.
    pub before: SegmentId,
}

/// Which rows of a team are to go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Erased {
    /// All.
    Team,
    /// Those of a trace.
    Trace(TraceId),
    /// Those of a session.
    Session(String),
}

/// An erasure, as table `erasures` keeps it.
#[derive(Clone, PartialEq, Message)]
struct ErasureRecord {
    #[prost(string, tag = "1")]
    team: String,
    #[prost(uint64, tag = "2")]
    before: u64,
    #[prost(bytes = "vec", optional, tag = "3")]
    trace: Option<Vec<u8>>,
    #[prost(string, optional, tag = "4")]
    session: Option<String>,
}

impl Erasure {
    /// The record of an erasure.
    pub fn encode(&self) -> Vec<u8> {
        let (trace, session) = match &self.what {
            Erased::Team => (None, None),
            Erased::Trace(id) => (Some(id.0.to_vec()), None),
            Erased::Session(id) => (None, Some(id.clone())),
        };
        ErasureRecord {
            team: self.team.as_str().to_owned(),
            before: self.before.0,
            trace,
            session,
        }
        .encode_to_vec()
    }

    /// Reads the record of the erasure `number`.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the bytes are not one.
    pub fn decode(number: u64, bytes: &[u8]) -> Result<Self, FormatError> {
        let malformed = |found: String| {
            FormatError::malformed("catalog", number, "the record of an erasure", found)
        };
        let record = ErasureRecord::decode(bytes).map_err(|error| malformed(error.to_string()))?;
        let what = match (record.trace, record.session) {
            (None, None) => Erased::Team,
            (Some(id), None) => Erased::Trace(
                TraceId::from_bytes(&id).map_err(|error| malformed(error.to_string()))?,
            ),
            (None, Some(id)) => Erased::Session(id),
            (Some(_), Some(_)) => return Err(malformed("a trace and a session".into())),
        };
        Ok(Self {
            team: TeamId::new(&record.team).map_err(|error| malformed(error.to_string()))?,
            what,
            before: SegmentId(record.before),
        })
    }
}
