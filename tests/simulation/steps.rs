//! What a run does to its store, one step after the other.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use spanstore::io::Disk;
use spanstore::{Clock, Erased, Error, Month, Plan, Spans, Store};
use spanstore_test_support::model::facts::Facts;
use spanstore_test_support::model::{Change, Forgotten, Model};
use spanstore_test_support::sessions;

use super::answers::recognize;
use super::run::{Outcome, ROOT, Reader, Run, TEAMS};

pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const DAY: i64 = 86_400 * SECOND;

impl Run {
    /// Does one random thing.
    pub(crate) fn step(&mut self) -> Outcome {
        match self.random.random_range(0..100) {
            0..34 => self.append(),
            34..39 => self.seal(),
            39..43 => self.maintain(),
            43..48 => self.compact(),
            48..52 => self.erase(),
            52..57 => self.forget(),
            57..61 => self.set_limits(),
            61..64 => self.set_retention(),
            64 => self.accept_clock(),
            65..69 => {
                self.move_clock();
                Ok(())
            }
            69..71 => self.back_up(),
            71 => self.flush(),
            72 => self.check(),
            73..77 => self.begin_reader(),
            77..82 => self.read_on(),
            82..85 => {
                self.fill_disk();
                Ok(())
            }
            85..88 => self.end(),
            88..91 => self.change_session(),
            _ => self.ask(),
        }
    }

    fn end(&mut self) -> Outcome {
        match self.random.random_range(0..3) {
            0 => self.crash(),
            1 => self.reopen(true),
            _ => self.reopen(false),
        }
    }

    /// Nobody told whether something was sealed: the store says what is in
    /// memory.
    fn see_hot_rows(&mut self) -> Outcome {
        if self.disk.is_crashed() {
            return Ok(());
        }
        let report = self.quietly(|run| run.store().check());
        match report {
            Ok(report) => self.worlds.keep(|model| model.sealed_to(report.hot_rows)),
            Err(error) => {
                self.excuse("check", &error)?;
                self.reopen(false)
            }
        }
    }

    fn seal(&mut self) -> Outcome {
        self.tell("seal");
        self.disk.set_activity("seal");
        self.seal_now().map(drop)
    }

    /// Seals, and waits until the log is let go. Answers whether it did.
    fn seal_now(&mut self) -> Result<bool, String> {
        let sealed = self.store().seal().map(drop);
        let sealed = sealed.and_then(|()| self.store().flush());
        let Err(error) = sealed else {
            self.worlds.each(|model| {
                model.sealed();
                model.synced();
            });
            return Ok(true);
        };
        self.excuse("seal", &error)?;
        let opens = self.counts.opens;
        self.see_hot_rows()?;
        if !self.disk.is_crashed() && self.counts.opens == opens {
            self.worlds.each(Model::seal_failed);
        }
        Ok(false)
    }

    /// What is due happens: a seal, merges, and what the log has to note.
    fn maintain(&mut self) -> Outcome {
        self.tell("maintain");
        self.disk.set_activity("merge");
        let now = self.now();
        let done = self.store().maintain();
        match &done {
            Ok(report) => self.tell(format!("  {report:?}")),
            Err(error) => self.excuse("maintain", error)?,
        }
        let has_sealed = !matches!(&done, Ok(report) if report.sealed.segments.is_empty());
        self.worlds.each(|model| model.merges(now, has_sealed));
        if self.disk.is_crashed() {
            return Ok(());
        }
        // The log is let go of after the seal; until then the disk is in use.
        let flushed = self.store().flush();
        if let Err(error) = &flushed {
            self.excuse("flush", error)?;
        }
        let opens = self.counts.opens;
        self.see_hot_rows()?;
        // Its seal may have set rows apart.
        if done.is_err() && !self.disk.is_crashed() && self.counts.opens == opens {
            self.worlds.each(Model::seal_failed);
        }
        Ok(())
    }

    fn compact(&mut self) -> Outcome {
        self.tell("compact");
        self.disk.set_activity("merge");
        let now = self.now();
        let compacted = self.store().compact();
        self.worlds.each(|model| model.merges(now, false));
        match compacted {
            Ok(report) => self.tell(format!("  {report:?}")),
            Err(error) => self.excuse("compact", &error)?,
        }
        Ok(())
    }

    fn erase(&mut self) -> Outcome {
        self.tell("erase");
        self.disk.set_activity("erase");
        if !self.seal_now()? {
            return Ok(());
        }
        let now = self.now();
        let erased = self.store().erase();
        self.worlds.each(|model| model.merges(now, false));
        match erased {
            Ok(report) => self.tell(format!("  {report:?}")),
            Err(error) => self.excuse("erase", &error)?,
        }
        Ok(())
    }

