use std::collections::HashMap;
use std::sync::Mutex;

use super::*;

fn written(bytes: u64) -> (Vec<u8>, Vec<u32>) {
    let mut writer = ChecksummingWriter::new(Vec::new());
    let data: Vec<u8> = (0..bytes).map(|at| (at * 31 % 251) as u8).collect();
    for piece in data.chunks(1_000) {
        writer.write_all(piece).unwrap();
    }
    let blocks = writer.blocks();
    (writer.inner, blocks)
}

fn verified(data: Vec<u8>, blocks: &[u32]) -> VerifiedBytes {
    let covered = data.len() as u64;
    let table: Vec<u8> = blocks
        .iter()
        .flat_map(|block| block.to_le_bytes())
        .collect();
    VerifiedBytes::new(Bytes::from(data), covered, Bytes::from(table)).unwrap()
}

#[test]
fn each_damaged_byte_is_found_and_the_other_blocks_stay_readable() {
    let (data, blocks) = written(BLOCK_BYTES * 2 + 100);
    assert_eq!(blocks.len(), 3);
    for at in [
        0,
        1,
        BLOCK_BYTES - 1,
        BLOCK_BYTES,
        BLOCK_BYTES * 2,
        BLOCK_BYTES * 2 + 99,
    ] {
        let mut damaged = data.clone();
        damaged[at as usize] ^= 1;
        let bytes = verified(damaged, &blocks);
        assert!(bytes.slice(at..at + 1).is_err(), "{at}");
        let other = (at / BLOCK_BYTES + 1) % 3 * BLOCK_BYTES;
        assert!(bytes.slice(other..other + 1).is_ok(), "{at}");
        assert_eq!(bytes.damaged_blocks().len(), 1);
    }
}

#[test]
fn reads_through_block_borders() {
    let (data, blocks) = written(BLOCK_BYTES * 2 + 100);
    let bytes = verified(data.clone(), &blocks);
    assert_eq!(bytes.slice(5..data.len() as u64).unwrap(), data[5..]);
    assert!(bytes.slice(0..data.len() as u64 + 1).is_err());
}

/// A file that is read, and keeps what it is told to.
#[derive(Debug)]
struct Medium {
    bytes: Mutex<Vec<u8>>,
    kept: Mutex<HashMap<u64, Bytes>>,
    reads: AtomicU64,
}

impl ReadFile for Medium {
    fn bytes(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let bytes = self.bytes.lock().unwrap();
        out.copy_from_slice(&bytes[offset as usize..][..out.len()]);
        Ok(())
    }

    fn kept(&self, block: u64) -> Option<Bytes> {
        self.kept.lock().unwrap().get(&block).cloned()
    }

    fn keep(&self, block: u64, bytes: Bytes) {
        self.kept.lock().unwrap().insert(block, bytes);
    }
}

#[test]
fn what_is_read_is_verified_each_time_unless_it_was_kept() {
    let (data, blocks) = written(BLOCK_BYTES * 2 + 100);
    let medium = Arc::new(Medium {
        bytes: Mutex::new(data.clone()),
        kept: Mutex::default(),
        reads: AtomicU64::new(0),
    });
    let table = blocks.iter().flat_map(|block| block.to_le_bytes());
    let source = Source::File(Arc::clone(&medium) as Arc<dyn ReadFile>);
    let covered = data.len() as u64;
    let bytes = VerifiedBytes::new(source, covered, table.collect()).unwrap();
    for range in [
        0..0,
        3..BLOCK_BYTES,
        BLOCK_BYTES - 1..BLOCK_BYTES + 1,
        BLOCK_BYTES..BLOCK_BYTES * 2,
        5..covered,
    ] {
        let expected = &data[range.start as usize..range.end as usize];
        assert_eq!(bytes.slice(range.clone()).unwrap(), expected);
        assert_eq!(&*bytes.get(range).unwrap(), expected);
    }
    assert!(bytes.slice(5..covered + 1).is_err());
    assert_eq!(medium.reads.load(Ordering::Relaxed), 3);
    // What was kept was verified; what was let go is verified again.
    medium.bytes.lock().unwrap()[7] ^= 1;
    assert!(bytes.slice(0..10).is_ok());
    assert_eq!(bytes.damaged_blocks().len(), 1);
    medium.kept.lock().unwrap().clear();
    let noting = bytes.noting();
    for _ in 0..2 {
        let error = noting.slice(0..10).unwrap_err();
        assert!(matches!(error, FormatError::Checksum { offset: 0, .. }));
    }
    assert!(noting.slice(BLOCK_BYTES..BLOCK_BYTES + 10).is_ok());
    assert!(noting.first_error().is_some() && bytes.first_error().is_none());
    assert_eq!((noting.noted(), bytes.noted()), ((1, 10), (0, 0)));
}
