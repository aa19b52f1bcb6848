//! What opening a store does, in order: lock and catalog, strays, replay of
//! the unsealed log. A store that is read alone is opened on copies in place of the first.

mod read_only;
mod strays;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use spanstore_format::log::record::AppendRecord;
use spanstore_format::recent::content_of;
use spanstore_format::{FormatError, TeamId};

use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::error::Error;
use crate::health::Health;
use crate::io::Disk;
use crate::log::{Follower, Log, LogBounds, LogNames, Recovered};
use crate::options::StoreOptions;
use crate::quota::Quota;
use crate::recent::{Recent, RecentFiles, Remember};
use crate::registry::Registry;
use crate::removal::Removals;
use crate::retention::RetentionClock;
use crate::segment::{self, Segment, SegmentCache};
use crate::segments::Segments;
use crate::settings::Settings;
use crate::view::{Erasures, View};
use crate::write::admission::Admission;
use crate::write::admitted::replayed;
use crate::write::prepare::{Source, prepare};
use crate::write::receipt::is_body_remembered;

/// A store as it was when it was last open.
#[derive(Debug)]
pub(crate) struct Recovery {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) view: Arc<View>,
    pub(crate) health: Arc<Health>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) retention: Arc<RetentionClock>,
    pub(crate) quota: Arc<Quota>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) log: Log,
    pub(crate) replay: Replay,
    pub(crate) recent: Arc<Recent>,
    pub(crate) recent_files: Arc<RecentFiles>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) recovered: Recovered,
    /// Whether what was remembered of sealed appends is lost.
    pub(crate) has_forgotten_appends: bool,
    /// Whether the catalog knew the end of the log.
    pub(crate) is_settled: bool,
    /// Where reading goes on in the log of another process; none of a store of this one.
    pub(crate) follower: Option<Follower>,
}

/// Recovers the store at `root`. A crash in here leaves what the next try
/// recovers the same way.
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    root: &Path,
    options: &StoreOptions,
    seed: u64,
    clock: &Arc<dyn Clock>,
) -> Result<Recovery, Error> {
    let create = |path: &Path| {
        disk.create_dir_all(path)
            .map_err(|error| Error::io("create", path, error))
    };
    if options.create {
        create(root)?;
    }
    let catalog = Catalog::open(disk, root, options.create)?;
    create(&segment::directory(root))?;
    recover_behind(catalog, disk, root, options, seed, clock)
}

/// Recovers the store at `root`, which another process may have open, from copies in memory. Changes
/// nothing.
pub(crate) fn recover_copy(
    disk: &Arc<dyn Disk>,
    root: &Path,
    options: &StoreOptions,
    seed: u64,
    clock: &Arc<dyn Clock>,
) -> Result<Recovery, Error> {
    let (copies, catalog) = read_only::copy(disk, root, options.read_by)?;
    let log = root.join("log");
    let had_files = !LogNames::list(&*copies, &log)?.firsts.is_empty();
    let files: Arc<dyn Disk> = Arc::clone(&copies) as _;
    let mut recovery = recover_behind(catalog, &files, root, options, seed, clock)?;
    let torn = recovery.recovered.torn_bytes;
    recovery.follower = Some(recovery.log.follower(had_files, torn));
    // Nobody reads it again.
    copies.forget(&log);
    Ok(recovery)
}

/// Recovers all that lies behind the catalog.
fn recover_behind(
    catalog: Catalog,
    disk: &Arc<dyn Disk>,
    root: &Path,
    options: &StoreOptions,
    seed: u64,
    clock: &Arc<dyn Clock>,
) -> Result<Recovery, Error> {
    let catalog = Arc::new(catalog);
    let summaries = catalog.segments()?;
    let strays = strays::find(&**disk, root, &catalog, &summaries)?;
    let erasures = Erasures::new(catalog.erasures()?);
    let cache = Arc::new(SegmentCache::new(
        options.open_files,
        options.cache_bytes,
        options.read_by,
    ));
    let removals = Arc::new(Removals::new(disk));
    let recent = Arc::new(Recent::new(options, clock));
    let recent_files = Arc::new(RecentFiles::new(disk, root, &removals));
    let sealed: Vec<_> = summaries
        .into_iter()
        .map(|summary| Arc::new(Segment::new(disk, root, &cache, &removals, summary)))
        .collect();
    let view = Arc::new(View::new(
        sealed,
        erasures,
        options.gather_rows,
        catalog.first_unsealed()?,
    ));
    let health = Arc::new(Health::new(options.read_only));
    let segments = Segments::new(disk, root, cache, removals, &catalog, &view, &health)?;
    let settings = Settings::read(&catalog, &health, options.plan_limits)?;
    let retention = RetentionClock::open(&catalog, &health, clock)?;
    let quota = Quota::new(&catalog);
    let registry = Arc::new(Registry::new(&catalog));
    let recent_file = catalog.recent_file()?;
    // Only appends ask for them.
    let wanted = recent_file.filter(|_| !options.read_only);
    let has_forgotten_appends = !load_recent(&recent_files, &recent, wanted)?;
    let quota = Arc::new(quota);
    let mut replay = Replay {
        seed,
        quota: Arc::clone(&quota),
        view: Arc::clone(&view),
        recent: Arc::clone(&recent),
        registry: Arc::clone(&registry),
        admission: Admission::default(),
    };
    let bounds = LogBounds {
        first_unsealed: catalog.first_unsealed()?,
        settled: catalog.log_settled()?,
    };
    let (log, recovered) = Log::open(
        Arc::clone(disk),
        &root.join("log"),
        bounds,
        &mut |sequence, payload| replay.record(sequence, Bytes::copy_from_slice(payload), None),
    )?;
    recent.expire();
    recent_files.remove_others(recent_file)?;
    strays.remove(disk, root, &catalog, log.next_sequence())?;
    Ok(Recovery {
        is_settled: log.next_sequence() <= bounds.settled,
        follower: None,
        catalog,
        view,
        health,
        settings: Arc::new(settings),
        retention: Arc::new(retention),
        quota,
        segments: Arc::new(segments),
        log,
        replay,
        recent,
        recent_files,
        registry,
        recovered,
        has_forgotten_appends,
    })
}

