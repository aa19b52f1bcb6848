//! `compare`: the values whose shares differ most between two sets of spans or requests.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringViewArray, UInt64Array};
use spanstore::query::{Comparison, Difference, Rows};

use super::{Context, runtime};
use crate::arguments::{CompareArguments, Format};
use crate::error::Error;
use crate::output::grouped;
use crate::time::now_nanos;

pub(super) fn run(context: &mut Context<'_>, arguments: &CompareArguments) -> Result<(), Error> {
    let rows = arguments.of.rows();
    let now = now_nanos();
    let [one, other] = arguments.selections();
    let one = one.apply_at(context.query(rows), now)?;
    let other = other.apply_at(context.query(rows), now)?;
    let comparison = runtime()?.block_on(one.compare(other, arguments.limit))?;
    if context.format == Format::Table {
        context.write(&table(&comparison, rows)?)?;
        let (size, other_size) = (grouped(comparison.spans), grouped(comparison.other_spans));
        eprintln!("{size} {}, compared with {other_size}", rows.name());
        return Ok(());
    }
    context.write(&list(&comparison, rows)?)
}

/// A part of some rows; of none 0.
fn share(part: u64, all: u64) -> f64 {
    part as f64 / all.max(1) as f64
}

/// A row for each value, for people.
fn table(comparison: &Comparison, rows: Rows) -> Result<RecordBatch, Error> {
    let percent = |share: f64| (1_000.0 * share).round() / 10.0;
    let columns = Columns(comparison);
    let (size, other_size) = (comparison.spans, comparison.other_spans);
    let (name, other_name) = (rows.name(), format!("other_{}", rows.name()));
    Ok(RecordBatch::try_from_iter([
        ("filter", columns.texts(|one| Some(&one.filter))),
        (name, columns.counts(|one| one.spans)),
        ("%", columns.shares(|one| percent(share(one.spans, size)))),
        (&other_name, columns.counts(|one| one.other_spans)),
        (
            "other_%",
            columns.shares(|one| percent(share(one.other_spans, other_size))),
        ),
        ("difference", columns.shares(|one| percent(one.difference))),
    ])?)
}

/// A row for each value, with all that is known of it.
fn list(comparison: &Comparison, rows: Rows) -> Result<RecordBatch, Error> {
    let columns = Columns(comparison);
    let (size, other_size) = (comparison.spans, comparison.other_spans);
    let (name, other_name) = (rows.name(), format!("other_{}", rows.name()));
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("column", columns.texts(|one| Some(&one.column)), false),
        ("value", columns.texts(|one| one.value.as_deref()), true),
        (name, columns.counts(|one| one.spans), false),
        ("total", columns.counts(|_| size), false),
        ("share", columns.shares(|one| share(one.spans, size)), false),
        (&other_name, columns.counts(|one| one.other_spans), false),
        ("other_total", columns.counts(|_| other_size), false),
        (
            "other_share",
            columns.shares(|one| share(one.other_spans, other_size)),
            false,
        ),
        ("difference", columns.shares(|one| one.difference), false),
        ("filter", columns.texts(|one| Some(&one.filter)), false),
    ])?)
}

/// Makes columns of the values that differ.
struct Columns<'c>(&'c Comparison);

impl<'c> Columns<'c> {
    fn texts(&self, text: impl Fn(&'c Difference) -> Option<&'c str>) -> ArrayRef {
        let texts = self.0.differences.iter().map(text);
        Arc::new(texts.collect::<StringViewArray>())
    }

    fn counts(&self, count: impl Fn(&'c Difference) -> u64) -> ArrayRef {
        let counts = self.0.differences.iter().map(count);
        Arc::new(UInt64Array::from_iter_values(counts))
    }

    fn shares(&self, share: impl Fn(&'c Difference) -> f64) -> ArrayRef {
        let shares = self.0.differences.iter().map(share);
        Arc::new(Float64Array::from_iter_values(shares))
    }
}
