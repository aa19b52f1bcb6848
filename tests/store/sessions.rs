//! Sessions that people start, stop and restart.

mod histories;
mod list;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use spanstore::io::{Disk, OpenMode, SimulatedDisk};
use spanstore::{
    CatalogTable, Durability, Erased, Error, ManualClock, NewSession, Session, SessionKind, Team,
    repair_on,
};
use spanstore_test_support::spans::{request, span, text};
use spanstore_test_support::{NOW, open, open_at, open_on, quiet, stands_in_a_file, team};

const DAY: Duration = Duration::from_hours(24);

fn by(user: &str) -> NewSession {
    NewSession {
        user: user.into(),
        browser: "browser 1".into(),
        project: "shop".into(),
        deployment: "dpl_1".into(),
        environment: "preview".into(),
        host: "shop.example.com".into(),
    }
}

fn ids(sessions: &[Session]) -> Vec<&str> {
    sessions.iter().map(|session| session.id.as_str()).collect()
}

#[test]
fn a_session_is_open_until_it_is_stopped() {
    let clock = Arc::new(ManualClock::new(NOW));
    let disk = SimulatedDisk::new();
    let open = || open_at(Arc::new(disk.clone()), "/store", quiet(), &clock).unwrap();
    let store = open();
    let acme = store.team(&team("acme"));
    assert_eq!(acme.active_sessions("ada").unwrap(), []);
    let first = acme.start_session(by("ada")).unwrap();
    assert_eq!(
        first,
        Session {
            id: first.id.clone(),
            kind: SessionKind::Session,
            of: by("ada"),
            started_nanos: NOW,
            stopped_nanos: None,
            predecessor: None,
        }
    );
    assert_eq!(first.id.len(), 32);
    assert!(first.id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    clock.advance(DAY);
    let page = acme.start_page_trace(by("ada")).unwrap();
    assert_eq!(page.kind, SessionKind::PageTrace);
    let of_another = acme.start_session(by("ada lovelace")).unwrap();
    // Silence ends nothing.
    clock.advance(400 * DAY);
    let active = acme.active_sessions("ada").unwrap();
    assert_eq!(active, [page.clone(), first.clone()]);
    let stopped = acme.stop_session(&first.id).unwrap();
    let now = NOW + (401 * DAY).as_nanos() as i64;
    assert_eq!(
        stopped,
        Session {
            stopped_nanos: Some(now),
            ..first.clone()
        }
    );
    clock.advance(DAY);
    // It is stopped once.
    assert_eq!(acme.stop_session(&first.id).unwrap(), stopped);
    assert_eq!(ids(&acme.active_sessions("ada").unwrap()), [&page.id]);
    let both = [page.clone(), stopped.clone()];
    assert_eq!(acme.sessions_of_user("ada").unwrap(), both);
    assert_eq!(acme.session(&first.id).unwrap(), Some(stopped));
    assert_eq!(acme.session("no such session").unwrap(), None);
    // Of another team they are not.
    let other = store.team(&team("acm"));
    assert_eq!(other.session(&page.id).unwrap(), None);
    assert_eq!(other.sessions_of_user("ada").unwrap(), []);
    let error = other.stop_session(&page.id).unwrap_err();
    assert!(matches!(error, Error::UnknownSession { id } if id == page.id));
    // So it is after each way that it takes.
    store.seal().unwrap();
    for _ in 0..2 {
        assert_eq!(acme.sessions_of_user("ada").unwrap(), both);
        store.seal().unwrap();
    }
    acme.stop_session(&of_another.id).unwrap();
    drop((acme, other, store));
    let acme = open().team(&team("acme"));
    assert_eq!(acme.sessions_of_user("ada").unwrap(), both);
    assert_eq!(acme.active_sessions("ada lovelace").unwrap(), []);
}

#[test]
fn each_change_is_one_write_and_one_sync() {
    let disk = SimulatedDisk::new();
    let store = open_on(Arc::new(disk.clone()), "/store", quiet()).unwrap();
    let acme = store.team(&team("acme"));
    let id = acme.start_session(by("ada")).unwrap().id;
    let operations = |change: &dyn Fn()| {
        let before = disk.operations();
        change();
        disk.operations() - before
    };
    assert_eq!(
        operations(&|| drop(acme.start_session(by("ada")).unwrap())),
        2
    );
    assert_eq!(operations(&|| drop(acme.restart_session(&id).unwrap())), 2);
    assert_eq!(
        operations(&|| drop(acme.stop_session(&id).unwrap())),
        0,
        "it is stopped"
    );
    let id = acme.start_session(by("ada")).unwrap().id;
    assert_eq!(operations(&|| drop(acme.stop_session(&id).unwrap())), 2);
    assert_eq!(
        operations(&|| drop(acme.active_sessions("ada").unwrap())),
        0
    );
}

#[test]
fn a_restarted_session_has_a_successor_that_knows_it() {
    let clock = Arc::new(ManualClock::new(NOW));
    let disk = Arc::new(SimulatedDisk::new());
    let store = open_at(disk, "/store", quiet(), &clock).unwrap();
    let acme = store.team(&team("acme"));
    let first = acme.start_page_trace(by("ada")).unwrap();
    clock.advance(Duration::from_nanos(5));
    let second = acme.restart_session(&first.id).unwrap();
    assert_ne!(second.id, first.id);
    let expected = Session {
        id: second.id.clone(),
        started_nanos: NOW + 5,
        predecessor: Some(first.id.clone()),
        ..first.clone()
    };
    assert_eq!(second, expected);
    let stopped = acme.session(&first.id).unwrap().unwrap();
    assert_eq!(stopped.stopped_nanos, Some(NOW + 5));
    assert_eq!(ids(&acme.active_sessions("ada").unwrap()), [&second.id]);
    // One that was stopped before stays so; a clock that is set back makes no session end
    // before it began.
    clock.set(NOW - 50);
    let third = acme.restart_session(&first.id).unwrap();
    assert_eq!(acme.session(&first.id).unwrap(), Some(stopped));
    assert_eq!(third.started_nanos, NOW - 50);
    let second = acme.stop_session(&second.id).unwrap();
    assert_eq!(second.stopped_nanos, Some(NOW + 5));
    let error = acme.restart_session("unknown").unwrap_err();
    assert!(matches!(error, Error::UnknownSession { .. }), "{error}");
}

#[test]
fn a_session_that_is_not_for_the_store_is_refused() {
    let disk = Arc::new(SimulatedDisk::new());
    let store = open_on(disk, "/store", quiet()).unwrap();
    let acme = store.team(&team("acme"));
    for environment in ["", "development", "Production", "local"] {
        let local = NewSession {
            environment: environment.into(),
            ..by("ada")
        };
        let error = acme.start_session(local).unwrap_err();
        let is_told =
            matches!(&error, Error::LocalDeployment { environment: found } if found == environment);
        assert!(is_told, "{error}");
    }
    let long = |bytes| "x".repeat(bytes);
    let most = |bytes| NewSession {
        user: long(bytes),
        browser: long(bytes),
        project: long(bytes),
        deployment: long(bytes),
        host: long(bytes),
        environment: "production".into(),
    };
    acme.start_session(most(1_024)).unwrap();
    let mut too_long = vec![most(1_024); 5];
    too_long[0].user.push('x');
    too_long[1].browser.push('x');
    too_long[2].project.push('x');
    too_long[3].deployment.push('x');
    too_long[4].host.push('x');
    for new in too_long {
        let error = acme.start_page_trace(new).unwrap_err();
        let is_told = matches!(
            error,
            Error::TooLarge {
                limit: 1_024,
                found: 1_025,
                ..
            }
        );
        assert!(is_told, "{error}");
    }
    assert_eq!(acme.sessions_of_user("ada").unwrap(), []);
}

#[test]
fn a_team_has_so_many_sessions_at_most() {
    let clock = Arc::new(ManualClock::new(NOW));
    let disk = SimulatedDisk::new();
    let mut options = quiet();
    options.durability = Durability::None;
    let open = || open_at(Arc::new(disk.clone()), "/store", options.clone(), &clock).unwrap();
    let store = open();
    let acme = store.team(&team("acme"));
    let start = |number: u64| acme.start_session(by(&format!("user {number}"))).unwrap();
    let (first, open_one) = (start(0), start(1));
    for number in 2..60_000 {
        start(number);
    }
    store.seal().unwrap();
    for number in 60_000..100_000 {
        start(number);
    }
    let is_full = |acme: &Team| {
        let refused = [
            acme.start_session(by("ada")),
            acme.restart_session(&open_one.id),
        ];
        refused.iter().all(|one| {
            let Err(Error::TooLarge { limit, found, .. }) = one else {
                return false;
            };
            (*limit, *found) == (100_000, 100_001)
        })
    };
    assert!(is_full(&acme));
    store.team(&team("other")).start_session(by("ada")).unwrap();
    // A stopped one counts until it is gone.
    acme.stop_session(&first.id).unwrap();
    assert!(is_full(&acme));
    drop((acme, store));
    let store = open();
    let acme = store.team(&team("acme"));
    assert!(is_full(&acme));
    acme.set_retention(Some(DAY)).unwrap();
    clock.advance(40 * DAY);
    store.seal().unwrap();
    store.compact().unwrap();
    acme.start_session(by("ada")).unwrap();
    assert!(is_full(&acme));
    let another = acme.active_sessions("user 99999").unwrap().remove(0);
    acme.forget_session(&another.id).unwrap();
    acme.start_session(by("ada")).unwrap();
    assert!(is_full(&acme));
}

#[test]
fn stopped_sessions_go_with_retention_and_open_ones_stay() {
    let clock = Arc::new(ManualClock::new(NOW));
    let disk = SimulatedDisk::new();
    let store = open_at(Arc::new(disk.clone()), "/store", quiet(), &clock).unwrap();
    let acme = store.team(&team("acme"));
    let [open, stopped] = [(); 2].map(|()| acme.start_session(by("ada")).unwrap());
    acme.stop_session(&stopped.id).unwrap();
    let other = store.team(&team("other"));
    let kept = other
        .restart_session(&other.start_session(by("ada")).unwrap().id)
        .unwrap();
    acme.set_retention(Some(DAY)).unwrap();
    clock.advance(DAY);
    assert_eq!(acme.sessions_of_user("ada").unwrap().len(), 2);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(acme.session(&stopped.id).unwrap(), None);
    assert_eq!(ids(&acme.sessions_of_user("ada").unwrap()), [&open.id]);
    for change in [
        acme.stop_session(&stopped.id),
        acme.restart_session(&stopped.id),
    ] {
        let error = change.unwrap_err();
        assert!(matches!(error, Error::UnknownSession { .. }), "{error}");
    }
    // As with spans, a longer retention shows it again as long as it is there.
    acme.set_retention(Some(2 * DAY)).unwrap();
    assert!(acme.session(&stopped.id).unwrap().is_some());
    store.seal().unwrap();
    store.compact().unwrap();
    assert!(acme.session(&stopped.id).unwrap().is_some());
    clock.advance(40 * DAY);
    store.compact().unwrap();
    acme.set_retention(None).unwrap();
    assert_eq!(acme.session(&stopped.id).unwrap(), None);
    assert_eq!(acme.sessions_of_user("ada").unwrap(), [open]);
    let of_other = other.sessions_of_user("ada").unwrap();
    assert_eq!(ids(&of_other)[0], kept.id);
    assert_eq!(of_other.len(), 2);
}

#[test]
fn a_forgotten_session_leaves_every_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let user = "7c1f2a90b3e84d56a1c0ffee12345678";
    let [sealed, unsealed, kept] = [(); 3].map(|()| acme.start_session(by(user)).unwrap());
    acme.stop_session(&kept.id).unwrap();
    store.seal().unwrap();
    acme.stop_session(&unsealed.id).unwrap();
    acme.forget_many([&sealed, &unsealed].map(|one| Erased::Session(one.id.clone())))
        .unwrap();
    let left = acme.sessions_of_user(user).unwrap();
    assert_eq!(ids(&left), [&kept.id]);
    assert_eq!(acme.session(&sealed.id).unwrap(), None);
    let error = acme.stop_session(&unsealed.id).unwrap_err();
    assert!(matches!(error, Error::UnknownSession { .. }), "{error}");
    store.erase().unwrap();
    for gone in [&sealed, &unsealed] {
        assert!(!stands_in_a_file(directory.path(), gone.id.as_bytes()));
    }
    assert!(stands_in_a_file(directory.path(), kept.id.as_bytes()));
    // Nor does a successor name it any more.
    let successor = acme.restart_session(&kept.id).unwrap();
    store.seal().unwrap();
    acme.forget_session(&kept.id).unwrap();
    let known = acme.session(&successor.id).unwrap().unwrap();
    assert_eq!((known.is_open(), known.predecessor), (true, None));
    store.erase().unwrap();
    assert!(!stands_in_a_file(directory.path(), kept.id.as_bytes()));
    assert!(stands_in_a_file(directory.path(), successor.id.as_bytes()));
    // All go with the team, whatever else is named.
    let third = acme.restart_session(&successor.id).unwrap();
    let whole = [Erased::Team, Erased::Session(successor.id.clone())];
    acme.forget_many(whole).unwrap();
    assert_eq!(acme.session(&third.id).unwrap(), None);
    // With the team go all its sessions, and a later one stays.
    let before = acme.start_session(by(user)).unwrap();
    acme.forget().unwrap();
    assert_eq!(acme.sessions_of_user(user).unwrap(), []);
    assert_eq!(acme.session(&before.id).unwrap(), None);
    let after = acme.start_session(by("after")).unwrap();
    drop((acme, store));
    let store = open(directory.path());
    store.erase().unwrap();
    assert!(!stands_in_a_file(directory.path(), user.as_bytes()));
    let acme = store.team(&team("acme"));
    assert_eq!(acme.active_sessions("after").unwrap(), [after]);
    assert_eq!(acme.session(&kept.id).unwrap(), None);
}

