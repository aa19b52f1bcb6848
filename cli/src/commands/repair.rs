//! `repair`: a store anew, of what can be read of a damaged one.

use serde_json::{Value, json};
use spanstore::{CatalogTable, LostSpans, RepairReport};

use super::Out;
use crate::arguments::{Format, RepairArguments};
use crate::error::Error;
use crate::output::Report;

pub(super) fn run(arguments: &RepairArguments, format: Format, out: Out<'_>) -> Result<(), Error> {
    let repaired = spanstore::repair(&arguments.directory, &arguments.out)?;
    report(arguments, &repaired).write(format, out)
}

fn report(arguments: &RepairArguments, repaired: &RepairReport) -> Report {
    let sequences: Vec<Value> = repaired
        .lost_sequences
        .iter()
        .map(|range| json!({ "first": range.start, "end": range.end }))
        .collect();
    let damage: Vec<Value> = repaired
        .damage
        .iter()
        .map(|damage| json!({ "file": damage.file, "detail": damage.detail }))
        .collect();
    let tables: Vec<Value> = repaired
        .lost_tables
        .iter()
        .map(|table| json!(name(*table)))
        .collect();
    Report::new()
        .with("store", arguments.out.display().to_string())
        .with("spans", repaired.spans)
        .with("sessions", repaired.sessions)
        .with("segments", repaired.segments)
        .with("rebuilt_segments", repaired.rebuilt_segments)
        .with("log_records", repaired.log_records)
        .with("lost", lost(&repaired.lost))
        .with("without_resource", lost(&repaired.without_resource))
        .with("without_parent", lost(&repaired.without_parent))
        .with("lost_sequences", sequences)
        .with("lost_tables", tables)
        .with("quarantined", repaired.quarantined.clone())
        .with("damage", damage)
}

fn lost(lost: &[LostSpans]) -> Vec<Value> {
    let lost = lost.iter().map(|lost| {
        json!({
            "team": lost.team.as_ref().map(ToString::to_string),
            "month": lost.month.to_string(),
            "spans": lost.spans,
        })
    });
    lost.collect()
}

fn name(table: CatalogTable) -> &'static str {
    match table {
        CatalogTable::Segments => "segments",
        CatalogTable::Counters => "counters",
        CatalogTable::Settings => "settings",
        CatalogTable::Store => "store",
        CatalogTable::Erasures => "erasures",
        CatalogTable::Sessions => "sessions",
        _ => "another",
    }
}
