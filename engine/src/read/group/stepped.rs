//! Keys that rise with the start, such as its hour: a page whose first and last start have
//! one value has no other, so most pages need not be read.

use std::sync::Arc;

use arrow::array::{ArrayRef, TimestampNanosecondArray};
use roaring::RoaringBitmap;
use spanstore_format::segment::Column;

use super::Term;
use super::keys::Numbered;
use crate::error::Error;
use crate::read::bounded::Bounded;
use crate::read::matching::Matching;

impl Term {
    /// Values in a row group, and the number of the value of each of some rows there. None
    /// where the term does not rise with the start, and where bounds are not known.
    pub(super) fn stepped(
        &self,
        matching: &Matching,
        group: u32,
        rows: &RoaringBitmap,
    ) -> Result<Option<(ArrayRef, Vec<u32>)>, Error> {
        let start = Bounded::Start.place(self.table);
        let rises = self.expression.as_ref().is_some_and(|one| one.rises());
        let ([column @ Column::Stored(place)], true) = (self.columns.as_slice(), rises) else {
            return Ok(None);
        };
        if *place != start {
            return Ok(None);
        }
        let pages = matching.sealed.segment.row_reader()?;
        let pages = pages.page_ranges(group, start);
        let pages = pages.map_err(|error| matching.corrupt(error))?;
        let starts = pages.iter().flat_map(|(_, first, last)| [*first, *last]);
        let starts = TimestampNanosecondArray::from_iter_values(starts).with_timezone("UTC");
        // A start that no row of the question has may have no value.
        let Ok(values) = self.of_values(Arc::new(starts), column) else {
            return Ok(None);
        };
        matching.check_team(group)?;
        let mut numbered = Numbered::new(&self.data_type)?;
        let mut of_bounds = Vec::new();
        numbered.add(&values, &mut of_bounds)?;
        let of_pages = pages.iter().zip(of_bounds.chunks_exact(2));
        let of_pages = of_pages.map(|((page, ..), bounds)| match bounds {
            [first, last] if first == last => (page.clone(), Some(*first)),
            _ => (page.clone(), None),
        });
        let of_pages: Vec<_> = of_pages.collect();
        let mut unsure = RoaringBitmap::new();
        for (page, _) in of_pages.iter().filter(|(_, number)| number.is_none()) {
            unsure.insert_range(page.clone());
        }
        unsure &= rows;
        let mut read = Vec::with_capacity(unsure.len() as usize);
        matching.each_batch(&unsure, &self.columns, |_, batch| {
            numbered.add(&self.evaluate(batch)?, &mut read)
        })?;
        let mut read = read.into_iter();
        let mut numbers = Vec::with_capacity(rows.len() as usize);
        for (page, number) in of_pages {
            let count = rows.range_cardinality(page) as usize;
            match number {
                Some(number) => numbers.extend(std::iter::repeat_n(number, count)),
                None => numbers.extend(read.by_ref().take(count)),
            }
        }
        let are_all = numbers.len() as u64 == rows.len();
        are_all
            .then(|| Ok((numbered.values()?, numbers)))
            .transpose()
    }
}
