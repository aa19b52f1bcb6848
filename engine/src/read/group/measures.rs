//! What is worked out for each group, as far as rows were looked at.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampNanosecondType};

use super::Measure;
use super::keys::not_grouped;
use crate::error::Error;

/// A measure of each group; a number of a group is a place in it.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// The rows of groups are counted for all measures.
    Rows,
    Values(Vec<u64>),
    IntegerSum(Vec<i128>, Vec<u64>),
    FloatSum(Vec<f64>, Vec<u64>),
    /// None where there is no value.
    IntegerBest(Best, Vec<Option<i64>>),
    FloatBest(Best, Vec<Option<f64>>),
    /// All numbers.
    All(Vec<Vec<f64>>),
    /// Different values are gathered apart.
    Distinct,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Best {
    Least,
    Greatest,
}

impl Best {
    /// Whether a number takes the place of another.
    fn is<N: PartialOrd>(self, one: N, other: N) -> bool {
        match self {
            Self::Least => one < other,
            Self::Greatest => one > other,
        }
    }
}

impl State {
    pub(super) fn new(measure: &Measure) -> Self {
        let is_float = measure
            .term()
            .is_some_and(|term| term.data_type == DataType::Float64);
        let best = |best| {
            if is_float {
                Self::FloatBest(best, Vec::new())
            } else {
                Self::IntegerBest(best, Vec::new())
            }
        };
        match measure {
            Measure::Rows => Self::Rows,
            Measure::Values(_) => Self::Values(Vec::new()),
            Measure::Sum(_) | Measure::Mean(_) if is_float => {
                Self::FloatSum(Vec::new(), Vec::new())
            }
            Measure::Sum(_) | Measure::Mean(_) => Self::IntegerSum(Vec::new(), Vec::new()),
            Measure::Least(_) => best(Best::Least),
            Measure::Greatest(_) => best(Best::Greatest),
            Measure::Distinct(_) => Self::Distinct,
            Measure::Percentile(..) => Self::All(Vec::new()),
        }
    }

    /// Makes place for so many groups.
    pub(super) fn resize(&mut self, groups: usize) {
        match self {
            Self::Rows | Self::Distinct => {}
            Self::Values(values) => values.resize(groups, 0),
            Self::IntegerSum(sums, values) => {
                sums.resize(groups, 0);
                values.resize(groups, 0);
            }
            Self::FloatSum(sums, values) => {
                sums.resize(groups, 0.0);
                values.resize(groups, 0);
            }
            Self::IntegerBest(_, best) => best.resize(groups, None),
            Self::FloatBest(_, best) => best.resize(groups, None),
            Self::All(all) => all.resize_with(groups, Vec::new),
        }
    }

    /// Takes the values of rows, each of a group that has a place.
    pub(super) fn take(&mut self, values: &ArrayRef, groups: &[u32]) -> Result<(), Error> {
        match self {
            Self::Rows | Self::Distinct => Ok(()),
            Self::Values(counts) => {
                let nulls = values.logical_nulls();
                each_valid(nulls.as_ref(), groups, |_, group| add(counts, group, 1));
                Ok(())
            }
            Self::IntegerSum(sums, counts) => integers(values, |numbers, nulls| {
                each_valid(nulls, groups, |row, group| {
                    add(sums, group, i128::from(at(numbers, row)));
                    add(counts, group, 1);
                });
            }),
            Self::FloatSum(sums, counts) => floats(values, |numbers, nulls| {
                each_valid(nulls, groups, |row, group| {
                    add(sums, group, at(numbers, row));
                    add(counts, group, 1);
                });
            }),
            Self::IntegerBest(best, of_groups) => integers(values, |numbers, nulls| {
                each_valid(nulls, groups, |row, group| {
                    better(*best, of_groups, group, at(numbers, row));
                });
            }),
            Self::FloatBest(best, of_groups) => floats(values, |numbers, nulls| {
                each_valid(nulls, groups, |row, group| {
                    better(*best, of_groups, group, at(numbers, row));
                });
            }),
            Self::All(all) => floats(values, |numbers, nulls| {
                each_valid(nulls, groups, |row, group| {
                    if let Some(all) = all.get_mut(group as usize) {
                        all.push(at(numbers, row));
                    }
                });
            }),
        }
    }

