//! What a log record says: one appended batch and what became of it, or what changes of
//! the sessions of a team.
//!
//! Records are protobuf messages (<https://protobuf.dev/programming-guides/encoding/>),
//! so that fields can be added. The spans are kept as one OTLP request, of which
//! the rows that were not admitted are named; replaying needs no decision.

use bytes::Bytes;
use prost::Message;

use crate::catalog::SessionRecord;
use crate::error::FormatError;

/// An appended batch.
#[derive(Clone, PartialEq, Message)]
pub struct AppendRecord {
    /// The team.
    #[prost(string, tag = "1")]
    pub team: String,
    /// An OTLP `ExportTraceServiceRequest` with the spans that passed the checks.
    #[prost(bytes = "bytes", tag = "2")]
    pub request: Bytes,
    /// Spans of the request, by their number in it, that were not admitted:
    /// duplicates and those over the quota.
    #[prost(uint32, repeated, tag = "3")]
    pub left_out: Vec<u32>,
    /// The caller's idempotency key.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub idempotency_key: Option<Bytes>,
    /// What the caller was told; there when the append is to be remembered.
    #[prost(message, optional, tag = "5")]
    pub receipt: Option<ReceiptRecord>,
    /// Hash of the content; there when the append is to be remembered.
    #[prost(bytes = "bytes", optional, tag = "6")]
    pub content: Option<Bytes>,
    /// When the append was accepted, ns since 1970; 0 when it is not remembered.
    #[prost(sfixed64, tag = "7")]
    pub noted_at: i64,
    /// Whether the record is no append: all that was remembered of the team's
    /// appends is forgotten.
    #[prost(bool, tag = "8")]
    pub forgets: bool,
    /// Whether all sessions of the team are removed from the registry, before those below
    /// change.
    #[prost(bool, tag = "9")]
    pub removes_sessions: bool,
    /// Sessions of the registry that the record changes.
    #[prost(message, repeated, tag = "10")]
    pub sessions: Vec<SessionChange>,
}

/// What becomes of a session of the registry.
#[derive(Clone, PartialEq, Message)]
pub struct SessionChange {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// What it is from now on; none when it is removed.
    #[prost(message, optional, tag = "2")]
    pub session: Option<SessionRecord>,
}

/// A receipt, for the caller who appends the same batch again.
#[derive(Clone, PartialEq, Message)]
pub struct ReceiptRecord {
    /// Spans accepted.
    #[prost(uint64, tag = "1")]
    pub accepted: u64,
    /// Spans that were there already.
    #[prost(uint64, tag = "2")]
    pub duplicates: u64,
    /// Spans refused.
    #[prost(message, repeated, tag = "3")]
    pub refused: Vec<RefusalRecord>,
    /// The partitions touched.
    #[prost(message, repeated, tag = "4")]
    pub months: Vec<MonthRecord>,
    /// Whether it is that of an append before, with the same content.
    #[prost(bool, tag = "5")]
    pub repeated: bool,
}

/// A refused span.
#[derive(Clone, PartialEq, Message)]
pub struct RefusalRecord {
    /// Its number in the caller's batch.
    #[prost(uint32, tag = "1")]
    pub index: u32,
    /// Number of the reason.
    #[prost(uint32, tag = "2")]
    pub reason: u32,
}

/// What a partition held when a receipt was made.
#[derive(Clone, PartialEq, Message)]
pub struct MonthRecord {
    /// Months since 1970-01.
    #[prost(uint32, tag = "1")]
    pub month: u32,
    /// Spans in it.
    #[prost(uint64, tag = "2")]
    pub used: u64,
    /// Its limit.
    #[prost(uint64, tag = "3")]
    pub limit: u64,
}

impl AppendRecord {
    /// Reads the record of a sequence number.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the bytes are not a record.
    pub fn read(sequence: u64, payload: Bytes) -> Result<Self, FormatError> {
        Self::decode(payload).map_err(|error| {
            FormatError::malformed(
                "log record",
                sequence,
                "an append record",
                error.to_string(),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_equal() {
        let record = AppendRecord {
            team: "acme".into(),
            request: Bytes::from_static(b"spans"),
            left_out: vec![3, 5],
            idempotency_key: Some(Bytes::from_static(b"k")),
            receipt: Some(ReceiptRecord {
                accepted: 1,
                duplicates: 2,
                refused: vec![RefusalRecord {
                    index: 4,
                    reason: 7,
                }],
                months: vec![MonthRecord {
                    month: 682,
                    used: 10,
                    limit: 20,
                }],
                repeated: true,
            }),
            content: Some(Bytes::from_static(&[7; 16])),
            noted_at: -5,
            forgets: true,
            removes_sessions: true,
            sessions: vec![
                SessionChange {
                    id: "gone".into(),
                    session: None,
                },
                SessionChange {
                    id: "here".into(),
                    session: Some(SessionRecord {
                        user: "ada".into(),
                        started_at: -7,
                        stopped_at: Some(3),
                        ..SessionRecord::default()
                    }),
                },
            ],
        };
        let bytes = Bytes::from(record.encode_to_vec());
        assert_eq!(AppendRecord::read(1, bytes.clone()), Ok(record));
        assert!(AppendRecord::read(1, bytes.slice(..bytes.len() - 1)).is_err());
    }
}
