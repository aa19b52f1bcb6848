//! Where a page ends, as a text that a stranger may hold: signed, so that it says nothing
//! but what the store wrote.
//!
//! ```text
//! version u8 · question u64 · sequence i64 · since, until (is there u8, i64) ·
//! rank (i64, i64) · versions u32 · bytes of ids u8 · ids · SipHash-2-4 of 128 bits of all before
//! ```
//! Numbers are little-endian; the text is in hexadecimal digits. SipHash is by Aumasson and
//! Bernstein, who made it to sign short messages with a secret key.

use bytes::{Buf, BufMut};
use siphasher::sip128::SipHasher24;
use spanstore_format::id::to_hex;

use super::builder::{Question, Source};
use super::filter::Filter;
use crate::error::Error;
use crate::read::ordered::Rank;

const VERSION: u8 = 1;

/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 16;

/// Bytes of a cursor, at most.
const MOST_BYTES: usize = 256;

/// Where a page ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The sequence below which the first page saw spans.
    pub(super) below_sequence: i64,
    /// The times of the first page.
    pub(super) since: Option<i64>,
    pub(super) until: Option<i64>,
    /// The rank and the ids of the last row.
    pub(super) rank: Rank,
    pub(super) ids: Vec<u8>,
    /// Rows with this rank and these ids that pages have given: a span may be there in
    /// several versions.
    pub(super) versions: u32,
}

/// Who signs cursors, and what the pages are of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signer {
    key: [u64; 2],
    /// Tells the team, the rows, the filters and the order from others.
    question: u64,
}

impl Signer {
    /// `list` says what kind of list it is.
    pub(super) fn new(source: &dyn Source, question: &Question, list: &str) -> Self {
        let rows = question.rows.name();
        let order = format!("{:?}", question.order);
        let filters = question.filters.iter().map(Filter::text);
        let mut all = Vec::new();
        for part in [source.team().as_str(), list, rows, &order]
            .into_iter()
            .chain(filters)
        {
            all.put_u64_le(part.len() as u64);
            all.put_slice(part.as_bytes());
        }
        let key = source.cursor_key();
        Self {
            key,
            question: hash(key, &all) as u64,
        }
    }

    pub(super) fn write(&self, cursor: &Cursor) -> String {
        let mut bytes = Vec::with_capacity(MOST_BYTES);
        bytes.put_u8(VERSION);
        bytes.put_u64_le(self.question);
        bytes.put_i64_le(cursor.below_sequence);
        for time in [cursor.since, cursor.until] {
            bytes.put_u8(time.is_some().into());
            bytes.put_i64_le(time.unwrap_or_default());
        }
        bytes.put_i64_le(cursor.rank.0);
        bytes.put_i64_le(cursor.rank.1);
        bytes.put_u32_le(cursor.versions);
        bytes.put_u8(cursor.ids.len() as u8);
        bytes.put_slice(&cursor.ids);
        bytes.put_u128_le(hash(self.key, &bytes));
        to_hex(&bytes)
    }

    /// Reads a cursor of this question.
    ///
    /// # Errors
    /// [`Error::InvalidCursor`] when it is damaged, forged, of another store, or of another
    /// question.
    pub(super) fn read(&self, text: &str) -> Result<Cursor, Error> {
        let invalid = |cause| Error::InvalidCursor { cause };
        let bytes = from_hex(text).ok_or_else(|| invalid("it is no cursor"))?;
        let signed = bytes.split_last_chunk::<SIGNATURE_BYTES>();
        let (signed, signature) = signed.ok_or_else(|| invalid("it is no cursor"))?;
        if u128::from_le_bytes(*signature) != hash(self.key, signed) {
            return Err(invalid("this store did not write it"));
        }
        let (question, cursor) = parse(signed).ok_or_else(|| invalid("it is no cursor"))?;
        if question != self.question {
            let cause = "it belongs to another team, filter or order";
            return Err(invalid(cause));
        }
        Ok(cursor)
    }
}

fn hash(key: [u64; 2], bytes: &[u8]) -> u128 {
    let [first, second] = key;
    SipHasher24::new_with_keys(first, second)
        .hash(bytes)
        .as_u128()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if digits.len() > 2 * MOST_BYTES {
        return None;
    }
    let (pairs, rest) = digits.as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok();
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

fn parse(mut bytes: &[u8]) -> Option<(u64, Cursor)> {
    if bytes.try_get_u8().ok()? != VERSION {
        return None;
    }
    let question = bytes.try_get_u64_le().ok()?;
    let below_sequence = bytes.try_get_i64_le().ok()?;
    let mut time = || {
        let is_there = bytes.try_get_u8().ok()? == 1;
        let time = bytes.try_get_i64_le().ok()?;
        Some(is_there.then_some(time))
    };
    let (since, until) = (time()?, time()?);
    let rank = (bytes.try_get_i64_le().ok()?, bytes.try_get_i64_le().ok()?);
    let versions = bytes.try_get_u32_le().ok()?;
    let count = bytes.try_get_u8().ok()?;
    let cursor = Cursor {
        below_sequence,
        since,
        until,
        rank,
        ids: bytes.to_vec(),
        versions,
    };
    (cursor.ids.len() == usize::from(count)).then_some((question, cursor))
}
