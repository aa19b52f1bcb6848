//! Values as numbers, and numbers of several keys as numbers of groups.

use std::hash::BuildHasher;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::{partition, take};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use crate::error::Error;

/// Numbers for values, in the order in which these come first. Null is a value.
#[derive(Debug)]
pub(super) struct Numbered {
    /// Values as bytes that tell them apart.
    converter: RowConverter,
    bytes: Vec<u8>,
    /// Where the bytes of each value end.
    ends: Vec<usize>,
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Numbered {
    pub(super) fn new(data_type: &DataType) -> Result<Self, Error> {
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())]);
        Ok(Self {
            converter: converter.map_err(|error| not_grouped(&error))?,
            bytes: Vec::new(),
            ends: Vec::new(),
            numbers: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        })
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Memory that they take, in bytes, about.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity()
            + self.ends.capacity() * size_of::<usize>()
            + self.numbers.capacity() * 2 * size_of::<u32>()
    }

    /// Adds the number of each of some values to `numbers`.
    pub(super) fn add(&mut self, values: &ArrayRef, numbers: &mut Vec<u32>) -> Result<(), Error> {
        if values.is_empty() {
            return Ok(());
        }
        // Rows beside each other often have one value.
        let runs = partition(std::slice::from_ref(values));
        let runs = runs.map_err(|error| not_grouped(&error))?.ranges();
        let firsts = if runs.len() == values.len() {
            Ok(ArrayRef::clone(values))
        } else {
            let starts = UInt32Array::from_iter_values(runs.iter().map(|run| run.start as u32));
            take(values, &starts, None)
        };
        let rows = firsts.and_then(|firsts| self.converter.convert_columns(&[firsts]));
        let rows = rows.map_err(|error| not_grouped(&error))?;
        for (run, row) in runs.iter().zip(&rows) {
            let number = self.number(row.as_ref());
            numbers.extend(std::iter::repeat_n(number, run.len()));
        }
        Ok(())
    }

    fn number(&mut self, value: &[u8]) -> u32 {
        let Self {
            bytes,
            ends,
            numbers,
            hasher,
            ..
        } = self;
        let is_it = |number: &u32| bytes_of(bytes, ends, *number) == value;
        let hash = hasher.hash_one(value);
        if let Some(number) = numbers.find(hash, is_it) {
            return *number;
        }
        let number = ends.len() as u32;
        bytes.extend_from_slice(value);
        ends.push(bytes.len());
        numbers.insert_unique(hash, number, |number| {
            hasher.hash_one(bytes_of(bytes, ends, *number))
        });
        number
    }

    /// The values in the order of their numbers.
    pub(super) fn values(&self) -> Result<ArrayRef, Error> {
        let parser = self.converter.parser();
        let rows = (0..self.ends.len() as u32)
            .map(|number| parser.parse(bytes_of(&self.bytes, &self.ends, number)));
        let values = self.converter.convert_rows(rows);
        let values = values.map_err(|error| not_grouped(&error))?;
        let values = values.into_iter().next();
        values.ok_or_else(|| Error::internal("groups", &"no values of a key"))
    }
}

fn bytes_of<'a>(bytes: &'a [u8], ends: &[usize], number: u32) -> &'a [u8] {
    let before = (number as usize).checked_sub(1);
    let start = before.and_then(|before| ends.get(before)).copied();
    let end = ends.get(number as usize).copied().unwrap_or_default();
    bytes
        .get(start.unwrap_or_default()..end)
        .unwrap_or_default()
}

/// Values that cannot be told apart or put together.
pub(super) fn not_grouped(error: &ArrowError) -> Error {
    Error::internal("groups", error)
}

/// Two numbers: of a group and of a value of the next key or of a measure.
pub(super) type Pair = (u32, u32);

/// Numbers for pairs of numbers, in the order in which these come first.
#[derive(Debug)]
pub(super) struct Pairs {
    numbers: Numbers,
    pub(super) pairs: Vec<Pair>,
}

#[derive(Debug)]
enum Numbers {
    /// Of few possible pairs: the number of each is at its first number times `width` and its
    /// second, or [`NO_NUMBER`] is.
    Table {
        width: usize,
        numbers: Vec<u32>,
    },
    Map(HashMap<Pair, u32>),
}

const NO_NUMBER: u32 = u32::MAX;

/// Pairs that have a place in a table, at most.
const MOST_PLACES: usize = 1 << 16;

impl Pairs {
    /// Pairs of numbers below these, where that is known.
    pub(super) fn new(first: Option<usize>, second: Option<usize>) -> Self {
        let places = first.zip(second).and_then(|(first, second)| {
            let places = first.checked_mul(second)?;
            (places <= MOST_PLACES).then_some((second, places))
        });
        let numbers = places.map_or_else(
            || Numbers::Map(HashMap::new()),
            |(width, places)| Numbers::Table {
                width,
                numbers: vec![NO_NUMBER; places],
            },
        );
        Self {
            numbers,
            pairs: Vec::new(),
        }
    }

    /// Puts the number of each pair in the place of its first number.
    pub(super) fn number(&mut self, firsts: &mut [u32], seconds: &[u32]) {
        let Self { numbers, pairs } = self;
        let mut next = |pair| {
            pairs.push(pair);
            pairs.len() as u32 - 1
        };
        let each = firsts.iter_mut().zip(seconds);
        match numbers {
            Numbers::Table { width, numbers } => {
                for (first, second) in each {
                    let place = *first as usize * *width + *second as usize;
                    // Numbers are below those that `new` was told.
                    let Some(number) = numbers.get_mut(place) else {
                        continue;
                    };
                    if *number == NO_NUMBER {
                        *number = next((*first, *second));
                    }
                    *first = *number;
                }
            }
            Numbers::Map(numbers) => {
                // Rows beside each other are often of one group.
                let mut last = None;
                for (first, second) in each {
                    let pair = (*first, *second);
                    *first = match last {
                        Some((same, number)) if same == pair => number,
                        _ => *numbers.entry(pair).or_insert_with(|| next(pair)),
                    };
                    last = Some((pair, *first));
                }
            }
        }
    }

