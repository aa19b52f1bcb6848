"""What is asked: each question once, with its text for every system.

A text holds names of constants in braces. Each run draws other constants (see
`constants.py`); questions without a constant are the same each time.
"""

from dataclasses import dataclass
from typing import Callable

import constants as draw

FACETS = ("level", "service", "route", "method", "status_code", "region", "host", "name")
LIST_COLUMNS = ("start_time", "name", "duration")
DURING = "start_time >= {since} and start_time < {until}"


@dataclass(frozen=True)
class Question:
    """A question.

    `kind` is what spanstore is asked for: `trace`, `session`, `newest`, `slowest`, `page`
    (the second one), `count`, `facets` or `sql`; `rows` says of what. `spanstore` is its filter or its SQL text, without the
    range of time, which goes beside a filter. `form` says how answers are
    compared: `count`, `ids` (rows by trace and span id), `values` (whole rows)
    or `facets`. A system without a text is not asked; `requests` is for DuckDB with a table
    of requests.
    """

    name: str
    kind: str
    form: str
    draw: Callable
    spanstore: str
    duckdb: str
    sqlite: str
    columns: tuple = ()
    is_asked_cold: bool = False
    rows: str = "spans"
    requests: str = ""
    limit: int = 50


def look_up(name, kind, condition, constants, **more):
    """All spans of a trace or of a session, all columns."""
    end = f"where {condition} order by start_time, span_id"
    return Question(name, kind, "ids", constants, "", f"select * from spans {end}",
                    f"select * from all_columns {end}", **more)


def newest(name, condition, constants, columns=(), sqlite=None, is_timed=False, **more):
    """The newest 50 that fulfil a condition. No two spans of the sample start at
    the same time, so the time alone gives the order; ids beside it would keep
    SQLite from its index, and double what DuckDB reads."""
    def text(condition, table):
        parts = [part for part in (condition, is_timed and "start_time < {until}") if part]
        where = f"where {' and '.join(parts)} " if parts else ""
        return (f"select {', '.join(columns) or '*'} from {table} {where}"
                "order by start_time desc limit 50")

    return Question(name, "newest", "values" if columns else "ids", constants, condition,
                    text(condition, "spans"),
                    text(sqlite or condition, "spans" if columns else "all_columns"),
                    columns, **more)


def count(name, condition, constants, duckdb=None, sqlite=None, is_timed=False, **more):
    """How many spans fulfil a condition."""
    def text(condition):
        during = f" and {DURING}" if is_timed else ""
        return f"select count(*) from spans where {condition}{during}"

    return Question(name, "count", "count", constants, condition, text(duckdb or condition),
                    text(sqlite or condition), **more)


def facets(name, condition, constants, is_timed=False):
    """The values of eight columns, and how many spans have each.

    Each peer has the fastest of the forms that were tried (eight queries, one of
    all, grouping sets, histograms): SQLite finds the spans once, and so does
    DuckDB where a condition leaves few.
    """
    parts = [part for part in (condition, is_timed and DURING) if part]
    where = f" where {' and '.join(parts)}" if parts else ""

    def of_each(table):
        return " union all ".join(
            f"select '{column}', cast({column} as varchar), count(*) from {table} "
            f"group by {column}" for column in FACETS)

    found_once = (f"with found as materialized (select {', '.join(FACETS)} from spans{where}) "
                  + of_each("found"))
    duckdb = found_once if condition else of_each(f"spans{where}")
    return Question(name, "facets", "facets", constants, condition, duckdb, found_once, FACETS)


def sql(name, spanstore, constants=draw.nothing, duckdb=None, sqlite=None, form="values", **more):
    """An SQL text, which is the same for all systems where no other is given."""
    return Question(name, "sql", form, constants, spanstore, duckdb or spanstore,
                    sqlite or duckdb or spanstore, **more)


FAILED = "level = {level} and status_code >= {status}"
LIKE = "name like {like}"
# What `like` is in SQLite takes both cases for the same, and `glob` does not.
GLOB = "name glob {glob}"

PERCENTILE = "select percentile_cont(duration, 0.99) from spans where route = {route}"
PERCENTILE_IN_DUCKDB = "select quantile_cont(duration, 0.99) from spans where route = {route}"
# The mean of the two rows beside the place, as near as each is to it.
PERCENTILE_IN_SQLITE = """
    with ranked as (
        select duration, row_number() over (order by duration) - 1 as place,
               0.99 * (count(*) over () - 1) as wanted
        from spans where route = {route}
    )
    select min(duration) + (max(duration) - min(duration)) * (wanted - cast(wanted as integer))
    from ranked where place between cast(wanted as integer) and cast(wanted as integer) + 1
"""

