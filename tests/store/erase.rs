//! What is forgotten is not found again, and after an erasure no file holds it.

use std::sync::Arc;

use spanstore::{Month, Team, TraceId};
use spanstore_test_support::spans::{request, span, text, trace_id};
use spanstore_test_support::{NOW, open, open_on, quiet, sessions, stands_in_a_file, team};

fn count(team: &Team) -> usize {
    team.export()
        .unwrap()
        .map(|chunk| chunk.unwrap().len())
        .sum()
}

/// Ids that no compression hides: they stand in a segment as they are.
const SESSION: &str = "7c1f2a90b3e84d56a1c0ffee12345678";

#[test]
fn what_is_forgotten_leaves_every_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme-secret-9f3b"));
    let other = store.team(&team("other"));
    for round in 0..3u64 {
        let spans = |name: &str| {
            let session = format!("{SESSION}-{name}");
            (round * 40..(round + 1) * 40).map(move |n| {
                let mut span = span(n);
                if n % 20 < 10 {
                    span.attributes.insert(0, text("session.id", &session));
                }
                span
            })
        };
        acme.append(request(spans("acme"))).unwrap();
        other.append(request(spans("other"))).unwrap();
        if round < 2 {
            store.seal().unwrap();
        }
    }
    other.set_quota(Some(500)).unwrap();
    acme.set_quota(Some(500)).unwrap();
    let session = format!("{SESSION}-other");
    let trace = TraceId(trace_id(1));
    assert_eq!(other.session_spans(&session).unwrap().len(), 60);
    assert_eq!(other.trace(trace).unwrap().len(), 10);

    // Invisible at once, hot rows too, in every kind of reading.
    acme.forget().unwrap();
    other.forget_session(&session).unwrap();
    other.forget_trace(trace).unwrap();
    assert_eq!(count(&acme), 0);
    assert!(sessions(&acme).unwrap().is_empty());
    assert!(acme.trace(trace).unwrap().is_empty());
    assert_eq!(count(&other), 50);
    assert!(other.session_spans(&session).unwrap().is_empty());
    assert!(other.trace(trace).unwrap().is_empty());
    assert!(stands_in_a_file(directory.path(), b"acme-secret-9f3b"));

    // What comes later is not meant.
    let late = request((15..18).map(span));
    assert_eq!(other.append(late).unwrap().accepted, 3);
    assert_eq!(other.trace(trace).unwrap().len(), 3);

    let report = store.erase().unwrap();
    assert_eq!(report.rows_removed, 120 + 70);
    assert_eq!(count(&other), 53);
    assert_eq!(other.trace(trace).unwrap().len(), 3);
    for gone in [&b"acme-secret-9f3b"[..], session.as_bytes()] {
        let text = String::from_utf8_lossy(gone);
        assert!(!stands_in_a_file(directory.path(), gone), "{text}");
    }
    assert_eq!(store.check().unwrap().damage, []);
    // What was accepted counts, not what remains.
    for (team, used) in [(&acme, 120), (&other, 123)] {
        assert_eq!(team.usage(Month::of(NOW)).unwrap().used, used);
    }
    drop((acme, other, store));

    let store = open(directory.path());
    let acme = store.team(&team("acme-secret-9f3b"));
    assert_eq!(count(&acme), 0);
    assert_eq!(acme.usage(Month::of(NOW)).unwrap().used, 120);
    assert_eq!(count(&store.team(&team("other"))), 53);
    // The team may begin anew.
    acme.append(request((0..10).map(span))).unwrap();
    store.seal().unwrap();
    assert_eq!(count(&acme), 10);
    assert_eq!(acme.usage(Month::of(NOW)).unwrap().used, 130);
    assert_eq!(store.check().unwrap().damage, []);
}

#[test]
fn the_ids_of_a_forgotten_trace_leave_every_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    // Each span a trace of its own, so that ids stand as they are.
    let single = |n: u64| {
        let mut span = span(n);
        span.trace_id = trace_id(n).to_vec();
        span
    };
    acme.append(request((0..500).map(single))).unwrap();
    store.seal().unwrap();
    let gone = trace_id(123);
    acme.forget_trace(TraceId(gone)).unwrap();
    assert!(
        stands_in_a_file(directory.path(), &gone),
        "the catalog names it"
    );
    store.erase().unwrap();
    assert!(!stands_in_a_file(directory.path(), &gone));
    assert!(acme.trace(TraceId(gone)).unwrap().is_empty());
    assert_eq!(count(&acme), 499);
    assert_eq!(acme.trace(TraceId(trace_id(124))).unwrap().len(), 1);
    assert_eq!(store.check().unwrap().damage, []);
}

