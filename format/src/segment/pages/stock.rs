//! Calls of the stock Parquet reader, and what its errors become.

use std::panic::AssertUnwindSafe;

use parquet::errors::ParquetError;

use crate::error::FormatError;

/// Calls the stock reader. It takes much of what it reads for granted, and
/// panics where checksums hold over bytes that no writer makes. (Where panics
/// abort, they do here too.)
pub(crate) fn without_panic<T, E: From<ParquetError>>(
    call: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    // What it was about to change is dropped with the error.
    std::panic::catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(damaged("bytes that the Parquet reader understands").into()))
}

pub(crate) fn parquet_error(part: &'static str, offset: u64, error: &ParquetError) -> FormatError {
    if let ParquetError::External(source) = error
        && let Some(source) = source.downcast_ref::<FormatError>()
    {
        return source.clone();
    }
    FormatError::malformed(part, offset, "readable Parquet", error.to_string())
}

pub(crate) fn damaged(what: &str) -> ParquetError {
    ParquetError::General(format!("expected {what}"))
}
