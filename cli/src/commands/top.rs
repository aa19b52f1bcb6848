//! `top`: the most frequent values of a column or an attribute.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringViewArray, UInt64Array};

use super::{Context, runtime};
use crate::arguments::TopArguments;
use crate::error::Error;

pub(super) fn run(context: &mut Context<'_>, arguments: &TopArguments) -> Result<(), Error> {
    let counted = arguments.counted.of.rows();
    let query = context.select(counted, &arguments.counted.selection)?;
    let top = runtime()?.block_on(query.top(&arguments.value, arguments.limit));
    let top = top.map_err(Error::of_filter(&arguments.value))?;
    let values: StringViewArray = top.iter().map(|count| count.value.as_deref()).collect();
    let spans: UInt64Array = top.iter().map(|count| Some(count.spans)).collect();
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("value", Arc::new(values) as ArrayRef, true),
        (counted.name(), Arc::new(spans), false),
    ])?;
    context.write(&rows)
}
