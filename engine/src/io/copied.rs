//! A disk some of whose files are copies in memory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::disk::{DirEntry, Disk, DiskFile, EntryKind, OpenMode};

/// Copies of files, over the disk that they are of. What is opened on it changes the copies
/// alone. Directories name the copies alone; other files of the disk can be read by who knows
/// their names ([`OpenMode::Read`], [`Disk::map`]).
#[derive(Debug)]
pub(crate) struct CopiedFiles {
    disk: Arc<dyn Disk>,
    copies: Mutex<BTreeMap<PathBuf, Copy>>,
    /// Files that stay as they are, also when the disk removes them.
    mapped: Mutex<BTreeMap<PathBuf, Bytes>>,
}

/// A file in memory.
#[derive(Debug, Clone, Default)]
struct Copy(Arc<Mutex<Vec<u8>>>);

impl CopiedFiles {
    /// A disk without copies.
    pub(crate) fn new(disk: &Arc<dyn Disk>) -> Self {
        Self {
            disk: Arc::clone(disk),
            copies: Mutex::default(),
            mapped: Mutex::default(),
        }
    }

    fn copies(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Copy>> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mapped(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Bytes>> {
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a copy of a file.
    pub(crate) fn add(&self, path: PathBuf, bytes: Vec<u8>) {
        self.copies()
            .insert(path, Copy(Arc::new(Mutex::new(bytes))));
    }

    /// Forgets the copies in a directory.
    pub(crate) fn forget(&self, directory: &Path) {
        self.copies()
            .retain(|path, _| path.parent() != Some(directory));
    }

    /// Keeps what a file holds now, whatever becomes of its name.
    pub(crate) fn keep(&self, path: PathBuf) -> io::Result<()> {
        let bytes = self.disk.map(&path)?;
        self.mapped().insert(path, bytes);
        Ok(())
    }
}

impl Disk for CopiedFiles {
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let copies = self.copies();
        let within = copies.iter().filter(|one| one.0.parent() == Some(path));
        let entries = within.filter_map(|(path, copy)| {
            Some(DirEntry {
                name: path.file_name()?.to_string_lossy().into_owned(),
                kind: EntryKind::File,
                bytes: copy.bytes().len() as u64,
            })
        });
        Ok(entries.collect())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut copies = self.copies();
        let copy = match (copies.get(path), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(copy), _) => copy.clone(),
            (None, OpenMode::Read) => return self.disk.open(path, mode),
            (None, OpenMode::Existing) => return Err(io::ErrorKind::NotFound.into()),
            (None, _) => copies.entry(path.to_path_buf()).or_default().clone(),
        };
        Ok(Box::new(copy))
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        match self.mapped().get(path) {
            Some(bytes) => Ok(bytes.clone()),
            None => self.disk.map(path),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut copies = self.copies();
        let copy = copies.remove(from).ok_or(io::ErrorKind::NotFound)?;
        copies.insert(to.to_path_buf(), copy);
        Ok(())
    }

    fn link(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let copy = self.copies().remove(path);
        Ok(copy.map(drop).ok_or(io::ErrorKind::NotFound)?)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn random_number(&self) -> u64 {
        self.disk.random_number()
    }
}

impl Copy {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a file, or the end of one, as an index.
fn index(offset: u64, length: usize) -> io::Result<(usize, usize)> {
    let start = usize::try_from(offset).ok();
    let end = start.and_then(|start| start.checked_add(length));
    start.zip(end).ok_or(io::ErrorKind::FileTooLarge.into())
}

impl DiskFile for Copy {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (start, end) = index(offset, out.len())?;
        let bytes = self.bytes();
        let found = bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (start, end) = index(offset, data.len())?;
        let mut bytes = self.bytes();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        if let Some(place) = bytes.get_mut(start..end) {
            place.copy_from_slice(data);
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let (length, _) = index(length, 0)?;
        self.bytes().resize(length, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn is_at(&self, _: &Path) -> io::Result<bool> {
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SimulatedDisk;

    #[test]
    fn only_copies_change() {
        let below: Arc<dyn Disk> = Arc::new(SimulatedDisk::new());
        let (root, copied, other) = (Path::new("/"), Path::new("/copied"), Path::new("/other"));
        below.create_dir_all(root).unwrap();
        for path in [copied, other] {
            let file = below.open(path, OpenMode::CreateNew).unwrap();
            file.write_at(0, b"before").unwrap();
        }
        let disk = CopiedFiles::new(&below);
        disk.add(copied.to_path_buf(), b"before".to_vec());
        let file = disk.open(copied, OpenMode::Existing).unwrap();
        file.write_at(4, b"-and after").unwrap();
        let content = |disk: &dyn Disk, path: &Path| {
            let file = disk.open(path, OpenMode::Read).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            file.read_at(0, &mut bytes).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(content(&disk, copied), "befo-and after");
        assert_eq!(content(&*below, copied), "before");
        assert_eq!(content(&disk, other), "before");
        let names = |disk: &dyn Disk| {
            let entries = disk.list(root).unwrap();
            entries.into_iter().map(|one| one.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&disk), ["copied"]);

        let refused = |done: io::Result<()>| done.unwrap_err().kind();
        let absent = io::ErrorKind::NotFound;
        assert_eq!(refused(disk.remove_file(other)), absent);
        assert_eq!(refused(disk.rename(other, copied)), absent);
        assert_eq!(
            refused(disk.open(other, OpenMode::Existing).map(drop)),
            absent
        );
        let link = disk.link(other, Path::new("/third"));
        assert_eq!(refused(link), io::ErrorKind::ReadOnlyFilesystem);
        disk.rename(copied, Path::new("/moved")).unwrap();
        assert_eq!(names(&disk), ["moved"]);
        assert_eq!(names(&*below), ["copied", "other"]);
    }

    #[test]
    fn a_file_that_is_kept_outlives_its_name() {
        let below: Arc<dyn Disk> = Arc::new(SimulatedDisk::new());
        let path = Path::new("/file");
        below.create_dir_all(Path::new("/")).unwrap();
        let file = below.open(path, OpenMode::CreateNew).unwrap();
        file.write_at(0, b"bytes").unwrap();
        let disk = CopiedFiles::new(&below);
        disk.keep(path.to_path_buf()).unwrap();
        below.remove_file(path).unwrap();
        assert_eq!(disk.map(path).unwrap(), "bytes");
        assert!(disk.keep(path.to_path_buf()).is_err());
    }

    #[test]
    fn reads_behind_the_end_are_refused() {
        let file = Copy::default();
        file.write_at(2, b"ab").unwrap();
        file.set_len(3).unwrap();
        let mut bytes = [9; 3];
        file.read_at(0, &mut bytes).unwrap();
        assert_eq!(bytes, [0, 0, b'a']);
        let error = file.read_at(1, &mut bytes).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(file.write_at(u64::MAX, b"a").is_err());
    }
}
