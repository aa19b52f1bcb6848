//! The functions that the store adds to DataFusion.
//!
//! | function | result |
//! |---|---|
//! | `attribute(attributes, 'key')`, `resource_attribute(resource_attributes, 'key')` | the attribute's text, null when absent |
//! | `attribute_number(…)`, `resource_attribute_number(…)` | its number, null when absent or no number |
//! | `has_attribute(…)`, `has_resource_attribute(…)` | whether it is there, never null |
//! | `hex(bytes)` | lower-case hexadecimal digits, such as an id's |
//! | `trace_id('digits')`, `span_id('digits')` | the id of hexadecimal digits |
//!
//! All are immutable, so DataFusion folds them over constants. `any_span('filter')` is no
//! function of rows alone, see [`super::any_span`].

use std::any::Any;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryBuilder, StringViewArray};
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExpressionPlacement, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::prelude::lit;
use spanstore_format::id::to_hex;
use spanstore_format::segment::promotion::Owner;
use spanstore_format::segment::promotion::access::{Aspect, Attribute};
use spanstore_format::span::SpanColumn;
use spanstore_format::{InvalidId, SpanId, TraceId};

/// Every function of the store, to register in a session.
pub(crate) fn all() -> Vec<Arc<ScalarUDF>> {
    let owners = [Owner::Span, Owner::Resource];
    let attributes = owners.into_iter().flat_map(|owner| {
        [Aspect::Text, Aspect::Number, Aspect::Presence]
            .map(|aspect| attribute_function(owner, aspect))
    });
    let hex = ScalarUDF::new_from_impl(Hex {
        signature: Signature::any(1, Volatility::Immutable),
    });
    let ids = [IdKind::Trace, IdKind::Span]
        .map(|kind| Arc::new(ScalarUDF::new_from_impl(ReadId::new(kind))));
    attributes.chain([Arc::new(hex)]).chain(ids).collect()
}

/// The owner of what a filter or an SQL text calls `attributes` or `resource`.
pub(crate) fn owner(name: &str) -> Option<Owner> {
    match name {
        "attributes" => Some(Owner::Span),
        "resource" => Some(Owner::Resource),
        _ => None,
    }
}

/// The expression that reads `aspect` of the attribute `key` out of `column`,
/// the column of its owner.
pub(crate) fn attribute_expr(owner: Owner, aspect: Aspect, column: Expr, key: &str) -> Expr {
    let key = lit(ScalarValue::Utf8View(Some(key.into())));
    attribute_function(owner, aspect).call(vec![column, key])
}

fn attribute_function(owner: Owner, aspect: Aspect) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(ReadAttribute::new(owner, aspect)))
}

/// An expression that reads an attribute by a constant key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AttributeAccess<'a> {
    /// Whose attribute.
    pub(crate) owner: Owner,
    /// What of it.
    pub(crate) aspect: Aspect,
    /// The column that it is read out of.
    pub(crate) column: &'a Expr,
    /// Its key.
    pub(crate) key: &'a str,
}

impl<'a> AttributeAccess<'a> {
    /// The access that `expr` is, if it is one.
    pub(crate) fn of(expr: &'a Expr) -> Option<Self> {
        let Expr::ScalarFunction(call) = expr else {
            return None;
        };
        let implementation: &dyn Any = call.func.inner().as_ref();
        let ReadAttribute { owner, aspect, .. } = *implementation.downcast_ref()?;
        match call.args.as_slice() {
            [column, Expr::Literal(key, _)] => {
                let key = key.try_as_str().flatten()?;
                Some(Self {
                    owner,
                    aspect,
                    column,
                    key,
                })
            }
            _ => None,
        }
    }
}

/// `attribute` and its kin.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ReadAttribute {
    owner: Owner,
    aspect: Aspect,
    signature: Signature,
}

impl ReadAttribute {
    fn new(owner: Owner, aspect: Aspect) -> Self {
        let arguments = vec![DataType::BinaryView, DataType::Utf8View];
        Self {
            owner,
            aspect,
            signature: Signature::exact(arguments, Volatility::Immutable),
        }
    }
}

impl ReadAttribute {
    /// What the function reads when this is the key.
    pub(super) fn attribute(&self, key: &str) -> Attribute {
        Attribute {
            owner: self.owner,
            key: key.to_owned(),
            aspect: self.aspect,
        }
    }
}

