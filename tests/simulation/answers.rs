//! Compares what the store answers with what the models say.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use futures::TryStreamExt;
use rand::Rng;
use rand::seq::IndexedRandom;
use spanstore::otlp::Span;
use spanstore::query::Order;
use spanstore::{Error, Month, Spans, Team, TraceId};
use spanstore_test_support::model::Model;
use spanstore_test_support::model::facts::{Facts, Value};
use spanstore_test_support::model::filter::Filter;
use spanstore_test_support::sessions;

use super::run::{Outcome, Run, TEAMS};

/// A span as a reader gets it, made comparable.
type Key = (i64, [u8; 16], [u8; 8]);

fn key(facts: &Facts) -> Key {
    (facts.start, facts.trace_id(), facts.span_id())
}

/// Whether a span that was read is the one that the model knows, in all that a
/// reader is told of it.
fn is_same(found: &Span, facts: &Facts) -> bool {
    *found == facts.span()
}

/// What was found, as the model's words.
///
/// # Errors
/// A span that the model does not know.
pub(crate) fn recognize(spans: &Spans, known: &[Facts]) -> Result<Vec<Facts>, String> {
    let rows = spans.rows().map_err(|error| error.to_string())?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let facts = known
            .iter()
            .find(|facts| facts.span_id() == row.span_id.0 && is_same(&row.otlp, facts))
            .ok_or_else(|| format!("a span that nobody appended: {:?}", row.otlp))?;
        let columns = [
            (Some(row.level.as_str()), facts.value("level")),
            (Some(row.status.as_str()), facts.value("status")),
            (row.session_id.as_deref(), facts.value("session_id")),
            (row.service.as_deref(), facts.value("service")),
        ];
        for (column, expected) in columns {
            if column.map(|text| Value::Text(text.into())) != expected {
                return Err(format!("column {column:?}, not {expected:?} of {facts:?}"));
            }
        }
        if (row.start_nanos, row.duration_nanos, row.status_code)
            != (facts.start, facts.duration, facts.status_code)
        {
            return Err(format!("other numbers of {facts:?}: {row:?}"));
        }
        found.push(facts.clone());
    }
    Ok(found)
}

/// All spans that were ever offered to a team.
fn known(models: &Model, name: &str) -> Vec<Facts> {
    let team = models.teams.get(name);
    team.map(|team| team.rows.iter().map(|row| row.facts.clone()).collect())
        .unwrap_or_default()
}

fn sorted(mut spans: Vec<Facts>) -> Vec<Facts> {
    spans.sort_unstable();
    spans
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Outcome {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: {found:?}, expected {expected:?}"))
    }
}

impl Run {
    /// Compares the rows of every team, the counters and the files.
    pub(crate) fn compare_all(&mut self, is_opened: bool) -> Outcome {
        self.disk.set_activity("check");
        for name in TEAMS {
            self.compare_team(name)?;
        }
        let faults = self.fault_count();
        let report = match self.store().check() {
            Ok(report) => report,
            Err(error) => return self.excuse("check", &error),
        };
        // What cannot be read now is damage too.
        let has_fault = self.fault_count() > faults || self.has_flip() || self.disk.is_crashed();
        if !report.damage.is_empty() {
            if !has_fault && !self.is_damaged {
                return Err(format!("damage: {:?}", report.damage));
            }
            self.counts.errors += 1;
        }
        let before = self.worlds.any().unsealed();
        self.worlds.keep(|model| model.sealed_to(report.hot_rows))?;
        if report.hot_rows != before && !is_opened {
            return Err(format!("{} rows are hot, not {before}", report.hot_rows));
        }
        self.counts.answers += 1;
        if is_opened {
            self.no_strays()?;
        }
        Ok(())
    }

    fn no_strays(&self) -> Outcome {
        let segments = self.store().segments().len();
        let paths = self.disk.paths();
        let of_store = paths
            .iter()
            .filter(|path| path.starts_with(super::run::ROOT));
        let files = of_store.filter(|path| path.to_string_lossy().contains("/segments/"));
        expect("files of segments", &files.count(), &segments)
    }

