//! Tables: what a segment has to know of rows to write, index and read them.
//!
//! A table is a value. [`spans`](crate::span::table()) is the first one; the writer
//! and the reader of segments know no column of it by name.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, StringViewArray, TimestampNanosecondArray,
    UInt32Array, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::error::FormatError;

/// Names the columns of a table, each once: an enumeration of them, and `COLUMNS`, how they
/// are stored.
macro_rules! table_columns {
    (
        $(#[doc = $about:literal])* $columns:ident;
        $($(#[doc = $doc:literal])* $variant:ident: $column:expr;)*
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $columns {
            $($(#[doc = $doc])* $variant,)*
        }

        impl $columns {
            /// All columns in the order of the schema.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// How it is stored.
            pub fn description(self) -> &'static $crate::table::TableColumn {
                match self {
                    $(Self::$variant => {
                        static COLUMN: $crate::table::TableColumn = $column;
                        &COLUMN
                    })*
                }
            }

            /// Its place in the schema.
            pub const fn place(self) -> usize {
                self as usize
            }

            /// Its name.
            pub fn name(self) -> &'static str {
                self.description().name
            }

            /// The column with a name.
            pub fn of_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }
        }

        static COLUMNS: &[$crate::table::TableColumn] = &[$($column,)*];
    };
}
pub(crate) use table_columns;

/// The type of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// UTF-8.
    Text,
    /// Any bytes.
    Bytes,
    /// So many bytes.
    Id(u8),
    /// Nanoseconds since 1970, UTC.
    Time,
    /// An integer of 32 bits.
    Int32,
    /// An integer of 64 bits.
    Int64,
    /// An integer of 32 bits without a sign.
    UInt32,
    /// True or false.
    Boolean,
}

impl ColumnType {
    /// The type in memory.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8View,
            Self::Bytes => DataType::BinaryView,
            Self::Id(bytes) => DataType::FixedSizeBinary(i32::from(bytes)),
            Self::Time => DataType::Timestamp(TimeUnit::Nanosecond, Some(Arc::from("UTC"))),
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::UInt32 => DataType::UInt32,
            Self::Boolean => DataType::Boolean,
        }
    }
}

/// How values are encoded in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// By a dictionary; as they are once that is full.
    Dictionary,
    /// As they are.
    Plain,
    /// As packed differences.
    Delta,
}

/// How pages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// LZ4.
    Lz4,
    /// ZSTD.
    Zstd,
}

/// Where the least and the greatest value are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistics {
    /// Nowhere.
    None,
    /// For each row group.
    RowGroup,
    /// For each page too.
    Page,
}

/// What rows of a file that does not have a column are taken to have in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Nothing: the file is refused.
    Refused,
    /// Null.
    Null,
    /// Zero, or false.
    Zero,
    /// This text.
    Text(&'static str),
}

/// The texts that a column may have, where these are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueSet {
    /// The texts.
    pub texts: &'static [&'static str],
    /// Whether they mean less and more, in their order.
    pub is_ordered: bool,
    /// Whether they are names of the numbers from 0 on, and a number without a name is a
    /// value too.
    pub has_numbers: bool,
}

impl ValueSet {
    /// These texts alone.
    pub const fn of(texts: &'static [&'static str]) -> Self {
        Self {
            texts,
            is_ordered: false,
            has_numbers: false,
        }
    }

    /// These texts alone, the least first.
    pub const fn ordered(texts: &'static [&'static str]) -> Self {
        let mut set = Self::of(texts);
        set.is_ordered = true;
        set
    }

    /// The names of the numbers from 0 on, and other numbers of 32 bits.
    pub const fn named(texts: &'static [&'static str]) -> Self {
        let mut set = Self::of(texts);
        set.has_numbers = true;
        set
    }

    /// Whether a text is one of them.
    pub fn contains(&self, text: &str) -> bool {
        let has_no_name = |number: &i32| {
            let place = usize::try_from(*number).ok();
            place.is_none_or(|place| place >= self.texts.len()) && number.to_string() == text
        };
        let number = || text.parse().ok().filter(has_no_name);
        self.texts.contains(&text) || self.has_numbers && number().is_some()
    }
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableColumn {
    /// Its name, in memory and in files.
    pub name: &'static str,
    /// The type of its values.
    pub value: ColumnType,
    /// Whether a row may have no value.
    pub is_nullable: bool,
    /// What rows of a file without the column have.
    pub missing: Missing,
    /// How values are encoded.
    pub encoding: Encoding,
    /// How pages are compressed.
    pub codec: Codec,
    /// Which statistics are kept.
    pub statistics: Statistics,
    /// Whether its values are few, and indexed.
    pub is_facet: bool,
    /// Whether queries see it.
    pub is_visible: bool,
    /// The texts that it may have, where not all.
    pub values: Option<ValueSet>,
}

