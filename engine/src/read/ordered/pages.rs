//! Runs of pages, in the order of which rows are looked at.

use std::ops::Range;

use roaring::RoaringBitmap;

use super::Direction;
use crate::error::Error;
use crate::read::bounded::{ANY, Bounded};
use crate::read::matching::Matching;
use crate::read::scan::rows_of_group;

/// A run of pages.
pub(super) struct Run {
    pub(super) rows: Range<u32>,
    /// The least and the greatest value of what decides first.
    pub(super) firsts: (i64, i64),
    /// The earliest and the latest start.
    pub(super) starts: (i64, i64),
}

/// Runs of pages of a row group that hold about as many of some rows as are looked at in
/// one step.
pub(super) fn runs(
    matching: &Matching,
    group: u32,
    rows: &RoaringBitmap,
    direction: Direction,
    step_rows: u64,
) -> Result<Vec<Run>, Error> {
    let reader = matching.sealed.segment.row_reader()?;
    let table = matching.sealed.reader.table();
    let pages = |number: Bounded| {
        let pages = reader.page_ranges(group, number.place(table));
        pages.map_err(|error| matching.corrupt(error))
    };
    let starts = pages(Bounded::Start)?;
    let mut runs: Vec<Run> = Vec::new();
    match direction.by {
        Bounded::Start => {
            for (page, first, last) in starts {
                match runs.last_mut() {
                    Some(run) if rows.range_cardinality(run.rows.start..page.end) <= step_rows => {
                        run.rows.end = page.end;
                        run.starts = (run.starts.0.min(first), run.starts.1.max(last));
                        run.firsts = run.starts;
                    }
                    _ => runs.push(Run {
                        rows: page,
                        firsts: (first, last),
                        starts: (first, last),
                    }),
                }
            }
        }
        // Any page may have the greatest one, so each is a run.
        other => {
            for (page, least, greatest) in pages(other)? {
                let beside = starts.iter();
                let beside =
                    beside.filter(|(other, ..)| other.start < page.end && page.start < other.end);
                let times = beside.map(|(_, first, last)| (*first, *last));
                let times = times.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
                runs.push(Run {
                    rows: page,
                    firsts: (least, greatest),
                    starts: times.unwrap_or(ANY),
                });
            }
        }
    }
    if runs.is_empty() {
        runs.push(Run {
            rows: rows_of_group(group),
            firsts: ANY,
            starts: ANY,
        });
    }
    Ok(runs)
}
