use std::collections::BTreeMap;
use std::path::PathBuf;

use spanstore_format::catalog::SessionRecord;

use super::*;
use crate::io::{DiskFile, Fault, PowerCut, SimulatedDisk};

const ROOT: &str = "/store";

fn dyn_disk(disk: &SimulatedDisk) -> Arc<dyn Disk> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    disk.create_dir_all(Path::new(ROOT)).unwrap();
    disk
}

fn open(disk: &SimulatedDisk) -> Result<Catalog, Error> {
    Catalog::open(&dyn_disk(disk), Path::new(ROOT), true)
}

fn path(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

fn settings_of(limit: u64) -> TeamSettings {
    TeamSettings {
        plan: 1,
        limit: Some(limit),
        retention_nanos: None,
    }
}

fn acme() -> TeamId {
    TeamId::new("acme").unwrap()
}

fn limit(catalog: &Catalog) -> Result<Option<u64>, Error> {
    let settings = catalog.settings()?;
    Ok(settings.get(&acme()).and_then(|one| one.limit))
}

/// A session of each of some teams, every other one stopped.
fn sessions(teams: u64) -> SessionChanges {
    let changes = (0..teams).map(|n| {
        let session = SessionRecord {
            user: format!("user {n}"),
            started_at: 7,
            stopped_at: n.is_multiple_of(2).then_some(9),
            ..SessionRecord::default()
        };
        let changes = TeamChanges {
            removes_others: false,
            sessions: BTreeMap::from([(format!("session-{n}"), Some(session))]),
        };
        (TeamId::new(&format!("team-{n}")).unwrap(), changes)
    });
    changes.collect()
}

/// A seal of some teams' rows, without segments.
fn seal(catalog: &Catalog, teams: u64, first_unsealed: u64) -> Result<(), Error> {
    let month = Month::from_number(682).unwrap();
    let rows = (0..teams).map(|n| ((month, TeamId::new(&format!("team-{n}")).unwrap()), n + 1));
    let commit = SealCommit {
        segments: &[],
        rows: &rows.collect(),
        first_unsealed,
        retention_clock: None,
        recent_file: None,
        sessions: &sessions(teams),
    };
    catalog.commit_seal(&commit, &BTreeSet::new())
}

/// All that a catalog says.
fn content(catalog: &Catalog) -> Result<BTreeMap<String, String>, Error> {
    let mut content = BTreeMap::new();
    let (segments, counts) = catalog.segments_and_counts()?;
    let month = Month::from_number(682).unwrap();
    for count in counts {
        let sealed = catalog.sealed_count(month, &TeamId::new(&count.team).unwrap())?;
        content.insert(
            format!("counter {}", count.team),
            format!("{count:?} {sealed}"),
        );
    }
    content.insert("segments".into(), format!("{segments:?}"));
    for (team, settings) in catalog.settings()? {
        content.insert(format!("settings {team}"), format!("{settings:?}"));
    }
    content.insert("sessions".into(), format!("{:?}", catalog.all_sessions()?));
    let stopped = catalog.stopped_sessions(i64::MAX, usize::MAX, |_, _| true)?;
    content.insert("stopped sessions".into(), format!("{stopped:?}"));
    content.insert("erasures".into(), format!("{:?}", catalog.erasures()?));
    content.insert("replaced".into(), format!("{:?}", catalog.replaced()?));
    content.insert(
        "meta".into(),
        format!(
            "{:?} {:?} {:?}",
            catalog.first_unsealed()?,
            catalog.next_segment()?,
            catalog.retention()?
        ),
    );
    Ok(content)
}

#[test]
fn a_catalog_is_made_only_where_no_part_of_a_store_is() {
    for (part, expected) in [
        ("segments/2026-11/0000000000000001.parquet", (1, 0, 0)),
        ("log/00000000000000000001.log", (0, 1, 0)),
        ("quarantine/anything", (0, 0, 1)),
    ] {
        let disk = SimulatedDisk::new();
        let file = path(part);
        disk.create_dir_all(file.parent().unwrap()).unwrap();
        drop(disk.open(&file, OpenMode::CreateNew).unwrap());
        for create in [true, false] {
            match Catalog::open(&dyn_disk(&disk), Path::new(ROOT), create).unwrap_err() {
                Error::CatalogMissing {
                    segments,
                    logs,
                    quarantined,
                    ..
                } => assert_eq!((segments, logs, quarantined), expected, "{part}"),
                other => panic!("{part}: {other}"),
            }
        }
        assert_eq!(disk.paths(), [file], "nothing was touched");
    }
    let disk = SimulatedDisk::new();
    let missing = Catalog::open(&dyn_disk(&disk), Path::new(ROOT), false).unwrap_err();
    assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
    // What a crash left of a segment is no store's data.
    disk.create_dir_all(&path("segments/2026-11")).unwrap();
    let unfinished = path("segments/2026-11/0000000000000001.parquet.unfinished");
    drop(disk.open(&unfinished, OpenMode::CreateNew).unwrap());
    assert_eq!(open(&disk).unwrap().first_unsealed().unwrap(), 1);
}

#[test]
fn a_crash_at_any_operation_of_making_leaves_none_or_a_whole_one() {
    let whole = SimulatedDisk::new();
    drop(open(&whole).unwrap());
    let operations = whole.operations();
    assert!(operations > 10, "{operations}");
    for operation in 0..operations {
        for cut in [
            PowerCut::KeepAll,
            PowerCut::DropAll,
            PowerCut::Some(operation),
        ] {
            let disk = SimulatedDisk::new();
            drop(dyn_disk(&disk));
            disk.fail_at(operation, Fault::Crash);
            drop(Catalog::open(
                &(Arc::new(disk.clone()) as Arc<dyn Disk>),
                Path::new(ROOT),
                true,
            ));
            disk.restart(cut);
            let context = format!("operation {operation}, {cut:?}");
            let catalog = open(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(catalog.guard.commits(), 1, "{context}");
            catalog.set_settings(&acme(), &settings_of(7)).unwrap();
            drop(catalog);
            assert_eq!(limit(&open(&disk).unwrap()).unwrap(), Some(7), "{context}");
        }
    }
}

/// Fails the n-th operation of setting a limit, for every n.
fn with_fault(fault: Fault, mut see: impl FnMut(&SimulatedDisk, Catalog, Result<(), Error>, u64)) {
    for operation in 0.. {
        let disk = SimulatedDisk::new();
        let catalog = open(&disk).unwrap();
        catalog.set_settings(&acme(), &settings_of(1)).unwrap();
        let first = disk.operations();
        disk.fail_at(first + operation, fault);
        let set = catalog.set_settings(&acme(), &settings_of(2));
        if disk.operations() <= first + operation {
            assert!(operation > 5, "{operation}");
            break;
        }
        see(&disk, catalog, set, operation);
    }
}

#[test]
fn without_space_a_commit_changes_nothing_and_the_next_is_taken() {
    let mut refused = 0;
    with_fault(Fault::NoSpace, |disk, catalog, set, operation| {
        let context = format!("operation {operation}: {set:?}");
        let expected = match &set {
            Ok(()) => 2,
            Err(Error::NoSpace { .. }) => {
                refused += 1;
                1
            }
            // A read that failed.
            Err(Error::Io { .. }) => 1,
            // A sync that failed has lost what it should have synced.
            Err(Error::Poisoned { .. }) => {
                assert!(catalog.set_settings(&acme(), &settings_of(3)).is_err());
                return;
            }
            Err(other) => panic!("{context}: {other}"),
        };
        assert_eq!(limit(&catalog).unwrap(), Some(expected), "{context}");
        catalog.set_settings(&acme(), &settings_of(3)).unwrap();
        assert_eq!(limit(&catalog).unwrap(), Some(3), "{context}");
        disk.restart(PowerCut::DropAll);
        drop(catalog);
        assert_eq!(limit(&open(disk).unwrap()).unwrap(), Some(3), "{context}");
    });
    assert!(refused >= 2, "{refused}");
}

#[test]
fn a_failed_write_or_sync_is_told_and_a_success_is_durable() {
    let mut unsure = 0;
    with_fault(Fault::Error, |disk, catalog, set, operation| {
        let context = format!("operation {operation}: {set:?}");
        match &set {
            Ok(()) => assert_eq!(limit(&catalog).unwrap(), Some(2), "{context}"),
            // A read that failed has changed nothing.
            Err(Error::Io { .. }) => assert_eq!(limit(&catalog).unwrap(), Some(1), "{context}"),
            Err(Error::Poisoned { .. }) => {
                unsure += 1;
                let again = catalog.set_settings(&acme(), &settings_of(3)).unwrap_err();
                assert!(
                    matches!(again, Error::Poisoned { .. }),
                    "{context}: {again}"
                );
            }
            Err(other) => panic!("{context}: {other}"),
        }
        disk.restart(PowerCut::DropAll);
        drop(catalog);
        let found = limit(&open(disk).unwrap()).unwrap();
        match set {
            Ok(()) => assert_eq!(found, Some(2), "{context}"),
            Err(Error::Io { .. }) => assert_eq!(found, Some(1), "{context}"),
            Err(_) => assert!([Some(1), Some(2)].contains(&found), "{context}"),
        }
    });
    assert!(unsure >= 2, "{unsure}");
}

#[test]
fn a_crash_at_any_operation_of_a_commit_leaves_all_or_nothing_of_it() {
    with_fault(Fault::Crash, |disk, catalog, set, operation| {
        for cut in [
            PowerCut::KeepAll,
            PowerCut::DropAll,
            PowerCut::Some(operation),
        ] {
            let context = format!("operation {operation}, {cut:?}: {set:?}");
            disk.restart(cut);
            let found = limit(&open(disk).unwrap()).unwrap();
            assert!([Some(1), Some(2)].contains(&found), "{context}");
            assert!(set.is_err() || found == Some(2), "{context}");
        }
        drop(catalog);
    });
}

/// The process ends after a failed sync, another one opens the catalog and
/// finds what the system still shows, and then the power goes.
#[test]
fn what_an_open_finds_after_a_failed_sync_is_durable() {
    let mut unsure = 0;
    with_fault(Fault::Error, |disk, catalog, set, operation| {
        if !matches!(set, Err(Error::Poisoned { .. })) {
            return;
        }
        unsure += 1;
        drop(catalog);
        let context = format!("operation {operation}");
        let catalog = open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
        let found = limit(&catalog).unwrap();
        disk.restart(PowerCut::DropAll);
        drop(catalog);
        let catalog = open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(limit(&catalog).unwrap(), found, "{context}");
        assert_eq!(content(&catalog).unwrap().len(), 7, "{context}");
    });
    assert!(unsure >= 2, "{unsure}");
}

/// What a call answers after a full disk stays true when the power goes.
#[test]
fn what_is_told_after_a_full_disk_is_durable() {
    let mut told = 0;
    with_fault(Fault::NoSpace, |disk, catalog, set, operation| {
        let context = format!("operation {operation}, {set:?}");
        let Ok(found) = limit(&catalog) else {
            return;
        };
        told += 1;
        disk.restart(PowerCut::DropAll);
        drop(catalog);
        let catalog = open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(limit(&catalog).unwrap(), found, "{context}");
    });
    assert!(told >= 2, "{told}");
}

/// A catalog of some size, closed.
fn closed(teams: u64) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let catalog = open(&disk).unwrap();
    catalog.set_settings(&acme(), &settings_of(1)).unwrap();
    seal(&catalog, teams, 9).unwrap();
    catalog.set_settings(&acme(), &settings_of(2)).unwrap();
    catalog.set_retention(Some(5)).unwrap();
    drop(catalog);
    disk.restart(PowerCut::DropAll);
    disk
}

fn bytes_of(disk: &SimulatedDisk, name: &str) -> Vec<u8> {
    disk.map(&path(name)).unwrap().to_vec()
}

fn write(disk: &SimulatedDisk, name: &str, bytes: &[u8]) {
    disk.corrupt(&path(name), |file| *file = bytes.to_vec())
        .unwrap();
}

/// Opens, reads, commits and reads again.
fn use_catalog(disk: &SimulatedDisk) -> Result<(BTreeMap<String, String>, Option<u64>), Error> {
    let catalog = open(disk)?;
    let found = content(&catalog)?;
    catalog.set_settings(&acme(), &settings_of(3))?;
    Ok((found, limit(&catalog)?))
}

/// Bytes of a file that are not 0, and some that are.
fn places(bytes: &[u8]) -> Vec<usize> {
    let places = 0..bytes.len();
    places
        .filter(|at| *at < 600 || bytes.get(*at) != Some(&0) || at % 4_099 == 0)
        .collect()
}

fn flip_each(disk: &SimulatedDisk, is_published: bool) -> usize {
    let (catalog, sums) = (
        bytes_of(disk, "catalog.redb"),
        bytes_of(disk, "catalog.sums"),
    );
    let expected = content(&open(disk).unwrap()).unwrap();
    let mut found_out = 0;
    for (round, at) in places(&catalog).into_iter().enumerate() {
        if at >= 600 && round % 31 != 0 {
            continue;
        }
        let mut damaged = catalog.clone();
        if let Some(byte) = damaged.get_mut(at) {
            *byte ^= 1 << (round % 8);
        }
        write(disk, "catalog.redb", &damaged);
        write(disk, "catalog.sums", if is_published { &sums } else { &[] });
        match use_catalog(disk) {
            Ok((found, limit)) => {
                assert_eq!(found, expected, "byte {at}");
                assert_eq!(limit, Some(3), "byte {at}");
            }
            Err(
                Error::CatalogDamaged { .. } | Error::CatalogOlder { .. } | Error::Corrupt { .. },
            ) => {
                found_out += 1;
            }
            Err(other) => panic!("byte {at}: {other}"),
        }
        disk.restart(PowerCut::KeepAll);
    }
    found_out
}

#[test]
fn each_flipped_byte_is_found_or_harmless() {
    let disk = closed(60);
    assert!(flip_each(&disk, true) > 100);
}

#[test]
fn a_flipped_byte_is_found_without_published_checksums_too() {
    // Only a header that leads to the commit before is not told from one.
    let disk = closed(60);
    let catalog = open(&disk).unwrap();
    catalog.set_retention(Some(5)).unwrap();
    drop(catalog);
    assert!(flip_each(&disk, false) > 100);
}

#[test]
fn each_flipped_byte_of_the_checksums_is_harmless() {
    let disk = closed(3);
    let (catalog, sums) = (
        bytes_of(&disk, "catalog.redb"),
        bytes_of(&disk, "catalog.sums"),
    );
    for at in 0..sums.len() {
        let mut damaged = sums.clone();
        if let Some(byte) = damaged.get_mut(at) {
            *byte ^= 4;
        }
        write(&disk, "catalog.redb", &catalog);
        write(&disk, "catalog.sums", &damaged);
        assert_eq!(use_catalog(&disk).unwrap().1, Some(3), "byte {at}");
        disk.restart(PowerCut::KeepAll);
    }
}

#[test]
fn a_cut_catalog_is_damaged_at_any_length() {
    let disk = closed(10);
    let catalog = bytes_of(&disk, "catalog.redb");
    for length in [
        0,
        1,
        9,
        64,
        319,
        320,
        4_096,
        8_192,
        catalog.len() / 2,
        catalog.len() - 1,
    ] {
        write(&disk, "catalog.redb", catalog.get(..length).unwrap());
        let error = use_catalog(&disk).unwrap_err();
        assert!(
            matches!(error, Error::CatalogDamaged { .. }),
            "{length} bytes: {error}"
        );
        assert_eq!(
            bytes_of(&disk, "catalog.redb").len(),
            length,
            "nothing was touched"
        );
        disk.restart(PowerCut::KeepAll);
    }
}

#[test]
fn an_older_catalog_is_told() {
    let disk = closed(3);
    let older = bytes_of(&disk, "catalog.redb");
    open(&disk)
        .unwrap()
        .set_settings(&acme(), &settings_of(8))
        .unwrap();
    disk.restart(PowerCut::KeepAll);
    write(&disk, "catalog.redb", &older);
    let error = open(&disk).unwrap_err();
    assert!(matches!(error, Error::CatalogOlder { .. }), "{error}");
    // So is one that is opened with the checksums of its time, later.
    assert!(open(&disk).is_err());
}

#[test]
fn damage_while_it_is_open_ends_its_use_and_is_named() {
    let disk = closed(2_000);
    let catalog = open(&disk).unwrap();
    disk.corrupt(&path("catalog.redb"), |bytes| {
        for block in bytes.chunks_mut(4_096).skip(1) {
            if let Some(byte) = block.get_mut(40) {
                *byte ^= 1;
            }
        }
    })
    .unwrap();
    let error = content(&catalog).map(|found| found.len()).unwrap_err();
    assert!(matches!(error, Error::CatalogDamaged { .. }), "{error}");
    assert!(error.to_string().contains("/store/catalog.redb"), "{error}");
    assert!(error.to_string().contains("checksum"), "{error}");
    let error = catalog.set_settings(&acme(), &settings_of(3)).unwrap_err();
    assert!(matches!(error, Error::CatalogDamaged { .. }), "{error}");
}

/// What a crash left of a commit that was begun is no damage.
#[test]
fn pages_that_nothing_needs_may_differ() {
    with_fault(Fault::Crash, |disk, catalog, _, operation| {
        disk.restart(PowerCut::Some(operation));
        drop(catalog);
        let catalog = open(disk).unwrap();
        assert!(catalog.verify().unwrap() > 4_096, "operation {operation}");
        content(&catalog).unwrap();
    });
}

#[test]
fn a_verification_reads_what_is_kept_in_memory_too() {
    let disk = closed(20);
    let catalog = open(&disk).unwrap();
    let expected = content(&catalog).unwrap();
    assert!(catalog.verify().is_ok());
    assert_eq!(content(&catalog).unwrap(), expected);
    disk.corrupt(&path(NAME), |bytes| {
        for block in bytes.chunks_mut(4_096).skip(1) {
            if let Some(byte) = block.get_mut(40) {
                *byte ^= 1;
            }
        }
    })
    .unwrap();
    let error = catalog.verify().unwrap_err();
    assert!(matches!(error, Error::CatalogDamaged { .. }), "{error}");
}

#[test]
fn a_panic_is_an_error_and_the_last_call() {
    let disk = closed(2);
    let catalog = open(&disk).unwrap();
    let error = catalog
        .guard
        .read(|_| -> Result<(), CallError> { panic!("out of order") })
        .unwrap_err();
    assert!(error.to_string().contains("out of order"), "{error}");
    let error = catalog.first_unsealed().unwrap_err();
    assert!(matches!(error, Error::CatalogDamaged { .. }), "{error}");
}

#[test]
fn a_catalog_that_was_written_anew_goes_on() {
    let disk = closed(20);
    let expected = content(&open(&disk).unwrap()).unwrap();
    let catalog = open(&disk).unwrap();
    catalog
        .rewrite(&dyn_disk(&disk), Path::new(ROOT), |_| panic!("sure"))
        .unwrap();
    assert_eq!(content(&catalog).unwrap(), expected);
    catalog.set_settings(&acme(), &settings_of(3)).unwrap();
    assert_eq!(
        open(&disk).unwrap_err().to_string(),
        "the store /store is open elsewhere"
    );
    drop(catalog);
    assert_eq!(limit(&open(&disk).unwrap()).unwrap(), Some(3));
}

#[test]
fn values_that_make_no_sense_are_damage() {
    for change in 0..4 {
        let disk = closed(2);
        let catalog = open(&disk).unwrap();
        catalog
            .guard
            .commit(|transaction| {
                match change {
                    0 => drop(transaction.open_table(SETTINGS)?.insert("a\0b", &[][..])?),
                    1 => drop(
                        transaction
                            .open_table(COUNTERS)?
                            .insert((u16::MAX, "acme"), 1)?,
                    ),
                    2 => drop(transaction.open_table(SEGMENTS)?.insert(1 << 40, &[][..])?),
                    _ => drop(transaction.open_table(ERASURES)?.insert(1, &[0xff][..])?),
                }
                Ok(())
            })
            .unwrap();
        let error = content(&catalog).unwrap_err();
        assert!(
            matches!(error, Error::CatalogDamaged { .. }),
            "{change}: {error}"
        );
    }
}

#[test]
fn the_file_is_locked_while_its_database_is_opened_again() {
    let disk = SimulatedDisk::new();
    let catalog = open(&disk).unwrap();
    disk.fail_at(disk.operations() + 3, Fault::NoSpace);
    drop(catalog.set_settings(&acme(), &settings_of(1)));
    let file: Box<dyn DiskFile> = disk.open(&path(NAME), OpenMode::Existing).unwrap();
    assert!(!file.try_lock().unwrap());
}
