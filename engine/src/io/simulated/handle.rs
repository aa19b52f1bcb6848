//! Open files of the simulated disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::State;
use super::fault::{Fault, FileKind, Operation, Sabotage, power_cut};
use super::file::Change;
use crate::io::DiskFile;

/// An open file of one run.
#[derive(Debug)]
pub(super) struct Handle {
    disk: Arc<Mutex<State>>,
    file: usize,
    /// The name that it was opened by.
    path: PathBuf,
    run: u64,
    has_lock: Mutex<bool>,
}

impl Handle {
    pub(super) fn new(disk: Arc<Mutex<State>>, file: usize, path: PathBuf, run: u64) -> Self {
        Self {
            disk,
            file,
            path,
            run,
            has_lock: Mutex::new(false),
        }
    }

    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if state.run == self.run {
            Ok(state)
        } else {
            Err(power_cut())
        }
    }

    fn begin(&self, operation: Operation) -> io::Result<(MutexGuard<'_, State>, Option<Fault>)> {
        let mut state = self.state()?;
        let fault = state.operation(operation, &self.path)?;
        Ok((state, fault))
    }

    /// Begins an operation that happens wholly or not at all.
    fn begin_plain(&self, operation: Operation) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state()?;
        state.plain_operation(operation, &self.path)?;
        Ok(state)
    }

    fn kind(&self) -> FileKind {
        FileKind::of(&self.path)
    }
}

impl State {
    /// Does to what is read what a fault says.
    pub(super) fn read_fault(&mut self, fault: Option<Fault>, bytes: &mut [u8]) -> io::Result<()> {
        match fault {
            None => Ok(()),
            Some(Fault::FlippedRead) => {
                let (place, bit) = (self.choices.below(bytes.len()), self.choices.below(8));
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << bit;
                }
                Ok(())
            }
            Some(fault) => Err(fault.error()),
        }
    }

    /// How many of some bytes a write that fails has written.
    fn written(&mut self, fault: Option<Fault>, bytes: usize) -> usize {
        match fault {
            Some(Fault::NoSpace) => bytes / 2,
            Some(Fault::ShortWrite) => self.choices.below(bytes + 1),
            Some(Fault::Error) => 0,
            // What the power left of it is decided when it comes back.
            _ => bytes,
        }
    }
}

impl DiskFile for Handle {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.begin_plain(Operation::Ask)?;
        Ok(state.file(self.file)?.bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (mut state, fault) = self.begin(Operation::Read)?;
        let start = offset as usize;
        let data = state.file(self.file)?.bytes.get(start..start + out.len());
        out.copy_from_slice(data.ok_or(io::ErrorKind::UnexpectedEof)?);
        state.read_fault(fault, out)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (mut state, mut fault) = self.begin(Operation::Write)?;
        let offset = offset as usize;
        if !state.has_space_for(self.file, offset + data.len())? {
            fault = fault.or(Some(Fault::NoSpace));
        }
        let written = state.written(fault, data.len());
        let change = Change::Write {
            offset,
            data: data.get(..written).unwrap_or_default().to_vec(),
        };
        state.change(self.file, change)?;
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.begin_plain(Operation::SetLength)?;
        let length = bytes as usize;
        if !state.has_space_for(self.file, length)? {
            return Err(Fault::NoSpace.error());
        }
        let is_cut = length < state.file(self.file)?.bytes.len();
        if is_cut && state.has(Sabotage::SkipCut(self.kind())) {
            return Ok(());
        }
        state.change(self.file, Change::Length(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut state, fault) = self.begin(Operation::Sync)?;
        let is_skipped =
            state.has(Sabotage::LieAboutSyncs) || state.has(Sabotage::SkipSync(self.kind()));
        let file = state.file(self.file)?;
        match fault {
            // The medium may have got all of it before the power went.
            Some(Fault::Crash) => return Err(power_cut()),
            Some(Fault::DroppedPages) => file.drop_unsynced(),
            Some(_) => file.lose_unsynced(),
            None if is_skipped => {}
            None => file.sync(),
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.begin_plain(Operation::Ask)?;
        let file = state.file(self.file)?;
        if file.is_locked {
            return Ok(false);
        }
        file.is_locked = true;
        *self.has_lock.lock().unwrap_or_else(PoisonError::into_inner) = true;
        Ok(true)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let state = self.begin_plain(Operation::Ask)?;
        Ok(state.file_of(path).ok() == Some(self.file))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let has_lock = *self.has_lock.lock().unwrap_or_else(PoisonError::into_inner);
        if let (true, Ok(mut state)) = (has_lock, self.state())
            && let Ok(file) = state.file(self.file)
        {
            file.is_locked = false;
        }
    }
}
