//! Patterns that take long to compile, compiled once for a condition: it is evaluated on the
//! different values of each row group and of each batch in memory.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, Like, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use regex::{Regex, RegexBuilder};

/// The expression with its constant patterns compiled; those that Arrow searches for without
/// a regular expression stay.
pub(super) fn compiled(expr: Expr) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        let (text, pattern) = match &expr {
            Expr::Like(Like {
                negated,
                expr: text,
                pattern,
                escape_char: None,
                case_insensitive,
            }) => {
                let pattern = constant(pattern).filter(|like| is_slow(like, *case_insensitive));
                let pattern = pattern.map(of_like);
                (
                    text,
                    pattern.and_then(|one| Pattern::new(&one, *case_insensitive, *negated)),
                )
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let kind = match op {
                    Operator::RegexMatch => Some((false, false)),
                    Operator::RegexNotMatch => Some((false, true)),
                    Operator::RegexIMatch => Some((true, false)),
                    Operator::RegexNotIMatch => Some((true, true)),
                    _ => None,
                };
                let pattern = kind.zip(constant(right));
                let pattern = pattern.and_then(|((ignores_case, is_negated), pattern)| {
                    Pattern::new(pattern, ignores_case, is_negated)
                });
                (left, pattern)
            }
            _ => return Ok(Transformed::no(expr)),
        };
        Ok(match pattern {
            Some(pattern) => {
                let call = ScalarUDF::from(pattern).call(vec![(**text).clone()]);
                Transformed::yes(call)
            }
            None => Transformed::no(expr),
        })
    })
}

fn constant(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
}

/// Whether Arrow makes a regular expression of a `like` pattern.
fn is_slow(like: &str, ignores_case: bool) -> bool {
    let without_start = like.strip_prefix('%');
    let inner = without_start.unwrap_or(like);
    let without_end = inner.strip_suffix('%');
    let is_search = without_start.is_some() && without_end.is_some();
    let inner = without_end.unwrap_or(inner);
    inner.contains(['%', '_', '\\']) || ignores_case && is_search
}

/// The regular expression of a `like` pattern, in which a backslash stands before what means
/// itself.
fn of_like(like: &str) -> String {
    // `%` and `_` stand for line ends too.
    let mut out = String::with_capacity(2 * like.len());
    out.push_str("(?s)");
    let mut rest = like;
    match rest.strip_prefix('%') {
        Some(behind) => rest = behind,
        None => out.push('^'),
    }
    let mut characters = rest.chars();
    let mut ends_with_any = false;
    while let Some(character) = characters.next() {
        ends_with_any = character == '%';
        let literal = match character {
            '%' if characters.as_str().is_empty() => break,
            '%' => {
                out.push_str(".*");
                continue;
            }
            '_' => {
                out.push('.');
                continue;
            }
            '\\' => characters.next().unwrap_or('\\'),
            other => other,
        };
        out.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4])));
    }
    if !ends_with_any {
        out.push('$');
    }
    out
}

/// Whether texts match a regular expression.
#[derive(Debug)]
struct Pattern {
    name: String,
    regex: Regex,
    is_negated: bool,
    signature: Signature,
}

impl Pattern {
    /// None when it does not compile: then DataFusion says why.
    fn new(pattern: &str, ignores_case: bool, is_negated: bool) -> Option<Self> {
        let regex = RegexBuilder::new(pattern)
            .case_insensitive(ignores_case)
            .build();
        Some(Self {
            name: format!("matches {pattern} {ignores_case} {is_negated}"),
            regex: regex.ok()?,
            is_negated,
            signature: Signature::any(1, Volatility::Immutable),
        })
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Pattern {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [texts] = arguments.args.as_slice() else {
            return internal_err!("a pattern and {} texts", arguments.args.len());
        };
        let texts = cast(&texts.to_array(arguments.number_rows)?, &DataType::Utf8View)?;
        let matches = |text: Option<&str>| {
            let matches = self.regex.is_match(text?);
            Some(matches != self.is_negated)
        };
        let texts = texts.as_string_view().iter();
        let truth: ArrayRef = Arc::new(texts.map(matches).collect::<BooleanArray>());
        Ok(ColumnarValue::Array(truth))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, RecordBatch, StringViewArray};
    use arrow::datatypes::{Field, Schema};
    use datafusion::common::DFSchema;
    use datafusion::execution::context::SessionContext;
    use datafusion::prelude::{binary_expr, col, lit};

    use super::*;

    const TEXTS: [Option<&str>; 12] = [
        Some(""),
        Some("abc"),
        Some("ABC"),
        Some("xAbCx\nabc"),
        Some("a.c"),
        Some("a%c"),
        Some("a_c\\"),
        Some("straße"),
        Some("STRASSE ẞ"),
        Some("İi"),
        Some("a\nc"),
        None,
    ];

    fn truth(expr: Expr) -> BooleanArray {
        let texts: ArrayRef = Arc::new(TEXTS.iter().collect::<StringViewArray>());
        let field = Field::new("t", DataType::Utf8View, true);
        let schema = Arc::new(Schema::new(vec![field]));
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![texts]).unwrap();
        let schema = DFSchema::try_from(schema).unwrap();
        let context = SessionContext::new();
        let expr = context.create_physical_expr(expr, &schema).unwrap();
        let truth = expr.evaluate(&rows).unwrap().into_array(TEXTS.len());
        truth.unwrap().as_boolean().clone()
    }

    #[test]
    fn compiled_patterns_say_what_arrow_says() {
        let likes = [
            "%b%", "a%c", "a_c", "%a\\_c%", "a\\%c", "_", "__%", "%", "%%", "", "%ß%", "%ss%",
            "%i%", "%.%", "a.c", "\\a%c", "%(%", "%x\\", "%\\%", "ABC", "%c", "a%", "%a_C%",
            "%\\\\",
        ];
        for like in likes {
            for (negated, ignores_case) in
                [(false, false), (true, false), (false, true), (true, true)]
            {
                let pattern = Box::new(lit(like));
                let expr = Expr::Like(Like::new(
                    negated,
                    Box::new(col("t")),
                    pattern,
                    None,
                    ignores_case,
                ));
                let found = compiled(expr.clone()).unwrap();
                assert_eq!(found.transformed, is_slow(like, ignores_case), "{like}");
                let truth_of_found = truth(found.data);
                assert_eq!(truth_of_found.null_count(), 1);
                assert_eq!(
                    truth_of_found,
                    truth(expr),
                    "{like} {negated} {ignores_case}"
                );
            }
        }
        let operators = [
            Operator::RegexMatch,
            Operator::RegexNotMatch,
            Operator::RegexIMatch,
            Operator::RegexNotIMatch,
        ];
        for pattern in ["b", "^a.c$", "", "[aß]+$", "(?i)SS", "a.c|İ"] {
            for operator in operators {
                let expr = binary_expr(col("t"), operator, lit(pattern));
                let found = compiled(expr.clone()).unwrap();
                assert!(found.transformed);
                assert_eq!(truth(found.data), truth(expr), "{pattern} {operator}");
            }
        }
        // What does not compile is left to be told by DataFusion.
        let expr = binary_expr(col("t"), Operator::RegexMatch, lit("("));
        assert!(!compiled(expr).unwrap().transformed);
    }
}
