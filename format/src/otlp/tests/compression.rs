//! Compressed bodies and files.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::otlp::OtlpError;
use crate::otlp::compression::{DecompressLimits, decompress, reader};

const MIB: usize = 1 << 20;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// Bytes that compress, but by far less than the ratio allows.
fn text(bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'a' + (state >> 24) as u8 % 8
    };
    (0..bytes).map(|_| next()).collect()
}

fn read(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut found = Vec::new();
    reader(bytes)?.read_to_end(&mut found)?;
    Ok(found)
}

#[test]
fn bodies_come_out_as_they_went_in() {
    let limits = DecompressLimits::default();
    for body in [Vec::new(), b"x".to_vec(), text(3 * MIB)] {
        for packed in [body.clone(), gzip(&body), zstd(&body)] {
            assert!(decompress(&packed, limits).unwrap() == body);
            assert!(read(&packed).unwrap() == body);
        }
    }
}

#[test]
fn members_and_frames_after_each_other_are_one_body() {
    for pack in [gzip, zstd] {
        let packed = [pack(b"one "), pack(b""), pack(b"two")].concat();
        assert_eq!(
            *decompress(&packed, DecompressLimits::default()).unwrap(),
            *b"one two"
        );
        assert_eq!(read(&packed).unwrap(), b"one two");
    }
}

#[test]
fn bombs_are_stopped() {
    let zeros = vec![0; 64 * MIB];
    for (pack, name) in [(gzip as fn(&[u8]) -> Vec<u8>, "gzip"), (zstd, "zstd")] {
        let bomb = pack(&zeros);
        let limits = DecompressLimits {
            max_bytes: 1 << 30,
            max_ratio: 200,
        };
        let error = decompress(&bomb, limits).unwrap_err();
        let is_ratio = matches!(
            error,
            OtlpError::TooLarge {
                limit: 200,
                found: 201..,
                ..
            }
        );
        assert!(is_ratio, "{name}: {error}");
        let limits = DecompressLimits {
            max_bytes: 2 * MIB,
            max_ratio: usize::MAX,
        };
        let error = decompress(&bomb, limits).unwrap_err();
        let (limit, found) = (2 * MIB as u64, 2 * MIB as u64 + 1);
        let what = "bytes of a decompressed body";
        assert_eq!(error, OtlpError::TooLarge { what, limit, found }, "{name}");
        // Many members, each of them small.
        let many = pack(&vec![0; MIB]).repeat(10);
        assert!(
            decompress(&many, DecompressLimits::default()).is_err(),
            "{name}"
        );
    }
}

#[test]
fn limits_are_exact_and_small_bodies_have_no_ratio() {
    let zeros = vec![0; MIB];
    for pack in [gzip, zstd] {
        let limits = DecompressLimits {
            max_bytes: MIB,
            max_ratio: 1,
        };
        assert_eq!(decompress(&pack(&zeros), limits).unwrap().len(), MIB);
        let limits = DecompressLimits {
            max_bytes: MIB - 1,
            max_ratio: 1,
        };
        assert!(decompress(&pack(&zeros), limits).is_err());
    }
    let limits = DecompressLimits {
        max_bytes: 3,
        max_ratio: 1,
    };
    assert!(decompress(b"abc", limits).is_ok());
    assert!(matches!(
        decompress(b"abcd", limits),
        Err(OtlpError::TooLarge { found: 4, .. })
    ));
}

#[test]
fn cut_off_and_damaged_bodies_are_refused() {
    for (packed, name) in [
        (gzip(b"a body of bytes"), "gzip"),
        (zstd(b"a body of bytes"), "zstd"),
    ] {
        for length in 4..packed.len() {
            let error = decompress(&packed[..length], DecompressLimits::default()).unwrap_err();
            let is_damaged =
                matches!(&error, OtlpError::Compression { encoding, .. } if *encoding == name);
            assert!(is_damaged, "{name} {length}: {error}");
            assert!(read(&packed[..length]).is_err(), "{name} {length}");
        }
        let followed = [packed, b"other bytes".to_vec()].concat();
        assert!(
            decompress(&followed, DecompressLimits::default()).is_err(),
            "{name}"
        );
    }
}

#[test]
fn a_zstd_window_beyond_8_mib_is_refused_in_bodies() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(24).unwrap();
    encoder.write_all(b"few bytes").unwrap();
    let packed = encoder.finish().unwrap();
    let error = decompress(&packed, DecompressLimits::default()).unwrap_err();
    assert!(
        matches!(
            error,
            OtlpError::Compression {
                encoding: "zstd",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(read(&packed).unwrap(), b"few bytes");
}
