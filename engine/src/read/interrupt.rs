//! Whether work goes on, and the memory that it takes: queries have limits, look-ups have
//! none.

use arrow::array::RecordBatch;

use crate::error::Error;

/// Is asked between two steps of a read.
pub(crate) trait Interrupt: Send + Sync {
    /// Goes on.
    ///
    /// # Errors
    /// Why the work is to end.
    fn check(&self) -> Result<(), Error>;

    /// Accounts for rows that were read, until what it answers is dropped.
    ///
    /// # Errors
    /// When they take more memory than the work may.
    fn hold(&self, rows: &RecordBatch) -> Result<Held, Error>;

    /// Accounts for so many bytes, until what it answers is dropped.
    ///
    /// # Errors
    /// When they are more than the work may take.
    #[cfg_attr(
        not(feature = "query"),
        expect(dead_code, reason = "only queries gather groups")
    )]
    fn hold_bytes(&self, bytes: usize) -> Result<Held, Error>;
}

/// Memory that is accounted for.
pub(crate) type Held = Box<dyn Send>;

/// Nothing ends the work.
pub(crate) struct Never;

impl Interrupt for Never {
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    fn hold(&self, _: &RecordBatch) -> Result<Held, Error> {
        Ok(Box::new(()))
    }

    fn hold_bytes(&self, _: usize) -> Result<Held, Error> {
        Ok(Box::new(()))
    }
}
