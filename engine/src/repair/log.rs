//! The rows of a log that is repaired: those that no segment has.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use spanstore_format::log::record::AppendRecord;
use spanstore_format::segment::Origin;
use spanstore_format::{Month, SegmentId, TeamId};

use super::files::{SegmentFound, State};
use super::old::OldCatalog;
use super::rows::{LogRows, Salvage};
use crate::catalog::SessionChanges;
use crate::check::Damage;
use crate::error::Error;
use crate::hot::Appended;
use crate::io::Disk;
use crate::log::{LogBounds, LogSurvey, survey};
use crate::registry::changes;
use crate::write::admitted::replayed;
use crate::write::prepare::{Source, prepare};

/// Rows for one segment, and the sequences that brought them.
#[derive(Debug)]
pub(super) struct FromLog {
    pub(super) rows: LogRows,
    pub(super) sequences: Range<u64>,
}

/// What a log holds that no segment does.
#[derive(Debug, Default)]
pub(super) struct LogFound {
    /// Whether there is no log.
    pub(super) is_absent: bool,
    /// Records with rows among these.
    pub(super) records: u64,
    /// Rows of damaged segments.
    pub(super) of_segments: BTreeMap<SegmentId, FromLog>,
    /// Rows of no segment.
    pub(super) of_months: BTreeMap<Month, FromLog>,
    /// Spans that the old store had not sealed.
    pub(super) unsealed: BTreeMap<(Month, TeamId), u64>,
    /// What becomes of sessions of the catalog.
    pub(super) sessions: SessionChanges,
    /// The sequence that the new store begins with: above all that were used.
    pub(super) end: u64,
    /// Sequences that are lost.
    pub(super) lost: Vec<Range<u64>>,
    pub(super) damage: Vec<Damage>,
}

/// Where the rows of a team go that a record of the log has.
enum Target {
    /// A segment has them.
    Nowhere,
    Segment(SegmentId),
    Month,
}

/// Reads a log.
pub(super) fn read(
    disk: &dyn Disk,
    root: &Path,
    old: &OldCatalog,
    kept: &[SegmentFound],
    salvages: &BTreeMap<SegmentId, Salvage>,
) -> Result<LogFound, Error> {
    let directory = root.join("log");
    let first = first_sequence(disk, &directory)?;
    let known = old.first_unsealed();
    let bounds = LogBounds {
        first_unsealed: first.into_iter().chain(known).min().unwrap_or(1),
        settled: old
            .number("log_settled")
            .into_iter()
            .chain(known)
            .chain(first)
            .max()
            .unwrap_or(1),
    };
    // Once to see what it has as a whole, once for the rows.
    let mut end = bounds.settled;
    let found = survey(disk, &directory, bounds, &mut |sequence, _| {
        end = end.max(sequence + 1);
        Ok(())
    })?;
    let used = kept.iter().filter_map(|one| Some(one.origin()?.log.end));
    let mut reading = Reading {
        old,
        kept,
        salvages,
        found: LogFound {
            is_absent: first.is_none(),
            end: used.chain([end]).max().unwrap_or(end),
            ..LogFound::default()
        },
        survey: found,
        log: bounds.first_unsealed..end,
    };
    survey(disk, &directory, bounds, &mut |sequence, payload| {
        reading.record(sequence, Bytes::copy_from_slice(payload));
        Ok(())
    })?;
    Ok(reading.finish())
}

fn first_sequence(disk: &dyn Disk, directory: &Path) -> Result<Option<u64>, Error> {
    let entries = match disk.list(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        listed => listed.map_err(|error| Error::io("list", directory, error))?,
    };
    let names = entries.iter().map(|entry| &entry.name);
    Ok(names
        .filter_map(|name| name.strip_suffix(".log")?.parse().ok())
        .min())
}

struct Reading<'a> {
    old: &'a OldCatalog,
    kept: &'a [SegmentFound],
    salvages: &'a BTreeMap<SegmentId, Salvage>,
    found: LogFound,
    survey: LogSurvey,
    /// The sequences between its first record and the end of its last.
    log: Range<u64>,
}

