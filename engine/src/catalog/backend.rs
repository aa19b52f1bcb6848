//! redb over the store's own I/O, so that simulated crashes reach it too.

use std::io;

use redb::StorageBackend;

use crate::io::DiskFile;

/// One file as redb's storage.
#[derive(Debug)]
pub(super) struct Backend(Box<dyn DiskFile>);

impl Backend {
    pub(super) fn new(file: Box<dyn DiskFile>) -> Self {
        Self(file)
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.write_at(offset, data)
    }
}
