//! Answers questions about a team's spans in this process, for the comparison in
//! `benches/peers`.
//!
//! `answer STORE TEAM THREADS [BATCH]` opens a store and reads one question a line from
//! standard input, as JSON. With `BATCH` it answers from a store beside, to which it appends
//! the team's spans in batches of so many and which it does not seal.
//!
//!
//! | `kind` | with | answer |
//! |---|---|---|
//! | `trace`, `session` | `id` | trace id and span id of each row, in order |
//! | `newest` | `filter`, `since`, `until`, `columns`, `limit` | the same, or the columns that were asked for |
//! | `slowest` | the same | the same, slowest first |
//! | `page` | the same | the columns of the second page |
//! | `count` | `filter`, `since`, `until` | a number |
//! | `facets` | `filter`, `since`, `until`, `columns` | by column, each value with its number of spans |
//! | `sql` | `text` | the rows |
//!
//! With `"rows": "requests"` the question is about requests. What is null or absent is not
//! asked for; times are nanoseconds since 1970. Each
//! answer is a line `{"nanos": …, "answer": …}` or `{"error": …}`. The first line says
//! how long opening took, and the version. The time is that of the call with all its
//! Arrow batches; the JSON is made afterwards.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use futures::TryStreamExt;
use serde_json::{Map, Value, json};
use spanstore::otlp::{ExportTraceServiceRequest, ResourceSpans, ScopeSpans};
use spanstore::query::{Order, Query};
use spanstore::{Durability, QueryLimits, SpanBatch, Store, StoreOptions, Team, TeamId, TraceId};
use spanstore_format::id::to_hex;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// The columns that rows are told apart by.
const IDS: [&str; 2] = ["trace_id", "span_id"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (directory, team, threads, batch) = match arguments.as_slice() {
        [directory, team, threads] => (directory, team, threads, None),
        [directory, team, threads, batch] => (directory, team, threads, Some(batch.parse()?)),
        _ => return Err("usage: answer STORE TEAM THREADS [BATCH]".into()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut out = io::stdout().lock();
    let team = TeamId::new(team)?;
    let start = Instant::now();
    let mut store = Store::open(directory, options(threads.parse()?))?;
    let opened = reply(start.elapsed(), env!("CARGO_PKG_VERSION").into());
    let beside = tempfile::tempdir()?;
    if let Some(batch) = batch {
        store = unsealed(&store.team(&team), beside.path(), threads.parse()?, batch)?;
    }
    writeln!(out, "{opened}")?;
    out.flush()?;
    let team = store.team(&team);
    for line in io::stdin().lock().lines() {
        let line = line?;
        let answered = runtime.block_on(answer_line(&team, &line));
        let line = answered.unwrap_or_else(|error| json!({ "error": error.to_string() }));
        writeln!(out, "{line}")?;
        out.flush()?;
    }
    store.close()?;
    Ok(())
}

fn options(threads: usize) -> StoreOptions {
    let query_limits = QueryLimits {
        time: Duration::from_mins(1),
        memory_bytes: 1 << 30,
        total_memory_bytes: 1 << 30,
        threads,
    };
    StoreOptions {
        create: false,
        background: false,
        query_limits,
        ..StoreOptions::default()
    }
}

/// A store with a team's spans in memory, in batches of so many.
fn unsealed(team: &Team, directory: &Path, threads: usize, batch: usize) -> Result<Store> {
    let options = StoreOptions {
        create: true,
        background: true,
        durability: Durability::None,
        seal_rows: u64::MAX,
        seal_age: None,
        hot_bytes: usize::MAX,
        log_bytes: u64::MAX,
        ..options(threads)
    };
    let store = Store::open(directory, options)?;
    let copy = store.team(team.id());
    let mut waiting = Vec::new();
    let append = |spans: &mut Vec<ResourceSpans>| -> Result<()> {
        let resource_spans = std::mem::take(spans);
        let request = ExportTraceServiceRequest { resource_spans };
        copy.append(SpanBatch::from_otlp(request).any_time())?;
        Ok(())
    };
    for spans in team.export()? {
        for resource in spans?.to_otlp()?.resource_spans {
            for scope in resource.scope_spans {
                for span in scope.spans {
                    waiting.push(ResourceSpans {
                        resource: resource.resource.clone(),
                        schema_url: resource.schema_url.clone(),
                        scope_spans: vec![ScopeSpans {
                            scope: scope.scope.clone(),
                            schema_url: scope.schema_url.clone(),
                            spans: vec![span],
                        }],
                    });
                    if waiting.len() >= batch {
                        append(&mut waiting)?;
                    }
                }
            }
        }
    }
    append(&mut waiting)?;
    Ok(store)
}

fn reply(taken: Duration, answer: Value) -> Value {
    json!({ "nanos": taken.as_nanos() as u64, "answer": answer })
}

/// The line that answers a line.
async fn answer_line(team: &Team, line: &str) -> Result<Value> {
    let question: Value = serde_json::from_str(line)?;
    let (taken, answer) = answer(team, &question).await?;
    Ok(reply(taken, answer))
}

/// The answer to a question, and how long the store took for it.
async fn answer(team: &Team, question: &Value) -> Result<(Duration, Value)> {
    match text(question, "kind")? {
        "trace" => {
            let trace: TraceId = text(question, "id")?.parse()?;
            let start = Instant::now();
            let spans = team.trace(trace)?;
            Ok((start.elapsed(), rows(spans.batches(), &IDS)?))
        }
        "session" => {
            let session = text(question, "id")?;
            let start = Instant::now();
            let spans = team.session_spans(session)?;
            Ok((start.elapsed(), rows(spans.batches(), &IDS)?))
        }
        kind @ ("newest" | "slowest") => {
            let columns = names(question);
            let start = Instant::now();
            let mut query = listed(team, question)?;
            if kind == "slowest" {
                query = query.order(Order::SlowestFirst);
            }
            let batches = query.collect().await?;
            let taken = start.elapsed();
            let wanted: &[&str] = if columns.is_empty() { &IDS } else { &columns };
            Ok((taken, rows(&batches, wanted)?))
        }
        "page" => {
            let first = listed(team, question)?.page(None).await?;
            let cursor = first.next.ok_or("there is one page only")?;
            let start = Instant::now();
            let second = listed(team, question)?.page(Some(&cursor)).await?;
            Ok((start.elapsed(), rows(&[second.rows], &names(question))?))
        }
        "count" => {
            let start = Instant::now();
            let count = query(team, question)?.count().await?;
            Ok((start.elapsed(), count.into()))
        }
        "facets" => facets(team, question).await,
        "sql" => {
            let text = text(question, "text")?;
            let start = Instant::now();
            let batches: Vec<RecordBatch> = team.sql(text).await?.try_collect().await?;
            Ok((start.elapsed(), rows(&batches, &[])?))
        }
        kind => Err(format!("there is no kind {kind}").into()),
    }
}

/// The values of some columns.
async fn facets(team: &Team, question: &Value) -> Result<(Duration, Value)> {
    let columns = names(question);
    let start = Instant::now();
    let counts = query(team, question)?
        .facets(columns.iter().copied())
        .await?;
    let taken = start.elapsed();
    let facets: Map<String, Value> = columns
        .iter()
        .zip(counts)
        .map(|(column, counts)| {
            let counts = counts
                .into_iter()
                .map(|count| json!([count.value, count.spans]));
            ((*column).to_owned(), counts.collect())
        })
        .collect();
    Ok((taken, facets.into()))
}

/// The query of a question with its columns.
fn listed(team: &Team, question: &Value) -> Result<Query> {
    let columns = names(question);
    let query = query(team, question)?;
    Ok(if columns.is_empty() {
        query
    } else {
        query.columns(columns)?
    })
}

/// The query of a question: its filter, its range of time and its limit.
fn query(team: &Team, question: &Value) -> Result<Query> {
    let integer = |name: &str| question.get(name).and_then(Value::as_i64);
    let mut query = match question.get("rows").and_then(Value::as_str) {
        Some("requests") => team.requests(),
        _ => team.query(),
    };
    if let Some(filter) = question.get("filter").and_then(Value::as_str) {
        query = query.filter(filter)?;
    }
    if let Some(since) = integer("since") {
        query = query.since(since);
    }
    if let Some(until) = integer("until") {
        query = query.until(until);
    }
    if let Some(limit) = integer("limit") {
        query = query.limit(usize::try_from(limit)?);
    }
    Ok(query)
}

/// A text that a question must have.
fn text<'a>(question: &'a Value, name: &str) -> Result<&'a str> {
    let text = question.get(name).and_then(Value::as_str);
    text.ok_or_else(|| format!("the question has no {name}").into())
}

