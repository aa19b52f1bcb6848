//! redb over the store's own I/O, so that simulated crashes reach it too, and
//! so that no block of the file is decoded before its checksum was seen to
//! hold: redb itself does not look at a page's checksum when it reads the page.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;
use spanstore_format::FormatError;
use spanstore_format::catalog::{CatalogSums, SUM_BLOCK_BYTES};

use crate::io::{DiskFile, is_no_space};

/// What failed in the catalog's file since it was opened, the gravest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// A read: nothing has changed.
    Read,
    /// A write that found no space: what the file says can be read.
    NoSpace,
    /// A write or a sync: what is on disk is not known.
    Write,
    /// A block that is not as it was written.
    Damage,
}

/// The file of the catalog, locked, with the checksums of its blocks.
#[derive(Debug)]
pub(super) struct CatalogFile {
    file: Box<dyn DiskFile>,
    /// CRC32C of each block as it was last written or first read; 0 when it is
    /// not known.
    sums: Mutex<Vec<u32>>,
    failure: Mutex<Option<(Failure, String)>>,
}

/// Bytes that are written again at a time.
const SETTLE_BYTES: usize = 1 << 20;

/// The number of a block, which is also its place among the checksums.
fn block_of(offset: u64) -> usize {
    (offset / SUM_BLOCK_BYTES) as usize
}

/// The checksum of a block; never 0, which stands for one that is not known.
pub(super) fn sum_of(block: &[u8]) -> u32 {
    crc32c::crc32c(block).max(1)
}

impl CatalogFile {
    pub(super) fn new(file: Box<dyn DiskFile>) -> Self {
        Self {
            file,
            sums: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    /// Takes over the checksums that were published, if the file is as it was
    /// then: each commit changes the first block. Answers whether it is.
    pub(super) fn adopt(&self, published: &CatalogSums) -> io::Result<bool> {
        if self.file.len()? != published.bytes {
            return Ok(false);
        }
        let mut first = vec![0; published.bytes.min(SUM_BLOCK_BYTES) as usize];
        self.file.read_at(0, &mut first)?;
        let is_same = published.blocks.first() == Some(&sum_of(&first));
        if is_same {
            self.sums().clone_from(&published.blocks);
        }
        Ok(is_same)
    }

    /// The checksums to be published with a commit.
    pub(super) fn sums_of(&self, commit: u64) -> io::Result<CatalogSums> {
        let bytes = self.file.len()?;
        let mut first = vec![0; bytes.min(SUM_BLOCK_BYTES) as usize];
        self.file.read_at(0, &mut first)?;
        let mut blocks = self.sums().clone();
        blocks.resize(bytes.div_ceil(SUM_BLOCK_BYTES) as usize, 0);
        if let Some(block) = blocks.first_mut() {
            *block = sum_of(&first);
        }
        Ok(CatalogSums {
            commit,
            bytes,
            blocks,
        })
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    /// Writes again what reading shows, and syncs it. After a sync that failed the
    /// system may show what is not on disk, and hold it for written. The header
    /// comes last: until then the file is what it was.
    pub(super) fn settle(&self) -> io::Result<()> {
        let end = self.file.len()?;
        let header = end.min(SUM_BLOCK_BYTES);
        self.write_again(header..end)?;
        self.file.sync_data()?;
        self.write_again(0..header)?;
        self.file.sync_data()
    }

    fn write_again(&self, range: Range<u64>) -> io::Result<()> {
        for offset in range.clone().step_by(SETTLE_BYTES) {
            let length = (range.end - offset).min(SETTLE_BYTES as u64) as usize;
            let mut stretch = vec![0; length];
            let mut again = vec![0; length];
            self.file.read_at(offset, &mut stretch)?;
            self.file.read_at(offset, &mut again)?;
            // What is written shall not be what a read got wrong.
            if stretch != again {
                return Err(io::Error::other("two reads of the same bytes differ"));
            }
            self.file.write_at(offset, &stretch)?;
        }
        Ok(())
    }

    /// Makes durable what reading shows.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file
            .sync_data()
            .inspect_err(|error| self.fail(Failure::Write, "sync", error))
    }

    /// What failed since [`CatalogFile::forget_failure`], and how.
    pub(super) fn failure(&self) -> Option<(Failure, String)> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Forgets what failed: the file is about to be read anew.
    pub(super) fn forget_failure(&self) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn sums(&self) -> MutexGuard<'_, Vec<u32>> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, failure: Failure, operation: &str, error: &io::Error) {
        let mut last = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|(last, _)| *last < failure) {
            *last = Some((failure, format!("{operation}: {error}")));
        }
    }

