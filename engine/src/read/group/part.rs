//! Groups of the rows of one row group, or of some rows in memory.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Schema};
use roaring::RoaringBitmap;
use spanstore_format::segment::Column;
use spanstore_format::segment::layout::encoding::ROW_GROUP_ROWS;

use super::keys::{Combined, Numbered, Pair, Pairs};
use super::measures::State;
use super::{Grouping, Measure, Term, columns};
use crate::error::Error;
use crate::read::condition::Condition;
use crate::read::hot::HotPart;
use crate::read::interrupt::{Held, Interrupt};
use crate::read::mask::BATCH_ROWS;
use crate::read::matching::Matching;
use crate::read::meter::Stage;
use crate::read::scan::columns_error;

/// The groups of some rows.
pub(crate) struct Part {
    /// Of each key, values, and which of them each group has that has rows.
    pub(super) keys: Vec<(ArrayRef, Vec<u32>)>,
    /// The groups that have rows.
    pub(super) present: Vec<u32>,
    /// The rows of each group.
    pub(super) rows: Vec<u64>,
    pub(super) states: Vec<State>,
    /// Of measures of different values: values, and which group has which.
    pub(super) distinct: Vec<Option<(ArrayRef, Vec<Pair>)>>,
    /// The memory of all that.
    _held: Held,
}

/// Bytes of a value beside the value itself: its number, and what counts its rows.
const BYTES_A_VALUE: usize = 2 * size_of::<u32>() + size_of::<u64>();

impl Part {
    /// The groups of rows of one row group.
    pub(crate) fn of_row_group(
        matching: &Matching,
        rows: &RoaringBitmap,
        grouping: &Grouping,
    ) -> Result<Self, Error> {
        if let Some(part) = Self::of_different_values(matching, rows, grouping)? {
            return Ok(part);
        }
        let source = |term: &Term| Source::of_row_group(term, matching, rows);
        let mut gathering = Gathering::new(grouping, &*matching.interrupt, source)?;
        let columns = gathering.columns();
        if columns.is_empty() {
            let mut first = 0;
            while first < rows.len() as usize {
                let count = BATCH_ROWS.min(rows.len() as usize - first);
                // Constants are evaluated on rows without columns.
                let options = RecordBatchOptions::new().with_row_count(Some(count));
                let empty = Arc::new(Schema::empty());
                let batch = RecordBatch::try_new_with_options(empty, Vec::new(), &options);
                let batch = batch.map_err(|error| columns_error("groups", &error))?;
                gathering.take(first, count, &|term| term.of(&batch, &columns))?;
                first += count;
            }
        } else {
            let mut first = 0;
            matching.each_batch(rows, &columns, |rows, batch| {
                gathering.take(first, rows.len(), &|term| term.of(batch, &columns))?;
                first += rows.len();
                Ok(())
            })?;
        }
        gathering.finish()
    }

    /// The same where it is only asked which values of one column there are: the dictionary
    /// of a whole row group tells without its rows.
    fn of_different_values(
        matching: &Matching,
        rows: &RoaringBitmap,
        grouping: &Grouping,
    ) -> Result<Option<Self>, Error> {
        let (keys, measures) = (grouping.keys.as_slice(), grouping.measures.as_slice());
        let (([term], []) | ([], [Measure::Distinct(term)])) = (keys, measures) else {
            return Ok(None);
        };
        let ([column], None) = (term.columns.as_slice(), &term.expression) else {
            return Ok(None);
        };
        let Some(values) = matching.different_values(column, rows)? else {
            return Ok(None);
        };
        let all = 0..values.len() as u32;
        let bytes = values.get_array_memory_size() + values.len() * BYTES_A_VALUE;
        let held = matching.interrupt.hold_bytes(bytes)?;
        Ok(Some(match measures.first() {
            None => Self {
                present: all.clone().collect(),
                // Nobody asks how many.
                rows: vec![1; values.len()],
                keys: vec![(values, all.collect())],
                states: Vec::new(),
                distinct: Vec::new(),
                _held: held,
            },
            Some(measure) => Self {
                keys: Vec::new(),
                present: vec![0],
                rows: vec![rows.len()],
                states: vec![State::new(measure)],
                distinct: vec![Some((values, all.map(|value| (0, value)).collect()))],
                _held: held,
            },
        }))
    }

