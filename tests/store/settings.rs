//! What is set for a team, or for the store, after a power cut at every
//! operation: the old, or the new if it was acknowledged.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use spanstore::io::{Fault, PowerCut, SimulatedDisk};
use spanstore::otlp::Span;
use spanstore::{Error, Month, Plan, SpanBatch, Store, TraceId};
use spanstore_test_support::spans::{request, span, trace_id};
use spanstore_test_support::{NOW, open_on, quiet, team};

fn open(disk: &SimulatedDisk) -> Store {
    let mut options = quiet();
    options.plan_limits.pro = 500;
    open_on(Arc::new(disk.clone()), "/store", options).unwrap()
}

/// A store with 20 spans of each of two teams, sealed, of one trace and of
/// another, an hour old.
fn filled() -> (SimulatedDisk, Store) {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    for name in ["acme", "other"] {
        let spans = request((0..20).map(span));
        store.team(&team(name)).append(spans).unwrap();
    }
    store.team(&team("acme")).set_quota(Some(40)).unwrap();
    store.seal().unwrap();
    // Until the log is let go of, the disk is in use.
    store.flush().unwrap();
    (disk, store)
}

/// What the settings can change: the first team's limit, and how many spans of
/// each team are found.
type Seen = (u64, usize, usize);

fn seen(store: &Store) -> Seen {
    let found = |name| {
        let chunks = store.team(&team(name)).export().unwrap();
        chunks.map(|chunk| chunk.unwrap().len()).sum()
    };
    let usage = store.team(&team("acme")).usage(Month::of(NOW)).unwrap();
    assert_eq!(usage.used, 20);
    (usage.limit, found("acme"), found("other"))
}

type Change = fn(&Store) -> Result<(), Error>;

/// Changes, and what is seen after each.
const CHANGES: [(&str, Change, Seen); 7] = [
    (
        "quota",
        |store| store.team(&team("acme")).set_quota(Some(7)),
        (7, 20, 20),
    ),
    (
        "no quota",
        |store| store.team(&team("acme")).set_quota(None),
        (1_000_000, 20, 20),
    ),
    (
        "plan",
        |store| {
            let acme = store.team(&team("acme"));
            acme.set_quota(None)?;
            acme.set_plan(Plan::Pro)
        },
        (500, 20, 20),
    ),
    (
        "a team's retention",
        |store| {
            store
                .team(&team("acme"))
                .set_retention(Some(Duration::from_mins(1)))
        },
        (40, 0, 20),
    ),
    (
        "retention",
        |store| store.set_retention(Some(Duration::from_mins(1))),
        (40, 0, 0),
    ),
    (
        "forgotten",
        |store| store.team(&team("acme")).forget(),
        (1_000_000, 0, 20),
    ),
    (
        "a trace forgotten",
        |store| store.team(&team("acme")).forget_trace(TraceId(trace_id(0))),
        (40, 10, 20),
    ),
];

#[test]
fn a_crash_leaves_the_old_or_the_new() {
    for (name, change, new) in CHANGES {
        let (disk, store) = filled();
        let old = seen(&store);
        let before = disk.operations();
        change(&store).unwrap();
        let operations = disk.operations() - before;
        assert_eq!(seen(&store), new, "{name}");
        // A change that was acknowledged outlives the power.
        disk.restart(PowerCut::DropAll);
        drop(store);
        assert_eq!(seen(&open(&disk)), new, "{name}");

        let mut outcomes = BTreeSet::new();
        for operation in 0..operations {
            let cuts = [
                PowerCut::KeepAll,
                PowerCut::DropAll,
                PowerCut::Some(operation),
            ];
            for cut in cuts {
                let context = format!("{name}: crash at operation {operation}, {cut:?}");
                let (disk, store) = filled();
                let at = disk.operations() + operation;
                disk.fail_at(at, Fault::Crash);
                let changed = change(&store);
                assert!(disk.operations() > at, "{context}: no crash");
                disk.restart(cut);
                drop(store);
                let store = open(&disk);
                let found = seen(&store);
                // A plan is set after the quota.
                let between = name == "plan" && found == (1_000_000, 20, 20);
                assert!(
                    found == old || found == new || between,
                    "{context}: {found:?}"
                );
                assert!(changed.is_err() || found == new, "{context}: {found:?}");
                assert_eq!(store.check().unwrap().damage, [], "{context}");
                outcomes.insert(found);
            }
        }
        assert!(
            outcomes.contains(&old) && outcomes.contains(&new),
            "{name}: {outcomes:?}"
        );
    }
}

