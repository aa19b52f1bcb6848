//! `check`: the whole store against its checksums and counts.

use serde_json::{Value, json};

use super::{Context, Outcome};
use crate::error::Error;
use crate::output::Report;

pub(super) fn run(context: &mut Context<'_>) -> Result<Outcome, Error> {
    let checked = context.store.check()?;
    let damage: Vec<Value> = checked
        .damage
        .iter()
        .map(|damage| json!({ "file": damage.file, "detail": damage.detail }))
        .collect();
    let outcome = if damage.is_empty() {
        Outcome::Done
    } else {
        Outcome::Damaged
    };
    Report::new()
        .with("ok", outcome == Outcome::Done)
        .with("segments", checked.segments)
        .with("rows", checked.rows)
        .with("bytes", checked.bytes)
        .with("hot_rows", checked.hot_rows)
        .with("log_files", checked.log_files)
        .with("log_records", checked.log_records)
        .with("log_bytes", checked.log_bytes)
        .with("catalog_bytes", checked.catalog_bytes)
        .with("damage", damage)
        .write(context.format, &mut context.out)?;
    Ok(outcome)
}
