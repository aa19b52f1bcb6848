//! OTLP in and out, as pure functions over bytes.
//!
//! The model in memory is that of the crate `opentelemetry-proto`, named here
//! once for everybody. [`protobuf`] and [`json`] translate between it and bytes,
//! both ways and without loss; [`compression`] opens bodies and files before
//! they are decoded; [`Measured`] counts what decoding would allocate; [`mod@body`]
//! decodes span by span; [`documents`] splits a file into JSON documents.

#[cfg(test)]
pub(crate) mod arbitrary;
pub mod body;
pub mod compression;
pub(crate) mod delayed_length;
pub mod documents;
mod error;
pub mod json;
mod json_any_value;
mod json_decode;
mod json_encode;
mod json_scalar;
mod json_stream;
mod measure;
mod nesting;
pub mod protobuf;
mod shape;
#[cfg(test)]
mod tests;

pub use documents::Documents;
pub use error::OtlpError;
pub use measure::Measured;
pub use nesting::{MAX_VALUE_NESTING, check_nesting, is_shallow};
pub use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
pub use opentelemetry_proto::tonic::common::v1::any_value::Value;
pub use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
pub use opentelemetry_proto::tonic::resource::v1::Resource;
pub use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
pub use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
