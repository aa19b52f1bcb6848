//! What threads tell the writer.

use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::Sender;
use spanstore_format::TeamId;
use tokio::sync::oneshot;

use super::prepare::Prepared;
use super::queue::Room;
use super::receipt::Receipt;
use crate::error::Error;
use crate::hot::HotBuffer;

/// Where the answer to an append goes.
#[derive(Debug)]
pub(crate) enum Reply {
    Blocking(Sender<Result<Receipt, Error>>),
    Async(oneshot::Sender<Result<Receipt, Error>>),
}

impl Reply {
    // A caller who has gone away needs no answer.
    pub(super) fn send(self, answer: Result<Receipt, Error>) {
        match self {
            Self::Blocking(reply) => drop(reply.send(answer)),
            Self::Async(reply) => drop(reply.send(answer)),
        }
    }
}

/// An append on its way through the queue.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) team: TeamId,
    pub(crate) prepared: Prepared,
    /// Hash of its content.
    pub(crate) content: u128,
    pub(crate) idempotency_key: Option<Bytes>,
    pub(crate) reply: Reply,
    /// Whether the caller waits while memory is full.
    pub(crate) is_patient: bool,
    /// What the batch takes of the queue, until it is answered.
    pub(crate) room: Room,
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
    /// Forget what is remembered of the appends of these teams, durably.
    Forget(Vec<TeamId>, Sender<Result<(), Error>>),
    /// Do what is due, and answer whether a seal is.
    Tick(Sender<bool>),
    /// Write what is queued, and end.
    Stop,
}

/// Rows for a seal.
#[derive(Debug)]
pub(crate) struct SealJob {
    pub(crate) rows: Arc<HotBuffer>,
    /// The first sequence of the log after these rows.
    pub(crate) first_unsealed: u64,
    /// Appends that are remembered have numbers below this one, if they came with
    /// these rows or before.
    pub(crate) recent_before: u64,
}
