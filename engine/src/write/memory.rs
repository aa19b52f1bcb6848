//! Whether a batch keeps to its limits, by what was counted before it is decoded.
//!
//! What an append takes in memory, from the body to its answer, is bounded by what
//! the body holds:
//!
//! - the body itself once, since a batch keeps it, and once more what of it goes
//!   into the log; in the writer the log's record instead of the body;
//! - each text at most twice in columns: among the attributes and as a column of
//!   its own;
//! - a fixed amount for each row, whatever is in it;
//! - one span, resource and scope at a time that is decoded.

use spanstore_format::otlp::body::MOST_DECODED_BYTES;
use spanstore_format::otlp::{ExportTraceServiceRequest, Measured};

use crate::error::Error;
use crate::options::Limits;

/// Memory of a row beside its texts: views and fixed columns, and what they take
/// while they are made.
const ROW_BYTES: u64 = 900;

/// Copies of what a batch holds: the body or the log's record, its request for the
/// log, and its texts in columns.
const COPIES: u64 = 4;

/// How much memory a batch may take, for each of its bytes.
const MEMORY_FACTOR: u64 = 7;

/// Bytes of a text or number in JSON that may be copied as a whole, and levels of
/// what is skipped. No span could hold more.
const MOST_TOKEN_BYTES: u64 = 4 << 20;

/// Checks a protobuf body that was counted.
///
/// # Errors
/// [`Error::TooLarge`], with what was counted.
pub(crate) fn check_protobuf(
    measured: &Measured,
    body_bytes: usize,
    limits: &Limits,
) -> Result<(), Error> {
    let body_bytes = body_bytes as u64;
    check(
        "bytes of a batch",
        limits.most_batch_bytes() as u64,
        body_bytes,
    )?;
    check_counts(measured.spans, measured.resources, measured.scopes, limits)?;
    check_memory(measured.spans, body_bytes, limits)
}

/// Checks a JSON body that was counted. What it becomes in protobuf is counted and
/// checked again.
///
/// # Errors
/// [`Error::TooLarge`], with what was counted.
pub(crate) fn check_json(measured: &Measured, limits: &Limits) -> Result<(), Error> {
    check_counts(measured.spans, measured.resources, measured.scopes, limits)?;
    check(
        "bytes of a text, a number or nested brackets in JSON",
        MOST_TOKEN_BYTES,
        measured.longest_token_bytes,
    )?;
    check(
        "bytes of memory for one span, resource or scope",
        MOST_DECODED_BYTES,
        measured.largest_bytes,
    )
}

/// Checks a decoded request, whose memory is the caller's.
///
/// # Errors
/// [`Error::TooLarge`], with what was counted.
pub(crate) fn check_request(
    request: &ExportTraceServiceRequest,
    limits: &Limits,
) -> Result<(), Error> {
    let resources = request.resource_spans.len() as u64;
    let scopes = request
        .resource_spans
        .iter()
        .flat_map(|one| &one.scope_spans);
    let spans = scopes.clone().map(|scope| scope.spans.len() as u64);
    check_counts(spans.sum(), resources, scopes.count() as u64, limits)
}

fn check_counts(spans: u64, resources: u64, scopes: u64, limits: &Limits) -> Result<(), Error> {
    let most = limits.most_batch_spans() as u64;
    check("spans of a batch", most, spans)?;
    check("resources of a batch", most, resources)?;
    check("scopes of a batch", most, scopes)
}

fn check_memory(spans: u64, body_bytes: u64, limits: &Limits) -> Result<(), Error> {
    let memory = COPIES * body_bytes + ROW_BYTES * spans + MOST_DECODED_BYTES;
    let limit = (MEMORY_FACTOR * body_bytes).max(limits.batch_memory_bytes as u64);
    check("bytes of memory for the spans of a batch", limit, memory)
}

pub(super) fn check(what: &'static str, limit: u64, found: u64) -> Result<(), Error> {
    if found > limit {
        Err(Error::TooLarge { what, limit, found })
    } else {
        Ok(())
    }
}
