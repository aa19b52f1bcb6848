//! When and what to merge.
//!
//! The segments of a month form runs; the segments of one run share no team,
//! so a partition touches at most as many segments as there are runs. Every
//! run has a level: how many times its rows were merged at most. When a seal
//! adds a run too many, the run of the lowest level before it and all others
//! of that level are merged with it into one run of the next level. That is
//! the binomial schedule (Bentley and Saxe 1980; Mathieu, Staelin, Young and
//! Yousefi 2014): with `k` runs, rows are merged at most `w` times as long as
//! there are fewer than binomial(k + w, k) seals, and no schedule does better.

/// Runs of a month that are left alone. A seal may add one to them, so a
/// partition lies in at most 8 segments.
pub(crate) const MOST_RUNS: usize = 7;
/// Runs of a month that are left alone while seals come fast: each row is then written
/// fewer times, and appends have the processor.
pub(crate) const MOST_RUNS_IN_HASTE: usize = 11;

/// A run of segments as the schedule sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// How many times its rows were merged.
    pub(crate) level: u32,
    /// Its rows.
    pub(crate) rows: u64,
}

/// How many of the last runs to merge into one; none when nothing is due.
/// `runs` are in the order of their age, the oldest first; `most` are left alone.
pub(crate) fn due(runs: &[Run], most: usize) -> Option<usize> {
    if runs.len() <= most {
        return None;
    }
    let (newest, older) = runs.split_last()?;
    let lowest = older.last()?.level;
    let same = older
        .iter()
        .rev()
        .take_while(|run| run.level <= lowest)
        .count();
    let mut count = same + 1;
    // Take along what is older and yet smaller: that costs next to nothing.
    let mut rows = newest.rows
        + older
            .iter()
            .rev()
            .take(same)
            .map(|run| run.rows)
            .sum::<u64>();
    for run in older.iter().rev().skip(same) {
        if run.rows > rows / 4 {
            break;
        }
        rows += run.rows;
        count += 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seals and merges by the schedule; the rows written and the most runs
    /// that were there at a time.
    fn simulate(seals: impl IntoIterator<Item = u64>) -> (f64, usize) {
        let mut runs: Vec<Run> = Vec::new();
        let (mut sealed, mut written, mut most) = (0, 0, 0);
        for rows in seals {
            sealed += rows;
            written += rows;
            runs.push(Run { level: 0, rows });
            most = most.max(runs.len());
            while let Some(count) = due(&runs, MOST_RUNS) {
                let merged = runs.split_off(runs.len() - count);
                let rows = merged.iter().map(|run| run.rows).sum();
                let level = merged.iter().map(|run| run.level).max().unwrap() + 1;
                written += rows;
                runs.push(Run { level, rows });
            }
            assert!(runs.len() <= MOST_RUNS);
        }
        (written as f64 / sealed as f64, most)
    }

    #[test]
    fn equal_seals() {
        for (seals, bound) in [(7, 1.0), (30, 2.01), (300, 4.6), (744, 4.8), (1_280, 5.8)] {
            let (amplification, most) = simulate(std::iter::repeat_n(262_144, seals));
            assert!(amplification <= bound, "{seals}: {amplification}");
            assert!(most <= 8, "{seals}");
        }
    }

    #[test]
    fn trickles_bursts_and_latecomers() {
        let cases: [(&str, Vec<u64>); 4] = [
            ("rising", (1..1_000).map(|n| n * 100).collect()),
            ("falling", (1..1_000).rev().map(|n| n * 100).collect()),
            (
                "bursts",
                (0..1_000)
                    .map(|n| if n % 50 == 0 { 262_144 } else { 500 })
                    .collect(),
            ),
            (
                "latecomers",
                std::iter::repeat_n(262_144, 500)
                    .chain(std::iter::repeat_n(20, 700))
                    .collect(),
            ),
        ];
        for (name, seals) in cases {
            let (amplification, most) = simulate(seals);
            assert!(amplification < 6.0, "{name}: {amplification}");
            assert!(most <= 8, "{name}");
        }
    }

    /// A year of 10,000 teams, the largest with a million spans a month, the
    /// others smaller by the square root of their rank: 199 million spans a
    /// month. Who writes how much in one seal changes from seal to seal.
    #[test]
    fn a_year_of_ten_thousand_teams() {
        const TEAMS: usize = 10_000;
        const SEAL_ROWS: u64 = 262_144;
        const SEGMENT_ROWS: u64 = 2 << 20;
        let monthly: Vec<u64> = (1..=TEAMS)
            .map(|rank| (1_000_000.0 / (rank as f64).sqrt()) as u64)
            .collect();
        let total: u64 = monthly.iter().sum();
        let (mut sealed, mut written) = (0, 0);
        let mut most_segments = 0;
        let mut state = 1u64;
        for _month in 0..12 {
            // Rows of each team in each run.
            let mut runs: Vec<(Run, Vec<u32>)> = Vec::new();
            let seals = total / SEAL_ROWS;
            let mut left = monthly.clone();
            for seal in 0..seals {
                let mut rows = Vec::with_capacity(TEAMS);
                for team in &mut left {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    // Between nothing and twice the share; the rest at the end.
                    let share = *team * (state >> 33) / ((seals - seal) * (1 << 30));
                    let now = if seal + 1 == seals {
                        *team
                    } else {
                        share.min(*team)
                    };
                    *team -= now;
                    rows.push(now as u32);
                }
                let count: u64 = rows.iter().map(|rows| u64::from(*rows)).sum();
                sealed += count;
                written += count;
                runs.push((
                    Run {
                        level: 0,
                        rows: count,
                    },
                    rows,
                ));
                most_segments = most_segments.max(most_per_team(&runs, SEGMENT_ROWS));
                let view: Vec<Run> = runs.iter().map(|(run, _)| *run).collect();
                if let Some(count) = due(&view, MOST_RUNS) {
                    let merged = runs.split_off(runs.len() - count);
                    let level = merged.iter().map(|(run, _)| run.level).max().unwrap() + 1;
                    let mut rows = vec![0; TEAMS];
                    for (_, more) in &merged {
                        for (team, more) in rows.iter_mut().zip(more) {
                            *team += more;
                        }
                    }
                    let count = merged.iter().map(|(run, _)| run.rows).sum();
                    written += count;
                    runs.push((Run { level, rows: count }, rows));
                }
            }
        }
        let amplification = written as f64 / sealed as f64;
        assert!(sealed >= 12 * total * 99 / 100);
        assert!(most_segments <= 8, "{most_segments} segments");
        assert!(amplification < 6.0, "{amplification}");
        println!("{sealed} rows, amplification {amplification:.2}, {most_segments} segments");
    }

    /// Most segments that one team has rows in, runs being cut into segments
    /// between teams.
    fn most_per_team(runs: &[(Run, Vec<u32>)], segment_rows: u64) -> usize {
        let mut most = vec![0usize; runs.first().map_or(0, |(_, teams)| teams.len())];
        for (_, teams) in runs {
            let mut segment = 0;
            let mut in_segment = 0;
            let mut last_seen = vec![usize::MAX; teams.len()];
            for (team, rows) in teams.iter().enumerate() {
                if *rows == 0 {
                    continue;
                }
                if in_segment >= segment_rows {
                    segment += 1;
                    in_segment = 0;
                }
                in_segment += u64::from(*rows);
                if last_seen[team] != segment {
                    last_seen[team] = segment;
                    most[team] += 1;
                }
            }
        }
        most.into_iter().max().unwrap_or(0)
    }
}
