//! Any bytes as the facets of a partition and as their postings: a value that
//! is listed is found, and all rows are rows of the partition.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use roaring::RoaringBitmap;
use spanstore_format::FormatError;
use spanstore_format::segment::facets::{CodeCounts, Facets};

fuzz_target!(|input: (u16, u16, &[u8])| {
    let (first, rows, bytes) = input;
    let partition = u32::from(first)..u32::from(first) + u32::from(rows);
    let block = Bytes::copy_from_slice(bytes);
    let facets = Facets::new(block.clone(), partition.clone(), 0);
    let read = |range: std::ops::Range<u64>| {
        let place = range.start as usize..range.end as usize;
        let found = block.get(place.clone()).map(|_| block.slice(place));
        found.ok_or_else(|| FormatError::malformed("postings", 0, "bytes", "none"))
    };
    let check = |rows: Result<RoaringBitmap, FormatError>| {
        let Ok(rows) = rows else { return };
        assert!(rows.min().is_none_or(|row| partition.contains(&row)));
        assert!(rows.max().is_none_or(|row| partition.contains(&row)));
    };
    for column in facets.columns().unwrap_or_default().into_iter().take(16) {
        let Ok(facet) = facets.facet(column) else {
            continue;
        };
        let facet = facet.expect("a column that is listed is there");
        drop(facet.posting_bytes());
        drop(facet.find(b"GET"));
        check(facet.nulls(&read));
        if let Ok(rows) = facet.rows_of(|place| place % 2 == 0, &read) {
            check(rows.all());
            check(rows.of_row_group(0));
            check(rows.of_row_group(1));
            check(rows.of_row_group(u32::MAX));
        }
        let some = partition.clone().step_by(3).collect();
        drop(facet.counts(&some, |_| true, &mut CodeCounts::default(), &read));
        drop(facet.counts(&some, |place| place < 3, &mut CodeCounts::default(), &read));
        // A search finds what lies in order.
        let values = (0..facet.len()).map(|place| facet.value(place));
        let Ok(values) = values.collect::<Result<Vec<_>, _>>() else {
            continue;
        };
        let is_in_order = values.is_sorted_by(|one, next| one.bytes < next.bytes);
        for value in values.iter().take(32) {
            check(facet.rows(value, &read));
            let found = facet.find(&value.bytes).expect("all values can be read");
            assert!(!is_in_order || found.as_ref() == Some(value));
        }
    }
});
