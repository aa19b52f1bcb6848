//! What can still be read of the catalog of a store that is repaired.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;

use spanstore_format::catalog::{Erasure, TeamSettings};
use spanstore_format::segment::SegmentSummary;
use spanstore_format::{SegmentId, TeamId};

use crate::catalog::{AllSessions, Catalog, Count};
use crate::error::Error;
use crate::io::{Disk, OpenMode, SimulatedDisk};

/// The parts of a catalog that can be read; none for one that cannot.
#[derive(Debug, Default)]
pub(super) struct OldCatalog {
    pub(super) meta: Option<BTreeMap<String, u64>>,
    pub(super) segments: Option<Vec<SegmentSummary>>,
    pub(super) replaced: BTreeSet<SegmentId>,
    pub(super) counts: Option<Vec<Count>>,
    pub(super) erased: Option<BTreeMap<(u16, u128), u64>>,
    pub(super) settings: Option<HashMap<TeamId, TeamSettings>>,
    pub(super) erasures: Option<Vec<Erasure>>,
    pub(super) sessions: Option<AllSessions>,
    /// What is wrong with it; none when nothing is.
    pub(super) damage: Option<String>,
}

/// The files of a catalog in memory: opening one writes to it.
struct Copy {
    files: Vec<(&'static str, Vec<u8>)>,
}

const ROOT: &str = "/";

impl Copy {
    fn read(disk: &dyn Disk, root: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        for name in ["catalog.redb", "catalog.sums"] {
            let file = match disk.open(&root.join(name), OpenMode::Existing) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && !files.is_empty() => {
                    continue;
                }
                opened => opened?,
            };
            let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(0)];
            file.read_at(0, &mut bytes)?;
            files.push((name, bytes));
        }
        Ok(Self { files })
    }

    /// Opens the first so many of the files as a catalog of its own.
    fn open(&self, files: usize) -> Result<Catalog, Error> {
        let root = Path::new(ROOT);
        let disk = SimulatedDisk::new();
        let failed = |error| Error::io("copy", root, error);
        disk.create_dir_all(root).map_err(failed)?;
        for (name, bytes) in self.files.iter().take(files) {
            let file = disk
                .open(&root.join(name), OpenMode::CreateNew)
                .map_err(failed)?;
            file.write_at(0, bytes).map_err(failed)?;
        }
        let disk: Arc<dyn Disk> = Arc::new(disk);
        Catalog::open(&disk, root, false)
    }

    /// Reads something. A catalog that was damaged at something else is opened anew for it,
    /// and without its checksums: redb then verifies each page by its own, and a damaged page
    /// that it can do without does not matter.
    fn table<T>(
        &self,
        files: usize,
        damage: &mut Option<String>,
        read: impl Fn(&Catalog) -> Result<T, Error>,
    ) -> Option<T> {
        match self.open(files).and_then(|catalog| read(&catalog)) {
            Ok(found) => Some(found),
            Err(error) => {
                // The path is that of the copy.
                damage.get_or_insert_with(|| match error {
                    Error::CatalogDamaged { cause, .. } => cause,
                    other => other.to_string(),
                });
                let again = self.open(1).and_then(|catalog| read(&catalog));
                again.ok()
            }
        }
    }
}

impl OldCatalog {
    /// Reads what can be read. Changes nothing.
    pub(super) fn read(disk: &dyn Disk, root: &Path) -> Self {
        let copy = match Copy::read(disk, root) {
            Ok(copy) => copy,
            Err(error) => {
                let damage = match error.kind() {
                    io::ErrorKind::NotFound => "it is missing".to_owned(),
                    _ => error.to_string(),
                };
                return Self {
                    damage: Some(damage),
                    ..Self::default()
                };
            }
        };
        let mut damage = None;
        let mut files = copy.files.len();
        if let Err(older @ Error::CatalogOlder { .. }) = copy.open(files) {
            // What it says holds, as far as it goes.
            damage = Some(older.to_string());
            files = 1;
        }
        let mut old = Self {
            meta: copy.table(files, &mut damage, Catalog::meta),
            segments: copy.table(files, &mut damage, Catalog::segments),
            replaced: BTreeSet::new(),
            counts: copy.table(files, &mut damage, |catalog| {
                catalog.segments_and_counts().map(|(_, counts)| counts)
            }),
            erased: copy.table(files, &mut damage, Catalog::erased),
            settings: copy.table(files, &mut damage, Catalog::settings),
            erasures: copy.table(files, &mut damage, Catalog::erasures),
            sessions: copy.table(files, &mut damage, Catalog::all_sessions),
            damage: None,
        };
        let replaced = copy.table(files, &mut damage, Catalog::replaced);
        old.replaced = replaced.unwrap_or_default();
        old.damage = damage;
        old
    }

    /// A number of table `meta`, if it can be read.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.meta.as_ref()?.get(name).copied()
    }

    /// The first sequence that is not sealed.
    pub(super) fn first_unsealed(&self) -> Option<u64> {
        self.number("first_unsealed")
    }

    /// The record of a segment.
    pub(super) fn segment(&self, id: SegmentId) -> Option<&SegmentSummary> {
        self.segments.as_ref()?.iter().find(|one| one.id == id)
    }
}
