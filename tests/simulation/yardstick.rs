//! Bugs planted on purpose: the simulation is good for something if it finds
//! each of them.

use spanstore::io::{FileKind, Sabotage};

use super::seeds;

/// A planted bug is found within so many seeds.
const SEEDS: u64 = 300;

/// Runs seeds until one fails; answers which.
fn seeds_until_found(sabotage: Option<Sabotage>) -> Option<(u64, String)> {
    let summary = seeds::run_all(0..SEEDS, sabotage, 1, None);
    let failure = summary.failures.into_iter().next()?;
    let reason = failure.lines().last().unwrap_or_default();
    Some((summary.seeds, reason.chars().take(160).collect()))
}

fn is_found(name: &str, sabotage: Option<Sabotage>) -> bool {
    match seeds_until_found(sabotage) {
        Some((seeds, reason)) => {
            println!("{name}: found after {seeds} seeds: {reason}");
            true
        }
        None => {
            println!("{name}: NOT FOUND in {SEEDS} seeds");
            false
        }
    }
}

#[test]
fn a_disk_that_leaves_something_undone_is_found() {
    super::without_panic_messages();
    let _guard = super::without_planted_bugs();
    let all = [
        Sabotage::SkipSync(FileKind::Log),
        Sabotage::SkipSync(FileKind::Segment),
        Sabotage::SkipSync(FileKind::Catalog),
        Sabotage::SkipDirectorySync(FileKind::Log),
        Sabotage::SkipDirectorySync(FileKind::Segment),
        Sabotage::SkipDirectorySync(FileKind::Other),
        Sabotage::SkipRename(FileKind::Segment),
        Sabotage::SkipCut(FileKind::Log),
        Sabotage::SkipRemove(FileKind::Segment),
        Sabotage::LieAboutSyncs,
    ];
    let missed: Vec<_> = all
        .into_iter()
        .filter(|one| !is_found(&format!("{one:?}"), Some(*one)))
        .collect();
    assert!(missed.is_empty(), "{missed:?}");
}
