use super::*;

fn directory() -> &'static Path {
    Path::new("/d")
}

fn file_with(disk: &SimulatedDisk, name: &str, data: &[u8]) -> Box<dyn DiskFile> {
    disk.create_dir_all(directory()).unwrap();
    let file = disk
        .open(&directory().join(name), OpenMode::CreateNew)
        .unwrap();
    file.write_at(0, data).unwrap();
    file
}

fn content(disk: &SimulatedDisk, name: &str) -> Option<Vec<u8>> {
    disk.map(&directory().join(name))
        .ok()
        .map(|bytes| bytes.to_vec())
}

#[test]
fn a_name_and_its_contents_are_durable_apart() {
    for (sync_file, sync_names) in [(false, false), (true, false), (false, true), (true, true)] {
        let disk = SimulatedDisk::new();
        let file = file_with(&disk, "a", b"data");
        if sync_file {
            file.sync_data().unwrap();
        }
        if sync_names {
            disk.sync_dir(directory()).unwrap();
        }
        disk.restart(PowerCut::DropAll);
        let expected = sync_names.then(|| {
            if sync_file {
                b"data".to_vec()
            } else {
                Vec::new()
            }
        });
        assert_eq!(content(&disk, "a"), expected);
        assert!(
            file.write_at(0, b"x").is_err(),
            "handles die with the power"
        );
    }
}

#[test]
fn a_killed_process_leaves_all_that_was_written() {
    let disk = SimulatedDisk::new();
    file_with(&disk, "a", b"data");
    disk.rename(&directory().join("a"), &directory().join("b"))
        .unwrap();
    disk.restart(PowerCut::KeepAll);
    assert_eq!(
        (content(&disk, "a"), content(&disk, "b")),
        (None, Some(b"data".to_vec()))
    );
}

#[test]
fn a_power_cut_tears_and_reorders_by_its_seed() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let disk = SimulatedDisk::new();
        let file = file_with(&disk, "a", b"..........");
        file.sync_data().unwrap();
        disk.sync_dir(directory()).unwrap();
        file.write_at(0, b"11").unwrap();
        file.write_at(4, b"22222222").unwrap();
        disk.restart(PowerCut::Some(seed));
        seen.insert(content(&disk, "a").unwrap());
    }
    for expected in [
        &b".........."[..],
        b"11........",
        b"....22222222",
        b"....2.....",
        b"112",
    ] {
        let is_seen = seen.contains(expected);
        assert_eq!(
            is_seen,
            expected != b"112",
            "{:?}",
            String::from_utf8_lossy(expected)
        );
    }
}

#[test]
fn a_failed_sync_has_lost_what_it_should_have_kept() {
    let disk = SimulatedDisk::new();
    let file = file_with(&disk, "a", b"data");
    disk.sync_dir(directory()).unwrap();
    disk.fail_at(disk.operations(), Fault::Error);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(content(&disk, "a").unwrap(), b"data");
    disk.restart(PowerCut::KeepAll);
    assert_eq!(content(&disk, "a").unwrap(), b"");
}

#[test]
fn a_full_disk_takes_half_and_a_crash_ends_everything() {
    let disk = SimulatedDisk::new();
    let file = file_with(&disk, "a", b"");
    disk.fail_at(disk.operations(), Fault::NoSpace);
    let error = file.write_at(0, b"12345678").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(content(&disk, "a").unwrap(), b"1234");
    disk.fail_at(disk.operations(), Fault::Crash);
    assert!(file.sync_data().is_err());
    assert!(file.len().is_err() && disk.list(directory()).is_err());
}

#[test]
fn a_lock_is_one_handle_s_until_it_is_dropped_or_the_power_goes() {
    let disk = SimulatedDisk::new();
    let one = file_with(&disk, "a", b"");
    let open = || disk.open(&directory().join("a"), OpenMode::Existing);
    let other = open().unwrap();
    assert!(one.try_lock().unwrap());
    assert!(!other.try_lock().unwrap());
    drop(one);
    assert!(other.try_lock().unwrap());
    disk.restart(PowerCut::KeepAll);
    assert!(open().unwrap().try_lock().unwrap());
}
