//! Log files: a header, then frames.
//!
//! All numbers are little-endian. A file begins with 32 bytes, laid out the
//! same in every version:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | [`LOG_MAGIC`] |
//! | 8 | 2 | [`LOG_VERSION`] |
//! | 10 | 2 | zero |
//! | 12 | 4 | CRC32C of the other 28 bytes |
//! | 16 | 8 | sequence of the file's first frame |
//! | 24 | 8 | the file's mark, a number drawn at random when the file was made |
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
//! frame is damage when a later frame says that it was settled, and the end of
//! the log otherwise.

use crate::FormatError;
use crate::version::{LOG_MAGIC, LOG_VERSION};

#[cfg(test)]
mod tests;

/// Length of a file's header in bytes.
pub const FILE_HEADER_BYTES: usize = 32;
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
        let checksum = file_checksum(&out);
        if let Some(place) = out.get_mut(12..16) {
            place.copy_from_slice(&checksum.to_le_bytes());
        }
        out
    }

    /// Reads the header at the start of `bytes`.
    ///
    /// Errors: [`FormatError::Malformed`] for bytes that are too short, have
    /// another magic number or version zero, [`FormatError::Checksum`],
    /// [`FormatError::NewerVersion`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let Some(header) = bytes.first_chunk::<FILE_HEADER_BYTES>() else {
            let found = format!("{} bytes", bytes.len());
            return Err(FormatError::malformed(FILE, 0, "32 bytes", found));
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
            0 => Err(FormatError::malformed(FILE, 8, "a version above zero", "0")),
            found if found > LOG_VERSION => Err(FormatError::NewerVersion {
                part: "log file",
                found,
                supported: LOG_VERSION,
            }),
            _ => Ok(Self {
                first_sequence: u64_at(header, 16).unwrap_or(0),
                mark: u64_at(header, 24).unwrap_or(0),
            }),
        }
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
/// Errors: [`FormatError::Malformed`] for a payload of more than
/// [`MAX_PAYLOAD_BYTES`] or a `settled` above `sequence`; `out` is unchanged.
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
    /// With bytes that no settled frame covers: an unfinished or lost write,
    /// or space that was set aside. Only the last file of a log may end so.
    Torn {
        /// End of the last good frame, in bytes; 0 if the file's header is unfinished.
        offset: u64,
        /// How many bytes follow it.
        bytes: u64,
    },
    /// Frames that were on disk for certain are damaged.
    Corrupt {
        /// Where the first bad frame begins, in bytes.
        offset: u64,
        /// The sequence that should stand there.
        expected: u64,
        /// Sequence of the first good frame that follows, as far as it is known.
        valid_after: u64,
        /// Where that frame begins, in bytes.
        valid_offset: u64,
    },
}

/// The frames of a log file, in order; ends before the first bad one.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    header: Option<FileHeader>,
    position: usize,
    next_sequence: u64,
}

impl<'a> Frames<'a> {
    /// Reads the header of the file that holds `bytes`.
    ///
    /// A header that was never finished is no error but a torn tail at 0: a
    /// header is synced before a frame follows, so the header is unfinished if
    /// it is bad and nothing but zeros follow it.
    ///
    /// Errors: as [`FileHeader::decode`], if frames follow the bad header.
    pub fn new(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let header = match FileHeader::decode(bytes) {
            Ok(header) => Some(header),
            Err(error @ FormatError::NewerVersion { .. }) => return Err(error),
            Err(error) => {
                let after = bytes.get(FILE_HEADER_BYTES..).unwrap_or_default();
                if after.iter().any(|&byte| byte != 0) {
                    return Err(error);
                }
                None
            }
        };
        Ok(Self {
            bytes,
            header,
            position: header.map_or(0, |_| FILE_HEADER_BYTES),
            next_sequence: header.map_or(0, |header| header.first_sequence),
        })
    }

    /// The file's header; `None` if it was never finished.
    pub fn header(&self) -> Option<FileHeader> {
        self.header
    }

    /// End of the frames that were read so far, in bytes from the start of the file.
    pub fn offset(&self) -> u64 {
        self.position as u64
    }

    /// The sequence that the next frame has or would have.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Reads to the last good frame and tells what follows it.
    pub fn tail(mut self) -> Tail {
        while self.next().is_some() {}
        let bytes = (self.bytes.len() - self.position) as u64;
        let torn = Tail::Torn {
            offset: self.offset(),
            bytes,
        };
        let Some(header) = self.header else {
            return torn;
        };
        if bytes == 0 {
            return Tail::Clean;
        }
        let mut first_valid = None;
        let mut from = self.position;
        while let Some(at) = find_mark(self.bytes, from, header.mark) {
            from = at + 1;
            let Some((frame, end)) = frame_at(self.bytes, at, header.mark) else {
                continue;
            };
            from = end;
            if frame.sequence <= self.next_sequence && at != self.position {
                continue;
            }
            let first = *first_valid.get_or_insert(frame);
            if frame.settled > self.next_sequence {
                return Tail::Corrupt {
                    offset: self.offset(),
                    expected: self.next_sequence,
                    valid_after: first.sequence,
                    valid_offset: first.offset,
                };
            }
        }
        torn
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let header = self.header?;
        let (frame, end) = frame_at(self.bytes, self.position, header.mark)?;
        if frame.sequence != self.next_sequence {
            return None;
        }
        self.next_sequence = frame.sequence.checked_add(1)?;
        self.position = end;
        Some(frame)
    }
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
    if settled > sequence || frame_checksum(length, fields, payload) != checksum {
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
