"""The systems that are compared, with one interface.

`ask(question, constants)` gives the nanoseconds that the question took and the
answer in the one form that all systems' answers are compared in:

- `count`: an integer
- `ids`: `[trace id, span id]` of each row in hexadecimal digits, in order
- `values`: the values of each row, ids in hexadecimal digits, in order
- `facets`: column to value (a text, or None) to the number of spans
"""

import json
import math
import multiprocessing
import sqlite3
import subprocess
import time

import duckdb

import data
import questions


class DuckDb:
    """DuckDB in this process. What is timed makes the rows, but no Python values
    of them; the answer comes from asking once more."""

    name = "DuckDB"
    file = data.DUCKDB

    def __init__(self, directory, threads, **_):
        start = time.perf_counter_ns()
        self.connection = duckdb.connect(str(directory / data.DUCKDB), read_only=True)
        self.connection.execute(f"set threads = {threads}").complete()
        self.opening = time.perf_counter_ns() - start

    def text(self, question):
        """What it is asked; nothing where it is not."""
        return question.duckdb

    def ask(self, question, constants):
        text = self.text(question).format_map(literals(constants, "unhex('{}')"))
        start = time.perf_counter_ns()
        self.connection.execute(text).complete()
        nanos = time.perf_counter_ns() - start
        return nanos, answer_of_rows(question, self.connection.execute(text).fetchall())

    def version(self):
        return duckdb.__version__

    def close(self):
        self.connection.close()


class DuckDbRequests(DuckDb):
    """DuckDB with a table of requests beside that of spans."""

    name = "DuckDB with requests"
    file = data.REQUESTS

    def __init__(self, directory, threads, **more):
        super().__init__(directory, threads, **more)
        requests = data.quoted(directory / data.REQUESTS)
        self.connection.execute(f"attach {requests} as {data.REQUESTS_SCHEMA} (read_only)")

    def text(self, question):
        return question.requests


class Sqlite:
    """SQLite in this process. Its rows are Python values at once."""

    name = "SQLite"
    file = data.SQLITE

    def __init__(self, directory, threads, **_):
        start = time.perf_counter_ns()
        self.connection = sqlite3.connect(directory / self.file, isolation_level=None)
        # Sorting in memory (`temp_store`) would take three times as long as in files.
        for setting in ("query_only = on", f"threads = {threads}", "mmap_size = 2147418112",
                        "cache_size = -262144"):
            self.connection.execute(f"pragma {setting}")
        self.opening = time.perf_counter_ns() - start

    def text(self, question):
        """What it is asked; nothing where it is not."""
        return question.sqlite

    def ask(self, question, constants):
        text = question.sqlite.format_map({name: f":{name}" for name in constants})
        start = time.perf_counter_ns()
        rows = self.connection.execute(text, constants).fetchall()
        nanos = time.perf_counter_ns() - start
        return nanos, answer_of_rows(question, rows)

    def version(self):
        return sqlite3.sqlite_version

    def close(self):
        self.connection.close()


class Spanstore:
    """spanstore in the process of `cli/examples/answer.rs`, which takes the time
    of the call itself: the rows as Arrow batches, but no JSON of them."""

    name = "spanstore"
    file = data.STORE

    def __init__(self, directory, threads, answer, file, unsealed=None):
        command = [answer, str(directory / file), data.TEAM, str(threads)]
        command += [str(unsealed)] if unsealed else []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, encoding="utf-8")
        self.opening, self.release = self.read()

    def text(self, question):
        """What it is asked: it is asked everything."""
        return question.name

    def ask(self, question, constants):
        request = {"kind": question.kind, "rows": question.rows,
                   "columns": question.columns or None}
        text = question.spanstore.format_map(literals(constants))
        if question.kind == "trace":
            request["id"] = constants["trace"].hex()
        elif question.kind == "session":
            request["id"] = constants["session"]
        elif question.kind == "sql":
            request["text"] = text
        else:
            times = {name: constants.get(name) for name in ("since", "until")}
            request.update(times, filter=text or None, limit=question.limit)
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        nanos, answer = self.read()
        if question.form == "count" and question.kind == "sql":
            [[answer]] = answer
        if question.form == "facets":
            answer = {column: dict(counts) for column, counts in answer.items()}
        return nanos, answer

    def read(self):
        line = self.process.stdout.readline()
        reply = json.loads(line) if line else {"error": "it has ended"}
        if "error" in reply:
            raise RuntimeError(f"spanstore: {reply['error']}")
        return reply["nanos"], reply["answer"]

    def version(self):
        return self.release

    def close(self):
        self.process.stdin.close()
        self.process.wait()


SYSTEMS = {system.name: system for system in (Spanstore, DuckDb, DuckDbRequests, Sqlite)}


def literals(constants, blob="{}"):
    """Constants as they stand in a text; a quote in a text is written twice."""
    def literal(value):
        if isinstance(value, bytes):
            return blob.format(value.hex())
        return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)

    return {name: literal(value) for name, value in constants.items()}


def answer_of_rows(question, rows):
    """Rows of an SQL query in the form in which answers are compared."""
    if question.form == "count":
        [[number]] = rows
        return number
    if question.form == "ids":
        return [[trace.hex(), span.hex()] for trace, span, *_ in rows]
    if question.form == "facets":
        facets = {column: {} for column in question.columns}
        for column, value, number in rows:
            facets[column][value] = number
        return facets
    return [[value.hex() if isinstance(value, bytes) else value for value in row] for row in rows]


def are_equal(one, other):
    """Whether two answers are equal, fractions to six digits."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(are_equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(are_equal, one, other))
    if isinstance(one, float) or isinstance(other, float):
        is_number = isinstance(one, (int, float)) and isinstance(other, (int, float))
        return is_number and math.isclose(one, other, rel_tol=5e-6)
    return one == other


def ask_cold(name, path, make, question_name, constants):
    """Nanoseconds to open a system and to answer its first question, in a process
    of its own, after the page cache was told to forget its files."""
    data.drop_from_page_cache(path)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(ask_once, (name, make, question_name, constants))


def ask_once(name, make, question_name, constants):
    """Opens a system and asks one question."""
    [question] = [one for one in questions.QUESTIONS if one.name == question_name]
    system = SYSTEMS[name](**make)
    nanos, _ = system.ask(question, constants)
    system.close()
    return system.opening + nanos
