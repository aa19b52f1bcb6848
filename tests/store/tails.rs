//! What comes in, as it is acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::executor::block_on;
use futures::future::join;
use proptest::prelude::*;
use spanstore::io::{Fault, FileKind, Operation, PlannedFault, SimulatedDisk};
use spanstore::otlp::Span;
use spanstore::query::{Arrivals, Query, Tail};
use spanstore::{Error, NewSession, Store, Team};
use spanstore_test_support::spans::{request, span, text, trace_id};
use spanstore_test_support::{open_on, quiet, team};

fn append(team: &Team, spans: impl IntoIterator<Item = Span>) {
    let receipt = team.append(request(spans)).unwrap();
    assert!(receipt.accepted > 0 && receipt.refused.is_empty());
}

fn open(disk: &SimulatedDisk) -> Store {
    open_on(Arc::new(disk.clone()), "/store", quiet()).unwrap()
}

/// The numbers of spans, as `span` makes them.
fn numbers(arrivals: &Arrivals) -> Vec<u64> {
    let ids = arrivals.rows.column_by_name("span_id").unwrap();
    let ids = ids.as_fixed_size_binary().iter().flatten();
    ids.map(|id| u64::from_be_bytes(id.try_into().unwrap()) - 1)
        .collect()
}

/// The numbers of traces, and how many spans each has.
fn requests(arrivals: &Arrivals) -> BTreeMap<u64, i64> {
    let ids = arrivals.rows.column_by_name("trace_id").unwrap();
    let spans = arrivals.rows.column_by_name("spans").unwrap();
    let spans = spans.as_primitive::<Int64Type>().values();
    let ids = ids.as_fixed_size_binary().iter().flatten();
    let number = |id: &[u8]| (0..100).find(|n| trace_id(*n) == id).unwrap();
    let found: BTreeMap<u64, i64> = ids.map(number).zip(spans.iter().copied()).collect();
    assert_eq!(found.len(), arrivals.rows.num_rows());
    found
}

fn tail(query: Query, cursor: &str) -> Tail {
    query.tail_from(cursor).unwrap()
}

#[test]
fn spans_are_given_when_they_are_acknowledged() {
    let store = open(&SimulatedDisk::new());
    let acme = store.team(&team("acme"));
    append(&acme, (0..5).map(span));
    let errors = acme.query().filter("method = 'GET'").unwrap();
    let mut all = acme.query().tail().unwrap();
    let mut some = errors.tail().unwrap();
    let come = async {
        // Those of another team, and those that do not fulfil the filter, are none.
        append(&store.team(&team("other")), [span(6)]);
        append(&acme, [span(7)]);
        append(&acme, [span(9), span(8)]);
    };
    let (mut first, ()) = block_on(join(all.next(), come));
    let mut found = numbers(first.as_ref().unwrap());
    while found.len() < 3 {
        first = block_on(all.next());
        found.extend(numbers(first.as_ref().unwrap()));
    }
    assert_eq!(
        found,
        [7, 8, 9],
        "in the order of the appends, then of their starts"
    );
    let some = block_on(some.next()).unwrap();
    assert_eq!((numbers(&some), some.missed), (vec![8], 0));
    assert_eq!(some.rows.num_columns(), acme_columns(&acme));
    assert_eq!(some.sequences.len(), 1);
}

fn acme_columns(acme: &Team) -> usize {
    let rows = block_on(acme.query().limit(1).collect()).unwrap();
    rows[0].num_columns()
}