#[test]
fn an_erasure_ends_with_the_readers_that_began_before() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    acme.append(request((0..50).map(span))).unwrap();
    store.seal().unwrap();
    let export = acme.export().unwrap();
    acme.forget().unwrap();
    store.erase().unwrap();
    let found: usize = export.map(|chunk| chunk.unwrap().len()).sum();
    assert_eq!(found, 50, "a snapshot stays whole");
    assert_eq!(count(&acme), 0);
    assert!(store.segments().is_empty());
    assert!(!stands_in_a_file(
        &directory.path().join("segments"),
        b"acme"
    ));
}

/// A merge that failed has given out ids of segments that no catalog knows. What
/// is forgotten then must not reach rows that come after a restart.
#[test]
fn rows_after_a_restart_are_not_meant() {
    use spanstore::io::{Fault, PowerCut, SimulatedDisk};
    let disk = SimulatedDisk::new();
    let open = || open_on(Arc::new(disk.clone()), "/store", quiet()).unwrap();
    let store = open();
    let acme = store.team(&team("acme"));
    for start in [0, 10] {
        acme.append(request((start..start + 10).map(span))).unwrap();
        store.seal().unwrap();
    }
    // A seal lets go of the log after it has answered.
    store.flush().unwrap();
    for operation in 0..4 {
        // The merged segment's file cannot be made or written.
        disk.fail_at(disk.operations() + 2 + operation, Fault::NoSpace);
        assert!(store.compact().is_err());
    }
    let trace = TraceId(trace_id(0));
    acme.forget_trace(trace).unwrap();
    assert!(acme.trace(trace).unwrap().is_empty());
    drop((acme, store));
    disk.restart(PowerCut::DropAll);
    let store = open();
    let acme = store.team(&team("acme"));
    assert!(acme.trace(trace).unwrap().is_empty());
    acme.append(request((0..4).map(span))).unwrap();
    store.seal().unwrap();
    assert_eq!(acme.trace(trace).unwrap().len(), 4);
    store.erase().unwrap();
    assert_eq!(acme.trace(trace).unwrap().len(), 4);
    assert_eq!(store.check().unwrap().damage, []);
}

/// A team that is merged by its traces, not as a whole.
#[test]
fn a_large_team_is_rid_of_what_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let first = store.team(&team("a"));
    first.append(request((0..30).map(span))).unwrap();
    for start in (0..40_000u64).step_by(20_000) {
        for part in (start..start + 20_000).step_by(5_000) {
            acme.append(request((part..part + 5_000).map(span)))
                .unwrap();
        }
        // Each trace lies in both segments: its spans once more, later ones.
        let again = (start + 40_000..start + 40_100).map(|n| {
            let mut span = span(n);
            span.trace_id = trace_id((n - 40_000) / 10).to_vec();
            span
        });
        acme.append(request(again)).unwrap();
        store.seal().unwrap();
    }
    let trace = TraceId(trace_id(3));
    assert_eq!(acme.trace(trace).unwrap().len(), 20);
    let session = acme.session_spans("session-200").unwrap().len();
    assert_eq!(session, 30);
    acme.forget_trace(trace).unwrap();
    acme.forget_session("session-200").unwrap();
    assert_eq!(count(&acme), 40_200 - 20 - 30);
    // A merge leaves them out already.
    let report = store.compact().unwrap();
    assert_eq!(report.rows_removed, 50);
    assert_eq!(store.segments().len(), 1);
    assert_eq!(count(&acme), 40_200 - 20 - 30);
    store.erase().unwrap();
    assert!(acme.trace(trace).unwrap().is_empty());
    assert!(acme.session_spans("session-200").unwrap().is_empty());
    assert_eq!(count(&acme), 40_200 - 20 - 30);
    assert_eq!(count(&first), 30);
    assert_eq!(store.check().unwrap().damage, []);
}

