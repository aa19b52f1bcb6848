//! Columns of times.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, TimestampMicrosecondArray, TimestampMicrosecondBuilder, TimestampNanosecondArray,
    TimestampNanosecondBuilder,
};

use super::TimePrecision;

const NANOS_A_MICRO: i64 = 1_000;

/// Builds a column of times that OTLP gave.
#[derive(Debug)]
pub(super) enum Times {
    Nanoseconds(TimestampNanosecondBuilder),
    Microseconds(TimestampMicrosecondBuilder),
}

impl Times {
    pub(super) fn new(precision: TimePrecision) -> Self {
        match precision {
            TimePrecision::Nanoseconds => Self::Nanoseconds(TimestampNanosecondBuilder::new()),
            TimePrecision::Microseconds => Self::Microseconds(TimestampMicrosecondBuilder::new()),
        }
    }

    /// Adds a time; null when there is none, or when it lies too late.
    pub(super) fn append(&mut self, nanos: u64) {
        let is_known = nanos != 0;
        match self {
            Self::Nanoseconds(times) => {
                times.append_option(i64::try_from(nanos).ok().filter(|_| is_known));
            }
            Self::Microseconds(times) => {
                let micros = nanos / NANOS_A_MICRO.unsigned_abs();
                times.append_option(is_known.then_some(micros.cast_signed()));
            }
        }
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Nanoseconds(times) => Arc::new(times.finish().with_timezone("UTC")),
            Self::Microseconds(times) => Arc::new(times.finish().with_timezone("UTC")),
        }
    }
}

/// Times as they are stored.
pub(super) fn of_stored(stored: &TimestampNanosecondArray, precision: TimePrecision) -> ArrayRef {
    match precision {
        TimePrecision::Nanoseconds => Arc::new(stored.clone()),
        TimePrecision::Microseconds => {
            let micros: TimestampMicrosecondArray =
                stored.unary(|nanos: i64| nanos.div_euclid(NANOS_A_MICRO));
            Arc::new(micros.with_timezone("UTC"))
        }
    }
}
