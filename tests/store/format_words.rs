//! A reader of segments written from FORMAT.md alone: nothing of the store's
//! own code reads the index here.
#![expect(clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, UInt32Type};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use prost::Message;
use spanstore::otlp::{Span, Value};
use spanstore_test_support::spans::{attribute, integer, request, span, text};
use spanstore_test_support::{open, segment_path, team};

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The columns of the file.
#[derive(Clone, PartialEq, Message)]
struct Columns {
    #[prost(string, tag = "1")]
    table: String,
    #[prost(uint32, tag = "2")]
    mapping: u32,
    #[prost(string, repeated, tag = "3")]
    names: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    promoted: Vec<Promoted>,
}

/// A promoted key.
#[derive(Clone, PartialEq, Message)]
struct Promoted {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(uint32, tag = "2")]
    value: u32,
    #[prost(string, tag = "3")]
    column: String,
    #[prost(bool, tag = "4")]
    is_own: bool,
    #[prost(bool, tag = "5")]
    has_strays: bool,
}

/// A block of what rows share.
#[derive(Clone, PartialEq, Message)]
struct SharedBlock {
    #[prost(message, repeated, tag = "1")]
    messages: Vec<Shared>,
}

/// A resource or a scope.
#[derive(Clone, PartialEq, Message)]
struct Shared {
    #[prost(bytes = "vec", optional, tag = "1")]
    message: Option<Vec<u8>>,
    #[prost(string, optional, tag = "2")]
    schema_url: Option<String>,
}

/// The parts of a segment, found by the page's words and verified.
struct Parts {
    parts: BTreeMap<u16, Vec<u8>>,
    rows: RecordBatch,
}

const COLUMNS: u16 = 1;
const DIRECTORY: u16 = 2;
const TRACES: u16 = 3;
const SESSIONS: u16 = 4;
const REQUESTS: u16 = 5;
const FACETS: u16 = 6;
const POSTINGS: u16 = 7;
const ORIGIN: u16 = 8;
const RESOURCES: u16 = 9;
const SCOPES: u16 = 10;

fn read(file: &[u8]) -> Parts {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(file)).unwrap();
    let pairs = reader.metadata().file_metadata().key_value_metadata();
    let pair = pairs
        .unwrap()
        .iter()
        .find(|pair| pair.key == "spanstore.index");
    let index: usize = pair.unwrap().value.as_ref().unwrap().parse().unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    let rows = concat_batches(&schema, &batches).unwrap();

    let count = u32_at(file, index + 32) as usize;
    let fields = 40 + count * 24;
    let header = &file[index..index + fields + 8];
    assert_eq!(&header[..8], b"SPANIDX\0");
    assert_eq!(u16::from_le_bytes([header[8], header[9]]), 4);
    assert_eq!(u32_at(header, 12) as usize, rows.num_rows());
    assert_eq!(u32_at(header, 24), 16_384);
    assert_eq!(u32_at(header, fields), crc32c::crc32c(&header[..fields]));
    // The tail is covered by itself too: from behind the checksums to four bytes
    // before the end of the footer.
    let tail = index + header.len() + index.div_ceil(16_384) * 4;
    let own = file.len() - 12;
    assert_eq!(u32_at(file, own), crc32c::crc32c(&file[tail..own]));
    // Every byte before the header is covered.
    let checksums = &file[index + header.len()..][..index.div_ceil(16_384) * 4];
    assert_eq!(u32_at(header, 28), crc32c::crc32c(checksums));
    for (number, block) in file[..index].chunks(16_384).enumerate() {
        assert_eq!(u32_at(checksums, number * 4), crc32c::crc32c(block));
    }
    let parts = header[40..fields].chunks(24).map(|part| {
        assert_eq!(u16::from_le_bytes([part[2], part[3]]), 1);
        let bytes = file[u64_at(part, 8) as usize..u64_at(part, 16) as usize].to_vec();
        (u16::from_le_bytes([part[0], part[1]]), bytes)
    });
    let parts: BTreeMap<_, _> = parts.collect();
    // Sealed from some sequences; part 0 .. 1 of 1; in the place of none.
    let origin = &parts[&ORIGIN];
    assert!(0 < u64_at(origin, 0) && u64_at(origin, 0) < u64_at(origin, 8));
    let words = [16, 20, 24, 28].map(|at| u32_at(origin, at));
    assert_eq!((words, origin.len()), ([0, 1, 1, 0], 32));
    Parts { parts, rows }
}

