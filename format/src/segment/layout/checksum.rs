//! Checksums of a segment: CRC32C of every block of 16 KiB, checked the first
//! time a byte of the block is handed out.

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::{Buf, Bytes};

use crate::error::FormatError;
use crate::segment::layout::source::{Piece, ReadFile, Source, outside};

/// Bytes of a block; the last one of a file may be shorter.
pub const BLOCK_BYTES: u64 = 16 * 1024;

/// Passes bytes on and keeps the checksum of every block.
#[derive(Debug)]
pub(crate) struct ChecksummingWriter<W> {
    inner: W,
    written: u64,
    blocks: Vec<u32>,
    block: u32,
    /// Checksum of everything since [`ChecksummingWriter::start_tail`].
    tail: Option<u32>,
    /// The last bytes of the tail: the end of a Parquet file, as far as anyone
    /// knows.
    held: Vec<u8>,
}

/// Bytes at the end of a Parquet file: the footer's length, and `PAR1`.
const END_BYTES: usize = 8;
/// Bytes of the checksum that stands before the end, as the last of the footer.
const CRC_BYTES: usize = 4;

/// Verifies the checksum that a segment's tail has within itself: that of all
/// its bytes before. It serves where no catalog has the tail's checksum.
///
/// # Errors
/// [`FormatError::Checksum`] and [`FormatError::Malformed`] for damage.
pub(crate) fn verify_tail(tail: &[u8], offset: u64) -> Result<(), FormatError> {
    let part = "segment tail";
    let covered = tail.len().checked_sub(CRC_BYTES + END_BYTES);
    let Some((covered, mut rest)) = covered.and_then(|covered| tail.split_at_checked(covered))
    else {
        let found = format!("{} bytes", tail.len());
        return Err(FormatError::malformed(
            part,
            offset,
            "at least 12 bytes",
            found,
        ));
    };
    let (expected, found) = (rest.get_u32_le(), crc32c::crc32c(covered));
    if expected == found {
        return Ok(());
    }
    Err(FormatError::Checksum {
        part,
        offset,
        expected,
        found,
    })
}

/// Makes the checksum that a tail has within itself hold.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn reseal_tail(tail: &mut [u8]) {
    let covered = tail.len().saturating_sub(CRC_BYTES + END_BYTES);
    let (covered, rest) = tail.split_at_mut(covered);
    if let Some(own) = rest.get_mut(..CRC_BYTES) {
        own.copy_from_slice(&crc32c::crc32c(covered).to_le_bytes());
    }
}

impl<W: Write> ChecksummingWriter<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self {
            inner,
            written: 0,
            blocks: Vec::new(),
            block: 0,
            tail: None,
            held: Vec::new(),
        }
    }

    /// The checksums of the blocks so far, the unfinished last one included.
    pub(crate) fn blocks(&self) -> Vec<u32> {
        let mut blocks = self.blocks.clone();
        if !self.written.is_multiple_of(BLOCK_BYTES) {
            blocks.push(self.block);
        }
        blocks
    }

    /// From here on bytes count towards the tail.
    pub(crate) fn start_tail(&mut self) {
        self.tail = Some(0);
    }

    /// Ends the tail with its own checksum, as the last bytes of the Parquet
    /// footer: readers of Thrift stop before them. Answers the writer within, the
    /// bytes written and the checksum of the tail.
    pub(crate) fn finish(mut self) -> io::Result<(W, u64, u32)> {
        let held = std::mem::take(&mut self.held);
        let Some((mut length, magic)) = held.split_at_checked(END_BYTES / 2) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        if length.len() < END_BYTES / 2 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = length.get_u32_le() + CRC_BYTES as u32;
        let own = self.tail.unwrap_or(0);
        self.pass(&own.to_le_bytes())?;
        self.pass(&length.to_le_bytes())?;
        self.pass(magic)?;
        Ok((self.inner, self.written, self.tail.unwrap_or(0)))
    }

    /// Passes bytes on.
    fn pass(&mut self, data: &[u8]) -> io::Result<()> {
        self.inner.write_all(data)?;
        if let Some(tail) = &mut self.tail {
            *tail = crc32c::crc32c_append(*tail, data);
        }
        let mut rest = data;
        while !rest.is_empty() {
            let space = (BLOCK_BYTES - self.written % BLOCK_BYTES) as usize;
            let (now, later) = rest.split_at(space.min(rest.len()));
            self.block = crc32c::crc32c_append(self.block, now);
            self.written += now.len() as u64;
            if self.written.is_multiple_of(BLOCK_BYTES) {
                self.blocks.push(std::mem::take(&mut self.block));
            }
            rest = later;
        }
        Ok(())
    }
}