    /// Takes what another has of groups, each of which is one of these groups.
    pub(super) fn merge(&mut self, other: Self, groups: &[u32]) {
        let groups = groups.iter().copied();
        match (self, other) {
            (Self::Values(counts), Self::Values(others)) => {
                groups
                    .zip(others)
                    .for_each(|(group, other)| add(counts, group, other));
            }
            (Self::IntegerSum(sums, counts), Self::IntegerSum(others, of_others)) => {
                for (group, (other, values)) in groups.zip(others.into_iter().zip(of_others)) {
                    add(sums, group, other);
                    add(counts, group, values);
                }
            }
            (Self::FloatSum(sums, counts), Self::FloatSum(others, of_others)) => {
                for (group, (other, values)) in groups.zip(others.into_iter().zip(of_others)) {
                    add(sums, group, other);
                    add(counts, group, values);
                }
            }
            (Self::IntegerBest(best, of_groups), Self::IntegerBest(_, others)) => {
                let others = groups.zip(others);
                let others = others.filter_map(|(group, other)| Some((group, other?)));
                others.for_each(|(group, other)| better(*best, of_groups, group, other));
            }
            (Self::FloatBest(best, of_groups), Self::FloatBest(_, others)) => {
                let others = groups.zip(others);
                let others = others.filter_map(|(group, other)| Some((group, other?)));
                others.for_each(|(group, other)| better(*best, of_groups, group, other));
            }
            (Self::All(all), Self::All(others)) => {
                for (group, mut other) in groups.zip(others) {
                    if let Some(all) = all.get_mut(group as usize) {
                        all.append(&mut other);
                    }
                }
            }
            _ => {}
        }
    }

    /// Memory that it takes, in bytes, about.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Rows | Self::Distinct => 0,
            Self::Values(counts) => counts.capacity() * 8,
            Self::IntegerSum(sums, _) => sums.capacity() * 24,
            Self::FloatSum(sums, _) => sums.capacity() * 16,
            Self::IntegerBest(_, best) => best.capacity() * 16,
            Self::FloatBest(_, best) => best.capacity() * 16,
            Self::All(all) => {
                let of_groups = all.iter().map(|all| all.capacity() * 8);
                all.capacity() * size_of::<Vec<f64>>() + of_groups.sum::<usize>()
            }
        }
    }

    /// The value of each group.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when a sum of integers does not fit in 64 bits.
    pub(super) fn finish(self, measure: &Measure) -> Result<ArrayRef, Error> {
        let means = |sum: f64, values: u64| (values > 0).then(|| sum / values as f64);
        let values: ArrayRef = match (self, measure) {
            (Self::Values(counts), _) => counted(&counts),
            (Self::IntegerSum(sums, counts), Measure::Mean(_)) => {
                let sums = sums.into_iter().zip(counts);
                let of_groups = sums.map(|(sum, values)| means(sum as f64, values));
                Arc::new(of_groups.collect::<Float64Array>())
            }
            (Self::FloatSum(sums, counts), Measure::Mean(_)) => {
                let sums = sums.into_iter().zip(counts);
                Arc::new(
                    sums.map(|(sum, values)| means(sum, values))
                        .collect::<Float64Array>(),
                )
            }
            (Self::IntegerSum(sums, counts), _) => {
                let sums = sums.into_iter().zip(counts);
                let sums = sums.map(|(sum, values)| (values > 0).then_some(sum));
                let sums = sums.map(|sum| sum.map(in_64_bits).transpose());
                Arc::new(sums.collect::<Result<Int64Array, Error>>()?)
            }
            (Self::FloatSum(sums, counts), _) => {
                let sums = sums.into_iter().zip(counts);
                let sums = sums.map(|(sum, values)| (values > 0).then_some(sum));
                Arc::new(sums.collect::<Float64Array>())
            }
            (Self::IntegerBest(_, best), _) => Arc::new(Int64Array::from_iter(best)),
            (Self::FloatBest(_, best), _) => Arc::new(Float64Array::from_iter(best)),
            (Self::All(all), Measure::Percentile(_, share)) => {
                let of_groups = all.into_iter().map(|mut all| percentile(&mut all, *share));
                Arc::new(of_groups.collect::<Float64Array>())
            }
            (state, measure) => {
                let found = format!("{measure:?} of {state:?}");
                return Err(Error::internal("groups", &found));
            }
        };
        cast(&values, &measure.data_type()).map_err(|error| not_grouped(&error))
    }
}

/// Numbers of rows.
pub(super) fn counted(counts: &[u64]) -> ArrayRef {
    let counts = counts
        .iter()
        .map(|count| i64::try_from(*count).unwrap_or(i64::MAX));
    Arc::new(Int64Array::from_iter_values(counts))
}

fn in_64_bits(sum: i128) -> Result<i64, Error> {
    i64::try_from(sum).map_err(|_| Error::TooLarge {
        what: "a sum of integers, without its sign",
        limit: i64::MAX.cast_unsigned(),
        found: u64::try_from(sum.unsigned_abs()).unwrap_or(u64::MAX),
    })
}

/// The number at a share of all in their order; between two of them in proportion.
fn percentile(all: &mut [f64], share: f64) -> Option<f64> {
    let last = all.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * last as f64;
    let before = (place.floor() as usize).min(last);
    let (_, at, above) = all.select_nth_unstable_by(before, f64::total_cmp);
    let (at, part) = (*at, place - before as f64);
    let next = above.iter().copied().min_by(f64::total_cmp).unwrap_or(at);
    Some(at + (next - at) * part)
}

fn at<N: Copy + Default>(numbers: &[N], row: usize) -> N {
    numbers.get(row).copied().unwrap_or_default()
}

fn add<N: std::ops::AddAssign>(totals: &mut [N], group: u32, number: N) {
    if let Some(total) = totals.get_mut(group as usize) {
        *total += number;
    }
}

