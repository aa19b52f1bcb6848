//! The questions of a dashboard, with constants that differ from time to time and with the
//! answers that they must have, worked out span by span.

mod constants;
mod list;

use std::pin::Pin;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use spanstore::query::FacetCount;
use spanstore::{Error, SpanRow, Team};
use tokio::runtime::Runtime;

pub use self::constants::{Constants, constants};
pub use self::list::QUESTIONS;

/// The columns whose values are counted.
const FACETS: [&str; 8] = [
    "level",
    "service",
    "route",
    "status_code",
    "kind",
    "origin",
    "status",
    "name",
];

/// What a question was answered with.
#[derive(Debug)]
pub enum Answer {
    /// A number of spans.
    Count(u64),
    /// The values of eight columns.
    Facets(Vec<Vec<FacetCount>>),
    /// Rows.
    Rows(Vec<RecordBatch>),
}

type Asked<'a> = Pin<Box<dyn Future<Output = Result<Answer, Error>> + 'a>>;

/// A question.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub name: &'static str,
    ask: for<'a> fn(&'a Team, &'a Constants) -> Asked<'a>,
    /// The answer out of all spans, the newest first.
    work_out: fn(&[SpanRow], &Constants) -> Vec<String>,
}

impl Question {
    /// Asks a team.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn ask(&self, runtime: &Runtime, team: &Team, constants: &Constants) -> Answer {
        let answer = runtime.block_on((self.ask)(team, constants));
        answer.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Asks a team with all constants, and compares the answers with what they must be.
    ///
    /// # Panics
    /// When one differs.
    pub fn check(&self, runtime: &Runtime, team: &Team, expected: &[(Constants, Vec<String>)]) {
        for (constants, expected) in expected {
            let answer = lines(&self.ask(runtime, team, constants));
            assert_eq!(&answer, expected, "{} with {constants:?}", self.name);
        }
    }

    /// The constants of the question, with the answers out of all spans, the newest first.
    pub fn expected(&self, newest_first: &[SpanRow]) -> Vec<(Constants, Vec<String>)> {
        let with_answer = |constants| {
            let answer = (self.work_out)(newest_first, &constants);
            (constants, answer)
        };
        let constants = constants(newest_first).into_iter();
        constants.map(with_answer).collect()
    }
}

/// An answer as texts that can be compared.
fn lines(answer: &Answer) -> Vec<String> {
    match answer {
        Answer::Count(count) => vec![count.to_string()],
        Answer::Facets(facets) => {
            let mut lines = Vec::new();
            for (column, counts) in FACETS.iter().zip(facets) {
                for FacetCount { value, spans } in counts {
                    lines.push(format!("{column} {value:?} {spans}"));
                }
            }
            lines.sort_unstable();
            lines
        }
        Answer::Rows(batches) => batches.iter().flat_map(lines_of).collect(),
    }
}

/// The rows of a batch; of whole spans their ids.
fn lines_of(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("-");
    let whole = batch.column_by_name("attributes").is_some();
    let columns = match batch.column_by_name("span_id") {
        Some(ids) if whole => std::slice::from_ref(ids),
        _ => batch.columns(),
    };
    let formats = columns
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options));
    let formats: Vec<ArrayFormatter<'_>> = formats.collect::<Result<_, _>>().expect("values");
    let line = |row| {
        let values = formats.iter().map(|format| format.value(row).to_string());
        values.collect::<Vec<_>>().join(" ")
    };
    (0..batch.num_rows()).map(line).collect()
}
