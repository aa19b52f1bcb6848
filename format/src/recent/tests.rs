use super::*;

const SEQUENCE: u64 = 77;

fn append(n: u8, key: Option<&'static [u8]>) -> RecentAppend {
    RecentAppend {
        team: format!("team {n}"),
        noted_at: i64::from(n) * 1_000,
        content: content_bytes(u128::from(n) << 90),
        key: key.map(Bytes::from_static),
        receipt: Some(ReceiptRecord {
            accepted: u64::from(n),
            ..ReceiptRecord::default()
        }),
    }
}

fn file(blocks: &[Vec<RecentAppend>]) -> Vec<u8> {
    let mut bytes = encode_header(SEQUENCE);
    let blocks = blocks.iter().cloned().chain([Vec::new()]);
    for (number, appends) in (0..).zip(blocks) {
        let block = RecentBlock { appends };
        bytes.extend(encode_block(SEQUENCE, number, &block).unwrap());
    }
    bytes
}

fn appends(bytes: &[u8]) -> Result<Vec<RecentAppend>, FormatError> {
    let mut found = Vec::new();
    read(bytes, SEQUENCE, &mut |append| found.push(append))?;
    Ok(found)
}

#[test]
fn appends_come_back_in_their_order() {
    let blocks = [
        vec![append(1, None), append(2, Some(b"key"))],
        vec![append(3, Some(b""))],
    ];
    assert_eq!(appends(&file(&blocks)).unwrap(), blocks.concat());
    assert_eq!(appends(&file(&[])).unwrap(), []);
    assert_eq!(content_of(&append(9, None).content), Some(9 << 90));
    assert_eq!(content_of(&[1; 15]), None);
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let bytes = file(&[vec![append(1, None)], vec![append(2, Some(b"key"))]]);
    for at in 0..bytes.len() {
        assert!(appends(&bytes[..at]).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(appends(&damaged).is_err(), "byte {at}, bit {bit}");
        }
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(appends(&longer).is_err());
}

#[test]
fn blocks_of_another_place_and_files_of_another_sequence_do_not_count() {
    let block = |number| {
        let block = RecentBlock {
            appends: vec![append(1, None)],
        };
        encode_block(SEQUENCE, number, &block).unwrap()
    };
    let end = encode_block(SEQUENCE, 2, &RecentBlock::default()).unwrap();
    let swapped = [encode_header(SEQUENCE), block(1), block(0), end].concat();
    assert!(matches!(
        appends(&swapped),
        Err(FormatError::Checksum { .. })
    ));
    let error = read(&file(&[]), SEQUENCE + 1, &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("sequence 77"), "{error}");
}

#[test]
fn another_version_is_refused() {
    for (version, is_newer) in [(RECENT_VERSION + 1, true), (0, false)] {
        let mut bytes = file(&[]);
        bytes[8..10].copy_from_slice(&version.to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..24]);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        let error = appends(&bytes).unwrap_err();
        let is_newer_version = matches!(error, FormatError::NewerVersion { .. });
        assert_eq!(is_newer_version, is_newer, "{error}");
    }
}
