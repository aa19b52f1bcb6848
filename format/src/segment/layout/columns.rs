//! The columns of a segment's file, by their names: those of its table, and those
//! that hold promoted attributes.
//!
//! The part of the index is a protobuf message, `ColumnsPart`. Places of columns in
//! other parts count in its list, which is that of the Parquet schema too.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use hashbrown::HashMap;
use prost::Message;

use crate::error::FormatError;
use crate::segment::promotion::{
    ATTRIBUTE_ORDER, ChosenKey, PromotedKey, PromotedKeys, PromotedType, Promotion,
};
use crate::table::Table;

const PART: &str = "columns";
/// Columns that a file may have.
const MOST_COLUMNS: usize = 4_096;

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
    #[prost(string, tag = "1")]
    key: String,
    /// 1 text, 2 i64, 3 double, 4 bool.
    #[prost(uint32, tag = "2")]
    value: u32,
    /// The name of the column that holds the values.
    #[prost(string, tag = "3")]
    column: String,
    /// Whether that column is the key's alone.
    #[prost(bool, tag = "4")]
    is_own: bool,
    #[prost(bool, tag = "5")]
    has_strays: bool,
    #[prost(bool, tag = "6")]
    is_varied: bool,
    /// The name of the column with the ends of the values; empty when there is none.
    #[prost(string, tag = "7")]
    suffix: String,
}

/// The columns of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileColumns {
    mapping: u32,
    names: Vec<String>,
    /// Where the columns of the table are in the file, by their places in the table.
    places: Vec<Option<usize>>,
    /// Where the numbers of what rows share are, in the order of the table's
    /// [shared columns](crate::table::Roles::shared).
    numbers: Vec<Option<usize>>,
    /// Where the distances of parents are.
    distance: Option<usize>,
    /// Where [`ATTRIBUTE_ORDER`] is.
    order: Option<usize>,
    promoted: PromotedKeys,
}

impl FileColumns {
    /// The columns of a file that is written; `has_strays` says of which keys some
    /// values are not in their columns.
    pub(crate) fn written(table: &Table, promotion: &Promotion, has_strays: &[bool]) -> Self {
        let schema = file_schema(table, promotion);
        let names = schema.fields().iter().map(|field| field.name().clone());
        let mut columns = Self::found(table, names.collect());
        let is_own = promotion.keys().iter().filter(|key| key.mapped.is_none());
        let mut own = columns.names.len() - is_own.count()..;
        let keys = promotion.keys().iter().zip(has_strays);
        let keys = keys.filter_map(|(key, has_strays)| {
            let column = match key.mapped {
                Some(column) => columns.place(column),
                None => own.next(),
            };
            Some(PromotedKey {
                key: key.key.clone(),
                value: key.value,
                column: column?,
                is_own: key.mapped.is_none(),
                suffix: key.suffix.and_then(|suffix| columns.place(suffix)),
                has_strays: *has_strays,
                is_varied: key.is_varied,
            })
        });
        columns.promoted = PromotedKeys::of(keys.collect());
        columns
    }

