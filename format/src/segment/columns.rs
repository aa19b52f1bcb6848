//! The columns of a segment's file, by their names: those of its table, and those
//! that hold promoted attributes.
//!
//! The part of the index is a protobuf message, [`ColumnsPart`]. Places of columns in
//! other parts count in its list, which is that of the Parquet schema too.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use prost::Message;

use super::promotion::{ATTRIBUTE_ORDER, Owner, PromotedKey, PromotedType, Promotion};
use crate::error::FormatError;
use crate::table::Table;

const PART: &str = "columns";

/// The part of the index.
#[derive(Clone, PartialEq, Message)]
struct ColumnsPart {
    /// The name of the table.
    #[prost(string, tag = "1")]
    table: String,
    /// The version of the rules that filled its columns.
    #[prost(uint32, tag = "2")]
    mapping: u32,
    /// The columns of the file in their order.
    #[prost(string, repeated, tag = "3")]
    columns: Vec<String>,
    /// The promoted keys; a key's number is its place here.
    #[prost(message, repeated, tag = "4")]
    promoted: Vec<PromotedPart>,
}

/// A promoted key.
#[derive(Clone, PartialEq, Message)]
struct PromotedPart {
    /// 0 span, 1 resource.
    #[prost(uint32, tag = "1")]
    owner: u32,
    #[prost(string, tag = "2")]
    key: String,
    /// 1 text, 2 i64, 3 double, 4 bool.
    #[prost(uint32, tag = "3")]
    value: u32,
    /// The name of the column that holds the values.
    #[prost(string, tag = "4")]
    column: String,
    /// Whether that column is the key's alone.
    #[prost(bool, tag = "5")]
    is_own: bool,
    #[prost(bool, tag = "6")]
    has_strays: bool,
    #[prost(bool, tag = "7")]
    is_varied: bool,
}

/// The columns of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileColumns {
    mapping: u32,
    names: Vec<String>,
    /// Where the columns of the table are in the file, by their places in the table.
    places: Vec<Option<usize>>,
    /// Where [`ATTRIBUTE_ORDER`] is.
    order: Option<usize>,
    promotion: Promotion,
}

impl FileColumns {
    /// The columns of a file that is to be written.
    pub fn new(table: &Table, promotion: &Promotion) -> Self {
        let schema = file_schema(table, promotion);
        let names: Vec<String> = schema
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        let columns = table.columns().len();
        Self {
            mapping: table.mapping(),
            places: (0..columns).map(Some).collect(),
            order: table.roles().attributes.map(|_| columns),
            names,
            promotion: promotion.clone(),
        }
    }

    /// The version of the rules that filled the columns of the table.
    pub fn mapping(&self) -> u32 {
        self.mapping
    }

    /// The names of the columns, in the order of the file.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Where a column of the table is in the file; none when the file does not have
    /// it.
    pub fn place(&self, column: usize) -> Option<usize> {
        self.places.get(column).copied().flatten()
    }

    /// Where the column is that says how attributes are put together.
    pub fn order(&self) -> Option<usize> {
        self.order
    }

    /// The promoted keys.
    pub fn promotion(&self) -> &Promotion {
        &self.promotion
    }

    /// The field that a column of the file is read as; none for a column that is not
    /// known.
    pub(super) fn field(&self, table: &Table, place: usize) -> Option<Field> {
        if let Some(column) = self.places.iter().position(|one| *one == Some(place)) {
            return Some(table.column(column)?.field());
        }
        if self.order == Some(place) {
            return Some(order_field());
        }
        let mut keys = self.promotion.keys().iter();
        let key = keys.find(|key| key.is_own && key.column == place)?;
        let name = self.names.get(place)?;
        Some(Field::new(name, key.value.data_type(), true))
    }

    /// The places of columns whose values are indexed where they are few, in rising
    /// order.
    pub fn facets(&self, table: &Table) -> Vec<usize> {
        let columns = table.columns().iter().zip(&self.places);
        let of_table = columns.filter(|(column, _)| column.is_facet);
        let own = self
            .promotion
            .keys()
            .iter()
            .filter(|key| key.is_own && key.value != PromotedType::Double && !key.is_varied);
        let mut places: Vec<usize> = of_table
            .filter_map(|(_, place)| *place)
            .chain(own.map(|key| key.column))
            .collect();
        places.sort_unstable();
        places
    }

    /// The part of the index.
    pub(super) fn encode(&self, table: &Table) -> Vec<u8> {
        let promoted = self.promotion.keys().iter().map(|key| PromotedPart {
            owner: u32::from(key.owner == Owner::Resource),
            key: key.key.clone(),
            value: key.value.number(),
            column: self.names.get(key.column).cloned().unwrap_or_default(),
            is_own: key.is_own,
            has_strays: key.has_strays,
            is_varied: key.is_varied,
        });
        ColumnsPart {
            table: table.name().to_owned(),
            mapping: self.mapping,
            columns: self.names.clone(),
            promoted: promoted.collect(),
        }
        .encode_to_vec()
    }

