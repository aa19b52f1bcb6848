//! What can go wrong, as far as a caller can do something about it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use spanstore_format::{FormatError, InvalidId};

/// Why a call failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The write queue or the memory of unsealed rows is full, or merging is far
    /// behind. Nothing was written; try again, or append in the form that waits.
    #[error(
        "busy: the write queue or the memory of unsealed rows is full, or merging is far behind"
    )]
    Busy,
    /// A write or a sync failed before, so nothing more can be promised to be
    /// durable. The store still answers reads; open it again to write.
    #[error("the store refuses writes until it is opened again: {cause}")]
    Poisoned {
        /// What failed.
        cause: String,
    },
    /// Memory is full of rows that cannot be sealed. Nothing was written; the
    /// seal is tried again every few seconds.
    #[error("memory is full of unsealed rows, and sealing them fails: {cause}")]
    Stalled {
        /// What the last seal failed of.
        cause: String,
    },
    /// The disk is full. Nothing of the batch was written; the store takes
    /// writes again when there is space.
    #[error("no space left: {path}")]
    NoSpace {
        /// The file that could not grow.
        path: String,
    },
    /// The store was opened to be read alone
    /// ([`StoreOptions::read_only`](crate::StoreOptions::read_only)).
    #[error("the store was opened to be read alone, and is not changed")]
    ReadOnly,
    /// Another process changes the store faster than what changes can be copied. Nothing was
    /// touched; try again.
    #[error("the store {path} changes all the time and cannot be copied: try again")]
    Changing {
        /// The store.
        path: String,
    },
    /// Another process, or another handle of this one, has the store open.
    #[error("the store {path} is open elsewhere")]
    Locked {
        /// The store.
        path: String,
    },
    /// There is no store, and the options say not to make one.
    #[error("there is no store at {path}")]
    NotFound {
        /// The place.
        path: String,
    },
    /// A place that is to be empty is not.
    #[error("{path} is not empty")]
    NotEmpty {
        /// The place.
        path: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// Something exceeds its limit. Nothing was written.
    #[error("{what}: {found} exceeds the limit of {limit}")]
    TooLarge {
        /// What is too large, with its unit.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// What was given.
        found: u64,
    },
    /// An idempotency key came before with other content. Nothing was written:
    /// what the key stands for was stored then.
    #[error("an idempotency key of team {team} was used {age_seconds} s ago with other content")]
    IdempotencyKeyReused {
        /// The team.
        team: String,
        /// How long ago the key was used, in seconds.
        age_seconds: u64,
    },
    /// A session is to trace a deployment that runs on somebody's own machine. Only
    /// deployments of the platform are traced: `preview` and `production`.
    #[error(
        "environment {environment:?}: sessions trace deployments of `preview` and `production`, \
         not local ones"
    )]
    LocalDeployment {
        /// The environment that was given, at most 80 characters.
        environment: String,
    },
    /// No session with this id was started, or it was forgotten, or retention let it go.
    #[error("no session {id:?} was started here")]
    UnknownSession {
        /// The id that was given, at most 80 characters.
        id: String,
    },
    /// An id is not one.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
    /// The OTLP that was given cannot be read.
    #[error(transparent)]
    Otlp(#[from] spanstore_format::otlp::OtlpError),
    /// Bytes on disk are damaged. The rest of the store stays readable.
    #[error("{file}: {source}")]
    Corrupt {
        /// The damaged file.
        file: String,
        /// The part, what was expected and what was found.
        source: FormatError,
    },
    /// The catalog is not there although other parts of a store are. Nothing
    /// was touched.
    #[error(
        "{path} is missing, but there are {segments} segments, {logs} log files and {quarantined} \
         quarantined files beside it: restore it from a backup, or run `spanstore repair`"
    )]
    CatalogMissing {
        /// Where the catalog should be.
        path: String,
        /// Files of segments.
        segments: u64,
        /// Files of the log.
        logs: u64,
        /// Files in quarantine.
        quarantined: u64,
    },
    /// The catalog is damaged: nothing is read from it or written to it any
    /// more. Segments stay readable while the store is open.
    #[error(
        "{path} is damaged ({cause}): restore the store from a backup, or run `spanstore repair`"
    )]
    CatalogDamaged {
        /// The catalog's file.
        path: String,
        /// What was expected and what was found.
        cause: String,
    },
    /// There is a segment that the catalog does not know and whose rows are not
    /// known to be elsewhere: the catalog is not the newest. Nothing was touched.
    #[error(
        "the catalog does not know {file} ({found}): restore the newest catalog, or run \
         `spanstore repair`"
    )]
    UnknownSegment {
        /// The segment's file.
        file: String,
        /// Where its rows come from, as far as it tells.
        found: String,
    },
    /// The catalog is from an earlier time than the rest of the store. Nothing
    /// was touched.
    #[error(
        "{path} is older than the rest of the store ({found}): restore the newest, or run \
         `spanstore repair`"
    )]
    CatalogOlder {
        /// The catalog's file.
        path: String,
        /// What tells.
        found: String,
    },
    /// An operation on a file failed.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file or directory.
        path: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Files that hold what was erased, or what nothing needs any more, could not
    /// be removed. The store goes on without them, and tries again.
    #[error("{} files that are to be removed are still there: {}", files.len(), some_of(files))]
    FilesRemain {
        /// The files, and why each is still there.
        files: Vec<RemainingFile>,
    },
    /// A filter cannot be read, or asks for something that filters may not.
    #[cfg(feature = "query")]
    #[error("filter: {0}")]
    InvalidFilter(#[from] crate::filter_error::FilterError),
    /// A column that was asked for is not there.
    #[error("there is no column {name:?}: expected {expected}")]
    UnknownColumn {
        /// The name, at most 80 characters.
        name: String,
        /// What may stand there, such as the names that are nearest.
        expected: String,
    },
    /// A cursor of a page is refused.
    #[cfg(feature = "query")]
    #[error("cursor: {cause}; ask for the first page again")]
    InvalidCursor {
        /// What is wrong with it.
        cause: &'static str,
    },
    /// Two queries cannot be compared.
    #[cfg(feature = "query")]
    #[error("the queries cannot be compared: {cause}")]
    NotComparable {
        /// What they do not have in common.
        cause: &'static str,
    },
    /// A column is not a facet: its values may all be different, so no index counts them.
    /// `Query::top` counts the values of such a column, unless they are maps, ids or lists.
    #[error("column {name} is not a facet: no index counts its values; count them with `top`")]
    NoFacet {
        /// The column.
        name: &'static str,
    },
    /// An SQL text is refused or failed.
    #[cfg(feature = "query")]
    #[error("{0}")]
    Query(Arc<datafusion::error::DataFusionError>),
    /// Something that cannot be, a defect of this library. What it was about is
    /// not answered; the rest of the store goes on.
    #[error("internal error in {place}: {cause}")]
    Internal {
        /// Where it came up.
        place: &'static str,
        /// What was found.
        cause: String,
    },
    /// A query took longer than it may.
    #[error("the query took longer than {limit:?}")]
    TimedOut {
        /// The limit: [`QueryLimits::time`](crate::QueryLimits::time).
        limit: std::time::Duration,
    },
    /// Queries need more memory than they may take. Ask for less, or again
    /// when other queries are done.
    #[error("the query needs more memory: {pool} of {limit} bytes is all taken")]
    QueryMemory {
        /// The option that sets the limit: of one query or of all of a store.
        pool: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
}

/// A file that is to be removed and is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemainingFile {
    /// The file.
    pub path: PathBuf,
    /// Why it could not be removed.
    pub cause: String,
}

