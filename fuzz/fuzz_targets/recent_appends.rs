//! The file of recent appends: it is read as it was written, and any damage to
//! it is an error.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use spanstore_format::log::record::ReceiptRecord;
use spanstore_format::recent::{
    RecentAppend, RecentBlock, content_bytes, encode_block, encode_header, read,
};

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    sequence: u64,
    /// Blocks of appends: team, time, content, key, accepted.
    blocks: Vec<Vec<(&'a str, i64, u128, Option<&'a [u8]>, u64)>>,
    /// Where a byte is changed, and which bits of it.
    damage: (u32, u8),
    cut: u32,
    /// Bytes that stand behind a good header.
    others: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let sequence = input.sequence;
    let header = encode_header(sequence);
    let any = [header.as_slice(), input.others].concat();
    drop(read(&any, sequence, &mut |_| ()));
    drop(read(input.others, sequence, &mut |_| ()));

    let mut file = header;
    let mut written = Vec::new();
    let filled = input.blocks.iter().filter(|block| !block.is_empty());
    let blocks = filled.map(|block| block.iter().map(append).collect());
    let blocks = blocks.chain([Vec::new()]);
    for (number, appends) in (0..).zip(blocks) {
        written.extend(appends.clone());
        let block = RecentBlock { appends };
        file.extend(encode_block(sequence, number, &block).expect("a short block"));
    }
    let mut found = Vec::new();
    read(&file, sequence, &mut |append| found.push(append)).expect("what was written");
    assert_eq!(found, written);
    assert!(read(&file, sequence.wrapping_add(1), &mut |_| ()).is_err());

    let (at, bits) = (input.damage.0 as usize % file.len(), input.damage.1.max(1));
    let mut damaged = file.clone();
    damaged[at] ^= bits;
    assert!(read(&damaged, sequence, &mut |_| ()).is_err());
    let cut = input.cut as usize % file.len();
    assert!(read(&file[..cut], sequence, &mut |_| ()).is_err());
});

fn append(input: &(&str, i64, u128, Option<&[u8]>, u64)) -> RecentAppend {
    let (team, noted_at, content, key, accepted) = *input;
    RecentAppend {
        team: team.to_owned(),
        noted_at,
        content: content_bytes(content),
        key: key.map(Bytes::copy_from_slice),
        receipt: Some(ReceiptRecord {
            accepted,
            ..ReceiptRecord::default()
        }),
    }
}
