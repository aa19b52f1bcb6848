//! Bodies and files that may be gzip or zstd, recognised by their first bytes.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use super::OtlpError;

/// How far a body may grow when it is decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecompressLimits {
    /// Largest body, in bytes after decompression; 64 MiB by default. A body
    /// that came uncompressed is held to it too.
    pub max_bytes: usize,
    /// Largest quotient of the size after and before; 200 by default.
    pub max_ratio: usize,
}

impl Default for DecompressLimits {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 20,
            max_ratio: 200,
        }
    }
}

/// Up to here the ratio does not count. A small body of equal spans compresses
/// better than any limit that still stops a bomb, and costs nothing.
const RATIO_FREE_BYTES: usize = 1 << 20;

/// Largest zstd window of a body, as a power of two: 8 MiB, which RFC 9659 sets
/// for HTTP. The decoder takes the window's memory before the first byte comes out.
const BODY_WINDOW_LOG: u32 = 23;

/// Bytes of a file that are read or decompressed at once.
const READ_BYTES: usize = 256 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Plain,
    Gzip,
    Zstd,
}

impl Encoding {
    fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// The body itself, decompressed when it is gzip or zstd. Several gzip members
/// or zstd frames after each other are one body. Plain bytes are borrowed.
///
/// # Errors
/// [`OtlpError::TooLarge`] when the body or the ratio exceeds its limit; what
/// was decompressed until then is all that was ever held in memory.
/// [`OtlpError::Compression`] when the bytes are cut off or damaged, or need a
/// zstd window of more than 8 MiB.
pub fn decompress(bytes: &[u8], limits: DecompressLimits) -> Result<Cow<'_, [u8]>, OtlpError> {
    match Encoding::of(bytes) {
        Encoding::Plain if bytes.len() > limits.max_bytes => Err(OtlpError::TooLarge {
            what: "bytes of a body",
            limit: limits.max_bytes as u64,
            found: bytes.len() as u64,
        }),
        Encoding::Plain => Ok(Cow::Borrowed(bytes)),
        Encoding::Gzip => {
            read_within("gzip", MultiGzDecoder::new(bytes), bytes.len(), limits).map(Cow::Owned)
        }
        Encoding::Zstd => zstd::stream::read::Decoder::with_buffer(bytes)
            .and_then(|mut decoder| {
                decoder.window_log_max(BODY_WINDOW_LOG)?;
                Ok(decoder)
            })
            .map_err(|error| damaged("zstd", &error))
            .and_then(|decoder| read_within("zstd", decoder, bytes.len(), limits))
            .map(Cow::Owned),
    }
}

/// Reads all that `decoder` makes of `compressed` bytes, up to the limits.
fn read_within(
    encoding: &'static str,
    decoder: impl Read,
    compressed: usize,
    limits: DecompressLimits,
) -> Result<Vec<u8>, OtlpError> {
    let by_ratio = compressed
        .saturating_mul(limits.max_ratio)
        .max(RATIO_FREE_BYTES);
    let allowed = limits.max_bytes.min(by_ratio);
    // One byte more than allowed tells a body that fits from one that goes on.
    let mut body = read_up_to(decoder, allowed.saturating_add(1))
        .map_err(|error| damaged(encoding, &error))?;
    if body.len() <= allowed {
        body.shrink_to_fit();
        Ok(body)
    } else if allowed == limits.max_bytes {
        let (limit, found) = (limits.max_bytes as u64, body.len() as u64);
        Err(OtlpError::TooLarge {
            what: "bytes of a decompressed body",
            limit,
            found,
        })
    } else {
        let (limit, found) = (
            limits.max_ratio as u64,
            body.len().div_ceil(compressed.max(1)),
        );
        Err(OtlpError::TooLarge {
            what: "decompression ratio",
            limit,
            found: found as u64,
        })
    }
}

/// Reads up to so many bytes. The buffer doubles, but has no room for more than them.
fn read_up_to(mut reader: impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    let mut size = READ_BYTES.min(most);
    loop {
        body.reserve_exact(size.saturating_sub(body.len()));
        let room = (size - body.len()) as u64;
        let read = reader.by_ref().take(room).read_to_end(&mut body)?;
        if (read as u64) < room || size == most {
            return Ok(body);
        }
        size = size.saturating_mul(2).min(most);
    }
}

fn damaged(encoding: &'static str, error: &io::Error) -> OtlpError {
    OtlpError::Compression {
        encoding,
        message: error.to_string(),
    }
}

/// A reader of what `input` holds, decompressed when it is gzip or zstd. Several
/// members or frames after each other are read as one stream. It is for files
/// the operator chose, so its length has no limit, and zstd windows may have the
/// 128 MiB that the format's own tool allows.
///
/// # Errors
/// Those of `input`. Damage to the compressed bytes is an error of the reader
/// that is returned, when it gets there.
pub fn reader<'a>(mut input: impl Read + 'a) -> io::Result<Box<dyn BufRead + 'a>> {
    let mut start = Vec::with_capacity(4);
    input.by_ref().take(4).read_to_end(&mut start)?;
    let encoding = Encoding::of(&start);
    let whole = BufReader::with_capacity(READ_BYTES, Cursor::new(start).chain(input));
    Ok(match encoding {
        Encoding::Plain => Box::new(whole),
        Encoding::Gzip => Box::new(BufReader::with_capacity(
            READ_BYTES,
            MultiGzDecoder::new(whole),
        )),
        Encoding::Zstd => Box::new(BufReader::with_capacity(
            READ_BYTES,
            zstd::stream::read::Decoder::with_buffer(whole)?,
        )),
    })
}