#[test]
fn backups_and_repairs_have_the_sessions() {
    let clock = Arc::new(ManualClock::new(NOW));
    let disk = SimulatedDisk::new();
    let open = |path: &str| open_at(Arc::new(disk.clone()), path, quiet(), &clock).unwrap();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let store = open("/store");
    let acme = store.team(&team("acme"));
    let start = || {
        clock.advance(Duration::from_nanos(1));
        acme.start_session(by("ada")).unwrap()
    };
    let (first, gone) = (start(), start());
    store.seal().unwrap();
    let second = acme.restart_session(&first.id).unwrap();
    let in_copy = acme.sessions_of_user("ada").unwrap();
    store.backup("/copy").unwrap();
    // Of these only the log has the changes.
    acme.append(request([span(1)])).unwrap();
    acme.stop_session(&second.id).unwrap();
    acme.forget_session(&gone.id).unwrap();
    start();
    let other = store.team(&team("other")).start_session(by("ada")).unwrap();
    let in_store = acme.sessions_of_user("ada").unwrap();
    drop((acme, store));
    repair_on(&shared, "/store", "/repaired").unwrap();
    for (path, expected) in [("/copy", &in_copy), ("/repaired", &in_store)] {
        let store = open(path);
        let acme = store.team(&team("acme"));
        assert_eq!(acme.sessions_of_user("ada").unwrap(), *expected, "{path}");
        let open = acme.active_sessions("ada").unwrap();
        acme.stop_session(&open[0].id).unwrap();
        assert_eq!(store.check().unwrap().damage, [], "{path}");
        let of_other = store.team(&team("other")).session(&other.id).unwrap();
        assert_eq!(of_other.is_some(), path == "/repaired");
    }
    // Without a catalog there are those of the log.
    disk.remove_file(Path::new("/store/catalog.redb")).unwrap();
    let report = repair_on(&shared, "/store", "/without").unwrap();
    assert!(report.lost_tables.contains(&CatalogTable::Sessions));
    let acme = open("/without").team(&team("acme"));
    let of_log: Vec<Session> = in_store
        .into_iter()
        .filter(|one| one.id != first.id)
        .collect();
    assert_eq!(acme.sessions_of_user("ada").unwrap(), of_log);
}