impl fmt::Display for RemainingFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.path.display(), self.cause)
    }
}

/// The first files, for a message.
fn some_of(files: &[RemainingFile]) -> String {
    let shown: Vec<String> = files.iter().take(3).map(ToString::to_string).collect();
    shown.join("; ")
}

impl From<FormatError> for Error {
    /// Rows in memory that do not fit together.
    fn from(error: FormatError) -> Self {
        Self::corrupt("rows in memory", error)
    }
}

impl Error {
    /// A column that was asked for is not there.
    #[cfg(feature = "query")]
    pub(crate) fn unknown_column(name: &str, expected: impl Into<String>) -> Self {
        Self::UnknownColumn {
            name: name.chars().take(80).collect(),
            expected: expected.into(),
        }
    }

    /// Damage in a file, or a part of it that the medium does not hand out.
    pub(crate) fn corrupt(file: impl Into<String>, source: FormatError) -> Self {
        let file = file.into();
        match source {
            FormatError::Unreadable {
                offset,
                kind,
                message,
            } => Self::Io {
                operation: "read",
                path: format!("{file} at byte {offset}"),
                source: Arc::new(io::Error::new(kind, message)),
            },
            source => Self::Corrupt { file, source },
        }
    }

    /// Something that cannot be.
    pub(crate) fn internal(place: &'static str, cause: &dyn fmt::Display) -> Self {
        Self::Internal {
            place,
            cause: cause.to_string(),
        }
    }

    /// A failed operation on a file.
    pub(crate) fn io(operation: &'static str, path: &std::path::Path, source: io::Error) -> Self {
        Self::Io {
            operation,
            path: path.display().to_string(),
            source: Arc::new(source),
        }
    }
}

#[cfg(feature = "query")]
impl From<datafusion::error::DataFusionError> for Error {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        // An error of ours that passed through DataFusion comes out as it was.
        let mut all = std::iter::successors(
            Some(&error as &(dyn std::error::Error + 'static)),
            |error| error.source(),
        );
        let own = all.find_map(|error| error.downcast_ref::<Self>());
        match own {
            Some(own) => own.clone(),
            None => Self::Query(Arc::new(error)),
        }
    }
}
