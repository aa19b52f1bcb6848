//! What can go wrong in a command.

use std::io;

use spanstore::query::FilterError;

/// Why a command failed; its text is one line, or for a filter three.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments do not fit together.
    #[error("{0}")]
    Usage(String),
    /// A file or a stream could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was being read or written.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// What was read is not OTLP.
    #[error("{file}: {detail}")]
    Input {
        /// The file; `-` is standard input.
        file: String,
        /// Where it goes wrong and how.
        detail: String,
    },
    /// A filter cannot be read: its text with a caret under what is wrong, and why.
    #[error("wrong filter\n{}", .error.render(.text))]
    Filter {
        /// The filter.
        text: String,
        /// What is wrong with it.
        error: FilterError,
    },
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] spanstore::Error),
    /// What was waited for has not come.
    #[error("{what} after {seconds} s; --timeout sets how long it is waited for")]
    NotReady {
        /// What there is of it.
        what: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// What is stored of a span cannot be read.
    #[error("spans: {0}")]
    Stored(#[from] spanstore_format::FormatError),
    /// Rows could not be turned into the format.
    #[error("output: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// Rows could not be written as Parquet.
    #[error("output: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
}

impl Error {
    /// Names what was being read or written when an I/O operation failed.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Names the filter that a store refused.
    pub fn of_filter(text: &str) -> impl FnOnce(spanstore::Error) -> Self {
        move |error| match error {
            spanstore::Error::InvalidFilter(error) => Self::Filter {
                text: text.to_owned(),
                error,
            },
            other => Self::Store(other),
        }
    }

    /// What to tell a person. Only the text of a filter needs lines of its own.
    pub fn report(&self) -> String {
        let text = self.to_string();
        match self {
            Self::Filter { .. } => text,
            _ => text.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    }

    /// The exit code of the process: 2 for wrong usage, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::Filter { .. }
            | Self::Store(
                spanstore::Error::UnknownColumn { .. } | spanstore::Error::NoFacet { .. },
            ) => 2,
            _ => 1,
        }
    }

    /// Whether the reader of the output went away, as `head` does; that is no
    /// failure.
    pub fn is_broken_pipe(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            if kind == Some(io::ErrorKind::BrokenPipe) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        Self::Io {
            what: "output".into(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::error::ArrowError;
    use parquet::errors::ParquetError;

    use super::*;

    #[test]
    fn a_broken_pipe_is_seen_through_every_wrapping() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(Error::from(broken()).is_broken_pipe());
        assert!(Error::from(ArrowError::IoError("x".into(), broken())).is_broken_pipe());
        assert!(Error::from(ParquetError::External(Box::new(broken()))).is_broken_pipe());
        assert!(!Error::from(io::Error::from(io::ErrorKind::NotFound)).is_broken_pipe());
        assert!(!Error::Usage("x".into()).is_broken_pipe());
    }
}
