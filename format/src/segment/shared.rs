//! What many rows share, resources and instrumentation scopes: a segment has each
//! once, and rows have its number.
//!
//! ```text
//! messages u32 · blocks u32 · block[blocks] · data
//! block (24 bytes): first message u32, 0 u32, offset in the data u64,
//!                   bytes in the data u32, bytes decompressed u32
//! ```
//! The data of a block is a ZSTD frame of a protobuf message, `SharedBlock`. Numbers
//! count from 0 through all blocks.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, RecordBatch, StringViewArray, UInt32Array,
    UInt32Builder,
};
use arrow::compute::take;
use bytes::{Buf, BufMut, Bytes};
use hashbrown::HashMap;
use parquet::basic::{Compression, ZstdLevel};
use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use twox_hash::XxHash3_128;

use crate::error::FormatError;
use crate::segment::layout::checksum::VerifiedBytes;
use crate::segment::pages::decompress;
use crate::segment::promotion::access::Attribute;
use crate::table::SharedColumns;
use crate::wire::{Fields, Payload};

const HEAD_BYTES: u64 = 8;
const BLOCK_ENTRY_BYTES: usize = 24;
/// Bytes after which a block is closed.
const BLOCK_BYTES: usize = 64 << 10;
/// Bytes of all blocks up to which they are kept once they are decompressed: each open
/// file may keep so many.
const MOST_KEPT_BYTES: u64 = 256 << 10;
const PART: &str = "shared messages";

/// A message that rows share.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SharedMessage {
    /// The message, encoded; none when there was none.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub message: Option<Bytes>,
    /// Its schema URL, if there is one.
    #[prost(string, optional, tag = "2")]
    pub schema_url: Option<String>,
}

/// The messages of a block.
#[derive(Clone, PartialEq, Message)]
struct SharedBlock {
    #[prost(message, repeated, tag = "1")]
    messages: Vec<SharedMessage>,
}

/// Gathers what the rows of a segment share.
#[derive(Debug)]
pub(super) struct SharedBuilder {
    pub(super) columns: &'static SharedColumns,
    /// By hash, with a seed that nobody knows beforehand.
    numbers: HashMap<u128, u32>,
    seed: u64,
    blocks: Vec<u8>,
    data: Vec<u8>,
    open: SharedBlock,
    open_bytes: usize,
    first_open: u32,
}

impl SharedBuilder {
    pub(super) fn new(columns: &'static SharedColumns) -> Self {
        Self {
            columns,
            numbers: HashMap::new(),
            seed: RandomState::new().hash_one(0),
            blocks: Vec::new(),
            data: Vec::new(),
            open: SharedBlock::default(),
            open_bytes: 0,
            first_open: 0,
        }
    }

    /// The numbers of what the rows of a batch with the columns of the table share;
    /// null where there is nothing.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the batch has other columns.
    pub(super) fn numbers(&mut self, batch: &RecordBatch) -> Result<ArrayRef, FormatError> {
        let column = |place: usize| {
            batch.columns().get(place).ok_or_else(|| {
                let found = format!("{} columns", batch.num_columns());
                FormatError::malformed("columns", 0, "the columns of the table", found)
            })
        };
        let other = || FormatError::malformed("columns", 0, "messages and schema URLs", "others");
        let messages = column(self.columns.message)?.as_binary_view_opt();
        let messages = messages.ok_or_else(other)?;
        let urls = column(self.columns.schema_url)?.as_string_view_opt();
        let urls = urls.ok_or_else(other)?;
        let mut numbers = UInt32Builder::with_capacity(batch.num_rows());
        // Rows often share the bytes, which then need no second look.
        let mut seen = HashMap::new();
        for row in 0..batch.num_rows() {
            let message = messages.is_valid(row).then(|| messages.views().get(row));
            let url = urls.is_valid(row).then(|| urls.views().get(row));
            if message.is_none() && url.is_none() {
                numbers.append_null();
                continue;
            }
            let number = match seen.get(&(message, url)) {
                Some(number) => *number,
                None => {
                    let value = message.map(|_| messages.value(row));
                    let number = self.number(value, url.map(|_| urls.value(row)))?;
                    seen.insert((message, url), number);
                    number
                }
            };
            numbers.append_value(number);
        }
        Ok(Arc::new(numbers.finish()))
    }

