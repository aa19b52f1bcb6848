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

proptest! {
    #[test]
    fn common_keys_of_two_blocks_are_found(
        (rows, model) in model(1_000),
        (others, other) in model(90_000),
        alone in proptest::collection::vec(key(), 0..50),
    ) {
        // Some keys of the one are in the other too.
        let shared = model.keys().step_by(3).map(|key| (*key, (others.start..others.end).collect()));
        let other: Model = other.into_iter().chain(shared).collect();
        let entries = |model: &Model, rows: &Range<u32>| {
            Entries::of(&Bytes::from(encoded(model, rows).0), rows).unwrap()
        };
        let (one, two) = (entries(&model, &rows), entries(&other, &others));
        let keys = Entries::of_keys(alone.iter().chain(model.keys().step_by(5)).copied());
        for (entries, is_there) in [
            (&two, other.keys().collect::<Vec<_>>()),
            (&keys, alone.iter().chain(model.keys().step_by(5)).collect()),
        ] {
            let mut found = Vec::new();
            let add = |side: Side<'_>| {
                if let Side::One(posting) = side {
                    found.push(posting.clone());
                }
                Ok::<_, FormatError>(())
            };
            one.common(entries, add).unwrap();
            let block = encoded(&model, &rows).0;
            let read = |range: Range<u64>| Ok(&block[range.start as usize..range.end as usize]);
            for key in model.keys().filter(|key| is_there.contains(key)) {
                let posting = find(*key, &rows, block.len() as u64, read).unwrap().unwrap();
                prop_assert!(found.contains(&posting));
            }
        }
    }
}

#[test]
fn blocks_have_hardly_a_key_in_common_that_only_one_has() {
    let model = |first: u32, count: u32| -> Model {
        let keys = (first..first + count).map(|n| key_of(&n.to_le_bytes()));
        keys.zip(0..)
            .map(|(key, row)| (key, [row].into_iter().collect()))
            .collect()
    };
    let entries = |model: &Model, rows: Range<u32>| {
        Entries::of(&Bytes::from(encoded(model, &rows).0), &rows).unwrap()
    };
    for (first, count) in [(0, 50_000), (40_000, 7), (0, 1), (60_000, 0)] {
        let (one, two) = (
            entries(&model(0, 50_000), 0..50_000),
            entries(&model(first, count), 0..count),
        );
        assert_eq!((two.len(), two.is_empty()), (count as usize, count == 0));
        let mut found = 0;
        let mut of_other = 0;
        let add = |side: Side<'_>| {
            match side {
                Side::One(_) => found += 1,
                Side::Other(_) => of_other += 1,
            }
            Ok::<_, FormatError>(())
        };
        one.common(&two, add).unwrap();
        assert_eq!(of_other, count);
        assert!((count..count + 3).contains(&found), "{found} of {count}");
    }
    // What is damaged is an error or an answer.
    let block = encoded(&model(0, 300), &(0..300)).0;
    for at in 0..block.len() {
        for cut in [at, block.len()] {
            let mut damaged = block[..cut].to_vec();
            if let Some(byte) = damaged.get_mut(at) {
                *byte ^= 0xff;
            }
            drop(Entries::of(&Bytes::from(damaged), &(0..300)));
        }
    }
}
