//! Copies of a catalog's files. Opening a catalog writes to it, and another process may be
//! writing it: so who only reads it opens a copy in memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use spanstore_format::catalog::{CatalogSums, SUM_BLOCK_BYTES};

use super::backend::sum_of;
use super::{Catalog, NAME, published};
use crate::error::Error;
use crate::io::{CopiedFiles, Disk, OpenMode};

/// The bytes of a catalog, and what was published of it.
#[derive(Debug)]
pub(crate) struct CatalogCopy {
    root: PathBuf,
    catalog: Vec<u8>,
    sums: Option<Vec<u8>>,
    /// Whether each block is as it was published after a commit: then the copy is what the
    /// catalog was after it.
    is_published: bool,
}

impl CatalogCopy {
    /// Copies the files of the store at `root`. A commit that is at work may be in the copy in part.
    ///
    /// # Errors
    /// What the system says; `NotFound` when there is no catalog.
    pub(crate) fn read(disk: &dyn Disk, root: &Path) -> io::Result<Self> {
        let sums = published_bytes(disk, root)?;
        let catalog = bytes(disk, &root.join(NAME))?;
        let is_published = sums.as_deref().is_some_and(|sums| fit(sums, &catalog));
        Ok(Self {
            root: root.to_path_buf(),
            catalog,
            sums,
            is_published,
        })
    }

    /// Whether the files are as they were copied.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn is_current(&self, disk: &dyn Disk) -> io::Result<bool> {
        if self.sums != published_bytes(disk, &self.root)? {
            return Ok(false);
        }
        let path = self.root.join(NAME);
        if !self.is_published {
            return Ok(self.catalog == bytes(disk, &path)?);
        }
        // Each commit changes the first block, also one that is not published.
        let mut first = vec![0; self.catalog.len().min(SUM_BLOCK_BYTES as usize)];
        disk.open(&path, OpenMode::Read)?.read_at(0, &mut first)?;
        Ok(self.catalog.starts_with(&first))
    }

    /// Opens the copy as a catalog, and adds its files to others. Without what was published
    /// redb verifies each page by its own checksum, as it does for a file that a crash left.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub(crate) fn open(
        &self,
        files: &Arc<CopiedFiles>,
        with_published: bool,
    ) -> Result<Catalog, Error> {
        files.add(self.root.join(NAME), self.catalog.clone());
        let sums = self.sums.as_ref().filter(|_| with_published);
        if let Some(sums) = sums {
            files.add(published::path(&self.root), sums.clone());
        }
        let disk: Arc<dyn Disk> = Arc::clone(files) as _;
        Catalog::open(&disk, &self.root, false)
    }
}

fn fit(sums: &[u8], catalog: &[u8]) -> bool {
    let Ok(sums) = CatalogSums::decode(sums) else {
        return false;
    };
    let blocks = catalog.chunks(SUM_BLOCK_BYTES as usize);
    let mut blocks = blocks.zip(&sums.blocks);
    catalog.len() as u64 == sums.bytes
        && blocks.all(|(block, expected)| *expected == 0 || *expected == sum_of(block))
}

fn published_bytes(disk: &dyn Disk, root: &Path) -> io::Result<Option<Vec<u8>>> {
    match bytes(disk, &published::path(root)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

fn bytes(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}
