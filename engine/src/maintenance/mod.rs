//! What a store does beside appends and reads: it puts small batches together, seals,
//! merges, lets expire and erases.

pub(crate) mod compact;
pub(crate) mod gather;
pub(crate) mod seal;
pub(crate) mod threads;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::Error;

/// What [`Store::maintain`](crate::Store::maintain) did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MaintenanceReport {
    /// The segments that were sealed.
    pub sealed: seal::SealReport,
    /// What was merged and dropped.
    pub compacted: compact::CompactReport,
}

/// Runs some work; a panic in it is an error.
pub(crate) fn without_panic<T>(
    place: &'static str,
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    // What the work was about is given up or done anew by the caller.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let cause = message(&*panic);
        Err(Error::internal(place, &format!("panic: {cause}")))
    })
}

/// What a panic said.
pub(crate) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message")
}
