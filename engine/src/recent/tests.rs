use std::path::Path;
use std::time::Duration;

use super::*;
use crate::clock::ManualClock;
use crate::io::{Disk, SimulatedDisk};
use crate::removal::Removals;

const NOW: i64 = 1_794_700_800_000_000_000;

fn recent(clock: &Arc<ManualClock>) -> Recent {
    let clock: Arc<dyn Clock> = clock.clone();
    Recent::new(&StoreOptions::default(), &clock)
}

fn files(disk: &SimulatedDisk) -> RecentFiles {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let removals = Arc::new(Removals::new(&disk));
    RecentFiles::new(&disk, Path::new("/store"), &removals)
}

fn team(n: u64) -> TeamId {
    TeamId::new(&format!("team {n}")).unwrap()
}

fn append(n: u64, at: i64) -> Remember {
    Remember {
        at,
        content: u128::from(n),
        is_body: true,
        key: n
            .is_multiple_of(3)
            .then(|| Bytes::copy_from_slice(&n.to_le_bytes())),
        receipt: ReceiptRecord {
            accepted: n,
            ..ReceiptRecord::default()
        },
    }
}

/// The number that the receipt has, if the content is known.
fn known(recent: &Recent, n: u64) -> Option<u64> {
    let key = append(n, 0).key;
    match recent
        .find(&team(n % 7), u128::from(n), key.as_ref())
        .unwrap()
    {
        Known::New => None,
        Known::Repeated {
            receipt,
            is_key_new,
        } => {
            assert!(!is_key_new);
            Some(receipt.accepted)
        }
    }
}

#[test]
fn a_file_of_many_blocks_gives_back_what_came_before_its_bound() {
    let clock = Arc::new(ManualClock::new(NOW));
    let disk = SimulatedDisk::new();
    let before = recent(&clock);
    for n in 0..5_000 {
        before.remember(&team(n % 7), append(n, NOW));
    }
    let bound = before.bound();
    before.remember(&team(0), append(7_000, NOW));
    assert!(files(&disk).write(&before, 12, bound).unwrap());
    let after = recent(&clock);
    files(&disk).load(&after, 12).unwrap();
    for n in 0..5_000 {
        assert_eq!(known(&after, n), Some(n));
    }
    assert_eq!(known(&after, 7_000), None);
    assert_eq!(known(&before, 7_000), Some(7_000));
}

#[test]
fn there_is_no_file_of_nothing_and_others_go() {
    let clock = Arc::new(ManualClock::new(NOW));
    let disk = SimulatedDisk::new();
    let (files, recent) = (files(&disk), recent(&clock));
    assert!(!files.write(&recent, 1, 5).unwrap());
    files.remove_others(None).unwrap();
    recent.remember(&team(1), append(1, NOW));
    for sequence in 2..5 {
        assert!(files.write(&recent, sequence, recent.bound()).unwrap());
    }
    assert_eq!(disk.paths().len(), 3);
    files.remove_others(Some(3)).unwrap();
    assert_eq!(disk.paths(), [files.path(3)]);
    // What is too old is not written.
    clock.advance(Duration::from_hours(24));
    assert!(!files.write(&recent, 5, recent.bound()).unwrap());
    files.remove_others(None).unwrap();
    assert!(disk.paths().is_empty());
}

#[test]
fn time_passes_by_the_monotonic_clock_and_by_the_wall_clock_between_runs() {
    let clock = Arc::new(ManualClock::new(NOW));
    let first = recent(&clock);
    first.remember(&team(1), append(1, first.now()));
    clock.set(NOW + 3_600_000_000_000);
    assert_eq!((first.now(), known(&first, 1)), (NOW, Some(1)));
    clock.advance(Duration::from_mins(10));
    assert_eq!(known(&first, 1), None);
    // The same append, replayed by a run that begins at another time.
    for (wall, is_known) in [(0, true), (599, true), (600, false), (-86_400, true)] {
        let clock = Arc::new(ManualClock::new(NOW + wall * 1_000_000_000));
        let later = recent(&clock);
        later.remember(&team(1), append(1, NOW));
        assert_eq!(known(&later, 1).is_some(), is_known, "{wall} s later");
        // One that lay ahead has its whole time before it, and no more.
        if wall < 0 {
            clock.advance(Duration::from_mins(10));
            assert_eq!(known(&later, 1), None);
        }
    }
}

#[test]
fn a_key_with_other_content_is_an_error_that_tells_team_and_age() {
    let clock = Arc::new(ManualClock::new(NOW));
    let recent = recent(&clock);
    recent.remember(&team(1), append(3, NOW));
    clock.advance(Duration::from_secs(90));
    let key = append(3, 0).key;
    let error = recent.find(&team(1), 4, key.as_ref()).unwrap_err();
    let Error::IdempotencyKeyReused {
        team: name,
        age_seconds,
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!((name.as_str(), age_seconds), ("team 1", 90));
    assert_eq!(recent.find(&team(2), 4, key.as_ref()).unwrap(), Known::New);
    recent.forget(&team(1));
    assert_eq!(recent.find(&team(1), 4, key.as_ref()).unwrap(), Known::New);
}