    /// Compares an export, the counters and the sessions of a team.
    fn compare_team(&mut self, name: &str) -> Outcome {
        let now = self.now();
        let handle = self.handle(name);
        let exported: Result<Vec<Spans>, Error> = handle.export().and_then(Iterator::collect);
        let exported = match exported {
            Ok(exported) => exported,
            Err(error) => return self.excuse("export", &error),
        };
        self.worlds.keep(|model| {
            let known = known(model, name);
            let mut found = Vec::new();
            for chunk in &exported {
                found.extend(recognize(chunk, &known)?);
            }
            model.sees(name, now, found)
        })?;
        for month in self.months() {
            self.compare_usage(&handle, month)?;
        }
        self.compare_retention(&handle)?;
        self.compare_sessions(&handle)
    }

    fn compare_retention(&mut self, handle: &Team) -> Outcome {
        let name = handle.id().as_str();
        let found = (handle.retention(), self.store().retention());
        self.worlds.keep(|model| {
            let team = model.teams.get(name);
            let expected = (team.and_then(|team| team.retention), model.retention);
            expect("retention", &found, &expected)
        })
    }

    fn compare_usage(&mut self, handle: &Team, month: Month) -> Outcome {
        let name = handle.id().as_str();
        let usage = match handle.usage(month) {
            Ok(usage) => usage,
            Err(error) => return self.excuse("usage", &error),
        };
        self.worlds.keep(|model| {
            let expected = (model.used(name, month), model.limit(name));
            let what = format!("usage of {name} in {month}");
            expect(&what, &(usage.used, usage.limit), &expected)
        })
    }

    fn compare_sessions(&mut self, handle: &Team) -> Outcome {
        let now = self.now();
        let found = match sessions(handle) {
            Ok(found) => found,
            Err(error) => return self.excuse("sessions", &error),
        };
        let name = handle.id().as_str();
        self.worlds
            .keep(|model| model.lists_sessions(name, now, found.clone()))
    }

    /// Asks one question by a random road.
    pub(crate) fn ask(&mut self) -> Outcome {
        self.disk.set_activity("query");
        let name = self.any_team();
        let handle = self.handle(&name);
        self.learn(&name)?;
        self.counts.answers += 1;
        match self.random.random_range(0..12) {
            0 | 9 => self.ask_trace(&handle),
            1 => self.ask_session(&handle),
            2 => self.ask_request(&handle),
            3 | 10 => self.compare_team(&name),
            4 | 11 => self.ask_count(&handle),
            5 => self.ask_facet(&handle),
            6 => self.ask_sql(&handle),
            _ => self.ask_rows(&handle),
        }
    }

    /// Lets the models see which of the rows that a merge may have dropped are
    /// left, so that other answers are told exactly.
    fn learn(&mut self, name: &str) -> Outcome {
        let is_open = |model: &Model| {
            let team = model.teams.get(name);
            team.is_some_and(|team| team.rows.iter().any(|row| row.may_be_gone))
        };
        if is_open(self.worlds.any()) {
            let name = name.to_owned();
            self.quietly(|run| run.compare_team(&name))?;
            self.disk.set_activity("query");
        }
        Ok(())
    }

    fn compare_spans(
        &mut self,
        what: &str,
        handle: &Team,
        found: Result<Spans, Error>,
        is_wanted: impl Fn(&Facts) -> bool,
    ) -> Outcome {
        let (now, name) = (self.now(), handle.id().as_str());
        let spans = match found {
            Ok(spans) => spans,
            Err(error) => return self.excuse(what, &error),
        };
        self.worlds.keep(|model| {
            let mut expected = model.find(name, now, None);
            expected.retain(&is_wanted);
            let found = recognize(&spans, &known(model, name))?;
            let starts: Vec<i64> = found.iter().map(|one| one.start).collect();
            if !starts.is_sorted() {
                return Err(format!("{what}: not by start"));
            }
            expect(what, &sorted(found), &sorted(expected))
        })
    }

    fn ask_trace(&mut self, handle: &Team) -> Outcome {
        let trace = self.random.random_range(0..self.setting.traces + 1);
        let id = TraceId(spanstore_test_support::spans::trace_id(trace));
        self.tell(format!("{}: trace {trace}", handle.id()));
        let found = handle.trace(id);
        self.compare_spans("trace", handle, found, |facts| facts.trace == trace)
    }

