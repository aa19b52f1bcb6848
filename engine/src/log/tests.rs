use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::io::{Fault, PowerCut, SimulatedDisk};

const DIRECTORY: &str = "/log";

type Records = Vec<(u64, Vec<u8>)>;

fn open(disk: &SimulatedDisk, from: u64) -> Result<(Log, Recovered, Records), Error> {
    open_settled(disk, from, from)
}

fn open_settled(
    disk: &SimulatedDisk,
    first_unsealed: u64,
    settled: u64,
) -> Result<(Log, Recovered, Records), Error> {
    let mut records = Vec::new();
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (log, recovered) = Log::open(
        disk,
        Path::new(DIRECTORY),
        LogBounds {
            first_unsealed,
            settled,
        },
        &mut |sequence, payload| {
            records.push((sequence, payload.to_vec()));
            Ok(())
        },
    )?;
    Ok((log, recovered, records))
}

fn payload(n: u64) -> Vec<u8> {
    vec![n as u8; 1 + (n as usize * 37) % 600]
}

/// Groups of appends, syncs, a rotation and a release. Answers what was
/// appended, what was synced, and from where a reader needs records.
fn script(disk: &SimulatedDisk) -> (u64, u64, u64) {
    let (mut appended, mut synced, mut from) = (0, 0, 1);
    let Ok((mut log, ..)) = open(disk, 1) else {
        return (appended, synced, from);
    };
    for round in 0..6u64 {
        let group: Vec<Vec<u8>> = (0..=round % 3).map(|n| payload(appended + n + 1)).collect();
        let slices: Vec<&[u8]> = group.iter().map(Vec::as_slice).collect();
        appended += group.len() as u64;
        if log.append(&slices).is_err() || log.sync().is_err() {
            return (appended, synced, from);
        }
        synced = appended;
        if round == 2 || round == 4 {
            let Ok(first) = log.rotate() else {
                return (appended, synced, from);
            };
            assert_eq!(first, synced + 1);
            if round == 4 {
                from = first;
                if log.release(from).is_err() {
                    return (appended, synced, from);
                }
            }
        }
    }
    (appended, synced, from)
}

#[test]
fn a_crash_at_any_operation_keeps_what_was_synced() {
    let whole = SimulatedDisk::new();
    script(&whole);
    let operations = whole.operations();
    assert!(operations > 30);
    let cuts = [PowerCut::KeepAll, PowerCut::DropAll].into_iter();
    let cuts: Vec<_> = cuts.chain((0..20).map(PowerCut::Some)).collect();
    for operation in 0..operations {
        for cut in &cuts {
            let disk = SimulatedDisk::new();
            disk.fail_at(operation, Fault::Crash);
            let (appended, synced, from) = script(&disk);
            disk.restart(*cut);
            let context = format!("operation {operation}, {cut:?}");
            let (log, _, records) = open(&disk, from).expect(&context);
            let found = records.len() as u64 + from - 1;
            assert!(
                (synced..=appended).contains(&found),
                "{context}: {found} of {synced}"
            );
            assert_eq!(log.next_sequence(), found + 1, "{context}");
            for ((sequence, record), expected) in records.iter().zip(from..) {
                assert_eq!(
                    (*sequence, record),
                    (expected, &payload(expected)),
                    "{context}"
                );
            }
            // Another crash right after finds the same.
            drop(log);
            disk.restart(PowerCut::DropAll);
            assert_eq!(open(&disk, from).expect(&context).2, records, "{context}");
        }
    }
}

#[test]
fn a_full_disk_refuses_the_group_and_takes_the_next() {
    let disk = SimulatedDisk::new();
    let (mut log, ..) = open(&disk, 1).unwrap();
    log.append(&[&payload(1)]).unwrap();
    log.sync().unwrap();
    disk.fail_at(disk.operations(), Fault::NoSpace);
    let error = log.append(&[&payload(7), &payload(8)]).unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    log.append(&[&payload(2)]).unwrap();
    log.sync().unwrap();
    drop(log);
    disk.restart(PowerCut::DropAll);
    let (_, recovered, records) = open(&disk, 1).unwrap();
    assert_eq!(records, [(1, payload(1)), (2, payload(2))]);
    assert_eq!(recovered.torn_bytes, 0);
}

