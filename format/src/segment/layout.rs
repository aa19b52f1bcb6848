//! How a segment's columns are encoded and how large its parts are.
//!
//! Chosen by measurement (README has the figures): small pages and small
//! dictionaries make a look-up decode little; random ids compress with
//! nothing; what repeats over a few hundred bytes or more gains from ZSTD.

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use super::promotion::{ATTRIBUTE_ORDER, PromotedType, Promotion};
use crate::span::schema::{
    ATTRIBUTES, DURATION, EVENTS, LINKS, PARENT_SPAN_ID, REQUEST_ID, REST, SPAN_ID, START_TIME,
    TRACE_ID, TRACE_START,
};

/// Rows of a row group: the upper 16 bits of a row number are its row group
/// and its container in a roaring bitmap.
pub const ROW_GROUP_ROWS: u32 = 1 << 16;
/// Rows of a page, about.
pub const PAGE_ROWS: usize = 1_280;
/// Largest dictionary of a column in a row group, in bytes.
pub const DICTIONARY_BYTES: usize = 64 * 1024;

/// The Parquet writer's settings for a segment.
pub(super) fn writer_properties(promotion: &Promotion) -> WriterProperties {
    let path = |name: &str| ColumnPath::from(name);
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(concat!("spanstore ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS as usize))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_compression(Compression::LZ4_RAW)
        // Statistics of pages would cost memory in every reader and only times
        // are asked for by page.
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for name in [
        SPAN_ID,
        PARENT_SPAN_ID,
        TRACE_ID,
        TRACE_START,
        START_TIME,
        DURATION,
    ] {
        properties = properties.set_column_dictionary_enabled(path(name), false);
    }
    for name in [TRACE_ID, SPAN_ID, PARENT_SPAN_ID] {
        properties = properties
            .set_column_encoding(path(name), Encoding::PLAIN)
            .set_column_statistics_enabled(path(name), EnabledStatistics::None);
    }
    properties = properties.set_column_compression(path(SPAN_ID), Compression::UNCOMPRESSED);
    for name in [START_TIME, DURATION] {
        properties = properties
            .set_column_encoding(path(name), Encoding::DELTA_BINARY_PACKED)
            .set_column_compression(path(name), Compression::UNCOMPRESSED);
    }
    for name in [TRACE_START, START_TIME] {
        properties = properties.set_column_statistics_enabled(path(name), EnabledStatistics::Page);
    }
    for name in [ATTRIBUTES, EVENTS, LINKS, REST] {
        properties = properties
            .set_column_dictionary_enabled(path(name), false)
            .set_column_compression(path(name), zstd);
    }
    for name in [REQUEST_ID, TRACE_ID, PARENT_SPAN_ID, TRACE_START] {
        properties = properties.set_column_compression(path(name), zstd);
    }
    properties =
        properties.set_column_statistics_enabled(path(ATTRIBUTE_ORDER), EnabledStatistics::None);
    let schema = promotion.file_schema();
    for key in promotion.keys().iter().filter(|key| key.has_own_column()) {
        if let Some(field) = schema.fields().get(key.column) {
            let path = path(field.name());
            if key.value == PromotedType::Text && key.is_varied {
                properties = properties.set_column_compression(path.clone(), zstd);
            }
            if key.is_varied && key.value != PromotedType::Boolean {
                properties = properties.set_column_dictionary_enabled(path.clone(), false);
            }
            if key.is_varied && key.value == PromotedType::Integer {
                properties = properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
            }
        }
    }
    properties.build()
}