impl ScalarUDFImpl for ReadAttribute {
    fn name(&self) -> &'static str {
        match (self.owner, self.aspect) {
            (Owner::Span, Aspect::Text) => "attribute",
            (Owner::Span, Aspect::Number) => "attribute_number",
            (Owner::Span, Aspect::Presence) => "has_attribute",
            (Owner::Resource, Aspect::Text) => "resource_attribute",
            (Owner::Resource, Aspect::Number) => "resource_attribute_number",
            (Owner::Resource, Aspect::Presence) => "has_resource_attribute",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.aspect.data_type())
    }

    /// The scan reads single attributes best: see `scan_exec`.
    fn placement(&self, arguments: &[ExpressionPlacement]) -> ExpressionPlacement {
        match arguments {
            [ExpressionPlacement::Column, ExpressionPlacement::Literal] => {
                ExpressionPlacement::MoveTowardsLeafNodes
            }
            _ => ExpressionPlacement::KeepInPlace,
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [messages, ColumnarValue::Scalar(key)] = arguments.args.as_slice() else {
            return exec_err!("{}: the key is to be a constant", self.name());
        };
        let Some(key) = key.try_as_str().flatten() else {
            return exec_err!("{}: the key is to be a text", self.name());
        };
        let attribute = self.attribute(key);
        over_rows(messages, |messages| match messages.as_binary_view_opt() {
            Some(messages) => Ok(attribute.read(messages)),
            None => exec_err!("{}: found {}", self.name(), messages.data_type()),
        })
    }
}

/// `hex`
#[derive(Debug, PartialEq, Eq, Hash)]
struct Hex {
    signature: Signature,
}

impl ScalarUDFImpl for Hex {
    fn name(&self) -> &'static str {
        "hex"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [DataType::FixedSizeBinary(_) | DataType::Binary | DataType::BinaryView] => {
                Ok(DataType::Utf8View)
            }
            other => exec_err!("hex: expected bytes, found {other:?}"),
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [bytes] = arguments.args.as_slice() else {
            return exec_err!("hex: expected one argument, found {}", arguments.args.len());
        };
        over_rows(bytes, |bytes| {
            let texts: StringViewArray = if let Some(ids) = bytes.as_fixed_size_binary_opt() {
                ids.iter().map(|row| row.map(to_hex)).collect()
            } else if let Some(bytes) = bytes.as_binary_view_opt() {
                bytes.iter().map(|row| row.map(to_hex)).collect()
            } else if let Some(bytes) = bytes.as_binary_opt::<i32>() {
                bytes.iter().map(|row| row.map(to_hex)).collect()
            } else {
                return exec_err!("hex: expected bytes, found {}", bytes.data_type());
            };
            Ok(Arc::new(texts))
        })
    }
}

/// Which id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum IdKind {
    /// A trace's.
    Trace,
    /// A span's.
    Span,
}

impl IdKind {
    /// The kind of id that a column of this type holds.
    pub(crate) fn of(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::FixedSizeBinary(16) => Some(Self::Trace),
            DataType::FixedSizeBinary(8) => Some(Self::Span),
            _ => None,
        }
    }

    /// The bytes of the id that hexadecimal digits stand for.
    pub(crate) fn read(self, digits: &str) -> Result<Vec<u8>, InvalidId> {
        Ok(match self {
            Self::Trace => digits.parse::<TraceId>()?.0.to_vec(),
            Self::Span => digits.parse::<SpanId>()?.0.to_vec(),
        })
    }

    /// How many bytes the id has.
    pub(crate) fn bytes(self) -> i32 {
        match self {
            Self::Trace => 16,
            Self::Span => 8,
        }
    }
}

/// `trace_id` and `span_id`
#[derive(Debug, PartialEq, Eq, Hash)]
struct ReadId {
    kind: IdKind,
    signature: Signature,
}

impl ReadId {
    fn new(kind: IdKind) -> Self {
        let arguments = vec![DataType::Utf8View];
        Self {
            kind,
            signature: Signature::exact(arguments, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for ReadId {
    fn name(&self) -> &'static str {
        match self.kind {
            IdKind::Trace => SpanColumn::TraceId.name(),
            IdKind::Span => SpanColumn::SpanId.name(),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::FixedSizeBinary(self.kind.bytes()))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [digits] = arguments.args.as_slice() else {
            return exec_err!("{}: expected one argument", self.name());
        };
        over_rows(digits, |digits| {
            let Some(digits) = digits.as_string_view_opt() else {
                return exec_err!("{}: found {}", self.name(), digits.data_type());
            };
            let mut ids = FixedSizeBinaryBuilder::with_capacity(digits.len(), self.kind.bytes());
            for row in digits {
                match row {
                    None => ids.append_null(),
                    Some(digits) => {
                        let id = self.kind.read(digits);
                        ids.append_value(
                            id.map_err(|error| DataFusionError::External(error.into()))?,
                        )?;
                    }
                }
            }
            Ok(Arc::new(ids.finish()))
        })
    }
}

/// Applies `function` to the rows of an argument; a constant is one row.
pub(super) fn over_rows(
    argument: &ColumnarValue,
    function: impl FnOnce(&ArrayRef) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    Ok(match argument {
        ColumnarValue::Array(rows) => ColumnarValue::Array(function(rows)?),
        ColumnarValue::Scalar(constant) => {
            let row = function(&constant.to_array()?)?;
            ColumnarValue::Scalar(ScalarValue::try_from_array(&row, 0)?)
        }
    })
}

#[cfg(test)]
mod tests;
