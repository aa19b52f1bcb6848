//! Gzip and zstd, recognised by their first bytes.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::OtlpError;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How far a compressed body may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecompressLimits {
    /// Bytes that may come out.
    pub max_bytes: u64,
    /// Bytes that may come out for each byte that went in.
    pub max_ratio: u64,
}

impl Default for DecompressLimits {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 20,
            max_ratio: 200,
        }
    }
}

/// Small bodies of repeated text compress far better than the ratio allows and
/// harm nobody; it counts from here on, in bytes.
const RATIO_COUNTS_FROM: u64 = 1 << 20;

/// A body as it was before it was compressed; a plain one as it is.
///
/// # Errors
/// [`OtlpError::TooLarge`] as soon as more comes out than the limits allow;
/// [`OtlpError::Compression`] for damaged or cut bytes.
pub fn decompress(body: &[u8], limits: DecompressLimits) -> Result<Cow<'_, [u8]>, OtlpError> {
    let (format, mut decoder): (_, Box<dyn Read + '_>) = if body.starts_with(&GZIP) {
        ("gzip", Box::new(MultiGzDecoder::new(body)))
    } else if body.starts_with(&ZSTD) {
        let decoder = zstd::stream::read::Decoder::with_buffer(body);
        (
            "zstd",
            Box::new(decoder.map_err(|error| damaged("zstd", &error))?),
        )
    } else if body.len() as u64 > limits.max_bytes {
        return Err(OtlpError::TooLarge {
            what: "the body",
            limit: limits.max_bytes,
        });
    } else {
        return Ok(Cow::Borrowed(body));
    };
    let by_ratio = (body.len() as u64)
        .saturating_mul(limits.max_ratio)
        .max(RATIO_COUNTS_FROM);
    let limit = limits.max_bytes.min(by_ratio);
    let mut out = Vec::new();
    let read = (&mut decoder)
        .take(limit.saturating_add(1))
        .read_to_end(&mut out);
    read.map_err(|error| damaged(format, &error))?;
    if out.len() as u64 > limit {
        return Err(OtlpError::TooLarge {
            what: "the decompressed body",
            limit,
        });
    }
    Ok(Cow::Owned(out))
}

fn damaged(format: &'static str, error: &io::Error) -> OtlpError {
    OtlpError::Compression {
        format,
        message: error.to_string(),
    }
}

/// Reads a file as it was before it was compressed; a plain one as it is.
///
/// # Errors
/// What the input says; damage is an error of the reads.
pub fn reader<'a>(input: impl Read + 'a) -> io::Result<Box<dyn BufRead + 'a>> {
    let mut input = BufReader::with_capacity(1 << 18, input);
    let start = input.fill_buf()?;
    let (is_gzip, is_zstd) = (start.starts_with(&GZIP), start.starts_with(&ZSTD));
    Ok(if is_gzip {
        Box::new(BufReader::with_capacity(
            1 << 18,
            MultiGzDecoder::new(input),
        ))
    } else if is_zstd {
        let decoder = zstd::stream::read::Decoder::with_buffer(input)?;
        Box::new(BufReader::with_capacity(1 << 18, decoder))
    } else {
        Box::new(input)
    })
}