    /// Reads the part of a segment of `table`, which stands at `offset` of its file.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the bytes make no sense, or are of another
    /// table.
    pub fn decode(bytes: &[u8], offset: u64, table: &Table) -> Result<Self, FormatError> {
        let malformed =
            |expected: &str, found: &str| FormatError::malformed(PART, offset, expected, found);
        let part = ColumnsPart::decode(bytes)
            .map_err(|error| malformed("the columns of a file", &error.to_string()))?;
        if part.table != table.name() {
            let expected = format!("the table {}", table.name());
            return Err(malformed(&expected, &part.table));
        }
        let place_of = |name: &str| part.columns.iter().position(|one| one == name);
        for (place, name) in part.columns.iter().enumerate() {
            if place_of(name) != Some(place) {
                return Err(malformed("columns of different names", name));
            }
        }
        let columns = table.columns().iter();
        let places = columns.map(|column| place_of(column.name)).collect();
        let mut keys = Vec::with_capacity(part.promoted.len());
        for key in part.promoted {
            let column = place_of(&key.column)
                .ok_or_else(|| malformed("a column of a promoted key", &key.column))?;
            let value = PromotedType::of(key.value)
                .ok_or_else(|| malformed("a type of promoted values", &key.value.to_string()))?;
            if key.is_own && table.place_of(&key.column).is_some() {
                return Err(malformed("a column of the key's own", &key.column));
            }
            keys.push(PromotedKey {
                owner: if key.owner == 0 {
                    Owner::Span
                } else {
                    Owner::Resource
                },
                key: key.key,
                value,
                column,
                is_own: key.is_own,
                has_strays: key.has_strays,
                is_varied: key.is_varied,
            });
        }
        Ok(Self {
            mapping: part.mapping,
            places,
            order: place_of(ATTRIBUTE_ORDER),
            names: part.columns,
            promotion: Promotion::of(keys),
        })
    }
}

/// The schema of a file that is to be written: the columns of the table, the order
/// of attributes, and the columns of promoted keys.
pub(super) fn file_schema(table: &Table, promotion: &Promotion) -> SchemaRef {
    if table.roles().attributes.is_none() {
        return table.schema();
    }
    let mut fields: Vec<_> = table.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(order_field()));
    for key in promotion.keys().iter().filter(|key| key.is_own) {
        let field = Field::new(key.column_name(), key.value.data_type(), true);
        fields.push(Arc::new(field));
    }
    Arc::new(Schema::new(fields))
}

fn order_field() -> Field {
    Field::new(
        ATTRIBUTE_ORDER,
        arrow::datatypes::DataType::BinaryView,
        true,
    )
}

/// The promoted keys as JSON, for the footer of the file: what other readers need to
/// find attributes.
pub(super) fn promotion_as_json(table: &Table, columns: &FileColumns) -> String {
    let keys = columns.promotion.keys().iter().map(|key| {
        serde_json::json!({
            "owner": key.owner.name(),
            "key": key.key,
            "column": columns.names.get(key.column),
            "type": key.value.name(),
            "is_whole": !key.has_strays,
        })
    });
    let keys: Vec<_> = keys.collect();
    serde_json::json!({
        "table": table.name(),
        "mapping": columns.mapping,
        "promoted": keys,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::table;

    fn key(key: &str, column: usize, is_own: bool) -> PromotedKey {
        PromotedKey {
            owner: Owner::Span,
            key: key.into(),
            value: PromotedType::Text,
            column,
            is_own,
            has_strays: true,
            is_varied: false,
        }
    }

    fn columns() -> FileColumns {
        let own = table().columns().len() + 1;
        let route = table().place_of("route").unwrap();
        let keys = vec![key("a", own, true), key("http.route", route, false)];
        FileColumns::new(table(), &Promotion::of(keys))
    }

    #[test]
    fn comes_back_equal() {
        let bytes = columns().encode(table());
        assert_eq!(FileColumns::decode(&bytes, 7, table()), Ok(columns()));
    }

    #[test]
    fn columns_are_found_by_name() {
        let mut part = ColumnsPart::decode(columns().encode(table()).as_slice()).unwrap();
        part.columns.retain(|name| name != "branch");
        part.columns.insert(0, "colour".into());
        part.columns.reverse();
        let read = FileColumns::decode(&part.encode_to_vec(), 0, table()).unwrap();
        let branch = table().place_of("branch").unwrap();
        assert_eq!(read.place(branch), None);
        for column in table().columns().iter().filter(|one| one.name != "branch") {
            let place = read.place(table().place_of(column.name).unwrap()).unwrap();
            assert_eq!(read.names()[place], column.name);
            assert_eq!(read.field(table(), place), Some(column.field()));
        }
        let colour = read
            .names()
            .iter()
            .position(|name| name == "colour")
            .unwrap();
        assert_eq!(read.field(table(), colour), None);
        let route = read.promotion().find(Owner::Span, "http.route").unwrap().1;
        assert_eq!(read.names()[route.column], "route");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let change = |change: &dyn Fn(&mut ColumnsPart)| {
            let mut part = ColumnsPart::decode(columns().encode(table()).as_slice()).unwrap();
            change(&mut part);
            FileColumns::decode(&part.encode_to_vec(), 0, table())
                .unwrap_err()
                .to_string()
        };
        assert!(change(&|part| part.table = "requests".into()).contains("the table spans"));
        assert!(change(&|part| part.columns[3] = "name".into()).contains("different names"));
        assert!(change(&|part| part.promoted[0].column = "gone".into()).contains("gone"));
        assert!(change(&|part| part.promoted[0].value = 9).contains("type"));
        assert!(change(&|part| part.promoted[1].is_own = true).contains("route"));
    }
}
