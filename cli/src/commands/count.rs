//! `count`: how many spans or requests there are.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};

use super::{Context, runtime};
use crate::arguments::CountArguments;
use crate::error::Error;

pub(super) fn run(context: &mut Context<'_>, arguments: &CountArguments) -> Result<(), Error> {
    let rows = arguments.counted.of.rows();
    let query = context.select(rows, &arguments.counted.selection)?;
    let count = runtime()?.block_on(query.count())?;
    let count: ArrayRef = Arc::new(UInt64Array::from(vec![count]));
    let count = RecordBatch::try_from_iter([(rows.name(), count)])?;
    context.write(&count)
}
