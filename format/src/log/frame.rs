//! Log files: a header, then frames.
//!
//! All numbers are little-endian. A file begins with 64 bytes:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | [`LOG_MAGIC`] |
//! | 8 | 2 | [`LOG_VERSION`] |
//! | 10 | 2 | zero |
//! | 12 | 4 | CRC32C of the other 60 bytes |
//! | 16 | 8 | sequence of the file's first frame |
//! | 24 | 8 | the file's mark, a number drawn at random when the file was made |
//! | 32 | 8 | predecessor: sequence of its first frame |
//! | 40 | 8 | predecessor: the sequence after its last frame |
//! | 48 | 8 | predecessor: its length in bytes |
//! | 56 | 8 | predecessor: its mark |
//!
//! The predecessor is the file that the log went on from; it was complete and
//! on disk when this file was made. The first file of a log has none: its 32
//! bytes are zero.
//!
//! Each frame is 32 bytes and its payload; the next one follows directly:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | length of the payload in bytes |
//! | 4 | 4 | CRC32C of the other 28 bytes and the payload |
//! | 8 | 8 | the file's mark |
//! | 16 | 8 | sequence, one more than that of the frame before |
//! | 24 | 8 | settled: all sequences below were on disk for certain when this frame was written |
//! | 32 | | payload |
//!
//! The mark tells frames of this file from old bytes and from payloads that
//! were made to look like frames: who sends payloads does not know it.
//!
//! `settled` tells what a power cut leaves from damage. A power cut may keep
//! any part of what was not synced, so a hole may be followed by whole frames.
//! But no later frame calls a sequence settled that was in the hole. So a bad
//! frame is damage when a later frame says that it was settled. What was
//! written last is settled by no later frame; the catalog's `log_settled`
//! does that.

use std::fmt;

use crate::FormatError;
use crate::version::{LOG_MAGIC, LOG_VERSION};

#[cfg(test)]
mod tests;

/// Length of a file's header in bytes.
pub const FILE_HEADER_BYTES: usize = 64;
/// Length of a frame without its payload in bytes.
pub const FRAME_HEADER_BYTES: usize = 32;
/// The longest payload of a frame in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 128 << 20;

const FILE: &str = "log file header";
const FRAME: &str = "log frame";

/// What stands at the start of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// Sequence of the file's first frame.
    pub first_sequence: u64,
    /// The number that all frames of this file carry. To be drawn at random.
    pub mark: u64,
    /// The file before; none for the first file of a log.
    pub predecessor: Option<FileSummary>,
}

/// A complete log file, as the file after it names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSummary {
    /// Sequence of its first frame.
    pub first_sequence: u64,
    /// The sequence after its last frame.
    pub end_sequence: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// The number that all its frames carry.
    pub mark: u64,
}

impl fmt::Display for FileSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            first_sequence,
            end_sequence,
            bytes,
            mark,
        } = self;
        write!(
            f,
            "a file of {bytes} bytes with the sequences {first_sequence} to {end_sequence} \
             (exclusive) and the mark {mark:016x}"
        )
    }
}

impl FileHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut out = [0; FILE_HEADER_BYTES];
        let mut rest = out.as_mut_slice();
        let [version_low, version_high] = LOG_VERSION.to_le_bytes();
        put(&mut rest, &LOG_MAGIC);
        put(&mut rest, &[version_low, version_high, 0, 0]);
        put(&mut rest, &[0; 4]);
        put(&mut rest, &self.first_sequence.to_le_bytes());
        put(&mut rest, &self.mark.to_le_bytes());
        if let Some(predecessor) = self.predecessor {
            put(&mut rest, &predecessor.first_sequence.to_le_bytes());
            put(&mut rest, &predecessor.end_sequence.to_le_bytes());
            put(&mut rest, &predecessor.bytes.to_le_bytes());
            put(&mut rest, &predecessor.mark.to_le_bytes());
        }
        let checksum = file_checksum(&out);
        if let Some(place) = out.get_mut(12..16) {
            place.copy_from_slice(&checksum.to_le_bytes());
        }
        out
    }

    /// Reads the header at the start of `bytes`.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] for bytes that are too short, have another
    /// magic number, an older version or a predecessor that does not end where
    /// the file begins; [`FormatError::Checksum`]; [`FormatError::NewerVersion`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let Some(header) = bytes.first_chunk::<FILE_HEADER_BYTES>() else {
            let found = format!("{} bytes", bytes.len());
            return Err(FormatError::malformed(FILE, 0, "64 bytes", found));
        };
        if !header.starts_with(&LOG_MAGIC) {
            let found = format!("{:02x?}", header.first_chunk::<8>());
            return Err(FormatError::malformed(
                FILE,
                0,
                "the magic number of a log file",
                found,
            ));
        }
        let (expected, found) = (u32_at(header, 12).unwrap_or(0), file_checksum(header));
        if expected != found {
            return Err(FormatError::Checksum {
                part: FILE,
                offset: 0,
                expected,
                found,
            });
        }
        let version = header.get(8..10).and_then(|bytes| bytes.first_chunk::<2>());
        match version.copied().map_or(0, u16::from_le_bytes) {
            LOG_VERSION => {}
            found if found > LOG_VERSION => {
                return Err(FormatError::NewerVersion {
                    part: "log file",
                    found,
                    supported: LOG_VERSION,
                });
            }
            found => {
                let expected = format!("version {LOG_VERSION}");
                let found = format!("version {found}, from before the first release");
                return Err(FormatError::malformed(FILE, 8, expected, found));
            }
        }
        let number = |at| u64_at(header, at).unwrap_or(0);
        let first_sequence = number(16);
        let predecessor = FileSummary {
            first_sequence: number(32),
            end_sequence: number(40),
            bytes: number(48),
            mark: number(56),
        };
        let is_first = header.iter().skip(32).all(|byte| *byte == 0);
        if !is_first && predecessor.end_sequence != first_sequence {
            let expected = format!("a predecessor that ends at sequence {first_sequence}");
            let found = predecessor.to_string();
            return Err(FormatError::malformed(FILE, 32, expected, found));
        }
        Ok(Self {
            first_sequence,
            mark: number(24),
            predecessor: (!is_first).then_some(predecessor),
        })
    }
}

