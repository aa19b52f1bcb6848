//! `trace`: one trace as a tree, as JSON or as OTLP.

use spanstore::query::Rows;
use spanstore::{SpanRow, Spans, TraceId};
use spanstore_format::otlp;
use spanstore_format::span::Origin;

use super::{Context, Out};
use crate::arguments::{Format, TraceArguments};
use crate::error::Error;
use crate::output::{JsonRows, pick, row_columns, width};
use crate::time;
use crate::tree::{TreeSpan, render};

pub(super) fn run(context: &mut Context<'_>, arguments: &TraceArguments) -> Result<(), Error> {
    let trace_id = arguments.trace_id;
    let spans = context.team.trace(trace_id)?;
    match context.format {
        Format::Json => write_json(trace_id, &spans, context.out)?,
        Format::OtlpJson => {
            writeln!(context.out, "{}", otlp::json::encode(&spans.to_otlp()?))?;
        }
        _ => write_tree(trace_id, &spans, context.out)?,
    }
    context.out.flush()?;
    Ok(())
}

/// Writes one object with all spans.
fn write_json(trace_id: TraceId, spans: &Spans, mut out: Out<'_>) -> Result<(), Error> {
    write!(out, "{{\"trace_id\":\"{trace_id}\",\"spans\":[")?;
    let columns = row_columns(Rows::Spans, Format::Json);
    for (position, batch) in spans.batches().iter().enumerate() {
        if position > 0 {
            write!(out, ",")?;
        }
        JsonRows::new(&pick(batch, &columns)?)?.write(",", &mut out)?;
    }
    writeln!(out, "]}}")?;
    Ok(())
}

/// Draws a trace below a line about it.
pub(super) fn write_tree(trace_id: TraceId, spans: &Spans, out: Out<'_>) -> Result<(), Error> {
    if spans.is_empty() {
        eprintln!("The team has no spans of the trace {trace_id}.");
        return Ok(());
    }
    let spans: Vec<_> = spans.rows()?.into_iter().map(tree_span).collect();
    let start = spans.iter().map(|span| span.start).min().unwrap_or(0);
    let end = spans
        .iter()
        .map(|span| span.start.saturating_add(span.duration))
        .max();
    let extent = end.unwrap_or(start).saturating_sub(start);
    writeln!(
        out,
        "trace {trace_id}  {} UTC\n{}  {} spans",
        time::short(start),
        time::humanise(extent),
        spans.len()
    )?;
    out.write_all(render(&spans, width()).as_bytes())?;
    Ok(())
}

fn tree_span(row: SpanRow) -> TreeSpan {
    TreeSpan {
        span_id: row.span_id,
        parent: row.parent_span_id,
        origin: match row.origin.as_str() {
            "infra" => Origin::Infra,
            "framework" => Origin::Framework,
            "fetch" => Origin::Fetch,
            _ => Origin::User,
        },
        name: row.name,
        start: row.start_nanos,
        duration: row.duration_nanos,
        error: matches!(row.level.as_str(), "error" | "fatal"),
    }
}
