//! One column of a batch, read cell by cell.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, Int64Array,
    StringViewArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, TimeUnit, UInt64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use spanstore_format::id::to_hex;
use spanstore_format::month::rfc3339;
use spanstore_format::requests::RequestColumn;
use spanstore_format::span::SpanColumn;

use super::message::Kind;

/// A cell's value.
#[derive(Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    /// No value.
    Null,
    /// Text.
    Text(&'a str),
    /// Text that was made of something else: hexadecimal digits, base64 or
    /// Arrow's own writing of a value that JSON lacks.
    Written(String),
    /// A truth value.
    Boolean(bool),
    /// An integer.
    Integer(i64),
    /// An integer without sign.
    Unsigned(u64),
    /// A number with a fraction.
    Float(f64),
    /// A time in nanoseconds since 1970.
    Time(i64),
    /// A length of time in nanoseconds.
    Duration(i64),
    /// A stored message, or a list.
    Message(Value),
}

impl Cell<'_> {
    /// The cell as JSON.
    pub(crate) fn into_json(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Text(text) => text.into(),
            Self::Written(text) => text.into(),
            Self::Boolean(truth) => truth.into(),
            Self::Integer(number) | Self::Duration(number) => number.into(),
            Self::Unsigned(number) => number.into(),
            // JSON has no infinities; they become null.
            Self::Float(number) => number.into(),
            Self::Time(nanos) => rfc3339(nanos).into(),
            Self::Message(value) => value,
        }
    }
}

/// A column, in the one type of its family.
#[derive(Debug)]
pub(crate) enum Column {
    Text(StringViewArray),
    /// Lists of texts, each written as a JSON array.
    Texts(StringViewArray),
    Boolean(BooleanArray),
    Integer(Int64Array),
    Duration(Int64Array),
    Unsigned(arrow::array::UInt64Array),
    Float(arrow::array::Float64Array),
    /// Nanoseconds since 1970.
    Time(Int64Array),
    Id(FixedSizeBinaryArray),
    Bytes(BinaryViewArray, Option<Kind>),
    Other(ArrayRef),
}

impl Column {
    /// Takes a column of a batch.
    ///
    /// # Errors
    /// [`ArrowError`] when its values do not fit the family's type, such as
    /// times outside the years that nanoseconds reach.
    pub(crate) fn new(field: &Field, array: &ArrayRef) -> Result<Self, ArrowError> {
        let to = |data_type: &DataType| cast(array, data_type);
        Ok(match array.data_type() {
            data_type if is_text(data_type) => {
                let texts = to(&DataType::Utf8View)?.as_string_view().clone();
                if holds_lists(field) {
                    Self::Texts(texts)
                } else {
                    Self::Text(texts)
                }
            }
            DataType::Boolean => Self::Boolean(array.as_boolean().clone()),
            data_type if data_type.is_signed_integer() => {
                let integers = to(&DataType::Int64)?.as_primitive::<Int64Type>().clone();
                if is_duration(field) {
                    Self::Duration(integers)
                } else {
                    Self::Integer(integers)
                }
            }
            data_type if data_type.is_unsigned_integer() => {
                Self::Unsigned(to(&DataType::UInt64)?.as_primitive::<UInt64Type>().clone())
            }
            data_type if data_type.is_floating() => Self::Float(
                to(&DataType::Float64)?
                    .as_primitive::<Float64Type>()
                    .clone(),
            ),
            DataType::Timestamp(..) => {
                let nanos = to(&DataType::Timestamp(
                    TimeUnit::Nanosecond,
                    Some("UTC".into()),
                ))?;
                Self::Time(
                    cast(&nanos, &DataType::Int64)?
                        .as_primitive::<Int64Type>()
                        .clone(),
                )
            }
            DataType::FixedSizeBinary(_) => Self::Id(array.as_fixed_size_binary().clone()),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Self::Bytes(
                to(&DataType::BinaryView)?.as_binary_view().clone(),
                Kind::of_column(field.name()),
            ),
            _ => Self::Other(array.clone()),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Text(array) | Self::Texts(array) => array.is_null(row),
            Self::Boolean(array) => array.is_null(row),
            Self::Integer(array) | Self::Duration(array) | Self::Time(array) => array.is_null(row),
            Self::Unsigned(array) => array.is_null(row),
            Self::Float(array) => array.is_null(row),
            Self::Id(array) => array.is_null(row),
            Self::Bytes(array, _) => array.is_null(row),
            Self::Other(array) => array.is_null(row),
        }
    }

    /// The value in a row of the batch.
    ///
    /// # Errors
    /// [`ArrowError`] when Arrow cannot write a value of an unusual type.
    pub(crate) fn cell(&self, row: usize) -> Result<Cell<'_>, ArrowError> {
        if self.is_null(row) {
            return Ok(Cell::Null);
        }
        Ok(match self {
            Self::Text(array) => Cell::Text(array.value(row)),
            Self::Texts(array) => {
                let text = array.value(row);
                // A column of an SQL query may have the name and other texts.
                match serde_json::from_str::<Vec<String>>(text) {
                    Ok(texts) => Cell::Message(texts.into()),
                    Err(_) => Cell::Text(text),
                }
            }
            Self::Boolean(array) => Cell::Boolean(array.value(row)),
            Self::Integer(array) => Cell::Integer(array.value(row)),
            Self::Duration(array) => Cell::Duration(array.value(row)),
            Self::Unsigned(array) => Cell::Unsigned(array.value(row)),
            Self::Float(array) => Cell::Float(array.value(row)),
            Self::Time(array) => Cell::Time(array.value(row)),
            Self::Id(array) => Cell::Written(to_hex(array.value(row))),
            Self::Bytes(array, kind) => {
                let bytes = array.value(row);
                match kind.and_then(|kind| kind.decode(bytes)) {
                    Some(value) => Cell::Message(value),
                    None => Cell::Written(BASE64.encode(bytes)),
                }
            }
            Self::Other(array) => {
                let formatter = ArrayFormatter::try_new(array, &FormatOptions::default())?;
                Cell::Written(formatter.value(row).try_to_string()?)
            }
        })
    }
}

/// Whether a column is the duration of spans or requests.
fn is_duration(field: &Field) -> bool {
    field.name() == SpanColumn::Duration.name() && field.data_type() == &DataType::Int64
}

/// Whether the texts of a column are lists of texts.
fn holds_lists(field: &Field) -> bool {
    let lists = [RequestColumn::Services, RequestColumn::Resources];
    lists.iter().any(|column| column.name() == field.name())
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => values.is_string(),
        data_type => data_type.is_string(),
    }
}

/// The name under which JSON and CSV show a column; none for `rest`, whose
/// bytes say nothing to a reader.
pub(crate) fn shown_name(field: &Field) -> Option<&str> {
    let name = field.name();
    if name == SpanColumn::Rest.name() && is_bytes(field.data_type()) {
        return None;
    }
    Some(if is_duration(field) {
        "duration_ns"
    } else {
        name
    })
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView
    )
}
