//! How a segment's columns are encoded and how large its parts are.
//!
//! Chosen by measurement (README has the figures): small pages and small
//! dictionaries make a look-up decode little; random ids compress with
//! nothing; what repeats over a few hundred bytes or more gains from ZSTD.

use parquet::basic::{Compression, Encoding as ParquetEncoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use parquet::schema::types::ColumnPath;

use crate::segment::layout::columns::FileColumns;
use crate::segment::promotion::{ATTRIBUTE_ORDER, ChosenKey, PromotedType, Promotion};
use crate::table::{Codec, Encoding, Statistics, Table, TableColumn};

/// Rows of a row group: the upper 16 bits of a row number are its row group
/// and its container in a roaring bitmap.
pub const ROW_GROUP_ROWS: u32 = 1 << 16;
/// Rows of a page, about.
pub const PAGE_ROWS: usize = 1_280;
/// Largest dictionary of a column in a row group, in bytes.
pub const DICTIONARY_BYTES: usize = 64 * 1024;

/// The Parquet writer's settings for a segment of a table.
pub(crate) fn writer_properties(table: &Table, promotion: &Promotion) -> WriterProperties {
    let columns = FileColumns::written(table, promotion, &[]);
    let order = table.roles().order.iter();
    let sorting = order.filter_map(|column| columns.place(*column));
    let sorting = sorting.map(|place| SortingColumn {
        column_idx: place as i32,
        descending: false,
        nulls_first: false,
    });
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(concat!("spanstore ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS as usize))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_sorting_columns(Some(sorting.collect()))
        .set_compression(Compression::LZ4_RAW)
        // Statistics of pages would cost memory in every reader and only times
        // are asked for by page.
        .set_statistics_enabled(EnabledStatistics::Chunk);
    let numbers = table.roles().shared.iter().map(|shared| &shared.number);
    let distance = table.roles().parent.iter().map(|parent| &parent.distance);
    for column in table.columns().iter().chain(numbers).chain(distance) {
        properties = with_column(properties, column);
    }
    let order = ColumnPath::from(ATTRIBUTE_ORDER);
    properties = properties.set_column_statistics_enabled(order, EnabledStatistics::None);
    for key in promotion.keys().iter().filter(|key| key.mapped.is_none()) {
        properties = with_key(properties, key);
    }
    properties.build()
}

fn with_column(
    properties: WriterPropertiesBuilder,
    column: &TableColumn,
) -> WriterPropertiesBuilder {
    let path = || ColumnPath::from(column.name);
    let properties = match column.encoding {
        Encoding::Dictionary => properties,
        Encoding::Plain => properties
            .set_column_dictionary_enabled(path(), false)
            .set_column_encoding(path(), ParquetEncoding::PLAIN),
        Encoding::Delta => properties
            .set_column_dictionary_enabled(path(), false)
            .set_column_encoding(path(), ParquetEncoding::DELTA_BINARY_PACKED),
    };
    let codec = match column.codec {
        Codec::None => Compression::UNCOMPRESSED,
        Codec::Lz4 => Compression::LZ4_RAW,
        Codec::Zstd => Compression::ZSTD(ZstdLevel::default()),
    };
    let statistics = match column.statistics {
        Statistics::None => EnabledStatistics::None,
        Statistics::RowGroup => EnabledStatistics::Chunk,
        Statistics::Page => EnabledStatistics::Page,
    };
    properties
        .set_column_compression(path(), codec)
        .set_column_statistics_enabled(path(), statistics)
}

/// The settings of a promoted key's own column.
fn with_key(mut properties: WriterPropertiesBuilder, key: &ChosenKey) -> WriterPropertiesBuilder {
    if !key.is_varied {
        return properties;
    }
    let path = || ColumnPath::from(key.column_name());
    if key.value == PromotedType::Text {
        let zstd = Compression::ZSTD(ZstdLevel::default());
        properties = properties.set_column_compression(path(), zstd);
    }
    if key.value != PromotedType::Boolean {
        properties = properties.set_column_dictionary_enabled(path(), false);
    }
    if key.value == PromotedType::Integer {
        let delta = ParquetEncoding::DELTA_BINARY_PACKED;
        properties = properties.set_column_encoding(path(), delta);
    }
    properties
}
