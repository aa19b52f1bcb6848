"""Makes the rows that are asked for, in the form of each system.

Every file is made under a temporary name and renamed when it is whole, so a
second run goes on where the first one stopped.
"""

import json
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import duckdb

from requests_of_spans import ALL, table

TEAM = "acme"
STORE, PARQUET, DUCKDB, SQLITE = "store", "spans.parquet", "spans.duckdb", "spans.sqlite"
# DuckDB's table of requests lies in a file and a schema of its own.
REQUESTS, REQUESTS_SCHEMA = "requests.duckdb", "made_before"

# Spans that a team may write in a month unless its quota is raised.
DEFAULT_QUOTA = 1_000_000

# The columns of a resource and of a scope. SQLite has them in a table of their
# own, since few sources make all spans.
SOURCE_COLUMNS = (
    "resource_attributes",
    "resource_schema_url",
    "scope_name",
    "scope_version",
    "scope_attributes",
    "scope_schema_url",
)


def store_of(segments):
    """The directory of a store with so many segments."""
    return STORE if segments == 1 else f"{STORE}-{segments}"


def prepare(directory, spans, seed, month, spanstore, segments, peers):
    """Makes what is not there yet for spanstore and these peers, and gives the bytes that
    each form takes."""
    directory.mkdir(parents=True, exist_ok=True)
    remember(directory, {"spans": spans, "seed": seed, "month": month})
    store = store_of(segments)
    steps = [
        (store, lambda path: make_store(path, spans, seed, month, spanstore, segments)),
        (PARQUET, lambda path: export_parquet(directory / store, path, spanstore)),
        # Constants of questions are drawn from it.
        (DUCKDB, lambda path: load_duckdb(directory / PARQUET, path)),
        (REQUESTS, lambda path: load_requests(directory / DUCKDB, path)),
        (SQLITE, lambda path: load_sqlite(directory / PARQUET, path)),
    ]
    for name, make in steps:
        path = directory / name
        if path.exists() or (name in (SQLITE, REQUESTS) and name not in peers):
            continue
        print(f"making {path}", flush=True)
        unfinished = directory / f"{name}.unfinished"
        remove(unfinished)
        make(unfinished)
        unfinished.rename(path)
    return sizes(directory, store)


def remember(directory, rows):
    """Refuses a directory that was made for other rows."""
    path = directory / "rows.json"
    if path.exists() and json.loads(path.read_text()) != rows:
        raise SystemExit(f"{directory} holds other rows ({path.read_text()}): give another --out")
    path.write_text(json.dumps(rows))


def make_store(path, spans, seed, month, spanstore, segments):
    """A store with the spans of the sample application, in so many segments that follow
    each other in time, more or less."""
    command = [spanstore, "--store", str(path), "--team", TEAM]
    if spans > DEFAULT_QUOTA:
        run(*command, "quota", "set", str(spans))
    generate = [spanstore, "generate", "--spans", str(spans), "--seed", str(seed)]
    generating = subprocess.Popen([*generate, "--month", month], stdout=subprocess.PIPE)
    ingested = 0
    for segment in range(1, segments + 1):
        ingest = subprocess.Popen([*command, "ingest", "--any-time", "-"], stdin=subprocess.PIPE,
                                  stdout=subprocess.DEVNULL)
        while segment == segments or ingested < spans * segment // segments:
            line = generating.stdout.readline()
            if not line:
                break
            ingested += line.count(b'"spanId"')
            ingest.stdin.write(line)
        ingest.stdin.close()
        if ingest.wait() != 0:
            raise SystemExit("spanstore ingest failed")
        run(*command, "seal")
    generating.stdout.close()
    if generating.wait() != 0:
        raise SystemExit("spanstore generate failed")
    if segments == 1:
        run(*command, "compact")
    found = run(*command, "--format", "json", "inspect").splitlines()
    rows = [json.loads(line)["rows"] for line in found]
    if len(rows) != segments or sum(rows) != spans:
        raise SystemExit(f"the store should have {segments} segments of {spans} rows, but has "
                         f"segments of {rows}")


def export_parquet(store, path, spanstore):
    """The file that other programs read."""
    run(spanstore, "--store", str(store), "--team", TEAM,
        "export", "--format", "parquet", "--out", str(path))


def run(*command):
    """Runs a command and gives its output."""
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


def load_duckdb(parquet, path):
    """A native table in the order of time with an index on traces: ids are blobs,
    times are integers of nanoseconds, attributes are maps of texts. An index on
    sessions would make their look-up slower."""
    connection = duckdb.connect(str(path))
    columns = ", ".join(f"{text} as {name}" for name, text in duckdb_columns(parquet))
    connection.execute(f"create table spans as select {columns} from {quoted(parquet)} "
                       "order by start_time, trace_id, span_id").complete()
    connection.execute("create index spans_trace_id on spans (trace_id)").complete()
    connection.execute("checkpoint").complete()
    connection.close()


def load_requests(spans, path):
    """A native table of requests in the order of time."""
    connection = duckdb.connect(str(path))
    connection.execute(f"attach {quoted(spans)} as source (read_only)")
    connection.execute("create table requests as with spans as (from source.spans) "
                       f"select * from {table(ALL)} order by start_time, trace_id").complete()
    connection.execute("checkpoint").complete()
    connection.close()


