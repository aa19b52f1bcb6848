//! `any_span('…')` in SQL: whether a trace has a span that fulfils a filter.
//!
//! The spans are looked for before the text is planned. In the text a function of the id of
//! the trace stands for what was found.

use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, plan_datafusion_err};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Statement,
    Value, visit_expressions_mut,
};
use spanstore_format::span::SpanColumn;

use super::condition;
use super::filter::{Filter, FilterLimits, Rows};
use super::job::{Holding, Job};
use super::requests::Traces;
use super::watched::external;
use crate::error::Error;

const NAME: &str = "any_span";

/// Calls in a text, at most: each looks for spans once.
const MOST_CALLS: usize = 16;

/// Looks for the spans that a text asks for, and puts functions of what was found in the
/// place of the calls.
///
/// # Errors
/// When the arguments are others than a filter, or the id of a trace and a filter; what the
/// filter and the search answer.
pub(super) async fn answered(
    statement: &mut Statement,
    job: &Job,
    context: &SessionContext,
) -> Result<()> {
    let mut filters: Vec<String> = Vec::new();
    let found = visit_expressions_mut(statement, |expr| match expr {
        Expr::Function(call) if is_any_span(call) => match renamed(call, filters.len()) {
            Some(filter) if filters.len() < MOST_CALLS => {
                filters.push(filter);
                ControlFlow::Continue(())
            }
            Some(_) => ControlFlow::Break(plan_datafusion_err!(
                "expected at most {MOST_CALLS} calls of {NAME}, found more"
            )),
            None => ControlFlow::Break(plan_datafusion_err!(
                "expected {NAME}('filter of spans') or {NAME}(trace_id, 'filter of spans'), \
                 found {call}"
            )),
        },
        _ => ControlFlow::Continue(()),
    });
    if let ControlFlow::Break(error) = found {
        return Err(error);
    }
    let state = context.state();
    let compile = |expr, schema: &DFSchema| state.create_physical_expr(expr, schema);
    for (number, filter) in filters.iter().enumerate() {
        let filter = Filter::parse(filter, &FilterLimits::default());
        let filter = filter.map_err(|error| external(error.into()))?;
        let spans = condition::of_filter(filter.expr(), &[], Rows::Spans.table(), &compile)?;
        let traces = job.traces_with_span(Arc::new(spans)).await;
        let (traces, held) = traces.map_err(external)?;
        context.register_udf(ScalarUDF::new_from_impl(HasSpan {
            name: name(number),
            traces,
            signature: Signature::exact(
                vec![SpanColumn::TraceId.description().value.data_type()],
                // What it answers depends on the spans that there are.
                Volatility::Stable,
            ),
            _held: held,
        }));
    }
    Ok(())
}

/// The function that stands for a call.
fn name(number: usize) -> String {
    format!("{NAME}_{number}")
}

fn is_any_span(call: &Function) -> bool {
    match call.name.0.as_slice() {
        [part] => part
            .as_ident()
            .is_some_and(|ident| ident.value.eq_ignore_ascii_case(NAME)),
        _ => false,
    }
}

/// Puts the function with a number in the place of a call, and answers the filter; none when
/// the arguments are others.
fn renamed(call: &mut Function, number: usize) -> Option<String> {
    let FunctionArguments::List(list) = &mut call.args else {
        return None;
    };
    let filter = match list.args.pop()? {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(literal))) => match literal.value {
            Value::SingleQuotedString(filter) => filter,
            _ => return None,
        },
        _ => return None,
    };
    if list.args.is_empty() {
        let trace = Ident::new(SpanColumn::TraceId.name());
        let trace = FunctionArgExpr::Expr(Expr::Identifier(trace));
        list.args.push(FunctionArg::Unnamed(trace));
    }
    call.name = ObjectName::from(vec![Ident::new(name(number))]);
    (list.args.len() == 1).then_some(filter)
}

/// Whether a trace is one of some.
#[derive(Debug)]
struct HasSpan {
    name: String,
    traces: Traces,
    signature: Signature,
    _held: Holding,
}

// Functions of one text have different names, and those of different texts never meet.
impl PartialEq for HasSpan {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for HasSpan {}

impl Hash for HasSpan {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for HasSpan {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let wrong = || external(Error::internal(NAME, &"expected ids of traces"));
        let ids = args.args.first().ok_or_else(wrong)?;
        let ids = ids.to_array(args.number_rows)?;
        let ids = ids.as_fixed_size_binary_opt().ok_or_else(wrong)?;
        let has = |id: Option<&[u8]>| id.is_some_and(|id| self.traces.contains(id));
        let found: BooleanArray = ids.iter().map(|id| Some(has(id))).collect();
        Ok::<_, DataFusionError>(ColumnarValue::Array(Arc::new(found)))
    }
}