    fn forget(&mut self) -> Outcome {
        self.disk.set_activity("forget");
        if self.one_in(4) {
            return self.forget_many();
        }
        let name = self.any_team();
        let what = self.random_rows(&name);
        self.tell(format!("{name}: forget {what:?}"));
        if !self.seal_now()? {
            return Ok(());
        }
        let handle = self.handle(&name);
        let forgotten = match &what {
            Forgotten::Team => handle.forget(),
            Forgotten::Trace(trace) => {
                let id = spanstore_test_support::spans::trace_id(*trace);
                handle.forget_trace(spanstore::TraceId(id))
            }
            Forgotten::Session(session) => handle.forget_session(session),
        };
        drop(handle);
        let change = Change::Forget {
            rows: vec![(name, what)],
            before: self.worlds.next_number(),
        };
        self.forgotten(change, forgotten)
    }

    fn random_rows(&mut self, name: &str) -> Forgotten {
        match self.random.random_range(0..5) {
            0 => Forgotten::Team,
            1 | 2 => Forgotten::Trace(self.random.random_range(0..self.setting.traces)),
            _ => {
                let number = self.random.random_range(0..4);
                // Spans have no session of the last number.
                let started = if number == 3 {
                    self.any_session(name)
                } else {
                    None
                };
                let session = started.map(|(_, id)| id);
                Forgotten::Session(session.unwrap_or_else(|| format!("session-{number}")))
            }
        }
    }

    /// Forgets rows of some teams: all or none.
    fn forget_many(&mut self) -> Outcome {
        let rows: Vec<(String, Forgotten)> = (0..self.random.random_range(0..4))
            .map(|_| {
                let name = self.any_team();
                let what = self.random_rows(&name);
                (name, what)
            })
            .collect();
        self.tell(format!("forget {rows:?}"));
        if !self.seal_now()? {
            return Ok(());
        }
        let erased = rows.iter().map(|(name, what)| {
            let erased = match what {
                Forgotten::Team => Erased::Team,
                Forgotten::Trace(trace) => {
                    let id = spanstore_test_support::spans::trace_id(*trace);
                    Erased::Trace(spanstore::TraceId(id))
                }
                Forgotten::Session(session) => Erased::Session(session.clone()),
            };
            (spanstore_test_support::team(name), erased)
        });
        let forgotten = self.store().forget_many(erased);
        let change = Change::Forget {
            rows,
            before: self.worlds.next_number(),
        };
        self.forgotten(change, forgotten)
    }

    fn forgotten(&mut self, change: Change, done: Result<(), Error>) -> Outcome {
        if let (Err(_), Change::Forget { rows, .. }) = (&done, &change) {
            // Appends of the teams and sessions are forgotten first.
            for (team, what) in rows {
                self.worlds.each(|model| model.doubt_forgotten(team, what));
            }
        }
        self.changed("forget", change, done)
    }

    /// A change that has no other answer than that it is done.
    fn changed(&mut self, what: &str, change: Change, done: Result<(), Error>) -> Outcome {
        match done {
            Ok(()) => {
                // What was unknown of the same setting is settled now.
                self.unknown.retain(|one| !change.replaces(one));
                self.worlds.each(|model| model.apply(&change));
                Ok(())
            }
            Err(error) => {
                self.excuse(what, &error)?;
                self.unknown.push(change);
                Ok(())
            }
        }
    }

    fn set_limits(&mut self) -> Outcome {
        self.disk.set_activity("settings");
        let name = self.any_team();
        let handle = self.handle(&name);
        let (change, done) = if self.random.random_bool(0.5) {
            let limit = self
                .random
                .random_bool(0.7)
                .then(|| self.random.random_range(0..self.setting.quota * 2));
            (Change::Limit(name, limit), handle.set_quota(limit))
        } else {
            let plans = [Plan::Hobby, Plan::Pro, Plan::Enterprise];
            let plan = plans[self.random.random_range(0..3)];
            (Change::Plan(name, plan), handle.set_plan(plan))
        };
        drop(handle);
        self.tell(format!("{change:?}"));
        self.changed("settings", change, done)
    }

    fn set_retention(&mut self) -> Outcome {
        self.disk.set_activity("retention");
        let days = [None, Some(1), Some(20), Some(35), Some(90)];
        let days = days[self.random.random_range(0..days.len())];
        let kept = days.map(|days| Duration::from_hours(24 * days));
        let (change, done) = if self.random.random_bool(0.5) {
            let name = self.any_team();
            let done = self.handle(&name).set_retention(kept);
            (Change::Retention(name, kept), done)
        } else {
            let done = self.store().set_retention(kept);
            (Change::StoreRetention(kept), done)
        };
        self.tell(format!("{change:?}"));
        self.changed("retention", change, done)
    }

    fn accept_clock(&mut self) -> Outcome {
        self.tell("accept the clock");
        self.disk.set_activity("retention");
        let now = self.now();
        let accepted = self.store().accept_clock();
        // One that failed may be in the catalog all the same.
        self.worlds.each(|model| model.accept_clock(now));
        match accepted {
            Ok(()) => Ok(()),
            Err(error) => self.excuse("accept_clock", &error),
        }
    }

