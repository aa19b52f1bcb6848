//! What the calling thread does with a batch: check, encode, make columns.
//! The writer thread then only decides and writes.

use std::collections::{BTreeMap, HashSet};

use arrow::array::{AsArray, RecordBatch};
use bytes::Bytes;
use spanstore_format::otlp::ExportTraceServiceRequest;
use spanstore_format::segment::key_index::{Key, key_of};
use spanstore_format::segment::order::OrderColumns;
use spanstore_format::span::columns::{Classified, ColumnsBuilder, ResourceContext, ScopeContext};
use spanstore_format::span::encoded::EncodedSpan;
use spanstore_format::span::request::RequestEncoder;
use spanstore_format::span::schema::SESSION_ID;
use spanstore_format::{FormatError, Month, TeamId};
use twox_hash::XxHash3_128;

use super::checks::{Window, check_attributes, check_meaning, check_span};
use super::receipt::{Refusal, RefusalReason};
use crate::options::Limits;

/// A batch that is ready for the writer.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Its spans that passed the checks, as one OTLP request.
    pub(crate) request: Bytes,
    /// The same spans as columns, by month.
    pub(crate) parts: Vec<Part>,
    /// Spans that did not pass.
    pub(crate) refused: Vec<Refusal>,
}

impl Prepared {
    /// Memory of the batch, in bytes, about.
    pub(crate) fn bytes(&self) -> usize {
        let rows = self.parts.iter();
        self.request.len()
            + rows
                .map(|part| part.rows.get_array_memory_size())
                .sum::<usize>()
    }
}

/// The spans of a batch that lie in one month.
#[derive(Debug)]
pub(crate) struct Part {
    /// The month.
    pub(crate) month: Month,
    /// The spans as columns.
    pub(crate) rows: RecordBatch,
    /// Of each row, the number of its span in the request.
    pub(crate) positions: Vec<u32>,
    /// Of each row, the number of its span in the caller's batch.
    pub(crate) indices: Vec<u32>,
    /// Of each row, a hash of ids and content; see [`Identity`].
    pub(crate) identities: Vec<Identity>,
    /// Trace ids of the rows, each once.
    pub(crate) traces: Vec<[u8; 16]>,
    /// Keys of the session ids of the rows, each once.
    pub(crate) sessions: Vec<Key>,
}

/// Tells equal spans: a hash (XXH3, 128 bits) of the team, the span, its
/// resource and its scope. Its seed is drawn when a store is opened, so nobody can prepare
/// two spans that collide.
pub(crate) type Identity = u128;

struct PartBuilder {
    columns: ColumnsBuilder,
    positions: Vec<u32>,
    indices: Vec<u32>,
    identities: Vec<Identity>,
}

/// Which spans of a batch may pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checks<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) window: Window,
}

