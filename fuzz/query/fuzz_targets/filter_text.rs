//! Filter texts: none panics, overflows the stack or takes long; what is read
//! compiles over the columns of a span as it is, and answers for each row.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::create_physical_expr;
use libfuzzer_sys::fuzz_target;
use spanstore::query::{Filter, FilterLimits};
use spanstore_format::segment::testing::batch;

/// A few rows with the columns of a span.
static ROWS: LazyLock<RecordBatch> = LazyLock::new(|| batch("acme", 20));

/// Far more than any text within the limits takes, also in a build that is
/// watched, on a machine that has other work.
const LONG: Duration = Duration::from_secs(5);

fuzz_target!(|text: &str| {
    let started = Instant::now();
    match Filter::parse(text, &FilterLimits::default()) {
        Ok(filter) => {
            let columns = filter.columns();
            assert!(!columns.contains("team_id"), "{text}");
            assert!(
                columns
                    .iter()
                    .all(|name| ROWS.column_by_name(name).is_some()),
                "{text}"
            );
            let schema = DFSchema::try_from(ROWS.schema()).expect("the columns of a span");
            let context = PhysicalPlanningContext::default();
            let compiled =
                create_physical_expr(filter.expr(), &schema, &ExecutionProps::new(), &context)
                    .unwrap_or_else(|error| panic!("{text}: {error}"));
            let answers = compiled
                .evaluate(&ROWS)
                .and_then(|answers| answers.into_array(ROWS.num_rows()))
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(answers.data_type(), &DataType::Boolean, "{text}");
            assert_eq!(answers.as_boolean().len(), ROWS.num_rows(), "{text}");
        }
        Err(error) => {
            assert!(error.position() <= text.len(), "{error}");
            assert!(error.render(text).contains('^'));
        }
    }
    assert!(started.elapsed() < LONG, "{text}");
});
