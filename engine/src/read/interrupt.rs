//! Whether work goes on, the memory that it takes, and what it costs: queries have limits,
//! look-ups have none.

use arrow::array::RecordBatch;

use super::meter::Meter;
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

    /// What adds up the cost.
    fn meter(&self) -> &Meter;
}

/// Memory that is accounted for.
pub(crate) type Held = Box<dyn Send + Sync>;

/// Nothing ends the work.
#[derive(Debug, Default)]
pub(crate) struct Never(pub(crate) Meter);

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

    fn meter(&self) -> &Meter {
        &self.0
    }
}
