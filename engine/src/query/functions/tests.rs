use arrow::array::Int64Array;
use arrow::datatypes::{Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use prost::Message;
use spanstore_format::otlp::{AnyValue, KeyValue, Resource, Span, Value};

use arrow::array::{BinaryViewArray, BooleanArray, Float64Array};

use super::*;

fn function(name: &str) -> Arc<ScalarUDF> {
    all()
        .into_iter()
        .find(|function| function.name() == name)
        .unwrap()
}

fn call(name: &str, args: Vec<ColumnarValue>, rows: usize) -> Result<ColumnarValue> {
    let function = function(name);
    let types: Vec<_> = args.iter().map(ColumnarValue::data_type).collect();
    let field =
        |data_type: &DataType| -> FieldRef { Arc::new(Field::new("", data_type.clone(), true)) };
    function.invoke_with_args(ScalarFunctionArgs {
        args,
        arg_fields: types.iter().map(field).collect(),
        number_rows: rows,
        return_field: field(&function.return_type(&types)?),
        config_options: Arc::new(ConfigOptions::default()),
    })
}

fn text(text: &str) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::Utf8View(Some(text.into())))
}

fn array(value: ColumnarValue) -> ArrayRef {
    value.into_array(1).unwrap()
}

#[test]
fn attributes_of_spans_and_resources() {
    let attributes = vec![
        KeyValue {
            key: "n".into(),
            value: Some(AnyValue {
                value: Some(Value::StringValue("12".into())),
            }),
            ..KeyValue::default()
        },
        KeyValue {
            key: "empty".into(),
            ..KeyValue::default()
        },
    ];
    let span = Span {
        attributes: attributes.clone(),
        ..Span::default()
    }
    .encode_to_vec();
    let resource = Resource {
        attributes,
        ..Resource::default()
    }
    .encode_to_vec();
    for (prefix, message, has) in [
        ("", span, "has_attribute"),
        ("resource_", resource, "has_resource_attribute"),
    ] {
        let damaged = [0xff_u8; 4];
        let messages: ArrayRef = Arc::new(BinaryViewArray::from_iter([
            Some(&message[..]),
            None,
            Some(&damaged[..]),
        ]));
        let call = |name: &str, key| {
            array(
                call(
                    name,
                    vec![ColumnarValue::Array(Arc::clone(&messages)), text(key)],
                    3,
                )
                .unwrap(),
            )
        };
        let texts = call(&format!("{prefix}attribute"), "n");
        assert_eq!(
            texts.as_string_view(),
            &StringViewArray::from_iter([Some("12"), None, None])
        );
        let numbers = call(&format!("{prefix}attribute_number"), "n");
        assert_eq!(
            numbers.as_ref(),
            &Float64Array::from_iter([Some(12.0), None, None]) as &dyn Array
        );
        for (key, expected) in [("n", true), ("empty", true), ("other", false)] {
            let expected = BooleanArray::from(vec![expected, false, false]);
            assert_eq!(call(has, key).as_boolean(), &expected, "{key}");
        }
        assert_eq!(call(&format!("{prefix}attribute"), "empty").null_count(), 3);
    }
    let keys: ArrayRef = Arc::new(StringViewArray::from_iter_values(["n"]));
    let message = ColumnarValue::Scalar(ScalarValue::BinaryView(Some(Vec::new())));
    let error = call("attribute", vec![message, ColumnarValue::Array(keys)], 1).unwrap_err();
    assert!(error.to_string().contains("constant"), "{error}");
}

#[test]
fn ids_and_digits() {
    let digits = "000000000000000000000000000000ff";
    let id = array(call("trace_id", vec![text("FF")], 1).unwrap());
    assert_eq!(id.as_fixed_size_binary().value(0)[15], 0xff);
    let back = array(call("hex", vec![ColumnarValue::Array(id)], 1).unwrap());
    assert_eq!(back.as_string_view().value(0), digits);
    let id = array(call("span_id", vec![text("0102030405060708")], 1).unwrap());
    assert_eq!(id.as_fixed_size_binary().value(0), [1, 2, 3, 4, 5, 6, 7, 8]);

    let column: ArrayRef = Arc::new(StringViewArray::from_iter([Some("1"), None]));
    let ids = array(call("span_id", vec![ColumnarValue::Array(column)], 2).unwrap());
    assert!(ids.is_valid(0) && ids.is_null(1));
    for bad in ["", "0", "xyz", "11112222333344445"] {
        assert!(call("span_id", vec![text(bad)], 1).is_err(), "{bad}");
    }
    let bytes: ArrayRef = Arc::new(BinaryViewArray::from_iter([Some(&b"\x00\xab"[..]), None]));
    let back = array(call("hex", vec![ColumnarValue::Array(bytes)], 2).unwrap());
    assert_eq!(
        back.as_string_view(),
        &StringViewArray::from_iter([Some("00ab"), None])
    );
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    assert!(call("hex", vec![ColumnarValue::Array(numbers)], 1).is_err());
}

#[test]
fn access_is_recognised() {
    let column = datafusion::prelude::col("attributes");
    let expr = attribute_expr(Owner::Span, Aspect::Number, column.clone(), "k");
    let access = AttributeAccess::of(&expr).unwrap();
    let expected = AttributeAccess {
        owner: Owner::Span,
        aspect: Aspect::Number,
        column: &column,
        key: "k",
    };
    assert_eq!(access, expected);
    assert_eq!(AttributeAccess::of(&column), None);
    assert_eq!(
        AttributeAccess::of(&function("hex").call(vec![column])),
        None
    );
}
