"""What is asked about requests: one row a trace, with the values of its root.

DuckDB is asked twice: over spans, with the query that someone would write who has only
these, and over a table of requests that was made before.
"""

import constants as draw
import data
from questions import Question
from requests_of_spans import ALL, table

TABLE = f"{data.REQUESTS_SCHEMA}.requests"

COLUMNS = ("trace_id", "start_time", "duration", "name", "route", "status_code", "spans", "errors")
FACETS = ("level", "service", "route", "method", "status_code", "region", "host", "name")
ANY_IN_DUCKDB = "trace_id in (select trace_id from spans where {})"


def listed(name, condition, constants, order="start_time", limit=50, kind="newest", any_of=None,
           offset=0):
    """The first requests that fulfil a condition, or that have a span which does."""
    needed = [column for column in ALL if column in condition]
    columns = [*COLUMNS, *(column for column in needed if column not in COLUMNS)]
    conditions = [condition] if condition else []
    filters = list(conditions)
    if any_of:
        filters.append(f"any({any_of})")
        conditions.append(ANY_IN_DUCKDB.format(any_of))
    where = f"where {' and '.join(conditions)} " if conditions else ""
    skipped = f" offset {offset}" if offset else ""

    def text(source):
        return (f"select {', '.join(COLUMNS)} from {source} {where}"
                f"order by {order} desc limit {limit}{skipped}")

    over_spans = text(table(columns))
    if any_of and not condition:
        # The traces that have such a span are found before any request is made.
        of_traces = table(columns, where)
        over_spans = (f"select {', '.join(COLUMNS)} from {of_traces} "
                      f"order by {order} desc limit {limit}{skipped}")
    return Question(name, kind, "values", constants, " and ".join(filters), over_spans, "",
                    COLUMNS, rows="requests", requests=text(TABLE), limit=limit)


def count(name, condition, constants, any_of=None):
    """How many requests fulfil a condition."""
    asked, filters = condition, condition
    if any_of:
        asked, filters = ANY_IN_DUCKDB.format(any_of), f"any({any_of})"
    columns = [column for column in ALL if column in asked] or ["spans"]
    over_spans = f"select count(*) from {table(columns)} where {asked}"
    if any_of:
        over_spans = f"select count(distinct trace_id) from spans where {any_of}"
    return Question(name, "count", "count", constants, filters, over_spans, "", rows="requests",
                    requests=f"select count(*) from {TABLE} where {asked}")


def facets(name, condition, constants):
    """The values of eight columns, and how many requests have each."""
    where = f" where {condition}" if condition else ""

    def text(source):
        found = f"with found as materialized (select {', '.join(FACETS)} from {source}{where}) "
        return found + " union all ".join(
            f"select '{column}', cast({column} as varchar), count(*) from found "
            f"group by {column}" for column in FACETS)

    return Question(name, "facets", "facets", constants, condition, text(table(FACETS)), "",
                    FACETS, rows="requests", requests=text(TABLE))


SLOW_CALL = "kind = 'client' and duration >= {duration}"

QUESTIONS = [
    listed("requests: newest 50", "", draw.nothing),
    listed("requests: newest 50 of one route", "route = {route}", draw.route),
    listed("requests: newest 50 with errors, status code",
           "errors > 0 and status_code >= {status}", draw.level_and_status),
    listed("requests: newest 50, `any(level)`", "", draw.level, any_of="level = {level}"),
    listed("requests: newest 50, `any(slow call)`", "", draw.slow, any_of=SLOW_CALL),
    listed("requests: next page of one route", "route = {route}", draw.route, kind="page",
           offset=50),
    listed("requests: 20 slowest", "", draw.nothing, "duration", 20, "slowest"),
    listed("requests: 20 slowest of one route", "route = {route}", draw.route, "duration", 20,
           "slowest"),
    count("requests: count, status code", "status_code >= {status}", draw.level_and_status),
    count("requests: count, `any(slow call)`", "", draw.slow, any_of=SLOW_CALL),
    facets("requests: 8 facets", "", draw.nothing),
    facets("requests: 8 facets of one route", "route = {route}", draw.route),
]
