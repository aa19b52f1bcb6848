//! Literals, read by the kind of the column they are compared with.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

use super::FilterError;
use super::columns::Kind;
use super::nearest::nearest;
use super::syntax::Literal;

/// A text that DataFusion compares with our text columns as they are.
pub(super) fn text(content: &str) -> ScalarValue {
    ScalarValue::Utf8View(Some(content.into()))
}

/// A text as filters have it.
pub(in crate::query) fn quoted(content: &str) -> String {
    format!("'{}'", content.replace('\'', "''"))
}

/// The constant of `kind` that `literal` stands for.
///
/// # Errors
/// [`FilterError::Unexpected`] when it stands for none.
pub(super) fn constant(
    kind: Kind,
    literal: &Literal,
    position: usize,
) -> Result<ScalarValue, FilterError> {
    let unexpected =
        |expected: &str| FilterError::unexpected(position, expected, literal.describe());
    match (kind, literal) {
        (_, Literal::Null) => Err(unexpected("a value (`is null` finds what has none)")),
        (Kind::OneOf(values), Literal::Text(content)) if !values.contains(content) => {
            let listed: Vec<String> = values.texts.iter().map(|text| quoted(text)).collect();
            let near = nearest(content, values.texts.iter().copied());
            let near = near
                .first()
                .map(|near| format!(", such as {}", quoted(near)));
            let (listed, near) = (listed.join(", "), near.unwrap_or_default());
            Err(unexpected(&format!("one of {listed}{near}")))
        }
        (Kind::Text | Kind::OneOf(_), Literal::Text(content)) => Ok(text(content)),
        (Kind::Text | Kind::OneOf(_), _) => Err(unexpected("a text in single quotes")),
        (Kind::Int32 | Kind::StatusCode, Literal::Integer(number)) => i32::try_from(*number)
            .map(|number| ScalarValue::Int32(Some(number)))
            .map_err(|_| unexpected("an integer of 32 bits")),
        (Kind::StatusCode, Literal::Text(digits)) => digits
            .parse()
            .map(|number| ScalarValue::Int32(Some(number)))
            .map_err(|_| unexpected("a status code such as 500, or with `=` and `!=` '5xx'")),
        (Kind::StatusCode, _) => Err(unexpected("a status code such as 500 or '5xx'")),
        (Kind::Int64, Literal::Integer(number)) => Ok(ScalarValue::Int64(Some(*number))),
        (Kind::Int32 | Kind::Int64, _) => Err(unexpected("an integer")),
        (Kind::UInt32, Literal::Integer(number)) => u32::try_from(*number)
            .map(|number| ScalarValue::UInt32(Some(number)))
            .map_err(|_| unexpected("an integer from 0 to 4294967295")),
        (Kind::UInt32, _) => Err(unexpected("an integer from 0 to 4294967295")),
        (Kind::Duration, Literal::Integer(nanos)) => Ok(ScalarValue::Int64(Some(*nanos))),
        (Kind::Duration, Literal::Text(content)) => duration(content)
            .map(|nanos| ScalarValue::Int64(Some(nanos)))
            .ok_or_else(|| unexpected(DURATION)),
        (Kind::Duration, _) => Err(unexpected(DURATION)),
        (Kind::Time, Literal::Integer(nanos)) => Ok(time_constant(*nanos)),
        (Kind::Time, Literal::Text(content)) => time(content)
            .map(time_constant)
            .ok_or_else(|| unexpected(TIME)),
        (Kind::Time, _) => Err(unexpected(TIME)),
        (Kind::Boolean, Literal::Boolean(truth)) => Ok(ScalarValue::Boolean(Some(*truth))),
        (Kind::Boolean, _) => Err(unexpected("`true` or `false`")),
        (Kind::Id(id), Literal::Text(digits)) => match id.read(digits) {
            Ok(bytes) => Ok(ScalarValue::FixedSizeBinary(id.bytes(), Some(bytes))),
            Err(invalid) => Err(unexpected(invalid.expected)),
        },
        (Kind::Id(_), _) => Err(unexpected("an id in single quotes")),
        (Kind::Encoded, _) => Err(unexpected("no literal, since the column is encoded")),
    }
}