    /// The groups of those rows in memory that fulfil a condition. Small parts are put
    /// together.
    pub(crate) fn of_hot(
        parts: &[HotPart],
        condition: &Condition,
        grouping: &Grouping,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Self>, Error> {
        let mut groups = Vec::new();
        let columns = grouping.columns();
        let mut small = Vec::new();
        for part in parts {
            let rows = part.find(condition, interrupt)?;
            if rows.count_set_bits() == 0 {
                continue;
            }
            interrupt.meter().rows(rows.count_set_bits());
            if part.has_codes() {
                let source = |term: &Term| Source::of_hot(term, part, &rows);
                let read = |columns: &[Column]| part.some(columns, &rows);
                let group = || Self::of_rows(source, read, grouping, interrupt);
                groups.push(interrupt.meter().time(Stage::Answer, group)?);
            } else {
                small.push(part.some(&columns, &rows)?);
            }
        }
        if let Some(first) = small.first() {
            let rows = concat_batches(first.schema_ref(), &small);
            let rows = rows.map_err(|error| columns_error("hot rows", &error))?;
            let _held = interrupt.hold(&rows)?;
            let source = |term: &Term| Source::read(&term.data_type);
            let read = |_: &[Column]| Ok(rows.clone());
            let group = || Self::of_rows(source, read, grouping, interrupt);
            groups.push(interrupt.meter().time(Stage::Answer, group)?);
        }
        Ok(groups)
    }

    /// The groups of rows in memory; `read` gives columns of all of them, in this order.
    fn of_rows(
        source: impl Fn(&Term) -> Result<Source, Error>,
        read: impl Fn(&[Column]) -> Result<RecordBatch, Error>,
        grouping: &Grouping,
        interrupt: &dyn Interrupt,
    ) -> Result<Self, Error> {
        let mut gathering = Gathering::new(grouping, interrupt, source)?;
        let columns = gathering.columns();
        let rows = read(&columns)?;
        gathering.take(0, rows.num_rows(), &|term| term.of(&rows, &columns))?;
        gathering.finish()
    }
}

/// The values of a term over the values of a column; none when some of these, which maybe
/// no row has, have none.
fn of_codes(term: &Term, column: &Column, values: ArrayRef) -> Option<ArrayRef> {
    match &term.expression {
        Some(_) => term.of_values(values, column).ok(),
        None => Some(values),
    }
}

/// Where the numbers of values come from.
enum Source {
    /// Values, and which of them each row has.
    Coded(ArrayRef, Vec<u32>),
    /// Numbers are given to values that are read; those of the last batch.
    Read(Numbered, Vec<u32>),
}

impl Source {
    fn read(of: &DataType) -> Result<Self, Error> {
        Ok(Self::Read(Numbered::new(of)?, Vec::new()))
    }

    fn of_row_group(term: &Term, matching: &Matching, rows: &RoaringBitmap) -> Result<Self, Error> {
        let group = rows.min().map(|row| row / ROW_GROUP_ROWS);
        if let ([column], Some(group)) = (term.columns.as_slice(), group) {
            if let Some((values, codes)) = term.stepped(matching, group, rows)? {
                return Ok(Self::Coded(values, codes));
            }
            if let Some((values, codes)) = matching.codes(column, group, rows)?
                && let Some(values) = of_codes(term, column, values)
            {
                return Ok(Self::Coded(values, codes));
            }
        }
        Self::read(&term.data_type)
    }

    fn of_hot(term: &Term, part: &HotPart, rows: &BooleanBuffer) -> Result<Self, Error> {
        if let [column] = term.columns.as_slice()
            && let Some(coded) = part.coded(column)?
            && let Some(values) = of_codes(term, column, coded.values.clone())
        {
            let codes = rows.set_indices().filter_map(|row| coded.codes.get(row));
            let codes = codes.map(|code| u32::from(*code)).collect();
            return Ok(Self::Coded(values, codes));
        }
        Self::read(&term.data_type)
    }

