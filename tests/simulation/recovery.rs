//! What copies of the disk go through: crashes at every operation of a
//! recovery, and damage to a store that was closed.

use std::sync::Arc;

use rand::Rng;
use rand::seq::IndexedRandom;
use spanstore::io::{Fault, PowerCut, SimulatedDisk};
use spanstore::{Error, ManualClock, Store};

use super::run::{Outcome, ROOT, Run};

impl Run {
    fn open_on(&self, disk: &SimulatedDisk) -> Result<Store, Error> {
        Store::open_on(
            Arc::new(disk.clone()),
            ROOT,
            self.options.clone(),
            Arc::<ManualClock>::clone(&self.clock),
        )
    }

    /// The power came back: copies of the disk crash at each operation of the
    /// recovery in turn, and recover the same. What they saw the run has not
    /// seen.
    pub(crate) fn crash_everywhere_in_recovery(&mut self) -> Outcome {
        let whole = self.disk.fork();
        let opened = self.open_on(&whole);
        let operations = whole.operations();
        drop(opened.map_err(|error| format!("open of a copy: {error}"))?);
        self.tell(format!(
            "crash at each of {operations} operations of recovery"
        ));
        let mut models = self.worlds.clone();
        models.branch(&self.unknown);
        models.lose_unsynced();
        let (before, now) = (self.times().open, self.now());
        models.each(|model| model.reopened(before, now));
        for operation in 0..operations {
            let disk = self.disk.fork();
            disk.fail_at(operation, Fault::Crash);
            drop(self.open_on(&disk));
            let cut = PowerCut::Some(self.random.random());
            disk.restart(cut);
            self.counts.recovery_crashes += 1;
            self.counts.opens += 1;
            let context = format!("crash at operation {operation} of recovery, {cut:?}");
            let store = self
                .open_on(&disk)
                .map_err(|error| format!("{context}: {error}"))?;
            let outside = (
                std::mem::replace(&mut self.disk, disk),
                std::mem::replace(&mut self.worlds, models.clone()),
            );
            self.store = Some(store);
            self.excuses_end();
            let compared = self.compare_all(true);
            self.store = None;
            (self.disk, self.worlds) = outside;
            compared.map_err(|error| format!("{context}: {error}"))?;
        }
        self.excuses_end();
        Ok(())
    }
    /// The store was closed without a fault: damage to one of its files is
    /// found, by the open, by a read or by `check`, or it does no harm.
    pub(crate) fn damage_a_copy(&mut self) -> Outcome {
        let disk = self.disk.fork();
        disk.kill();
        let mut files = disk.paths();
        files.retain(|path| {
            path.starts_with(ROOT) && disk.bytes_of(path).is_some_and(|bytes| !bytes.is_empty())
        });
        let Some(path) = files.choose(&mut self.random) else {
            return Ok(());
        };
        let length = disk.bytes_of(path).map_or(0, |bytes| bytes.len());
        let place = self.random.random_range(0..length);
        let is_cut = self.random.random_bool(0.3);
        let what = if is_cut { "cut" } else { "flip" };
        let context = format!("{what} of {} at {place} of {length}", path.display());
        let bits = self.random.random_range(1..=255);
        let damaged = disk.corrupt(path, |bytes| {
            if is_cut {
                bytes.truncate(place);
            } else {
                bytes[place] ^= bits;
            }
        });
        damaged.map_err(|error| error.to_string())?;
        self.tell(context.clone());
        self.counts.opens += 1;
        let Ok(store) = self.open_on(&disk) else {
            return Ok(());
        };
        let errors = self.counts.errors;
        let outside = (
            std::mem::replace(&mut self.disk, disk),
            self.worlds.clone(),
            std::mem::replace(&mut self.is_damaged, true),
        );
        self.store = Some(store);
        let compared = self.compare_all(true);
        self.store = None;
        (self.disk, self.worlds, self.is_damaged) = outside;
        match compared {
            Err(error) if self.counts.errors == errors => Err(format!("{context}: {error}")),
            _ => Ok(()),
        }
    }
}
