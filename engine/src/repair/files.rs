//! The segments of a store that is repaired: which can be read, and whose rows
//! count.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use spanstore_format::segment::layout::order::CHUNK_ROWS;
use spanstore_format::segment::{Origin, SegmentReader, SegmentSummary, summarize};
use spanstore_format::span::SpanColumn;
use spanstore_format::{FormatError, Month, SegmentId};

use super::old::OldCatalog;
use crate::error::Error;
use crate::io::Disk;
use crate::segment;

/// A file among the segments.
#[derive(Debug)]
pub(super) struct SegmentFound {
    pub(super) path: PathBuf,
    pub(super) id: SegmentId,
    pub(super) month: Month,
    /// Whether only the catalog tells of it.
    pub(super) is_missing: bool,
    pub(super) state: State,
}

/// What can be read of a segment.
#[derive(Debug)]
pub(super) enum State {
    /// All of it.
    Whole(SegmentSummary, Origin),
    /// Its directory, and perhaps rows.
    Damaged {
        reader: Box<SegmentReader>,
        origin: Option<Origin>,
        damage: String,
    },
    /// Nothing.
    Unreadable(String),
}

impl SegmentFound {
    /// What it is made of, if its directory can be read.
    pub(super) fn summary(&self) -> Option<&SegmentSummary> {
        match &self.state {
            State::Whole(summary, _) => Some(summary),
            State::Damaged { reader, .. } => Some(reader.summary()),
            State::Unreadable(_) => None,
        }
    }

    pub(super) fn origin(&self) -> Option<&Origin> {
        match &self.state {
            State::Whole(_, origin) => Some(origin),
            State::Damaged { origin, .. } => origin.as_ref(),
            State::Unreadable(_) => None,
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self.state, State::Whole(..))
    }

    /// Whether it has, or had, the rows of a team that a sequence of the log
    /// brought.
    pub(super) fn covers(&self, team: &str, sequence: u64) -> bool {
        let (Some(origin), Some(summary)) = (self.origin(), self.summary()) else {
            return false;
        };
        let is_of_team = origin.replaced.is_empty()
            || (summary.first_team.as_str() <= team && team <= summary.last_team.as_str());
        origin.log.contains(&sequence) && is_of_team
    }
}

/// Finds and reads all segments of a store.
pub(super) fn find(
    disk: &dyn Disk,
    root: &Path,
    old: &OldCatalog,
) -> Result<Vec<SegmentFound>, Error> {
    let directory = segment::directory(root);
    let mut found = Vec::new();
    for entry in entries(disk, &directory)? {
        let Ok(month) = entry.parse::<Month>() else {
            continue;
        };
        for name in entries(disk, &directory.join(&entry))? {
            let Some(Ok(id)) = name.strip_suffix(".parquet").map(str::parse) else {
                continue;
            };
            let path = directory.join(&entry).join(&name);
            let state = read(disk, &path, month, id, old);
            found.push(SegmentFound {
                path,
                id,
                month,
                is_missing: false,
                state,
            });
        }
    }
    for known in old.segments.iter().flatten() {
        let path = segment::path(root, known);
        if !found.iter().any(|one| one.path == path) {
            found.push(SegmentFound {
                path,
                id: known.id,
                month: known.month,
                is_missing: true,
                state: State::Unreadable("it is missing".into()),
            });
        }
    }
    found.sort_unstable_by_key(|one| one.id);
    Ok(found)
}

fn entries(disk: &dyn Disk, path: &Path) -> Result<Vec<String>, Error> {
    match disk.list(path) {
        Ok(entries) => Ok(entries.into_iter().map(|entry| entry.name).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("list", path, error)),
    }
}

fn read(disk: &dyn Disk, path: &Path, month: Month, id: SegmentId, old: &OldCatalog) -> State {
    let file = match disk.map(path) {
        Ok(file) => file,
        Err(error) => return State::Unreadable(error.to_string()),
    };
    // The catalog's record leads to the index also where the footer does not.
    let known = old.segment(id).cloned();
    let by_record = known
        .clone()
        .map(|record| SegmentReader::open(file.clone(), record));
    let reader = match by_record {
        Some(Ok(reader)) => Ok(reader),
        _ => summarize(&file).and_then(|summary| SegmentReader::open(file, summary)),
    };
    let reader = match reader {
        Ok(reader) => reader,
        Err(error) => return State::Unreadable(error.to_string()),
    };
    let mut summary = reader.summary().clone();
    if (summary.id, summary.month) != (id, month) {
        let found = format!("segment {} of {}", summary.id, summary.month);
        let error = FormatError::malformed("segment", 0, format!("segment {id} of {month}"), found);
        return State::Unreadable(error.to_string());
    }
    let damage = reader.verify();
    let origin = reader.origin();
    match (damage.first(), origin) {
        (None, Ok(origin)) => {
            if let Some(known) = known {
                (summary.level, summary.run) = (known.level, known.run);
            }
            State::Whole(summary, origin)
        }
        (damage, origin) => {
            // Of a segment that the catalog knows no other has the rows.
            let by_rows = || known.and_then(|_| origin_of_rows(&reader, id));
            State::Damaged {
                origin: origin.ok().or_else(by_rows),
                reader: Box::new(reader),
                damage: damage.map_or("its origin".to_owned(), ToString::to_string),
            }
        }
    }
}

