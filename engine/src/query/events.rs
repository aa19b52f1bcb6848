//! `any_event(…)`: whether some event of a span fulfils a condition.
//!
//! The events of some spans are made rows of their own, with their attributes in the form that
//! those of spans have. So the condition is one as on spans.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, AsArray, BinaryViewArray, BinaryViewBuilder, BooleanArray, RecordBatch,
    StringViewBuilder, TimestampNanosecondBuilder,
};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::{DFSchema, Result, exec_err};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::prelude::lit;
use spanstore_format::span::SpanColumn;
use spanstore_format::span::event::{EncodedEvent, events};

use super::functions::over_rows;
use super::patterns;

/// Events that are looked at together, about.
const BATCH_EVENTS: usize = 8_192;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8View, false),
        Field::new(
            "time",
            SpanColumn::StartTime.description().value.data_type(),
            true,
        ),
        Field::new(SpanColumn::Attributes.name(), DataType::BinaryView, true),
    ]))
});

/// The columns of events that a condition may name.
pub(super) fn fields() -> &'static [FieldRef] {
    SCHEMA.fields()
}

/// The condition on a span that some event of it fulfils one; never null.
///
/// # Errors
/// When the condition cannot be evaluated on events.
pub(super) fn any_event(condition: Expr) -> Result<Expr> {
    let text = condition.to_string();
    let schema = DFSchema::try_from(Arc::clone(&SCHEMA))?;
    let compiled = patterns::compiled(condition.clone())?.data;
    let props = ExecutionProps::new();
    let planning = PhysicalPlanningContext::default();
    let any_event = AnyEvent {
        evaluated: create_physical_expr(&compiled, &schema, &props, &planning)?,
        condition,
        signature: Signature::any(2, Volatility::Immutable),
    };
    let of = Expr::Column(SpanColumn::Events.name().into());
    Ok(ScalarUDF::from(any_event).call(vec![of, lit(text)]))
}

/// `any_event(events, 'condition')`, as DataFusion evaluates it.
#[derive(Debug)]
struct AnyEvent {
    condition: Expr,
    evaluated: Arc<dyn PhysicalExpr>,
    signature: Signature,
}

impl PartialEq for AnyEvent {
    fn eq(&self, other: &Self) -> bool {
        self.condition == other.condition
    }
}

impl Eq for AnyEvent {}

impl Hash for AnyEvent {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.condition.hash(state);
    }
}

impl ScalarUDFImpl for AnyEvent {
    fn name(&self) -> &'static str {
        "any_event"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(messages) = arguments.args.first() else {
            return exec_err!("any_event: expected a column");
        };
        over_rows(messages, |messages| match messages.as_binary_view_opt() {
            Some(messages) => Ok(Arc::new(self.holds(messages)?)),
            None => exec_err!("any_event: expected events, found {}", messages.data_type()),
        })
    }
}

impl AnyEvent {
    /// For each of some spans, by their encoded events, whether one of these fulfils the
    /// condition.
    fn holds(&self, messages: &BinaryViewArray) -> Result<BooleanArray> {
        let mut found = vec![false; messages.len()];
        let mut gathered = Gathered::default();
        for (span, message) in messages.iter().enumerate() {
            for event in events(message.unwrap_or_default()) {
                gathered.add(span, event);
            }
            if gathered.spans.len() >= BATCH_EVENTS {
                self.find(&mut gathered, &mut found)?;
            }
        }
        self.find(&mut gathered, &mut found)?;
        Ok(found.into())
    }

    /// Notes the spans of those events that fulfil the condition, and lets the events go.
    fn find(&self, gathered: &mut Gathered, found: &mut [bool]) -> Result<()> {
        if gathered.spans.is_empty() {
            return Ok(());
        }
        let (spans, events) = gathered.take()?;
        let truth = self.evaluated.evaluate(&events)?;
        let truth = truth.into_array(events.num_rows())?;
        let Some(truth) = truth.as_boolean_opt() else {
            return exec_err!(
                "any_event: expected a condition, found {}",
                truth.data_type()
            );
        };
        for (span, _) in spans
            .into_iter()
            .zip(truth)
            .filter(|(_, truth)| *truth == Some(true))
        {
            if let Some(of_span) = found.get_mut(span) {
                *of_span = true;
            }
        }
        Ok(())
    }
}

/// Events of some spans as rows.
#[derive(Default)]
struct Gathered {
    /// The place of the span of each.
    spans: Vec<usize>,
    names: StringViewBuilder,
    times: TimestampNanosecondBuilder,
    attributes: BinaryViewBuilder,
    /// Memory to work in.
    message: Vec<u8>,
}

impl Gathered {
    fn add(&mut self, span: usize, event: EncodedEvent<'_>) {
        self.spans.push(span);
        self.names.append_value(event.name());
        self.times.append_option(event.time());
        self.message.clear();
        event.put_attributes(&mut self.message);
        self.attributes.append_value(&self.message);
    }

    /// The places of the spans, and the events.
    fn take(&mut self) -> Result<(Vec<usize>, RecordBatch)> {
        let times = self.times.finish().with_timezone_opt(Some("UTC"));
        let columns = vec![
            Arc::new(self.names.finish()) as _,
            Arc::new(times) as _,
            Arc::new(self.attributes.finish()) as _,
        ];
        let events = RecordBatch::try_new(Arc::clone(&SCHEMA), columns)?;
        Ok((std::mem::take(&mut self.spans), events))
    }
}
