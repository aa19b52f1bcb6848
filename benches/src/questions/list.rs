//! The questions, each with its answer out of all spans.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use spanstore::query::Query;
use spanstore::{Error, SpanRow, Team};

use super::constants::{Constants, path, returned_rows, text};
use super::{Answer, FACETS, Question};

fn is_failed(row: &SpanRow, constants: &Constants) -> bool {
    row.level == constants.level && row.status_code.is_some_and(|code| code >= constants.status)
}

fn is_within(row: &SpanRow, constants: &Constants) -> bool {
    (constants.since..constants.until).contains(&row.start_nanos)
}

fn count(rows: &[SpanRow], is_found: impl Fn(&SpanRow) -> bool) -> Vec<String> {
    vec![rows.iter().filter(|row| is_found(row)).count().to_string()]
}

fn newest(rows: &[SpanRow], is_found: impl Fn(&SpanRow) -> bool) -> Vec<String> {
    let found = rows.iter().filter(|row| is_found(row)).take(50);
    found.map(|row| row.span_id.to_string()).collect()
}

fn facets(rows: &[SpanRow], is_found: impl Fn(&SpanRow) -> bool) -> Vec<String> {
    let mut counts: BTreeMap<(&str, Option<String>), u64> = BTreeMap::new();
    for row in rows.iter().filter(|row| is_found(row)) {
        let values = [
            Some(row.level.clone()),
            row.service.clone(),
            row.route.clone(),
            row.status_code.map(|code| code.to_string()),
            Some(row.kind.clone()),
            Some(row.origin.clone()),
            Some(row.status.clone()),
            Some(row.name.clone()),
        ];
        for (column, value) in FACETS.into_iter().zip(values) {
            *counts.entry((column, value)).or_default() += 1;
        }
    }
    let counts = counts.into_iter();
    let mut lines: Vec<String> = counts
        .map(|((column, value), spans)| format!("{column} {value:?} {spans}"))
        .collect();
    lines.sort_unstable();
    lines
}

fn by_route(rows: &[SpanRow], is_found: impl Fn(&SpanRow) -> bool) -> Vec<String> {
    let mut groups: BTreeMap<&str, (u64, i64)> = BTreeMap::new();
    for row in rows
        .iter()
        .filter(|row| row.route.is_some() && is_found(row))
    {
        let (spans, longest) = groups
            .entry(row.route.as_deref().unwrap_or_default())
            .or_default();
        *spans += 1;
        *longest = row.duration_nanos.max(*longest);
    }
    let line = |(route, (spans, longest)): (&str, (u64, i64))| format!("{route} {spans} {longest}");
    groups.into_iter().map(line).collect()
}

fn in_time(query: Query, constants: &Constants) -> Query {
    query.since(constants.since).until(constants.until)
}

async fn first(query: Query) -> Result<Answer, Error> {
    query.limit(50).collect().await.map(Answer::Rows)
}

async fn counted(query: Query) -> Result<Answer, Error> {
    query.count().await.map(Answer::Count)
}

async fn values(query: Query) -> Result<Answer, Error> {
    query.facets(FACETS).await.map(Answer::Facets)
}

async fn sql(team: &Team, text: &str) -> Result<Answer, Error> {
    let batches = team.sql(text).await?.try_collect().await?;
    Ok(Answer::Rows(batches))
}

fn failed(team: &Team, constants: &Constants) -> Result<Query, Error> {
    let Constants { level, status, .. } = constants;
    team.query()
        .filter(&format!("level = '{level}' and status_code >= {status}"))
}

/// The range of time of constants in SQL.
fn during(constants: &Constants) -> String {
    let Constants { since, until, .. } = constants;
    format!(
        "start_time >= to_timestamp_nanos({since}) and start_time < to_timestamp_nanos({until})"
    )
}