#[test]
fn a_fault_leaves_the_old_or_the_new_when_the_store_is_opened_again() {
    for (name, change, new) in CHANGES {
        let (disk, store) = filled();
        let old = seen(&store);
        let before = disk.operations();
        change(&store).unwrap();
        let operations = disk.operations() - before;
        drop(store);
        let mut failed = 0;
        for fault in [Fault::Error, Fault::NoSpace] {
            for operation in 0..operations {
                let context = format!("{name}: {fault:?} at operation {operation}");
                let (disk, store) = filled();
                let at = disk.operations() + operation;
                disk.fail_at(at, fault);
                let changed = change(&store);
                assert!(disk.operations() > at, "{context}: no fault");
                failed += u32::from(changed.is_err());
                drop(store);
                disk.restart(PowerCut::DropAll);
                let found = seen(&open(&disk));
                let between = name == "plan" && found == (1_000_000, 20, 20);
                assert!(
                    found == old || found == new || between,
                    "{context}: {found:?}"
                );
                assert!(changed.is_err() || found == new, "{context}: {found:?}");
            }
        }
        assert!(failed > 0, "{name}");
    }
}

#[test]
fn teams_are_those_with_spans_or_settings() {
    let (_, store) = filled();
    let names = || {
        let teams = store.teams().unwrap();
        for name in [
            "a", "acme", "acmee", "asked", "other", "set", "unsealed", "z",
        ] {
            let team = team(name);
            assert_eq!(
                store.has_team(&team).unwrap(),
                teams.contains(&team),
                "{name}"
            );
        }
        teams
            .iter()
            .map(|one| one.as_str().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(), ["acme", "other"]);
    let unsealed = store.team(&team("unsealed"));
    unsealed.append(request([span(0)])).unwrap();
    let set = store.team(&team("set"));
    set.set_plan(Plan::Pro).unwrap();
    // One that is only asked for is none.
    assert_eq!(
        store
            .team(&team("asked"))
            .trace(TraceId(trace_id(0)))
            .unwrap()
            .len(),
        0
    );
    assert_eq!(names(), ["acme", "other", "set", "unsealed"]);
    store.team(&team("acme")).forget().unwrap();
    set.forget().unwrap();
    assert_eq!(names(), ["acme", "other", "unsealed"]);
    store.erase().unwrap();
    assert_eq!(names(), ["other", "unsealed"]);
}

#[test]
fn a_team_is_found_whatever_months_it_has_spans_in() {
    let (_, store) = filled();
    let month = 31 * 86_400_000_000_000;
    for (name, months) in [
        ("b", &[0, 3][..]),
        ("c", &[5]),
        ("zz", &[2, 4]),
        ("aa", &[9]),
    ] {
        let of_team = store.team(&team(name));
        let spans = months.iter().map(|ago| Span {
            start_time_unix_nano: NOW.cast_unsigned() - ago * month,
            ..span(*ago)
        });
        let batch = SpanBatch::from_otlp(request(spans)).any_time();
        let accepted = of_team.append(batch).unwrap().accepted;
        assert_eq!(accepted, months.len() as u64);
    }
    store.seal().unwrap();
    let teams = store.teams().unwrap();
    assert_eq!(teams.len(), 6);
    for name in [
        "a", "aa", "acme", "b", "bb", "c", "d", "other", "z", "zz", "zzz",
    ] {
        let team = team(name);
        assert_eq!(
            store.has_team(&team).unwrap(),
            teams.contains(&team),
            "{name}"
        );
    }
}