/// The columns that a question names.
fn names(question: &Value) -> Vec<&str> {
    let columns = question.get("columns").and_then(Value::as_array);
    columns
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// Rows of batches with these columns, with all where none is named.
fn rows(batches: &[RecordBatch], names: &[&str]) -> Result<Value> {
    let mut rows: Vec<Value> = Vec::new();
    for batch in batches {
        let mut columns = Vec::new();
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            if names.is_empty() || names.contains(&field.name().as_str()) {
                columns.push(cells(column)?.into_iter());
            }
        }
        rows.extend((0..batch.num_rows()).map(|_| {
            let row = columns.iter_mut().filter_map(Iterator::next);
            Value::Array(row.collect())
        }));
    }
    Ok(rows.into())
}

/// The values of a column: ids in hexadecimal digits, times as integers.
fn cells(column: &ArrayRef) -> Result<Vec<Value>> {
    Ok(match column.data_type() {
        DataType::FixedSizeBinary(_) => {
            let ids = column.as_fixed_size_binary();
            ids.iter().map(|id| id.map(to_hex).into()).collect()
        }
        kind if kind.is_integer() || matches!(kind, DataType::Timestamp(..)) => {
            let numbers = cast(column, &DataType::Int64)?;
            let numbers = numbers.as_primitive::<Int64Type>();
            numbers.iter().map(Value::from).collect()
        }
        kind if kind.is_floating() => {
            let numbers = cast(column, &DataType::Float64)?;
            let numbers = numbers.as_primitive::<Float64Type>();
            numbers.iter().map(Value::from).collect()
        }
        _ => {
            let texts = cast(column, &DataType::Utf8)?;
            let texts = texts.as_string::<i32>();
            texts.iter().map(Value::from).collect()
        }
    })
}