    fn move_clock(&mut self) {
        let now = self.now();
        let month = Month::of(now);
        let to = match self.random.random_range(0..6) {
            0 => now - 300 * SECOND,
            1 => month.end_nanos() - 1,
            2 => month.end_nanos(),
            3 => now + DAY,
            4 => now + 20 * DAY,
            _ => now + 60 * SECOND,
        };
        // Time passes, or somebody sets the clock.
        let passed = u64::try_from(to - now).ok();
        let passed = passed.filter(|_| self.random.random_bool(0.7));
        self.tell(format!(
            "clock: {to}, {} s later, passed: {passed:?}",
            (to - now) / SECOND
        ));
        match passed {
            Some(passed) => {
                let passed = Duration::from_nanos(passed);
                self.clock.advance(passed);
                self.worlds.each(|model| model.passes(passed));
            }
            None => self.clock.set(to),
        }
    }

    fn flush(&mut self) -> Outcome {
        self.tell("flush");
        self.disk.set_activity("append");
        match self.store().flush() {
            Ok(()) => self.worlds.each(Model::synced),
            Err(error) => self.excuse("flush", &error)?,
        }
        Ok(())
    }

    fn check(&mut self) -> Outcome {
        self.tell("check");
        self.compare_all(false)
    }

    /// Faults aside, a full disk is one that has space again later.
    fn fill_disk(&mut self) {
        let space = if self.setting.has_faults && self.random.random_bool(0.6) {
            Some(self.random.random_range(0..40_000))
        } else {
            None
        };
        self.tell(format!("space: {space:?}"));
        self.disk.set_space(space);
    }

    fn begin_reader(&mut self) -> Outcome {
        self.disk.set_activity("query");
        let name = self.any_team();
        self.tell(format!(
            "{name}: begin an export, reader {}",
            self.readers.len()
        ));
        match self.handle(&name).export() {
            Ok(rest) => {
                let reader = Reader {
                    team: name,
                    rest: Box::new(rest),
                    found: Vec::new(),
                    began: self.worlds.clone(),
                    now: self.now(),
                };
                self.readers.push(reader);
                Ok(())
            }
            Err(error) => self.excuse("export", &error),
        }
    }

    /// A reader takes its next chunk; its snapshot has not changed.
    fn read_on(&mut self) -> Outcome {
        self.disk.set_activity("query");
        if self.readers.is_empty() {
            return Ok(());
        }
        let place = self.random.random_range(0..self.readers.len());
        self.tell(format!("reader {place} goes on"));
        let mut reader = self.readers.swap_remove(place);
        let known: Vec<Facts> = reader
            .began
            .any()
            .teams
            .get(&reader.team)
            .map(|team| team.rows.iter().map(|row| row.facts.clone()).collect())
            .unwrap_or_default();
        match reader.rest.next() {
            Some(Ok(chunk)) => {
                reader.found.extend(recognize(&chunk, &known)?);
                self.readers.push(reader);
                Ok(())
            }
            Some(Err(error)) => self.excuse("reader", &error),
            None => {
                self.counts.answers += 1;
                let found = std::mem::take(&mut reader.found);
                let (team, now) = (reader.team, reader.now);
                reader
                    .began
                    .keep(|model| model.sees(&team, now, found.clone()))
                    .map_err(|error| format!("reader: {error}"))
            }
        }
    }

    fn back_up(&mut self) -> Outcome {
        self.disk.set_activity("backup");
        self.backups += 1;
        let path = format!("/backup-{}", self.backups);
        self.tell(format!("back up to {path}"));
        if !self.seal_now()? {
            return Ok(());
        }
        match self.store().backup(&path) {
            Ok(()) => self.quietly(|run| run.compare_backup(&path)),
            Err(error) => self.excuse("backup", &error),
        }
    }

    /// A backup is a store of its own, with the same rows.
    fn compare_backup(&mut self, path: &str) -> Outcome {
        let mut options = self.options.clone();
        options.create = false;
        // What happens to a backup does not happen to the store.
        let disk = self.disk.fork();
        let clock: Arc<dyn Clock> = Arc::<spanstore::ManualClock>::clone(&self.clock);
        let copy = Store::open_on(Arc::new(disk) as Arc<dyn Disk>, path, options, clock)
            .map_err(|error| format!("a backup does not open: {error}"))?;
        let now = self.now();
        for name in TEAMS {
            let handle = copy.team(&spanstore_test_support::team(name));
            let chunks: Vec<Spans> = handle
                .export()
                .and_then(Iterator::collect)
                .map_err(|error| format!("backup: {error}"))?;
            let listed = sessions(&handle).map_err(|error| format!("backup: {error}"))?;
            self.worlds.keep(|model| {
                let known: Vec<Facts> = model
                    .teams
                    .get(name)
                    .map(|team| team.rows.iter().map(|row| row.facts.clone()).collect())
                    .unwrap_or_default();
                let mut found = Vec::new();
                for chunk in &chunks {
                    found.extend(recognize(chunk, &known)?);
                }
                let mut model = model.clone();
                let seen = model.sees(name, now, found);
                seen.and_then(|()| model.lists_sessions(name, now, listed.clone()))
                    .map_err(|error| format!("backup: {error}"))
            })?;
        }
        let report = copy.check().map_err(|error| error.to_string())?;
        if !report.damage.is_empty() && !self.has_flip() {
            return Err(format!("damage in a backup of {ROOT}: {:?}", report.damage));
        }
        Ok(())
    }
}
