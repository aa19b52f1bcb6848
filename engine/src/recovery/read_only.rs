//! Copies what changes of a store that another process may have open, as it is at one time.
//!
//! The catalog's checksums are published after each commit: a catalog that they fit is what it
//! was after that commit. Where they do not fit, as after a crash, two equal copies are one
//! catalog, and redb verifies each page. Files of the log and replaced segments are removed
//! after the commit that lets go of them. So the log belongs to the catalog if there was no commit
//! before it was copied, and a segment that is missing was replaced if there was one.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::catalog::{Catalog, CatalogCopy};
use crate::error::Error;
use crate::io::{CopiedFiles, Disk};
use crate::log;
use crate::options::ReadBy;
use crate::segment;

/// How often it is tried, and the time between: a commit takes milliseconds.
const MOST_TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Copies the catalog and the log of the store at `root`. Segments are mapped, so that they stay when
/// they are replaced; those that are read otherwise do not.
///
/// # Errors
/// [`Error::NotFound`], [`Error::CatalogMissing`]; [`Error::Changing`]; as [`Catalog::open`].
pub(super) fn copy(
    disk: &Arc<dyn Disk>,
    root: &Path,
    read_by: ReadBy,
) -> Result<(Arc<CopiedFiles>, Catalog), Error> {
    for _ in 0..MOST_TRIES {
        if let Some(copied) = try_copy(disk, root, read_by)? {
            return Ok(copied);
        }
        std::thread::sleep(PAUSE);
    }
    Err(Error::Changing {
        path: root.display().to_string(),
    })
}

/// Copies them; none when they changed meanwhile.
fn try_copy(
    disk: &Arc<dyn Disk>,
    root: &Path,
    read_by: ReadBy,
) -> Result<Option<(Arc<CopiedFiles>, Catalog)>, Error> {
    let failed = |error| Error::io("copy the catalog of", root, error);
    let copy = match CatalogCopy::read(&**disk, root) {
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => {
                let missing = Catalog::missing(&**disk, root);
                // Unless another process was just making the store.
                return if Catalog::is_there(&**disk, root) {
                    Ok(None)
                } else {
                    Err(missing)
                };
            }
            // It became shorter.
            io::ErrorKind::UnexpectedEof => return Ok(None),
            _ => return Err(failed(error)),
        },
        Ok(copy) => copy,
    };
    let files = Arc::new(CopiedFiles::new(disk));
    log::copy(&**disk, &root.join("log"), &files)?;
    let is_current = || match copy.is_current(&**disk) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        is_current => is_current.map_err(failed),
    };
    if !is_current()? {
        return Ok(None);
    }
    let catalog = copy.open(&files, true)?;
    if read_by == ReadBy::Map {
        let mut is_missing = false;
        for summary in catalog.segments()? {
            let kept = files.keep(segment::path(root, &summary));
            // Of another failure who reads the segment is told.
            is_missing |= kept.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        }
        if is_missing && !is_current()? {
            return Ok(None);
        }
    }
    Ok(Some((files, catalog)))
}