/// Remembers what the file of recent appends says. Answers whether it could be
/// read. Without it no span is lost; but one that is sent again may be stored again.
fn load_recent(files: &RecentFiles, recent: &Recent, file: Option<u64>) -> Result<bool, Error> {
    let Some(file) = file else {
        return Ok(true);
    };
    match files.load(recent, file) {
        Err(Error::Corrupt { file, source })
            if !matches!(source, FormatError::NewerVersion { .. }) =>
        {
            tracing::error!(file, error = %source, "recent appends are forgotten");
            Ok(false)
        }
        Err(error @ Error::Io { .. }) => {
            tracing::error!(%error, "recent appends are forgotten");
            Ok(false)
        }
        loaded => loaded.map(|()| true),
    }
}

/// Reads what another process appends to the log of a store that was recovered from a copy.
#[derive(Debug)]
pub(crate) struct Following {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    follower: Follower,
    replay: Replay,
}

impl Following {
    /// Goes on behind what was replayed.
    pub(crate) fn new(
        disk: &Arc<dyn Disk>,
        clock: &Arc<dyn Clock>,
        follower: Follower,
        replay: Replay,
    ) -> Self {
        Self {
            disk: Arc::clone(disk),
            clock: Arc::clone(clock),
            follower,
            replay,
        }
    }

    /// Shows what was appended since. Answers whether more can be read in this way.
    pub(crate) fn read(&mut self) -> Result<bool, Error> {
        let replay = &mut self.replay;
        let now = self.clock.monotonic_nanos();
        self.follower.read(&*self.disk, &mut |sequence, payload| {
            replay.record(sequence, Bytes::copy_from_slice(payload), Some(now))
        })
    }
}

/// What the unsealed log is replayed into.
#[derive(Debug)]
pub(crate) struct Replay {
    seed: u64,
    quota: Arc<Quota>,
    view: Arc<View>,
    recent: Arc<Recent>,
    registry: Arc<Registry>,
    /// What the writer needs to know of the rows.
    pub(crate) admission: Admission,
}

impl Replay {
    /// Takes a record that was read now, by the monotonic clock, or that was there before.
    fn record(&mut self, sequence: u64, payload: Bytes, arrived: Option<u64>) -> Result<(), Error> {
        let corrupt = |error: FormatError| Error::corrupt(format!("log record {sequence}"), error);
        let record = AppendRecord::read(sequence, payload).map_err(corrupt)?;
        let team = TeamId::new(&record.team)?;
        if record.forgets {
            self.recent.forget(&team);
        }
        self.registry.apply(&team, &record);
        let source = Source::of_body(record.request)?;
        let prepared = prepare(&team, source, None, self.seed)?;
        let mut batches = Vec::new();
        for part in prepared.parts {
            let (month, identities) = (part.month, part.identities.clone());
            let (admitted, mut appended) = replayed(part, &record.left_out, sequence)?;
            appended.arrived = arrived;
            let identities = identities.into_iter().zip(&admitted);
            self.admission.replay(
                identities
                    .filter(|(_, admitted)| **admitted)
                    .map(|(one, _)| one),
            );
            self.quota.load(month, &team)?;
            let rows = appended.batch.rows.num_rows() as u64;
            self.quota.add(month, &team, rows);
            if rows > 0 {
                batches.push((team.clone(), appended));
            }
        }
        // Those without rows count too: cursors know their sequences.
        self.view.publish(batches, sequence + 1);
        if let (Some(content), Some(receipt)) = (record.content, record.receipt) {
            let content = content_of(&content).ok_or_else(|| {
                let found = format!("{} bytes", content.len());
                let expected = "a hash of 16 bytes";
                corrupt(FormatError::malformed(
                    "log record",
                    sequence,
                    expected,
                    found,
                ))
            })?;
            let append = Remember {
                at: record.noted_at,
                content,
                is_body: is_body_remembered(&receipt),
                key: record.idempotency_key,
                receipt,
            };
            self.recent.remember(&team, append);
        }
        Ok(())
    }
}
