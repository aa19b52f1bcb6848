//! Reads everything and says what is wrong.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use spanstore_format::segment::SegmentReader;
use spanstore_format::segment::key_index::session_key;
use spanstore_format::segment::order::OrderColumns;
use spanstore_format::span::restore::SpanColumns;
use spanstore_format::span::schema::{SESSION_ID, TEAM_ID, schema};
use spanstore_format::{FormatError, Month, TraceId};

use crate::catalog::Count;
use crate::error::Error;
use crate::io::Disk;
use crate::segment::Segment;
use crate::write::shared::Shared;

/// What a check read, and what is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Segments read.
    pub segments: u64,
    /// Rows read in them.
    pub rows: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Rows in memory, which the log holds.
    pub hot_rows: u64,
    /// What is wrong; empty when nothing is.
    pub damage: Vec<Damage>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// The part of it, what was expected there and what was found.
    pub detail: String,
}

/// Rows that are read at a time.
const BATCH_ROWS: usize = 8_192;

/// Checks all segments against their checksums, their indexes, and the
/// catalog's counters.
pub(crate) fn check(
    shared: &Shared,
    disk: &Arc<dyn Disk>,
    root: &Path,
) -> Result<CheckReport, Error> {
    let mut report = CheckReport {
        hot_rows: shared.view.hot_rows(),
        ..CheckReport::default()
    };
    let mut counted: HashMap<(Month, String), u64> = HashMap::new();
    let (summaries, counts) = shared.catalog.segments_and_counts()?;
    for summary in summaries {
        report.segments += 1;
        report.bytes += summary.bytes;
        // Opened anew: a segment that readers have open has its blocks verified.
        let segment = Segment::new(disk, root, summary);
        let damage = |error: &FormatError| Damage {
            file: segment.file(),
            detail: error.to_string(),
        };
        match segment.reader() {
            Ok(reader) => {
                report.damage.extend(reader.verify().iter().map(damage));
                match check_rows(reader, &mut counted) {
                    Ok(rows) => report.rows += rows,
                    Err(error) => report.damage.push(damage(&error)),
                }
            }
            Err(error) => {
                report.damage.push(Damage {
                    file: segment.file(),
                    detail: error.to_string(),
                });
            }
        }
    }
    for Count { month, team, rows } in counts {
        let found = counted.remove(&(month, team.clone())).unwrap_or(0);
        if found != rows {
            report.damage.push(Damage {
                file: "catalog.redb".into(),
                detail: format!("counter of {team} in {month}: {rows}, rows found: {found}"),
            });
        }
    }
    for ((month, team), found) in counted {
        report.damage.push(Damage {
            file: "catalog.redb".into(),
            detail: format!("no counter of {team} in {month}, rows found: {found}"),
        });
    }
    Ok(report)
}

/// Reads all rows of a segment: each belongs to the team that the directory
/// names, decodes as a span, and is found by its trace and by its session.
fn check_rows(
    reader: &SegmentReader,
    counted: &mut HashMap<(Month, String), u64>,
) -> Result<u64, FormatError> {
    let columns: Vec<usize> = (0..schema().fields().len()).collect();
    let mut total = 0;
    for partition in reader.directory().partitions() {
        let partition = partition?;
        let expected = u64::from(partition.rows.end - partition.rows.start);
        let mut next = partition.rows.start;
        for batch in reader.read(std::slice::from_ref(&partition.rows), &columns, BATCH_ROWS)? {
            let batch = batch.map_err(|error| {
                FormatError::malformed("rows", u64::from(next), "readable rows", error.to_string())
            })?;
            let wrong = |row: u32, expected: &str| {
                FormatError::malformed("rows", u64::from(row), expected, "another")
            };
            let ids = OrderColumns::of(&batch)?;
            let spans = SpanColumns::of(&batch)?;
            let teams = batch
                .column_by_name(TEAM_ID)
                .and_then(|column| column.as_string_view_opt());
            let sessions = batch
                .column_by_name(SESSION_ID)
                .and_then(|column| column.as_string_view_opt());
            let mut last_trace = None;
            let mut last_session = None;
            for row in 0..batch.num_rows() {
                let number = next + row as u32;
                spans.span(row)?;
                if teams.is_none_or(|teams| teams.value(row) != partition.team.as_str()) {
                    return Err(wrong(number, &format!("a row of {}", partition.team)));
                }
                let trace = ids.trace_id(row);
                if last_trace != Some(trace) {
                    let run = reader.trace(&partition, TraceId(trace))?;
                    if run.is_none_or(|run| !run.contains(&number)) {
                        return Err(wrong(number, "a row that the trace index finds"));
                    }
                    last_trace = Some(trace);
                }
                let session = sessions
                    .filter(|sessions| sessions.is_valid(row))
                    .map(|sessions| sessions.value(row));
                if let Some(session) = session {
                    let key = session_key(session);
                    if last_session.as_ref().is_none_or(|(last, _)| *last != key) {
                        let rows = reader.session(&partition, session)?.unwrap_or_default();
                        last_session = Some((key, rows));
                    }
                    if last_session
                        .as_ref()
                        .is_some_and(|(_, rows)| !rows.contains(number))
                    {
                        return Err(wrong(number, "a row that the session index finds"));
                    }
                }
            }
            next += batch.num_rows() as u32;
        }
        let found = u64::from(next - partition.rows.start);
        if found != expected {
            let expected = format!("{expected} rows of {}", partition.team);
            return Err(FormatError::malformed(
                "rows",
                u64::from(next),
                expected,
                found.to_string(),
            ));
        }
        let key = (reader.summary().month, partition.team.as_str().to_owned());
        *counted.entry(key).or_default() += found;
        total += found;
    }
    Ok(total)
}
