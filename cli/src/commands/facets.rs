//! `facets`: the values of columns, and how many spans or requests have each.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringViewArray, UInt64Array};

use super::{Context, runtime};
use crate::arguments::{FacetsArguments, Format};
use crate::error::Error;

/// Values of a column in a table when no limit was given.
const TABLE_VALUES: usize = 20;

pub(super) fn run(context: &mut Context<'_>, arguments: &FacetsArguments) -> Result<(), Error> {
    let counted = arguments.counted.of.rows();
    let query = context.select(counted, &arguments.counted.selection)?;
    let columns = arguments.columns.iter().map(String::as_str);
    let facets = if arguments.choices {
        runtime()?.block_on(query.facet_choices(columns.clone()))?
    } else {
        runtime()?.block_on(query.facets(columns.clone()))?
    };
    let cut = (context.format == Format::Table).then_some(TABLE_VALUES);
    let most = arguments.limit.or(cut).unwrap_or(usize::MAX);
    let rows = columns.zip(&facets).flat_map(|(column, counts)| {
        let counts = counts.iter().take(most);
        counts.map(move |count| (column, count.value.as_deref(), count.spans))
    });
    let rows: Vec<_> = rows.collect();
    // Names are read in any case, and written as they are.
    let name = |given: &str| {
        let mut columns = counted.filter_columns();
        columns.find(|column| column.name.eq_ignore_ascii_case(given))
    };
    let names = rows.iter().map(|(column, ..)| *column);
    let names = names.map(|given| name(given).map_or(given, |column| column.name));
    let names = StringViewArray::from_iter_values(names);
    let values: StringViewArray = rows.iter().map(|(_, value, _)| *value).collect();
    let spans: UInt64Array = rows.iter().map(|(.., spans)| *spans).collect();
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("column", Arc::new(names) as ArrayRef, false),
        ("value", Arc::new(values), true),
        (counted.name(), Arc::new(spans), false),
    ])?;
    context.write(&rows)
}