#[test]
fn a_tail_goes_on_at_its_cursor() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let acme = store.team(&team("acme"));
    let begin = acme.query().tail().unwrap().cursor();
    append(&acme, (0..10).map(span));
    store.seal().unwrap();
    append(&acme, (10..15).map(span));
    append(&acme, (15..18).map(span));
    // What one append brought is given at once.
    let few = || acme.query().limit(4).columns(["span_id"]).unwrap();
    let mut first = tail(few(), &begin);
    let one = block_on(first.next()).unwrap();
    assert_eq!(numbers(&one), (0..10).collect::<Vec<_>>());
    assert_eq!(one.cursor, first.cursor());
    store.seal().unwrap();
    store.compact().unwrap();
    let two = block_on(first.next()).unwrap();
    assert_eq!(numbers(&two), (10..15).collect::<Vec<_>>());
    assert!(two.sequences.iter().all(|one| *one == two.sequences[0]));
    drop((first, acme, store));
    let store = open(&disk);
    let acme = store.team(&team("acme"));
    let few = || acme.query().limit(4).columns(["span_id"]).unwrap();
    let three = block_on(tail(few(), &two.cursor).next()).unwrap();
    assert_eq!(numbers(&three), [15, 16, 17]);
    assert_eq!(three.rows.num_columns(), 1);
    // A reader who is too slow is told, and has all of it from the cursor before.
    let mut skipping = tail(few(), &begin).skipping();
    let last = block_on(skipping.next()).unwrap();
    assert_eq!((numbers(&last), last.missed), ((10..18).collect(), 10));
    assert_eq!(last.cursor, three.cursor);
}

#[test]
fn requests_are_given_when_they_are_seen_and_when_they_have_changed() {
    let store = open(&SimulatedDisk::new());
    let acme = store.team(&team("acme"));
    let all = || acme.requests().columns(["trace_id", "spans"]).unwrap();
    let begin = all().tail().unwrap().cursor();
    let of_errors = acme.requests().filter("errors > 0 and spans > 3").unwrap();
    let from_errors = of_errors.clone().tail().unwrap().cursor();
    append(&acme, [span(0), span(20), span(10)]);
    let mut live = tail(all(), &begin);
    let first = block_on(live.next()).unwrap();
    assert_eq!(requests(&first), [(0, 1), (1, 1), (2, 1)].into());
    let ids = first.rows.column(0).as_fixed_size_binary();
    assert_eq!(ids.value(1), trace_id(1), "of one append by their starts");
    store.seal().unwrap();
    append(&acme, [span(11), span(30)]);
    append(&acme, [span(12)]);
    let second = block_on(live.next()).unwrap();
    assert_eq!(requests(&second), [(1, 3), (3, 1)].into());
    assert_eq!(second.sequences.len(), 2);
    assert!(second.sequences[0] < second.sequences[1], "{second:?}");
    let ids = second.rows.column(0).as_fixed_size_binary();
    assert_eq!(
        ids.value(1),
        trace_id(1),
        "the one that changed last is last"
    );
    // One that fulfils the filter now is given now.
    let mut failed = span(13);
    failed.attributes = vec![text("level", "error")];
    append(&acme, [failed]);
    let found = block_on(tail(of_errors, &from_errors).next()).unwrap();
    assert_eq!(requests(&found), [(1, 4)].into());
    // Few at a time, and those that were left out are told.
    let two = || all().limit(2);
    let one = block_on(tail(two(), &begin).next()).unwrap();
    assert_eq!(requests(&one), [(0, 1), (2, 1)].into());
    let rest = block_on(tail(two(), &one.cursor).next()).unwrap();
    assert_eq!(requests(&rest), [(1, 4), (3, 1)].into());
    let last = block_on(tail(two(), &begin).skipping().next()).unwrap();
    assert_eq!((requests(&last), last.missed), ([(1, 4), (3, 1)].into(), 2));
    assert_eq!(last.cursor, rest.cursor);
}

/// A tail that is behind looks at some appends at a time.
#[test]
fn a_request_that_changes_again_is_given_then_alone() {
    let store = open(&SimulatedDisk::new());
    let acme = store.team(&team("acme"));
    let query = || acme.requests().limit(1).columns(["trace_id", "spans"]);
    let mut behind = query().unwrap().tail().unwrap();
    for n in 0..50 {
        append(&acme, [numbered(n, 0, false)]);
    }
    append(&acme, [numbered(50, 1, false)]);
    append(&acme, [numbered(51, 0, false)]);
    let first = block_on(behind.next()).unwrap();
    assert_eq!(requests(&first), [(1, 1)].into());
    let second = block_on(behind.next()).unwrap();
    assert_eq!(requests(&second), [(0, 51)].into());
}