/// What the sequences of its rows tell of a segment whose origin cannot be read: what is
/// written of it replaces it.
fn origin_of_rows(reader: &SegmentReader, id: SegmentId) -> Option<Origin> {
    let all = 0..reader.summary().rows;
    let rows = reader.row_reader().ok()?;
    let batches = rows.read(&[all], &[SpanColumn::Sequence.into()], CHUNK_ROWS);
    let mut log: Option<Range<u64>> = None;
    for batch in batches.ok()? {
        let sequences = batch.ok()?.columns().first()?.clone();
        let sequences = sequences.as_primitive_opt::<Int64Type>()?.values();
        for sequence in sequences {
            let sequence = u64::try_from(*sequence).ok()?;
            let log = log.get_or_insert(sequence..sequence);
            *log = log.start.min(sequence)..log.end.max(sequence.checked_add(1)?);
        }
    }
    Some(Origin {
        log: log?,
        replaced: vec![id],
        parts: 0..1,
        all_parts: 1,
    })
}

/// Removes the segments whose rows are in others.
pub(super) fn choose(found: Vec<SegmentFound>, old: &OldCatalog) -> Vec<SegmentFound> {
    let known = old.segments.iter().flatten().map(|one| one.id);
    let known: BTreeSet<SegmentId> = known.collect();
    let superseded = match &old.segments {
        Some(_) => strays(&found, &known, old),
        None => superseded(&found),
    };
    let copies = copies(&found, &superseded, &known);
    let is_kept = |one: &SegmentFound| !superseded.contains(&one.id) && !copies.contains(&one.id);
    found.into_iter().filter(is_kept).collect()
}

/// What the catalog does not know and what is not needed: it was replaced, or
/// all that it would replace is there.
fn strays(
    found: &[SegmentFound],
    known: &BTreeSet<SegmentId>,
    old: &OldCatalog,
) -> BTreeSet<SegmentId> {
    let whole: BTreeSet<SegmentId> = found
        .iter()
        .filter(|one| one.is_whole())
        .map(|one| one.id)
        .collect();
    let ended = replaced_by(found.iter().filter(|one| !known.contains(&one.id)));
    let present = present(found);
    // A rewrite that did not end has only some of the rows of what it would replace. One
    // that did is better than what is damaged.
    let has_inputs = |replaced: &[SegmentId]| {
        let have = |ids: &BTreeSet<SegmentId>| replaced.iter().all(|id| ids.contains(id));
        have(&whole) || (have(&present) && !have(&ended))
    };
    let is_stray = |one: &&SegmentFound| {
        let replaced = one.origin().map_or(&[][..], |origin| &origin.replaced);
        !known.contains(&one.id)
            && (old.replaced.contains(&one.id) || (!replaced.is_empty() && has_inputs(replaced)))
    };
    let mut strays: BTreeSet<_> = found.iter().filter(is_stray).map(|one| one.id).collect();
    // A catalog from before a rewrite knows what the rewrite replaced.
    let newer = found
        .iter()
        .filter(|one| !known.contains(&one.id) && !strays.contains(&one.id));
    let newer: Vec<&SegmentFound> = newer.collect();
    strays.extend(replaced_by(newer.into_iter()));
    strays
}

/// Without a catalog, a rewrite counts if all its parts are there, or if one of
/// the segments that it replaces is not.
fn superseded(found: &[SegmentFound]) -> BTreeSet<SegmentId> {
    let mut superseded = replaced_by(found.iter());
    let present = present(found);
    for one in found {
        let Some(origin) = one.origin() else { continue };
        let has_inputs = !origin.replaced.is_empty()
            && origin
                .replaced
                .iter()
                .all(|id| present.contains(id) && !superseded.contains(id));
        if has_inputs {
            superseded.insert(one.id);
        }
    }
    superseded
}

/// The segments whose files are there, whole or not.
fn present(found: &[SegmentFound]) -> BTreeSet<SegmentId> {
    let present = found.iter().filter(|one| !one.is_missing);
    present.map(|one| one.id).collect()
}

/// The segments that whole rewrites replaced.
fn replaced_by<'a>(found: impl Iterator<Item = &'a SegmentFound>) -> BTreeSet<SegmentId> {
    let mut rewrites: BTreeMap<&[SegmentId], (u32, Vec<Range<u32>>)> = BTreeMap::new();
    for one in found.filter(|one| one.is_whole()) {
        if let Some(origin) = one.origin().filter(|one| !one.replaced.is_empty()) {
            let rewrite = rewrites.entry(&origin.replaced).or_default();
            rewrite.0 = origin.all_parts;
            rewrite.1.push(origin.parts.clone());
        }
    }
    let mut replaced = BTreeSet::new();
    for (ids, (all, mut parts)) in rewrites {
        parts.sort_unstable_by_key(|part| part.start);
        let mut next = 0;
        for part in parts {
            if part.start == next {
                next = part.end;
            }
        }
        if next == all {
            replaced.extend(ids);
        }
    }
    replaced
}

/// Seals that another seal of the same rows stands for: of tries that were
/// repeated, each wrote them, from the same first row on. What the catalog knows is none.
fn copies(
    found: &[SegmentFound],
    superseded: &BTreeSet<SegmentId>,
    known: &BTreeSet<SegmentId>,
) -> BTreeSet<SegmentId> {
    let seals: Vec<(&SegmentFound, &Origin)> = found
        .iter()
        .filter(|one| !superseded.contains(&one.id))
        .filter_map(|one| Some((one, one.origin()?)))
        .filter(|(_, origin)| origin.replaced.is_empty())
        .collect();
    let mut copies = BTreeSet::new();
    for (one, origin) in &seals {
        let is_copy = seals.iter().any(|(other, wider)| {
            let is_within = wider.log.start == origin.log.start && origin.log.end <= wider.log.end;
            let is_first = wider.log != origin.log || !one.is_whole() || other.id < one.id;
            let is_other = one.id != other.id && one.month == other.month;
            is_other && other.is_whole() && is_within && is_first
        });
        if is_copy && !known.contains(&one.id) {
            copies.insert(one.id);
        }
    }
    copies
}
