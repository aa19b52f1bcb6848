//! `inspect`: the segments, the parts of one, or how far merging is behind.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringViewArray, UInt64Array};
use spanstore::{SegmentLayout, SegmentSummary};

use super::Context;
use crate::arguments::InspectArguments;
use crate::error::Error;
use crate::output::Report;

pub(super) fn run(context: &mut Context<'_>, arguments: &InspectArguments) -> Result<(), Error> {
    if arguments.debt {
        let debt = context.store.health().merge_debt;
        return Report::new()
            .with("segments", debt.segments)
            .with("rows", debt.rows)
            .with("bytes", debt.bytes)
            .write(context.format, &mut context.out);
    }
    let segments = context.store.segments();
    let batch = match arguments.segment {
        None => list(&segments)?,
        Some(id) => {
            let layout = context.store.inspect(id)?;
            let rows = segments.iter().find(|one| one.id == id).map(|one| one.rows);
            match layout.zip(rows) {
                Some((layout, rows)) => parts(&layout, rows)?,
                None => return Err(Error::Usage(format!("there is no segment {id}"))),
            }
        }
    };
    context.write(&batch)
}

fn texts(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(StringViewArray::from_iter_values(values))
}

fn list(segments: &[SegmentSummary]) -> Result<RecordBatch, Error> {
    let numbers = |of: fn(&SegmentSummary) -> u64| -> ArrayRef {
        Arc::new(segments.iter().map(of).collect::<UInt64Array>())
    };
    let all = segments.iter();
    Ok(RecordBatch::try_from_iter([
        ("segment", texts(all.clone().map(|one| one.id.to_string()))),
        ("month", texts(all.clone().map(|one| one.month.to_string()))),
        ("run", texts(all.clone().map(|one| one.run.to_string()))),
        ("merges", numbers(|one| u64::from(one.level))),
        ("rows", numbers(|one| u64::from(one.rows))),
        ("teams", numbers(|one| u64::from(one.partitions))),
        ("bytes", numbers(|one| one.bytes)),
        (
            "first_team",
            texts(all.clone().map(|one| one.first_team.clone())),
        ),
        ("last_team", texts(all.map(|one| one.last_team.clone()))),
    ])?)
}

/// A line of the layout of a segment.
struct Line {
    table: &'static str,
    part: &'static str,
    name: String,
    detail: String,
    count: Option<u64>,
    bytes: Option<u64>,
}

/// The parts of a segment that holds a table.
fn lines(table: &'static str, layout: &SegmentLayout) -> Vec<Line> {
    let mut lines = Vec::new();
    for (number, rows) in layout.row_groups.iter().enumerate() {
        lines.push(Line {
            table,
            part: "row group",
            name: number.to_string(),
            detail: "rows".into(),
            count: Some(*rows),
            bytes: None,
        });
    }
    for column in &layout.columns {
        let nulls = column
            .null_rows
            .map_or(String::new(), |nulls| format!(", {nulls} null"));
        lines.push(Line {
            table,
            part: "column",
            name: column.name.clone(),
            detail: format!(
                "{} {}, {} decompressed, pages{nulls}",
                column.codec,
                column.encodings.join(" "),
                column.decompressed_bytes
            ),
            count: Some(column.pages),
            bytes: Some(column.bytes),
        });
    }
    for key in &layout.promoted {
        let column = layout.columns.get(key.column).map_or("", |one| &one.name);
        let strays = if key.has_strays {
            ", also elsewhere"
        } else {
            ""
        };
        lines.push(Line {
            table,
            part: "promoted key",
            name: key.key.clone(),
            detail: format!("{:?} in {column}{strays}", key.value).to_lowercase(),
            count: None,
            bytes: None,
        });
    }
    for facet in &layout.facets {
        lines.push(Line {
            table,
            part: "facet",
            name: facet.column.clone(),
            detail: format!("values in {} partitions", facet.partitions),
            count: Some(facet.values),
            bytes: Some(facet.posting_bytes),
        });
    }
    for part in &layout.parts {
        lines.push(Line {
            table,
            part: "index",
            name: part.name.clone(),
            detail: String::new(),
            count: None,
            bytes: Some(part.bytes),
        });
    }
    for (name, bytes) in [
        ("header and checksums", layout.header_bytes),
        ("page index and footer", layout.tail_bytes),
    ] {
        lines.push(Line {
            table,
            part: "index",
            name: name.into(),
            detail: String::new(),
            count: None,
            bytes: Some(bytes),
        });
    }
    lines
}

fn parts(layout: &SegmentLayout, rows: u32) -> Result<RecordBatch, Error> {
    let requests = layout.requests.iter();
    let requests = requests.flat_map(|requests| lines("requests", requests));
    let all: Vec<Line> = lines("spans", layout).into_iter().chain(requests).collect();
    let rows = f64::from(rows.max(1));
    let all = all.iter();
    Ok(RecordBatch::try_from_iter([
        ("table", texts(all.clone().map(|line| line.table.into()))),
        ("part", texts(all.clone().map(|line| line.part.into()))),
        ("name", texts(all.clone().map(|line| line.name.clone()))),
        ("detail", texts(all.clone().map(|line| line.detail.clone()))),
        (
            "count",
            Arc::new(all.clone().map(|line| line.count).collect::<UInt64Array>()) as ArrayRef,
        ),
        (
            "bytes",
            Arc::new(all.clone().map(|line| line.bytes).collect::<UInt64Array>()) as ArrayRef,
        ),
        (
            "bytes_a_row",
            Arc::new(
                all.map(|line| {
                    line.bytes
                        .map(|bytes| (bytes as f64 / rows * 1e3).round() / 1e3)
                })
                .collect::<Float64Array>(),
            ) as ArrayRef,
        ),
    ])?)
}
