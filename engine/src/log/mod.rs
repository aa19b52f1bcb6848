//! TEMPORARY stand-in until the real log is merged.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::io::{Disk, DiskFile, OpenMode};

/// error
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// io
    #[error("{0}")]
    Io(String),
}

#[derive(Debug, Default)]
pub(crate) struct Torn {
    pub(crate) bytes: u64,
}
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) torn: Option<Torn>,
}

#[derive(Debug)]
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file: Box<dyn DiskFile>,
    first: u64,
    next: u64,
    end: u64,
}

impl Log {
    pub(crate) fn open<E: From<LogError>>(
        disk: Arc<dyn Disk>,
        dir: &Path,
        from: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(Log, Recovered), E> {
        let io = |e: std::io::Error| LogError::Io(e.to_string());
        disk.create_dir_all(dir).map_err(io)?;
        let mut recovered = Recovered::default();
        let mut next = from;
        let mut last = None;
        for entry in disk.list(dir).map_err(io)? {
            let path = dir.join(&entry.name);
            let first = u64::from_str_radix(entry.name.trim_end_matches(".log"), 16).unwrap_or(0);
            if first < from {
                disk.remove_file(&path).map_err(io)?;
                continue;
            }
            let file = disk.open(&path, OpenMode::Existing).map_err(io)?;
            let mut data = vec![0; entry.bytes as usize];
            file.read_at(0, &mut data).map_err(io)?;
            let mut at = 0usize;
            next = first;
            while let Some(head) = data.get(at..at + 8) {
                let len = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
                let crc = u32::from_le_bytes(head[4..].try_into().unwrap());
                let Some(payload) = data.get(at + 8..at + 8 + len) else {
                    break;
                };
                if crc32c::crc32c(payload) != crc {
                    break;
                }
                each(next, payload)?;
                recovered.records += 1;
                recovered.bytes += len as u64;
                next += 1;
                at += 8 + len;
            }
            last = Some((file, first, at as u64));
        }
        let (file, first, end) = match last {
            Some(last) => last,
            None => (
                disk.open(&dir.join(format!("{next:016x}.log")), OpenMode::CreateNew)
                    .map_err(io)?,
                next,
                0,
            ),
        };
        Ok((
            Log {
                disk,
                dir: dir.into(),
                file,
                first,
                next,
                end,
            },
            recovered,
        ))
    }
    pub(crate) fn append(&mut self, payloads: &[&[u8]]) -> Result<u64, LogError> {
        let mut out = Vec::new();
        for p in payloads {
            out.extend((p.len() as u32).to_le_bytes());
            out.extend(crc32c::crc32c(p).to_le_bytes());
            out.extend_from_slice(p);
        }
        self.file
            .write_at(self.end, &out)
            .map_err(|e| LogError::Io(e.to_string()))?;
        self.end += out.len() as u64;
        let first = self.next;
        self.next += payloads.len() as u64;
        Ok(first)
    }
    pub(crate) fn sync(&mut self) -> Result<(), LogError> {
        self.file
            .sync_data()
            .map_err(|e| LogError::Io(e.to_string()))
    }
    pub(crate) fn rotate(&mut self) -> Result<u64, LogError> {
        self.sync()?;
        self.file = self
            .disk
            .open(
                &self.dir.join(format!("{:016x}.log", self.next)),
                OpenMode::CreateNew,
            )
            .map_err(|e| LogError::Io(e.to_string()))?;
        self.first = self.next;
        self.end = 0;
        Ok(self.next)
    }
    pub(crate) fn release(&mut self, before: u64) -> Result<(), LogError> {
        let _ = self.first;
        for entry in self
            .disk
            .list(&self.dir)
            .map_err(|e| LogError::Io(e.to_string()))?
        {
            if u64::from_str_radix(entry.name.trim_end_matches(".log"), 16).unwrap_or(0) < before {
                drop(self.disk.remove_file(&self.dir.join(entry.name)));
            }
        }
        Ok(())
    }
    pub(crate) fn bytes(&self) -> u64 {
        self.end
    }
}
impl From<LogError> for crate::Error {
    fn from(e: LogError) -> Self {
        crate::Error::Poisoned {
            cause: e.to_string(),
        }
    }
}
