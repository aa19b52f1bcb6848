//! Any bytes as promoted keys, as the facets of a partition and as their
//! postings: an answer, whatever they say.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use spanstore_format::FormatError;
use spanstore_format::segment::Promotion;
use spanstore_format::segment::facets::Facets;

fuzz_target!(|bytes: &[u8]| {
    drop(Promotion::decode(bytes, 0));
    let block = Bytes::copy_from_slice(bytes);
    let facets = Facets::new(block.clone(), 10..10_000, 0);
    let read = |range: std::ops::Range<u64>| {
        let place = range.start as usize..range.end as usize;
        let found = block.get(place.clone()).map(|_| block.slice(place));
        found.ok_or_else(|| FormatError::malformed("postings", 0, "bytes", "none"))
    };
    for column in facets.columns().unwrap_or_default().into_iter().take(64) {
        let Ok(Some(facet)) = facets.facet(column) else { continue };
        drop(facet.find(b"GET"));
        drop(facet.nulls(&read));
        for place in 0..facet.len().min(64) {
            if let Ok(value) = facet.value(place) {
                drop(facet.rows(&value, &read));
            }
        }
    }
});
