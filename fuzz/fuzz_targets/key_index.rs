//! Entries of a key index: each key is found with its rows, no other is, and a
//! search over any bytes takes few steps.
#![no_main]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use libfuzzer_sys::fuzz_target;
use roaring::RoaringBitmap;
use spanstore_format::FormatError;
use spanstore_format::segment::key_index::{Key, Posting, entry, find};
use spanstore_format::segment::testing;

fuzz_target!(|input: (BTreeMap<u64, BTreeSet<u16>>, u64, &[u8])| {
    let (rows, other, bytes) = input;
    let entries: Vec<(Key, RoaringBitmap)> = rows
        .iter()
        .filter(|(_, rows)| !rows.is_empty())
        .map(|(key, rows)| {
            (
                key.to_be_bytes(),
                rows.iter().copied().map(u32::from).collect(),
            )
        })
        .collect();
    let (index, postings) = testing::key_index(&entries).expect("less than 4 GiB");
    let all = 0..entries.len() as u32;
    let read = |range: Range<u64>| Ok(&index[range.start as usize..range.end as usize]);
    let model: BTreeMap<Key, RoaringBitmap> = entries.into_iter().collect();
    for key in model.keys().copied().chain([other.to_be_bytes()]) {
        let found = find(key, all.clone(), read).expect("an index that was written");
        let found = found.map(|posting| match posting {
            Posting::Run(run) => run.collect(),
            Posting::Bitmap(range) => {
                let bytes = &postings[range.start as usize..range.end as usize];
                Posting::decode_bitmap(bytes, 0).expect("a bitmap that was written")
            }
        });
        assert_eq!(found.as_ref(), model.get(&key));
    }

    let steps = Cell::new(0);
    let read = |range: Range<u64>| {
        steps.set(steps.get() + 1);
        let found = bytes.get(range.start as usize..range.end as usize);
        found.ok_or_else(|| FormatError::malformed("key index", range.start, "bytes", "none"))
    };
    let count = (bytes.len() / 16) as u32;
    let found = find(other.to_be_bytes(), 0..count, read).expect("all entries can be read");
    // Every third step halves what is left.
    assert!(steps.get() <= 3 * (u32::BITS - count.leading_zeros()) + 3);
    if let Some(found) = found {
        let mut entries = (0..u64::from(count)).map(|place| entry(place, read));
        let expected = Ok((other.to_be_bytes(), found));
        assert!(entries.any(|entry| entry == expected));
    }
});