impl Reading<'_> {
    /// Whether every record of a range can be read.
    fn has_all(&self, origin: &Origin) -> bool {
        let is_within = self.log.start <= origin.log.start && origin.log.end <= self.log.end;
        let mut damage = self.survey.damage.iter();
        is_within
            && !damage.any(|one| one.lost.start < origin.log.end && origin.log.start < one.lost.end)
    }

    fn target(&self, month: Month, team: &TeamId, sequence: u64) -> Target {
        let of_month = || self.kept.iter().filter(|one| one.month == month);
        let covering = || of_month().filter(|one| one.covers(team.as_str(), sequence));
        if covering().any(SegmentFound::is_whole) {
            return Target::Nowhere;
        }
        for one in covering() {
            let (Some(salvage), Some(origin)) = (self.salvages.get(&one.id), one.origin()) else {
                continue;
            };
            // Rows in part from here and in part from there would be there twice.
            return if salvage.has_whole(team) || !self.has_all(origin) {
                Target::Nowhere
            } else {
                Target::Segment(one.id)
            };
        }
        match self.old.first_unsealed() {
            Some(first) if sequence < first => {
                // Sealed, so in a segment of which nothing can be read, or gone.
                let unreadable = of_month().find(|one| {
                    matches!(one.state, State::Unreadable(_)) || one.origin().is_none()
                });
                unreadable.map_or(Target::Nowhere, |one| Target::Segment(one.id))
            }
            _ => Target::Month,
        }
    }

    fn record(&mut self, sequence: u64, payload: Bytes) {
        match parts(sequence, payload) {
            Err(error) => {
                self.found.damage.push(Damage {
                    file: format!("log record {sequence}"),
                    detail: error.to_string(),
                });
                self.found.lost.push(sequence..sequence + 1);
            }
            Ok((team, record, batches)) => {
                // The catalog has what is sealed, and a part of a log that came back with a
                // power cut may say less.
                let sealed = self.old.sessions.as_ref().and(self.old.first_unsealed());
                if sealed.is_none_or(|first| first <= sequence) {
                    changes::add(&mut self.found.sessions, &team, &record);
                }
                let mut is_used = false;
                for batch in batches {
                    is_used |= self.batch(sequence, &team, &batch);
                }
                self.found.records += u64::from(is_used);
            }
        }
    }

    /// Takes rows, unless a segment has them.
    fn batch(&mut self, sequence: u64, team: &TeamId, appended: &Appended) -> bool {
        let batch = &appended.batch;
        let rows = batch.rows.num_rows() as u64;
        let month = batch.month;
        let first_unsealed = self.old.first_unsealed();
        if first_unsealed.is_some_and(|first| first <= sequence) {
            *self
                .found
                .unsealed
                .entry((month, team.clone()))
                .or_default() += rows;
        }
        let target = self.target(month, team, sequence);
        let new = || FromLog {
            rows: LogRows::new(),
            sequences: sequence..sequence,
        };
        let of = match target {
            Target::Nowhere => return false,
            Target::Segment(id) => self.found.of_segments.entry(id).or_insert_with(new),
            Target::Month => self.found.of_months.entry(month).or_insert_with(new),
        };
        if rows == 0 {
            return false;
        }
        of.sequences.end = sequence + 1;
        let of_team = of.rows.entry(team.clone()).or_default();
        of_team.push(batch.rows.clone());
        true
    }

    fn finish(mut self) -> LogFound {
        let sealed = self.old.first_unsealed().unwrap_or(0);
        for mut damage in self.survey.damage {
            // What is sealed is not lost with the log.
            damage.lost.start = damage.lost.start.max(sealed);
            if damage.lost.end <= sealed && damage.lost.end > 0 {
                continue;
            }
            self.found.damage.push(Damage {
                file: damage.path.display().to_string(),
                detail: damage.source.to_string(),
            });
            if !damage.lost.is_empty() {
                self.found.lost.push(damage.lost);
            }
        }
        self.found
    }
}

/// A record, and its admitted rows by month.
fn parts(sequence: u64, payload: Bytes) -> Result<(TeamId, AppendRecord, Vec<Appended>), Error> {
    let record = AppendRecord::read(sequence, payload)?;
    let team = TeamId::new(&record.team)?;
    let source = Source::of_body(record.request.clone())?;
    // Nothing is looked for by what the seed is for.
    let prepared = prepare(&team, source, None, 0)?;
    let parts = prepared.parts.into_iter();
    let batches = parts.map(|part| Ok(replayed(part, &record.left_out, sequence)?.1));
    let batches: Result<Vec<_>, Error> = batches.collect();
    Ok((team, record, batches?))
}
