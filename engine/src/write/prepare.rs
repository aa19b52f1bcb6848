//! What the calling thread does with a batch: check, encode, make columns.
//! The writer thread then only decides and writes.

use std::collections::{BTreeMap, HashSet};

use arrow::array::RecordBatch;
use bytes::Bytes;
use spanstore_format::otlp::body::{self, Decoded};
use spanstore_format::otlp::{ExportTraceServiceRequest, InstrumentationScope, Resource, Span};
use spanstore_format::segment::key_index::{Key, key_of};
use spanstore_format::segment::layout::order::OrderColumns;
use spanstore_format::span::SpanColumn;
use spanstore_format::span::columns::{
    Classified, ColumnsBuilder, ResourceContext, ScopeContext, memory_of,
};
use spanstore_format::span::encoded::EncodedSpan;
use spanstore_format::span::request::{RequestEncoder, ResourceOrScope};
use spanstore_format::{FormatError, Month, TeamId};
use twox_hash::XxHash3_128;

use super::checks::{Window, check_meaning, check_resource, check_scope, check_size, check_span};
use super::memory;
use super::receipt::{Refusal, RefusalReason};
use crate::error::Error;
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
        self.request.len() + rows.map(|part| memory_of(&part.rows)).sum::<usize>()
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

/// The spans that are prepared.
#[derive(Debug)]
pub(crate) enum Source {
    /// A decoded request.
    Request(ExportTraceServiceRequest),
    /// A request in protobuf, and how many spans it has, and resources and scopes.
    Body {
        body: Bytes,
        spans: usize,
        groups: usize,
    },
}

impl Source {
    /// A request in protobuf whose spans are counted.
    ///
    /// # Errors
    /// [`Error::Otlp`] when the bytes are not one.
    pub(crate) fn of_body(body: Bytes) -> Result<Self, Error> {
        let (mut spans, mut groups) = (0, 0);
        for resource in body::resources(&body) {
            groups += 1;
            for scope in resource?.scopes() {
                groups += 1;
                for span in scope?.spans() {
                    span?;
                    spans += 1;
                }
            }
        }
        Ok(Self::Body {
            body,
            spans,
            groups,
        })
    }
}

/// Checks and encodes a batch, span by span, so that of a body no more than one is
/// decoded at a time. On replay nothing is checked again, so that the same spans
/// give the same rows.
///
/// # Errors
/// [`Error::TooLarge`] when what is to be stored has more bytes than a batch may.
/// [`Error::Otlp`] when a body is not a request, [`Error::Corrupt`] when the columns
/// do not form a batch.
pub(crate) fn prepare(
    team: &TeamId,
    source: Source,
    checks: Option<Checks<'_>>,
    seed: u64,
) -> Result<Prepared, Error> {
    match source {
        Source::Request(request) => {
            let mut preparer = Preparer::new(team, span_count(&request), 0, checks, seed);
            preparer.request(request)?;
            preparer.finish()
        }
        Source::Body {
            body,
            spans,
            groups,
        } => {
            let room = RequestEncoder::room(body.len(), groups);
            let mut preparer = Preparer::new(team, spans, room, checks, seed);
            preparer.body(&body)?;
            preparer.finish()
        }
    }
}

/// A batch on its way.
struct Preparer<'a> {
    team: &'a TeamId,
    checks: Option<Checks<'a>>,
    /// Teams share the set of identities, so equal spans of two teams must differ.
    seed: u64,
    /// Spans that are expected.
    spans: usize,
    refused: Vec<Refusal>,
    parts: BTreeMap<Month, PartBuilder>,
    encoder: RequestEncoder,
    scratch: Vec<u8>,
    /// Numbers of the next span, in the caller's batch and in the request.
    index: u32,
    position: u32,
    /// Bytes of the texts of columns so far.
    column_bytes: u64,
}

/// What the spans of a scope share.
struct Context<'a> {
    resource: &'a ResourceContext<'a>,
    scope: ScopeContext<'a>,
    hash: u64,
}