    /// The columns of these names, without promoted keys.
    fn found(table: &Table, names: Vec<String>) -> Self {
        let by_name = by_name(&names);
        let place_of = |name: &str| by_name.get(name).copied();
        let shared = table.roles().shared.iter();
        let columns = table.columns().iter();
        let places = columns.map(|column| place_of(column.name)).collect();
        let numbers = shared.map(|one| place_of(one.number.name)).collect();
        let distance = table.roles().parent.as_ref();
        let distance = distance.and_then(|parent| place_of(parent.distance.name));
        let order = place_of(ATTRIBUTE_ORDER);
        drop(by_name);
        Self {
            mapping: table.mapping(),
            places,
            numbers,
            distance,
            order,
            promoted: PromotedKeys::default(),
            names,
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

    /// Where the numbers are of what rows share, given by its place among the table's
    /// [shared columns](crate::table::Roles::shared).
    pub fn number(&self, shared: usize) -> Option<usize> {
        self.numbers.get(shared).copied().flatten()
    }

    /// Where the distances of parents are.
    pub fn distance(&self) -> Option<usize> {
        self.distance
    }

    /// The promoted keys.
    pub fn promoted(&self) -> &PromotedKeys {
        &self.promoted
    }

    /// The promotion that a segment with the same promoted keys is written by; none
    /// when one lies in a column that the table does not have.
    pub fn promotion(&self, table: &Table) -> Option<Promotion> {
        let keys = self.promoted.keys().iter().map(|key| {
            let of_table = |column: usize| {
                (0..table.columns().len()).find(|place| self.place(*place) == Some(column))
            };
            let mapped = of_table(key.column);
            let suffix = key.suffix.and_then(of_table);
            let is_known =
                key.is_own == mapped.is_none() && key.suffix.is_some() == suffix.is_some();
            is_known.then(|| ChosenKey {
                key: key.key.clone(),
                value: key.value,
                mapped,
                suffix,
                is_varied: key.is_varied,
            })
        });
        Some(Promotion {
            keys: keys.collect::<Option<_>>()?,
        })
    }

    /// The field that a column of the file is read as; none for a column that is not
    /// known.
    pub(crate) fn field(&self, table: &Table, place: usize) -> Option<Field> {
        if let Some(column) = self.places.iter().position(|one| *one == Some(place)) {
            return Some(table.column(column)?.field());
        }
        if self.order == Some(place) {
            return Some(order_field());
        }
        if let Some(shared) = self.numbers.iter().position(|one| *one == Some(place)) {
            return Some(table.roles().shared.get(shared)?.number.field());
        }
        if self.distance == Some(place) {
            return Some(table.roles().parent.as_ref()?.distance.field());
        }
        let name = self.names.get(place)?;
        let mut keys = self.promoted.keys().iter();
        if keys.clone().any(|key| key.suffix == Some(place)) {
            return Some(Field::new(name, PromotedType::Text.data_type(), true));
        }
        // A column of the table that is not known yet holds numbers as it likes.
        let is_told = |key: &&PromotedKey| key.is_own || key.value == PromotedType::Text;
        let key = keys.find(|key| key.column == place && is_told(key))?;
        Some(Field::new(name, key.value.data_type(), true))
    }

    /// The places of columns whose values are indexed where they are few, in rising
    /// order.
    pub fn facets(&self, table: &Table) -> Vec<usize> {
        let columns = table.columns().iter().zip(&self.places);
        let of_table = columns.filter(|(column, _)| column.is_facet);
        let numbers = table.roles().shared.iter().zip(&self.numbers);
        let numbers = numbers.filter(|(shared, _)| shared.number.is_facet);
        let own = self.promoted.keys().iter().filter(|key| {
            let is_whole = key.is_own && key.suffix.is_none();
            is_whole && key.value != PromotedType::Double && !key.is_varied
        });
        let mut places: Vec<usize> = of_table
            .filter_map(|(_, place)| *place)
            .chain(numbers.filter_map(|(_, place)| *place))
            .chain(own.map(|key| key.column))
            .collect();
        places.sort_unstable();
        places
    }

    /// The part of the index.
    pub(crate) fn encode(&self, table: &Table) -> Vec<u8> {
        let name_of = |place: Option<usize>| {
            let name = place.and_then(|place| self.names.get(place));
            name.cloned().unwrap_or_default()
        };
        let promoted = self.promoted.keys().iter().map(|key| PromotedPart {
            key: key.key.clone(),
            value: key.value.number(),
            column: name_of(Some(key.column)),
            is_own: key.is_own,
            has_strays: key.has_strays,
            is_varied: key.is_varied,
            suffix: name_of(key.suffix),
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
        if part.columns.len() > MOST_COLUMNS {
            let expected = format!("at most {MOST_COLUMNS} columns");
            return Err(malformed(&expected, &part.columns.len().to_string()));
        }
        let by_name = by_name(&part.columns);
        let place_of = |name: &str| by_name.get(name).copied();
        for (place, name) in part.columns.iter().enumerate() {
            if place_of(name) != Some(place) {
                return Err(malformed("columns of different names", name));
            }
        }
        let mut keys = Vec::with_capacity(part.promoted.len());
        for key in part.promoted {
            let column = place_of(&key.column)
                .ok_or_else(|| malformed("a column of a promoted key", &key.column))?;
            let value = PromotedType::of(key.value)
                .ok_or_else(|| malformed("a type of promoted values", &key.value.to_string()))?;
            if key.is_own && table.place_of(&key.column).is_some() {
                return Err(malformed("a column of the key's own", &key.column));
            }
            let suffix = match key.suffix.as_str() {
                "" => None,
                name => Some(place_of(name).ok_or_else(|| malformed("a column of ends", name))?),
            };
            if suffix.is_some() && (!key.is_own || value != PromotedType::Text) {
                return Err(malformed(
                    "ends of texts of a key with its own column",
                    &key.key,
                ));
            }
            keys.push(PromotedKey {
                key: key.key,
                value,
                column,
                is_own: key.is_own,
                suffix,
                has_strays: key.has_strays,
                is_varied: key.is_varied,
            });
        }
        drop(by_name);
        let mut columns = Self::found(table, part.columns);
        columns.mapping = part.mapping;
        columns.promoted = PromotedKeys::of(keys);
        Ok(columns)
    }
}

/// The places of columns by their names; of equal names the last one counts.
fn by_name(names: &[String]) -> HashMap<&str, usize> {
    let names = names.iter().enumerate();
    names.map(|(place, name)| (name.as_str(), place)).collect()
}

/// The schema of a file that is to be written: the columns of the table but those that
/// rows share, the numbers of these, the distances of parents, the order of attributes,
/// and the columns of promoted keys.
pub(crate) fn file_schema(table: &Table, promotion: &Promotion) -> SchemaRef {
    let roles = table.roles();
    let columns = table.columns().iter().enumerate();
    let own = columns.filter(|(place, _)| !roles.shared.iter().any(|shared| shared.has(*place)));
    let mut fields: Vec<Field> = own.map(|(_, column)| column.field()).collect();
    fields.extend(roles.shared.iter().map(|shared| shared.number.field()));
    fields.extend(roles.parent.iter().map(|parent| parent.distance.field()));
    if roles.attributes.is_some() {
        fields.push(order_field());
        let own = promotion.keys().iter().filter(|key| key.mapped.is_none());
        fields.extend(own.map(|key| Field::new(key.column_name(), key.value.data_type(), true)));
    }
    Arc::new(Schema::new(fields))
}

pub(crate) fn order_field() -> Field {
    Field::new(
        ATTRIBUTE_ORDER,
        arrow::datatypes::DataType::BinaryView,
        true,
    )
}

/// The promoted keys as JSON, for the footer of the file: what other readers need to
/// find attributes.
pub(crate) fn promotion_as_json(table: &Table, columns: &FileColumns) -> String {
    let keys = columns.promoted.keys().iter().map(|key| {
        serde_json::json!({
            "key": key.key,
            "column": columns.names.get(key.column),
            "suffix": key.suffix.and_then(|suffix| columns.names.get(suffix)),
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
    use crate::segment::promotion::ChosenKey;
    use crate::span::table;

    fn columns() -> FileColumns {
        let key = |key: &str, mapped| ChosenKey {
            key: key.into(),
            value: PromotedType::Text,
            mapped,
            suffix: None,
            is_varied: false,
        };
        let route = table().place_of("route");
        let promotion = Promotion::of(vec![key("a", None), key("http.route", route)]);
        FileColumns::written(table(), &promotion, &[true, false])
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
        let is_shared = |place: usize| {
            let mut shared = table().roles().shared.iter();
            shared.any(|one| one.has(place))
        };
        for (place, column) in table().columns().iter().enumerate() {
            if column.name == "branch" || is_shared(place) {
                assert_eq!(read.place(place), None);
                continue;
            }
            let place = read.place(place).unwrap();
            assert_eq!(read.names()[place], column.name);
            assert_eq!(read.field(table(), place), Some(column.field()));
        }
        let colour = read
            .names()
            .iter()
            .position(|name| name == "colour")
            .unwrap();
        assert_eq!(read.field(table(), colour), None);
        let route = read.promoted().find("http.route").unwrap().1;
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
        assert!(change(&|part| part.promoted[0].suffix = "gone".into()).contains("gone"));
        assert!(change(&|part| part.promoted[1].suffix = "name".into()).contains("http.route"));
    }
}