impl<W: Write> Write for ChecksummingWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.tail.is_none() {
            self.pass(data)?;
            return Ok(data.len());
        }
        let mut tail = std::mem::take(&mut self.held);
        tail.extend_from_slice(data);
        let passed = tail.len().saturating_sub(END_BYTES);
        self.held = tail.split_off(passed);
        self.pass(&tail)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A segment's bytes, handed out only where their checksum holds.
#[derive(Debug, Clone)]
pub struct VerifiedBytes {
    inner: Arc<Inner>,
    /// What [`VerifiedBytes::slice`] was asked for, where it is remembered.
    noted: Option<Arc<Noted>>,
}

/// What was read of some bytes.
#[derive(Debug, Default)]
struct Noted {
    first_error: OnceLock<FormatError>,
    slices: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    source: Source,
    /// Bytes from the start that the block checksums cover.
    covered: u64,
    /// The checksums, four bytes each, little-endian.
    checksums: Bytes,
    /// A bit a block of a mapped file: its checksum was seen to hold. What is
    /// read is verified each time.
    verified: Vec<AtomicU64>,
}

impl VerifiedBytes {
    /// Bytes of which the first `covered` are covered by `checksums`.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the number of checksums does not fit.
    pub fn new(
        source: impl Into<Source>,
        covered: u64,
        checksums: Bytes,
    ) -> Result<Self, FormatError> {
        let source = source.into();
        let blocks = covered.div_ceil(BLOCK_BYTES);
        if covered > source.len() || checksums.len() as u64 != blocks * 4 {
            return Err(FormatError::malformed(
                "block checksums",
                covered,
                format!("{blocks} checksums for {covered} bytes"),
                format!(
                    "{} bytes of checksums in a file of {} bytes",
                    checksums.len(),
                    source.len()
                ),
            ));
        }
        let verified = (0..blocks.div_ceil(64))
            .map(|_| AtomicU64::new(0))
            .collect();
        Ok(Self {
            inner: Arc::new(Inner {
                source,
                covered,
                checksums,
                verified,
            }),
            noted: None,
        })
    }

