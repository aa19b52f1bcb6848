//! Reads everything and says what is wrong.

use std::collections::HashMap;

use arrow::array::Array;
use roaring::RoaringBitmap;
use spanstore_format::segment::layout::order::OrderColumns;
use spanstore_format::segment::{Column, Id, Partition, SegmentReader};
use spanstore_format::span::restore::SpanColumns;
use spanstore_format::span::{SpanColumn, table};
use spanstore_format::{FormatError, Month, TraceId};

use crate::catalog::{Catalog, Count};
use crate::error::Error;
use crate::log::{LogBounds, survey};
use crate::recent::RecentFiles;
use crate::segments::Segments;
use crate::view::View;

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
    /// Files of the log read.
    pub log_files: u64,
    /// Records read in them.
    pub log_records: u64,
    /// Bytes of these files.
    pub log_bytes: u64,
    /// Bytes of the catalog.
    pub catalog_bytes: u64,
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

/// The catalog's file, in reports.
const CATALOG: &str = "catalog.redb";

/// Checks the catalog and the log against their checksums, and all segments
/// against theirs, their indexes, and the catalog's counters.
pub(crate) fn check(
    segments: &Segments,
    catalog: &Catalog,
    recent: &RecentFiles,
    view: &View,
) -> Result<CheckReport, Error> {
    let mut report = CheckReport {
        hot_rows: view.hot_rows(),
        ..CheckReport::default()
    };
    check_catalog(catalog, &mut report)?;
    or_damage(catalog.check_sessions(), &mut report)?;
    check_log(segments, catalog, &mut report)?;
    check_recent(catalog, recent, &mut report)?;
    let mut counted: HashMap<(Month, String), u64> = HashMap::new();
    // Held to the end: files that a merge replaces meanwhile stay until then.
    let (sealed, summaries, counts) = {
        let _rewrite = segments.rewrite();
        let (sealed, _) = view.sealed();
        match or_damage(catalog.segments_and_counts(), &mut report)? {
            Some((summaries, counts)) => (sealed, summaries, Some(counts)),
            None => {
                let summaries = sealed.iter().map(|one| one.summary().clone()).collect();
                (sealed, summaries, None)
            }
        }
    };
    for summary in summaries {
        report.segments += 1;
        report.bytes += summary.bytes;
        // Opened anew: a segment that readers have open has its blocks verified.
        let segment = segments.open(summary);
        let damage = |error: &FormatError| Damage {
            file: segment.file(),
            detail: error.to_string(),
        };
        match segment.open() {
            Ok(reader) => {
                report.damage.extend(reader.verify().iter().map(damage));
                match check_rows(&reader, &mut counted) {
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
    drop(sealed);
    let Some(counts) = counts else {
        return Ok(report);
    };
    for Count {
        month,
        team,
        rows,
        removed,
    } in counts
    {
        let found = counted.remove(&(month, team.clone())).unwrap_or(0);
        if found.checked_add(removed) != Some(rows) {
            report.damage.push(Damage {
                file: CATALOG.into(),
                detail: format!(
                    "counter of {team} in {month}: {rows}, rows found: {found}, removed: {removed}"
                ),
            });
        }
    }
    for ((month, team), found) in counted {
        report.damage.push(Damage {
            file: CATALOG.into(),
            detail: format!("no counter of {team} in {month}, rows found: {found}"),
        });
    }
    Ok(report)
}

/// What was read; none when the catalog is damaged, which is noted once.
fn or_damage<T>(read: Result<T, Error>, report: &mut CheckReport) -> Result<Option<T>, Error> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(Error::CatalogDamaged { cause, .. }) => {
            let damage = Damage {
                file: CATALOG.into(),
                detail: cause,
            };
            if !report.damage.contains(&damage) {
                report.damage.push(damage);
            }
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Reads every page of the catalog, and every value.
fn check_catalog(catalog: &Catalog, report: &mut CheckReport) -> Result<(), Error> {
    report.catalog_bytes = or_damage(catalog.verify(), report)?.unwrap_or(0);
    or_damage(catalog.settings(), report)?;
    or_damage(catalog.erasures(), report)?;
    or_damage(catalog.erased(), report)?;
    or_damage(catalog.replaced(), report)?;
    or_damage(catalog.meta(), report)?;
    Ok(())
}

/// Reads every frame of the log.
fn check_log(
    segments: &Segments,
    catalog: &Catalog,
    report: &mut CheckReport,
) -> Result<(), Error> {
    let bounds = || {
        Ok(LogBounds {
            first_unsealed: catalog.first_unsealed()?,
            settled: catalog.log_settled()?,
        })
    };
    let directory = segments.root.join("log");
    loop {
        let Some(before) = or_damage(bounds(), report)? else {
            return Ok(());
        };
        let survey = survey(&*segments.disk, &directory, before, &mut |_, _| Ok(()))?;
        let Some(after) = or_damage(bounds(), report)? else {
            return Ok(());
        };
        // A seal let go of files meanwhile.
        if before.first_unsealed != after.first_unsealed {
            continue;
        }
        for file in &survey.files {
            report.log_files += 1;
            report.log_records += file.frames;
            report.log_bytes += file.bytes;
        }
        report.damage.extend(survey.damage.iter().map(|one| Damage {
            file: one.path.display().to_string(),
            detail: one.source.to_string(),
        }));
        return Ok(());
    }
}

/// The file of recent appends is there, and whole.
fn check_recent(
    catalog: &Catalog,
    recent: &RecentFiles,
    report: &mut CheckReport,
) -> Result<(), Error> {
    let _kept = recent.keep();
    let Some(Some(file)) = or_damage(catalog.recent_file(), report)? else {
        return Ok(());
    };
    if let Err(error) = recent.verify(file, &mut |_| ()) {
        let file = recent.path(file).display().to_string();
        let detail = match error {
            Error::Corrupt { source, .. } => source.to_string(),
            other => other.to_string(),
        };
        report.damage.push(Damage { file, detail });
    }
    Ok(())
}

/// Reads all rows of a segment: each belongs to the team that the directory
/// names, decodes as a span, and is found by its trace and by its session.
fn check_rows(
    reader: &SegmentReader,
    counted: &mut HashMap<(Month, String), u64>,
) -> Result<u64, FormatError> {
    let columns = Column::all(table());
    let rows = reader.row_reader()?;
    let mut total = 0;
    for partition in reader.directory().partitions() {
        let partition = partition?;
        let expected = u64::from(partition.rows.end - partition.rows.start);
        let mut next = partition.rows.start;
        for batch in rows.read(std::slice::from_ref(&partition.rows), &columns, BATCH_ROWS)? {
            let batch = batch.map_err(|error| {
                FormatError::malformed("rows", u64::from(next), "readable rows", error.to_string())
            })?;
            let wrong = |row: u32, expected: &str| {
                FormatError::malformed("rows", u64::from(row), expected, "another")
            };
            let ids = OrderColumns::of(&batch)?;
            let spans = SpanColumns::of(&batch)?;
            let teams = SpanColumn::TeamId.texts(&batch)?;
            for row in 0..batch.num_rows() {
                spans.span(row)?;
                if teams.value(row) != partition.team.as_str() {
                    let number = next + row as u32;
                    return Err(wrong(number, &format!("a row of {}", partition.team)));
                }
            }
            check_ids(reader, &partition, next, batch.num_rows(), |row| {
                Some(Id::Trace(TraceId(ids.trace_id(row))))
            })?;
            for column in [SpanColumn::SessionId, SpanColumn::RequestId] {
                let texts = column.texts(&batch)?;
                check_ids(reader, &partition, next, batch.num_rows(), |row| {
                    let text = texts.is_valid(row).then(|| texts.value(row))?;
                    Some(if column == SpanColumn::SessionId {
                        Id::Session(text)
                    } else {
                        Id::Request(text)
                    })
                })?;
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
        check_facets(reader, &partition)?;
        let key = (reader.summary().month, partition.team.as_str().to_owned());
        *counted.entry(key).or_default() += found;
        total += found;
    }
    Ok(total)
}

/// The index finds each row by its id.
fn check_ids<'a>(
    reader: &SegmentReader,
    partition: &Partition,
    first: u32,
    rows: usize,
    id: impl Fn(usize) -> Option<Id<'a>>,
) -> Result<(), FormatError> {
    let mut last = None;
    let mut found = RoaringBitmap::new();
    for row in 0..rows {
        let Some(id) = id(row) else { continue };
        if last != Some(id) {
            found = reader.find(partition, id)?.unwrap_or_default();
            last = Some(id);
        }
        let number = first + row as u32;
        if !found.contains(number) {
            let expected = format!("a row that the index finds by {id:?}");
            return Err(FormatError::malformed(
                "rows",
                u64::from(number),
                expected,
                "none",
            ));
        }
    }
    Ok(())
}

/// The values of each facet, and null, share the partition's rows out.
fn check_facets(reader: &SegmentReader, partition: &Partition) -> Result<(), FormatError> {
    let Some(facets) = reader.facets(partition)? else {
        return Ok(());
    };
    let read = |range| reader.postings(range);
    for column in facets.columns()? {
        let Some(facet) = facets.facet(column)? else {
            continue;
        };
        let nulls = facet.nulls(&read)?;
        let mut rows = nulls.len();
        let mut is_right = rows == u64::from(facet.null_rows());
        let mut all = nulls;
        for place in 0..facet.len() {
            let value = facet.value(place)?;
            let found = facet.rows(&value, &read)?;
            is_right &= found.len() == u64::from(value.rows);
            rows += found.len();
            all |= found;
        }
        let expected = u64::from(partition.rows.end - partition.rows.start);
        if !is_right || rows != expected || all.len() != expected {
            let found = format!("{rows}, {} of them different", all.len());
            let expected = format!("{expected} rows in the facet of column {column}");
            return Err(FormatError::malformed("facets", 0, expected, found));
        }
    }
    Ok(())
}
