use proptest::prelude::*;

use super::*;

const HEADER: FileHeader = FileHeader {
    first_sequence: 7,
    mark: 0x1234_5678_9abc_def0,
    predecessor: Some(FileSummary {
        first_sequence: 3,
        end_sequence: 7,
        bytes: 200,
        mark: 0x1111_2222_3333_4444,
    }),
};
/// Where the first frame begins.
const START: usize = FILE_HEADER_BYTES;

/// A file of payloads, each frame settling those before it.
fn file(payloads: &[&[u8]]) -> Vec<u8> {
    let mut bytes = HEADER.encode().to_vec();
    for (payload, sequence) in payloads.iter().zip(7..) {
        encode_frame(HEADER.mark, sequence, sequence, payload, &mut bytes).unwrap();
    }
    bytes
}

fn tail(bytes: &[u8]) -> Tail {
    FileFrames::read(bytes).unwrap().tail(0)
}

fn payloads(bytes: &[u8]) -> Vec<Vec<u8>> {
    let file = FileFrames::read(bytes).unwrap();
    let frames = file.frames().iter();
    frames.map(|frame| frame.payload.to_vec()).collect()
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
    let version = |version: u16| {
        let mut bytes = bytes;
        bytes[8] = version as u8;
        let checksum = file_checksum(&bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        FileHeader::decode(&bytes).unwrap_err()
    };
    let newer = version(LOG_VERSION + 1);
    assert!(matches!(newer, FormatError::NewerVersion { .. }), "{newer}");
    let older = version(LOG_VERSION - 1);
    assert!(matches!(older, FormatError::Malformed { .. }), "{older}");
}

#[test]
fn a_first_file_has_no_predecessor_and_others_one_that_ends_where_they_begin() {
    let first = FileHeader {
        predecessor: None,
        ..HEADER
    };
    assert_eq!(FileHeader::decode(&first.encode()), Ok(first));
    let mut apart = HEADER;
    apart.first_sequence = 8;
    let error = FileHeader::decode(&apart.encode()).unwrap_err();
    assert!(error.to_string().contains("ends at sequence 8"), "{error}");
}

#[test]
fn a_cut_file_ends_with_its_last_whole_frame() {
    let bytes = file(&[b"one", b"", b"three"]);
    let ends = [START, START + 35, START + 35 + 32, bytes.len()];
    for end in 0..START {
        assert!(FileFrames::read(&bytes[..end]).is_err(), "cut at {end}");
    }
    for end in START..=bytes.len() {
        let whole = ends.iter().rposition(|whole| *whole <= end).unwrap();
        assert_eq!(payloads(&bytes[..end]).len(), whole, "cut at {end}");
        let expected = if ends[whole] == end {
            Tail::Clean
        } else {
            Tail::Torn {
                offset: ends[whole] as u64,
                bytes: (end - ends[whole]) as u64,
            }
        };
        assert_eq!(tail(&bytes[..end]), expected, "cut at {end}");
        // A note of how far the file reached makes damage of each cut.
        let noted = FileFrames::read(&bytes[..end]).unwrap().tail(10);
        let is_whole = end == bytes.len();
        assert_eq!(
            matches!(noted, Tail::Corrupt { .. }),
            !is_whole,
            "cut at {end}"
        );
    }
    // Space that was set aside is no data.
    let padded = [bytes.clone(), vec![0; 100]].concat();
    let torn = Tail::Torn {
        offset: bytes.len() as u64,
        bytes: 100,
    };
    assert_eq!(tail(&padded), torn);
}

#[test]
fn damage_before_a_frame_that_settles_it_is_corruption() {
    let bytes = file(&[b"one", b"two", b"three"]);
    let second = (START + 35) as u64;
    for at in START..START + 35 {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        let expected = Tail::Corrupt {
            offset: START as u64,
            expected: 7,
            valid_after: Some((8, second)),
        };
        assert_eq!(tail(&damaged), expected, "byte {at}");
        assert_eq!(payloads(&damaged).len(), 0);
        let file = FileFrames::read(&damaged).unwrap();
        let later: Vec<_> = file.later().iter().map(|frame| frame.payload).collect();
        assert_eq!(later, [b"two".as_slice(), b"three"], "byte {at}");
    }
}

#[test]
fn frames_are_read_behind_a_damaged_header() {
    let mut bytes = file(&[b"one", b"two"]);
    bytes[..START].fill(0);
    assert!(FileFrames::read(&bytes).is_err());
    let mark = FileFrames::first_mark(&bytes).unwrap();
    assert_eq!(mark, HEADER.mark);
    let file = FileFrames::read_behind(HEADER, &bytes);
    assert_eq!((file.frames().len(), file.end_sequence()), (2, 9));
    bytes[START + 33] ^= 1;
    assert_eq!(FileFrames::first_mark(&bytes), None);
}

#[test]
fn a_hole_that_nothing_settles_is_a_torn_tail() {
    let mut bytes = HEADER.encode().to_vec();
    for sequence in 7..10 {
        encode_frame(HEADER.mark, sequence, 7, b"group", &mut bytes).unwrap();
    }
    bytes[START + 8] ^= 1;
    assert!(matches!(tail(&bytes), Tail::Torn { offset: 64, .. }));
    let file = FileFrames::read(&bytes).unwrap();
    assert_eq!(file.later().len(), 2);
    // Unless the catalog says that the log had come further.
    assert_eq!(
        file.tail(8),
        Tail::Corrupt {
            offset: 64,
            expected: 7,
            valid_after: Some((8, 64 + 37)),
        }
    );
}

#[test]
fn frames_of_another_file_do_not_count() {
    let mut bytes = file(&[b"one"]);
    encode_frame(99, 8, 8, b"old bytes", &mut bytes).unwrap();
    assert_eq!(payloads(&bytes), [b"one"]);
    assert!(matches!(tail(&bytes), Tail::Torn { offset: 99, .. }));
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
        if FileFrames::read(&bytes).is_ok() {
            let found = self::payloads(&bytes);
            prop_assert!(payloads.starts_with(&found));
            prop_assert!(found.len() < payloads.len());
        }
    }
}
