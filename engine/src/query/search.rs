//! `search('text')`: whether a text of a span has another in it, in any case.
//!
//! It is asked of columns of texts, of the messages of events, and of attributes, of which the
//! read path knows which have columns of their own ([`OfAnyAttribute`]).

use std::any::Any;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float64Type, Int32Type, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::lit;
use memchr::{memchr2, memchr2_iter};
use regex::bytes::{Regex, RegexBuilder};
use spanstore_format::span::SpanColumn;
use spanstore_format::span::attribute::{SPAN_FIELD, any_text};
use spanstore_format::span::column::Source;
use spanstore_format::span::event::any_text_of_events;
use spanstore_format::table::{ColumnType, Table};

use super::filter::quoted;
use super::functions::over_rows;
use crate::error::Error;
use crate::read::condition::{OfAnyAttribute, Predicate};

/// A text that is looked for.
#[derive(Debug)]
pub(super) struct Needle {
    text: String,
    /// It in any case, of any script.
    regex: Regex,
    /// Where all of it is ASCII.
    ascii: Option<Ascii>,
    /// Whether a number or a boolean may have it.
    may_be_in_numbers: bool,
}

/// The space and letters, the most frequent one first: where one of the last is, the text is
/// more likely.
const BY_FREQUENCY: &[u8] = b" etaoinsrhldcumfpgwybvkxjqz";

/// Bytes of a text that is compared at each place where it may be. For a longer one that would
/// take too long, and the regular expression looks at each byte once.
const MOST_COMPARED: usize = 64;

#[derive(Debug)]
struct Ascii {
    /// It in small letters.
    lower: Vec<u8>,
    /// A byte of it that is rare, and its place.
    rare: u8,
    place: usize,
    /// Whether it has `k` or `s`, which are also the small letters of the sign of the Kelvin
    /// and of the long s.
    has_other_cases: bool,
}

impl Needle {
    /// None when it is longer than a regular expression may be.
    pub(super) fn new(text: &str) -> Option<Self> {
        let regex = RegexBuilder::new(&regex::escape(text))
            .case_insensitive(true)
            .build()
            .ok()?;
        let lower = text.to_lowercase();
        let is_of_number = |one: char| one.is_ascii_digit() || matches!(one, '-' | '.');
        let words = ["true", "false", "-inf", "NaN"];
        let may_be_in_numbers = text.chars().all(is_of_number)
            || words.iter().any(|word| regex.is_match(word.as_bytes()));
        let frequency = |byte: u8| BY_FREQUENCY.iter().rev().position(|one| *one == byte);
        let rarest = (0..)
            .zip(lower.bytes())
            .min_by_key(|(_, byte)| frequency(*byte));
        let is_compared = lower.is_ascii() && lower.len() <= MOST_COMPARED;
        let ascii = rarest.filter(|_| is_compared).map(|(place, rare)| Ascii {
            rare,
            place,
            has_other_cases: lower.contains(['k', 's']),
            lower: lower.clone().into_bytes(),
        });
        Some(Self {
            regex,
            ascii,
            may_be_in_numbers,
            text: text.to_owned(),
        })
    }

    /// Whether some bytes, in which texts lie as they are, have it.
    fn is_in(&self, bytes: &[u8]) -> bool {
        let Some(ascii) = &self.ascii else {
            return self.regex.is_match(bytes);
        };
        let mut found = memchr2_iter(ascii.rare, ascii.rare.to_ascii_uppercase(), bytes);
        let is_here = found.any(|at| {
            let start = at.checked_sub(ascii.place);
            let here = start.and_then(|start| bytes.get(start..start + ascii.lower.len()));
            here.is_some_and(|here| here.eq_ignore_ascii_case(&ascii.lower))
        });
        // The first bytes of these letters.
        let may_have_others = || ascii.has_other_cases && memchr2(0xc5, 0xe2, bytes).is_some();
        is_here || may_have_others() && self.regex.is_match(bytes)
    }