impl Parts {
    /// Team, rows, blocks of the three indexes and of the facets.
    fn partitions(&self) -> Vec<(String, [Range<u32>; 5])> {
        let part = &self.parts[&DIRECTORY];
        let count = u32_at(part, 0) as usize;
        let names = &part[4 + count * 64..];
        let entries = part[4..4 + count * 64].chunks(64);
        let entries = entries.map(|entry| {
            let start = u32_at(entry, 0) as usize;
            let name = &names[start..start + u32_at(entry, 4) as usize];
            let range =
                |number: usize| u32_at(entry, 8 + number * 8)..u32_at(entry, 12 + number * 8);
            let ranges = [range(0), range(1), range(2), range(3), range(4)];
            (String::from_utf8(name.to_vec()).unwrap(), ranges)
        });
        entries.collect()
    }

    /// The rows that two words stand for.
    fn posting(&self, start: u32, length: u32) -> BTreeSet<u32> {
        if length >> 31 == 0 {
            return (start..start + length).collect();
        }
        let bytes = &self.parts[&POSTINGS][start as usize..][..(length & 0x7fff_ffff) as usize];
        let rows = roaring::RoaringBitmap::deserialize_from(bytes).unwrap();
        rows.iter().collect()
    }

    /// The rows of the ids with these hashes, in a partition's block of one of the
    /// indexes, and how many ids the block has.
    fn index(
        &self,
        part: u16,
        block: &Range<u32>,
        rows: &Range<u32>,
        hashes: impl Iterator<Item = u64>,
    ) -> (usize, BTreeMap<u64, BTreeSet<u32>>) {
        let block = &self.parts[&part][block.start as usize..block.end as usize];
        let count = u32_at(block, 0) as usize;
        let [bucket_bits, start_bits, length_bits, width] =
            [4, 5, 6, 7].map(|at| usize::from(block[at]));
        let buckets = 1 << bucket_bits;
        let ends = block[8..].chunks(4).take(buckets - 1);
        let ends = ends.map(|end| u32_at(end, 0) as usize);
        let ends: Vec<usize> = [0].into_iter().chain(ends).chain([count]).collect();
        let (entries, postings) = block[8 + (buckets - 1) * 4..].split_at(count * width);
        let entries = entries.chunks(width).map(|entry| {
            let mut bytes = entry.to_vec();
            bytes.resize(8, 0);
            u64_at(&bytes, 0)
        });
        let entries: Vec<u64> = entries.collect();
        let find = |hash: u64| {
            let bucket = (u128::from(hash) >> (64 - bucket_bits)) as usize;
            let key_bits = width * 8 - start_bits - length_bits;
            let key = hash << bucket_bits >> (64 - key_bits);
            let of_bucket = &entries[ends[bucket]..ends[bucket + 1]];
            let keys = of_bucket
                .iter()
                .map(|entry| entry >> (start_bits + length_bits));
            let keys: Vec<u64> = keys.collect();
            assert!(keys.is_sorted_by(|one, next| one < next));
            let entry = of_bucket[keys.binary_search(&key).unwrap()];
            let length = (entry & ((1 << length_bits) - 1)) as u32;
            let start = (entry >> length_bits & ((1 << start_bits) - 1)) as u32;
            if length == 0 {
                let posting = &postings[start as usize * 8..];
                return self.posting(u32_at(posting, 0), u32_at(posting, 4));
            }
            (rows.start + start..rows.start + start + length).collect()
        };
        (count, hashes.map(|hash| (hash, find(hash))).collect())
    }

    /// The code of each row of a code column.
    fn codes(&self, start: u32, bytes: u32, codes: u32, rows: &Range<u32>) -> Vec<usize> {
        let bytes = &self.parts[&POSTINGS][start as usize..][..bytes as usize];
        let planes = codes.next_power_of_two().ilog2() as usize;
        let groups = rows.start / 65_536..(rows.end - 1) / 65_536 + 1;
        let pieces = &bytes[groups.len() * planes * 4..];
        let mut ends = bytes.chunks(4).map(|end| u32_at(end, 0) as usize);
        let mut found = Vec::new();
        let mut piece_start = 0;
        for group in groups {
            let first = rows.start.max(group * 65_536) / 8 * 8;
            let last = rows.end.min((group + 1) * 65_536).next_multiple_of(8);
            let mut codes = vec![0; (last - first) as usize];
            for plane in 0..planes {
                let end = ends.next().unwrap();
                let piece = &pieces[piece_start..end];
                piece_start = end;
                let is_list = piece.len() * 8 < codes.len();
                let changes = piece
                    .chunks_exact(2)
                    .map(|at| usize::from(u16::from_le_bytes([at[0], at[1]])));
                let changes: BTreeSet<usize> = changes.filter(|_| is_list).collect();
                let mut bit = false;
                for (row, code) in codes.iter_mut().enumerate() {
                    bit = if is_list {
                        bit ^ changes.contains(&row)
                    } else {
                        piece[row / 8] >> (row % 8) & 1 == 1
                    };
                    *code |= usize::from(bit) << plane;
                }
            }
            let numbered = (first..last).zip(codes);
            let within = numbered.filter(|(row, _)| rows.contains(row));
            found.extend(within.map(|(_, code)| code));
        }
        assert_eq!(piece_start, pieces.len());
        found
    }