BUCKETS = "select (start_time - {since}) / {width} as bucket, level, count(*) from spans where " \
    f"{DURING} group by 1, 2 order by 1, 2"
BUCKETS_IN_DUCKDB = BUCKETS.replace(" / ", " // ")
BUCKETS_IN_SPANSTORE = BUCKETS.replace("(start_time", "(cast(start_time as bigint)")

BY_ROUTE = "select route, count(*), avg(duration) from spans {where}group by route " \
    "order by count(*) desc, route nulls last"


def in_spanstore(text):
    """The text with bounds of `start_time` as times, which are integers elsewhere."""
    for operator, bound in ((">=", "since"), ("<", "until")):
        text = text.replace(f"start_time {operator} {{{bound}}}",
                            f"start_time {operator} to_timestamp_nanos({{{bound}}})")
    return text


BY_ROUTE_DURING = BY_ROUTE.replace("{where}", f"where {DURING} ")
SESSIONS_DURING = f"select count(distinct session_id) from spans where {DURING}"

QUESTIONS = [
    look_up("one trace, all columns", "trace", "trace_id = {trace}", draw.trace,
            is_asked_cold=True),
    look_up("a trace that is absent", "trace", "trace_id = {trace}", draw.absent_trace),
    look_up("one session, all columns", "session", "session_id = {session}", draw.session),
    newest("newest 50, level and status code, all columns", FAILED, draw.level_and_status,
           is_asked_cold=True),
    newest("newest 50, level and status code, 3 columns", FAILED, draw.level_and_status,
           LIST_COLUMNS),
    newest("newest 50 of one route", "route = {route}", draw.route),
    newest("newest 50", "", draw.nothing),
    newest("newest 50 before a time", "", draw.end, is_timed=True),
    newest("newest 50 slow ones, `duration >= X`", "duration >= {duration}", draw.slow),
    newest("newest 50, `name like` and level", f"{LIKE} and level = {{level}}",
           draw.part_of_name_and_level, sqlite=f"{GLOB} and level = {{level}}"),
    count("count, level and status code", FAILED, draw.level_and_status, is_asked_cold=True),
    count("count, text of an attribute", "attributes[{key}] = {text}", draw.text_attribute,
          sqlite="attributes ->> {path} = {text}"),
    count("count, number of an attribute", f"attributes['{draw.NUMBER_KEY}'] = {{number}}",
          draw.number_attribute, duckdb=f"attributes['{draw.NUMBER_KEY}'] = {{digits}}",
          sqlite=f"""attributes ->> '$."{draw.NUMBER_KEY}"' = {{number}}"""),
    count("count, `name like`", LIKE, draw.part_of_name, sqlite=GLOB),
    count("count, `path ilike`", "path ilike {like}", draw.part_of_path,
          sqlite="path like {like}"),
    count("count, level in a quarter of the time", "level = {level}", draw.quarter_and_level,
          is_timed=True),
    facets("8 facets, one level", "level = {level}", draw.level),
    facets("8 facets", "", draw.nothing),
    facets("8 facets in a quarter of the time", "", draw.quarter, is_timed=True),
    sql("SQL: by route, count and mean", BY_ROUTE.replace("{where}", ""), is_asked_cold=True),
    sql("SQL: by route in a quarter of the time", in_spanstore(BY_ROUTE_DURING), draw.quarter,
        duckdb=BY_ROUTE_DURING),
    sql("SQL: 99th percentile of one route", PERCENTILE, draw.route, duckdb=PERCENTILE_IN_DUCKDB,
        sqlite=PERCENTILE_IN_SQLITE),
    sql("SQL: 60 buckets of time and level", in_spanstore(BUCKETS_IN_SPANSTORE),
        draw.sixty_buckets, duckdb=BUCKETS_IN_DUCKDB, sqlite=BUCKETS),
    sql("SQL: count, `name like`", f"select count(*) from spans where {LIKE}", draw.part_of_name,
        sqlite=f"select count(*) from spans where {GLOB}", form="count"),
    sql("SQL: the 20 slowest, 3 columns", f"select {', '.join(LIST_COLUMNS)} from spans "
        "order by duration desc, start_time desc limit 20"),
    sql("SQL: newest 50 traces, count, first and last start",
        "select trace_id, count(*), min(start_time), max(start_time) from spans "
        "group by trace_id order by min(start_time) desc, trace_id desc limit 50"),
    sql("SQL: how many sessions", "select count(distinct session_id) from spans", form="count"),
    sql("SQL: how many sessions in a quarter of the time", in_spanstore(SESSIONS_DURING),
        draw.quarter, duckdb=SESSIONS_DURING, form="count"),
    sql("SQL: `count(*)`", "select count(*) from spans", form="count"),
]