    fn is_in_text(&self, text: &str) -> bool {
        self.is_in(text.as_bytes())
    }

    fn is_in_message(&self, message: &[u8], are_events: bool) -> bool {
        if !self.may_be_in_numbers && !self.is_in(message) {
            return false;
        }
        if are_events {
            any_text_of_events(message, &|text| self.is_in_text(text))
        } else {
            any_text(message, SPAN_FIELD, &|text| self.is_in_text(text))
        }
    }

    /// For each of some values whether it is in its text; none for values of another type.
    fn in_values(&self, values: &ArrayRef) -> Option<BooleanArray> {
        let is_in = |text: &str| self.is_in_text(text);
        let truth: BooleanArray = if let Some(texts) = values.as_string_view_opt() {
            texts
                .iter()
                .map(|one| Some(one.is_some_and(is_in)))
                .collect()
        } else if let Some(numbers) = values.as_primitive_opt::<Int64Type>() {
            self.in_numbers(numbers)
        } else if let Some(numbers) = values.as_primitive_opt::<Int32Type>() {
            self.in_numbers(numbers)
        } else if let Some(numbers) = values.as_primitive_opt::<Float64Type>() {
            self.in_numbers(numbers)
        } else {
            let truths = values.as_boolean_opt()?;
            let is_in = |one: Option<bool>| one.is_some_and(|one| is_in(&one.to_string()));
            truths.iter().map(|one| Some(is_in(one))).collect()
        };
        Some(truth)
    }

    fn in_numbers<T>(&self, numbers: &PrimitiveArray<T>) -> BooleanArray
    where
        T: ArrowPrimitiveType<Native: ToString>,
    {
        let is_in = |number: T::Native| self.is_in_text(&number.to_string());
        let numbers = numbers.iter();
        numbers.map(|one| Some(one.is_some_and(is_in))).collect()
    }

    fn in_messages(&self, messages: &ArrayRef, are_events: bool) -> Option<BooleanArray> {
        let messages = messages.as_binary_view_opt()?.iter();
        let is_in = |message: &[u8]| self.is_in_message(message, are_events);
        Some(messages.map(|one| Some(one.is_some_and(is_in))).collect())
    }

    /// For each text whether it has it or ends with a beginning of it.
    fn in_beginnings(&self, texts: &ArrayRef) -> Option<BooleanArray> {
        let may_begin = |text: &str| {
            let bytes = text.as_bytes();
            // Cases of other letters are not looked into.
            let Some(ascii) = self.ascii.as_ref().filter(|_| text.is_ascii()) else {
                return true;
            };
            let ends = (1..=ascii.lower.len().min(bytes.len())).any(|length| {
                let end = bytes.get(bytes.len() - length..).unwrap_or_default();
                let start = ascii.lower.get(..length).unwrap_or_default();
                end.eq_ignore_ascii_case(start)
            });
            ends || self.is_in(bytes)
        };
        let texts = texts.as_string_view_opt()?.iter();
        Some(texts.map(|one| Some(one.is_some_and(may_begin))).collect())
    }

    /// The condition that a text of a span has it; never null.
    pub(super) fn in_span(self: &Arc<Self>) -> Vec<Expr> {
        let columns = self.columns();
        let columns = columns.chain([SpanColumn::Attributes, SpanColumn::Events]);
        columns.map(|column| self.in_column(column)).collect()
    }

    /// The condition that a column of texts of a table has it; never null.
    pub(super) fn in_texts(self: &Arc<Self>, table: &Table) -> Vec<Expr> {
        let columns = table.columns().iter();
        let texts = columns.filter(|column| column.is_visible && column.value == ColumnType::Text);
        texts
            .map(|column| self.in_values_of(column.name, Asked::Values))
            .collect()
    }

