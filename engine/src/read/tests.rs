//! A directory that gives a team the rows of another: whatever looks at values refuses them.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use roaring::RoaringBitmap;
use spanstore_format::TeamId;
use spanstore_format::segment::Column;
use spanstore_format::span::SpanColumn;

use super::bounded::{Bounded, Limits};
use super::condition::{Condition, Leaf, Predicate};
use super::constraints::Constraints;
use super::interrupt::{Interrupt, Never};
use super::matching::Matching;
use super::plan::partitions;
use crate::error::Error;
use crate::{
    Clock, SpanBatchBuilder, SpanBuilder, SpanId, Store, StoreOptions, SystemClock, TraceId,
};

/// Enough for facets and indexes of values.
const ROWS: u32 = 9_000;

/// Reads some rows, and counts them.
type Read = Box<dyn Fn(&Matching, &RoaringBitmap) -> Result<u64, Error>>;

/// True of every row, once its values were read.
#[derive(Debug)]
struct Any;

impl Predicate for Any {
    fn holds(&self, rows: &RecordBatch) -> Result<BooleanArray, Error> {
        Ok((0..rows.num_rows()).map(|_| Some(true)).collect())
    }

    fn text(&self) -> String {
        "any".into()
    }
}

fn leaf(columns: &[SpanColumn]) -> Condition {
    Condition::Leaf(Leaf {
        table: spanstore_format::span::table(),
        columns: columns.iter().copied().map(Column::from).collect(),
        predicate: Arc::new(Any),
        necessary: Constraints::default(),
    })
}

fn store(directory: &std::path::Path) -> Store {
    let store = Store::open(directory, StoreOptions::default()).unwrap();
    for (number, team) in ["ours", "theirs"].into_iter().enumerate() {
        let mut batch = SpanBatchBuilder::new();
        for row in 0..ROWS {
            let mut trace = [number as u8 + 1; 16];
            trace[..4].copy_from_slice(&(row / 10 + 1).to_le_bytes());
            let span = SpanId((u64::from(row) + 1).to_le_bytes());
            let start = SystemClock.now_nanos().cast_unsigned();
            batch = batch.span(
                SpanBuilder::new(TraceId(trace), span, format!("{team} {}", row % 50))
                    .times(start, start + u64::from(row)),
            );
        }
        let team = store.team(&TeamId::new(team).unwrap());
        let receipt = team.append(batch.build()).unwrap();
        assert_eq!(receipt.accepted, u64::from(ROWS));
    }
    store.seal().unwrap();
    store
}

#[test]
fn rows_of_another_team_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let team = TeamId::new("ours").unwrap();
    let snapshot = store.team(&team).snapshot_of_all();
    let interrupt: Arc<dyn Interrupt> = Arc::new(Never::default());
    let matching = |is_forged: bool| {
        let sealed = partitions(&snapshot, &team, Limits::default(), &interrupt);
        let mut sealed = sealed.unwrap().pop().unwrap();
        assert_eq!(sealed.partition.rows, 0..ROWS);
        if is_forged {
            sealed.partition.rows.end += 10;
        }
        Matching::new(sealed, &interrupt)
    };
    let (name, duration) = (SpanColumn::Name, SpanColumn::Duration);
    let last: RoaringBitmap = (ROWS - 5..ROWS + 5).collect();
    let find = |condition: Condition| -> Read {
        Box::new(move |matching, rows| Ok(matching.find(&condition, rows.clone())?.len()))
    };
    let ways: Vec<(&str, Read)> = vec![
        (
            "a condition on codes",
            find(leaf(&[SpanColumn::TraceState])),
        ),
        ("a condition on values", find(leaf(&[duration]))),
        (
            "limits that values have to tell",
            find(Condition::Within(Bounded::Duration, Limits::from(5))),
        ),
        ("a condition on two columns", find(leaf(&[name, duration]))),
        (
            "different values",
            Box::new(move |matching, rows| {
                let mut count = 0;
                matching.each_value(&name.into(), rows, |_, counts| {
                    count += counts.iter().sum::<u64>();
                    Ok(())
                })?;
                Ok(count)
            }),
        ),
        (
            "codes of a column",
            Box::new(move |matching, rows| {
                let codes = matching.codes(&name.into(), 0, rows)?;
                Ok(codes.map_or(0, |(_, codes)| codes.len() as u64))
            }),
        ),
        (
            "rows",
            Box::new(move |matching, rows| {
                let mut count = 0;
                matching.each_batch(rows, &[name.into()], |rows, _| {
                    count += rows.len() as u64;
                    Ok(())
                })?;
                Ok(count)
            }),
        ),
    ];
    for (way, read) in &ways {
        let ours: RoaringBitmap = (ROWS - 5..ROWS).collect();
        assert_eq!(read(&matching(false), &ours).unwrap(), 5, "{way}");
        let forged = read(&matching(true), &last);
        assert!(
            matches!(forged, Err(Error::Corrupt { .. })),
            "{way}: {forged:?}"
        );
    }
}
