//! Sessions through random histories, and through faults at every operation.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use spanstore::io::{Fault, PowerCut, SimulatedDisk};
use spanstore::{Error, ManualClock, Session, Store};
use spanstore_test_support::{NOW, open_at, open_on, quiet, team};

use super::by;

/// What is done to sessions of two teams.
#[derive(Debug, Clone)]
enum Step {
    Start(usize, usize),
    Stop(usize, usize),
    Restart(usize, usize),
    Forget(usize, usize),
    ForgetTeam(usize),
    Seal,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let (team, any) = (0..2usize, 0..9usize);
    prop_oneof![
        4 => (team.clone(), 0..3usize).prop_map(|(team, user)| Step::Start(team, user)),
        3 => (team.clone(), any.clone()).prop_map(|(team, one)| Step::Stop(team, one)),
        2 => (team.clone(), any.clone()).prop_map(|(team, one)| Step::Restart(team, one)),
        1 => (team.clone(), any).prop_map(|(team, one)| Step::Forget(team, one)),
        1 => team.prop_map(Step::ForgetTeam),
        2 => Just(Step::Seal),
        1 => Just(Step::Reopen),
    ]
}

const TEAMS: [&str; 2] = ["acme", "acme-2"];
const USERS: [&str; 3] = ["ada", "", "ada 2"];

/// The sessions of each team, in the order of their starts.
type Known = [Vec<Session>; 2];