/// One record as it stands in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The record's number, one more than that of the record before.
    pub sequence: u64,
    /// All records below this sequence were on disk for certain when this one
    /// was written. At most `sequence`.
    pub settled: u64,
    /// The record.
    pub payload: &'a [u8],
    /// Where the frame begins, in bytes from the start of the file.
    pub offset: u64,
}

/// Appends one frame of the file with `mark` to `out`.
///
/// `settled` is the first sequence that is not known to be on disk; it is not
/// above `sequence`.
///
/// # Errors
/// [`FormatError::Malformed`] for a payload of more than [`MAX_PAYLOAD_BYTES`] or a `settled` above `sequence`; `out` is unchanged.
pub fn encode_frame(
    mark: u64,
    sequence: u64,
    settled: u64,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), FormatError> {
    let length = match u32::try_from(payload.len()) {
        Ok(length) if payload.len() <= MAX_PAYLOAD_BYTES => length,
        _ => {
            let expected = format!("a payload of at most {MAX_PAYLOAD_BYTES} bytes");
            let found = format!("{} bytes", payload.len());
            return Err(FormatError::malformed(FRAME, 0, expected, found));
        }
    };
    if settled > sequence {
        let expected = format!("a settled sequence of at most {sequence}");
        return Err(FormatError::malformed(
            FRAME,
            24,
            expected,
            settled.to_string(),
        ));
    }
    let mut fields = [0; 24];
    let mut rest = fields.as_mut_slice();
    put(&mut rest, &mark.to_le_bytes());
    put(&mut rest, &sequence.to_le_bytes());
    put(&mut rest, &settled.to_le_bytes());
    let checksum = frame_checksum(length, &fields, payload);
    out.reserve(FRAME_HEADER_BYTES + payload.len());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(&fields);
    out.extend_from_slice(payload);
    Ok(())
}

/// How a log file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// With its last frame.
    Clean,
    /// With bytes that were never settled: an unfinished or lost write, or
    /// space that was set aside. Only the last file of a log may end so.
    Torn {
        /// End of the last good frame, in bytes.
        offset: u64,
        /// How many bytes follow it.
        bytes: u64,
    },
    /// Frames that were on disk for certain are damaged or missing.
    Corrupt {
        /// Where the first bad frame begins, in bytes.
        offset: u64,
        /// The sequence that should stand there.
        expected: u64,
        /// The first good frame that follows: its sequence, and where it
        /// begins, in bytes. None when no good frame follows.
        valid_after: Option<(u64, u64)>,
    },
}

/// The frames of a log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFrames<'a> {
    header: FileHeader,
    frames: Vec<Frame<'a>>,
    later: Vec<Frame<'a>>,
    end: u64,
    bytes: u64,
}

impl<'a> FileFrames<'a> {
    /// Reads the file that holds `bytes`.
    ///
    /// # Errors
    /// As [`FileHeader::decode`]. Bad frames are no error; [`FileFrames::tail`]
    /// tells of them.
    pub fn read(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let header = FileHeader::decode(bytes)?;
        Ok(Self::read_behind(header, bytes))
    }

    /// Reads the frames of a file whose header cannot be read. `header` says
    /// what is known of it from elsewhere.
    pub fn read_behind(header: FileHeader, bytes: &'a [u8]) -> Self {
        let start = FILE_HEADER_BYTES.min(bytes.len());
        let (frames, end) = frames_at(bytes, start, header.mark, header.first_sequence);
        let next = header.first_sequence.saturating_add(frames.len() as u64);
        Self {
            header,
            frames,
            later: frames_from(bytes, end, header.mark, next),
            end: end as u64,
            bytes: bytes.len() as u64,
        }
    }

    /// The mark of the frame that follows the header, if that frame is good: a
    /// way to read frames behind a damaged header.
    pub fn first_mark(bytes: &[u8]) -> Option<u64> {
        let mark = u64_at(bytes, FILE_HEADER_BYTES + 8)?;
        frame_at(bytes, FILE_HEADER_BYTES, mark).map(|_| mark)
    }

