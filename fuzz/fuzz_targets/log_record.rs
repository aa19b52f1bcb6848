//! Any bytes as a log record: what is read is written and read again equal, and
//! its request is read or refused.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use spanstore_format::log::record::AppendRecord;
use spanstore_format::otlp::protobuf;

fuzz_target!(|payload: &[u8]| {
    let Ok(record) = AppendRecord::read(1, Bytes::copy_from_slice(payload)) else {
        return;
    };
    drop(protobuf::decode(&record.request));
    let again = AppendRecord::read(1, Bytes::from(record.encode_to_vec()));
    assert_eq!(again, Ok(record));
});