    fn columns(&self) -> Columns {
        let columns = Columns::decode(self.parts[&COLUMNS].as_slice()).unwrap();
        assert_eq!((columns.table.as_str(), columns.mapping), ("spans", 1));
        let names = self.rows.schema();
        let names = names.fields().iter().map(|field| field.name());
        assert!(names.eq(&columns.names));
        columns
    }

    /// The messages and schema URLs of what rows share, by their numbers.
    fn shared(&self, part: u16) -> Vec<(Option<Vec<u8>>, Option<String>)> {
        let part = &self.parts[&part];
        let (messages, blocks) = (u32_at(part, 0), u32_at(part, 4) as usize);
        let data = &part[8 + blocks * 24..];
        let mut all = Vec::new();
        for block in part[8..8 + blocks * 24].chunks(24) {
            assert_eq!(u32_at(block, 0) as usize, all.len());
            let bytes = &data[u64_at(block, 8) as usize..][..u32_at(block, 16) as usize];
            let bytes = zstd::decode_all(bytes).unwrap();
            assert_eq!(bytes.len(), u32_at(block, 20) as usize);
            let block = SharedBlock::decode(bytes.as_slice()).unwrap();
            let messages = block.messages.into_iter();
            all.extend(messages.map(|one| (one.message, one.schema_url)));
        }
        assert_eq!(all.len(), messages as usize);
        all
    }

    /// The attributes of a row, put together.
    fn attributes(&self, row: usize) -> Vec<u8> {
        let column = |name: &str| self.rows.column_by_name(name).unwrap();
        let bytes = |name: &str| {
            let column = column(name).as_binary::<i32>();
            column.is_valid(row).then(|| column.value(row).to_vec())
        };
        let rest = bytes("attributes").unwrap_or_default();
        let Some(order) = bytes("attribute_order") else {
            return rest;
        };
        let keys = self.columns().promoted;
        let rest = Span::decode(rest.as_slice()).unwrap();
        let mut rest = rest.attributes.into_iter();
        let mut span = Span::default();
        // Fewer than 128 keys: each number is one byte.
        for code in order {
            if code == 0 {
                span.attributes.push(rest.next().unwrap());
                continue;
            }
            let key = &keys[usize::from(code) - 1];
            let values = column(&key.column);
            assert!(values.is_valid(row));
            let value = match key.value {
                1 => Value::StringValue(values.as_string::<i32>().value(row).to_owned()),
                2 if *values.data_type() == DataType::Int32 => {
                    Value::IntValue(values.as_primitive::<Int32Type>().value(row).into())
                }
                2 => Value::IntValue(values.as_primitive::<Int64Type>().value(row)),
                3 => Value::DoubleValue(values.as_primitive::<Float64Type>().value(row)),
                _ => Value::BoolValue(values.as_boolean().value(row)),
            };
            span.attributes.push(attribute(&key.key, value));
        }
        assert!(rest.next().is_none());
        span.encode_to_vec()
    }
}

fn hash(id: &[u8]) -> u64 {
    twox_hash::XxHash3_64::oneshot(id)
}

/// A span with attributes of every type, some of them only now and then.
fn rich(n: u64) -> Span {
    let mut span = span(n);
    let attributes = &mut span.attributes;
    attributes.push(text("request.id", &format!("request-{}", n / 10)));
    attributes.push(attribute("share", Value::DoubleValue(n as f64 / 7.0)));
    attributes.push(attribute("cached", Value::BoolValue(n.is_multiple_of(3))));
    attributes.push(if n.is_multiple_of(50) {
        text("mixed", "text")
    } else {
        integer("mixed", n.cast_signed())
    });
    if n.is_multiple_of(500) {
        attributes.insert(1, text("rare", "value"));
    }
    span
}

