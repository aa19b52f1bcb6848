//! `seal`: the log into segments.

use serde_json::{Value, json};

use super::Context;
use crate::error::Error;
use crate::output::Report;

pub(super) fn run(context: &mut Context<'_>) -> Result<(), Error> {
    let sealed = context.store.seal()?;
    let segments: Vec<Value> = sealed
        .segments
        .iter()
        .map(|segment| {
            json!({
                "id": segment.id.to_string(),
                "month": segment.month.to_string(),
                "rows": segment.rows,
                "bytes": segment.bytes,
                "teams": segment.teams,
            })
        })
        .collect();
    Report::new()
        .with(
            "rows",
            sealed
                .segments
                .iter()
                .map(|segment| segment.rows)
                .sum::<u64>(),
        )
        .with(
            "bytes",
            sealed
                .segments
                .iter()
                .map(|segment| segment.bytes)
                .sum::<u64>(),
        )
        .with("segments", segments)
        .write(context.format, &mut context.out)
}
