//! `columns`: what filters may name.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringViewArray};
use spanstore::query::FilterColumn;

use super::Out;
use crate::arguments::{ColumnsArguments, Format};
use crate::error::Error;
use crate::output::RowWriter;

pub(super) fn run(arguments: &ColumnsArguments, format: Format, out: Out<'_>) -> Result<(), Error> {
    let columns: Vec<FilterColumn> = arguments.of.rows().filter_columns().collect();
    let texts = |of: fn(&FilterColumn) -> &'static str| -> ArrayRef {
        Arc::new(StringViewArray::from_iter_values(columns.iter().map(of)))
    };
    let facets = columns.iter().map(|column| Some(column.is_facet));
    let facets: ArrayRef = Arc::new(facets.collect::<BooleanArray>());
    let rows = RecordBatch::try_from_iter([
        ("column", texts(|column| column.name)),
        ("holds", texts(|column| column.holds)),
        ("facet", facets),
    ])?;
    let mut writer = RowWriter::new(format, rows.schema(), out)?;
    writer.write(&rows)?;
    writer.finish()?;
    Ok(())
}
