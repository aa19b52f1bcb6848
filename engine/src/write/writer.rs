//! The writer thread. It alone admits spans and appends to the log, so what it
//! does happens in one order, and that order is the log's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TryRecvError, never};
use prost::Message;
use spanstore_format::log::record::AppendRecord;
use spanstore_format::{FormatError, TeamId};

use super::admission::{Admission, Verdict};
use super::message::{Control, Job, Reply, SealJob};
use super::prepare::Part;
use super::receipt::{Receipt, Receipts, Usage};
use super::shared::Shared;
use crate::error::Error;
use crate::hot::HotBatch;
use crate::log::Log;
use crate::options::Durability;

/// Batches that share one sync at most.
const GROUP_BATCHES: usize = 256;
/// Bytes of batches that share one sync, about.
const GROUP_BYTES: usize = 8 << 20;
/// How often the writer looks at the age of rows when nothing comes in.
const IDLE: Duration = Duration::from_secs(1);

/// The writer's own state.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    log: Log,
    admission: Admission,
    receipts: Receipts,
    sealing_receipts: Receipts,
    /// The sequence that the seal under way reaches up to.
    sealing: Option<u64>,
    /// Asks for a seal.
    seals: Sender<crate::seal::Request>,
    is_seal_asked: bool,
    /// After a seal could not begin, none is asked for until then.
    no_seal_before: Option<Instant>,
    /// When the oldest active row came.
    oldest: Option<Instant>,
    /// When something was written that is not synced.
    unsynced: Option<Instant>,
}