#[test]
fn requests_that_are_left_out_are_told_later_when_none_is_to_be_given() {
    let store = open(&SimulatedDisk::new());
    let acme = store.team(&team("acme"));
    let large = acme.requests().filter("spans > 1").unwrap().limit(1);
    let mut all = large
        .columns(["trace_id", "spans"])
        .unwrap()
        .tail()
        .unwrap()
        .skipping();
    append(&acme, [span(10), span(11)]);
    append(&acme, [span(0)]);
    let later = async {
        append(&acme, [span(20), span(21)]);
    };
    // The last one alone does not fulfil the filter.
    let (found, ()) = block_on(join(all.next(), later));
    let found = found.unwrap();
    assert_eq!(requests(&found), [(2, 2)].into());
    assert!(found.missed >= 1, "{found:?}");
}

#[test]
fn a_cursor_knows_what_has_no_rows() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    append(&store.team(&team("acme")), [span(1)]);
    start_session(&store);
    let acme = store.team(&team("acme"));
    let (cursor, page) = (acme.query().tail().unwrap().cursor(), acme.query().limit(1));
    append(&acme, [span(2)]);
    start_session(&store);
    let next = block_on(page.page(None)).unwrap().next.unwrap();
    drop((acme, store));
    let acme = open(&disk).team(&team("acme"));
    assert_eq!(
        numbers(&block_on(tail(acme.query(), &cursor).next()).unwrap()),
        [2]
    );
    let page = block_on(acme.query().limit(1).page(Some(&next))).unwrap();
    assert_eq!(page.rows.num_rows(), 1);
}

#[test]
fn cursors_of_others_are_refused() {
    let store = open(&SimulatedDisk::new());
    let acme = store.team(&team("acme"));
    append(&acme, (0..3).map(span));
    let cursor = acme.query().tail().unwrap().cursor();
    let refused = |query: Query| {
        let error = query.tail_from(&cursor).unwrap_err();
        assert!(matches!(error, Error::InvalidCursor { .. }), "{error:?}");
    };
    refused(acme.requests());
    refused(store.team(&team("other")).query());
    refused(acme.query().filter("level = 'error'").unwrap());
    refused(open(&SimulatedDisk::new()).team(&team("acme")).query());
    let page = block_on(acme.query().limit(1).page(None)).unwrap();
    let error = acme.query().tail_from(&page.next.unwrap()).unwrap_err();
    assert!(matches!(error, Error::InvalidCursor { .. }), "{error:?}");
    let error = block_on(acme.query().page(Some(&cursor))).unwrap_err();
    assert!(matches!(error, Error::InvalidCursor { .. }), "{error:?}");
    let error = acme.query().limit(10_001).tail().unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { limit: 10_000, .. }),
        "{error:?}"
    );
    let error = acme.sessions().tail().unwrap_err();
    assert!(matches!(error, Error::UnknownColumn { .. }), "{error:?}");
}

