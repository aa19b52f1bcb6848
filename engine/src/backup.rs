//! A copy of a store that is in use.

use std::collections::BTreeSet;
use std::path::Path;

use crate::catalog::Catalog;
use crate::error::Error;
use crate::recent::RecentFiles;
use crate::segment;
use crate::segments::Segments;

/// Seals, and copies the sealed part of a store. The catalog gets its name last: before,
/// what is there is no store.
pub(crate) fn backup(
    segments: &Segments,
    catalog: &Catalog,
    recent: &RecentFiles,
    seal: impl FnOnce() -> Result<(), Error>,
    to: &Path,
) -> Result<(), Error> {
    // One backup at a time; no segment that the copy names is removed meanwhile, and
    // nothing is forgotten between the seal, whose file of recent appends is copied,
    // and the copy of the catalog.
    let _rewrite = segments.rewrite();
    let Segments { disk, root, .. } = segments;
    match disk.list(to) {
        Ok(entries) if !entries.is_empty() => {
            let path = to.display().to_string();
            return Err(Error::NotEmpty { path });
        }
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("list", to, error));
        }
        _ => {}
    }
    seal()?;
    let create = |path: &Path| {
        disk.create_dir_all(path)
            .map_err(|error| Error::io("create", path, error))
    };
    create(&segment::directory(to))?;
    // The file of recent appends must be that of the copy: a later one would know
    // appends whose rows are not in it.
    let kept = recent.keep();
    catalog.copy_to(disk, to, |segments, recent_file| {
        if let Some(file) = recent_file {
            recent.copy(file, to)?;
        }
        drop(kept);
        let mut directories = BTreeSet::new();
        for summary in segments {
            let target = segment::path(to, summary);
            if let Some(directory) = target.parent()
                && directories.insert(directory.to_path_buf())
            {
                create(directory)?;
            }
            disk.link(&segment::path(root, summary), &target)
                .map_err(|error| Error::io("link", &target, error))?;
        }
        for directory in &directories {
            disk.sync_dir(directory)
                .map_err(|error| Error::io("sync", directory, error))?;
        }
        Ok(())
    })
}
