//! Puts small batches of unsealed rows together, beside the writer.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use crate::error::Error;
use crate::health::Health;
use crate::view::View;

/// Runs until there is no writer any more.
pub(crate) fn run(view: &View, health: &Arc<Health>, due: &Receiver<()>) {
    while let Ok(()) = due.recv() {
        if let Err(error) = gather(view) {
            // Rows that do not fit together cannot be sealed either.
            health.poison(&error.to_string());
        }
    }
}

/// Puts together what there is now.
///
/// # Errors
/// [`Error::Internal`] when rows do not fit together.
pub(crate) fn gather(view: &View) -> Result<(), Error> {
    while let Some(loose) = view.loose() {
        let batch = loose.gather();
        let batch = batch.map_err(|error| Error::internal("unsealed rows", &error))?;
        view.gathered(&loose, &batch);
    }
    Ok(())
}