#[test]
fn a_tail_ends_with_the_store_after_what_came() {
    let store = open(&SimulatedDisk::new());
    let acme = store.team(&team("acme"));
    let mut waiting = acme.query().tail().unwrap();
    let (end, ()) = block_on(join(waiting.next(), async { store.close().unwrap() }));
    assert!(matches!(end, Err(Error::Closed)), "{end:?}");

    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let acme = store.team(&team("acme"));
    let mut behind = acme.query().tail().unwrap();
    append(&acme, [span(1)]);
    let mut waiting = acme.query().tail().unwrap();
    let fail = async {
        disk.plan(PlannedFault {
            fault: Fault::Error,
            file: Some(FileKind::Log),
            operation: Some(Operation::Sync),
            after: 0,
        });
        let error = acme.append(request([span(2)])).unwrap_err();
        assert!(matches!(error, Error::Poisoned { .. }), "{error:?}");
    };
    let (end, ()) = block_on(join(waiting.next(), fail));
    assert!(matches!(end, Err(Error::Poisoned { .. })), "{end:?}");
    // What was acknowledged before is given all the same.
    assert_eq!(numbers(&block_on(behind.next()).unwrap()), [1]);
    let end = block_on(behind.next());
    assert!(matches!(end, Err(Error::Poisoned { .. })), "{end:?}");
}

#[test]
fn what_is_forgotten_before_a_tail_comes_to_it_is_not_given() {
    let store = open(&SimulatedDisk::new());
    let acme = store.team(&team("acme"));
    let mut all = acme.query().tail().unwrap();
    let mut of_requests = acme.requests().tail().unwrap();
    append(&acme, [span(0), span(10), span(20)]);
    acme.forget_trace(spanstore::TraceId(trace_id(1))).unwrap();
    assert_eq!(numbers(&block_on(all.next()).unwrap()), [0, 20]);
    let found = block_on(of_requests.next()).unwrap();
    assert_eq!(requests(&found), [(0, 1), (2, 1)].into());
}

/// What moves rows, or the sequence, and nothing that a tail gives.
#[derive(Debug, Clone, Copy)]
enum Move {
    Seal,
    Merge,
    Reopen,
    /// A session is started, whose log record has no rows.
    Session,
}

fn moved(store: Store, disk: &SimulatedDisk, what: Move) -> Store {
    match what {
        Move::Seal => drop(store.seal().unwrap()),
        Move::Merge => drop(store.compact().unwrap()),
        Move::Session => start_session(&store),
        Move::Reopen => {
            drop(store);
            return open(disk);
        }
    }
    store
}

/// What happens to a store between two looks.
#[derive(Debug, Clone)]
enum Step {
    /// Spans of these traces come, each with a level.
    Append(Vec<(u64, bool)>),
    Move(Move),
    /// The tail gives something, if there is something.
    Look,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let spans = proptest::collection::vec((0..6_u64, any::<bool>()), 1..9);
    let step = prop_oneof![
        4 => spans.prop_map(Step::Append),
        4 => prop_oneof![
            Just(Move::Seal),
            Just(Move::Merge),
            Just(Move::Reopen),
            Just(Move::Session),
        ].prop_map(Step::Move),
        3 => Just(Step::Look),
    ];
    proptest::collection::vec(step, 1..30)
}

fn start_session(store: &Store) {
    let new = NewSession {
        environment: "preview".into(),
        ..NewSession::default()
    };
    store.team(&team("acme")).start_session(new).unwrap();
}