fn better<N: PartialOrd + Copy>(best: Best, all: &mut [Option<N>], group: u32, number: N) {
    if let Some(of_group) = all.get_mut(group as usize)
        && of_group.is_none_or(|one| best.is(number, one))
    {
        *of_group = Some(number);
    }
}

/// Hands out each row that has a value, with its group.
fn each_valid(nulls: Option<&NullBuffer>, groups: &[u32], mut take: impl FnMut(usize, u32)) {
    let rows = groups.iter().copied().enumerate();
    match nulls.filter(|nulls| nulls.null_count() > 0) {
        None => rows.for_each(|(row, group)| take(row, group)),
        Some(nulls) => rows
            .filter(|(row, _)| nulls.is_valid(*row))
            .for_each(|(row, group)| take(row, group)),
    }
}

fn integers(
    values: &ArrayRef,
    take: impl FnOnce(&[i64], Option<&NullBuffer>),
) -> Result<(), Error> {
    let times = values.as_primitive_opt::<TimestampNanosecondType>();
    if let Some(times) = times {
        take(times.values(), times.nulls());
        return Ok(());
    }
    let numbers = cast(values, &DataType::Int64).map_err(|error| not_grouped(&error))?;
    let numbers = numbers.as_primitive::<Int64Type>();
    take(numbers.values(), numbers.nulls());
    Ok(())
}

/// Values as floats; NaN is no number, and no value.
fn floats(values: &ArrayRef, take: impl FnOnce(&[f64], Option<&NullBuffer>)) -> Result<(), Error> {
    let numbers = cast(values, &DataType::Float64).map_err(|error| not_grouped(&error))?;
    let numbers = numbers.as_primitive::<Float64Type>();
    if numbers.values().iter().any(|number| number.is_nan()) {
        let numbers: Float64Array =
            numbers.unary_opt(|number| (!number.is_nan()).then_some(number));
        take(numbers.values(), numbers.nulls());
        return Ok(());
    }
    take(numbers.values(), numbers.nulls());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Term;
    use super::*;

    fn term(data_type: DataType) -> Term {
        Term {
            table: spanstore_format::span::table(),
            columns: Vec::new(),
            expression: None,
            data_type,
        }
    }

    #[test]
    fn percentiles_lie_between_two_numbers_in_proportion() {
        let mut numbers = [40.0, 10.0, 30.0, 20.0];
        for (share, expected) in [
            (0.0, 10.0),
            (0.5, 25.0),
            (0.9, 37.0),
            (1.0, 40.0),
            (2.0, 40.0),
        ] {
            let found = percentile(&mut numbers, share).unwrap();
            assert!((found - expected).abs() < 1e-9, "{share}: {found}");
        }
        assert_eq!(percentile(&mut [], 0.5), None);
    }

    #[test]
    fn a_sum_beyond_64_bits_is_an_error() {
        let measure = Measure::Sum(term(DataType::Int64));
        let mut state = State::new(&measure);
        state.resize(1);
        let values: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX, i64::MAX]));
        state.take(&values, &[0, 0]).unwrap();
        let mean = state
            .clone()
            .finish(&Measure::Mean(term(DataType::Int64)))
            .unwrap();
        let mean = mean.as_primitive::<Float64Type>().value(0);
        assert!((mean - i64::MAX as f64).abs() < 1.0);
        assert!(matches!(
            state.finish(&measure),
            Err(Error::TooLarge { .. })
        ));
    }

    #[test]
    fn nan_is_no_number() {
        let values: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, 2.0, f64::NAN, 1.0]));
        let float = || term(DataType::Float64);
        for (measure, expected) in [
            (Measure::Sum(float()), 3.0),
            (Measure::Mean(float()), 1.5),
            (Measure::Least(float()), 1.0),
            (Measure::Greatest(float()), 2.0),
            (Measure::Percentile(float(), 1.0), 2.0),
        ] {
            let mut state = State::new(&measure);
            state.resize(1);
            state.take(&values, &[0; 4]).unwrap();
            let found = state.finish(&measure).unwrap();
            let found = found.as_primitive::<Float64Type>().value(0);
            assert!((found - expected).abs() < 1e-9, "{measure:?}: {found}");
        }
    }

    #[test]
    fn groups_without_a_value_have_none() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![Some(-3), None, Some(5)]));
        for (measure, expected) in [
            (Measure::Sum(term(DataType::Int64)), [Some(2), None]),
            (Measure::Least(term(DataType::Int64)), [Some(-3), None]),
            (Measure::Greatest(term(DataType::Int64)), [Some(5), None]),
            (Measure::Values(term(DataType::Int64)), [Some(2), Some(0)]),
        ] {
            let mut state = State::new(&measure);
            state.resize(2);
            state.take(&values, &[0, 1, 0]).unwrap();
            let mut merged = State::new(&measure);
            merged.resize(2);
            merged.merge(state, &[0, 1]);
            let found = merged.finish(&measure).unwrap();
            let found: Vec<_> = found.as_primitive::<Int64Type>().iter().collect();
            assert_eq!(found, expected, "{measure:?}");
        }
    }
}