    /// Gives numbers to the values of a batch.
    fn number(&mut self, values: impl FnOnce() -> Result<ArrayRef, Error>) -> Result<(), Error> {
        if let Self::Read(numbered, numbers) = self {
            numbers.clear();
            numbered.add(&values()?, numbers)?;
        }
        Ok(())
    }

    /// The numbers of the rows of a batch, of which it is known how many there are, and
    /// how many came before.
    fn numbers(&self, first: usize, count: usize) -> &[u32] {
        match self {
            Self::Coded(_, codes) => codes.get(first..first + count).unwrap_or_default(),
            Self::Read(_, numbers) => numbers,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Coded(values, _) => values.len(),
            Self::Read(numbered, _) => numbered.len(),
        }
    }

    /// How many values it has at most, where that is known before rows are read.
    fn most(&self) -> Option<usize> {
        match self {
            Self::Coded(values, _) => Some(values.len()),
            Self::Read(..) => None,
        }
    }

    /// Memory that it takes, in bytes, about, once its values are an array.
    fn memory(&self) -> usize {
        match self {
            Self::Coded(values, codes) => values.get_array_memory_size() + codes.capacity() * 4,
            Self::Read(numbered, numbers) => numbered.memory() * 2 + numbers.capacity() * 4,
        }
    }

    fn into_values(self) -> Result<ArrayRef, Error> {
        match self {
            Self::Coded(values, _) => Ok(values),
            Self::Read(numbered, _) => numbered.values(),
        }
    }
}

/// Rows that are gathered, batch by batch.
struct Gathering<'g> {
    grouping: &'g Grouping,
    interrupt: &'g dyn Interrupt,
    /// The memory of what was gathered.
    held: Option<Held>,
    keys: Vec<Source>,
    /// Of measures that only ask which values there are.
    values: Vec<Option<Source>>,
    combined: Combined,
    rows: Vec<u64>,
    states: Vec<State>,
    /// Which groups have which of them.
    found: Vec<Pairs>,
}

impl<'g> Gathering<'g> {
    fn new(
        grouping: &'g Grouping,
        interrupt: &'g dyn Interrupt,
        source: impl Fn(&Term) -> Result<Source, Error>,
    ) -> Result<Self, Error> {
        let keys: Result<Vec<Source>, Error> = grouping.keys.iter().map(&source).collect();
        let values = grouping.measures.iter().map(|measure| match measure {
            Measure::Distinct(term) => source(term).map(Some),
            Measure::Values(term) => {
                let source = source(term)?;
                Ok(matches!(source, Source::Coded(..)).then_some(source))
            }
            _ => Ok(None),
        });
        let keys = keys?;
        let most: Vec<Option<usize>> = keys.iter().map(Source::most).collect();
        let combined = Combined::new(&most);
        let values = values.collect::<Result<Vec<Option<Source>>, Error>>()?;
        let found = grouping.measures.iter().zip(&values);
        let found = found.map(|(measure, source)| match (measure, source) {
            (Measure::Distinct(_), Some(source)) => Pairs::new(combined.most, source.most()),
            _ => Pairs::new(None, None),
        });
        Ok(Self {
            grouping,
            interrupt,
            held: None,
            found: found.collect(),
            combined,
            keys,
            values,
            rows: Vec::new(),
            states: grouping.measures.iter().map(State::new).collect(),
        })
    }

    /// The columns whose values are to be read.
    fn columns(&self) -> Vec<Column> {
        let is_read = |source: &Source| matches!(source, Source::Read(..));
        let keys = self.grouping.keys.iter().zip(&self.keys);
        let keys = keys
            .filter(|(_, source)| is_read(source))
            .map(|(term, _)| term);
        let measures = self.grouping.measures.iter().zip(&self.values);
        let measures = measures
            .filter(|(_, source)| source.as_ref().is_none_or(is_read))
            .filter_map(|(measure, _)| measure.term());
        columns(keys.chain(measures))
    }

