//! Groups of batches and changes of sessions: decided about, written to the log, seen by
//! readers, and answered.

use arrow::error::ArrowError;
use bytes::Bytes;
use prost::Message;
use spanstore_format::TeamId;
use spanstore_format::log::record::{AppendRecord, SessionChange};
use spanstore_format::recent::content_bytes;

use super::Writer;
use crate::error::Error;
use crate::hot::Appended;
use crate::options::Durability;
use crate::recent::{Known, Remember};
use crate::registry::Session;
use crate::write::admission::Verdict;
use crate::write::admitted::hot_batch;
use crate::write::message::{Append, Forgotten, Job, Reply, Work};
use crate::write::prepare::Part;
use crate::write::queue::Room;
use crate::write::receipt::{Receipt, Usage, is_body_remembered};

/// A job that was decided about and waits for the log.
pub(super) struct Pending {
    pub(super) team: TeamId,
    parts: Vec<(Part, Verdict)>,
    answer: Answer,
    room: Room,
    /// What goes into the log; empty when nothing does.
    record: Vec<u8>,
}

/// What a job is answered once it is in the log.
pub(super) enum Answer {
    Append {
        content: u128,
        idempotency_key: Option<Bytes>,
        /// What is to be remembered of it, if anything is.
        remember: Option<Remember>,
        receipt: Receipt,
        reply: Reply<Receipt>,
    },
    Session {
        changes: AppendRecord,
        session: Session,
        reply: Reply<Session>,
    },
}

impl Pending {
    /// A job that changes sessions.
    pub(super) fn of_sessions(
        team: TeamId,
        changes: AppendRecord,
        session: Session,
        reply: Reply<Session>,
        room: Room,
    ) -> Self {
        let is_change = !changes.sessions.is_empty();
        Self {
            team,
            parts: Vec::new(),
            record: if is_change {
                changes.encode_to_vec()
            } else {
                Vec::new()
            },
            answer: Answer::Session {
                changes,
                session,
                reply,
            },
            room,
        }
    }

    /// What it changes of sessions of a team.
    fn sessions(&self, team: &TeamId) -> &[SessionChange] {
        match &self.answer {
            Answer::Session { changes, .. } if self.team == *team => &changes.sessions,
            _ => &[],
        }
    }

    /// Whether it changes a session of a team.
    fn changes(&self, team: &TeamId, id: Option<&str>) -> bool {
        let mut changes = self.sessions(team).iter();
        changes.any(|change| Some(change.id.as_str()) == id)
    }

    /// How many sessions of a team it starts.
    fn started(&self, team: &TeamId) -> u64 {
        let sessions = self
            .sessions(team)
            .iter()
            .flat_map(|change| &change.session);
        sessions.filter(|one| one.stopped_at.is_none()).count() as u64
    }

    /// Whether an append has the same content or key as this one.
    fn is_repeated_by(&self, team: &TeamId, append: &Append) -> bool {
        let Answer::Append {
            content,
            idempotency_key,
            ..
        } = &self.answer
        else {
            return false;
        };
        let has_key = append.idempotency_key.is_some();
        let is_same_key = has_key && *idempotency_key == append.idempotency_key;
        (*content == append.content || is_same_key) && self.team == *team
    }

    fn refuse(self, error: Error) {
        match self.answer {
            Answer::Append { reply, .. } => reply.send(Err(error)),
            Answer::Session { reply, .. } => reply.send(Err(error)),
        }
    }
}

impl Writer {
    /// Commits a group: decide, log, sync, publish, reply.
    pub(super) fn commit(&mut self, group: Vec<Job>) {
        let mut pending: Vec<Pending> = Vec::with_capacity(group.len());
        for Job {
            team, work, room, ..
        } in group
        {
            match work {
                Work::Append(append) => self.decide(team, append, room, &mut pending),
                Work::Session(command, reply) => {
                    // It may be about a session that is waiting for the log.
                    let waits = |other: &Pending| other.changes(&team, command.session());
                    if pending.iter().any(waits) {
                        self.write(std::mem::take(&mut pending));
                    }
                    let started = pending.iter().map(|other| other.started(&team)).sum();
                    match self.change_session(&team, command, started) {
                        Ok((changes, session)) => {
                            pending.push(Pending::of_sessions(team, changes, session, reply, room));
                        }
                        Err(error) => reply.send(Err(error)),
                    }
                }
            }
        }
        self.write(pending);
    }

