//! Asks the values of rows: of a column in codes once for each different value, of others
//! row by row.

use std::ops::Range;
use std::sync::PoisonError;

use arrow::array::{Array, ArrayRef, RecordBatch};
use roaring::RoaringBitmap;
use spanstore_format::FormatError;
use spanstore_format::segment::layout::encoding::ROW_GROUP_ROWS;
use spanstore_format::segment::{CodedColumn, Column, RowReader};

use super::bounded::{Bounded, Limits};
use super::condition::Leaf;
use super::indexes::holds;
use super::matching::{Matching, part};
use super::scan::{Rows, ranges, row_groups, rows_of_group};
use crate::error::Error;

/// Rows that are read at a time.
pub(super) const BATCH_ROWS: usize = 8_192;

/// Numbers of rows, each above the one before it.
pub(super) fn rising(numbers: Vec<u32>) -> Result<RoaringBitmap, Error> {
    let rows = RoaringBitmap::from_sorted_iter(numbers);
    rows.map_err(|error| Error::internal("numbers of rows", &error))
}

/// One of so many rows are many.
const MANY: u64 = 6;

/// Where one page in so many holds rows, the codes of all of the row group are read, and kept.
const MANY_PAGES: usize = 4;

/// Bits of a row group, by its rows.
const WORDS: usize = ROW_GROUP_ROWS as usize / 64;

impl Matching {
    /// The rows, among some, for which a condition has the wanted truth.
    pub(super) fn test(
        &self,
        leaf: &Leaf,
        wanted: bool,
        rows: &RoaringBitmap,
    ) -> Result<RoaringBitmap, Error> {
        let mut found = RoaringBitmap::new();
        for group in row_groups(rows) {
            self.interrupt.check()?;
            let start = group * ROW_GROUP_ROWS;
            let of_group = part(rows, start..start.saturating_add(ROW_GROUP_ROWS));
            found |= match self.test_codes(leaf, wanted, group, &of_group)? {
                Some(found) => found,
                None => self.test_rows(leaf, wanted, &of_group)?,
            };
        }
        Ok(found)
    }

    /// The same for rows of one row group, when the condition is on one column in codes.
    fn test_codes(
        &self,
        leaf: &Leaf,
        wanted: bool,
        group: u32,
        rows: &RoaringBitmap,
    ) -> Result<Option<RoaringBitmap>, Error> {
        let [column] = leaf.columns.as_slice() else {
            return Ok(None);
        };
        let reader = self.sealed.segment.row_reader()?;
        let Some(coded) = self.coded(&reader, group, column)? else {
            return Ok(None);
        };
        let Some(truth) = holds(leaf, coded.values().clone()) else {
            return Ok(None);
        };
        self.check_team(group)?;
        let is_wanted = |value: usize| truth.is_valid(value) && truth.value(value) == wanted;
        let is_wanted: Vec<bool> = (0..truth.len()).map(is_wanted).collect();
        // Pages without codes have values that the dictionary does not have.
        if coded.is_whole() && !is_wanted.contains(&true) {
            return Ok(Some(RoaringBitmap::new()));
        }
        if coded.is_whole() && !is_wanted.contains(&false) {
            return Ok(Some(rows.clone()));
        }
        self.rows_of_codes(&coded, group, rows, &is_wanted, |rest| {
            self.test_rows(leaf, wanted, rest)
        })
        .map(Some)
    }

    /// Whether the values of a column lie in codes, in the first row group of the partition.
    pub(crate) fn is_coded(&self, column: &Column) -> Result<bool, Error> {
        let group = self.sealed.partition.rows.start / ROW_GROUP_ROWS;
        let reader = self.sealed.segment.row_reader()?;
        Ok(self.coded(&reader, group, column)?.is_some())
    }