impl TableColumn {
    const fn new(name: &'static str, value: ColumnType) -> Self {
        Self {
            name,
            value,
            is_nullable: false,
            missing: Missing::Refused,
            encoding: Encoding::Dictionary,
            codec: Codec::Lz4,
            statistics: Statistics::RowGroup,
            is_facet: false,
            is_visible: true,
            values: None,
        }
    }

    /// A column of texts.
    pub const fn text(name: &'static str) -> Self {
        Self::new(name, ColumnType::Text)
    }

    /// A column of bytes, which hardly repeat.
    pub const fn bytes(name: &'static str) -> Self {
        Self::new(name, ColumnType::Bytes)
            .encoded(Encoding::Plain)
            .compressed(Codec::Zstd)
    }

    /// A column of random ids of so many bytes.
    pub const fn id(name: &'static str, bytes: u8) -> Self {
        Self::new(name, ColumnType::Id(bytes))
            .encoded(Encoding::Plain)
            .with_statistics(Statistics::None)
    }

    /// A column of times.
    pub const fn time(name: &'static str) -> Self {
        Self::new(name, ColumnType::Time).with_statistics(Statistics::Page)
    }

    /// A column of integers of 32 bits.
    pub const fn int32(name: &'static str) -> Self {
        Self::new(name, ColumnType::Int32)
    }

    /// A column of integers of 64 bits.
    pub const fn int64(name: &'static str) -> Self {
        Self::new(name, ColumnType::Int64)
    }

    /// A column of integers of 32 bits without a sign.
    pub const fn uint32(name: &'static str) -> Self {
        Self::new(name, ColumnType::UInt32)
    }

    /// A column of truths.
    pub const fn boolean(name: &'static str) -> Self {
        Self::new(name, ColumnType::Boolean)
    }

    /// The column, in which a row may have no value.
    pub const fn nullable(mut self) -> Self {
        self.is_nullable = true;
        self.missing = Missing::Null;
        self
    }

    /// The column, with what rows of files without it have.
    pub const fn or(mut self, missing: Missing) -> Self {
        self.missing = missing;
        self
    }

