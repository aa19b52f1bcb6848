//! Any bytes as a body: what is decompressed keeps to its limits, a body that
//! was compressed comes back, and a reader of files reads the same.
#![no_main]

use std::io::{Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use spanstore_format::otlp::compression::{DecompressLimits, decompress, reader};

fuzz_target!(|input: (u32, u8, &[u8])| {
    let (max_bytes, max_ratio, bytes) = input;
    let limits = DecompressLimits {
        max_bytes: max_bytes as usize % (4 << 20),
        max_ratio: usize::from(max_ratio),
    };
    if let Ok(body) = decompress(bytes, limits) {
        assert!(body.len() <= limits.max_bytes);
        assert!(body.len() <= (bytes.len() * limits.max_ratio).max(1 << 20));
        let mut read = Vec::new();
        let mut input = reader(bytes).expect("a slice is read");
        input
            .read_to_end(&mut read)
            .expect("what decompresses is read");
        assert_eq!(body, read);
    }

    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).expect("a vector takes all");
    let gzip = gzip.finish().expect("a vector takes all");
    let zstd = zstd::encode_all(bytes, 1).expect("a vector takes all");
    for compressed in [gzip, zstd] {
        let twice = [compressed.as_slice(), &compressed].concat();
        for (times, compressed) in [(1, compressed), (2, twice)] {
            let body = decompress(&compressed, DecompressLimits::default());
            assert_eq!(body.expect("a small body").as_ref(), bytes.repeat(times));
        }
    }
});
