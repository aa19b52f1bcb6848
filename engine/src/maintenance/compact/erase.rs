//! Erasing: rewrites the segments that hold what callers want gone.

use std::collections::HashSet;
use std::sync::Arc;

use spanstore_format::TeamId;

use super::{CompactReport, Compactor, Outcome};
use crate::error::Error;
use crate::read::interrupt::Never;
use crate::read::visibility::erased_rows;
use crate::segment::Segment;
use crate::view::Erasures;

impl Compactor {
    /// Rewrites every segment that holds rows of these erasures, ends them, and
    /// writes the catalog anew, so that nothing of them stays in any file. The
    /// caller has sealed what was in memory since they were named.
    pub(crate) fn erase(&self, named: &Erasures) -> Result<CompactReport, Error> {
        let _turn = self.turn();
        let mut report = CompactReport::default();
        // A damaged segment stays; what can be erased is.
        let mut failure = None;
        let (segments, _) = self.tools.view.sealed();
        for segment in segments.iter() {
            match self.erase_in(segment, named, &mut report) {
                Ok(()) => {}
                Err(Error::Closed) => return Err(Error::Closed),
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        // The files of those that were replaced go with the last reader.
        drop(segments);
        if let Some(error) = failure {
            return Err(error);
        }
        {
            let _rewrite = self.tools.segments.rewrite();
            self.tools.segments.finish_erasures(named)?;
        }
        self.tools.segments.removals.finish()?;
        Ok(report)
    }

    /// Rewrites a segment until it holds no rows to be erased.
    fn erase_in(
        &self,
        segment: &Arc<Segment>,
        named: &Erasures,
        report: &mut CompactReport,
    ) -> Result<(), Error> {
        if !holds_erased(segment, named)? {
            return Ok(());
        }
        let month = segment.summary().month;
        let inputs = std::slice::from_ref(segment);
        while self.rewrite(month, inputs, 100, report)? == Outcome::Outdated {}
        Ok(())
    }
}

/// Whether a segment holds rows to be erased.
fn holds_erased(segment: &Segment, erasures: &Erasures) -> Result<bool, Error> {
    let teams: HashSet<&TeamId> = erasures.all().map(|one| &one.team).collect();
    // Damage where none of these teams can be is no reason to stop.
    for team in teams.into_iter().filter(|team| segment.may_hold(team)) {
        let reader = segment.reader()?;
        let partition = reader.directory().find(team);
        let Some(partition) = partition.map_err(|error| segment.corrupt(error))? else {
            continue;
        };
        if !erased_rows(segment, &reader, &partition, erasures, &Never::default())?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