def parquet_columns(parquet):
    """The names of the columns of an export, without the team: there is only one."""
    with duckdb.connect() as connection:
        rows = connection.execute(f"describe select * from {quoted(parquet)}").fetchall()
    return [row[0] for row in rows if row[0] != "team_id"]


def common_column(name):
    """The expression for a column that both peers hold in the same form."""
    if name in ("trace_id", "span_id", "parent_span_id"):
        return f"unhex({name})"
    if name in ("start_time", "end_time"):
        return f"epoch_ns({name})"
    return name


def list_column(name, attributes):
    """The expression for events or links, with one form of their attributes."""
    fields = {
        "events": ('"time" := epoch_ns(one."time")', "name := one.name"),
        "links": ("trace_id := one.trace_id", "span_id := one.span_id",
                  "trace_state := one.trace_state", "flags := one.flags"),
    }[name]
    fields = ", ".join(fields)
    return (f"list_transform({name}, lambda one: struct_pack({fields}, attributes := {attributes}, "
            "dropped_attributes_count := one.dropped_attributes_count))")


def duckdb_columns(parquet):
    """Names and expressions of the columns of DuckDB's table."""
    for name in parquet_columns(parquet):
        if name in ("events", "links"):
            yield name, list_column(name, "one.attributes")
        elif not name.endswith("_json"):
            yield name, common_column(name)


def load_sqlite(parquet, path):
    """A table in the order of time with indexes on trace, session and time; ids
    are blobs, attributes are JSON texts. What a resource and a scope say is
    stored once. The view `all_columns` puts both together."""
    columns = dict(sqlite_columns(parquet))
    own = [name for name in columns if name not in SOURCE_COLUMNS]
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = off")
    of_sources = ", ".join(SOURCE_COLUMNS)
    connection.execute(f"create table sources (id integer primary key, {of_sources})")
    connection.execute(f"create table spans ({', '.join(own)}, source integer)")
    connection.execute("begin")
    sources = {}
    insert = f"insert into spans values ({', '.join('?' * (len(own) + 1))})"
    with duckdb.connect() as reader:
        wanted = ", ".join(columns[name] for name in (*own, *SOURCE_COLUMNS))
        reader.execute(f"select {wanted} from {quoted(parquet)} "
                       "order by start_time, trace_id, span_id")
        while rows := reader.fetchmany(10_000):
            connection.executemany(insert, (
                (*row[:len(own)], sources.setdefault(row[len(own):], len(sources) + 1))
                for row in rows
            ))
    marks = ", ".join("?" * (len(SOURCE_COLUMNS) + 1))
    connection.executemany(f"insert into sources values ({marks})",
                           ((number, *source) for source, number in sources.items()))
    connection.execute("commit")
    connection.execute(
        f"create view all_columns as select {', '.join('spans.' + name for name in own)}, "
        f"{', '.join('sources.' + name for name in SOURCE_COLUMNS)} "
        "from spans left join sources on sources.id = spans.source"
    )
    for column in ("trace_id", "session_id", "start_time"):
        connection.execute(f"create index spans_{column} on spans ({column})")
    connection.execute("analyze")
    connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()


def sqlite_columns(parquet):
    """Names and expressions of what SQLite's tables are filled with."""
    names = parquet_columns(parquet)
    for name in names:
        if name in ("events", "links"):
            items = list_column(name, "one.attributes_json::json")
            yield name, f"case when len({name}) > 0 then to_json({items})::varchar end"
        elif f"{name}_json" in names:
            yield name, f"{name}_json"
        elif not name.endswith("_json"):
            yield name, common_column(name)


def quoted(path):
    """A path as an SQL literal."""
    return "'" + str(path).replace("'", "''") + "'"


def sizes(directory, store):
    """Bytes of each form that is there."""
    forms = {
        "spanstore": directory / store / "segments",
        "Parquet export": directory / PARQUET,
        "DuckDB": directory / DUCKDB,
        "DuckDB's table of requests": directory / REQUESTS,
        "SQLite": directory / SQLITE,
    }
    return {name: total_bytes(path) for name, path in forms.items() if path.exists()}


def files(path):
    """The files at or below a path."""
    return [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]


def total_bytes(path):
    """Bytes of the files at or below a path."""
    return sum(one.stat().st_size for one in files(path))


def read_into_page_cache(path):
    """Reads the files at or below a path once."""
    for one in files(path):
        with one.open("rb", buffering=0) as reader:
            while reader.read(1 << 24):
                pass


def drop_from_page_cache(path):
    """Asks the system to forget what it holds of the files at or below a path."""
    for one in files(path):
        descriptor = os.open(one, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def remove(path):
    """Removes a file or a directory, and the journals of a database."""
    for one in (path, Path(f"{path}-wal"), Path(f"{path}-shm"), Path(f"{path}.wal")):
        if one.is_dir():
            shutil.rmtree(one)
        else:
            one.unlink(missing_ok=True)