    /// The file's header.
    pub fn header(&self) -> FileHeader {
        self.header
    }

    /// The frames before the first bad one, in order.
    pub fn frames(&self) -> &[Frame<'a>] {
        &self.frames
    }

    /// Good frames of this file behind the first bad one, their sequences rising.
    pub fn later(&self) -> &[Frame<'a>] {
        &self.later
    }

    /// End of the frames before the first bad one, in bytes from the start of
    /// the file.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The sequence after the last frame before the first bad one.
    pub fn end_sequence(&self) -> u64 {
        let last = self.frames.last();
        last.map_or(self.header.first_sequence, |last| {
            last.sequence.saturating_add(1)
        })
    }

    /// The file in few words, as the file after it names it.
    pub fn summary(&self) -> FileSummary {
        FileSummary {
            first_sequence: self.header.first_sequence,
            end_sequence: self.end_sequence(),
            bytes: self.bytes,
            mark: self.header.mark,
        }
    }

    /// How the file ends. Sequences below `settled` were on disk for certain,
    /// and so were those that a frame of the file says were.
    pub fn tail(&self, settled: u64) -> Tail {
        let expected = self.end_sequence();
        let later = self.later.iter().map(|frame| frame.settled);
        if later.max().unwrap_or(0).max(settled) > expected {
            let valid_after = self.later.first();
            return Tail::Corrupt {
                offset: self.end,
                expected,
                valid_after: valid_after.map(|frame| (frame.sequence, frame.offset)),
            };
        }
        match self.bytes - self.end {
            0 => Tail::Clean,
            bytes => Tail::Torn {
                offset: self.end,
                bytes,
            },
        }
    }
}

/// The frames of the file with `mark` that follow each other from a place on, the first with
/// the sequence `next`, up to the first that is not good; and where that stands. Places are
/// counted from the start of `bytes`, which may be a part of the file.
pub fn frames_at(bytes: &[u8], from: usize, mark: u64, mut next: u64) -> (Vec<Frame<'_>>, usize) {
    let mut frames = Vec::new();
    let mut end = from;
    while let Some((frame, after)) = frame_at(bytes, end, mark)
        && frame.sequence == next
        && let Some(following) = next.checked_add(1)
    {
        frames.push(frame);
        next = following;
        end = after;
    }
    (frames, end)
}

/// The good frames from a place on, wherever they begin, with sequences from
/// `next` on that rise.
fn frames_from(bytes: &[u8], from: usize, mark: u64, mut next: u64) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    let mut from = from;
    while let Some(at) = find_mark(bytes, from, mark) {
        from = at + 1;
        if let Some((frame, end)) = frame_at(bytes, at, mark)
            && frame.sequence >= next
        {
            from = end;
            next = frame.sequence.saturating_add(1);
            frames.push(frame);
        }
    }
    frames
}

/// The good frame at `at` and where it ends.
fn frame_at(bytes: &[u8], at: usize, mark: u64) -> Option<(Frame<'_>, usize)> {
    let rest = bytes.get(at..)?;
    let length = u32_at(rest, 0)?;
    let checksum = u32_at(rest, 4)?;
    if u64_at(rest, 8)? != mark {
        return None;
    }
    let fields = rest.get(8..FRAME_HEADER_BYTES)?;
    let payload_bytes = usize::try_from(length)
        .ok()
        .filter(|&len| len <= MAX_PAYLOAD_BYTES)?;
    let payload = rest.get(FRAME_HEADER_BYTES..)?.get(..payload_bytes)?;
    let (sequence, settled) = (u64_at(rest, 16)?, u64_at(rest, 24)?);
    let is_whole =
        frame_checksum(length, fields, payload) == checksum || is_planted!(SkipFrameChecksum);
    if settled > sequence || !is_whole {
        return None;
    }
    let frame = Frame {
        sequence,
        settled,
        payload,
        offset: at as u64,
    };
    Some((frame, at + FRAME_HEADER_BYTES + payload_bytes))
}

/// Where the next frame from `from` on may begin: the place of its mark tells.
fn find_mark(bytes: &[u8], from: usize, mark: u64) -> Option<usize> {
    let marks = bytes.get(from + 8..)?;
    let found = marks
        .windows(8)
        .position(|window| window == mark.to_le_bytes())?;
    Some(from + found)
}

fn file_checksum(header: &[u8; FILE_HEADER_BYTES]) -> u32 {
    let checksum = crc32c::crc32c(header.get(..12).unwrap_or_default());
    crc32c::crc32c_append(checksum, header.get(16..).unwrap_or_default())
}

fn frame_checksum(length: u32, fields: &[u8], payload: &[u8]) -> u32 {
    let checksum = crc32c::crc32c(&length.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(checksum, fields), payload)
}

/// Copies `bytes` to the start of `rest` and moves `rest` behind them.
#[expect(clippy::mut_mut, reason = "the slice itself moves")]
fn put(rest: &mut &mut [u8], bytes: &[u8]) {
    if let Some(place) = rest.split_off_mut(..bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
