//! `teams`: the teams of a store.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringViewArray, UInt64Array};
use spanstore::{Month, TeamId, Usage};

use super::Context;
use crate::arguments::UsageArguments;
use crate::error::Error;
use crate::time::now_nanos;

pub(super) fn run(context: &mut Context<'_>, arguments: &UsageArguments) -> Result<(), Error> {
    let month = arguments.month.unwrap_or_else(|| Month::of(now_nanos()));
    let teams = context.store.teams()?;
    let usages = teams
        .iter()
        .map(|team| context.store.team(team).usage(month))
        .collect::<Result<Vec<_>, _>>()?;
    let names = StringViewArray::from_iter_values(teams.iter().map(TeamId::as_str));
    let months = usages.iter().map(|usage| usage.month.to_string());
    let months = StringViewArray::from_iter_values(months);
    let numbers = |of: fn(&Usage) -> u64| -> ArrayRef {
        Arc::new(usages.iter().map(of).collect::<UInt64Array>())
    };
    context.write(&RecordBatch::try_from_iter([
        ("team", Arc::new(names) as ArrayRef),
        ("month", Arc::new(months)),
        ("used", numbers(|usage| usage.used)),
        ("limit", numbers(|usage| usage.limit)),
        ("remaining", numbers(|usage| usage.remaining)),
    ])?)
}