#[test]
fn a_segment_is_what_the_page_says() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let counts = [("acme", 12_000), ("tiny", 30)];
    for (name, count) in counts {
        store
            .team(&team(name))
            .append(request((0..count).map(rich)))
            .unwrap();
    }
    store.seal().unwrap();
    let summary = store.segments().remove(0);
    let path = directory.path().join(segment_path(&summary));
    let segment = read(&std::fs::read(path).unwrap());

    let column = |name: &str| segment.rows.column_by_name(name).unwrap();
    let partitions = segment.partitions();
    assert_eq!(partitions.len(), counts.len());
    let mut next_row = 0;
    for ((name, ranges), (expected, count)) in partitions.iter().zip(counts) {
        let [rows, traces, sessions, requests, facets] = ranges;
        assert_eq!((name.as_str(), rows.len() as u64), (expected, count));
        assert_eq!(rows.start, next_row);
        next_row = rows.end;
        // Each id leads to its rows and to no other.
        let mut by_trace: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
        let mut by_session = by_trace.clone();
        let mut by_request = by_trace.clone();
        for row in rows.clone() {
            let at = row as usize;
            assert_eq!(column("team_id").as_string::<i32>().value(at), expected);
            let trace = hash(column("trace_id").as_fixed_size_binary().value(at));
            by_trace.entry(trace).or_default().insert(row);
            let text = |name: &str| hash(column(name).as_string::<i32>().value(at).as_bytes());
            by_session
                .entry(text("session_id"))
                .or_default()
                .insert(row);
            by_request
                .entry(text("request_id"))
                .or_default()
                .insert(row);
        }
        for (part, block, expected) in [
            (TRACES, traces, by_trace),
            (SESSIONS, sessions, by_session),
            (REQUESTS, requests, by_request),
        ] {
            let hashes = expected.keys().copied();
            let found = segment.index(part, block, rows, hashes);
            assert_eq!(found, (expected.len(), expected));
        }
        assert_eq!(facets.is_empty(), count < 8_192);
        if !facets.is_empty() {
            check_facets(&segment, rows, facets);
        }
        // Parents are found by their distances.
        let ids = |name| column(name).as_fixed_size_binary();
        let distances = column("parent_distance").as_primitive::<Int32Type>();
        for row in rows.clone() {
            let at = row as usize;
            let n = u64::from_be_bytes(ids("span_id").value(at).try_into().unwrap()) - 1;
            let strays = ids("parent_span_id");
            let parent = if distances.is_valid(at) {
                let parent = at as i64 + i64::from(distances.value(at));
                assert!(strays.is_null(at) && rows.contains(&u32::try_from(parent).unwrap()));
                ids("span_id").value(parent as usize)
            } else if strays.is_valid(at) {
                strays.value(at)
            } else {
                &[]
            };
            assert_eq!(parent, rich(n).parent_span_id, "span {n}");
        }
        // The attributes come out as they went in.
        for row in rows.clone() {
            let id = column("span_id").as_fixed_size_binary().value(row as usize);
            let n = u64::from_be_bytes(id.try_into().unwrap()) - 1;
            let expected = Span {
                attributes: rich(n).attributes,
                ..Span::default()
            };
            assert_eq!(
                segment.attributes(row as usize),
                expected.encode_to_vec(),
                "span {n}"
            );
        }
    }
    let promoted = segment.columns().promoted;
    let find = |key: &str| promoted.iter().find(|one| one.key == key).unwrap();
    assert_eq!(find("share").column, "attributes.share");
    assert!(find("share").is_own);
    assert_eq!(find("http.request.method").column, "method");
    assert_eq!((find("mixed").value, find("mixed").has_strays), (2, true));
    assert!(promoted.iter().all(|one| one.key != "rare"));
    // One resource and one scope of each team, of which the second has the same.
    let resources = segment.shared(RESOURCES);
    let scopes = segment.shared(SCOPES);
    assert_eq!((resources.len(), scopes.len()), (1, 1));
    let sent = request([span(0)]).resource_spans.remove(0);
    let scope = sent.scope_spans[0].scope.as_ref();
    let encoded = sent.resource.map(|resource| resource.encode_to_vec());
    assert_eq!(resources[0], (encoded, None));
    assert_eq!(scopes[0], (scope.map(Message::encode_to_vec), None));
    for name in ["resource_number", "scope_number"] {
        let numbers = column(name).as_primitive::<UInt32Type>();
        assert!(numbers.iter().all(|number| number == Some(0)), "{name}");
    }
    // One append brought them.
    let sequences = column("sequence").as_primitive::<Int64Type>();
    let [first, second] = [0, 12_000].map(|row| sequences.value(row));
    let expected = (0..12_030).map(|row| if row < 12_000 { first } else { second });
    assert!(first < second && sequences.values().iter().copied().eq(expected));
}

