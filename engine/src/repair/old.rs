//! What can still be read of the catalog of a store that is repaired.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;

use spanstore_format::catalog::{Erasure, TeamSettings};
use spanstore_format::segment::SegmentSummary;
use spanstore_format::{SegmentId, TeamId};

use crate::catalog::{AllSessions, Catalog, CatalogCopy, Count};
use crate::error::Error;
use crate::io::{CopiedFiles, Disk};

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

/// Reads parts of a copy of a catalog.
struct OldFiles<'a> {
    disk: &'a Arc<dyn Disk>,
    copy: CatalogCopy,
}

impl OldFiles<'_> {
    /// Opens the copy as a catalog, with or without the checksums that were published.
    fn open(&self, with_published: bool) -> Result<Catalog, Error> {
        let files = Arc::new(CopiedFiles::new(self.disk));
        self.copy.open(&files, with_published)
    }

    /// Reads something. A catalog that was damaged at something else is opened anew for it,
    /// and without its checksums: redb then verifies each page by its own, and a damaged page
    /// that it can do without does not matter.
    fn table<T>(
        &self,
        with_published: bool,
        damage: &mut Option<String>,
        read: impl Fn(&Catalog) -> Result<T, Error>,
    ) -> Option<T> {
        match self.open(with_published).and_then(|catalog| read(&catalog)) {
            Ok(found) => Some(found),
            Err(error) => {
                // Who reads of it knows the file.
                damage.get_or_insert_with(|| match error {
                    Error::CatalogDamaged { cause, .. } => cause,
                    other => other.to_string(),
                });
                let again = self.open(false).and_then(|catalog| read(&catalog));
                again.ok()
            }
        }
    }
}

impl OldCatalog {
    /// Reads what can be read. Changes nothing.
    pub(super) fn read(disk: &Arc<dyn Disk>, root: &Path) -> Self {
        let copy = match CatalogCopy::read(&**disk, root) {
            Ok(copy) => OldFiles { disk, copy },
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
        let mut with_published = true;
        if let Err(older @ Error::CatalogOlder { .. }) = copy.open(true) {
            // What it says holds, as far as it goes.
            damage = Some(older.to_string());
            with_published = false;
        }
        let mut old = Self {
            meta: copy.table(with_published, &mut damage, Catalog::meta),
            segments: copy.table(with_published, &mut damage, Catalog::segments),
            replaced: BTreeSet::new(),
            counts: copy.table(with_published, &mut damage, |catalog| {
                catalog.segments_and_counts().map(|(_, counts)| counts)
            }),
            erased: copy.table(with_published, &mut damage, Catalog::erased),
            settings: copy.table(with_published, &mut damage, Catalog::settings),
            erasures: copy.table(with_published, &mut damage, Catalog::erasures),
            sessions: copy.table(with_published, &mut damage, Catalog::all_sessions),
            damage: None,
        };
        let replaced = copy.table(with_published, &mut damage, Catalog::replaced);
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
