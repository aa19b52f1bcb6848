//! Bytes that no span has, and batches that are large.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryViewArray};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::FormatError;
use crate::otlp::Resource;

/// A batch with other bytes in one of its columns.
fn with(batch: &RecordBatch, name: &str, bytes: &[u8]) -> RecordBatch {
    let place = batch.schema().index_of(name).unwrap();
    let mut columns = batch.columns().to_vec();
    let bytes = std::iter::repeat_n(Some(bytes), batch.num_rows());
    columns[place] = Arc::new(bytes.collect::<BinaryViewArray>()) as ArrayRef;
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

const MESSAGES: [&str; 6] = [
    "attributes",
    "resource_attributes",
    "scope",
    "events",
    "links",
    "rest",
];

#[test]
fn a_damaged_message_is_an_error_that_names_the_column() {
    let batch = stored(&request(vec![span(), span()]));
    for name in MESSAGES {
        let damaged = with(&batch, name, &[0xff; 3]);
        let error = convert(&damaged, InterchangeOptions::default()).unwrap_err();
        assert!(matches!(error, FormatError::Malformed { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
        let mut pieces = pieces(&damaged, InterchangeOptions::default());
        assert_eq!(pieces.next(), Some(Err(error)));
        assert_eq!(pieces.next(), None);
    }
}

#[test]
fn a_batch_without_the_columns_of_a_span_is_an_error() {
    let batch = stored(&request(vec![span()]));
    for place in 0..batch.num_columns() {
        let schema = batch.schema();
        let name = schema.field(place).name();
        let others: Vec<_> = (0..batch.num_columns())
            .filter(|other| *other != place)
            .collect();
        let found = convert(
            &batch.project(&others).unwrap(),
            InterchangeOptions::default(),
        );
        let is_left_out = ["trace_start", "sequence"].contains(&name.as_str());
        assert_eq!(found.is_ok(), is_left_out, "{name}");
    }
}

#[test]
fn large_messages_are_cut_into_pieces() {
    let mut request = request(vec![span(); 50]);
    request.resource_spans[0].resource = Some(Resource {
        attributes: vec![text("large", &"x".repeat(1 << 20))],
        ..Resource::default()
    });
    let batch = stored(&request);
    let options = InterchangeOptions::default();
    let found: Vec<_> = pieces(&batch, options).map(Result::unwrap).collect();
    let rows: Vec<_> = found.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(rows, [15, 15, 15, 5]);
    let whole = arrow::compute::concat_batches(&schema(options), &found).unwrap();
    assert_eq!(whole, convert(&batch, options).unwrap());
    assert!(pieces(&batch.slice(0, 0), options).next().is_none());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        damage in vec((0..MESSAGES.len(), vec(any::<u8>(), 0..24)), 1..4),
        field in prop_oneof![Just(0x4a_u8), Just(0x5a), Just(0x6a), Just(0x0a), Just(0x11)],
    ) {
        let mut batch = stored(&request(vec![span()]));
        for (place, mut bytes) in damage {
            // Often a field of the message, so that its contents are looked at.
            if let Some(length) = u8::try_from(bytes.len()).ok().filter(|length| *length % 2 == 0) {
                bytes.splice(0..0, [field, length]);
            }
            batch = with(&batch, MESSAGES[place], &bytes);
        }
        let _ = convert(&batch, InterchangeOptions::default());
    }
}