    fn number(&mut self, message: Option<&[u8]>, url: Option<&str>) -> Result<u32, FormatError> {
        let presence = [u8::from(message.is_some()), u8::from(url.is_some())];
        let mut hash = XxHash3_128::oneshot_with_seed(self.seed, &presence);
        for piece in [
            message.unwrap_or_default(),
            url.unwrap_or_default().as_bytes(),
        ] {
            hash = hash.rotate_left(64) ^ XxHash3_128::oneshot_with_seed(hash as u64, piece);
        }
        if let Some(number) = self.numbers.get(&hash) {
            return Ok(*number);
        }
        let number = self.first_open + self.open.messages.len() as u32;
        self.numbers.insert(hash, number);
        self.open_bytes += message.map_or(0, <[u8]>::len) + url.map_or(0, str::len);
        self.open.messages.push(SharedMessage {
            message: message.map(Bytes::copy_from_slice),
            schema_url: url.map(str::to_owned),
        });
        if self.open_bytes >= BLOCK_BYTES {
            self.close()?;
        }
        Ok(number)
    }

    fn close(&mut self) -> Result<(), FormatError> {
        let messages = self.open.messages.len() as u32;
        if messages == 0 {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.open).encode_to_vec();
        let data = zstd::bulk::compress(&bytes, zstd::DEFAULT_COMPRESSION_LEVEL);
        let data = data
            .map_err(|error| FormatError::malformed(PART, 0, "compression", error.to_string()))?;
        self.blocks.put_u32_le(self.first_open);
        self.blocks.put_u32_le(0);
        self.blocks.put_u64_le(self.data.len() as u64);
        self.blocks.put_u32_le(data.len() as u32);
        self.blocks.put_u32_le(bytes.len() as u32);
        self.data.put_slice(&data);
        self.first_open += messages;
        self.open_bytes = 0;
        Ok(())
    }

    /// The part of the index.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, FormatError> {
        self.close()?;
        let mut out = Vec::with_capacity(16 + self.blocks.len() + self.data.len());
        out.put_u32_le(self.first_open);
        out.put_u32_le((self.blocks.len() / BLOCK_ENTRY_BYTES) as u32);
        out.put_slice(&self.blocks);
        out.put_slice(&self.data);
        Ok(out)
    }
}

/// What the rows of a segment share, read block by block.
#[derive(Debug)]
pub struct SharedMessages {
    bytes: VerifiedBytes,
    /// Where the part begins, for errors.
    offset: u64,
    messages: u32,
    /// Bytes of all blocks, decompressed.
    decompressed_bytes: u64,
    blocks: Vec<Block>,
    /// The blocks, once they are decompressed, if they are few.
    kept: Option<Vec<OnceLock<Arc<[SharedMessage]>>>>,
}

#[derive(Debug)]
struct Block {
    /// The numbers of its messages.
    numbers: Range<u32>,
    /// Where it lies in the file.
    place: Range<u64>,
    decompressed_bytes: usize,
}

