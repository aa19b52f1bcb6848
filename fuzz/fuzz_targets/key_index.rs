//! The block of a key index: each key is found with its rows, and a search in any
//! bytes reads little and ends in an answer or an error.
#![no_main]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use roaring::RoaringBitmap;
use spanstore_format::FormatError;
use spanstore_format::segment::key_index::{Key, find};
use spanstore_format::segment::testing;

fuzz_target!(|input: (Vec<(u64, u8, bool)>, u64, u16, &[u8])| {
    let (runs, other, first, bytes) = input;
    // Each key has some of the rows, none of which another one has.
    let first = u32::from(first);
    let mut next = first;
    let mut model: BTreeMap<Key, RoaringBitmap> = BTreeMap::new();
    for (key, length, is_long) in runs {
        let length = u32::from(length) + u32::from(is_long) * 300 + 1;
        let rows = model.entry(key.to_be_bytes()).or_default();
        rows.insert_range(next..next + length);
        next += length;
    }
    let rows = first..next.max(first + 1);
    let entries: Vec<_> = model.clone().into_iter().collect();
    let (block, postings) = testing::key_index(&entries, &rows).expect("less than 4 GiB");
    let read = |range: Range<u64>| Ok(&block[range.start as usize..range.end as usize]);
    let postings = Bytes::from(postings);
    let of_postings = |range: Range<u64>| {
        let range = range.start as usize..range.end as usize;
        let found = postings.get(range.clone()).map(|_| postings.slice(range));
        found.ok_or_else(|| FormatError::malformed("postings", 0, "bytes", "none"))
    };
    for (key, expected) in &model {
        let found = find(*key, &rows, block.len() as u64, read).expect("a block that was written");
        let found = found
            .expect("a key that is there")
            .rows(&rows, &of_postings);
        let found = found.expect("postings that were written");
        // Another key may have the same bits.
        assert!(expected.is_subset(&found));
    }

    let reads = Cell::new(0);
    let read = |range: Range<u64>| {
        reads.set(reads.get() + 1);
        let found = bytes.get(range.start as usize..range.end as usize);
        found.ok_or_else(|| FormatError::malformed("key index", range.start, "bytes", "none"))
    };
    let found = find(other.to_be_bytes(), &rows, bytes.len() as u64, read);
    assert!(reads.get() <= 4);
    if let Ok(Some(found)) = found
        && let Ok(found) = found.rows(&rows, &of_postings)
    {
        assert!(found.iter().all(|row| rows.contains(&row)));
    }
});
