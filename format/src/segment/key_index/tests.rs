use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use roaring::RoaringBitmap;

use super::*;
use crate::segment::testing::key_index;

type Model = BTreeMap<Key, RoaringBitmap>;

/// What is found of a key in a block, if all is well.
fn rows_of(
    key: Key,
    rows: &Range<u32>,
    (block, postings): &(Vec<u8>, Vec<u8>),
) -> Result<Option<RoaringBitmap>, FormatError> {
    let read = |range: Range<u64>| Ok(&block[range.start as usize..range.end as usize]);
    let found = find(key, rows, block.len() as u64, read)?;
    let read = |range: Range<u64>| {
        let bytes = postings.get(range.start as usize..range.end as usize);
        let bytes = bytes.ok_or_else(|| FormatError::malformed("postings", 0, "bytes", "none"));
        bytes.map(Bytes::copy_from_slice)
    };
    found.map(|posting| posting.rows(rows, &read)).transpose()
}

fn encoded(model: &Model, rows: &Range<u32>) -> (Vec<u8>, Vec<u8>) {
    let entries: Vec<_> = model
        .iter()
        .map(|(key, rows)| (*key, rows.clone()))
        .collect();
    key_index(&entries, rows).unwrap()
}

/// Hashes that lie evenly, and some that lie close to each other.
fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        8 => any::<Key>(),
        1 => (0u64..9).prop_map(u64::to_be_bytes),
        1 => (0u64..9).prop_map(|n| (u64::MAX - (n << 20)).to_be_bytes()),
    ]
}

/// Each key has some of the rows, none of which another one has.
fn model(rows: u32) -> impl Strategy<Value = (Range<u32>, Model)> {
    let runs = proptest::collection::vec((key(), 1u32..400, any::<bool>()), 0..200);
    (runs, 0..rows).prop_map(|(runs, first)| {
        let (mut model, mut next) = (Model::new(), first);
        let mut last = None;
        for (key, length, is_last) in runs {
            let key = last.filter(|_| is_last).unwrap_or(key);
            model
                .entry(key)
                .or_default()
                .insert_range(next..next + length);
            // Now and then something lies between.
            next += length + length % 3;
            last = Some(key);
        }
        (first..next.max(first + 1), model)
    })
}

proptest! {
    #[test]
    fn finds_what_a_map_finds((rows, model) in model(200_000), absent in key()) {
        let block = encoded(&model, &rows);
        // The bits that an entry has of a hash: those of another id are an answer, too.
        let layout = Layout::decode(block.0.get(..HEAD_BYTES).unwrap_or_default());
        let same = |one: Key, other: Key| {
            layout.is_some_and(|layout| layout.bucket_and_key(one) == layout.bucket_and_key(other))
        };
        for key in model.keys().copied().chain([absent]) {
            let expected = model.iter().filter(|(other, _)| same(key, **other));
            let expected = expected.map(|(_, rows)| rows.clone()).reduce(|one, more| one | more);
            prop_assert!(!model.contains_key(&key) || expected.is_some());
            prop_assert_eq!(rows_of(key, &rows, &block), Ok(expected));
        }
    }

    #[test]
    fn damage_is_an_answer_or_an_error(
        (rows, model) in model(1_000),
        changes in proptest::collection::vec((0usize..40, any::<u8>()), 1..4),
        cut in 0usize..20,
        key in key(),
    ) {
        let mut block = encoded(&model, &rows);
        for (at, byte) in changes {
            if let Some(changed) = block.0.get_mut(at) {
                *changed = byte;
            }
        }
        block.0.truncate(block.0.len().saturating_sub(cut));
        for key in model.keys().copied().chain([key]) {
            if let Ok(Some(found)) = rows_of(key, &rows, &block) {
                prop_assert!(found.iter().all(|row| rows.contains(&row)));
            }
        }
    }
}

#[test]
fn ids_that_are_not_there_find_hardly_ever_a_row() {
    let hash = |n: u32| key_of(&n.to_le_bytes());
    for count in [1, 15, 16, 1_000, 100_000] {
        let model: Model = (0..count)
            .map(|n| (hash(n), (n * 9..n * 9 + 9).collect()))
            .collect();
        let rows = 0..count * 9;
        let block = encoded(&model, &rows);
        let absent = (count..count + 100_000)
            .filter(|n| rows_of(hash(*n), &rows, &block) != Ok(None))
            .count();
        assert!(absent <= 8, "{absent} of {count}");
        // One in a great many has the bits of another one.
        let own = (0..count).filter(|n| {
            let found = rows_of(hash(*n), &rows, &block).unwrap();
            found.as_ref() != model.get(&hash(*n))
        });
        assert!(own.count() <= 2);
        let bytes = block.0.len() as f64 / f64::from(count);
        assert!(count < 1_000 || bytes < 6.5, "{bytes} bytes an id");
    }
}

#[test]
fn runs_of_any_length_come_back() {
    for lengths in [
        vec![1],
        vec![70_000],
        vec![255, 256, 257],
        vec![1, 65_536, 3, 300_000],
    ] {
        let first = 70_001;
        let (mut model, mut next) = (Model::new(), first);
        for (n, length) in lengths.iter().enumerate() {
            model.insert(key_of(&[n as u8]), (next..next + length).collect());
            next += length;
        }
        let block = encoded(&model, &(first..next));
        for (key, expected) in &model {
            let found = rows_of(*key, &(first..next), &block).unwrap();
            assert_eq!(found.as_ref(), Some(expected));
        }
    }
    assert!(encoded(&Model::new(), &(0..10)).0.is_empty());
}

#[test]
fn keys_never_change() {
    // The XXH3 specification's value for the empty input.
    assert_eq!(key_of(b""), 0x2d06_8005_38d3_94c2_u64.to_be_bytes());
}