/// A power cut may bring files of the log back that were removed.
#[test]
fn a_repair_takes_no_session_from_what_is_sealed_of_the_log() {
    let disk = SimulatedDisk::new();
    let store = open_on(Arc::new(disk.clone()), "/store", quiet()).unwrap();
    let acme = store.team(&team("acme"));
    let [stopped, forgotten] = [(); 2].map(|()| acme.start_session(by("ada")).unwrap());
    let log = disk
        .paths()
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "log"))
        .unwrap();
    let file = disk.open(&log, OpenMode::Existing).unwrap();
    let mut before = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut before).unwrap();
    drop(file);
    acme.stop_session(&stopped.id).unwrap();
    acme.forget_session(&forgotten.id).unwrap();
    store.seal().unwrap();
    store.flush().unwrap();
    let expected = acme.sessions_of_user("ada").unwrap();
    assert_eq!(ids(&expected), [&stopped.id]);
    drop((acme, store));
    let file = disk.open(&log, OpenMode::CreateNew).unwrap();
    file.write_at(0, &before).unwrap();
    file.sync_data().unwrap();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    repair_on(&shared, "/store", "/repaired").unwrap();
    let store = open_on(shared, "/repaired", quiet()).unwrap();
    let found = store.team(&team("acme")).sessions_of_user("ada").unwrap();
    assert_eq!(found, expected);
}