    fn failed_write(&self, operation: &str, error: &io::Error) {
        let failure = if is_no_space(error) {
            Failure::NoSpace
        } else {
            Failure::Write
        };
        self.fail(failure, operation, error);
    }

    /// Compares a block with its checksum, or notes it if there is none. The
    /// first block is redb's header, which is written in parts and has
    /// checksums of its own.
    fn check(&self, offset: u64, block: &[u8]) -> Result<(), FormatError> {
        let number = block_of(offset);
        if number == 0 {
            return Ok(());
        }
        let found = sum_of(block);
        let mut sums = self.sums();
        if sums.len() <= number {
            sums.resize(number + 1, 0);
        }
        match sums.get_mut(number) {
            Some(expected) if *expected != 0 && *expected != found => Err(FormatError::Checksum {
                part: "catalog",
                offset,
                expected: *expected,
                found,
            }),
            Some(expected) => {
                *expected = found;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Reads whole blocks, so that each can be compared. What a read got wrong is
    /// read once more.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset + out.len() as u64;
        // The header stands in the first block, which is not compared.
        let is_whole =
            offset.is_multiple_of(SUM_BLOCK_BYTES) && end.is_multiple_of(SUM_BLOCK_BYTES);
        if is_whole || end <= SUM_BLOCK_BYTES {
            return self.read_blocks(offset, out);
        }
        let start = offset - offset % SUM_BLOCK_BYTES;
        let stop = end.next_multiple_of(SUM_BLOCK_BYTES).min(self.file.len()?);
        let mut blocks = vec![0; (stop.max(end) - start) as usize];
        self.read_blocks(start, &mut blocks)?;
        let skipped = (offset - start) as usize;
        if let Some(found) = blocks.get(skipped..skipped + out.len()) {
            out.copy_from_slice(found);
        }
        Ok(())
    }

    fn read_blocks(&self, offset: u64, blocks: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, blocks)?;
        if self.check_all(offset, blocks).is_ok() {
            return Ok(());
        }
        self.file.read_at(offset, blocks)?;
        self.check_all(offset, blocks).map_err(|error| {
            let error = io::Error::new(io::ErrorKind::InvalidData, error);
            self.fail(Failure::Damage, "read", &error);
            error
        })
    }

    fn check_all(&self, offset: u64, blocks: &[u8]) -> Result<(), FormatError> {
        let blocks = blocks.chunks(SUM_BLOCK_BYTES as usize);
        for (block, offset) in blocks.zip((offset..).step_by(SUM_BLOCK_BYTES as usize)) {
            self.check(offset, block)?;
        }
        Ok(())
    }

    /// Notes the checksums of what is about to be written; none where only a
    /// part of a block is.
    fn note(&self, offset: u64, data: &[u8], is_written: bool) {
        let mut sums = self.sums();
        let last = block_of(offset + data.len() as u64);
        if sums.len() <= last {
            sums.resize(last + 1, 0);
        }
        let skipped = (SUM_BLOCK_BYTES - offset % SUM_BLOCK_BYTES) % SUM_BLOCK_BYTES;
        if skipped > 0
            && let Some(sum) = sums.get_mut(block_of(offset))
        {
            *sum = 0;
        }
        let whole = data.get(skipped as usize..).unwrap_or_default();
        let first = block_of(offset + skipped);
        for (block, number) in whole.chunks(SUM_BLOCK_BYTES as usize).zip(first..) {
            if let Some(sum) = sums.get_mut(number) {
                let is_known = is_written && block.len() as u64 == SUM_BLOCK_BYTES;
                *sum = if is_known { sum_of(block) } else { 0 };
            }
        }
    }
}

/// A catalog's file as redb's storage.
#[derive(Debug)]
pub(super) struct Backend(pub(super) Arc<CatalogFile>);

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, io::Error> {
        let length = self.0.file.len();
        length.inspect_err(|error| self.0.fail(Failure::Read, "read the length", error))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let read = self.0.read(offset, out);
        read.inspect_err(|error| {
            // The file is shorter than it says.
            let failure = match error.kind() {
                io::ErrorKind::UnexpectedEof => Failure::Damage,
                _ => Failure::Read,
            };
            self.0.fail(failure, "read", error);
        })
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.sums().truncate(block_of(len));
        let set = self.0.file.set_len(len);
        set.inspect_err(|error| self.0.failed_write("set the length", error))
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let written = self.0.file.write_at(offset, data);
        self.0.note(offset, data, written.is_ok());
        written.inspect_err(|error| self.0.failed_write("write", error))
    }
}
