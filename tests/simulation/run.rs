//! One run: a store on a simulated disk, the models beside it, and what is done
//! to both.

use std::sync::{Arc, Mutex, PoisonError};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use spanstore::io::{Activations, Effect, Fault, PlannedFault, PowerCut, SimulatedDisk};
use spanstore::{Clock, Error, ManualClock, Month, Spans, Store, StoreOptions, Team};
use spanstore_test_support::model::append::{Batch, Times};
use spanstore_test_support::model::facts::Facts;
use spanstore_test_support::model::{Change, Model, Rules};
use spanstore_test_support::{NOW, team};

use super::options::Setting;
use super::worlds::Worlds;

/// Where the store lies on its disk.
pub(crate) const ROOT: &str = "/store";
/// Names of the teams.
pub(crate) const TEAMS: [&str; 4] = ["acme", "beta", "zebra", "acme corp/ü"];
/// Changes of unknown outcome at which the store is opened again.
const MOST_UNKNOWN: usize = 4;

/// What happened in a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub(crate) steps: u64,
    pub(crate) answers: u64,
    pub(crate) crashes: u64,
    pub(crate) recovery_crashes: u64,
    pub(crate) opens: u64,
    pub(crate) errors: u64,
    pub(crate) activations: Activations,
}

/// What a run did so far, for the one who has to find out why it failed.
pub(crate) type Story = Arc<Mutex<Vec<String>>>;

/// A reader that began some steps ago and goes on meanwhile.
pub(crate) struct Reader {
    pub(crate) team: String,
    pub(crate) rest: Box<dyn Iterator<Item = Result<Spans, Error>>>,
    pub(crate) found: Vec<Facts>,
    /// The models as they were when it began.
    pub(crate) began: Worlds,
    pub(crate) now: i64,
}

pub(crate) struct Run {
    pub(crate) random: ChaCha8Rng,
    pub(crate) setting: Setting,
    pub(crate) disk: SimulatedDisk,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) options: StoreOptions,
    pub(crate) store: Option<Store>,
    pub(crate) worlds: Worlds,
    /// Changes that failed since the store was opened: the next open tells.
    pub(crate) unknown: Vec<Change>,
    pub(crate) readers: Vec<Reader>,
    pub(crate) spans: u64,
    pub(crate) keys: u64,
    /// Sessions that were started.
    pub(crate) sessions: u64,
    /// What was sent last.
    pub(crate) sent: Vec<Batch>,
    /// The wall clock and the monotonic clock when the store was opened.
    opened: (i64, u64),
    pub(crate) backups: u64,
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) counts: Counts,
    /// Whether the power went since the store was open.
    pub(crate) was_cut: bool,
    /// Whether a file was damaged on purpose.
    pub(crate) is_damaged: bool,
    story: Story,
    /// Faults so far when the store was opened.
    faults_at_open: u64,
    flips_at_open: u64,
    dropped_at_open: u64,
}

/// What went against a promise.
pub(crate) type Outcome = Result<(), String>;