fn check(store: &Store, known: &Known) {
    for (name, known) in TEAMS.iter().zip(known) {
        let team = store.team(&team(name));
        for user in USERS {
            let of_user = |is_wanted: fn(&Session) -> bool| {
                let of_user = known.iter().rev().filter(|one| one.of.user == user);
                of_user
                    .filter(|one| is_wanted(one))
                    .cloned()
                    .collect::<Vec<_>>()
            };
            assert_eq!(team.sessions_of_user(user).unwrap(), of_user(|_| true));
            assert_eq!(
                team.active_sessions(user).unwrap(),
                of_user(Session::is_open)
            );
        }
        for session in known {
            assert_eq!(team.session(&session.id).unwrap().as_ref(), Some(session));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn sessions_are_those_of_a_model(steps in prop::collection::vec(step(), 1..40)) {
        let (disk, clock) = (SimulatedDisk::new(), Arc::new(ManualClock::new(NOW)));
        let open = || open_at(Arc::new(disk.clone()), "/store", quiet(), &clock).unwrap();
        let mut store = open();
        let mut known = Known::default();
        let mut seen = HashSet::new();
        for step in steps {
            clock.advance(Duration::from_nanos(1));
            match step {
                Step::Start(of, user) => {
                    let session = store.team(&team(TEAMS[of])).start_session(by(USERS[user]));
                    let session = session.unwrap();
                    prop_assert!(seen.insert(session.id.clone()));
                    known[of].push(session);
                }
                Step::Stop(of, one) => if let Some(before) = known[of].get_mut(one) {
                    let after = store.team(&team(TEAMS[of])).stop_session(&before.id).unwrap();
                    before.stopped_nanos = before.stopped_nanos.or(after.stopped_nanos);
                    prop_assert_eq!(&after, &*before);
                },
                Step::Restart(of, one) => if let Some(before) = known[of].get_mut(one) {
                    let new = store.team(&team(TEAMS[of])).restart_session(&before.id).unwrap();
                    before.stopped_nanos = before.stopped_nanos.or(Some(new.started_nanos));
                    known[of].push(new);
                },
                Step::Forget(of, one) => if one < known[of].len() {
                    let gone = known[of].remove(one);
                    for other in &mut known[of] {
                        other.predecessor = other.predecessor.take().filter(|id| *id != gone.id);
                    }
                    store.team(&team(TEAMS[of])).forget_session(&gone.id).unwrap();
                },
                Step::ForgetTeam(of) => {
                    store.team(&team(TEAMS[of])).forget().unwrap();
                    known[of].clear();
                }
                Step::Seal => drop(store.seal().unwrap()),
                Step::Reopen => {
                    drop(store);
                    store = open();
                }
            }
            check(&store, &known);
        }
    }
}

/// What is told of changes, until one fails: the sessions, and those of which it is not known
/// whether the last change is there.
#[derive(Debug, Default)]
struct Told {
    sessions: BTreeMap<String, Session>,
    unsure: Option<Change>,
}

#[derive(Debug)]
enum Change {
    Start,
    Stop(String),
    Restart(String),
    Forget(String),
}

fn workload(disk: &SimulatedDisk, told: &mut Told) -> Result<(), Error> {
    let mut known: Vec<String> = Vec::new();
    for round in 0..4usize {
        let store = open_on(Arc::new(disk.clone()), "/store", quiet())?;
        let acme = store.team(&team("acme"));
        for turn in 0..3usize {
            told.unsure = Some(Change::Start);
            let session = acme.start_session(by("ada"))?;
            known.push(session.id.clone());
            told.sessions.insert(session.id.clone(), session);
            if turn == 1 {
                let one = &known[(round * 5) % known.len()];
                if told.sessions.contains_key(one) {
                    told.unsure = Some(Change::Stop(one.clone()));
                    let session = acme.stop_session(one)?;
                    told.sessions.insert(one.clone(), session);
                }
                if round % 2 == 0 {
                    told.unsure = None;
                    store.seal()?;
                }
            }
        }
        let one = known[known.len() - 2].clone();
        told.unsure = Some(Change::Restart(one.clone()));
        let successor = acme.restart_session(&one)?;
        told.unsure = None;
        let stopped = acme.session(&one)?;
        told.sessions.insert(one.clone(), stopped.unwrap());
        known.push(successor.id.clone());
        told.sessions.insert(successor.id.clone(), successor);
        if round == 2 {
            let gone = known[0].clone();
            told.unsure = Some(Change::Forget(gone.clone()));
            acme.forget_session(&gone)?;
            told.sessions.remove(&gone);
        }
        told.unsure = None;
        drop(acme);
        store.close()?;
    }
    Ok(())
}

/// Checks a reopened store against what was told.
fn verify(store: &Store, told: &Told, context: &str) {
    let acme = store.team(&team("acme"));
    let found = acme.sessions_of_user("ada").unwrap();
    let found: BTreeMap<String, Session> =
        found.into_iter().map(|one| (one.id.clone(), one)).collect();
    for (id, session) in &told.sessions {
        let found = found.get(id);
        let is_stopped = || found.is_some_and(|one| !one.is_open());
        let is_right = match &told.unsure {
            Some(Change::Forget(gone)) if gone == id => true,
            Some(Change::Stop(one)) if one == id => found == Some(session) || is_stopped(),
            Some(Change::Restart(one)) if one == id => found == Some(session) || is_stopped(),
            _ => found == Some(session),
        };
        assert!(is_right, "{context}: {found:?} in place of {session:?}");
    }
    let new: Vec<&Session> = found
        .values()
        .filter(|one| !told.sessions.contains_key(&one.id))
        .collect();
    match (&told.unsure, new.as_slice()) {
        (Some(Change::Start), [one]) => assert!(one.is_open(), "{context}"),
        // Both or neither.
        (Some(Change::Restart(of)), new) => {
            let before = told.sessions[of].is_open();
            let is_stopped = before && !found[of].is_open();
            assert_eq!(is_stopped, before && !new.is_empty(), "{context}");
            let of_new = |one: &&Session| one.predecessor.as_ref() == Some(of);
            assert!(new.len() < 2 && new.iter().all(of_new), "{context}");
        }
        (_, new) => assert!(new.is_empty(), "{context}: {new:?} too"),
    }
}

#[test]
fn a_fault_at_every_operation_loses_no_session() {
    let whole = SimulatedDisk::new();
    let mut told = Told::default();
    workload(&whole, &mut told).unwrap();
    assert_eq!(told.sessions.len(), 15);
    let operations = whole.operations();
    assert!(operations > 100, "{operations}");
    let faults = [
        (Fault::Crash, PowerCut::KeepAll),
        (Fault::Crash, PowerCut::DropAll),
        (Fault::Crash, PowerCut::Some(7)),
        (Fault::Error, PowerCut::Some(8)),
        (Fault::NoSpace, PowerCut::DropAll),
    ];
    for (fault, cut) in faults {
        for operation in 0..operations {
            let context = format!("{fault:?} at operation {operation}, {cut:?}");
            let disk = SimulatedDisk::new();
            disk.fail_at(operation, fault);
            let mut told = Told::default();
            drop(workload(&disk, &mut told));
            disk.restart(cut);
            let store = open_on(Arc::new(disk.clone()), "/store", quiet());
            let store = store.unwrap_or_else(|error| panic!("{context}: {error}"));
            verify(&store, &told, &context);
            assert_eq!(store.check().unwrap().damage, [], "{context}");
            store.team(&team("acme")).start_session(by("ada")).unwrap();
            store.seal().unwrap();
        }
    }
}