#[test]
fn a_failed_write_or_sync_poisons() {
    for operation in 0..2 {
        let disk = SimulatedDisk::new();
        let (mut log, ..) = open(&disk, 1).unwrap();
        disk.fail_at(disk.operations() + operation, Fault::Error);
        let failed = log.append(&[&payload(1)]).and_then(|_| log.sync());
        assert!(matches!(failed, Err(Error::Poisoned { .. })), "{failed:?}");
        let again = log.append(&[&payload(2)]);
        assert!(matches!(again, Err(Error::Poisoned { .. })), "{again:?}");
        assert!(log.rotate().is_err() && log.sync().is_err());
    }
}

/// Three files with two records each, the last one without. All is settled.
fn small(disk: &SimulatedDisk) {
    let (mut log, ..) = open(disk, 1).unwrap();
    for file in 0..3 {
        for record in 1..=2 {
            log.append(&[&payload(file * 2 + record)]).unwrap();
            log.sync().unwrap();
        }
        log.rotate().unwrap();
    }
}

fn files(disk: &SimulatedDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let file = |path: PathBuf| {
        let mut content = Vec::new();
        disk.corrupt(&path, |bytes| content.clone_from(bytes))
            .unwrap();
        (path, content)
    };
    disk.paths().into_iter().map(file).collect()
}

fn is_corrupt<T>(opened: &Result<T, Error>) -> bool {
    matches!(opened, Err(Error::Corrupt { .. }))
}

#[test]
fn every_damage_to_a_settled_log_is_corruption_and_changes_nothing() {
    // A log of one batch, and one of several files.
    let one = SimulatedDisk::new();
    let (mut log, ..) = open(&one, 1).unwrap();
    log.append(&[&payload(3)]).unwrap();
    log.sync().unwrap();
    drop(log);
    let many = SimulatedDisk::new();
    small(&many);
    for (disk, settled) in [(one, 2), (many, 7)] {
        let whole = files(&disk);
        let mut cases = 0;
        for (path, content) in &whole {
            let mut check = |damaged: &[u8], context: &str| {
                disk.corrupt(path, |bytes| *bytes = damaged.to_vec())
                    .unwrap();
                let before = files(&disk);
                let opened = open_settled(&disk, 1, settled).map(|(.., records)| records);
                let context = format!("{}: {context}", path.display());
                assert!(is_corrupt(&opened), "{context}: {opened:?}");
                assert_eq!(files(&disk), before, "{context}");
                let survey = surveyed(&disk, 1, settled).0;
                assert!(!survey.damage.is_empty(), "{context}");
                cases += 1;
            };
            for at in 0..content.len() {
                for bit in 0..8 {
                    let mut damaged = content.clone();
                    damaged[at] ^= 1 << bit;
                    check(&damaged, &format!("byte {at}, bit {bit}"));
                }
                check(&content[..at], &format!("cut at {at}"));
                let mut damaged = content.clone();
                damaged[at..].fill(0);
                if damaged != *content {
                    check(&damaged, &format!("zeros from {at} on"));
                }
            }
            disk.corrupt(path, |bytes| bytes.clone_from(content))
                .unwrap();
        }
        assert!(cases > 1_000, "{cases}");
        let (_, _, records) = open_settled(&disk, 1, settled).unwrap();
        assert_eq!(records.len() as u64, settled - 1);
    }
}

