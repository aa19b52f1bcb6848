//! Frames of a log file: they are read as they were written; after damage or a
//! cut only frames before it are, and damage to what was settled is corruption.
#![no_main]

use std::hash::{DefaultHasher, Hash, Hasher};

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use spanstore_format::log::frame::{FileFrames, FileHeader, FileSummary, Tail, encode_frame};

#[derive(Debug, Arbitrary, Hash)]
struct Input<'a> {
    first_sequence: u32,
    /// Length and mark of the file before.
    predecessor: Option<(u64, u64)>,
    /// How far settled lies behind the frame's sequence, and its payload.
    frames: Vec<(u8, &'a [u8])>,
    /// How many frames the catalog calls settled.
    settled: u8,
    /// Where a byte is changed, and which bits of it.
    damage: (u32, u8),
    cut: u32,
    /// Bytes that stand behind a good header.
    others: &'a [u8],
}

/// Where a frame begins, its sequence, its settled and its payload.
type Written<'a> = (usize, u64, u64, &'a [u8]);

fuzz_target!(|input: Input<'_>| {
    let first_sequence = u64::from(input.first_sequence);
    // A mark that no payload can have within it, as a store's random one.
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let header = FileHeader {
        first_sequence,
        mark: hasher.finish(),
        predecessor: input.predecessor.map(|(bytes, mark)| FileSummary {
            first_sequence: first_sequence / 2,
            end_sequence: first_sequence,
            bytes,
            mark,
        }),
    };
    let start = header.encode();
    read_others(header, &start, input.others);

    let mut file = start.to_vec();
    let mut written = Vec::new();
    for (number, (behind, payload)) in input.frames.iter().enumerate() {
        let sequence = first_sequence + number as u64;
        let settled = sequence.saturating_sub(u64::from(*behind));
        let begin = file.len();
        encode_frame(header.mark, sequence, settled, payload, &mut file).expect("a short payload");
        written.push((begin, sequence, settled, *payload));
    }
    let whole = FileFrames::read(&file).expect("a good header");
    assert_eq!(frames(&whole), written);
    let end = first_sequence + written.len() as u64;
    assert_eq!((whole.end_sequence(), whole.tail(end)), (end, Tail::Clean));
    assert!(matches!(whole.tail(end + 1), Tail::Corrupt { .. }));

    let settled = first_sequence + u64::from(input.settled) % (written.len() as u64 + 1);
    let cut = input.cut as usize % (file.len() - start.len() + 1) + start.len();
    let ends = written
        .iter()
        .map(|(begin, .., payload)| begin + 32 + payload.len());
    let left = ends.take_while(|end| *end <= cut).count();
    check(&file[..cut], &written, left, settled, false);

    let (at, bits) = input.damage;
    if bits == 0 || file.len() == start.len() {
        return;
    }
    let at = at as usize % (file.len() - start.len()) + start.len();
    file[at] ^= bits;
    let damaged = written.partition_point(|(begin, ..)| *begin <= at) - 1;
    check(&file, &written, damaged, settled, true);
});

/// Checks a file of which only so many frames are left before what is bad.
fn check(file: &[u8], written: &[Written<'_>], left: usize, settled: u64, has_later: bool) {
    let read = FileFrames::read(file).expect("a good header");
    assert_eq!(frames(&read), written[..left]);
    let expected = read.end_sequence();
    let later = written
        .get(left + 1..)
        .filter(|_| has_later)
        .unwrap_or_default();
    assert_eq!(read.later().len(), later.len());
    let by_later = later.iter().map(|(_, _, settled, _)| *settled).max();
    let was_settled = settled.max(by_later.unwrap_or(0)) > expected;
    match read.tail(settled) {
        Tail::Corrupt {
            offset,
            expected: found,
            ..
        } => {
            assert!(was_settled);
            assert_eq!((offset, found), (read.end(), expected));
        }
        Tail::Torn { offset, bytes } => {
            assert!(!was_settled);
            assert_eq!(offset + bytes, file.len() as u64);
        }
        Tail::Clean => {
            assert!(!was_settled);
            assert_eq!(read.end(), file.len() as u64);
        }
    }
}

fn frames<'a>(file: &FileFrames<'a>) -> Vec<Written<'a>> {
    let frames = file.frames().iter();
    frames
        .map(|frame| {
            (
                frame.offset as usize,
                frame.sequence,
                frame.settled,
                frame.payload,
            )
        })
        .collect()
}

/// What is read of any bytes, also behind a header, is written the same.
fn read_others(header: FileHeader, start: &[u8], others: &[u8]) {
    if let Ok(file) = FileFrames::read(others) {
        let _ = file.tail(header.first_sequence);
    }
    let bytes = [start, others].concat();
    let file = FileFrames::read(&bytes).expect("a good header");
    let mut again = start.to_vec();
    for frame in file.frames() {
        encode_frame(
            header.mark,
            frame.sequence,
            frame.settled,
            frame.payload,
            &mut again,
        )
        .expect("a frame that was read");
    }
    assert!(bytes.starts_with(&again));
    let _ = file.tail(header.first_sequence);
}