    /// The columns of values that may have it.
    fn columns(&self) -> impl Iterator<Item = SpanColumn> {
        let columns = SpanColumn::ALL.iter().copied();
        columns.filter(|column| match (column, column.source()) {
            (SpanColumn::Name | SpanColumn::StatusMessage, _) => true,
            (_, Source::Attributes(..)) => {
                let is_text = column.description().value == ColumnType::Text;
                is_text || self.may_be_in_numbers
            }
            _ => false,
        })
    }

    /// The condition that a column of spans has it; never null. Of attributes and events their
    /// texts are meant.
    fn in_column(self: &Arc<Self>, column: SpanColumn) -> Expr {
        let asked = match column {
            SpanColumn::Attributes => Asked::Attributes,
            SpanColumn::Events => Asked::Events,
            _ => Asked::Values,
        };
        self.in_values_of(column.name(), asked)
    }

    fn in_values_of(self: &Arc<Self>, column: &str, asked: Asked) -> Expr {
        let search = Search {
            asked,
            needle: Arc::clone(self),
            signature: Signature::any(2, Volatility::Immutable),
        };
        let of = Expr::Column(column.into());
        ScalarUDF::from(search).call(vec![of, lit(self.text.as_str())])
    }
}

/// What the read path has to know of a condition that is a search in attributes.
pub(super) fn of_any_attribute(condition: &Expr) -> Option<OfAnyAttribute> {
    let Expr::ScalarFunction(call) = condition else {
        return None;
    };
    let implementation: &dyn Any = call.func.inner().as_ref();
    let Search { asked, needle, .. } = implementation.downcast_ref()?;
    let of = |asked| {
        let needle = Arc::clone(needle);
        Arc::new(Searched { asked, needle })
    };
    (*asked == Asked::Attributes).then(|| OfAnyAttribute {
        of_values: of(Asked::Values),
        of_beginnings: of(Asked::Beginnings),
        of_messages: of(Asked::Attributes),
        may_be_in_numbers: needle.may_be_in_numbers,
        elsewhere: needle.columns().map(SpanColumn::place).collect(),
    })
}

/// What is asked of the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asked {
    /// Whether its texts, numbers or booleans have the text.
    Values,
    /// Whether its texts have it, or may with what comes behind.
    Beginnings,
    /// Whether messages of attributes have it.
    Attributes,
    /// Whether messages of events have it.
    Events,
}

impl Asked {
    fn of(self, needle: &Needle, values: &ArrayRef) -> Option<BooleanArray> {
        match self {
            Self::Values => needle.in_values(values),
            Self::Beginnings => needle.in_beginnings(values),
            Self::Attributes => needle.in_messages(values, false),
            Self::Events => needle.in_messages(values, true),
        }
    }
}

/// `search(column, 'text')`, as DataFusion evaluates it.
#[derive(Debug)]
struct Search {
    asked: Asked,
    needle: Arc<Needle>,
    signature: Signature,
}

impl PartialEq for Search {
    fn eq(&self, other: &Self) -> bool {
        (self.asked, &self.needle.text) == (other.asked, &other.needle.text)
    }
}

impl Eq for Search {}

impl Hash for Search {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.asked, &self.needle.text).hash(state);
    }
}

impl ScalarUDFImpl for Search {
    fn name(&self) -> &'static str {
        "search"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(values) = arguments.args.first() else {
            return exec_err!("search: expected a column");
        };
        over_rows(values, |values| match self.asked.of(&self.needle, values) {
            Some(truth) => Ok(Arc::new(truth)),
            None => exec_err!("search: expected texts, found {}", values.data_type()),
        })
    }
}

/// What is asked of a column of a segment.
#[derive(Debug)]
struct Searched {
    asked: Asked,
    needle: Arc<Needle>,
}

impl Predicate for Searched {
    fn holds(&self, rows: &RecordBatch) -> Result<BooleanArray, Error> {
        let values = rows.columns().first();
        let truth = values.and_then(|values| self.asked.of(&self.needle, values));
        truth.ok_or_else(|| Error::internal("search", &"values of another type"))
    }

    fn text(&self) -> String {
        format!("search({})", quoted(&self.needle.text))
    }
}
