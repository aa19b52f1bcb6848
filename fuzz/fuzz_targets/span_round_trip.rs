//! Any request: its spans come out of columns, and out of a segment, equal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanstore_format::otlp::{ExportTraceServiceRequest, Span, protobuf};
use spanstore_format::segment::testing::{segment_of, team};
use spanstore_format::segment::{Column, SegmentReader};
use spanstore_format::span::columns::{Classified, ColumnsBuilder, ResourceContext, ScopeContext};
use spanstore_format::span::encoded::EncodedSpan;
use spanstore_format::span::restore::to_otlp;
use spanstore_format::span::table;
use spanstore_fuzz::single_spans;

fuzz_target!(|body: &[u8]| {
    let Ok(mut request) = protobuf::decode(body) else {
        return;
    };
    for resource in &mut request.resource_spans {
        for scope in &mut resource.scope_spans {
            scope.spans.retain(is_storable);
        }
    }
    let batch = columns(&request);
    let expected = single_spans(&request);
    let restored = to_otlp(&batch).expect("columns that were made");
    assert_eq!(single_spans(&restored), expected);

    let rows = batch.num_rows() as u32;
    let (file, summary) = segment_of([batch]);
    let reader = SegmentReader::open(file, summary).expect("a segment that was written");
    assert_eq!(reader.verify(), []);
    let all = Column::all(table());
    let reader = reader.row_reader().expect("a segment that was written");
    let mut read = ExportTraceServiceRequest::default();
    for batch in reader
        .read(&[0..rows], &all, 1_000)
        .expect("rows that are there")
    {
        let batch = batch.expect("rows that were written");
        let restored = to_otlp(&batch).expect("columns that were written");
        read.resource_spans.extend(restored.resource_spans);
    }
    assert_eq!(single_spans(&read), expected);
});

/// Whether the checks before the columns let a span pass.
fn is_storable(span: &Span) -> bool {
    span.trace_id.len() == 16
        && span.span_id.len() == 8
        && matches!(span.parent_span_id.len(), 0 | 8)
        && i64::try_from(span.start_time_unix_nano).is_ok()
}

fn columns(request: &ExportTraceServiceRequest) -> arrow::array::RecordBatch {
    let mut builder = ColumnsBuilder::new(&team("acme"), 1);
    let mut bytes = Vec::new();
    for one in &request.resource_spans {
        let resource = ResourceContext::new(one.resource.as_ref(), &one.schema_url);
        for one in &one.scope_spans {
            let scope = ScopeContext::new(one.scope.as_ref(), &one.schema_url);
            for span in &one.spans {
                let classified = Classified::of(span, &resource, &scope);
                let encoded = EncodedSpan::encode(span, &mut bytes);
                let appended = builder.append(span, &classified, &encoded, &resource, &scope);
                appended.expect("a span that was checked");
            }
        }
    }
    builder.finish().expect("columns of one length")
}