impl Run {
    pub(crate) fn new(seed: u64, story: Story) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let setting = Setting::draw(&mut random);
        let options = setting.options(&mut random);
        let rules = Rules {
            plans: options.plan_limits,
            limits: options.limits.clone(),
        };
        let run = Self {
            setting,
            disk: SimulatedDisk::seeded(random.random()),
            clock: Arc::new(ManualClock::new(NOW)),
            store: None,
            worlds: Worlds::new(Model::new(rules, NOW)),
            unknown: Vec::new(),
            readers: Vec::new(),
            spans: 0,
            keys: 0,
            sessions: 0,
            sent: Vec::new(),
            opened: (NOW, 0),
            backups: 0,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime"),
            counts: Counts::default(),
            was_cut: false,
            is_damaged: false,
            story,
            faults_at_open: 0,
            flips_at_open: 0,
            dropped_at_open: 0,
            options,
            random,
        };
        run.tell(format!("{:?}", run.setting));
        run
    }

    /// The numbers that the steps of a run draw from, each its own: without one
    /// of them the others do the same.
    pub(crate) fn steps(&mut self) -> Vec<u64> {
        (0..self.setting.steps)
            .map(|_| self.random.random())
            .collect()
    }

    /// Runs from the first open to the last.
    pub(crate) fn run(&mut self, steps: &[u64]) -> Outcome {
        self.open()?;
        for (step, seed) in steps.iter().enumerate() {
            self.random = ChaCha8Rng::seed_from_u64(*seed);
            if self.setting.has_faults && self.one_in(self.setting.fault_odds) {
                self.plan_fault();
            }
            self.counts.steps += 1;
            self.step()
                .map_err(|error| format!("step {step}: {error}"))?;
            self.settle()
                .and_then(|()| self.quietly(Self::ask))
                .map_err(|error| format!("after step {step}: {error}"))?;
        }
        self.disk.clear_plans();
        self.reopen(true)?;
        self.counts.activations = self.disk.activations();
        Ok(())
    }

    pub(crate) fn tell(&self, line: impl Into<String>) {
        let mut story = self.story.lock().unwrap_or_else(PoisonError::into_inner);
        story.push(line.into());
    }

    pub(crate) fn one_in(&mut self, odds: u32) -> bool {
        self.random.random_range(0..odds) == 0
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.now_nanos()
    }

    /// The times that an append depends on.
    pub(crate) fn times(&self) -> Times {
        let (wall, monotonic) = self.opened;
        let passed = self.clock.monotonic_nanos() - monotonic;
        Times {
            wall: self.now(),
            open: wall.saturating_add_unsigned(passed),
        }
    }

    /// A team's name.
    pub(crate) fn any_team(&mut self) -> String {
        TEAMS[self.random.random_range(0..self.setting.teams)].to_owned()
    }

    /// The handle of a team of the open store.
    pub(crate) fn handle(&self, name: &str) -> Team {
        self.store().team(&team(name))
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is open")
    }

    fn faults(&self, is_counted: impl Fn(Fault) -> bool) -> u64 {
        let activations = self.disk.activations();
        let faults = activations.iter().filter(|((effect, _), _)| match effect {
            Effect::Fault(fault) => is_counted(*fault),
            _ => false,
        });
        faults.map(|(_, count)| count).sum()
    }

    /// Faults so far.
    pub(crate) fn fault_count(&self) -> u64 {
        self.faults(|_| true)
    }

    /// Whether something went wrong since the store was opened.
    pub(crate) fn has_fault(&self) -> bool {
        self.fault_count() > self.faults_at_open
    }

    /// Whether a read answered something wrong since the store was opened.
    pub(crate) fn has_flip(&self) -> bool {
        self.flips() > self.flips_at_open
    }

    /// Faults so far explain no error from now on.
    pub(crate) fn excuses_end(&mut self) {
        self.faults_at_open = self.fault_count();
        self.flips_at_open = self.flips();
    }

    /// Does something without faults.
    pub(crate) fn quietly<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        self.disk.pause_faults(true);
        let done = act(self);
        self.disk.pause_faults(false);
        done
    }

    /// An error is fine when something went wrong before.
    pub(crate) fn excuse(&mut self, what: &str, error: &Error) -> Outcome {
        self.counts.errors += 1;
        self.tell(format!("  {what}: {error}"));
        if self.has_fault() || self.is_damaged {
            Ok(())
        } else {
            Err(format!("{what} fails without a cause: {error}"))
        }
    }

    fn plan_fault(&mut self) {
        let faults = [
            Fault::Crash,
            Fault::Error,
            Fault::NoSpace,
            Fault::ShortWrite,
            Fault::DroppedPages,
            Fault::FlippedRead,
        ];
        let fault = PlannedFault {
            fault: faults[self.random.random_range(0..faults.len())],
            file: None,
            operation: None,
            after: if self.random.random_bool(0.6) {
                self.random.random_range(0..6)
            } else {
                self.random.random_range(0..60)
            },
        };
        self.tell(format!("  planned: {fault:?}"));
        self.disk.plan(fault);
    }

    /// After a step: a crash is followed by an open, and so is a store that may
    /// be in too many states.
    fn settle(&mut self) -> Outcome {
        if self.disk.is_crashed() {
            return self.crash();
        }
        if self.unknown.len() >= MOST_UNKNOWN {
            self.tell("too much is unknown");
            return self.reopen(false);
        }
        Ok(())
    }

    fn let_go(&mut self) {
        self.readers.clear();
        self.store = None;
    }

    /// The power goes, if it is not gone, and comes back.
    pub(crate) fn crash(&mut self) -> Outcome {
        self.counts.crashes += 1;
        let cut = match self.random.random_range(0..6) {
            0 => PowerCut::KeepAll,
            1 => PowerCut::DropAll,
            _ => PowerCut::Some(self.random.random()),
        };
        self.tell(format!("power cut: {cut:?}"));
        self.disk.cut_power();
        self.let_go();
        self.disk.restart(cut);
        self.was_cut = true;
        if self.one_in(10) {
            self.crash_everywhere_in_recovery()?;
        }
        self.open()
    }

    /// Ends the store, by `close` or by killing its process, and opens it again.
    pub(crate) fn reopen(&mut self, is_closed: bool) -> Outcome {
        self.tell(if is_closed { "close" } else { "kill" });
        self.disk.set_activity("close");
        self.readers.clear();
        if let Some(store) = self.store.take() {
            if is_closed {
                match store.close() {
                    Ok(()) if !self.has_fault() && self.one_in(2) => self.damage_a_copy()?,
                    Ok(()) => {}
                    Err(error) => self.excuse("close", &error)?,
                }
            } else {
                // The process ends, whatever its threads still want to write.
                self.disk.kill();
                drop(store);
            }
        }
        if self.disk.is_crashed() {
            return self.crash();
        }
        self.disk.kill();
        self.open()
    }

    /// Opens the store, through crashes and faults of recovery, and compares all
    /// there is.
    fn open(&mut self) -> Outcome {
        if self.setting.has_faults && self.counts.opens > 0 && self.one_in(3) {
            self.plan_recovery_fault();
        }
        let mut tries = 0;
        let store = loop {
            tries += 1;
            if tries > 3 {
                self.disk.clear_plans();
                self.disk.set_space(None);
            }
            self.excuses_end();
            self.options = self.setting.options(&mut self.random);
            self.disk.set_activity("recovery");
            self.counts.opens += 1;
            let opened = Store::open_on(
                Arc::new(self.disk.clone()),
                ROOT,
                self.options.clone(),
                Arc::<ManualClock>::clone(&self.clock),
            );
            match opened {
                Ok(store) => break store,
                Err(error) => {
                    self.excuse("open", &error)?;
                    if self.disk.is_crashed() {
                        self.counts.recovery_crashes += 1;
                        let cut = PowerCut::Some(self.random.random());
                        self.tell(format!("power cut in recovery: {cut:?}"));
                        self.disk.restart(cut);
                        self.was_cut = true;
                    } else {
                        self.disk.kill();
                    }
                }
            }
        };
        self.store = Some(store);
        let rules = Rules {
            plans: self.options.plan_limits,
            limits: self.options.limits.clone(),
        };
        let unknown = std::mem::take(&mut self.unknown);
        self.worlds.each(|model| model.rules = rules.clone());
        self.worlds.branch(&unknown);
        // A sync that drops its pages loses what a power cut does.
        let dropped = self.faults(|fault| fault == Fault::DroppedPages);
        let was_dropped = dropped > std::mem::replace(&mut self.dropped_at_open, dropped);
        if std::mem::take(&mut self.was_cut) || was_dropped {
            self.worlds.lose_unsynced();
        }
        self.worlds.each(Model::synced);
        let before = self.times().open;
        self.opened = (self.now(), self.clock.monotonic_nanos());
        let now = self.now();
        self.worlds.each(|model| model.reopened(before, now));
        if self.store().recovered().has_forgotten_appends {
            if !self.has_fault() {
                return Err("recent appends are forgotten without a cause".to_owned());
            }
            self.worlds.each(|model| model.doubt_recent(None));
        }
        self.tell(format!(
            "open, {} changes unknown, {:?}",
            unknown.len(),
            self.store().recovered()
        ));
        if self.disk.is_crashed() {
            return self.crash();
        }
        self.quietly(|run| run.compare_all(true))?;
        self.worlds.each(Model::settled);
        self.worlds.merge();
        Ok(())
    }

    fn flips(&self) -> u64 {
        self.faults(|fault| fault == Fault::FlippedRead)
    }

    fn plan_recovery_fault(&mut self) {
        let faults = [
            Fault::Crash,
            Fault::Crash,
            Fault::Error,
            Fault::NoSpace,
            Fault::ShortWrite,
        ];
        let fault = PlannedFault {
            fault: faults[self.random.random_range(0..faults.len())],
            file: None,
            operation: None,
            after: self.random.random_range(0..40),
        };
        self.tell(format!("  planned for recovery: {fault:?}"));
        self.disk.plan(fault);
    }

    /// Months that spans may lie in.
    pub(crate) fn months(&self) -> Vec<Month> {
        let mut months: Vec<Month> = self
            .worlds
            .any()
            .teams
            .values()
            .flat_map(|team| team.used.keys().copied())
            .collect();
        months.push(Month::of(self.now()));
        months.sort_unstable();
        months.dedup();
        months
    }
}