    fn ask_session(&mut self, handle: &Team) -> Outcome {
        let session = format!("session-{}", self.random.random_range(0..4));
        self.tell(format!("{}: {session}", handle.id()));
        let found = handle.session_spans(&session);
        self.compare_spans("session", handle, found, |facts| {
            facts.session.as_ref() == Some(&session)
        })
    }

    fn ask_request(&mut self, handle: &Team) -> Outcome {
        let request = format!("request-{}", self.random.random_range(0..6));
        self.tell(format!("{}: {request}", handle.id()));
        let found = handle.request_spans(&request);
        self.compare_spans("request", handle, found, |facts| {
            facts.request.as_ref() == Some(&request)
        })
    }

    fn random_filter(&mut self, handle: &Team) -> Filter {
        let spans = known(self.worlds.any(), handle.id().as_str());
        Filter::random(&mut self.random, &spans, 3)
    }

    fn ask_rows(&mut self, handle: &Team) -> Outcome {
        let (now, name) = (self.now(), handle.id().as_str());
        let filter = self.random_filter(handle);
        let is_oldest_first = self.random.random_bool(0.3);
        let limit = self
            .random
            .random_bool(0.7)
            .then(|| self.random.random_range(0..20));
        let since = self.random_bound(name);
        let until = self.random_bound(name);
        self.tell(format!(
            "{name}: rows where {}, since {since:?}, until {until:?}, limit {limit:?}",
            filter.text()
        ));
        let query = handle.query().filter(&filter.text());
        let mut query = query.map_err(|error| format!("{}: {error}", filter.text()))?;
        if is_oldest_first {
            query = query.order(Order::OldestFirst);
        }
        if let Some(limit) = limit {
            query = query.limit(limit);
        }
        if let Some(since) = since {
            query = query.since(since);
        }
        if let Some(until) = until {
            query = query.until(until);
        }
        let spans = match self.runtime.block_on(query.spans()) {
            Ok(spans) => spans,
            Err(error) => return self.excuse("rows", &error),
        };
        self.worlds.keep(|model| {
            let mut expected: Vec<Key> = model
                .find(name, now, Some(&filter))
                .iter()
                .filter(|one| since.is_none_or(|since| one.start >= since))
                .filter(|one| until.is_none_or(|until| one.start < until))
                .map(key)
                .collect();
            expected.sort_unstable();
            if !is_oldest_first {
                expected.reverse();
            }
            expected.truncate(limit.unwrap_or(usize::MAX));
            let found = recognize(&spans, &known(model, name))?;
            let wrong = found.iter().find(|one| filter.holds(one) != Some(true));
            if let Some(wrong) = wrong {
                return Err(format!("{} does not hold for {wrong:?}", filter.text()));
            }
            let found: Vec<Key> = found.iter().map(key).collect();
            expect("rows", &found, &expected)
        })
    }

    fn random_bound(&mut self, name: &str) -> Option<i64> {
        let known = known(self.worlds.any(), name);
        let start = known.choose(&mut self.random)?.start;
        self.random
            .random_bool(0.2)
            .then(|| start + self.random.random_range(-1..2))
    }

    fn ask_count(&mut self, handle: &Team) -> Outcome {
        let (now, name) = (self.now(), handle.id().as_str());
        let filter = self.random_filter(handle);
        self.tell(format!("{name}: count where {}", filter.text()));
        let query = handle.query().filter(&filter.text());
        let query = query.map_err(|error| format!("{}: {error}", filter.text()))?;
        let count = match self.runtime.block_on(query.count()) {
            Ok(count) => count,
            Err(error) => return self.excuse("count", &error),
        };
        self.worlds.keep(|model| {
            let expected = model.find(name, now, Some(&filter)).len() as u64;
            expect("count", &count, &expected)
        })?;
        self.compare_requests(handle, &filter)
    }

