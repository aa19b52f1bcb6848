//! Any bytes as a partition directory: an answer, and what is listed is found.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use spanstore_format::TeamId;
use spanstore_format::segment::directory::Directory;

fuzz_target!(|bytes: &[u8]| {
    let Ok(directory) = Directory::new(Bytes::copy_from_slice(bytes), 0, u32::MAX) else { return };
    drop(directory.partitions().collect::<Vec<_>>());
    if let Ok(team) = TeamId::new("acme") {
        drop(directory.find(&team));
    }
});