    /// Decides about an append: it waits for the log, or is answered.
    fn decide(&mut self, team: TeamId, append: Append, room: Room, pending: &mut Vec<Pending>) {
        // The same twice in a group: the first must be durable before its receipt is given
        // again.
        if pending
            .iter()
            .any(|other| other.is_repeated_by(&team, &append))
        {
            self.write(std::mem::take(pending));
        }
        let key = append.idempotency_key.as_ref();
        match self.tools.recent.find(&team, append.content, key) {
            Ok(Known::New) => {}
            Ok(Known::Repeated {
                receipt,
                is_key_new,
            }) => {
                let durability = self.tools.options.durability;
                let receipt = Receipt::repeated_of(&receipt, durability);
                if is_key_new {
                    pending.push(self.repeated(team, append, room, receipt));
                } else {
                    append.reply.send(Ok(receipt));
                }
                return;
            }
            Err(error) => return append.reply.send(Err(error)),
        }
        match self.admit(team, append, room) {
            Ok(admitted) => pending.push(admitted),
            Err((reply, error)) => reply.send(Err(error)),
        }
    }

    /// Lets spans of a batch in. What it changes is taken back if the log fails.
    fn admit(
        &mut self,
        team: TeamId,
        append: Append,
        room: Room,
    ) -> Result<Pending, (Reply<Receipt>, Error)> {
        let Append {
            prepared,
            content,
            idempotency_key,
            reply,
        } = append;
        if let Err(error) = self.tools.health.check() {
            return Err((reply, error));
        }
        let limit = self.tools.settings.limit(&team);
        let mut receipt = Receipt {
            accepted: 0,
            duplicates: 0,
            refused: prepared.refused,
            months: Vec::with_capacity(prepared.parts.len()),
            durability: self.tools.options.durability,
            repeated: false,
        };
        // All counts are looked up before anything changes.
        let mut counts = Vec::with_capacity(prepared.parts.len());
        for part in &prepared.parts {
            match self.tools.quota.load(part.month, &team) {
                Ok(used) => counts.push(used),
                Err(error) => return Err((reply, error)),
            }
        }
        let mut parts = Vec::with_capacity(prepared.parts.len());
        let mut left_out = Vec::new();
        for (part, used) in prepared.parts.into_iter().zip(counts) {
            let remaining = limit.saturating_sub(used);
            let verdict = self.admission.admit(&part, remaining, &mut receipt.refused);
            self.tools.quota.add(part.month, &team, verdict.accepted);
            if is_planted!(CountDuplicate) {
                self.tools.quota.add(part.month, &team, verdict.duplicates);
            }
            let used = used + verdict.accepted;
            receipt.accepted += verdict.accepted;
            receipt.duplicates += verdict.duplicates;
            receipt.months.push(Usage::new(part.month, used, limit));
            let positions = part.positions.iter().zip(&verdict.admitted);
            left_out.extend(
                positions
                    .filter(|(_, admitted)| !**admitted)
                    .map(|(place, _)| *place),
            );
            parts.push((part, verdict));
        }
        // Months lie in each other; the record names spans in their order.
        left_out.sort_unstable();
        receipt
            .refused
            .sort_unstable_by_key(|refusal| refusal.index);
        let remember = self.remember(content, idempotency_key.as_ref(), &receipt);
        let (request, left_out) = if receipt.accepted > 0 {
            (prepared.request, left_out)
        } else {
            (Bytes::new(), Vec::new())
        };
        Ok(Pending {
            record: record(&team, request, left_out, remember.as_ref()),
            team,
            parts,
            answer: Answer::Append {
                content,
                idempotency_key,
                remember,
                receipt,
                reply,
            },
            room,
        })
    }

    /// A batch whose content is known and whose key is not.
    fn repeated(&self, team: TeamId, append: Append, room: Room, receipt: Receipt) -> Pending {
        let remember = self.remember(append.content, append.idempotency_key.as_ref(), &receipt);
        Pending {
            record: record(&team, Bytes::new(), Vec::new(), remember.as_ref()),
            team,
            parts: Vec::new(),
            answer: Answer::Append {
                content: append.content,
                idempotency_key: append.idempotency_key,
                remember,
                receipt,
                reply: append.reply,
            },
            room,
        }
    }

    /// What is to be remembered of an append, if anything is.
    fn remember(&self, content: u128, key: Option<&Bytes>, receipt: &Receipt) -> Option<Remember> {
        let recent = &self.tools.recent;
        let (keeps_bodies, keeps_keys) = recent.keeps();
        let receipt = receipt.to_record();
        let is_body = keeps_bodies && is_body_remembered(&receipt);
        let key = key.filter(|_| keeps_keys);
        (is_body || key.is_some()).then(|| Remember {
            at: recent.now(),
            content,
            is_body,
            key: key.cloned(),
            receipt,
        })
    }