impl<'a> Preparer<'a> {
    fn new(
        team: &'a TeamId,
        spans: usize,
        bytes: usize,
        checks: Option<Checks<'a>>,
        seed: u64,
    ) -> Self {
        Self {
            team,
            checks,
            seed: hash(
                seed,
                ResourceOrScope {
                    encoded: None,
                    schema_url: team.as_str(),
                },
            ),
            spans,
            refused: Vec::new(),
            parts: BTreeMap::new(),
            encoder: RequestEncoder::with_capacity(bytes),
            scratch: Vec::new(),
            index: 0,
            position: 0,
            column_bytes: 0,
        }
    }

    /// Prepares a request; what is done with is let go.
    fn request(&mut self, request: ExportTraceServiceRequest) -> Result<(), Error> {
        for resource_spans in request.resource_spans {
            let resource =
                self.resource(resource_spans.resource.as_ref(), &resource_spans.schema_url);
            for scope_spans in resource_spans.scope_spans {
                let context = self.context(
                    &resource,
                    scope_spans.scope.as_ref(),
                    &scope_spans.schema_url,
                );
                for span in scope_spans.spans {
                    match &context {
                        Ok(context) => self.span(&span, context)?,
                        Err(reason) => self.refuse(*reason)?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Prepares a request in protobuf.
    fn body(&mut self, body: &[u8]) -> Result<(), Error> {
        for resource_body in body::resources(body) {
            let resource_body = resource_body?;
            let url = resource_body.schema_url()?;
            let message = resource_body.resource()?;
            let resource = message_or(message.as_ref(), RefusalReason::ResourceTooLarge)
                .and_then(|message| self.resource(message, url));
            for scope_body in resource_body.scopes() {
                let scope_body = scope_body?;
                let url = scope_body.schema_url()?;
                let message = scope_body.scope()?;
                // What is wrong with the resource goes first, as in a decoded request.
                let context = match &resource {
                    Err(reason) => Err(*reason),
                    Ok(_) => message_or(message.as_ref(), RefusalReason::ScopeTooLarge)
                        .and_then(|message| self.context(&resource, message, url)),
                };
                for span in scope_body.spans() {
                    let span = span?;
                    match &context {
                        Ok(context) => match span.decode()? {
                            Decoded::Message(span) => self.span(&span, context)?,
                            Decoded::TooDeep => self.refuse(RefusalReason::AttributeTooDeep)?,
                            Decoded::TooLarge => self.refuse(RefusalReason::SpanTooLarge)?,
                        },
                        Err(reason) => self.refuse(*reason)?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Begins a resource, or says why its spans are refused.
    fn resource<'b>(
        &mut self,
        resource: Option<&'b Resource>,
        schema_url: &'b str,
    ) -> Result<ResourceContext<'b>, RefusalReason> {
        self.encoder.begin_resource();
        if let Some(Checks { limits, .. }) = self.checks {
            check_resource(resource, schema_url, limits)?;
        }
        Ok(ResourceContext::new(resource, schema_url))
    }

    /// Begins a scope, or says why its spans are refused.
    fn context<'b>(
        &mut self,
        resource: &'b Result<ResourceContext<'b>, RefusalReason>,
        scope: Option<&'b InstrumentationScope>,
        schema_url: &'b str,
    ) -> Result<Context<'b>, RefusalReason> {
        self.encoder.begin_scope();
        let resource = resource.as_ref().map_err(|reason| *reason)?;
        if let Some(Checks { limits, .. }) = self.checks {
            check_scope(scope, schema_url, limits)?;
        }
        let scope = ScopeContext::new(scope, schema_url);
        Ok(Context {
            hash: hash(hash(self.seed, resource.shared()), scope.shared()),
            resource,
            scope,
        })
    }

    /// Notes that a span is refused.
    ///
    /// # Errors
    /// [`Error::Corrupt`] on replay: what is in the log has passed the checks, and
    /// the numbers of the spans after it would be wrong.
    fn refuse(&mut self, reason: RefusalReason) -> Result<(), Error> {
        if self.checks.is_none() {
            let place = u64::from(self.position);
            let found = format!("one refused: {reason}");
            return Err(
                FormatError::malformed("log record", place, "an accepted span", found).into(),
            );
        }
        self.refused.push(Refusal {
            index: self.index,
            reason,
        });
        self.index += 1;
        Ok(())
    }

    fn span(&mut self, span: &Span, context: &Context<'_>) -> Result<(), Error> {
        let Context {
            resource, scope, ..
        } = context;
        // Before anything else is made of it: what is too deep cannot be encoded.
        let checked = self.checks.map_or(Ok(()), |Checks { limits, window }| {
            check_span(span, limits, window)
        });
        if let Err(reason) = checked {
            return self.refuse(reason);
        }
        let classified = Classified::of(span, resource, scope);
        let encoded = EncodedSpan::encode(span, &mut self.scratch);
        if let Some(Checks { limits, .. }) = self.checks {
            let texts = classified.text_bytes();
            let checked = check_meaning(&classified, texts.longest, limits)
                .and_then(|()| check_size(encoded.bytes(), limits));
            if let Err(reason) = checked {
                return self.refuse(reason);
            }
            self.column_bytes += texts.all as u64;
            memory::check(
                "bytes of the texts of columns, summed over the spans of a batch",
                limits.batch_column_bytes as u64,
                self.column_bytes,
            )?;
            check_batch_bytes(self.encoder.bytes() + encoded.bytes().len(), limits)?;
        }
        let month = Month::of(span.start_time_unix_nano.cast_signed());
        // Most batches lie in one month; who knows what others have.
        let expected = if self.parts.is_empty() {
            self.spans.saturating_sub(self.index as usize)
        } else {
            FEW_ROWS
        };
        let team = self.team;
        let part = self.parts.entry(month).or_insert_with(|| PartBuilder {
            columns: ColumnsBuilder::new(team, expected),
            positions: Vec::new(),
            indices: Vec::new(),
            identities: Vec::new(),
        });
        part.columns
            .append(span, &classified, &encoded, resource, scope)?;
        part.positions.push(self.position);
        part.indices.push(self.index);
        part.identities.push(XxHash3_128::oneshot_with_seed(
            context.hash,
            encoded.bytes(),
        ));
        self.encoder
            .put_span(encoded.bytes(), resource.shared(), scope.shared());
        self.position += 1;
        self.index += 1;
        Ok(())
    }

    fn finish(self) -> Result<Prepared, Error> {
        let parts = self.parts.into_iter();
        let parts = parts.map(|(month, part)| part.finish(month));
        Ok(Prepared {
            request: Bytes::from(self.encoder.finish()),
            parts: parts.collect::<Result<_, _>>()?,
            refused: self.refused,
        })
    }
}

/// Rows that a batch is taken to have in each month but the first.
const FEW_ROWS: usize = 16;

/// The message that was decoded, if there was one, or why its spans are refused.
fn message_or<T>(
    decoded: Option<&Decoded<T>>,
    too_large: RefusalReason,
) -> Result<Option<&T>, RefusalReason> {
    match decoded {
        Some(Decoded::TooLarge) => Err(too_large),
        Some(Decoded::TooDeep) => Err(RefusalReason::AttributeTooDeep),
        Some(Decoded::Message(message)) => Ok(Some(message)),
        None => Ok(None),
    }
}

/// Checks what is to be logged of a batch.
///
/// # Errors
/// [`Error::TooLarge`].
fn check_batch_bytes(bytes: usize, limits: &Limits) -> Result<(), Error> {
    let limit = limits.most_batch_bytes();
    if bytes > limit {
        return Err(Error::TooLarge {
            what: "bytes of a batch",
            limit: limit as u64,
            found: bytes as u64,
        });
    }
    Ok(())
}

/// Spans of a request.
pub(crate) fn span_count(request: &ExportTraceServiceRequest) -> usize {
    let scopes = request
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans);
    scopes.map(|scope| scope.spans.len()).sum()
}

fn hash(seed: u64, shared: ResourceOrScope<'_>) -> u64 {
    // Absent and empty differ; so do a long encoding and a long URL.
    let presence = [u8::from(shared.encoded.is_some())];
    let mut hash = seed;
    for piece in [
        &presence[..],
        shared.encoded.unwrap_or_default(),
        shared.schema_url.as_bytes(),
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
        let sessions = SpanColumn::SessionId.texts(&rows)?;
        let sessions: HashSet<_> = sessions.iter().flatten().collect();
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
