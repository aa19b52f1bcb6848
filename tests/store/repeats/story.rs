//! Random stories of bodies and keys, beside a list of what must be known.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use spanstore::Error;
use spanstore::io::{Fault, PowerCut};
use spanstore_test_support::{NOW, team};

use super::{Place, body};

/// What a store must know, kept in a list.
struct Model {
    /// Team, body, key, when it was accepted as the store knows, and as the log or
    /// the file says.
    appends: Vec<(&'static str, u64, Option<u64>, i64, i64)>,
    /// Spans that are not sealed.
    hot: BTreeSet<(&'static str, u64)>,
    /// Whether the log has records.
    has_records: bool,
    /// Spans that were accepted, each time.
    accepted: Vec<(&'static str, u64)>,
}

#[derive(Debug, PartialEq)]
enum Answer {
    Accepted,
    Duplicate,
    Repeated,
    Refused,
}

const BODY_NANOS: i64 = 600_000_000_000;
const KEY_NANOS: i64 = 144 * BODY_NANOS;

impl Model {
    fn append(&mut self, team: &'static str, body: u64, key: Option<u64>, now: i64) -> Answer {
        let mut of_team = self.appends.iter().rev().filter(|one| one.0 == team);
        let by_key = key.and_then(|key| {
            let mut known = of_team.clone();
            known.find(|one| one.2 == Some(key) && now - one.3 < KEY_NANOS)
        });
        if let Some(known) = by_key {
            return if known.1 == body {
                Answer::Repeated
            } else {
                Answer::Refused
            };
        }
        // An append with a key is noted twice: by its key, and by its body if it
        // was not known by that.
        let is_known =
            of_team.any(|one| one.1 == body && one.2.is_none() && now - one.3 < BODY_NANOS);
        self.has_records |= key.is_some() || !is_known;
        if key.is_some() {
            self.appends.push((team, body, key, now, now));
        }
        if is_known {
            return Answer::Repeated;
        }
        self.appends.push((team, body, None, now, now));
        if self.hot.insert((team, body)) {
            self.accepted.push((team, body));
            Answer::Accepted
        } else {
            Answer::Duplicate
        }
    }

    /// A seal forgets for good what is too old.
    fn seal(&mut self, now: i64) {
        if !std::mem::take(&mut self.has_records) {
            return;
        }
        self.hot.clear();
        self.appends.retain(|one| {
            let time = if one.2.is_some() {
                KEY_NANOS
            } else {
                BODY_NANOS
            };
            now - one.3 < time
        });
        for one in &mut self.appends {
            one.4 = one.3;
        }
    }
}

/// Random bodies, keys, steps of both clocks, seals, crashes and reopens; every
/// answer is the model's.
#[test]
fn a_random_story_is_the_models() {
    let seeds = std::env::var("SPANSTORE_SEED").ok();
    let seeds = seeds.map_or(0..40, |seed| {
        let seed: u64 = seed.parse().unwrap();
        seed..seed + 1
    });
    let mut answers = std::collections::BTreeMap::new();
    for seed in seeds {
        let mut random = StdRng::seed_from_u64(seed);
        let place = Place::new();
        let mut store = place.open();
        let mut model = Model {
            appends: Vec::new(),
            hot: BTreeSet::new(),
            has_records: false,
            accepted: Vec::new(),
        };
        // The time by which appends age.
        let mut now = NOW;
        let mut wall = NOW;
        for step in 0..120 {
            let context = format!("seed {seed}, step {step}");
            match random.random_range(0..20) {
                0..12 => {
                    let name = if random.random() { "acme" } else { "other" };
                    let n = random.random_range(0..5);
                    let key = random.random_bool(0.4).then(|| random.random_range(0..3));
                    let mut batch = body(n).any_time();
                    if let Some(key) = key {
                        batch = batch.with_idempotency_key([key as u8]);
                    }
                    let answer = match store.team(&team(name)).append(batch) {
                        Ok(receipt) if receipt.repeated => Answer::Repeated,
                        Ok(receipt) if receipt.accepted == 1 => Answer::Accepted,
                        Ok(_) => Answer::Duplicate,
                        Err(Error::IdempotencyKeyReused { .. }) => Answer::Refused,
                        Err(error) => panic!("{context}: {error}"),
                    };
                    let expected = model.append(name, n, key, now);
                    assert_eq!(answer, expected, "{context}");
                    *answers.entry(format!("{answer:?}")).or_insert(0) += 1;
                }
                12..15 => {
                    let minutes = [1, 4, 10, 600][random.random_range(0..4)];
                    let passed = minutes * 60_000_000_000;
                    place.clock.advance(Duration::from_nanos(passed as u64));
                    (now, wall) = (now + passed, wall + passed);
                    store.maintain().unwrap();
                }
                15 => {
                    wall += random.random_range(-7_200_000_000_000i64..7_200_000_000_000);
                    place.clock.set(wall);
                }
                16..18 => {
                    store.seal().unwrap();
                    model.seal(now);
                }
                18 => {
                    let teams = [
                        ("acme", store.team(&team("acme"))),
                        ("other", store.team(&team("other"))),
                    ];
                    let (name, handle) = &teams[random.random_range(0..2)];
                    handle.forget_session("nobody").unwrap();
                    model.has_records = true;
                    model.appends.retain(|one| one.0 != *name);
                }
                _ => {
                    let is_crash = random.random();
                    if is_crash {
                        place.disk.fail_at(place.disk.operations(), Fault::Crash);
                    }
                    drop(store);
                    if is_crash {
                        place.disk.restart(PowerCut::Some(seed));
                    }
                    store = place.open();
                    now = wall;
                    for one in &mut model.appends {
                        one.3 = one.4.min(now);
                    }
                }
            }
        }
        let found: usize = ["acme", "other"]
            .iter()
            .map(|name| {
                let handle = store.team(&team(name));
                let chunks = handle.export().unwrap();
                chunks.map(|spans| spans.unwrap().len()).sum::<usize>()
            })
            .sum();
        // Merges make one of equal spans.
        let distinct: BTreeSet<_> = model.accepted.iter().collect();
        assert!(
            (distinct.len()..=model.accepted.len()).contains(&found),
            "seed {seed}: {found}"
        );
        assert_eq!(store.check().unwrap().damage, [], "seed {seed}");
    }
    if answers.len() < 4 {
        assert!(std::env::var("SPANSTORE_SEED").is_ok(), "{answers:?}");
    }
}
