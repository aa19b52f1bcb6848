//! What a crash left among the segments. A file that the catalog does not know
//! is removed only when its rows are elsewhere for certain: anything else may be
//! somebody's data, and a sign that the catalog is not the store's own.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use spanstore_format::SegmentId;
use spanstore_format::segment::summarize;
use spanstore_format::segment::{Origin, SegmentReader, SegmentSummary};

use crate::catalog::Catalog;
use crate::error::Error;
use crate::io::{Disk, EntryKind};
use crate::segment;

/// Files that may be removed, if the log reaches as far as they say.
#[derive(Debug, Default)]
pub(super) struct Strays {
    files: Vec<Stray>,
    /// The directories of the months.
    months: Vec<PathBuf>,
    /// Segments that were replaced and have no file, or none when the strays are
    /// removed.
    gone: BTreeSet<SegmentId>,
}

#[derive(Debug)]
struct Stray {
    path: PathBuf,
    /// The log must have all sequences below.
    log_end: u64,
}

/// Finds the strays of a store. Touches nothing.
///
/// # Errors
/// [`Error::UnknownSegment`], and [`Error::CatalogOlder`] when the log begins
/// behind what the catalog knows as sealed, or when segments are missing while
/// others are there in their place.
pub(super) fn find(
    disk: &dyn Disk,
    root: &Path,
    catalog: &Catalog,
    segments: &[SegmentSummary],
) -> Result<Strays, Error> {
    let first_unsealed = catalog.first_unsealed()?;
    if let Some(first) = first_of_log(disk, root)?
        && first > first_unsealed
    {
        return Err(Error::CatalogOlder {
            path: catalog.path(),
            found: format!(
                "the log begins at sequence {first}, the catalog knows what lies below \
                 {first_unsealed}"
            ),
        });
    }
    let known: BTreeSet<SegmentId> = segments.iter().map(|one| one.id).collect();
    let mut missing: BTreeSet<PathBuf> = segments
        .iter()
        .map(|one| segment::path(root, one))
        .collect();
    let replaced = catalog.replaced()?;
    let mut strays = Strays {
        files: Vec::new(),
        months: months(disk, root)?,
        gone: replaced.clone(),
    };
    for path in files(disk, &strays.months)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if missing.remove(&path) {
            continue;
        }
        let id = name.strip_suffix(".parquet").map(str::parse);
        let log_end = match id {
            None if name.ends_with(".unfinished") => 0,
            None => continue,
            Some(Ok(id)) if replaced.contains(&id) => 0,
            Some(_) => {
                let origin = origin(disk, &path).map_err(|found| unknown(&path, &found))?;
                let is_in_log = origin.replaced.is_empty() && origin.log.start >= first_unsealed;
                let is_in_segments = !origin.replaced.is_empty()
                    && origin.replaced.iter().all(|id| known.contains(id));
                if !is_in_log && !is_in_segments {
                    return Err(unknown(&path, &describe(&origin)));
                }
                if is_in_log { origin.log.end } else { 0 }
            }
        };
        strays.files.push(Stray { path, log_end });
    }
    // An older catalog names what was replaced, and its rows are in the strays.
    let is_segment = |stray: &&Stray| stray.path.extension().is_some_and(|end| end == "parquet");
    if let Some(stray) = strays.files.iter().find(is_segment)
        && let Some(missing) = missing.first()
    {
        return Err(Error::CatalogOlder {
            path: catalog.path(),
            found: format!(
                "it names {}, which is not there, and does not name {}, which is",
                missing.display(),
                stray.path.display()
            ),
        });
    }
    Ok(strays)
}

impl Strays {
    /// Removes them, from a store whose log ends at a sequence.
    pub(super) fn remove(
        self,
        disk: &Arc<dyn Disk>,
        root: &Path,
        catalog: &Catalog,
        log_end: u64,
    ) -> Result<(), Error> {
        if let Some(stray) = self.files.iter().find(|one| one.log_end > log_end) {
            let found = format!(
                "its rows come from the log up to sequence {}, the log ends at {log_end}",
                stray.log_end
            );
            return Err(unknown(&stray.path, &found));
        }
        for name in ["catalog.redb.unfinished", "catalog.sums.unfinished"] {
            let path = root.join(name);
            match disk.remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &path, error));
                }
                _ => {}
            }
        }
        for Stray { path, .. } in &self.files {
            tracing::info!(file = %path.display(), "removing what a crash left");
            disk.remove_file(path)
                .map_err(|error| Error::io("remove", path, error))?;
        }
        if self.files.is_empty() && self.gone.is_empty() {
            return Ok(());
        }
        // Also files that were gone before may come back with a power cut.
        for month in &self.months {
            disk.sync_dir(month)
                .map_err(|error| Error::io("sync", month, error))?;
        }
        if self.gone.is_empty() {
            return Ok(());
        }
        catalog.forget_replaced(&self.gone)
    }
}

fn unknown(path: &Path, found: &str) -> Error {
    Error::UnknownSegment {
        file: path.display().to_string(),
        found: found.to_owned(),
    }
}

fn describe(origin: &Origin) -> String {
    if origin.replaced.is_empty() {
        let range = &origin.log;
        return format!(
            "sequences {} to {} of the log, which are sealed",
            range.start, range.end
        );
    }
    let ids: Vec<String> = origin.replaced.iter().map(ToString::to_string).collect();
    format!("a merge of {}", ids.join(", "))
}

/// Where the rows of a segment come from, as its file says.
pub(super) fn origin(disk: &dyn Disk, path: &Path) -> Result<Origin, String> {
    let file = disk.map(path).map_err(|error| error.to_string())?;
    let read = || {
        let summary = summarize(&file)?;
        SegmentReader::open(file.clone(), summary)?.origin()
    };
    read().map_err(|error| format!("it cannot be read ({error})"))
}

/// The directories of the months.
fn months(disk: &dyn Disk, root: &Path) -> Result<Vec<PathBuf>, Error> {
    entries(disk, &segment::directory(root), EntryKind::Directory)
}

/// The files in the directories of the months.
fn files(disk: &dyn Disk, months: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let files = months
        .iter()
        .map(|month| entries(disk, month, EntryKind::File));
    Ok(files.collect::<Result<Vec<_>, _>>()?.concat())
}

fn entries(disk: &dyn Disk, directory: &Path, kind: EntryKind) -> Result<Vec<PathBuf>, Error> {
    let listed = disk.list(directory);
    let listed = listed.map_err(|error| Error::io("list", directory, error))?;
    let wanted = listed.into_iter().filter(|entry| entry.kind == kind);
    Ok(wanted.map(|entry| directory.join(entry.name)).collect())
}

/// The sequence at which the log begins; none when there is no log.
fn first_of_log(disk: &dyn Disk, root: &Path) -> Result<Option<u64>, Error> {
    let directory = root.join("log");
    let entries = match disk.list(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        listed => listed.map_err(|error| Error::io("list", &directory, error))?,
    };
    let names = entries.iter().map(|entry| &entry.name);
    Ok(names
        .filter_map(|name| name.strip_suffix(".log")?.parse().ok())
        .min())
}