    /// The same bytes. They note what [`VerifiedBytes::slice`] is asked for,
    /// and its first error: decoders hand on its text alone.
    pub(crate) fn noting(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            noted: Some(Arc::default()),
        }
    }

    /// The first error that was noted.
    pub(crate) fn first_error(&self) -> Option<FormatError> {
        self.noted.as_ref()?.first_error.get().cloned()
    }

    /// How many slices were noted, and their bytes.
    pub(crate) fn noted(&self) -> (u64, u64) {
        self.noted.as_ref().map_or((0, 0), |noted| {
            let Noted { slices, bytes, .. } = &**noted;
            (
                slices.load(Ordering::Relaxed),
                bytes.load(Ordering::Relaxed),
            )
        })
    }

    /// A range of the bytes, borrowed where that can be: for searches, which
    /// look at many.
    ///
    /// # Errors
    /// As [`VerifiedBytes::slice`].
    pub fn get(&self, range: Range<u64>) -> Result<Piece<'_>, FormatError> {
        match &self.inner.source {
            Source::Whole(bytes) if range.end <= self.inner.covered => {
                self.verify(bytes, &range)?;
                let bytes = bytes.get(range.start as usize..range.end as usize);
                Ok(Piece::Borrowed(bytes.unwrap_or_default()))
            }
            _ => self.slice(range).map(Piece::Read),
        }
    }

    /// A range of the bytes.
    ///
    /// # Errors
    /// [`FormatError::Checksum`] when a block of it is damaged,
    /// [`FormatError::Unreadable`] when a block of it cannot be read,
    /// [`FormatError::Malformed`] when it is not all within the covered
    /// bytes.
    pub fn slice(&self, range: Range<u64>) -> Result<Bytes, FormatError> {
        let slice = self.verified_slice(range);
        if let Some(noted) = &self.noted {
            match &slice {
                Ok(slice) => {
                    noted.slices.fetch_add(1, Ordering::Relaxed);
                    noted.bytes.fetch_add(slice.len() as u64, Ordering::Relaxed);
                }
                Err(error) => drop(noted.first_error.get_or_init(|| error.clone())),
            }
        }
        slice
    }

    fn verified_slice(&self, range: Range<u64>) -> Result<Bytes, FormatError> {
        let inner = &*self.inner;
        if range.start > range.end || range.end > inner.covered {
            return Err(outside(&range, inner.covered));
        }
        match &inner.source {
            Source::Whole(bytes) => {
                self.verify(bytes, &range)?;
                Ok(bytes.slice(range.start as usize..range.end as usize))
            }
            Source::File(file) => self.assemble(file.as_ref(), range),
        }
    }

    /// A range of a file that is read, out of its blocks.
    fn assemble(&self, file: &dyn ReadFile, range: Range<u64>) -> Result<Bytes, FormatError> {
        let first = range.start / BLOCK_BYTES;
        let blocks = first..range.end.div_ceil(BLOCK_BYTES);
        let within = |block: u64| {
            let start = block * BLOCK_BYTES;
            let from = range.start.saturating_sub(start).min(BLOCK_BYTES);
            from as usize..(range.end - start).min(BLOCK_BYTES) as usize
        };
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        if blocks.end - blocks.start == 1 {
            return Ok(self.read_block(file, first)?.slice(within(first)));
        }
        let mut out = Vec::with_capacity((range.end - range.start) as usize);
        for block in blocks {
            out.extend_from_slice(&self.read_block(file, block)?.slice(within(block)));
        }
        Ok(Bytes::from(out))
    }

    /// A block of a file that is read: one that was kept, or anew.
    fn read_block(&self, file: &dyn ReadFile, block: u64) -> Result<Bytes, FormatError> {
        if let Some(bytes) = file.kept(block) {
            return Ok(bytes);
        }
        let bytes = self.inner.source.read(self.place_of(block))?;
        self.compare(block, &bytes)?;
        file.keep(block, bytes.clone());
        Ok(bytes)
    }

    fn verify(&self, bytes: &Bytes, range: &Range<u64>) -> Result<(), FormatError> {
        if range.start > range.end {
            return Err(outside(range, bytes.len() as u64));
        }
        for block in range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES) {
            self.verify_block(bytes, block)?;
        }
        Ok(())
    }

    /// The damaged blocks among all, by the offset of their first byte. Of a
    /// file that is read every block is read anew.
    pub fn damaged_blocks(&self) -> Vec<FormatError> {
        let verify = |block| match &self.inner.source {
            Source::Whole(bytes) => self.verify_block(bytes, block),
            Source::File(_) => {
                let bytes = self.inner.source.read(self.place_of(block))?;
                self.compare(block, &bytes)
            }
        };
        let blocks = self.inner.covered.div_ceil(BLOCK_BYTES);
        (0..blocks)
            .filter_map(|block| verify(block).err())
            .collect()
    }

    fn place_of(&self, block: u64) -> Range<u64> {
        let start = block * BLOCK_BYTES;
        start..(start + BLOCK_BYTES).min(self.inner.covered)
    }

    fn verify_block(&self, bytes: &Bytes, block: u64) -> Result<(), FormatError> {
        let word = self.inner.verified.get((block / 64) as usize);
        let bit = 1 << (block % 64);
        if word.is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0) {
            return Ok(());
        }
        let place = self.place_of(block);
        let data = bytes.get(place.start as usize..place.end as usize);
        self.compare(block, data.unwrap_or_default())?;
        if let Some(word) = word {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }

    fn compare(&self, block: u64, data: &[u8]) -> Result<(), FormatError> {
        let found = crc32c::crc32c(data);
        let at = block as usize * 4;
        let expected = self
            .inner
            .checksums
            .get(at..at + 4)
            .map_or(!found, |mut word| word.get_u32_le());
        if found == expected || is_planted!(SkipBlockChecksum) {
            return Ok(());
        }
        Err(FormatError::Checksum {
            part: "segment block",
            offset: block * BLOCK_BYTES,
            expected,
            found,
        })
    }
}
