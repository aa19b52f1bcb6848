use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::io::{Fault, PowerCut, SimulatedDisk};

const DIRECTORY: &str = "/log";

type Records = Vec<(u64, Vec<u8>)>;

fn open(disk: &SimulatedDisk, from: u64) -> Result<(Log, Recovered, Records), Error> {
    let mut records = Vec::new();
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (log, recovered) = Log::open(
        disk,
        Path::new(DIRECTORY),
        from,
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
fn each_flipped_byte_is_found_or_cuts_the_unsettled_end() {
    let disk = SimulatedDisk::new();
    script(&disk);
    let (_, _, records) = open(&disk, 1).unwrap_or_else(|_| open(&disk, 10).unwrap());
    disk.restart(PowerCut::KeepAll);
    for path in disk.paths() {
        let mut length = 0;
        disk.corrupt(&path, |bytes| length = bytes.len()).unwrap();
        for at in 0..length {
            disk.corrupt(&path, |bytes| bytes[at] ^= 0x20).unwrap();
            let disk_after = disk.clone();
            if let Ok((_, recovered, found)) = open(&disk_after, 10) {
                assert!(
                    records.ends_with(&found) || records.starts_with(&found),
                    "byte {at}"
                );
                assert!(
                    found.len() == records.len() || recovered.torn_bytes > 0,
                    "byte {at}"
                );
            }
            return_to(&disk, &path, length, at);
        }
    }
}

/// Undoes a flip; a cut that opening made ends the walk through the file.
fn return_to(disk: &SimulatedDisk, path: &Path, length: usize, at: usize) {
    disk.corrupt(path, |bytes| {
        if bytes.len() == length {
            bytes[at] ^= 0x20;
        } else {
            bytes.resize(length, 0);
        }
    })
    .unwrap();
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

#[test]
fn a_missing_file_is_corruption() {
    let disk = SimulatedDisk::new();
    let (mut log, ..) = open(&disk, 1).unwrap();
    for n in 1..=3 {
        log.append(&[&payload(n)]).unwrap();
        log.rotate().unwrap();
    }
    drop(log);
    disk.remove_file(&file_path(Path::new(DIRECTORY), 2))
        .unwrap();
    let error = open(&disk, 1).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    // Nobody needs it once it is sealed.
    assert_eq!(open(&disk, 3).unwrap().2, [(3, payload(3))]);
}