    /// Memory that it takes, in bytes, about.
    pub(super) fn memory(&self) -> usize {
        let numbers = match &self.numbers {
            Numbers::Table { numbers, .. } => numbers.len() * size_of::<u32>(),
            Numbers::Map(numbers) => numbers.capacity() * (size_of::<(Pair, u32)>() + 1),
        };
        numbers + self.pairs.capacity() * size_of::<Pair>()
    }
}

/// Numbers of groups by the numbers of the values of their keys.
#[derive(Debug)]
pub(super) struct Combined {
    /// The groups of the keys up to one with the next key.
    pairs: Vec<Pairs>,
    keys: usize,
    /// How many groups there are at most, where that is known before.
    pub(super) most: Option<usize>,
}

impl Combined {
    /// Of keys with so many values, where that is known before.
    pub(super) fn new(keys: &[Option<usize>]) -> Self {
        let mut pairs = Vec::new();
        let mut most = Some(1);
        for (key, values) in keys.iter().enumerate() {
            if key > 0 {
                pairs.push(Pairs::new(most, *values));
            }
            let both = most.zip(*values);
            most = both.and_then(|(groups, values)| groups.checked_mul(values));
        }
        Self {
            pairs,
            keys: keys.len(),
            most,
        }
    }

    /// The group of each of so many rows by the numbers of the values of each key.
    pub(super) fn groups(&mut self, keys: &[&[u32]], rows: usize) -> Vec<u32> {
        let Some((first, others)) = keys.split_first() else {
            return vec![0; rows];
        };
        let mut groups = first.to_vec();
        for (numbers, pairs) in others.iter().zip(&mut self.pairs) {
            pairs.number(&mut groups, numbers);
        }
        groups
    }

    /// How many groups there are; `values` is how many the first key has.
    pub(super) fn len(&self, values: usize) -> usize {
        match self.pairs.last() {
            Some(last) => last.pairs.len(),
            None if self.keys == 0 => 1,
            None => values,
        }
    }

    /// The numbers of the values of each key, group by group.
    pub(super) fn members(&self, groups: impl Iterator<Item = u32>) -> Vec<Vec<u32>> {
        let mut members = Vec::with_capacity(self.keys);
        let mut groups: Vec<u32> = groups.collect();
        for Pairs { pairs, .. } in self.pairs.iter().rev() {
            let of_group = |group: &u32| pairs.get(*group as usize).copied().unwrap_or_default();
            let (before, numbers): (Vec<u32>, Vec<u32>) = groups.iter().map(of_group).unzip();
            members.push(numbers);
            groups = before;
        }
        if self.keys > 0 {
            members.push(groups);
        }
        members.reverse();
        members
    }

    /// Memory that they take, in bytes, about.
    pub(super) fn memory(&self) -> usize {
        self.pairs.iter().map(Pairs::memory).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, StringViewArray};

    use super::*;

    fn texts(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(values.iter().copied().collect::<StringViewArray>())
    }

    #[test]
    fn equal_values_have_one_number() {
        let mut numbered = Numbered::new(&DataType::Utf8View).unwrap();
        let mut numbers = Vec::new();
        let long = "a text that does not fit into a view, and therefore lies apart";
        numbered
            .add(
                &texts(&[Some("a"), Some("a"), None, Some(long)]),
                &mut numbers,
            )
            .unwrap();
        numbered
            .add(
                &texts(&[None, Some(""), Some(long), Some("a")]),
                &mut numbers,
            )
            .unwrap();
        numbered.add(&texts(&[]), &mut numbers).unwrap();
        assert_eq!(numbers, [0, 0, 1, 2, 1, 3, 2, 0]);
        let values = numbered.values().unwrap();
        let values: Vec<_> = values.as_string_view().iter().collect();
        assert_eq!(values, [Some("a"), None, Some(long), Some("")]);
    }

    #[test]
    fn groups_know_the_values_of_their_keys() {
        for values in [None, Some(7), Some(100)] {
            let mut combined = Combined::new(&[values; 3]);
            let groups = combined.groups(&[&[0, 0, 1, 0], &[5, 5, 5, 6], &[1, 1, 1, 1]], 4);
            assert_eq!(groups, [0, 0, 1, 2]);
            assert_eq!(combined.len(9), 3);
            assert_eq!(combined.groups(&[&[1, 0], &[5, 5], &[1, 2]], 2), [1, 3]);
            let members = combined.members(0..4);
            assert_eq!(
                members,
                [vec![0, 1, 0, 0], vec![5, 5, 6, 5], vec![1, 1, 1, 2]]
            );
        }
        let mut none = Combined::new(&[]);
        assert_eq!((none.groups(&[], 2), none.len(0)), (vec![0, 0], 1));
        assert!(none.members(0..1).is_empty());
        let mut one = Combined::new(&[Some(5)]);
        assert_eq!((one.groups(&[&[4, 2]], 2), one.len(5)), (vec![4, 2], 5));
        assert_eq!(one.members([4, 2].into_iter()), [vec![4, 2]]);
    }
}