#[test]
fn a_missing_file_is_corruption_that_names_it() {
    let disk = SimulatedDisk::new();
    small(&disk);
    for (path, content) in files(&disk) {
        let first: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        disk.remove_file(&path).unwrap();
        let opened = open_settled(&disk, 1, 7).map(|(.., records)| records);
        // Only the last file has no records.
        assert_eq!(is_corrupt(&opened), first < 7, "{first}: {opened:?}");
        if let Err(error) = opened {
            assert!(
                error.to_string().contains(path.to_str().unwrap()),
                "{error}"
            );
        }
        // Nobody needs what is sealed.
        if first < 5 {
            let (_, _, records) = open_settled(&disk, 5, 7).unwrap();
            assert_eq!(records, [(5, payload(5)), (6, payload(6))]);
            return;
        }
        let file = disk
            .open(&path, crate::io::OpenMode::CreateOrExisting)
            .unwrap();
        file.write_at(0, &content).unwrap();
    }
}

#[test]
fn a_log_that_is_gone_is_corruption_unless_all_of_it_was_sealed() {
    let disk = SimulatedDisk::new();
    let error = open_settled(&disk, 5, 7).unwrap_err().to_string();
    assert!(
        error.contains("00000000000000000005.log") && error.contains("sequence 7"),
        "{error}"
    );
    let (log, ..) = open_settled(&disk, 7, 7).unwrap();
    assert_eq!(log.next_sequence(), 7);
}

#[test]
fn a_file_of_another_log_is_corruption() {
    let (disk, other) = (SimulatedDisk::seeded(1), SimulatedDisk::seeded(2));
    small(&disk);
    small(&other);
    let path = file_path(Path::new(DIRECTORY), 1);
    let (_, foreign) = files(&other).swap_remove(0);
    disk.corrupt(&path, |bytes| *bytes = foreign).unwrap();
    let opened = open_settled(&disk, 1, 7).map(|(.., records)| records);
    assert!(is_corrupt(&opened), "{opened:?}");
}

#[test]
fn a_write_that_was_cut_off_is_overwritten_and_later_records_are_found() {
    // Tear, open, append, crash, open: two crashes with an append between.
    for torn in 0..200 {
        for cut in [PowerCut::KeepAll, PowerCut::DropAll, PowerCut::Some(torn)] {
            let disk = SimulatedDisk::new();
            let (mut log, ..) = open(&disk, 1).unwrap();
            log.append(&[&payload(1)]).unwrap();
            log.sync().unwrap();
            log.append(&[&payload(2), &payload(3)]).unwrap();
            drop(log);
            disk.restart(PowerCut::Some(torn));
            let (mut log, _, before) = open(&disk, 1).unwrap();
            assert!(before.starts_with(&[(1, payload(1))]), "{torn}");
            let first = log.append(&[&payload(10), &payload(11)]).unwrap();
            assert_eq!(first, before.len() as u64 + 1);
            log.sync().unwrap();
            let settled = log.settled();
            drop(log);
            disk.restart(cut);
            let (_, _, after) = open_settled(&disk, 1, settled).unwrap();
            let expected: Vec<_> = before
                .into_iter()
                .chain([(first, payload(10)), (first + 1, payload(11))])
                .collect();
            assert_eq!(after, expected, "{torn}, {cut:?}");
        }
    }
}

#[test]
fn a_crash_leaves_a_prefix_of_what_was_not_synced_also_across_files() {
    let mut lost = 0;
    for seed in 0..500 {
        let disk = SimulatedDisk::new();
        let (mut log, ..) = open(&disk, 1).unwrap();
        for n in 1..=12 {
            log.append(&[&payload(n)]).unwrap();
            if n == 5 {
                log.rotate().unwrap();
            }
        }
        drop(log);
        disk.restart(PowerCut::Some(seed));
        let (_, _, records) = open(&disk, 1).unwrap();
        let expected: Vec<_> = (1..=records.len() as u64)
            .map(|n| (n, payload(n)))
            .collect();
        assert_eq!(records, expected, "seed {seed}");
        assert!(records.len() >= 5, "seed {seed}");
        lost += 12 - records.len();
    }
    assert!(lost > 500, "{lost}");
}