/// The bounds of a class of status codes, the upper one excluded: `5xx` is
/// 500 to 600.
pub(super) fn status_class(text: &str) -> Option<(i32, i32)> {
    match text.as_bytes() {
        [class @ b'1'..=b'9', b'x' | b'X', b'x' | b'X'] => {
            let low = i32::from(class - b'0') * 100;
            Some((low, low + 100))
        }
        _ => None,
    }
}

const DURATION: &str =
    "a duration: nanoseconds, or a text such as '250ms' (units ns, us, ms, s, m, h)";

/// The nanoseconds of a text such as `1.5s`; a whole number of them.
fn duration(text: &str) -> Option<i64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text),
    };
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(unit_at);
    let unit: i128 = match unit.trim_start() {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // More digits than these overflow, or are finer than a nanosecond.
    if whole.is_empty() || whole.len() > 19 || fraction.len() > 13 {
        return None;
    }
    let scale = 10_i128.pow(fraction.len() as u32);
    let scaled = format!("{whole}{fraction}")
        .parse::<i128>()
        .ok()?
        .checked_mul(unit)?;
    if scaled % scale != 0 {
        return None;
    }
    i64::try_from(sign * scaled / scale).ok()
}

const TIME: &str = "a time: nanoseconds since 1970, or a text such as '2026-11-20T10:00:00Z' or \
                    '2026-11-20'";

/// The nanoseconds since 1970 of an RFC 3339 time, or of midnight UTC.
fn time(text: &str) -> Option<i64> {
    let timestamp = match text.len() {
        10 => {
            let midnight = text.parse::<Date>().ok()?.at(0, 0, 0, 0);
            Offset::UTC.to_timestamp(midnight).ok()?
        }
        _ => text.parse::<Timestamp>().ok()?,
    };
    i64::try_from(timestamp.as_nanosecond()).ok()
}

fn time_constant(nanos: i64) -> ScalarValue {
    ScalarValue::TimestampNanosecond(Some(nanos), Some(Arc::from("UTC")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("100ns", Some(100)),
            ("10us", Some(10_000)),
            ("10µs", Some(10_000)),
            ("250ms", Some(250_000_000)),
            ("250 ms", Some(250_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("-1.5s", Some(-1_500_000_000)),
            ("2m", Some(120_000_000_000)),
            ("0.5h", Some(1_800_000_000_000)),
            ("0.000000001s", Some(1)),
            ("9223372036854775807ns", Some(i64::MAX)),
            ("9223372036854775808ns", None),
            ("9999999999999999999h", None),
            ("99999999999999999999999999999999999999999h", None),
            ("0.0000000001s", None),
            ("1.5ns", None),
            ("1.2.3s", None),
            ("1", None),
            ("ms", None),
            (".5s", None),
            ("", None),
            ("5 parsecs", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn times() {
        for (text, expected) in [
            ("1970-01-01", Some(0)),
            ("2026-11-20", Some(1_795_132_800_000_000_000)),
            ("2026-11-20T10:00:00Z", Some(1_795_168_800_000_000_000)),
            (
                "2026-11-20T11:00:00.000000001+01:00",
                Some(1_795_168_800_000_000_001),
            ),
            ("1677-09-21T00:12:43.145224192Z", Some(i64::MIN)),
            ("2262-04-11T23:47:16.854775807Z", Some(i64::MAX)),
            ("2262-04-11T23:47:16.854775808Z", None),
            ("1600-01-01", None),
            ("2026-02-30", None),
            ("2026-11-20T10:00:00", None),
            ("yesterday", None),
            ("yesterday.", None),
            ("", None),
        ] {
            assert_eq!(time(text), expected, "{text}");
        }
    }

    #[test]
    fn classes_of_status_codes() {
        assert_eq!(status_class("5xx"), Some((500, 600)));
        assert_eq!(status_class("4XX"), Some((400, 500)));
        for other in ["0xx", "xx", "50x", "5xxx", ""] {
            assert_eq!(status_class(other), None, "{other}");
        }
    }
}
