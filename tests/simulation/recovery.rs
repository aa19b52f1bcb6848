//! Crashes at every operation of one recovery.

use std::sync::Arc;

use rand::Rng;
use spanstore::io::{Fault, PowerCut, SimulatedDisk};
use spanstore::{Error, ManualClock, Store};
use spanstore_test_support::model::Model;

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
        models.each(Model::reopened);
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
            let run_s = (
                std::mem::replace(&mut self.disk, disk),
                std::mem::replace(&mut self.worlds, models.clone()),
            );
            self.store = Some(store);
            self.excuses_end();
            let compared = self.compare_all(true);
            self.store = None;
            (self.disk, self.worlds) = run_s;
            compared.map_err(|error| format!("{context}: {error}"))?;
        }
        self.excuses_end();
        Ok(())
    }
}