/// The questions, which `benches/peers` asks of other systems too.
pub const QUESTIONS: &[Question] = &[
    Question {
        name: "newest 50",
        ask: |team, _| Box::pin(first(team.query())),
        work_out: |rows, _| newest(rows, |_| true),
    },
    Question {
        name: "newest 50, level and status code",
        ask: |team, constants| Box::pin(async move { first(failed(team, constants)?).await }),
        work_out: |rows, constants| newest(rows, |row| is_failed(row, constants)),
    },
    Question {
        name: "newest 50, level and status code, 3 columns",
        ask: |team, constants| {
            Box::pin(async move {
                let query = failed(team, constants)?.columns(["span_id", "name", "duration"])?;
                first(query).await
            })
        },
        work_out: |rows, constants| {
            let found = rows.iter().filter(|row| is_failed(row, constants)).take(50);
            let line =
                |row: &SpanRow| format!("{} {} {}", row.span_id, row.name, row.duration_nanos);
            found.map(line).collect()
        },
    },
    Question {
        name: "newest 50 of one route",
        ask: |team, constants| {
            Box::pin(async move {
                first(
                    team.query()
                        .filter(&format!("route = '{}'", constants.route))?,
                )
                .await
            })
        },
        work_out: |rows, constants| {
            newest(rows, |row| row.route.as_ref() == Some(&constants.route))
        },
    },
    Question {
        name: "newest 50 before a time",
        ask: |team, constants| Box::pin(first(team.query().until(constants.until))),
        work_out: |rows, constants| newest(rows, |row| row.start_nanos < constants.until),
    },
    Question {
        name: "newest 50 slow ones",
        ask: |team, constants| {
            Box::pin(async move {
                first(
                    team.query()
                        .filter(&format!("duration >= {}", constants.slow))?,
                )
                .await
            })
        },
        work_out: |rows, constants| newest(rows, |row| row.duration_nanos >= constants.slow),
    },
    Question {
        name: "newest 50, name like and level",
        ask: |team, constants| {
            Box::pin(async move {
                let Constants { name, level, .. } = constants;
                let filter = format!("name like '%{name}%' and level = '{level}'");
                first(team.query().filter(&filter)?).await
            })
        },
        work_out: |rows, constants| {
            newest(rows, |row| {
                row.name.contains(&constants.name) && row.level == constants.level
            })
        },
    },
    Question {
        name: "count, level and status code",
        ask: |team, constants| Box::pin(async move { counted(failed(team, constants)?).await }),
        work_out: |rows, constants| count(rows, |row| is_failed(row, constants)),
    },
    Question {
        name: "count, text of an attribute",
        ask: |team, constants| {
            Box::pin(async move {
                let (key, text) = &constants.text;
                counted(
                    team.query()
                        .filter(&format!("attributes['{key}'] = '{text}'"))?,
                )
                .await
            })
        },
        work_out: |rows, constants| {
            let (key, expected) = &constants.text;
            count(rows, |row| text(row, key).as_ref() == Some(expected))
        },
    },
    Question {
        name: "count, number of an attribute",
        ask: |team, constants| {
            Box::pin(async move {
                let number = constants.number;
                let filter = format!("attributes['db.response.returned_rows'] = {number}");
                counted(team.query().filter(&filter)?).await
            })
        },
        work_out: |rows, constants| count(rows, |row| returned_rows(row) == Some(constants.number)),
    },
    Question {
        name: "count, name like",
        ask: |team, constants| {
            Box::pin(async move {
                counted(
                    team.query()
                        .filter(&format!("name like '%{}%'", constants.name))?,
                )
                .await
            })
        },
        work_out: |rows, constants| count(rows, |row| row.name.contains(&constants.name)),
    },
    Question {
        name: "count, path ilike",
        ask: |team, constants| {
            Box::pin(async move {
                counted(
                    team.query()
                        .filter(&format!("path ilike '%{}%'", constants.path))?,
                )
                .await
            })
        },
        work_out: |rows, constants| {
            count(rows, |row| {
                path(row).is_some_and(|path| path.to_uppercase().contains(&constants.path))
            })
        },
    },
    Question {
        name: "count, level in a quarter of the time",
        ask: |team, constants| {
            Box::pin(async move {
                let query = team
                    .query()
                    .filter(&format!("level = '{}'", constants.level))?;
                counted(in_time(query, constants)).await
            })
        },
        work_out: |rows, constants| {
            count(rows, |row| {
                row.level == constants.level && is_within(row, constants)
            })
        },
    },
    Question {
        name: "8 facets",
        ask: |team, _| Box::pin(values(team.query())),
        work_out: |rows, _| facets(rows, |_| true),
    },
    Question {
        name: "8 facets, one level",
        ask: |team, constants| {
            Box::pin(async move {
                values(
                    team.query()
                        .filter(&format!("level = '{}'", constants.level))?,
                )
                .await
            })
        },
        work_out: |rows, constants| facets(rows, |row| row.level == constants.level),
    },
    Question {
        name: "8 facets in a quarter of the time",
        ask: |team, constants| Box::pin(values(in_time(team.query(), constants))),
        work_out: |rows, constants| facets(rows, |row| is_within(row, constants)),
    },
    Question {
        name: "SQL: by route, count and longest",
        ask: |team, _| {
            Box::pin(sql(
                team,
                "select route, count(*), max(duration) from spans where route is not null \
                 group by route order by route",
            ))
        },
        work_out: |rows, _| by_route(rows, |_| true),
    },
    Question {
        name: "SQL: by route in a quarter of the time",
        ask: |team, constants| {
            Box::pin(async move {
                let text = format!(
                    "select route, count(*), max(duration) from spans \
                     where route is not null and {} group by route order by route",
                    during(constants)
                );
                sql(team, &text).await
            })
        },
        work_out: |rows, constants| by_route(rows, |row| is_within(row, constants)),
    },
    Question {
        name: "SQL: 99th percentile of one route",
        ask: |team, constants| {
            Box::pin(async move {
                let text = format!(
                    "select cast(round(percentile_cont(duration, 0.99)) as bigint) from spans \
                     where route = '{}'",
                    constants.route
                );
                sql(team, &text).await
            })
        },
        work_out: |rows, constants| {
            let of_route = rows
                .iter()
                .filter(|row| row.route.as_ref() == Some(&constants.route));
            let mut durations: Vec<i64> = of_route.map(|row| row.duration_nanos).collect();
            durations.sort_unstable();
            let place = 0.99 * (durations.len() - 1) as f64;
            let (before, part) = (place as usize, place.fract());
            let at = |place: usize| durations[place.min(durations.len() - 1)] as f64;
            let between = at(before) + (at(before + 1) - at(before)) * part;
            vec![(between.round() as i64).to_string()]
        },
    },
    Question {
        name: "SQL: 60 buckets of time and level",
        ask: |team, constants| {
            Box::pin(async move {
                let Constants { since, until, .. } = constants;
                let text = format!(
                    "select (cast(start_time as bigint) - {since}) / {} as bucket, level, \
                     count(*) from spans where {} group by 1, 2 order by 1, 2",
                    (until - since) / 60,
                    during(constants)
                );
                sql(team, &text).await
            })
        },
        work_out: |rows, constants| {
            let width = (constants.until - constants.since) / 60;
            let mut buckets: BTreeMap<(i64, &str), u64> = BTreeMap::new();
            for row in rows.iter().filter(|row| is_within(row, constants)) {
                let bucket = (row.start_nanos - constants.since) / width;
                *buckets.entry((bucket, &row.level)).or_default() += 1;
            }
            let buckets = buckets.into_iter();
            buckets
                .map(|((bucket, level), spans)| format!("{bucket} {level} {spans}"))
                .collect()
        },
    },
    Question {
        name: "SQL: the 20 slowest",
        ask: |team, _| {
            Box::pin(sql(
                team,
                "select span_id, duration from spans \
                 order by duration desc, start_time desc limit 20",
            ))
        },
        work_out: |rows, _| {
            let mut slowest: Vec<&SpanRow> = rows.iter().collect();
            slowest.sort_by_key(|row| std::cmp::Reverse(row.duration_nanos));
            let line = |row: &&SpanRow| format!("{} {}", row.span_id, row.duration_nanos);
            slowest.iter().take(20).map(line).collect()
        },
    },
    Question {
        name: "SQL: newest 50 traces",
        ask: |team, _| {
            Box::pin(sql(
                team,
                "select trace_id, count(*) from spans \
                 group by trace_id order by min(start_time) desc, trace_id desc limit 50",
            ))
        },
        work_out: |rows, _| {
            let mut traces: BTreeMap<_, (i64, u64)> = BTreeMap::new();
            for row in rows {
                let (first, spans) = traces.entry(row.trace_id).or_insert((i64::MAX, 0));
                *first = row.start_nanos.min(*first);
                *spans += 1;
            }
            let mut newest: Vec<_> = traces.into_iter().collect();
            newest.sort_by_key(|(trace, (first, _))| std::cmp::Reverse((*first, *trace)));
            let newest = newest.iter().take(50);
            newest
                .map(|(trace, (_, spans))| format!("{trace} {spans}"))
                .collect()
        },
    },
    Question {
        name: "SQL: how many sessions",
        ask: |team, _| Box::pin(sql(team, "select count(distinct session_id) from spans")),
        work_out: |rows, _| {
            let sessions = rows.iter().filter_map(|row| row.session_id.as_ref());
            vec![sessions.collect::<BTreeSet<_>>().len().to_string()]
        },
    },
    Question {
        name: "SQL: count(*)",
        ask: |team, _| Box::pin(sql(team, "select count(*) from spans")),
        work_out: |rows, _| vec![rows.len().to_string()],
    },
];