#[test]
fn what_is_forgotten_while_segments_are_merged_stays_forgotten() {
    use spanstore::StoreOptions;
    use spanstore_test_support::disk::InterruptedDisk;

    // Before the first of the new segments has its id, and before the second.
    for files in 0..4 {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            segment_rows: 100,
            ..quiet()
        };
        let disk = Arc::new(InterruptedDisk::default());
        let store = open_on(disk.clone(), directory.path(), options).unwrap();
        let names = ["a", "b", "c", "d"];
        for start in [0, 60] {
            for name in names {
                let spans = (start..start + 60).map(span);
                store.team(&team(name)).append(request(spans)).unwrap();
            }
            store.seal().unwrap();
        }
        let teams = names.map(|name| store.team(&team(name)));
        let trace = TraceId(trace_id(2));
        let forgetting = teams.clone();
        disk.after_new_files(files, move || {
            for team in forgetting {
                team.forget_trace(trace).unwrap();
            }
        });
        store.compact().unwrap();
        assert!(!disk.is_planned(), "{files}");
        for team in &teams {
            assert!(team.trace(trace).unwrap().is_empty(), "{files}");
            assert_eq!(count(team), 110, "{files}");
        }
        store.erase().unwrap();
        for team in &teams {
            assert!(team.trace(trace).unwrap().is_empty(), "{files}");
            assert_eq!(count(team), 110, "{files}");
        }
        assert_eq!(store.check().unwrap().damage, []);
    }
}

/// With a team goes what is set for it; what is set afterwards is the new team's.
#[test]
fn settings_go_when_a_team_is_forgotten_and_not_later() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    acme.append(request((0..20).map(span))).unwrap();
    let limit = |team: &Team| team.usage(Month::of(NOW)).unwrap().limit;
    let default = limit(&acme);
    acme.set_quota(Some(30)).unwrap();
    acme.forget_trace(TraceId(trace_id(0))).unwrap();
    assert_eq!(limit(&acme), 30);
    acme.forget().unwrap();
    assert_eq!(limit(&acme), default);
    drop((acme, store));
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    assert_eq!(limit(&acme), default);
    acme.set_quota(Some(40)).unwrap();
    store.erase().unwrap();
    assert_eq!(limit(&acme), 40);
    drop((acme, store));
    assert_eq!(limit(&open(directory.path()).team(&team("acme"))), 40);
}

/// Seals commit while an erasure writes the catalog anew: none is lost.
#[test]
fn seals_during_erasures_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let rounds = 150u64;
    std::thread::scope(|scope| {
        let sealing = scope.spawn(|| {
            for round in 0..rounds {
                let spans = (round * 10..(round + 1) * 10).map(span);
                store.team(&team("acme")).append(request(spans)).unwrap();
                store.seal().unwrap();
            }
        });
        while !sealing.is_finished() {
            store.team(&team("gone")).forget_session("s").unwrap();
            store.erase().unwrap();
        }
    });
    assert_eq!(count(&store.team(&team("acme"))), rounds as usize * 10);
    drop(store);
    let store = open(directory.path());
    assert_eq!(count(&store.team(&team("acme"))), rounds as usize * 10);
    assert_eq!(store.check().unwrap().damage, []);
}

/// A disk that fails once while a store erases, and works again, loses nothing
/// that was acknowledged.
#[test]
fn what_is_acknowledged_after_a_failed_erasure_is_kept() {
    use spanstore::io::{Fault, PowerCut, SimulatedDisk};

    for (operation, cut) in (0..60).flat_map(|n| [(n, PowerCut::KeepAll), (n, PowerCut::DropAll)]) {
        let disk = SimulatedDisk::new();
        let open = || open_on(Arc::new(disk.clone()), "/store", quiet()).unwrap();
        let store = open();
        let acme = store.team(&team("acme"));
        acme.append(request((0..20).map(span))).unwrap();
        store.seal().unwrap();
        acme.forget_trace(TraceId(trace_id(0))).unwrap();
        disk.fail_at(disk.operations() + operation, Fault::Error);
        drop(store.erase());
        let mut kept = 10;
        for start in [20, 30] {
            let more = acme.append(request((start..start + 10).map(span)));
            kept += more.map_or(0, |receipt| receipt.accepted);
            drop(store.seal());
        }
        drop((acme, store));
        disk.restart(cut);
        let store = open();
        let found = count(&store.team(&team("acme"))) as u64;
        assert!(found >= kept, "{operation}, {cut:?}: {found} of {kept}");
        assert_eq!(store.check().unwrap().damage, [], "{operation}");
    }
}