/// A job that was admitted and waits for the log.
struct Pending {
    team: TeamId,
    parts: Vec<(Part, Verdict)>,
    idempotency_key: Option<Bytes>,
    receipt: Receipt,
    reply: Reply,
    /// What goes into the log; empty when nothing does.
    record: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        log: Log,
        admission: Admission,
        receipts: Receipts,
        seals: Sender<crate::seal::Request>,
    ) -> Self {
        let has_rows = shared.view.active_size().0 > 0;
        Self {
            shared,
            log,
            admission,
            receipts,
            sealing_receipts: Receipts::new(),
            sealing: None,
            seals,
            is_seal_asked: false,
            no_seal_before: None,
            oldest: has_rows.then(Instant::now),
            unsynced: None,
        }
    }

    /// Runs until it is told to stop.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>, control: &Receiver<Control>) {
        let no_jobs = never();
        self.ask_for_seal_if_due();
        loop {
            // Memory is bounded: at the limit only the end of the seal helps.
            let source = if self.is_full() { &no_jobs } else { jobs };
            crossbeam_channel::select_biased! {
                recv(control) -> message => match message {
                    Ok(Control::Stop) | Err(_) => break,
                    Ok(message) => self.obey(message),
                },
                recv(source) -> job => match job {
                    Ok(job) => self.commit(Self::group(job, jobs)),
                    Err(_) => break,
                },
                default(self.patience()) => {}
            }
            self.sync_if_due();
            self.ask_for_seal_if_due();
        }
        while let Ok(job) = jobs.try_recv() {
            self.commit(Self::group(job, jobs));
        }
        if self.unsynced.is_some() {
            self.sync();
        }
    }

    fn is_full(&self) -> bool {
        // Who waits for a seal that cannot be committed is told so.
        self.sealing.is_some()
            && self.shared.check_poison().is_ok()
            && self.shared.view.active_size().1 > self.shared.options.hot_bytes / 2
    }

    fn patience(&self) -> Duration {
        match (self.shared.options.durability, self.unsynced) {
            (Durability::Interval(interval), Some(since)) => {
                interval.saturating_sub(since.elapsed()).min(IDLE)
            }
            _ => IDLE,
        }
    }

    /// What waits in the queue, as far as it shall share a sync.
    fn group(first: Job, jobs: &Receiver<Job>) -> Vec<Job> {
        let mut bytes = first.prepared.request.len();
        let mut group = vec![first];
        while group.len() < GROUP_BATCHES && bytes < GROUP_BYTES {
            match jobs.try_recv() {
                Ok(job) => {
                    bytes += job.prepared.request.len();
                    group.push(job);
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        group
    }

    fn obey(&mut self, message: Control) {
        match message {
            Control::BeginSeal(reply) => {
                let answer = self.begin_seal();
                drop(reply.send(answer));
            }
            Control::EndSeal(first_unsealed) => self.end_seal(first_unsealed),
            Control::Flush(reply) => {
                self.sync();
                drop(reply.send(self.shared.check_poison()));
            }
            Control::Stop => {}
        }
    }

    /// Commits a group: admit, log, sync, publish, reply.
    fn commit(&mut self, group: Vec<Job>) {
        self.shared.space.notify_waiters();
        let mut pending: Vec<Pending> = Vec::with_capacity(group.len());
        for job in group {
            if let Some(key) = &job.idempotency_key {
                let name = (job.team.clone(), key.clone());
                // The same key twice in a group: the first must be durable
                // before its receipt is given again.
                let is_pending = pending.iter().any(|other| {
                    other.team == job.team && other.idempotency_key.as_ref() == Some(key)
                });
                if is_pending {
                    self.write(std::mem::take(&mut pending));
                }
                let known = self
                    .receipts
                    .get(&name)
                    .or_else(|| self.sealing_receipts.get(&name));
                if let Some(receipt) = known {
                    job.reply.send(Ok(receipt.clone()));
                    continue;
                }
            }
            match self.admit(job) {
                Ok(admitted) => pending.push(admitted),
                Err((reply, error)) => reply.send(Err(error)),
            }
        }
        self.write(pending);
    }

    /// Decides about a job. What it changes is taken back if the log fails.
    fn admit(&mut self, job: Job) -> Result<Pending, (Reply, Error)> {
        let Job {
            team,
            prepared,
            idempotency_key,
            reply,
        } = job;
        if let Err(error) = self.shared.check_poison() {
            return Err((reply, error));
        }
        let limit = self.shared.limit(&team);
        let mut receipt = Receipt {
            accepted: 0,
            duplicates: 0,
            refused: prepared.refused,
            months: Vec::with_capacity(prepared.parts.len()),
            durability: self.shared.options.durability,
        };
        let mut counters = self.shared.counters();
        // All counts are looked up before anything changes.
        for part in &prepared.parts {
            let sealed = || self.shared.catalog.sealed_count(part.month, &team);
            if let Err(error) = counters.used(part.month, &team, sealed) {
                return Err((reply, error));
            }
        }
        let mut parts = Vec::with_capacity(prepared.parts.len());
        let mut left_out = Vec::new();
        for part in prepared.parts {
            let Ok(used) = counters.used(part.month, &team, || Ok::<_, Error>(0)) else {
                continue;
            };
            let verdict = self
                .admission
                .admit(&part, used, limit, &mut receipt.refused);
            receipt.accepted += verdict.accepted;
            receipt.duplicates += verdict.duplicates;
            receipt.months.push(Usage::new(part.month, *used, limit));
            let positions = part.positions.iter().zip(&verdict.admitted);
            left_out.extend(
                positions
                    .filter(|(_, admitted)| !**admitted)
                    .map(|(place, _)| *place),
            );
            parts.push((part, verdict));
        }
        drop(counters);
        // Months lie in each other; the record names spans in their order.
        left_out.sort_unstable();
        receipt
            .refused
            .sort_unstable_by_key(|refusal| refusal.index);
        let record = (receipt.accepted > 0 || idempotency_key.is_some()).then(|| AppendRecord {
            team: team.as_str().to_owned(),
            request: if receipt.accepted > 0 {
                prepared.request
            } else {
                Bytes::new()
            },
            left_out: if receipt.accepted > 0 {
                left_out
            } else {
                Vec::new()
            },
            receipt: idempotency_key.is_some().then(|| receipt.to_record()),
            idempotency_key: idempotency_key.clone(),
        });
        let record = record
            .map(|record| record.encode_to_vec())
            .unwrap_or_default();
        Ok(Pending {
            team,
            parts,
            idempotency_key,
            receipt,
            reply,
            record,
        })
    }

    /// Writes what was admitted, and answers.
    fn write(&mut self, pending: Vec<Pending>) {
        if pending.is_empty() {
            return;
        }
        if let Err(error) = self.append_to_log(&pending) {
            self.take_back(&pending);
            for job in pending {
                job.reply.send(Err(error.clone()));
            }
            return;
        }
        let mut batches = Vec::with_capacity(pending.len());
        let mut answers = Vec::with_capacity(pending.len());
        for job in pending {
            let Pending {
                team,
                parts,
                idempotency_key,
                receipt,
                reply,
                ..
            } = job;
            for (part, verdict) in parts {
                if verdict.accepted > 0 {
                    batches.push((team.clone(), hot_batch(part, &verdict.admitted)));
                }
            }
            if let Some(key) = idempotency_key {
                self.receipts.insert((team, key), receipt.clone());
            }
            answers.push((reply, receipt));
        }
        if !batches.is_empty() {
            self.oldest.get_or_insert_with(Instant::now);
        }
        self.shared.view.publish(batches);
        for (reply, receipt) in answers {
            reply.send(Ok(receipt));
        }
    }

    fn append_to_log(&mut self, pending: &[Pending]) -> Result<(), Error> {
        let records: Vec<&[u8]> = pending
            .iter()
            .map(|job| job.record.as_slice())
            .filter(|record| !record.is_empty())
            .collect();
        if records.is_empty() {
            return Ok(());
        }
        let written = self.log.append(&records).and_then(|_| {
            if self.shared.options.durability == Durability::Sync {
                self.log.sync()?;
            } else {
                self.unsynced.get_or_insert_with(Instant::now);
            }
            Ok(())
        });
        written.map_err(|error| self.failed(error))
    }

    /// Notes a failure of the log that forbids further writes.
    fn failed(&self, error: Error) -> Error {
        if !matches!(error, Error::NoSpace { .. }) {
            self.shared.poison(&error.to_string());
        }
        error
    }

    fn take_back(&mut self, pending: &[Pending]) {
        let mut counters = self.shared.counters();
        for job in pending {
            for (part, verdict) in &job.parts {
                self.admission.take_back(part, verdict);
                if let Ok(used) = counters.used(part.month, &job.team, || Ok::<_, Error>(0)) {
                    *used = used.saturating_sub(verdict.accepted);
                }
            }
        }
    }

    fn sync(&mut self) {
        self.unsynced = None;
        if let Err(error) = self.log.sync() {
            self.failed(error);
        }
    }

    fn sync_if_due(&mut self) {
        if let (Durability::Interval(interval), Some(since)) =
            (self.shared.options.durability, self.unsynced)
            && since.elapsed() >= interval
        {
            self.sync();
        }
    }

    fn ask_for_seal_if_due(&mut self) {
        let must_wait = self
            .no_seal_before
            .is_some_and(|time| Instant::now() < time)
            || self.shared.check_poison().is_err();
        if self.is_seal_asked || self.sealing.is_some() || must_wait {
            return;
        }
        let options = &self.shared.options;
        let (rows, bytes) = self.shared.view.active_size();
        let is_old = options
            .seal_age
            .zip(self.oldest)
            .is_some_and(|(age, oldest)| oldest.elapsed() >= age);
        let is_due = rows >= options.seal_rows
            || bytes >= options.hot_bytes / 2
            || self.log.bytes() >= options.log_bytes
            || is_old;
        if is_due && self.log.has_records() {
            self.is_seal_asked = self.seals.try_send(crate::seal::Request::Due).is_ok();
        }
    }

    fn begin_seal(&mut self) -> Result<Option<SealJob>, Error> {
        self.is_seal_asked = false;
        self.shared.check_poison()?;
        // A log without rows may hold receipts, which end with it.
        if !self.log.has_records() {
            return Ok(None);
        }
        let first_unsealed = match self.log.rotate() {
            Ok(first_unsealed) => first_unsealed,
            Err(error) => {
                self.no_seal_before = Some(Instant::now() + crate::seal::RETRY);
                return Err(self.failed(error));
            }
        };
        self.unsynced = None;
        self.oldest = None;
        self.sealing = Some(first_unsealed);
        self.admission.begin_seal();
        self.sealing_receipts = std::mem::take(&mut self.receipts);
        Ok(Some(SealJob {
            rows: self.shared.view.begin_seal(),
            first_unsealed,
        }))
    }

    fn end_seal(&mut self, first_unsealed: u64) {
        self.sealing = None;
        self.admission.end_seal();
        self.sealing_receipts = Receipts::new();
        let view = &self.shared.view;
        self.shared
            .counters()
            .retain(|(month, team)| view.has_hot_rows(*month, team));
        // A file that stays is removed at the next open.
        if let Err(error) = self.log.release(first_unsealed) {
            tracing::warn!(%error, "sealed log files stay until the store is opened again");
        }
    }
}

/// The rows of a part that were let in.
fn hot_batch(part: Part, admitted: &[bool]) -> Arc<HotBatch> {
    let rows = admitted_rows(&part.rows, admitted);
    let bytes = part.bytes * rows.num_rows() / admitted.len().max(1) + BATCH_OVERHEAD;
    Arc::new(HotBatch {
        month: part.month,
        rows,
        bytes,
        traces: part.traces,
        sessions: part.sessions,
    })
}

/// Memory of a batch beside its rows, in bytes, about: arrays and look-up.
const BATCH_OVERHEAD: usize = 8 << 10;

/// Rows of a batch that were let in.
pub(crate) fn admitted_rows(rows: &RecordBatch, admitted: &[bool]) -> RecordBatch {
    if admitted.iter().all(|admitted| *admitted) {
        return rows.clone();
    }
    let mask = BooleanArray::from(admitted.to_vec());
    // The mask is as long as the batch, which is all that can be wrong here.
    filter_record_batch(rows, &mask).unwrap_or_else(|_| rows.slice(0, 0))
}

/// A record of the log as a hot batch, its decision applied.
pub(crate) fn replayed(
    part: Part,
    left_out: &[u32],
) -> Result<(Vec<bool>, Arc<HotBatch>), FormatError> {
    let admitted: Vec<bool> = part
        .positions
        .iter()
        .map(|position| left_out.binary_search(position).is_err())
        .collect();
    let batch = hot_batch(part, &admitted);
    let expected = admitted.iter().filter(|admitted| **admitted).count();
    if batch.rows.num_rows() != expected {
        let found = batch.rows.num_rows().to_string();
        return Err(FormatError::malformed(
            "log record",
            0,
            format!("{expected} rows"),
            found,
        ));
    }
    Ok((admitted, batch))
}