    /// Takes the next rows; `evaluate` gives the values of a term in them.
    fn take(
        &mut self,
        first: usize,
        count: usize,
        evaluate: &dyn Fn(&Term) -> Result<ArrayRef, Error>,
    ) -> Result<(), Error> {
        if !self.grouping.is_of_values() {
            self.rows.resize(1, 0);
            self.rows.iter_mut().for_each(|rows| *rows += count as u64);
            return Ok(());
        }
        for (source, term) in self.keys.iter_mut().zip(&self.grouping.keys) {
            source.number(|| evaluate(term))?;
        }
        let numbers: Vec<&[u32]> = self
            .keys
            .iter()
            .map(|source| source.numbers(first, count))
            .collect();
        let groups = self.combined.groups(&numbers, count);
        let len = self.combined.len(self.keys.first().map_or(0, Source::len));
        self.rows.resize(len, 0);
        for run in groups.chunk_by(u32::eq) {
            let group = run.first().map_or(0, |group| *group as usize);
            if let Some(rows) = self.rows.get_mut(group) {
                *rows += run.len() as u64;
            }
        }
        let measures = self.grouping.measures.iter();
        let values = self.values.iter_mut().zip(&mut self.found);
        for ((measure, state), (source, found)) in measures.zip(&mut self.states).zip(values) {
            state.resize(len);
            let Some(term) = measure.term() else {
                continue;
            };
            let Some(source) = source else {
                state.take(&evaluate(term)?, &groups)?;
                continue;
            };
            source.number(|| evaluate(term))?;
            let numbers = source.numbers(first, count);
            if let (Source::Coded(values, _), State::Values(counts)) = (&*source, state) {
                let nulls = values.logical_nulls();
                let is_value = |number: u32| {
                    let nulls = nulls.as_ref();
                    nulls.is_none_or(|nulls| nulls.is_valid(number as usize))
                };
                for (group, number) in groups.iter().zip(numbers) {
                    if let Some(count) = counts.get_mut(*group as usize) {
                        *count += u64::from(is_value(*number));
                    }
                }
                continue;
            }
            found.number(&mut groups.clone(), numbers);
        }
        self.hold()
    }

    /// Accounts for what was gathered, which is let go of first.
    fn hold(&mut self) -> Result<(), Error> {
        self.held = None;
        let sources = self.keys.iter().chain(self.values.iter().flatten());
        let bytes = sources.map(Source::memory).sum::<usize>()
            + self.states.iter().map(State::memory).sum::<usize>()
            + self.found.iter().map(Pairs::memory).sum::<usize>()
            + self.rows.capacity() * size_of::<u64>()
            + self.combined.memory();
        self.held = Some(self.interrupt.hold_bytes(bytes)?);
        Ok(())
    }

    fn finish(mut self) -> Result<Part, Error> {
        self.hold()?;
        let rows = self.rows.iter().zip(0..);
        let present = rows.filter(|(rows, _)| **rows > 0).map(|(_, group)| group);
        let present: Vec<u32> = present.collect();
        let members = self.combined.members(present.iter().copied());
        let keys = self.keys.into_iter().zip(members);
        let keys = keys.map(|(source, members)| Ok((source.into_values()?, members)));
        let distinct = self
            .values
            .into_iter()
            .zip(self.found)
            .zip(&self.grouping.measures);
        let distinct = distinct.map(|((source, found), measure)| match (source, measure) {
            (Some(source), Measure::Distinct(_)) => Ok(Some((source.into_values()?, found.pairs))),
            _ => Ok(None),
        });
        Ok(Part {
            keys: keys.collect::<Result<_, Error>>()?,
            present,
            rows: self.rows,
            states: self.states,
            distinct: distinct.collect::<Result<_, Error>>()?,
            _held: self.held.unwrap_or_else(|| Box::new(())),
        })
    }
}
