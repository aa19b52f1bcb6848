//! Bugs planted on purpose: the simulation is good for something if it finds
//! each of them.

use spanstore::io::{FileKind, Sabotage};

use super::seeds;

/// A planted bug is found within so many seeds.
const SEEDS: u64 = 300;

/// Whether a seed fails; tells how many it took.
fn is_found(name: &str, sabotage: Option<Sabotage>) -> bool {
    let summary = seeds::run_all(0..SEEDS, sabotage, Some(1), None);
    let failure = summary.failures.first();
    let reason = failure.and_then(|story| story.lines().last());
    match reason {
        Some(reason) => {
            let reason: String = reason.chars().take(160).collect();
            println!("{name}: found after {} seeds: {reason}", summary.seeds);
        }
        None => println!("{name}: NOT FOUND in {SEEDS} seeds"),
    }
    reason.is_some()
}

#[test]
fn what_a_disk_leaves_undone_is_found() {
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

#[cfg(feature = "planted-bugs")]
#[test]
fn planted_bugs_are_found() {
    use spanstore::planted::{Bug, plant};

    super::without_panic_messages();
    let _guard = super::PLANTED.write().expect("no test panics meanwhile");
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        plant(*bug);
        // Damage hardly meets the few blocks of a run's segments.
        let is_noticed = match bug {
            Bug::SkipBlockChecksum => !super::bytes::silent_damages().is_empty(),
            _ => is_found(&format!("{bug:?}"), None),
        };
        if !is_noticed {
            missed.push(bug);
        }
    }
    plant(Bug::None);
    assert!(missed.is_empty(), "{missed:?}");
}