/// A span of a trace, with a number of its own.
fn numbered(number: u64, trace: u64, is_bad: bool) -> Span {
    let mut span = span(number);
    span.trace_id = trace_id(trace).to_vec();
    let level = if is_bad { "error" } else { "info" };
    span.attributes = vec![text("level", level)];
    span
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_tail_gives_each_span_once_whatever_happens(
        steps in steps(),
        limit in 1..20_usize,
        skips in any::<bool>(),
        is_filtered in any::<bool>(),
    ) {
        let disk = SimulatedDisk::new();
        let mut store = open(&disk);
        let filter = if is_filtered { "level = 'error'" } else { "true" };
        let query = |store: &Store| {
            let query = store.team(&team("acme")).query().filter(filter).unwrap();
            query.limit(limit).columns(["span_id", "sequence"]).unwrap()
        };
        let mut cursor = query(&store).tail().unwrap().cursor();
        let mut next = 0;
        // Of each append those that are to be given.
        let mut expected: Vec<Vec<u64>> = Vec::new();
        for step in steps.into_iter().chain(vec![Step::Look; 40]) {
            match step {
                Step::Append(spans) => {
                    let first = next;
                    next += spans.len() as u64;
                    let of_append = || (first..).zip(&spans);
                    let spans = of_append().map(|(n, (trace, is_bad))| numbered(n, *trace, *is_bad));
                    append(&store.team(&team("acme")), spans);
                    let given = of_append().filter(|(_, (_, is_bad))| *is_bad || !is_filtered);
                    let given: Vec<u64> = given.map(|(n, _)| n).collect();
                    expected.extend((!given.is_empty()).then_some(given));
                }
                Step::Move(what) => store = moved(store, &disk, what),
                Step::Look if expected.is_empty() => cursor = tail(query(&store), &cursor).cursor(),
                Step::Look => {
                    let mut tail = tail(query(&store), &cursor);
                    if skips {
                        tail = tail.skipping();
                    }
                    let found = block_on(tail.next()).unwrap();
                    let own = found.rows.column(1).as_primitive::<Int64Type>().values();
                    let own: Vec<u64> = own.iter().map(|one| one.cast_unsigned()).collect();
                    prop_assert_eq!(&own, &found.sequences);
                    prop_assert!(own.is_sorted());
                    let mut numbers = numbers(&found);
                    numbers.sort_unstable();
                    let all: usize = expected.iter().map(Vec::len).sum();
                    if skips {
                        let missed = found.missed as usize;
                        let left: Vec<u64> = expected.concat();
                        prop_assert_eq!(&numbers, &left[missed..]);
                        prop_assert!(numbers.len() >= limit.min(all));
                        expected.clear();
                    } else {
                        prop_assert_eq!(found.missed, 0);
                        let mut appends = 0;
                        let mut given: Vec<u64> = Vec::new();
                        while given.len() < limit && appends < expected.len() {
                            given.extend(&expected[appends]);
                            appends += 1;
                        }
                        prop_assert_eq!(&numbers, &given);
                        expected.drain(..appends);
                    }
                    cursor = found.cursor;
                }
            }
        }
        prop_assert!(expected.is_empty());
    }

    #[test]
    fn a_tail_of_requests_ends_with_each_as_it_is(
        steps in steps(),
        limit in 1..5_usize,
    ) {
        let disk = SimulatedDisk::new();
        let mut store = open(&disk);
        let query = |store: &Store| {
            let query = store.team(&team("acme")).requests().limit(limit);
            query.columns(["trace_id", "spans"]).unwrap()
        };
        let mut cursor = query(&store).tail().unwrap().cursor();
        let mut next = 0;
        // Those that have changed since the tail gave them, and all.
        let mut changed: BTreeMap<u64, i64> = BTreeMap::new();
        let mut all: BTreeMap<u64, i64> = BTreeMap::new();
        for step in steps.into_iter().chain(vec![Step::Look; 40]) {
            match step {
                Step::Append(spans) => {
                    let of_append = (next..).zip(&spans);
                    let of_append = of_append.map(|(n, (trace, is_bad))| numbered(n, *trace, *is_bad));
                    append(&store.team(&team("acme")), of_append);
                    next += spans.len() as u64;
                    for (trace, _) in &spans {
                        let spans = all.entry(*trace).or_default();
                        *spans += 1;
                    }
                    for (trace, _) in spans {
                        changed.insert(trace, all[&trace]);
                    }
                }
                Step::Move(what) => store = moved(store, &disk, what),
                Step::Look if changed.is_empty() => cursor = tail(query(&store), &cursor).cursor(),
                Step::Look => {
                    let found = block_on(tail(query(&store), &cursor).next()).unwrap();
                    for (trace, spans) in requests(&found) {
                        prop_assert_eq!(changed.remove(&trace), Some(spans));
                    }
                    prop_assert!(found.sequences.is_sorted());
                    cursor = found.cursor;
                }
            }
        }
        prop_assert!(changed.is_empty());
    }
}
