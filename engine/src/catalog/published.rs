//! The file `catalog.sums`: the checksums of the catalog's blocks and the
//! number of its last commit, published by rename after each commit. By the
//! checksums a catalog that was left alone since is verified block by block as
//! it is read; by the number an older one is found out. A file that a crash left
//! behind its catalog, or none, only means that the catalog is read whole at open.

use std::io;
use std::path::{Path, PathBuf};

use spanstore_format::catalog::CatalogSums;

use super::backend::CatalogFile;
use crate::error::Error;
use crate::io::{Disk, OpenMode};

pub(super) fn path(root: &Path) -> PathBuf {
    root.join("catalog.sums")
}

fn unfinished(root: &Path) -> PathBuf {
    root.join("catalog.sums.unfinished")
}

/// What was last published; none when it is not there or not whole.
pub(super) fn read(disk: &dyn Disk, root: &Path) -> Result<Option<CatalogSums>, Error> {
    let path = path(root);
    let file = match disk.open(&path, OpenMode::Existing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| Error::io("open", &path, error))?,
    };
    let read = || {
        let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(0)];
        file.read_at(0, &mut bytes)?;
        CatalogSums::decode(&bytes).map_err(io::Error::other)
    };
    Ok(read()
        .inspect_err(|error| tracing::info!(%error, "the catalog is read whole"))
        .ok())
}

/// Publishes the checksums after a commit. A failure costs the next open some
/// time, and nothing else.
pub(super) fn publish(
    disk: &dyn Disk,
    root: &Path,
    file: &CatalogFile,
    commit: u64,
    is_durable: bool,
) {
    let publish = || {
        let sums = file.sums_of(commit)?.encode();
        let unfinished = unfinished(root);
        let out = disk.open(&unfinished, OpenMode::CreateOrExisting)?;
        out.set_len(0)?;
        out.write_at(0, &sums)?;
        if is_durable {
            out.sync_data()?;
        }
        disk.rename(&unfinished, &path(root))?;
        if is_durable {
            disk.sync_dir(root)?;
        }
        Ok(())
    };
    let published: io::Result<()> = publish();
    if let Err(error) = published {
        tracing::info!(%error, "the checksums of the catalog are not published");
    }
}

/// Removes what was published of an earlier catalog, and what a crash left.
pub(super) fn remove(disk: &dyn Disk, root: &Path) -> Result<(), Error> {
    for path in [path(root), unfinished(root)] {
        match disk.remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &path, error));
            }
            _ => {}
        }
    }
    Ok(())
}