#[test]
fn a_new_file_that_found_no_space_never_comes_back() {
    // Wherever the disk was full, and whatever the power cut left.
    for operation in 0..6 {
        for cut in [
            PowerCut::KeepAll,
            PowerCut::DropAll,
            PowerCut::Some(operation),
        ] {
            let disk = SimulatedDisk::new();
            let (mut log, ..) = open(&disk, 1).unwrap();
            log.append(&[&payload(1)]).unwrap();
            log.sync().unwrap();
            disk.fail_at(disk.operations() + operation, Fault::NoSpace);
            let rotated = log.rotate();
            let is_full = matches!(rotated, Err(Error::NoSpace { .. }));
            assert!(is_full, "{operation}: {rotated:?}");
            log.append(&[&payload(2)]).unwrap();
            log.sync().unwrap();
            drop(log);
            disk.restart(cut);
            let (_, _, records) = open_settled(&disk, 1, 3).unwrap();
            assert_eq!(records, [(1, payload(1)), (2, payload(2))], "{operation}");
        }
    }
}

#[test]
fn sealed_files_that_stay_or_come_back_are_removed_and_not_replayed() {
    for operation in 0..6 {
        for seed in 0..16 {
            let disk = SimulatedDisk::new();
            small(&disk);
            let (mut log, ..) = open_settled(&disk, 1, 7).unwrap();
            log.append(&[&payload(7)]).unwrap();
            log.sync().unwrap();
            disk.fail_at(disk.operations() + operation, Fault::Error);
            let released = log.release(7);
            assert_eq!(released.is_err(), operation < 4, "{operation}");
            if seed % 2 == 0 {
                // What failed is tried again.
                log.release(7).unwrap();
                assert_eq!(disk.paths().len(), 1);
            }
            drop(log);
            disk.restart(PowerCut::Some(seed));
            let (_, _, records) = open_settled(&disk, 7, 8).unwrap();
            assert_eq!(records, [(7, payload(7))], "{operation}, {seed}");
            assert_eq!(disk.paths().len(), 1, "{operation}, {seed}");
        }
    }
}

/// A process that is killed leaves a name that only the system knows.
#[test]
fn a_name_that_was_not_made_durable_is_before_it_is_used() {
    let disk = SimulatedDisk::new();
    let (mut log, ..) = open(&disk, 1).unwrap();
    log.append(&[&payload(1)]).unwrap();
    // The last operation of making a file is to sync its directory.
    disk.fail_at(disk.operations() + 6, Fault::Error);
    let rotated = log.rotate();
    assert!(
        matches!(rotated, Err(Error::Poisoned { .. })),
        "{rotated:?}"
    );
    drop(log);
    let (mut log, ..) = open(&disk, 1).unwrap();
    log.append(&[&payload(2)]).unwrap();
    log.sync().unwrap();
    drop(log);
    disk.restart(PowerCut::DropAll);
    let (_, _, records) = open_settled(&disk, 1, 3).unwrap();
    assert_eq!(records, [(1, payload(1)), (2, payload(2))]);
}

fn surveyed(disk: &SimulatedDisk, first_unsealed: u64, settled: u64) -> (LogSurvey, Records) {
    let mut records = Vec::new();
    let bounds = LogBounds {
        first_unsealed,
        settled,
    };
    let survey = survey(
        disk,
        Path::new(DIRECTORY),
        bounds,
        &mut |sequence, payload| {
            records.push((sequence, payload.to_vec()));
            Ok(())
        },
    );
    (survey.unwrap(), records)
}

