use proptest::prelude::*;

use super::*;

const HEADER: FileHeader = FileHeader {
    first_sequence: 7,
    mark: 0x1234_5678_9abc_def0,
};

/// A file of payloads, each frame settling those before it.
fn file(payloads: &[&[u8]]) -> Vec<u8> {
    let mut bytes = HEADER.encode().to_vec();
    for (payload, sequence) in payloads.iter().zip(7..) {
        encode_frame(HEADER.mark, sequence, sequence, payload, &mut bytes).unwrap();
    }
    bytes
}

fn payloads(bytes: &[u8]) -> Vec<Vec<u8>> {
    Frames::new(bytes)
        .unwrap()
        .map(|frame| frame.payload.to_vec())
        .collect()
}

#[test]
fn headers_come_back_and_each_flipped_bit_is_found() {
    let bytes = HEADER.encode();
    assert_eq!(FileHeader::decode(&bytes), Ok(HEADER));
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes;
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(FileHeader::decode(&damaged).is_err(), "bit {bit}");
    }
    let newer = {
        let mut bytes = bytes;
        bytes[8] = LOG_VERSION as u8 + 1;
        let checksum = file_checksum(&bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    };
    let error = FileHeader::decode(&newer).unwrap_err();
    assert!(matches!(error, FormatError::NewerVersion { .. }), "{error}");
}

#[test]
fn a_cut_file_ends_with_its_last_whole_frame() {
    let bytes = file(&[b"one", b"", b"three"]);
    let ends = [32, 32 + 35, 32 + 35 + 32, bytes.len()];
    for end in 0..=bytes.len() {
        let whole = ends
            .iter()
            .filter(|whole| **whole <= end)
            .count()
            .saturating_sub(1);
        assert_eq!(payloads(&bytes[..end]).len(), whole, "cut at {end}");
        let expected = match ends.iter().rposition(|whole| *whole <= end) {
            Some(last) if ends[last] == end => Tail::Clean,
            Some(last) => Tail::Torn {
                offset: ends[last] as u64,
                bytes: (end - ends[last]) as u64,
            },
            None => Tail::Torn {
                offset: 0,
                bytes: end as u64,
            },
        };
        assert_eq!(
            Frames::new(&bytes[..end]).unwrap().tail(),
            expected,
            "cut at {end}"
        );
    }
    // Space that was set aside is no data.
    let padded = [bytes.clone(), vec![0; 100]].concat();
    let torn = Tail::Torn {
        offset: bytes.len() as u64,
        bytes: 100,
    };
    assert_eq!(Frames::new(&padded).unwrap().tail(), torn);
}

#[test]
fn damage_before_a_frame_that_settles_it_is_corruption() {
    let bytes = file(&[b"one", b"two", b"three"]);
    for at in 32..32 + 35 {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        let tail = Frames::new(&damaged).unwrap().tail();
        assert!(
            matches!(
                tail,
                Tail::Corrupt {
                    offset: 32,
                    expected: 7,
                    valid_after: 8,
                    ..
                }
            ),
            "byte {at}: {tail:?}"
        );
        assert_eq!(payloads(&damaged).len(), 0);
    }
}

#[test]
fn a_hole_that_nothing_settles_is_a_torn_tail() {
    let mut bytes = HEADER.encode().to_vec();
    for sequence in 7..10 {
        encode_frame(HEADER.mark, sequence, 7, b"group", &mut bytes).unwrap();
    }
    bytes[40] ^= 1;
    assert!(matches!(
        Frames::new(&bytes).unwrap().tail(),
        Tail::Torn { offset: 32, .. }
    ));
}

#[test]
fn frames_of_another_file_do_not_count() {
    let mut bytes = file(&[b"one"]);
    encode_frame(99, 8, 8, b"old bytes", &mut bytes).unwrap();
    assert_eq!(payloads(&bytes), [b"one"]);
    assert!(matches!(
        Frames::new(&bytes).unwrap().tail(),
        Tail::Torn { offset: 67, .. }
    ));
    assert!(encode_frame(1, 5, 6, b"", &mut Vec::new()).is_err());
}

proptest! {
    #[test]
    fn damage_never_gives_another_payload(
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6),
        place in any::<proptest::sample::Index>(),
        flip in 1u8..,
    ) {
        let slices: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
        let mut bytes = file(&slices);
        let at = place.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(frames) = Frames::new(&bytes) {
            let found: Vec<_> = frames.map(|frame| frame.payload.to_vec()).collect();
            prop_assert!(payloads.starts_with(&found));
            prop_assert!(found.len() < payloads.len());
        }
    }
}