    /// The column in another encoding.
    pub const fn encoded(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// The column with another codec.
    pub const fn compressed(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// The column with other statistics.
    pub const fn with_statistics(mut self, statistics: Statistics) -> Self {
        self.statistics = statistics;
        self
    }

    /// The column as a facet.
    pub const fn facet(mut self) -> Self {
        self.is_facet = true;
        self
    }

    /// The column, which has these texts alone.
    pub const fn with_values(mut self, values: ValueSet) -> Self {
        self.values = Some(values);
        self
    }

    /// The column, which queries do not see.
    pub const fn hidden(mut self) -> Self {
        self.is_visible = false;
        self
    }

    /// The column's name and type in memory.
    pub fn field(&self) -> Field {
        Field::new(self.name, self.value.data_type(), self.is_nullable)
    }

    /// The values of rows whose file does not have the column.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when no file may be without it.
    pub fn values_if_missing(&self, rows: usize) -> Result<ArrayRef, FormatError> {
        let refused = || {
            let expected = format!("the column {}", self.name);
            FormatError::malformed("columns", 0, expected, "none")
        };
        Ok(match (self.missing, self.value) {
            (Missing::Null, value) if self.is_nullable => new_null_array(&value.data_type(), rows),
            (Missing::Text(text), ColumnType::Text) => Arc::new(StringViewArray::from_iter_values(
                std::iter::repeat_n(text, rows),
            )),
            (Missing::Zero, ColumnType::Int32) => Arc::new(Int32Array::from_value(0, rows)),
            (Missing::Zero, ColumnType::Int64) => Arc::new(Int64Array::from_value(0, rows)),
            (Missing::Zero, ColumnType::UInt32) => Arc::new(UInt32Array::from_value(0, rows)),
            (Missing::Zero, ColumnType::Time) => {
                Arc::new(TimestampNanosecondArray::from_value(0, rows).with_timezone("UTC"))
            }
            (Missing::Zero, ColumnType::Boolean) => Arc::new(BooleanArray::from(vec![false; rows])),
            _ => return Err(refused()),
        })
    }
}

/// An id that a segment can have an index of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexedId {
    /// Trace ids, 16 bytes.
    Trace,
    /// Session ids, texts.
    Session,
    /// Request ids, texts.
    Request,
}

/// The columns of a table that have a part in how a segment is made; by their
/// places.
#[derive(Debug, Clone, Copy)]
pub struct Roles {
    /// The team of a row: partitions are made by it. Texts, never null.
    pub team: usize,
    /// The time that partitions are pruned by. Times, never null.
    pub start: usize,
    /// The ids that rows are found by.
    pub ids: &'static [(IndexedId, usize)],
    /// The columns that rows are ordered by, the first one first.
    pub order: &'static [usize],
    /// What tells rows apart that come at one time, the first one first: ids, and integers of
    /// 64 bits that are not negative.
    pub identity: &'static [usize],
    /// The column of encoded attributes, of which some are promoted.
    pub attributes: Option<usize>,
    /// What rows share with others.
    pub shared: &'static [SharedColumns],
    /// The columns that say which row is the parent of which.
    pub parent: Option<ParentColumns>,
}

impl Roles {
    /// Those of a table without indexed ids, attributes, shared columns and parents.
    pub const fn plain(
        team: usize,
        start: usize,
        order: &'static [usize],
        identity: &'static [usize],
    ) -> Self {
        Self {
            team,
            start,
            ids: &[],
            order,
            identity,
            attributes: None,
            shared: &[],
            parent: None,
        }
    }
}

/// Columns of ids of which one names a row of the same trace, its parent. Files have the
/// distance to that row, and the id only where there is no such row.
#[derive(Debug, Clone, Copy)]
pub struct ParentColumns {
    /// The place of the ids of rows, which are stored as they are.
    pub id: usize,
    /// The place of the ids of their parents, which rows may lack.
    pub parent: usize,
    /// The place of the ids of their traces.
    pub trace: usize,
    /// The column of the file that holds the number of the parent less that of the row.
    pub distance: TableColumn,
}

/// Columns that are not stored row by row: a segment has each of their messages once,
/// with its schema URL, and rows have its number.
#[derive(Debug, Clone, Copy)]
pub struct SharedColumns {
    /// Which messages these are.
    pub kind: SharedKind,
    /// The column of the file that holds the number.
    pub number: TableColumn,
    /// The place of the column of messages, which are protobuf.
    pub message: usize,
    /// The place of the column of schema URLs.
    pub schema_url: usize,
    /// Places of columns of texts that the message has, and the numbers of its fields.
    pub texts: &'static [(usize, u32)],
}

/// What rows share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedKind {
    /// OTLP's resources.
    Resources,
    /// OTLP's instrumentation scopes.
    Scopes,
}

impl SharedColumns {
    /// Whether a column of the table is one of these.
    pub fn has(&self, place: usize) -> bool {
        self.message == place
            || self.schema_url == place
            || self.texts.iter().any(|(text, _)| *text == place)
    }
}

/// A kind of rows.
#[derive(Debug)]
pub struct Table {
    name: &'static str,
    mapping: u32,
    columns: &'static [TableColumn],
    roles: Roles,
    schema: SchemaRef,
}

impl Table {
    /// A table. `mapping` is the version of the rules that fill its columns.
    pub fn new(
        name: &'static str,
        mapping: u32,
        columns: &'static [TableColumn],
        roles: Roles,
    ) -> Self {
        let fields: Vec<Field> = columns.iter().map(TableColumn::field).collect();
        Self {
            name,
            mapping,
            columns,
            roles,
            schema: Arc::new(Schema::new(fields)),
        }
    }

    /// Its name, which its segments say.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The version of the rules that fill its columns.
    pub fn mapping(&self) -> u32 {
        self.mapping
    }

    /// Its columns in their order; a column's place is that in this list.
    pub fn columns(&self) -> &'static [TableColumn] {
        self.columns
    }

    /// A column by its place.
    pub fn column(&self, place: usize) -> Option<&'static TableColumn> {
        self.columns.get(place)
    }

    /// The place of a column.
    pub fn place_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Which columns have a part in how a segment is made.
    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    /// The schema of its rows in memory.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_values_has_its_texts_and_numbers_without_a_name() {
        let names = ValueSet::named(&["unset", "ok"]);
        for (text, is_of_names) in [
            ("ok", true),
            ("OK", false),
            ("", false),
            ("2", true),
            ("-1", true),
            // These have a name.
            ("0", false),
            ("1", false),
            ("+2", false),
            ("02", false),
            ("3000000000", false),
        ] {
            assert_eq!(names.contains(text), is_of_names, "{text}");
            let texts = ValueSet::of(names.texts);
            assert_eq!(texts.contains(text), text == "ok", "{text}");
        }
    }
}
