//! Any bytes as a partition directory: what is listed in order is found, no
//! other team is, and what was written is listed.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use spanstore_format::TeamId;
use spanstore_format::segment::layout::directory::{Directory, Partition};
use spanstore_format::segment::testing::encode_directory;

fuzz_target!(|input: (u32, &[u8])| {
    let (rows, bytes) = input;
    let Ok(directory) = Directory::new(Bytes::copy_from_slice(bytes), 0, rows) else {
        return;
    };
    drop(directory.find(&TeamId::new("acme").expect("a team id")));
    let Ok(listed) = directory.partitions().collect::<Result<Vec<_>, _>>() else {
        return;
    };
    assert_eq!(listed.len(), directory.len());
    assert!(listed.iter().all(|partition| partition.rows.end <= rows));
    if !listed.is_sorted_by(|one, next| one.team < next.team) {
        return;
    }
    check(&directory, &listed);
    let again = Directory::new(Bytes::from(encode_directory(&listed)), 0, rows);
    check(&again.expect("a directory that was written"), &listed);
});

/// Each partition is listed and found, and teams next to them are not.
fn check(directory: &Directory, expected: &[Partition]) {
    let listed: Result<Vec<_>, _> = directory.partitions().collect();
    assert_eq!(listed.as_deref(), Ok(expected));
    for partition in expected {
        assert_eq!(
            directory.find(&partition.team).as_ref(),
            Ok(&Some(partition.clone()))
        );
        let team = partition.team.as_str();
        let mut before = team.to_owned();
        before.pop();
        for other in [format!("{team}-"), format!("{before}~"), before] {
            let Ok(other) = TeamId::new(&other) else {
                continue;
            };
            if expected.iter().all(|partition| partition.team != other) {
                assert_eq!(directory.find(&other), Ok(None));
            }
        }
    }
}