    /// Asks for the requests with a span that fulfils a filter.
    fn compare_requests(&mut self, handle: &Team, filter: &Filter) -> Outcome {
        let (now, name) = (self.now(), handle.id().as_str());
        let text = format!("any({})", filter.text());
        let query = handle.requests().filter(&text);
        let query = query.and_then(|query| query.columns(["trace_id", "spans", "start_time"]));
        let query = query.map_err(|error| format!("{text}: {error}"))?;
        let batches = match self.runtime.block_on(query.collect()) {
            Ok(batches) => batches,
            Err(error) => return self.excuse("requests", &error),
        };
        let mut found: BTreeMap<Vec<u8>, (i64, i64)> = BTreeMap::new();
        for rows in &batches {
            let traces = rows.column(0).as_fixed_size_binary();
            let spans = rows.column(1).as_primitive::<Int64Type>().values();
            let starts = rows.column(2).as_primitive::<TimestampNanosecondType>();
            for (row, trace) in traces.iter().enumerate() {
                let request = (spans[row], starts.value(row));
                let before = found.insert(trace.unwrap_or_default().to_vec(), request);
                if before.is_some() {
                    return Err(format!("{text}: a trace has two requests"));
                }
            }
        }
        self.worlds.keep(|model| {
            let mut traces: BTreeMap<Vec<u8>, Vec<Facts>> = BTreeMap::new();
            for facts in model.find(name, now, None) {
                traces
                    .entry(facts.trace_id().to_vec())
                    .or_default()
                    .push(facts);
            }
            traces.retain(|_, spans| spans.iter().any(|span| filter.holds(span) == Some(true)));
            let request = |spans: &Vec<Facts>| {
                let start = spans.iter().map(|span| span.start).min();
                (spans.len() as i64, start.unwrap_or_default())
            };
            let traces = traces.iter();
            let expected = traces.map(|(trace, spans)| (trace.clone(), request(spans)));
            expect("requests", &found, &expected.collect())
        })
    }

    fn ask_facet(&mut self, handle: &Team) -> Outcome {
        const FACETS: [&str; 5] = ["level", "service", "method", "kind", "status_code"];
        let (now, name) = (self.now(), handle.id().as_str());
        let filter = self.random_filter(handle);
        let column = *FACETS.choose(&mut self.random).unwrap_or(&"level");
        self.tell(format!("{name}: {column} where {}", filter.text()));
        let query = handle.query().filter(&filter.text());
        let query = query.map_err(|error| format!("{}: {error}", filter.text()))?;
        let counts = match self.runtime.block_on(query.facet(column)) {
            Ok(counts) => counts,
            Err(error) => return self.excuse("facet", &error),
        };
        let found: BTreeMap<Option<String>, u64> = counts
            .into_iter()
            .map(|one| (one.value, one.spans))
            .collect();
        self.worlds.keep(|model| {
            let mut expected: BTreeMap<Option<String>, u64> = BTreeMap::new();
            for facts in model.find(name, now, Some(&filter)) {
                let value = facts.value(column).map(|value| match value {
                    Value::Text(text) => text,
                    Value::Number(number) => number.to_string(),
                });
                *expected.entry(value).or_default() += 1;
            }
            expect("facet", &found, &expected)
        })
    }

    fn ask_sql(&mut self, handle: &Team) -> Outcome {
        let (now, name) = (self.now(), handle.id().as_str());
        let filter = (0..8)
            .map(|_| self.random_filter(handle))
            .find(Filter::is_sql);
        let Some(filter) = filter else { return Ok(()) };
        let text = format!(
            "select count(*), max(start_time), sum(duration) from spans where {}",
            filter.text()
        );
        self.tell(format!("{name}: {text}"));
        let batches = self.runtime.block_on(async {
            let stream = handle.sql(&text).await?;
            stream.try_collect::<Vec<_>>().await.map_err(Error::from)
        });
        let batches = match batches {
            Ok(batches) => batches,
            Err(error) => return self.excuse("sql", &error),
        };
        let row = batches.iter().find(|batch| batch.num_rows() == 1);
        let Some(row) = row else {
            return Err(format!("{text}: {batches:?}"));
        };
        let column = row.column(0).as_primitive::<Int64Type>();
        let starts = row.column(1).as_primitive::<TimestampNanosecondType>();
        let sums = row.column(2).as_primitive::<Int64Type>();
        let is_null = arrow::array::Array::is_null(starts, 0);
        let last = (!is_null).then(|| starts.value(0));
        let sum = (!is_null).then(|| sums.value(0));
        let found = (column.value(0), last, sum);
        self.worlds.keep(|model| {
            let spans = model.find(name, now, Some(&filter));
            let last = spans.iter().map(|one| one.start).max();
            let sum = last.map(|_| spans.iter().map(|one| one.duration).sum());
            expect("sql", &found, &(spans.len() as i64, last, sum))
        })
    }
}
