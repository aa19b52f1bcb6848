//! `count`: how many spans there are.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};

use super::{Context, runtime};
use crate::arguments::CountArguments;
use crate::error::Error;

pub(super) fn run(context: &mut Context<'_>, arguments: &CountArguments) -> Result<(), Error> {
    let query = context.select(&arguments.selection)?;
    let spans = runtime()?.block_on(query.count())?;
    let spans: ArrayRef = Arc::new(UInt64Array::from(vec![spans]));
    let count = RecordBatch::try_from_iter([("spans", spans)])?;
    context.write(&count)
}
