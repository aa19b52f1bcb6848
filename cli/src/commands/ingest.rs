//! `ingest`: files into the store.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value};
use spanstore::{Receipt, RefusalReason, SpanBatch};

use super::Context;
use crate::arguments::IngestArguments;
use crate::error::Error;
use crate::ingest::{read_files, total_bytes};
use crate::output::Report;

/// So many spans are sealed at the end.
const MANY: u64 = 50_000;

/// What became of all batches.
#[derive(Debug, Default)]
struct Counts {
    accepted: u64,
    duplicates: u64,
    refused: BTreeMap<&'static str, u64>,
}

impl Counts {
    fn add(&mut self, receipt: &Receipt) {
        if receipt.repeated {
            // They are there already, whatever the first receipt called them.
            self.duplicates += receipt.accepted + receipt.duplicates;
        } else {
            self.accepted += receipt.accepted;
            self.duplicates += receipt.duplicates;
        }
        for refusal in &receipt.refused {
            *self.refused.entry(refusal.reason.code()).or_default() += 1;
        }
    }
}

pub(super) fn run(context: &mut Context<'_>, arguments: &IngestArguments) -> Result<(), Error> {
    let bar = progress_bar(&arguments.files);
    let mut counts = Counts::default();
    let begin = Instant::now();
    let append = |request| {
        let batch = SpanBatch::from_otlp(request);
        let batch = if arguments.any_time {
            batch.any_time()
        } else {
            batch
        };
        counts.add(&context.team.append(batch)?);
        Ok(())
    };
    let (summary, result) = read_files(&arguments.files, arguments.input_format, &bar, append);
    bar.finish_and_clear();
    let result = result.and_then(|()| seal_many(context, counts.accepted));

    // Also when it ended early: what was accepted stays.
    let by_reason: Map<String, Value> = counts
        .refused
        .iter()
        .map(|(code, count)| ((*code).to_owned(), (*count).into()))
        .collect();
    let report = Report::new()
        .with("accepted", counts.accepted)
        .with("refused", counts.refused.values().sum::<u64>())
        .with("refused_by_reason", by_reason)
        .with("duplicates", counts.duplicates)
        .with("skipped_lines", summary.skipped_lines)
        .with(
            "seconds",
            (begin.elapsed().as_secs_f64() * 1e3).round() / 1e3,
        );
    let written = report.write(context.format, &mut context.out);
    let by_time = [RefusalReason::TooOld, RefusalReason::TooFarAhead];
    let by_time = by_time
        .iter()
        .filter_map(|reason| counts.refused.get(reason.code()));
    let by_time: u64 = by_time.sum();
    if by_time > 0 {
        eprintln!("spanstore: {by_time} spans are too old or of the future; --any-time takes them");
    }
    let all = counts.accepted + counts.duplicates + counts.refused.values().sum::<u64>();
    if all == 0 && result.is_ok() {
        eprintln!(
            "spanstore: there was no span to store; in OTLP JSON they stand in `resourceSpans`"
        );
    }
    result.and(written)
}

/// Seals many spans, which each command after this one would read from the log again. A few
/// stay there: they cost little, and what is sent again is free until it is sealed.
fn seal_many(context: &Context<'_>, accepted: u64) -> Result<(), Error> {
    if accepted >= MANY {
        context.store.seal()?;
        context.store.maintain()?;
    }
    Ok(())
}

/// A bar over the bytes of the files, on standard error when it is a terminal.
fn progress_bar(files: &[PathBuf]) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match total_bytes(files) {
        Some(bytes) => (
            ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr()),
            "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{spinner} {bytes}, {bytes_per_sec}",
        ),
    };
    bar.set_style(
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