/// Checks and encodes a batch. On replay nothing is checked again, so that the
/// same spans give the same rows.
///
/// # Errors
/// [`FormatError`] when the columns do not form a batch.
pub(crate) fn prepare(
    team: &TeamId,
    request: &ExportTraceServiceRequest,
    checks: Option<Checks<'_>>,
    seed: u64,
) -> Result<Prepared, FormatError> {
    let mut refused = Vec::new();
    let mut parts: BTreeMap<Month, PartBuilder> = BTreeMap::new();
    let mut encoder = RequestEncoder::default();
    let mut scratch = Vec::new();
    let (mut index, mut position) = (0, 0);
    let capacity = span_count(request);
    // Teams share the set of identities, so equal spans of two teams must differ.
    let seed = hash(seed, None, team.as_str());
    for resource_spans in &request.resource_spans {
        let resource =
            ResourceContext::new(resource_spans.resource.as_ref(), &resource_spans.schema_url);
        encoder.begin_resource(resource.encoded(), &resource_spans.schema_url);
        let resource_attributes = resource_spans
            .resource
            .as_ref()
            .map_or(&[][..], |resource| &resource.attributes);
        let resource_check = checks.map_or(Ok(()), |checks| {
            check_attributes(resource_attributes, checks.limits)
        });
        let resource_hash = hash(seed, resource.encoded(), &resource_spans.schema_url);
        for scope_spans in &resource_spans.scope_spans {
            let scope = ScopeContext::new(scope_spans.scope.as_ref(), &scope_spans.schema_url);
            encoder.begin_scope(scope.encoded(), &scope_spans.schema_url);
            let scope_attributes = scope_spans
                .scope
                .as_ref()
                .map_or(&[][..], |scope| &scope.attributes);
            let context_check = checks.map_or(Ok(()), |checks| {
                resource_check.and_then(|()| check_attributes(scope_attributes, checks.limits))
            });
            let context_hash = hash(resource_hash, scope.encoded(), &scope_spans.schema_url);
            for span in &scope_spans.spans {
                let classified = Classified::of(span, &resource, &scope);
                let encoded = EncodedSpan::encode(span, &mut scratch);
                let checked = checks.map_or(Ok(()), |Checks { limits, window }| {
                    context_check?;
                    check_span(span, limits, window)?;
                    check_meaning(&classified, limits)?;
                    if encoded.bytes().len() > limits.span_bytes {
                        return Err(RefusalReason::SpanTooLarge);
                    }
                    Ok(())
                });
                if let Err(reason) = checked {
                    refused.push(Refusal { index, reason });
                    index += 1;
                    continue;
                }
                let month = Month::of(span.start_time_unix_nano.cast_signed());
                let part = parts.entry(month).or_insert_with(|| PartBuilder {
                    columns: ColumnsBuilder::new(team, capacity),
                    positions: Vec::new(),
                    indices: Vec::new(),
                    identities: Vec::new(),
                });
                part.columns
                    .append(span, &classified, &encoded, &resource, &scope)?;
                part.positions.push(position);
                part.indices.push(index);
                part.identities.push(XxHash3_128::oneshot_with_seed(
                    context_hash,
                    encoded.bytes(),
                ));
                encoder.put_span(encoded.bytes());
                position += 1;
                index += 1;
            }
        }
    }
    let parts = parts.into_iter().map(|(month, part)| part.finish(month));
    Ok(Prepared {
        request: Bytes::from(encoder.finish()),
        parts: parts.collect::<Result<_, _>>()?,
        refused,
    })
}

/// Spans of a request.
pub(crate) fn span_count(request: &ExportTraceServiceRequest) -> usize {
    let scopes = request
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans);
    scopes.map(|scope| scope.spans.len()).sum()
}

fn hash(seed: u64, encoded: Option<&[u8]>, schema_url: &str) -> u64 {
    // Absent and empty differ; so do a long encoding and a long URL.
    let presence = [u8::from(encoded.is_some())];
    let mut hash = seed;
    for piece in [
        &presence[..],
        encoded.unwrap_or_default(),
        schema_url.as_bytes(),
    ] {
        hash = XxHash3_128::oneshot_with_seed(hash, piece) as u64;
    }
    hash
}

impl PartBuilder {
    fn finish(self, month: Month) -> Result<Part, FormatError> {
        let rows = self.columns.finish()?;
        let columns = OrderColumns::of(&rows)?;
        let traces: HashSet<_> = (0..columns.rows())
            .map(|row| columns.trace_id(row))
            .collect();
        let sessions = rows
            .column_by_name(SESSION_ID)
            .and_then(|ids| ids.as_string_view_opt());
        let sessions: HashSet<_> = sessions.into_iter().flatten().flatten().collect();
        Ok(Part {
            month,
            positions: self.positions,
            indices: self.indices,
            identities: self.identities,
            traces: traces.into_iter().collect(),
            sessions: sessions
                .into_iter()
                .map(|id| key_of(id.as_bytes()))
                .collect(),
            rows,
        })
    }
}