/// An integer as facets have it: big-endian, the sign bit turned over.
fn in_order(number: i64) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes[0] ^= 0x80;
    bytes
}

/// The facets of a partition against a naive count.
fn check_facets(segment: &Parts, rows: &Range<u32>, facets: &Range<u32>) {
    let block = &segment.parts[&FACETS][facets.start as usize..facets.end as usize];
    let [count, strays, columns] = [0, 4, 8].map(|at| u32_at(block, at) as usize);
    let columns = &block[12 + count * 28 + strays * 4..][..columns * 12];
    let columns = columns.chunks(12).map(|column| {
        let [start, bytes, codes] = [0, 4, 8].map(|at| u32_at(column, at));
        segment.codes(start, bytes, codes, rows)
    });
    let columns: Vec<Vec<usize>> = columns.collect();
    let (mut seen, mut by_codes) = (BTreeSet::new(), 0);
    for facet in block[12..12 + count * 28].chunks(28) {
        let column = u32_at(facet, 0) as usize;
        seen.insert(segment.rows.schema().field(column).name().clone());
        let mut expected: BTreeMap<Option<Vec<u8>>, BTreeSet<u32>> = BTreeMap::new();
        let values = segment.rows.column(column);
        for row in rows.clone() {
            let at = row as usize;
            let value = values.is_valid(at).then(|| match values.data_type() {
                DataType::Int32 => {
                    let number = values.as_primitive::<Int32Type>().value(at);
                    in_order(number.into())
                }
                DataType::Int64 => {
                    let number = values.as_primitive::<Int64Type>().value(at);
                    in_order(number)
                }
                DataType::UInt32 => {
                    let number = values.as_primitive::<UInt32Type>().value(at);
                    in_order(number.into())
                }
                DataType::Boolean => vec![u8::from(values.as_boolean().value(at))],
                _ => values.as_string::<i32>().value(at).as_bytes().to_vec(),
            });
            expected.entry(value).or_default().insert(row);
        }
        let mut words = vec![(
            None,
            u32_at(facet, 12),
            u32_at(facet, 20),
            u32_at(facet, 24),
        )];
        let values = &block[u32_at(facet, 8) as usize..][..u32_at(facet, 4) as usize * 20];
        for value in values.chunks(20) {
            let bytes = &block[u32_at(value, 0) as usize..][..u32_at(value, 4) as usize];
            words.push((
                Some(bytes.to_vec()),
                u32_at(value, 8),
                u32_at(value, 12),
                u32_at(value, 16),
            ));
        }
        assert!(words[1..].is_sorted_by_key(|word| word.0.clone()));
        if let Some(column) = (u32_at(facet, 16) as usize).checked_sub(1) {
            by_codes += 1;
            let of_codes = &block[u32_at(facet, 20) as usize..];
            let mut found: BTreeMap<_, BTreeSet<u32>> = BTreeMap::new();
            for (row, code) in rows.clone().zip(&columns[column]) {
                // The rows without a value are the first of the words.
                let number = (usize::from(of_codes[*code]) + 1) % words.len();
                found
                    .entry(words[number].0.clone())
                    .or_default()
                    .insert(row);
            }
            assert_eq!(found, expected);
            for (value, count, start, length) in &words[1..] {
                assert_eq!(
                    (*count as usize, *start, *length),
                    (found[value].len(), 0, 0)
                );
            }
            let nulls = found.get(&None).map_or(0, BTreeSet::len);
            assert_eq!((words[0].1 as usize, u32_at(facet, 24)), (nulls, 0));
            continue;
        }
        // The one posting that is left out has all rows that no other has.
        let mut others: BTreeSet<u32> = rows.clone().collect();
        for (_, _, start, length) in words.iter().filter(|word| word.3 != u32::MAX) {
            for row in segment.posting(*start, *length) {
                assert!(others.remove(&row));
            }
        }
        let mut found = BTreeMap::new();
        for (value, count, start, length) in words {
            let posting = if length == u32::MAX {
                std::mem::take(&mut others)
            } else {
                segment.posting(start, length)
            };
            assert_eq!(posting.len() as u32, count);
            if count > 0 {
                found.insert(value, posting);
            }
        }
        assert_eq!(found, expected, "column {column}");
    }
    assert!(0 < by_codes && by_codes < count, "{by_codes} of {count}");
    for name in [
        "method",
        "level",
        "status_code",
        "attributes.db.system",
        "attributes.cached",
    ] {
        assert!(seen.contains(name), "{name} of {seen:?}");
    }
}
