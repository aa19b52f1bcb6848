//! OTLP in and out: protobuf and JSON, plain or compressed.
//!
//! The messages are those of the crate `opentelemetry-proto`, under their own
//! names.

pub mod compression;
pub mod documents;
mod error;
pub mod json;
pub mod protobuf;

pub use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
pub use opentelemetry_proto::tonic::common::v1::any_value::Value;
pub use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
pub use opentelemetry_proto::tonic::resource::v1::Resource;
pub use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
pub use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

pub use error::OtlpError;

#[cfg(test)]
mod tests;
