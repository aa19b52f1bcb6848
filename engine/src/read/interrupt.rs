//! Whether work goes on: queries have limits, look-ups have none.

use crate::error::Error;

/// Is asked between two steps of a read.
pub(crate) trait Interrupt: Send + Sync {
    /// Answers why the work is to end; none when it goes on.
    fn check(&self) -> Result<(), Error>;
}

/// Nothing ends the work.
pub(crate) struct Never;

impl Interrupt for Never {
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}