#[test]
fn a_survey_reads_everything_and_changes_nothing() {
    let disk = SimulatedDisk::new();
    small(&disk);
    let before = files(&disk);
    let (survey, records) = surveyed(&disk, 1, 7);
    let all: Vec<_> = (1..=6).map(|n| (n, payload(n))).collect();
    assert_eq!(records, all);
    assert_eq!(survey.damage, []);
    let found: Vec<_> = survey
        .files
        .iter()
        .map(|file| (file.frames, file.sequences.clone()))
        .collect();
    assert_eq!(found, [(2, 1..3), (2, 3..5), (2, 5..7), (0, 7..7)]);
    let bytes: u64 = survey.files.iter().map(|file| file.bytes).sum();
    assert_eq!(
        bytes,
        before
            .iter()
            .map(|(_, content)| content.len() as u64)
            .sum::<u64>()
    );
    // What is sealed is left out.
    assert_eq!(surveyed(&disk, 5, 7).1, all[4..]);
    // An unfinished write is no damage, and what may stand in it is not given.
    let (mut log, ..) = open_settled(&disk, 1, 7).unwrap();
    log.append(&[&payload(7), &payload(8)]).unwrap();
    drop(log);
    let (path, _) = &before[3];
    disk.corrupt(path, |bytes| bytes[FILE_HEADER_BYTES + 40] ^= 1)
        .unwrap();
    let before = files(&disk);
    let (survey, records) = surveyed(&disk, 1, 7);
    assert_eq!((survey.damage, records), (Vec::new(), all));
    assert!(survey.torn_bytes > 64);
    assert_eq!(files(&disk), before);
}

#[test]
fn a_survey_goes_on_behind_damage_and_names_the_lost_sequences() {
    let disk = SimulatedDisk::new();
    small(&disk);
    let whole = files(&disk);
    let check = |damage: &dyn Fn(&SimulatedDisk), lost: &[std::ops::Range<u64>]| {
        damage(&disk);
        let (survey, records) = surveyed(&disk, 1, 7);
        let found: Vec<_> = survey
            .damage
            .iter()
            .map(|damage| damage.lost.clone())
            .filter(|lost| !lost.is_empty())
            .collect();
        assert_eq!(found, lost, "{survey:?}");
        assert!(!survey.damage.is_empty());
        let good: Vec<_> = (1..=6)
            .filter(|n| lost.iter().all(|lost| !lost.contains(n)))
            .map(|n| (n, payload(n)))
            .collect();
        assert_eq!(records, good, "{survey:?}");
        for (path, content) in &whole {
            drop(disk.open(path, crate::io::OpenMode::CreateOrExisting));
            disk.corrupt(path, |bytes| bytes.clone_from(content))
                .unwrap();
        }
    };
    let change = |file: usize, change: &'static dyn Fn(&mut Vec<u8>)| {
        let path = whole[file].0.clone();
        move |disk: &SimulatedDisk| disk.corrupt(&path, change).unwrap()
    };
    // A frame in the middle; the header; both; the last frame; all of a file.
    check(
        &change(0, &|bytes| bytes[FILE_HEADER_BYTES + 40] ^= 1),
        &[1..2],
    );
    check(&change(1, &|bytes| bytes[3] ^= 1), &[]);
    check(
        &change(2, &|bytes| bytes[..FILE_HEADER_BYTES + 41].fill(0)),
        &[5..6],
    );
    check(
        &change(2, &|bytes| *bytes.last_mut().unwrap() ^= 1),
        &[6..7],
    );
    check(&change(1, &|bytes| bytes.clear()), &[3..5]);
    // The header of the last file with records, without a file behind it.
    let (last, without_records) = (&whole[2].0, &whole[3].0);
    check(
        &|disk| {
            disk.remove_file(without_records).unwrap();
            disk.corrupt(last, |bytes| bytes[3] ^= 1).unwrap();
        },
        &[],
    );
    check(&|disk| disk.remove_file(&whole[1].0).unwrap(), &[3..5]);
    check(&|disk| disk.remove_file(&whole[0].0).unwrap(), &[1..3]);
}
