//! What threads tell the writer.

use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::Sender;
use prost::Message;
use spanstore_format::TeamId;
use spanstore_format::catalog::SessionRecord;
use tokio::sync::oneshot;

use super::prepare::Prepared;
use super::queue::Room;
use super::receipt::Receipt;
use crate::catalog::SessionChanges;
use crate::error::Error;
use crate::hot::HotBuffer;
use crate::registry::Session;

/// Where an answer goes.
#[derive(Debug)]
pub(crate) enum Reply<T> {
    Blocking(Sender<Result<T, Error>>),
    Async(oneshot::Sender<Result<T, Error>>),
}

impl<T> Reply<T> {
    // A caller who has gone away needs no answer.
    pub(super) fn send(self, answer: Result<T, Error>) {
        match self {
            Self::Blocking(reply) => drop(reply.send(answer)),
            Self::Async(reply) => drop(reply.send(answer)),
        }
    }
}

/// Work on its way through the queue.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) team: TeamId,
    pub(crate) work: Work,
    /// Whether the caller waits while memory is full.
    pub(crate) is_patient: bool,
    /// What the work takes of the queue, until it is answered.
    pub(crate) room: Room,
}

/// What the writer is to do.
#[derive(Debug)]
pub(crate) enum Work {
    /// Append a batch.
    Append(Append),
    /// Change the registry of sessions.
    Session(SessionCommand, Reply<Session>),
}

/// A batch to append.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) prepared: Prepared,
    /// Hash of its content.
    pub(crate) content: u128,
    pub(crate) idempotency_key: Option<Bytes>,
    pub(crate) reply: Reply<Receipt>,
}

impl Job {
    /// Bytes that it brings to the log, about.
    pub(super) fn bytes(&self) -> usize {
        match &self.work {
            Work::Append(append) => append.prepared.request.len(),
            Work::Session(command, _) => command.bytes(),
        }
    }

    /// Answers that it is not done.
    pub(super) fn refuse(self, error: Error) {
        match self.work {
            Work::Append(append) => append.reply.send(Err(error)),
            Work::Session(_, reply) => reply.send(Err(error)),
        }
    }
}

/// What other threads ask of the writer.
#[derive(Debug)]
pub(crate) enum Control {
    /// Set the active rows apart for a seal; none when there are none.
    BeginSeal(Sender<Result<Option<SealJob>, Error>>),
    /// A seal is committed: everything before this sequence has left the log.
    EndSeal(u64),
    /// A seal failed: batches that wait for its memory are told.
    SealFailed,
    /// Make everything so far durable.
    Flush(Sender<Result<(), Error>>),
    /// Remove files of the log that are sealed and are still there.
    Release(Sender<Result<(), Error>>),
    /// Forget what is remembered of the appends of these teams, and sessions of theirs,
    /// durably.
    Forget(Vec<Forgotten>, Sender<Result<(), Error>>),
    /// Do what is due, and answer whether a seal is.
    Tick(Sender<bool>),
    /// Write what is queued, and end.
    Stop,
}

/// What is to be known no more of a team.
#[derive(Debug)]
pub(crate) struct Forgotten {
    pub(crate) team: TeamId,
    /// Whether all its sessions go.
    pub(crate) is_whole: bool,
    /// Sessions that go.
    pub(crate) sessions: Vec<String>,
}

/// What becomes of a session.
#[derive(Debug)]
pub(crate) enum SessionCommand {
    /// It is started under this id.
    Start(String, Box<SessionRecord>),
    /// It is stopped.
    Stop(String),
    /// It is stopped, and another one is started in its place under the second id.
    Restart(String, String),
}

impl SessionCommand {
    /// The session that it is about; none when it starts one.
    pub(super) fn session(&self) -> Option<&str> {
        match self {
            Self::Start(..) => None,
            Self::Stop(id) | Self::Restart(id, _) => Some(id),
        }
    }

    /// Bytes that it brings to the log, about.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Start(_, session) => session.encoded_len(),
            Self::Stop(id) | Self::Restart(id, _) => id.len(),
        }
    }
}

/// Rows for a seal.
#[derive(Debug)]
pub(crate) struct SealJob {
    pub(crate) rows: Arc<HotBuffer>,
    /// The first sequence of the log after these rows.
    pub(crate) first_unsealed: u64,
    /// What becomes of sessions with these rows or before.
    pub(crate) sessions: Arc<SessionChanges>,
    /// Appends that are remembered have numbers below this one, if they came with
    /// these rows or before.
    pub(crate) recent_before: u64,
}