    /// A column of a row group as codes; none when it has to be read row by row.
    fn coded<'r>(
        &self,
        reader: &'r RowReader,
        group: u32,
        column: &Column,
    ) -> Result<Option<CodedColumn<'r>>, Error> {
        // Values that other teams have elsewhere do not matter here.
        let has_strays = match (column, self.facets()?) {
            (Column::Attribute(attribute), Some(facets)) => {
                let key = reader.columns().promoted().find(&attribute.key);
                let has_strays = key.map(|(number, _)| facets.has_strays(number));
                has_strays
                    .transpose()
                    .map_err(|error| self.corrupt(error))?
            }
            _ => None,
        };
        let coded = reader.coded(group, column, has_strays);
        coded.map_err(|error| self.corrupt(error))
    }

    /// The rows, among some of a row group, whose code is wanted; `rest` is asked for those
    /// of pages without codes.
    fn rows_of_codes(
        &self,
        coded: &CodedColumn<'_>,
        group: u32,
        rows: &RoaringBitmap,
        is_wanted: &[bool],
        rest: impl Fn(&RoaringBitmap) -> Result<RoaringBitmap, Error>,
    ) -> Result<RoaringBitmap, Error> {
        let mut found = RoaringBitmap::new();
        let mut words = vec![0u64; WORDS];
        let first = group * ROW_GROUP_ROWS;
        self.each_page_of_codes(coded, rows, |page, codes| {
            let Some(codes) = codes else {
                found |= rest(&part(rows, page))?;
                return Ok(());
            };
            let mut place = (page.start - first) as usize;
            let mut codes = codes;
            while !codes.is_empty() {
                let bit = place % 64;
                let (of_word, rest) = codes.split_at(codes.len().min(64 - bit));
                let bits = of_word.iter().rev().fold(0, |bits, code| {
                    let is_wanted = is_wanted.get(usize::from(*code)).copied();
                    bits << 1 | u64::from(is_wanted.unwrap_or(false))
                });
                if let Some(word) = words.get_mut(place / 64) {
                    *word |= bits << bit;
                }
                place += of_word.len();
                codes = rest;
            }
            Ok(())
        })?;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut of_codes = RoaringBitmap::from_lsb0_bytes(first, &bytes);
        of_codes &= rows;
        Ok(found | of_codes)
    }

    /// Hands out each page that holds some rows, or all pages as one: its rows, and the code
    /// of each of them; none where the page does not hold codes.
    pub(super) fn each_page_of_codes(
        &self,
        coded: &CodedColumn<'_>,
        rows: &RoaringBitmap,
        mut take: impl FnMut(Range<u32>, Option<&[u16]>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let corrupt = |error: FormatError| self.corrupt(error);
        let kept = self.sealed.segment.kept_codes(coded);
        if let Some(codes) = kept {
            return self.own_codes(coded, rows, &codes, take);
        }
        let count = coded.pages().map_err(corrupt)?;
        let mut pages = Vec::with_capacity(count);
        for page in 0..count {
            let of_page = coded.rows(page).map_err(corrupt)?;
            if rows.range_cardinality(of_page.clone()) > 0 {
                pages.push((page, of_page));
            }
        }
        let meter = self.interrupt.meter();
        let bytes = |page| coded.bytes(page).map_err(corrupt);
        if pages.len() * MANY_PAGES >= count
            && let Some(codes) = self.sealed.segment.read_codes(coded)
        {
            for page in 0..count {
                meter.pages(1, bytes(page)?);
            }
            return self.own_codes(coded, rows, &codes, take);
        }
        let mut codes = Vec::new();
        for (page, of_page) in pages {
            self.interrupt.check()?;
            let are_codes = coded.read(page, &mut codes).map_err(corrupt)?;
            meter.pages(1, bytes(page)?);
            meter.rows(codes.len());
            take(of_page, are_codes.then_some(codes.as_slice()))?;
        }
        Ok(())
    }

    /// Hands out those codes of a row group that are of some rows of the partition, from the
    /// first of these to the last.
    fn own_codes(
        &self,
        coded: &CodedColumn<'_>,
        rows: &RoaringBitmap,
        codes: &[u16],
        mut take: impl FnMut(Range<u32>, Option<&[u16]>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.interrupt.check()?;
        let all = coded.all_rows();
        let mut wanted = rows.range(all.clone());
        let Some(first) = wanted.next() else {
            return Ok(());
        };
        let own = first..wanted.next_back().unwrap_or(first) + 1;
        let start = own.start.saturating_sub(all.start) as usize;
        self.interrupt.meter().rows(own.len());
        let codes = codes.get(start..start + own.len());
        take(own, codes)
    }

    /// The rows, among some, for which a condition has the wanted truth, read row by row.
    fn test_rows(
        &self,
        leaf: &Leaf,
        wanted: bool,
        rows: &RoaringBitmap,
    ) -> Result<RoaringBitmap, Error> {
        let mut found = Vec::new();
        self.each_batch(rows, &leaf.columns, |rows, batch| {
            let truth = leaf.predicate.holds(batch)?;
            let wanted = rows
                .iter()
                .zip(&truth)
                .filter(|(_, is)| *is == Some(wanted));
            found.extend(wanted.map(|(row, _)| *row));
            Ok(())
        })?;
        rising(found)
    }

    /// The rows, among some, whose number lies within limits.
    pub(super) fn numbers_within(
        &self,
        bounded: Bounded,
        limits: Limits,
        rows: &RoaringBitmap,
    ) -> Result<RoaringBitmap, Error> {
        let mut found = Vec::new();
        let column = Column::Stored(bounded.place(self.sealed.reader.table()));
        let read = self.with_those_between(rows);
        self.each_batch(&read, &[column], |rows, batch| {
            let numbers = bounded.numbers(batch);
            let numbers = numbers.map_err(|error| self.corrupt(error))?.iter();
            let within = rows.iter().zip(numbers);
            let within = within.filter(|(_, number)| limits.hold(**number));
            found.extend(within.map(|(row, _)| *row));
            Ok(())
        })?;
        Ok(rising(found)? & rows)
    }

    /// Some rows, and all others of a row group where they are many of it: to pick them costs
    /// more than to read a number of each.
    fn with_those_between(&self, rows: &RoaringBitmap) -> RoaringBitmap {
        let mut all = rows.clone();
        for group in row_groups(rows) {
            let of_group = rows_of_group(group);
            let picked = rows.range_cardinality(of_group.clone());
            let partition = &self.sealed.partition.rows;
            let own = partition.start.max(of_group.start)..partition.end.min(of_group.end);
            if picked * MANY >= own.len() as u64 {
                all.insert_range(own);
            }
        }
        all
    }

    /// Hands out different values of a column in some rows of a row group, and how many of
    /// the rows have each; a value may come again.
    pub(crate) fn each_value(
        &self,
        column: &Column,
        rows: &RoaringBitmap,
        mut take: impl FnMut(&dyn Array, &[u64]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut by_row = |rows: &RoaringBitmap| {
            let columns = std::slice::from_ref(column);
            self.each_batch(rows, columns, |_, batch| match batch.columns().first() {
                Some(values) => take(values.as_ref(), &vec![1; values.len()]),
                None => Ok(()),
            })
        };
        let Some(group) = rows.min().map(|row| row / ROW_GROUP_ROWS) else {
            return Ok(());
        };
        let reader = self.sealed.segment.row_reader()?;
        let Some(coded) = self.coded(&reader, group, column)? else {
            return by_row(rows);
        };
        self.check_team(group)?;
        let mut counts = vec![0; coded.values().len()];
        self.each_page_of_codes(&coded, rows, |page, codes| {
            let Some(codes) = codes else {
                return by_row(&part(rows, page));
            };
            let mut add = |code: u16| {
                if let Some(count) = counts.get_mut(usize::from(code)) {
                    *count += 1;
                }
            };
            if rows.range_cardinality(page.clone()) == codes.len() as u64 {
                codes.iter().copied().for_each(add);
            } else {
                let places = rows
                    .range(page.clone())
                    .map(|row| (row - page.start) as usize);
                places
                    .filter_map(|place| codes.get(place).copied())
                    .for_each(&mut add);
            }
            Ok(())
        })?;
        take(coded.values().as_ref(), &counts)
    }

    /// Different values of a column, the last of which is null, and the number of the value
    /// of each of some rows of a row group; none when the column is to be read row by row.
    pub(super) fn codes(
        &self,
        column: &Column,
        group: u32,
        rows: &RoaringBitmap,
    ) -> Result<Option<(ArrayRef, Vec<u32>)>, Error> {
        let reader = self.sealed.segment.row_reader()?;
        let Some(coded) = self.coded(&reader, group, column)? else {
            return Ok(None);
        };
        self.check_team(group)?;
        let mut of_rows = Vec::with_capacity(rows.len() as usize);
        let mut are_all = true;
        self.each_page_of_codes(&coded, rows, |page, codes| {
            let codes = codes.unwrap_or_default();
            are_all &= codes.len() == page.len();
            if rows.range_cardinality(page.clone()) == codes.len() as u64 {
                of_rows.extend(codes.iter().copied().map(u32::from));
            } else {
                let places = rows
                    .range(page.clone())
                    .map(|row| (row - page.start) as usize);
                of_rows.extend(places.filter_map(|place| Some(u32::from(*codes.get(place)?))));
            }
            Ok(())
        })?;
        let are_all = are_all && of_rows.len() as u64 == rows.len();
        Ok(are_all.then(|| (coded.values().clone(), of_rows)))
    }

    /// The different values of a column in rows of a row group; a value may come again. None
    /// where only some rows are asked for, where the dictionary does not have all values, and
    /// where the column is not in codes.
    pub(super) fn different_values(
        &self,
        column: &Column,
        rows: &RoaringBitmap,
    ) -> Result<Option<ArrayRef>, Error> {
        let Some(group) = rows.min().map(|row| row / ROW_GROUP_ROWS) else {
            return Ok(None);
        };
        self.interrupt.check()?;
        let reader = self.sealed.segment.row_reader()?;
        if rows.len() != reader.rows_of_group(group).len() as u64 {
            return Ok(None);
        }
        let coded = self.coded(&reader, group, column)?;
        let Some(values) = coded.and_then(|coded| coded.different_values()) else {
            return Ok(None);
        };
        self.check_team(group)?;
        Ok(Some(values))
    }

    /// Reads columns of rows, batch by batch, with the number of each row.
    pub(crate) fn each_batch(
        &self,
        rows: &RoaringBitmap,
        columns: &[Column],
        mut take: impl FnMut(&[u32], &RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for group in row_groups(rows) {
            let start = group * ROW_GROUP_ROWS;
            let of_group = ranges(&part(rows, start..start.saturating_add(ROW_GROUP_ROWS)));
            let read = Rows {
                segment: &self.sealed.segment,
                team: &self.sealed.partition.team,
                numbers: &of_group,
                meter: self.interrupt.meter(),
            };
            let mut numbers = Vec::with_capacity(of_group.iter().map(Range::len).sum());
            for range in &of_group {
                numbers.extend(range.clone());
            }
            let mut numbers = numbers.as_slice();
            for batch in read.batches(columns, BATCH_ROWS)? {
                let batch = batch?;
                self.interrupt.check()?;
                let _held = self.interrupt.hold(&batch)?;
                let (of_batch, rest) = numbers.split_at(numbers.len().min(batch.num_rows()));
                numbers = rest;
                take(of_batch, &batch)?;
            }
        }
        Ok(())
    }

    /// Sees that all rows of the partition in a row group are the team's: by the
    /// statistics, or code by code.
    pub(super) fn check_team(&self, group: u32) -> Result<(), Error> {
        let checked = || self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked().contains(&group) {
            return Ok(());
        }
        let team = self.sealed.partition.team.as_str();
        let column = self.sealed.reader.table().roles().team;
        let reader = self.sealed.segment.row_reader()?;
        if !reader.has_only(group, column, team) {
            let start = group * ROW_GROUP_ROWS;
            let rows = &self.sealed.partition.rows;
            let rows = rows.start.max(start)..rows.end.min(start.saturating_add(ROW_GROUP_ROWS));
            let mut all = RoaringBitmap::new();
            all.insert_range(rows);
            // Reading compares them.
            self.each_batch(&all, &[Column::Stored(column)], |_, _| Ok(()))?;
        }
        checked().insert(group);
        Ok(())
    }
}
