#!/usr/bin/env python3
"""Compares spanstore with DuckDB and SQLite on the same spans.

`python3 benches/peers/run.py --spans 1000000 --out DIR`, see README.md.
"""

import argparse
import importlib.util
import os
import platform
import random
import subprocess
import sys
import venv
from pathlib import Path

# Its Python interface can end a query without making Python values of the rows.
DUCKDB = "duckdb>=2,<3"
REPOSITORY = Path(__file__).resolve().parents[2]

WARM_UPS = 10
COLD_RUNS = 5
# A system that takes longer in each of the first warm-ups is asked less often.
LONG_NANOS = 100_000_000
FEW_WARM_UPS = 3
FEW_RUNS = 5


def arguments():
    release = REPOSITORY / "target" / "release"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, required=True,
                        help="directory of the data and the report; what is there is used again")
    parser.add_argument("--spanstore", type=Path, default=release / "spanstore",
                        help="the command line, which makes the data")
    parser.add_argument("--answer", type=Path, default=release / "examples" / "answer",
                        help="the program that answers questions in process")
    parser.add_argument("--month", default="2026-10", help="UTC month of the spans, YYYY-MM")
    parser.add_argument("--data-seed", type=int, default=42, help="seed of the spans")
    parser.add_argument("--seed", type=int, default=1, help="seed of the constants in questions")
    parser.add_argument("--runs", type=int, default=30, help="times that a question is asked")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--systems", default="spanstore,DuckDB,DuckDB with requests,SQLite")
    parser.add_argument("--only", default="", help="only questions whose name contains this")
    parser.add_argument("--unsealed", type=int, metavar="BATCH",
                        help="spanstore has the spans in memory, appended in batches of so many")
    parser.add_argument("--segments", type=int, default=1,
                        help="spanstore has the spans in so many segments, at most 8")
    parser.add_argument("--no-cold", action="store_true", help="leave out the cold figures")
    return parser.parse_args()


