//! Puts small batches of unsealed rows together, beside the writer.

use std::sync::Arc;

use crossbeam_channel::{Receiver, TryRecvError};

use crate::error::Error;
use crate::health::Health;
use crate::view::View;

/// Runs until there is no writer any more.
pub(crate) fn run(view: &View, health: &Arc<Health>, due: &Receiver<()>) {
    while let Ok(()) = due.recv() {
        // What is due is looked for until there is none, so a word more changes nothing.
        while due.try_recv() != Err(TryRecvError::Disconnected) {
            match gather_once(view) {
                Ok(true) => {}
                Ok(false) => break,
                // Rows that do not fit together cannot be sealed either.
                Err(error) => {
                    health.poison(&error.to_string());
                    break;
                }
            }
        }
    }
}

/// Puts together what there is now.
///
/// # Errors
/// [`Error::Internal`] when rows do not fit together.
pub(crate) fn gather(view: &View) -> Result<(), Error> {
    while gather_once(view)? {}
    Ok(())
}

/// Puts some batches together; false when there are none to be.
fn gather_once(view: &View) -> Result<bool, Error> {
    let Some(loose) = view.loose() else {
        return Ok(false);
    };
    let batch = loose.gather();
    let batch = batch.map_err(|error| Error::internal("unsealed rows", &error))?;
    view.gathered(&loose, &batch);
    Ok(true)
}
