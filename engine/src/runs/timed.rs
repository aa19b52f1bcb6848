//! The schedule against the clock: seals come at a rate, merges take their time, and
//! appends wait as the debt says.

use super::policy::{MOST_RUNS, MOST_RUNS_IN_HASTE, Run, due};
use super::*;

/// Rows that a merge writes in a second of work, as measured on one busy processor.
const MERGED_A_SECOND: f64 = 200_000.0;
/// Rows of a seal at full rate.
const SEAL_ROWS: f64 = 180_000.0;
/// Seconds without a seal after which merges aim at few runs.
const CALM: u64 = 10;
/// Seconds after which a seal begins anyway.
const SEAL_AGE: u64 = 3_600;
/// Rows appended in a second at full rate.
const FULL_RATE: f64 = 92_000.0;

/// The runs of a month as time goes by.
#[derive(Default)]
struct Month {
    runs: Vec<Run>,
    hot: f64,
    last_seal: u64,
    /// The first run that is being merged, how many, and the rows to go.
    merge: Option<(usize, usize, f64)>,
    appended: f64,
    merged: f64,
}

impl Month {
    fn debt(&self) -> MergeDebt {
        MergeDebt {
            segments: self.runs.len() as u64,
            ..MergeDebt::default()
        }
    }

    /// One second in which callers would append so many rows.
    fn second(&mut self, now: u64, rows: f64) {
        let wait = self.debt().wait_after(1_000).as_secs_f64() / 1_000.0;
        let appended = if wait > 0.0 {
            rows.min(1.0 / wait)
        } else {
            rows
        };
        self.appended += appended;
        self.hot += appended;
        if self.hot >= SEAL_ROWS || (self.hot >= 1.0 && now - self.last_seal >= SEAL_AGE) {
            self.runs.push(Run {
                level: 0,
                rows: self.hot as u64,
            });
            (self.hot, self.last_seal) = (0.0, now);
        }
        if self.merge.is_none() {
            let is_calm = now - self.last_seal >= CALM;
            let most = if is_calm {
                MOST_RUNS
            } else {
                MOST_RUNS_IN_HASTE
            };
            self.merge = due(&self.runs, most).map(|count| {
                let first = self.runs.len() - count;
                let rows: u64 = self.runs[first..].iter().map(|run| run.rows).sum();
                (first, count, rows as f64)
            });
        }
        let share = f64::from(self.debt().share(50)) / 100.0;
        if let Some((first, count, left)) = &mut self.merge {
            *left -= MERGED_A_SECOND * share;
            if *left <= 0.0 {
                let old: Vec<Run> = self.runs.drain(*first..*first + *count).collect();
                let rows = old.iter().map(|run| run.rows).sum();
                let level = old.iter().map(|run| run.level).max().unwrap() + 1;
                self.runs.insert(*first, Run { level, rows });
                self.merged += rows as f64;
                self.merge = None;
            }
        }
    }
}

/// A month of 171 million rows, of which a minute a day comes at full rate: about as
/// many as the year in `policy` has a month.
#[test]
fn segments_stay_few_although_merges_take_time() {
    const DAY: u64 = 86_400;
    let (mut most, mut most_in_calm) = (0, 0);
    let mut month = Month::default();
    for now in 0..31 * DAY {
        let is_peak = now % DAY < 60;
        month.second(now, if is_peak { FULL_RATE } else { 10.0 });
        most = most.max(month.runs.len());
        if now % DAY >= 1_800 {
            most_in_calm = most_in_calm.max(month.runs.len());
        }
    }
    let amplification = 1.0 + month.merged / month.appended;
    println!("{most} in peaks, {most_in_calm} else, amplification {amplification:.2}");
    assert!(most <= 16, "{most}");
    assert!(most_in_calm <= 8, "{most_in_calm}");
    assert!(amplification < 6.0, "{amplification}");
    // Appends wait in the peaks, and not much.
    assert!(month.appended >= 31.0 * 60.0 * FULL_RATE * 0.85);
}

/// 10,000,000 rows at full rate: few segments, and appends hardly wait.
#[test]
fn the_full_rate_leaves_few_segments() {
    let mut month = Month::default();
    let mut most = 0;
    let mut now = 0;
    while month.appended < 10_000_000.0 {
        month.second(now, FULL_RATE);
        most = most.max(month.runs.len());
        now += 1;
    }
    let rate = month.appended / now as f64;
    println!(
        "{most} segments, {rate:.0} rows/s, {:.0} merged",
        month.merged
    );
    assert!(most <= 16, "{most}");
    assert!(rate >= 0.85 * FULL_RATE, "{rate}");
    for later in now..now + 60 {
        month.second(later, 0.0);
    }
    assert!(month.runs.len() <= 8, "{}", month.runs.len());
}