impl SharedMessages {
    /// Takes the part that lies at a place of the file of a segment with these rows;
    /// `is_keeping` says whether blocks are kept once they are decompressed.
    ///
    /// # Errors
    /// [`FormatError`] when it is damaged.
    pub(super) fn new(
        bytes: VerifiedBytes,
        part: Range<u64>,
        rows: u32,
        is_keeping: bool,
    ) -> Result<Self, FormatError> {
        let malformed =
            |expected: &str| FormatError::malformed(PART, part.start, expected, "another");
        let within = |start: u64, length: u64| {
            let end = start.checked_add(length).filter(|end| *end <= part.end);
            end.map(|end| start..end)
                .ok_or_else(|| malformed("blocks within the part"))
        };
        let mut head = bytes.slice(within(part.start, HEAD_BYTES)?)?;
        let (messages, count) = (head.get_u32_le(), head.get_u32_le());
        if messages > rows {
            return Err(malformed("at most one message a row"));
        }
        let length = u64::from(count) * BLOCK_ENTRY_BYTES as u64;
        let entries = within(part.start + HEAD_BYTES, length)?;
        let data = entries.end;
        let mut entries = bytes.slice(entries)?;
        let mut blocks: Vec<Block> = Vec::with_capacity(count as usize);
        while entries.has_remaining() {
            let first = entries.get_u32_le();
            entries.advance(4);
            let offset = entries.get_u64_le();
            let length = u64::from(entries.get_u32_le());
            let decompressed_bytes = entries.get_u32_le() as usize;
            match blocks.last_mut() {
                Some(last) => last.numbers.end = first,
                None if first != 0 => return Err(malformed("messages from 0 on")),
                None => {}
            }
            let start = blocks.last().map_or(data, |last| last.place.end);
            if start - data != offset {
                return Err(malformed("blocks one after the other"));
            }
            blocks.push(Block {
                numbers: first..messages,
                place: within(start, length)?,
                decompressed_bytes,
            });
        }
        if blocks.iter().any(|block| block.numbers.is_empty())
            || blocks.is_empty() != (messages == 0)
        {
            return Err(malformed("blocks of messages in their order"));
        }
        let of_blocks = blocks.iter().map(|one| one.decompressed_bytes as u64);
        let decompressed_bytes = of_blocks.sum();
        let is_kept = is_keeping && decompressed_bytes <= MOST_KEPT_BYTES;
        Ok(Self {
            decompressed_bytes,
            kept: is_kept.then(|| blocks.iter().map(|_| OnceLock::new()).collect()),
            bytes,
            offset: part.start,
            messages,
            blocks,
        })
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.messages
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Bytes of all messages with their schema URLs.
    pub fn bytes(&self) -> u64 {
        self.decompressed_bytes
    }

    /// Memory that it may come to take, in bytes, about.
    pub(super) fn memory(&self) -> usize {
        let of_blocks = self.blocks.len() * size_of::<Block>();
        if self.kept.is_none() {
            return of_blocks;
        }
        let of_messages = self.messages as usize * size_of::<SharedMessage>();
        of_blocks + of_messages + self.decompressed_bytes as usize
    }

    fn block(&self, place: usize) -> Result<Arc<[SharedMessage]>, FormatError> {
        let kept = self.kept.as_ref().and_then(|kept| kept.get(place));
        if let Some(messages) = kept.and_then(OnceLock::get) {
            return Ok(Arc::clone(messages));
        }
        let malformed = |expected: &str, found: String| {
            FormatError::malformed(PART, self.offset, expected, found)
        };
        let block = self.blocks.get(place);
        let block = block.ok_or_else(|| malformed("a block", format!("number {place}")))?;
        let data = self.bytes.slice(block.place.clone())?;
        let zstd = Compression::ZSTD(ZstdLevel::default());
        let bytes = decompress(zstd, data, block.decompressed_bytes)
            .map_err(|error| malformed("a block that can be decompressed", error.to_string()))?;
        // Before they are made: a message takes more memory than bytes.
        let found = count_messages(&bytes);
        if found != Some(block.numbers.len()) {
            let expected = format!("{} messages", block.numbers.len());
            return Err(malformed(&expected, format!("{found:?}")));
        }
        let read = SharedBlock::decode(bytes)
            .map_err(|error| malformed("a block of messages", error.to_string()))?;
        let messages: Arc<[SharedMessage]> = read.messages.into();
        if let Some(cell) = kept {
            return Ok(Arc::clone(cell.get_or_init(|| messages)));
        }
        Ok(messages)
    }

    /// The messages of rows by their numbers.
    ///
    /// # Errors
    /// [`FormatError`] when there is none of a number, or the part is damaged.
    pub fn pick(&self, numbers: &UInt32Array) -> Result<SharedRows, FormatError> {
        let mut wanted: Vec<u32> = Vec::new();
        for number in numbers.iter().flatten() {
            if wanted.last() != Some(&number) {
                wanted.push(number);
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        let mut messages = Vec::with_capacity(wanted.len());
        let mut open: Option<(&Block, Arc<[SharedMessage]>)> = None;
        for number in &wanted {
            if open
                .as_ref()
                .is_none_or(|(block, _)| !block.numbers.contains(number))
            {
                let place = self
                    .blocks
                    .partition_point(|one| one.numbers.end <= *number);
                let read = self.block(place)?;
                open = self.blocks.get(place).map(|block| (block, read));
            }
            let found = open.as_ref().and_then(|(block, read)| {
                let place = number.checked_sub(block.numbers.start)?;
                read.get(place as usize).cloned()
            });
            messages.push(found.ok_or_else(|| {
                let expected = format!("a number below {}", self.messages);
                FormatError::malformed(PART, self.offset, expected, number.to_string())
            })?);
        }
        let mut last = None;
        let rows = numbers.iter().map(|number| {
            let number = number?;
            let place = match last {
                Some((same, place)) if same == number => place,
                _ => wanted.binary_search(&number).ok()? as u32,
            };
            last = Some((number, place));
            Some(place)
        });
        Ok(SharedRows {
            rows: rows.collect(),
            messages,
        })
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// [`FormatError`] when it is damaged.
    pub(super) fn verify(&self) -> Result<(), FormatError> {
        (0..self.blocks.len()).try_for_each(|place| self.block(place).map(|_| ()))
    }
}

/// What some rows share.
#[derive(Debug)]
pub struct SharedRows {
    /// The messages, each once.
    messages: Vec<SharedMessage>,
    /// Which of them each row has.
    rows: UInt32Array,
}

impl SharedRows {
    /// The values of a column for each row, of one value for each message.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when there are others.
    fn spread(&self, of_messages: &ArrayRef) -> Result<ArrayRef, FormatError> {
        take(of_messages, &self.rows, None).map_err(|error| {
            FormatError::malformed(PART, 0, "a value a message", error.to_string())
        })
    }

    /// One aspect of an attribute of resources, for each row.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the values do not fit the rows, which they do.
    pub fn attribute(&self, attribute: &Attribute) -> Result<ArrayRef, FormatError> {
        // Rows without a resource have what a null message has.
        let messages = self.messages.iter().map(|one| one.message.as_deref());
        let messages: BinaryViewArray = messages.chain([None]).collect();
        let none = self.messages.len() as u32;
        let rows = self.rows.iter().map(|row| row.unwrap_or(none));
        let rows: UInt32Array = rows.collect::<Vec<_>>().into();
        take(&attribute.read(&messages), &rows, None).map_err(|error| {
            FormatError::malformed(PART, 0, "a value a message", error.to_string())
        })
    }

    /// The message of each row, if it has one.
    pub fn of_rows(&self) -> impl Iterator<Item = Option<&[u8]>> {
        self.rows.iter().map(|row| {
            let message = self.messages.get(row? as usize)?;
            message.message.as_deref()
        })
    }

    /// The messages, each once; null for one that only has a schema URL.
    fn messages(&self) -> BinaryViewArray {
        let messages = self.messages.iter();
        messages.map(|one| one.message.as_deref()).collect()
    }

    /// A column of the table that is one of these, for each row.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when it is none.
    pub(super) fn column(
        &self,
        columns: &SharedColumns,
        place: usize,
    ) -> Result<ArrayRef, FormatError> {
        let messages = self.messages.iter();
        let values: ArrayRef = if columns.message == place {
            Arc::new(self.messages())
        } else if columns.schema_url == place {
            let urls = messages.map(|one| one.schema_url.as_deref());
            Arc::new(urls.collect::<StringViewArray>())
        } else {
            let mut texts = columns.texts.iter();
            let (_, field) = texts.find(|(text, _)| *text == place).ok_or_else(|| {
                FormatError::malformed("columns", 0, "a shared column", place.to_string())
            })?;
            let texts = messages.map(|one| text_of(one.message.as_deref()?, *field));
            Arc::new(texts.collect::<StringViewArray>())
        };
        self.spread(&values)
    }
}

/// How many messages an encoded block has; none when it is not one.
fn count_messages(mut block: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !block.is_empty() {
        let (tag, wire) = decode_key(&mut block).ok()?;
        count += usize::from(tag == 1);
        skip_field(wire, tag, &mut block, DecodeContext::default()).ok()?;
    }
    Some(count)
}

/// The text of a field of an encoded message; none when it is empty, absent or not
/// UTF-8. The last one counts, as everywhere in protobuf.
fn text_of(message: &[u8], field: u32) -> Option<&str> {
    let texts = Fields(message).filter_map(|(number, payload)| match payload {
        Payload::Bytes(text) if number == field => Some(text),
        _ => None,
    });
    let text = std::str::from_utf8(texts.last()?).ok()?;
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::layout::checksum;

    /// A part with these blocks, each of as many bytes as it has.
    fn part(messages: u32, blocks: &[(u32, u64, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32_le(messages);
        out.put_u32_le(blocks.len() as u32);
        let mut data = Vec::new();
        for (first, offset, block) in blocks {
            let compressed = zstd::bulk::compress(block, 1).unwrap();
            out.put_u32_le(*first);
            out.put_u32_le(0);
            out.put_u64_le(*offset);
            out.put_u32_le(compressed.len() as u32);
            out.put_u32_le(block.len() as u32);
            data.extend(compressed);
        }
        out.extend(data);
        out
    }

    fn read(part: Vec<u8>, rows: u32) -> Result<SharedMessages, FormatError> {
        let length = part.len() as u64;
        let checksums = part
            .chunks(checksum::BLOCK_BYTES as usize)
            .map(crc32c::crc32c);
        let checksums: Vec<u8> = checksums.flat_map(u32::to_le_bytes).collect();
        let bytes = VerifiedBytes::new(Bytes::from(part), length, checksums.into())?;
        SharedMessages::new(bytes, 0..length, rows, true)
    }

    fn block(messages: usize) -> Vec<u8> {
        SharedBlock {
            messages: vec![SharedMessage::default(); messages],
        }
        .encode_to_vec()
    }

    /// Neither is the other's beginning, and a message of no bytes is not none.
    #[test]
    fn a_message_and_a_schema_url_are_told_apart() {
        let mut builder = SharedBuilder::new(&crate::span::table().roles().shared[0]);
        let all = [
            (None, Some("")),
            (Some(&b""[..]), None),
            (Some(b""), Some("")),
            (None, Some("url")),
            (Some(b""), Some("url")),
            (Some(b"url"), None),
            (Some(b"url"), Some("")),
            (Some(b"u"), Some("rl")),
        ];
        for _ in 0..2 {
            let numbers = all.map(|(message, url)| builder.number(message, url).unwrap());
            assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7]);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let two = block(2);
        let whole = read(part(2, &[(0, 0, &two)]), 2).unwrap();
        assert_eq!(whole.verify(), Ok(()));
        assert!(whole.pick(&vec![Some(1), None, Some(0)].into()).is_ok());
        assert!(whole.pick(&vec![Some(2)].into()).is_err());
        assert!(read(part(2, &[(0, 0, &two)]), 1).is_err(), "more than rows");
        assert!(read(part(2, &[(1, 0, &two)]), 2).is_err(), "not from 0 on");
        assert!(read(part(2, &[(0, 1, &two)]), 2).is_err(), "a gap");
        assert!(
            read(part(4, &[(0, 0, &two), (2, 0, &two)]), 4).is_err(),
            "twice the same"
        );
        assert!(
            read(part(0, &[(0, 0, &two)]), 2).is_err(),
            "a block of none"
        );
        // More messages than the block says, which would take memory.
        let many = read(part(2, &[(0, 0, &block(100_000))]), 2).unwrap();
        let error = many.verify().unwrap_err().to_string();
        assert!(error.contains("2 messages, found Some(100000)"), "{error}");
        let whole = part(2, &[(0, 0, &two)]);
        for end in 0..whole.len() {
            assert!(read(whole[..end].to_vec(), 2).is_err(), "{end}");
        }
    }
}