def with_duckdb(directory):
    """Goes on in a virtual environment where this interpreter has no DuckDB."""
    if importlib.util.find_spec("duckdb"):
        return
    environment = directory.resolve() / "venv"
    python = environment / "bin" / "python"
    if sys.prefix == str(environment):
        raise SystemExit(f"{environment} has no duckdb: remove it and start again")
    if not python.exists():
        venv.create(environment, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", DUCKDB], check=True)
    os.execv(python, [str(python), *sys.argv])


def main():
    options = arguments()
    with_duckdb(options.out)
    # These need DuckDB.
    import data
    import table
    from systems import SYSTEMS

    names = options.systems.split(",")
    needed = [options.spanstore] + [options.answer] * ("spanstore" in names)
    if missing := [str(path) for path in needed if not path.exists()]:
        raise SystemExit(f"not found: {', '.join(missing)}\nBuild both with\n  cargo build "
                         "--release -p spanstore-cli --bin spanstore --example answer")
    directory = options.out.resolve()
    store = data.store_of(options.segments)
    files = {name: system.file for name, system in SYSTEMS.items()} | {"spanstore": store}
    sizes = data.prepare(directory, options.spans, options.data_seed, options.month,
                         str(options.spanstore.resolve()), options.segments,
                         [files[name] for name in names])
    asked = draw(directory, options)
    answer = str(options.answer.resolve())
    for name in names:
        data.read_into_page_cache(directory / files[name])
    make = {"directory": directory, "threads": options.threads, "answer": answer, "file": store}
    systems = [SYSTEMS[name](**make, unsealed=options.unsealed) for name in names]
    report = {
        "facts": facts(options, directory, systems),
        "spans": options.spans,
        "systems": names,
        "bytes": sizes,
        "runs": options.runs,
        "cold_runs": COLD_RUNS,
        "questions": [ask(question, constants, systems) for question, constants in asked],
    }
    for system in systems:
        system.close()
    if not (options.no_cold or options.unsealed):
        ask_cold(report, asked, {name: directory / files[name] for name in names}, make)
    table.write(report, directory)
    if not all(question["is_equal"] for question in report["questions"]):
        sys.exit("answers differ")


def draw(directory, options):
    """The questions, with the constants of all their runs."""
    import duckdb

    import data
    from constants import Values
    import questions
    import request_questions

    with duckdb.connect(str(directory / data.DUCKDB), read_only=True) as connection:
        values = Values(connection)
    if values.not_first:
        print(f"{values.not_first} spans start at the time of another: where the newest 50 end "
              "among them, answers differ", file=sys.stderr)
    asked = []
    for question in questions.QUESTIONS + request_questions.QUESTIONS:
        if options.only in question.name:
            # Each has its own seed, so that one more question changes no other.
            by_chance = random.Random(f"{options.seed} {question.name}")
            runs = range(WARM_UPS + options.runs)
            asked.append((question, [question.draw(values, by_chance) for _ in runs]))
    return asked


def ask(question, constants, systems):
    """Asks all systems a question with all constants, and compares the answers."""
    from systems import are_equal

    print(question.name, flush=True)
    answers, nanos = {}, {}
    for system in systems:
        if not system.text(question):
            continue
        shortest = min(system.ask(question, one)[0] for one in constants[:FEW_WARM_UPS])
        wanted = constants[WARM_UPS:WARM_UPS + FEW_RUNS]
        if shortest < LONG_NANOS:
            wanted = constants[WARM_UPS:]
            for one in constants[FEW_WARM_UPS:WARM_UPS]:
                system.ask(question, one)
        replies = [system.ask(question, one) for one in wanted]
        nanos[system.name] = [taken for taken, _ in replies]
        answers[system.name] = [answer for _, answer in replies]
    is_equal = True
    reference = max(answers, key=lambda name: len(answers[name]))
    for name, given in answers.items():
        for run, (answer, expected) in enumerate(zip(given, answers[reference])):
            if not are_equal(answer, expected):
                is_equal = False
                print(f"  {name} and {reference} differ with {constants[WARM_UPS + run]}:\n"
                      f"    {str(answer)[:400]}\n    {str(expected)[:400]}", file=sys.stderr)
                break
    rows = [len(answer) for answer in answers[reference] if isinstance(answer, list)]
    return {"name": question.name, "about": question.rows, "is_equal": is_equal,
            "nanos": nanos, "cold": {},
            "rows": sum(rows) / len(rows) if rows else None}


def ask_cold(report, asked, paths, make):
    """Adds the cold figures."""
    from systems import ask_cold as ask_one_cold

    for (question, constants), figures in zip(asked, report["questions"]):
        if question.is_asked_cold:
            print(f"cold: {question.name}", flush=True)
            figures["cold"] = {
                name: [ask_one_cold(name, path, make, question.name, one)
                       for one in constants[-COLD_RUNS:]]
                for name, path in paths.items() if name in figures["nanos"]
            }


def facts(options, directory, systems):
    """What the figures depend on."""
    def output(*command):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True, cwd=REPOSITORY)
        return done.stdout.strip()

    about = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":", 1)[1].strip() for line in about if line.startswith("model name")]
    return {
        "spans": f"{options.spans:,}, seed {options.data_seed}, month {options.month}"
                 + f", unsealed, batches of {options.unsealed}" * bool(options.unsealed)
                 + f", in {options.segments} segments" * (options.segments > 1),
        "systems": ", ".join(f"{system.name} {system.version()}" for system in systems),
        "commit": output("git", "rev-parse", "--short", "HEAD"),
        "processor": f"{models[0] if models else platform.processor()}, {os.cpu_count()} threads",
        "file system": output("df", "--output=fstype", str(directory)).split()[-1],
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "threads of a query": options.threads,
        "constants": f"seed {options.seed}, {options.runs} runs after {WARM_UPS} to warm up",
    }


if __name__ == "__main__":
    main()
