//! What a caller learns of an append.

use std::fmt;

use spanstore_format::Month;
use spanstore_format::log::record::{MonthRecord, ReceiptRecord, RefusalRecord};

use crate::options::Durability;

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Spans that were stored.
    pub accepted: u64,
    /// Spans that equal one in the hot buffer, or an earlier one of the batch,
    /// in ids and content: not stored again and not charged.
    pub duplicates: u64,
    /// Spans that were refused, by their number in the batch.
    pub refused: Vec<Refusal>,
    /// The months that spans of the batch lie in.
    pub months: Vec<Usage>,
    /// Whether the batch was synced when the receipt was made.
    pub durability: Durability,
    /// Whether the batch was accepted before: with the same body, or with the same
    /// idempotency key. All else is what the first receipt said. Nothing was stored
    /// or charged again.
    pub repeated: bool,
}

/// A span that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The span's number in the batch, counting from 0 through all resources
    /// and scopes.
    pub index: u32,
    /// Why.
    pub reason: RefusalReason,
}

/// A team's quota of a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The month.
    pub month: Month,
    /// Spans accepted.
    pub used: u64,
    /// Spans that may be accepted.
    pub limit: u64,
    /// Spans that may still be accepted.
    pub remaining: u64,
    /// When the quota of the next month begins, ns since 1970.
    pub resets_at_nanos: i64,
}

impl Usage {
    pub(crate) fn new(month: Month, used: u64, limit: u64) -> Self {
        Self {
            month,
            used,
            limit,
            remaining: limit.saturating_sub(used),
            resets_at_nanos: month.end_nanos(),
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $code:literal, $sentence:literal;)*) => {
        /// Why a span was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum RefusalReason {
            $($(#[$doc])* $name,)*
        }

        impl RefusalReason {
            /// A short name that never changes, such as `over_quota`.
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The number that stands for the reason on disk.
            pub(super) fn number(self) -> u32 {
                match self { $(Self::$name => $number,)* }
            }

            fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }

        impl fmt::Display for RefusalReason {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$name => $sentence,)* })
            }
        }
    };
}

reasons! {
    /// The team's quota of the month is used up.
    OverQuota = 1, "over_quota", "the quota of the month is used up";
    /// The trace id is not 16 bytes, or all zero.
    InvalidTraceId = 2, "invalid_trace_id", "the trace id is not 16 bytes, or all zero";
    /// The span id is not 8 bytes, or all zero.
    InvalidSpanId = 3, "invalid_span_id", "the span id is not 8 bytes, or all zero";
    /// The parent's span id is neither empty nor 8 bytes.
    InvalidParentSpanId = 4, "invalid_parent_span_id", "the parent span id is not 8 bytes";
    /// The start lies further back than the accepted window.
    TooOld = 5, "too_old", "the start lies before the accepted window";
    /// The start lies further ahead than the accepted window.
    TooFarAhead = 6, "too_far_ahead", "the start lies after the accepted window";
    /// The start is 2^63 ns or more after 1970.
    StartOutOfRange = 7, "start_out_of_range", "the start lies after the year 2262";
    /// The name is longer than the limit.
    NameTooLong = 8, "name_too_long", "the name is too long";
    /// The session id or the request id is longer than the limit.
    IdTooLong = 9, "id_too_long", "the session or request id is too long";
    /// More attributes than the limit.
    TooManyAttributes = 10, "too_many_attributes", "there are too many attributes";
    /// A key of an attribute is longer than the limit.
    AttributeKeyTooLong = 11, "attribute_key_too_long", "an attribute's key is too long";
    /// A value of an attribute is larger than the limit.
    AttributeValueTooLarge = 12, "attribute_value_too_large", "an attribute's value is too large";
    /// Arrays or key-value lists lie deeper in each other than the limit.
    AttributeTooDeep = 13, "attribute_too_deep", "an attribute's value is nested too deep";
    /// More events than the limit.
    TooManyEvents = 14, "too_many_events", "there are too many events";
    /// More links than the limit.
    TooManyLinks = 15, "too_many_links", "there are too many links";
    /// The span is larger than the limit.
    SpanTooLarge = 16, "span_too_large", "the span is too large";
    /// A custom span from a function in the edge runtime.
    EdgeCustomSpan = 17, "edge_custom_span", "custom spans of the edge runtime are not stored";
    /// The resource is larger than the limit.
    ResourceTooLarge = 18, "resource_too_large", "the resource is too large";
    /// The instrumentation scope is larger than the limit.
    ScopeTooLarge = 19, "scope_too_large", "the instrumentation scope is too large";
    /// The schema URL of the resource or of the scope is longer than the limit.
    SchemaUrlTooLong = 20, "schema_url_too_long", "a schema URL is too long";
    /// The text of an attribute that becomes a column is longer than the limit.
    MappedTextTooLong = 21, "mapped_text_too_long", "the text of a column is too long";
    /// An id of a link is neither empty nor of its length.
    InvalidLinkId = 22, "invalid_link_id", "an id of a link is not 16 or 8 bytes";
    /// The start lies further back than spans of the team are kept.
    BeyondRetention = 23, "beyond_retention", "the start lies before what retention keeps";
}

impl Receipt {
    /// What the log keeps of the receipt.
    pub(crate) fn to_record(&self) -> ReceiptRecord {
        ReceiptRecord {
            accepted: self.accepted,
            duplicates: self.duplicates,
            refused: self
                .refused
                .iter()
                .map(|refusal| RefusalRecord {
                    index: refusal.index,
                    reason: refusal.reason.number(),
                })
                .collect(),
            months: self
                .months
                .iter()
                .map(|usage| MonthRecord {
                    month: u32::from(usage.month.number()),
                    used: usage.used,
                    limit: usage.limit,
                })
                .collect(),
            repeated: self.repeated,
        }
    }

    /// The receipt of a record, for an append that came again.
    pub(crate) fn repeated_of(record: &ReceiptRecord, durability: Durability) -> Self {
        Self {
            accepted: record.accepted,
            duplicates: record.duplicates,
            refused: record
                .refused
                .iter()
                .filter_map(|refusal| {
                    let reason = RefusalReason::from_number(refusal.reason)?;
                    Some(Refusal {
                        index: refusal.index,
                        reason,
                    })
                })
                .collect(),
            months: record
                .months
                .iter()
                .filter_map(|month| {
                    let number = u16::try_from(month.month).ok()?;
                    Some(Usage::new(
                        Month::from_number(number)?,
                        month.used,
                        month.limit,
                    ))
                })
                .collect(),
            durability,
            repeated: true,
        }
    }
}

/// Whether the same body is a repeat from now on. One of which something was
/// refused for quota is not: it may be accepted when there is room.
pub(crate) fn is_body_remembered(receipt: &ReceiptRecord) -> bool {
    let over_quota = RefusalReason::OverQuota.number();
    let mut refused = receipt.refused.iter();
    receipt.accepted + receipt.duplicates > 0
        && !receipt.repeated
        && !refused.any(|refusal| refusal.reason == over_quota)
}
