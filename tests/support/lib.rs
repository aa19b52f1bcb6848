//! What the tests share: spans made from a few words, and stores in places of
//! their own.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that panics has failed"
)]

pub mod disk;
#[path = "../model/mod.rs"]
pub mod model;
pub mod spans;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use bytes::Bytes;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::page_index::offset_index::PageLocation;
use spanstore::io::{Disk, RealDisk};
use spanstore::{
    Clock, Error, ManualClock, Remembered, SegmentSummary, Store, StoreOptions, Team, TeamId,
};
use spanstore_format::sessions::SessionColumn;

use self::model::sessions::Session;

/// The time that tests show: 2026-11-15 00:00 UTC, ns since 1970.
pub const NOW: i64 = 1_794_700_800_000_000_000;

/// A team's id.
///
/// # Panics
/// When the name is not one.
pub fn team(name: &str) -> TeamId {
    TeamId::new(name).expect("a team id")
}

/// Where a segment lies in the directory of its store.
pub fn segment_path(summary: &SegmentSummary) -> String {
    format!("segments/{}/{}.parquet", summary.month, summary.id)
}

/// Where the pages of a column lie in the first row group of a segment's bytes.
///
/// # Panics
/// When the bytes are no segment or lack the column.
pub fn page_locations(file: &Bytes, column: &str) -> Vec<PageLocation> {
    let reader = ParquetMetaDataReader::new().with_offset_index_policy(PageIndexPolicy::Required);
    let metadata = reader.parse_and_finish(file).expect("a Parquet footer");
    let columns = metadata.file_metadata().schema_descr().columns();
    let place = columns.iter().position(|one| one.name() == column);
    let index = metadata.offset_index().expect("an offset index");
    let pages = &index[0][place.expect("the file has the column")];
    pages.page_locations().clone()
}

/// Opens a store on the file system at the time of the tests. Nothing is
/// sealed by itself.
///
/// # Panics
/// When it does not open.
pub fn open(path: &Path) -> Store {
    open_with(path, quiet())
}

/// Opens a store with options at the time of the tests.
///
/// # Panics
/// When it does not open.
pub fn open_with(path: &Path, options: StoreOptions) -> Store {
    open_on(Arc::new(RealDisk), path, options).expect("the store opens")
}

/// Opens a store on a disk at the time of the tests.
///
/// # Errors
/// As [`Store::open_on`].
pub fn open_on(
    disk: Arc<dyn Disk>,
    path: impl AsRef<Path>,
    options: StoreOptions,
) -> Result<Store, Error> {
    open_at(disk, path, options, &Arc::new(ManualClock::new(NOW)))
}

/// Opens a store on a disk with a clock.
///
/// # Errors
/// As [`Store::open_on`].
pub fn open_at(
    disk: Arc<dyn Disk>,
    path: impl AsRef<Path>,
    options: StoreOptions,
    clock: &Arc<ManualClock>,
) -> Result<Store, Error> {
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    Store::open_on(disk, path, options, clock)
}

/// Options of a store that seals only when it is told to.
pub fn quiet() -> StoreOptions {
    StoreOptions {
        hot_bytes: usize::MAX,
        log_bytes: u64::MAX,
        seal_rows: u64::MAX,
        seal_age: None,
        background: false,
        ..StoreOptions::default()
    }
}

/// Options of such a store that takes every body for a new one.
pub fn without_repeats() -> StoreOptions {
    StoreOptions {
        repeats: Remembered {
            time: Duration::ZERO,
            bytes: 0,
        },
        ..quiet()
    }
}

/// Whether some bytes stand in some file below a directory.
///
/// # Panics
/// When the files cannot be read.
pub fn stands_in_a_file(path: &Path, wanted: &[u8]) -> bool {
    let entries = std::fs::read_dir(path).expect("a directory");
    entries.into_iter().any(|entry| {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            return stands_in_a_file(&path, wanted);
        }
        let bytes = std::fs::read(&path).expect("a file");
        bytes.windows(wanted.len()).any(|window| window == wanted)
    })
}

/// The sessions of a team, newest first.
///
/// # Errors
/// As `Query::collect`.
///
/// # Panics
/// When the columns are others.
pub fn sessions(team: &Team) -> Result<Vec<Session>, Error> {
    let batches = futures::executor::block_on(team.sessions().collect())?;
    let mut sessions = Vec::new();
    for rows in &batches {
        let column = |column: SessionColumn| {
            let column = rows.column_by_name(column.name());
            column.expect("all columns are there")
        };
        let text = |of: SessionColumn, row: usize| {
            let texts = column(of).as_string_view();
            texts.is_valid(row).then(|| texts.value(row).to_owned())
        };
        let time = |of: SessionColumn, row: usize| {
            let times = column(of).as_primitive::<TimestampNanosecondType>();
            times.is_valid(row).then(|| times.value(row))
        };
        let number =
            |of: SessionColumn, row: usize| column(of).as_primitive::<Int64Type>().value(row);
        for row in 0..rows.num_rows() {
            let start = time(SessionColumn::StartTime, row);
            let seen = time(SessionColumn::FirstSeen, row).zip(time(SessionColumn::LastSeen, row));
            let duration = number(SessionColumn::Duration, row);
            assert_eq!(duration, seen.map_or(0, |(first, last)| last - first));
            sessions.push(Session {
                id: text(SessionColumn::SessionId, row),
                user: text(SessionColumn::UserId, row),
                kind: text(SessionColumn::Kind, row),
                state: text(SessionColumn::State, row),
                times: (
                    start.expect("a start"),
                    time(SessionColumn::StoppedTime, row),
                ),
                predecessor: text(SessionColumn::Predecessor, row),
                seen,
                counts: (
                    number(SessionColumn::Requests, row),
                    number(SessionColumn::Spans, row),
                    number(SessionColumn::Errors, row),
                ),
            });
        }
    }
    Ok(sessions)
}
