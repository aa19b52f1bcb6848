//! `demo`: a session from its start to a trace, in commands that can be typed again.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use clap::Parser;
use spanstore::SpanBatch;
use spanstore_format::otlp::{ExportTraceServiceRequest, KeyValue, Span, Value};
use spanstore_format::{Month, TraceId};

use super::{Access, Out, open, run as run_command, runtime};
use crate::arguments::{Arguments, GlobalOptions};
use crate::error::Error;
use crate::generate::Application;
use crate::time::{SECOND, now_nanos};

const SPANS: u64 = 2_000;
const SEED: u64 = 1;
/// The traces lie in the last hour.
const PERIOD: i64 = 3_600 * SECOND;
/// Where the store is made if no other place is named.
const STORE: &str = "./spanstore-demo";
/// Who starts the session.
const USER: &str = "ada";
/// What spans carry the id of their session as.
const SESSION: &str = "session.id";

pub(super) fn run(options: &GlobalOptions, out: Out<'_>) -> Result<(), Error> {
    let demo = Demo {
        options: GlobalOptions {
            store: Some(options.store.clone().unwrap_or_else(|| STORE.into())),
            team: options.team.clone(),
            format: None,
            time_limit: options.time_limit,
        },
    };
    let store = demo.options.store_directory();
    if std::fs::read_dir(store).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::Usage(format!(
            "the demo makes a store of its own, and {} is not empty: name another directory with \
             --store, or remove it",
            store.display()
        )));
    }
    demo.run(out)
}

struct Demo {
    options: GlobalOptions,
}

impl Demo {
    fn run(&self, out: Out<'_>) -> Result<(), Error> {
        let start = [
            "session",
            "start",
            "--user",
            USER,
            "--environment",
            "preview",
        ];
        self.command(&start, out)?;
        let session = self.append(out)?;
        self.command(&["sessions", "--search", "state:open"], out)?;
        let of_session = format!("session:{session}");
        let slowest = ["--order", "errors", "--limit", "5"];
        self.command(
            &[&["requests", "--search", &of_session], &slowest[..]].concat(),
            out,
        )?;
        if let Some(trace) = self.trace(&of_session)? {
            self.command(&["trace", &trace.to_string()], out)?;
        }
        self.command(&["facets", "level", "service", "--requests"], out)?;
        self.command(&["session", "stop", &session], out)?;
        self.command(&["usage"], out)
    }

    /// Runs a command as a person would, below its words.
    fn command(&self, words: &[&str], out: Out<'_>) -> Result<(), Error> {
        let store = self.options.store_directory().display().to_string();
        let team = self.options.team.as_str();
        let mut all = vec!["spanstore"];
        all.extend(words);
        all.extend(["--store", &store]);
        if team != "default" {
            all.extend(["--team", team]);
        }
        let quoted = |word: &&str| {
            let is_plain =
                |letter: char| letter.is_ascii_alphanumeric() || "-_./:=".contains(letter);
            if word.chars().all(is_plain) {
                (*word).to_owned()
            } else {
                format!("'{}'", word.replace('\'', "'\\''"))
            }
        };
        let line: Vec<String> = all.iter().map(quoted).collect();
        writeln!(out, "\n$ {}", line.join(" "))?;
        let arguments = Arguments::try_parse_from(&all);
        let arguments = arguments.map_err(|error| Error::Usage(error.to_string()))?;
        run_command(&arguments, out)?;
        Ok(())
    }

    /// Appends the traces of a sample application. What one visitor did carries the id of the
    /// session that was started, which is answered.
    fn append(&self, out: Out<'_>) -> Result<String, Error> {
        let (store, team) = open(&self.options, Access::Write)?;
        let now = now_nanos();
        // Within the present month, for the quota shown to be the one used.
        let start = (now - PERIOD).max(Month::of(now).start_nanos());
        let application = Application::new(SEED, start).over(now - start);
        let mut requests: Vec<_> = application.requests(SPANS).collect();
        let sessions = team.active_sessions(USER)?;
        let session = sessions.first().map(|session| session.id.clone());
        let session = session.unwrap_or_default();
        if let Some(visitor) = visitor_of(&mut requests) {
            let ids = spans(&mut requests).filter_map(session_of);
            for id in ids.filter(|id| **id == visitor) {
                id.clone_from(&session);
            }
        }
        let mut accepted = 0;
        for request in requests {
            accepted += team.append(SpanBatch::from_otlp(request))?.accepted;
        }
        store.close()?;
        writeln!(
            out,
            "\n{accepted} spans of a sample application were appended. Those of one visitor carry \
             the id of the session."
        )?;
        Ok(session)
    }

    /// A trace of the session with most errors.
    fn trace(&self, of_session: &str) -> Result<Option<TraceId>, Error> {
        let (_, team) = open(&self.options, Access::Read)?;
        let query = team.requests().search(of_session)?.columns(["trace_id"])?;
        let query = query
            .order(spanstore::query::Order::MostErrorsFirst)
            .limit(1);
        let batches = runtime()?.block_on(query.collect())?;
        let first = batches.iter().find(|batch| batch.num_rows() > 0);
        let ids = first.and_then(|batch| batch.column(0).as_fixed_size_binary_opt());
        let id = ids
            .filter(|ids| ids.is_valid(0))
            .map(|ids| TraceId::from_bytes(ids.value(0)));
        Ok(id.transpose().map_err(spanstore::Error::from)?)
    }
}

fn spans(requests: &mut [ExportTraceServiceRequest]) -> impl Iterator<Item = &mut Span> {
    let resources = requests.iter_mut().flat_map(|one| &mut one.resource_spans);
    let scopes = resources.flat_map(|one| &mut one.scope_spans);
    scopes.flat_map(|one| &mut one.spans)
}

/// The id of the session that a span carries.
fn session_of(span: &mut Span) -> Option<&mut String> {
    let mut attributes = span.attributes.iter_mut();
    let KeyValue { value, .. } = attributes.find(|one| one.key == SESSION)?;
    match &mut value.as_mut()?.value {
        Some(Value::StringValue(id)) => Some(id),
        _ => None,
    }
}

/// The session with most failed spans.
fn visitor_of(requests: &mut [ExportTraceServiceRequest]) -> Option<String> {
    let mut failed: BTreeMap<String, u64> = BTreeMap::new();
    for span in spans(requests) {
        let has_failed = span.status.as_ref().is_some_and(|status| status.code == 2);
        if let Some(id) = session_of(span) {
            *failed.entry(id.clone()).or_default() += u64::from(has_failed);
        }
    }
    let most = failed.into_iter().max_by_key(|(_, failed)| *failed);
    most.map(|(id, _)| id)
}
