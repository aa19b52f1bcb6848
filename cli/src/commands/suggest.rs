//! `suggest`: names and values that begin with a text.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringViewArray, UInt64Array};
use spanstore::query::{AttributeKey, AttributeKeys, ValueType};

use super::{Context, runtime};
use crate::arguments::{
    SuggestArguments, SuggestCommand, SuggestNamesArguments, SuggestValuesArguments,
};
use crate::error::Error;
use crate::output::grouped;

pub(super) fn run(context: &mut Context<'_>, arguments: &SuggestArguments) -> Result<(), Error> {
    match &arguments.command {
        SuggestCommand::Names(arguments) => names(context, arguments),
        SuggestCommand::Values(arguments) => values(context, arguments),
    }
}

fn names(context: &mut Context<'_>, arguments: &SuggestNamesArguments) -> Result<(), Error> {
    let rows = arguments.counted.of.rows();
    let query = context.select(rows, &arguments.counted.selection)?;
    let columns = query.suggest_columns(&arguments.prefix);
    let decoded = if arguments.exact {
        u64::MAX
    } else {
        AttributeKeys::DECODED_SPANS
    };
    let keys = query.attribute_keys(&arguments.prefix, arguments.limit, decoded);
    let found = runtime()?.block_on(keys)?;
    let keys = || found.keys.iter();
    let types = |key: &AttributeKey| {
        let types: Vec<&str> = key.types.iter().copied().map(ValueType::name).collect();
        types.join(", ")
    };
    let names = columns.iter().map(|column| column.name);
    let names = names.chain(keys().map(|key| key.name.as_str()));
    let holds = columns.iter().map(|column| column.holds.to_owned());
    let holds = holds.chain(keys().map(types));
    // Of a column nobody counts the spans that have it.
    let spans = columns.iter().map(|_| None);
    let spans = spans.chain(keys().map(|key| Some(key.spans)));
    let exact = columns.iter().map(|_| None);
    let exact = exact.chain(keys().map(|key| Some(key.is_exact)));
    let rows = RecordBatch::try_from_iter_with_nullable([
        (
            "name",
            Arc::new(StringViewArray::from_iter_values(names)) as ArrayRef,
            false,
        ),
        (
            "holds",
            Arc::new(StringViewArray::from_iter_values(holds)),
            false,
        ),
        ("spans", Arc::new(spans.collect::<UInt64Array>()), true),
        ("exact", Arc::new(exact.collect::<BooleanArray>()), true),
    ])?;
    context.write(&rows)?;
    if found.unread_spans > 0 {
        let unread = grouped(found.unread_spans);
        eprintln!("{unread} spans were not looked at: rare keys may be missing (--exact)");
    }
    Ok(())
}

fn values(context: &mut Context<'_>, arguments: &SuggestValuesArguments) -> Result<(), Error> {
    let rows = arguments.counted.of.rows();
    let query = context.select(rows, &arguments.counted.selection)?;
    let values = query.suggest_values(&arguments.name, &arguments.prefix, arguments.limit);
    let found = runtime()?.block_on(values);
    let found = found.map_err(Error::of_filter(&arguments.name))?.values;
    let values = found.iter().map(|one| one.value.as_str());
    let counts = found.iter().map(|one| one.rows);
    let rows = RecordBatch::try_from_iter([
        (
            "value",
            Arc::new(StringViewArray::from_iter_values(values)) as ArrayRef,
        ),
        (rows.name(), Arc::new(UInt64Array::from_iter_values(counts))),
    ])?;
    context.write(&rows)
}