#[test]
fn with_a_user_go_their_sessions_and_traces() {
    let clock = Arc::new(ManualClock::new(NOW));
    let disk = Arc::new(SimulatedDisk::new());
    let store = open_at(disk, "/store", quiet(), &clock).unwrap();
    let acme = store.team(&team("acme"));
    let other = store.team(&team("other"));
    let started = acme.start_session(by("ada")).unwrap();
    let stopped = acme.restart_session(&started.id).unwrap();
    acme.stop_session(&stopped.id).unwrap();
    let of_another = acme.start_session(by("adam")).unwrap();
    let of_other_team = other.start_session(by("ada")).unwrap();
    // Trace number, session and user of each span.
    let spans = [
        (0, Some(started.id.as_str()), None),
        (0, None, None),
        (1, None, Some("ada")),
        (1, Some("unknown"), Some("ada")),
        // A session that a span of the user names.
        (2, Some("unknown"), None),
        (2, None, None),
        (3, Some(&of_another.id), Some("adam")),
        (4, None, None),
        (5, None, Some("ada 2")),
    ];
    for half in [0, 1] {
        for (place, (trace, session, user)) in spans.iter().enumerate() {
            let mut span = span(trace * 10 + place as u64);
            span.attributes.retain(|one| one.key != "session.id");
            span.attributes
                .extend(session.map(|id| text("session.id", id)));
            span.attributes.extend(user.map(|id| text("user.id", id)));
            if place % 2 == half {
                acme.append(request([span.clone()])).unwrap();
                other.append(request([span])).unwrap();
            }
        }
        if half == 0 {
            store.seal().unwrap();
        }
    }
    // What retention hides goes too.
    acme.set_retention(Some(Duration::from_mins(1))).unwrap();
    acme.forget_user("ada").unwrap();
    acme.set_retention(None).unwrap();
    let left = |team: &Team| -> BTreeMap<u8, usize> {
        let mut traces = BTreeMap::new();
        for chunk in team.export().unwrap() {
            for row in chunk.unwrap().rows().unwrap() {
                *traces.entry(row.trace_id.0[15] - 1).or_default() += 1;
            }
        }
        traces
    };
    assert_eq!(left(&acme), BTreeMap::from([(3, 1), (4, 1), (5, 1)]));
    assert_eq!(left(&other).values().sum::<usize>(), spans.len());
    assert_eq!(acme.sessions_of_user("ada").unwrap(), []);
    assert_eq!(acme.session(&started.id).unwrap(), None);
    assert_eq!(
        ids(&acme.sessions_of_user("adam").unwrap()),
        [&of_another.id]
    );
    assert!(other.session(&of_other_team.id).unwrap().is_some());
    acme.forget_user("nobody").unwrap();
    assert_eq!(acme.rows_of_user("nobody").unwrap(), []);
}

