//! Groups of all rows, put together by the values of their keys.

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::take;
use hashbrown::HashSet;

use super::keys::{Combined, Numbered, Pair, not_grouped};
use super::measures::{State, counted};
use super::part::Part;
use super::{Grouping, Measure};
use crate::error::Error;

/// The groups of all parts that were added.
pub(crate) struct Groups {
    grouping: Grouping,
    keys: Vec<Numbered>,
    combined: Combined,
    rows: Vec<u64>,
    states: Vec<State>,
    /// Of measures of different values: these, and which group has which.
    distinct: Vec<Option<(Numbered, HashSet<Pair>)>>,
}

impl Groups {
    pub(crate) fn new(grouping: &Grouping) -> Result<Self, Error> {
        let keys = grouping
            .keys
            .iter()
            .map(|term| Numbered::new(&term.data_type));
        let distinct = grouping.measures.iter().map(|measure| match measure {
            Measure::Distinct(term) => {
                let numbered = Numbered::new(&term.data_type)?;
                Ok(Some((numbered, HashSet::new())))
            }
            _ => Ok(None),
        });
        let mut groups = Self {
            keys: keys.collect::<Result<_, Error>>()?,
            combined: Combined::new(&vec![None; grouping.keys.len()]),
            rows: Vec::new(),
            states: grouping.measures.iter().map(State::new).collect(),
            distinct: distinct.collect::<Result<_, Error>>()?,
            grouping: grouping.clone(),
        };
        groups.resize();
        Ok(groups)
    }

    /// Makes place for the groups that there are by now.
    fn resize(&mut self) {
        let groups = self
            .combined
            .len(self.keys.first().map_or(0, Numbered::len));
        self.rows.resize(groups, 0);
        self.states
            .iter_mut()
            .for_each(|state| state.resize(groups));
    }

    pub(crate) fn add(&mut self, part: Part) -> Result<(), Error> {
        let mut members = Vec::with_capacity(self.keys.len());
        for (known, (values, of_part)) in self.keys.iter_mut().zip(part.keys) {
            let mut numbers = Vec::with_capacity(values.len());
            known.add(&values, &mut numbers)?;
            members.push(picked(&numbers, &of_part));
        }
        let members: Vec<&[u32]> = members.iter().map(Vec::as_slice).collect();
        let present = self.combined.groups(&members, part.present.len());
        self.resize();
        // A group of the part without rows is none of these.
        let mut groups = vec![u32::MAX; part.rows.len()];
        for (of_part, group) in part.present.iter().zip(present) {
            if let Some(place) = groups.get_mut(*of_part as usize) {
                *place = group;
            }
        }
        for (group, rows) in groups.iter().zip(part.rows) {
            if let Some(all) = self.rows.get_mut(*group as usize) {
                *all += rows;
            }
        }
        for (state, of_part) in self.states.iter_mut().zip(part.states) {
            state.merge(of_part, &groups);
        }
        for (distinct, of_part) in self.distinct.iter_mut().zip(part.distinct) {
            let (Some((known, found)), Some((values, of_part))) = (distinct, of_part) else {
                continue;
            };
            let mut numbers = Vec::with_capacity(values.len());
            known.add(&values, &mut numbers)?;
            let nulls = values.logical_nulls();
            let is_value = |value: u32| {
                let nulls = nulls.as_ref();
                nulls.is_none_or(|nulls| nulls.is_valid(value as usize))
            };
            let of_part = of_part.into_iter().filter(|(_, value)| is_value(*value));
            found.extend(of_part.filter_map(|(group, value)| {
                let group = groups.get(group as usize)?;
                Some((*group, *numbers.get(value as usize)?))
            }));
        }
        Ok(())
    }

    /// Memory that they take, in bytes, about.
    pub(crate) fn memory(&self) -> usize {
        let keys = self.keys.iter().map(Numbered::memory).sum::<usize>();
        let states = self.states.iter().map(State::memory).sum::<usize>();
        let distinct = self.distinct.iter().flatten();
        let distinct = distinct
            .map(|(known, found)| known.memory() + found.capacity() * (size_of::<Pair>() + 1));
        keys + states + distinct.sum::<usize>() + self.combined.memory() + self.rows.capacity() * 8
    }

    /// The values of keys and measures of each group that has rows; without keys there is
    /// one group, whether it has rows or not.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when a sum of integers does not fit in 64 bits.
    pub(crate) fn finish(self) -> Result<Vec<ArrayRef>, Error> {
        let is_one = self.keys.is_empty();
        let rows = self.rows.iter().zip(0..);
        let present = rows.filter(|(rows, _)| is_one || **rows > 0);
        let present: Vec<u32> = present.map(|(_, group)| group).collect();
        let members = self.combined.members(present.iter().copied());
        let present = UInt32Array::from(present);
        let mut columns = Vec::with_capacity(self.keys.len() + self.states.len());
        for (known, members) in self.keys.iter().zip(members) {
            let values = take(&known.values()?, &UInt32Array::from(members), None);
            columns.push(values.map_err(|error| not_grouped(&error))?);
        }
        let measures = self.states.into_iter().zip(self.distinct);
        for ((state, distinct), measure) in measures.zip(&self.grouping.measures) {
            let values = match (state, distinct) {
                (State::Rows, _) => counted(&self.rows),
                (_, Some((_, found))) => {
                    let mut counts = vec![0; self.rows.len()];
                    for (group, _) in found {
                        if let Some(count) = counts.get_mut(group as usize) {
                            *count += 1;
                        }
                    }
                    counted(&counts)
                }
                (state, None) => state.finish(measure)?,
            };
            let values = take(&values, &present, None);
            columns.push(values.map_err(|error| not_grouped(&error))?);
        }
        Ok(columns)
    }
}

fn picked(numbers: &[u32], places: &[u32]) -> Vec<u32> {
    let number = |place: &u32| numbers.get(*place as usize).copied().unwrap_or_default();
    places.iter().map(number).collect()
}
