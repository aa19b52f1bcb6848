//! Which row groups rows lie in, and which of the rows of these they are.

use std::ops::Range;

use parquet::arrow::arrow_reader::{RowSelection, RowSelector};

use crate::segment::layout::encoding::ROW_GROUP_ROWS;

/// The row groups that hold some of the rows, the first row among theirs, and
/// the selection of the rows among theirs.
pub(crate) fn select(rows: &[Range<u32>], total: u32) -> (Vec<usize>, usize, RowSelection) {
    let mut row_groups: Vec<usize> = Vec::new();
    let mut selectors: Vec<RowSelector> = Vec::new();
    // Where the last row group of the list was left.
    let mut position = 0;
    let group_end = |group: u32| {
        group
            .saturating_add(1)
            .saturating_mul(ROW_GROUP_ROWS)
            .min(total)
    };
    for range in rows {
        let mut start = range.start;
        while start < range.end.min(total) {
            let group = start / ROW_GROUP_ROWS;
            if row_groups.last() != Some(&(group as usize)) {
                if let Some(last) = row_groups.last() {
                    selectors.push(RowSelector::skip(
                        (group_end(*last as u32) - position) as usize,
                    ));
                }
                row_groups.push(group as usize);
                position = group * ROW_GROUP_ROWS;
            }
            let end = range.end.min(group_end(group));
            selectors.push(RowSelector::skip((start - position) as usize));
            selectors.push(RowSelector::select((end - start) as usize));
            position = end;
            start = end;
        }
    }
    if let Some(last) = row_groups.last() {
        selectors.push(RowSelector::skip(
            (group_end(*last as u32) - position) as usize,
        ));
    }
    let first_row = rows.first().map_or(0, |rows| rows.start % ROW_GROUP_ROWS);
    // Merges neighbours of a kind and drops empty ones.
    (
        row_groups,
        first_row as usize,
        RowSelection::from(selectors),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_cover_their_row_groups() {
        let group = ROW_GROUP_ROWS;
        let total = 3 * group + 10;
        let cases: [&[Range<u32>]; 5] = [
            &[0..5],
            &[10..20, 30..40],
            &[group - 1..group + 1],
            &[
                5..6,
                2 * group..2 * group + 3,
                3 * group + 1..3 * group + 10,
            ],
            &[0..total],
        ];
        for rows in cases {
            let (groups, _, selection) = select(rows, total);
            let covered: usize = selection.iter().map(|selector| selector.row_count).sum();
            let expected: usize = groups
                .iter()
                .map(|group| {
                    let start = *group as u32 * ROW_GROUP_ROWS;
                    (total - start).min(ROW_GROUP_ROWS) as usize
                })
                .sum();
            assert_eq!(covered, expected, "{rows:?}");
            let wanted: usize = rows.iter().map(ExactSizeIterator::len).sum();
            assert_eq!(selection.row_count(), wanted, "{rows:?}");
        }
    }
}