    /// Writes what was admitted, and answers.
    fn write(&mut self, mut pending: Vec<Pending>) {
        if pending.is_empty() {
            return;
        }
        let written = hot_batches(&mut pending, self.log.next_sequence())
            .map_err(|error| Error::internal("admitted rows", &error))
            .and_then(|batches| {
                if is_planted!(PublishBeforeSync) {
                    self.tools.view.publish(batches.clone(), u64::MAX);
                }
                self.append_to_log(&pending).map(|()| batches)
            });
        let mut batches = match written {
            Ok(batches) => batches,
            Err(error) => {
                self.take_back(&pending);
                for job in pending {
                    job.refuse(error.clone());
                }
                return;
            }
        };
        let has_sessions =
            |job: &Pending| matches!(job.answer, Answer::Session { .. }) && !job.record.is_empty();
        let now = self.now();
        if !batches.is_empty() || pending.iter().any(has_sessions) {
            self.oldest.get_or_insert(now);
        }
        for (_, batch) in &mut batches {
            batch.arrived = Some(now);
        }
        if !is_planted!(PublishBeforeSync) {
            self.tools.view.publish(batches, self.log.next_sequence());
        }
        self.ask_to_gather();
        for job in pending {
            // What was queued is in memory now, and counted there.
            drop(job.room);
            match job.answer {
                Answer::Append {
                    remember,
                    receipt,
                    reply,
                    ..
                } => {
                    if let Some(remember) = remember {
                        self.tools.recent.remember(&job.team, remember);
                    }
                    reply.send(Ok(receipt));
                }
                Answer::Session {
                    changes,
                    session,
                    reply,
                } => {
                    self.tools.registry.apply(&job.team, &changes);
                    reply.send(Ok(session));
                }
            }
        }
    }

    fn append_to_log(&mut self, pending: &[Pending]) -> Result<(), Error> {
        let records: Vec<&[u8]> = pending
            .iter()
            .map(|job| job.record.as_slice())
            .filter(|record| !record.is_empty())
            .collect();
        self.append_records(&records)
    }

    fn append_records(&mut self, records: &[&[u8]]) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let written = self.log.append(records).and_then(|_| {
            if self.tools.options.durability == Durability::Sync {
                self.log.sync()?;
            } else {
                self.unsynced.get_or_insert(now);
            }
            self.unsettled = Some(now);
            Ok(())
        });
        written.map_err(|error| self.failed(error))
    }

    /// Forgets what is remembered of the appends of some teams, and sessions of theirs.
    pub(super) fn forget(&mut self, forgotten: &[Forgotten]) -> Result<(), Error> {
        self.tools.health.check()?;
        let records = forgotten.iter().map(|one| {
            Ok(AppendRecord {
                team: one.team.as_str().to_owned(),
                forgets: true,
                removes_sessions: one.is_whole,
                sessions: if one.is_whole {
                    Vec::new()
                } else {
                    self.without_sessions(&one.team, &one.sessions)?
                },
                ..AppendRecord::default()
            })
        });
        let records: Vec<AppendRecord> = records.collect::<Result<_, Error>>()?;
        let bytes: Vec<Vec<u8>> = records.iter().map(Message::encode_to_vec).collect();
        self.append_records(&bytes.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        // Whatever the mode: what is forgotten must not be known after a crash.
        self.log.sync().map_err(|error| self.failed(error))?;
        for (Forgotten { team, .. }, record) in forgotten.iter().zip(&records) {
            self.tools.recent.forget(team);
            self.tools.registry.apply(team, record);
        }
        Ok(())
    }

    /// Notes a failure of the log that forbids further writes.
    pub(super) fn failed(&self, error: Error) -> Error {
        if !matches!(error, Error::NoSpace { .. }) {
            self.tools.health.poison(&error.to_string());
        }
        error
    }

    fn take_back(&mut self, pending: &[Pending]) {
        if is_planted!(KeepRefusedCount) {
            return;
        }
        for job in pending {
            for (part, verdict) in &job.parts {
                self.admission.take_back(part, verdict);
                let quota = &self.tools.quota;
                quota.take_back(part.month, &job.team, verdict.accepted);
            }
        }
    }
}

/// The record of an append; empty when there is nothing to write.
fn record(
    team: &TeamId,
    request: Bytes,
    left_out: Vec<u32>,
    remember: Option<&Remember>,
) -> Vec<u8> {
    if request.is_empty() && remember.is_none() {
        return Vec::new();
    }
    let record = AppendRecord {
        team: team.as_str().to_owned(),
        request,
        left_out,
        idempotency_key: remember.and_then(|remember| remember.key.clone()),
        receipt: remember.map(|remember| remember.receipt.clone()),
        content: remember.map(|remember| content_bytes(remember.content)),
        noted_at: remember.map_or(0, |remember| remember.at),
        ..AppendRecord::default()
    };
    record.encode_to_vec()
}

/// The rows of each job that were let in; the first record that is written will have
/// the sequence `next`.
fn hot_batches(pending: &mut [Pending], next: u64) -> Result<Vec<(TeamId, Appended)>, ArrowError> {
    let mut batches = Vec::with_capacity(pending.len());
    let mut sequence = next;
    for job in pending {
        for (part, verdict) in &mut job.parts {
            if verdict.accepted > 0 {
                let batch = hot_batch(part, &verdict.admitted, sequence)?;
                batches.push((job.team.clone(), batch));
            }
        }
        sequence += u64::from(!job.record.is_empty());
    }
    Ok(batches)
}