/// Readers of a user's sessions see a restart whole, whatever is sealed meanwhile.
#[test]
fn a_restart_is_seen_whole_while_sessions_are_sealed() {
    let disk = Arc::new(SimulatedDisk::new());
    let store = open_on(disk, "/store", quiet()).unwrap();
    let acme = store.team(&team("acme"));
    let first = acme.start_session(by("ada")).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = HashSet::new();
            while seen.len() < 40 {
                let active = acme.active_sessions("ada").unwrap();
                assert_eq!(active.len(), 1, "{active:?}");
                seen.insert(active[0].id.clone());
            }
        });
        let mut id = first.id.clone();
        while !reader.is_finished() {
            id = acme.restart_session(&id).unwrap().id;
            store.seal().unwrap();
        }
        reader.join().unwrap();
    });
}

#[tokio::test]
async fn async_forms_do_the_same() {
    let disk = Arc::new(SimulatedDisk::new());
    let store = open_on(disk, "/store", quiet()).unwrap();
    let acme = store.team(&team("acme"));
    let first = acme.start_session_async(by("ada")).await.unwrap();
    let second = acme.restart_session_async(&first.id).await.unwrap();
    assert_eq!(second.predecessor, Some(first.id));
    let page = acme.start_page_trace_async(by("ada")).await.unwrap();
    assert_eq!(page.kind, SessionKind::PageTrace);
    let stopped = acme.stop_session_async(&second.id).await.unwrap();
    assert!(!stopped.is_open());
    assert_eq!(acme.active_sessions("ada").unwrap(), [page]);
    let local = acme.start_session_async(NewSession::default()).await;
    assert!(matches!(local, Err(Error::LocalDeployment { .. })));
}

/// Spans are stored whatever the registry knows of their session.
#[test]
fn no_append_asks_the_registry() {
    let disk = Arc::new(SimulatedDisk::new());
    let store = open_on(disk, "/store", quiet()).unwrap();
    let acme = store.team(&team("acme"));
    let session = acme.start_session(by("ada")).unwrap();
    acme.stop_session(&session.id).unwrap();
    for (id, n) in [session.id.as_str(), "unknown"].into_iter().zip(0..) {
        let mut span = span(n);
        span.attributes.insert(0, text("session.id", id));
        assert_eq!(acme.append(request([span])).unwrap().accepted, 1);
    }
    assert_eq!(acme.session_spans(&session.id).unwrap().len(), 1);
    assert_eq!(acme.session_spans("unknown").unwrap().len(), 1);
    assert_eq!(acme.session("unknown").unwrap(), None);
}
