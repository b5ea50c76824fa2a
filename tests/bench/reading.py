#!/usr/bin/env python3
"""Compares spantap's reading commands with DuckDB, which answers the same questions from the same logs.

    tests/bench/reading.py SPANTAP [--logs FOLDER] [--rounds 5]

Without --logs, tests/report/make_logs.py first writes a million calls (1.1 GB) into a temporary folder. Both programs
take turns, so that other load on the machine affects them alike. The times of spantap are those of its whole process;
those of DuckDB begin after Python has started and imported it. DuckDB reads only the columns that its answer needs. The
script checks in each round that both answers are the same, and fails if they are not. Prints a table in Markdown, with
medians of all rounds. Needs the module duckdb (pinned in tests/real/setup/tools.txt).
"""
import argparse
import json
import math
import os
import pathlib
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

FAILED = "status not in ('ok', 'unknown', 'denied')"
TYPES = {
    "event": "VARCHAR", "server_name": "VARCHAR", "tool_name": "VARCHAR", "status": "VARCHAR", "duration_ms": "DOUBLE",
    "session_id": "VARCHAR", "connection_id": "VARCHAR", "seq": "UBIGINT", "started_at": "TIMESTAMP",
    "ended_at": "TIMESTAMP", "timestamp": "TIMESTAMP", "turn_id": "VARCHAR", "error_type": "VARCHAR",
    "continues_seq": "UBIGINT", "args_tokens_est": "UBIGINT", "result_tokens_est": "UBIGINT",
}
PAIRS = f"""
  select server_name, tool_name, count(*) as calls, count(*) filter ({FAILED}) as errors,
         sum(coalesce(args_tokens_est, 0) + coalesce(result_tokens_est, 0)) as tokens,
         quantile_cont(duration_ms, [0.5, 0.95, 0.99]) as ms
  from CALLS group by all"""
SESSIONS = f"""
  select session_id, count(*) as calls, count(*) filter ({FAILED}) as errors,
         sum(coalesce(args_tokens_est, 0) + coalesce(result_tokens_est, 0)) as tokens,
         count(distinct connection_id), count(distinct turn_id), list(distinct server_name),
         min(started_at), max(ended_at)
  from CALLS group by all order by min(started_at) desc"""
LAST = """
  select connection_id, seq, timestamp, server_name, tool_name, status, error_type, duration_ms
  from CALLS order by timestamp desc limit {}"""
# `show` draws the first 200 operations of a session, and the failures.
SHOWN = f"""
  select * from (select * from calls order by started_at limit 200)
  union select * from calls where {FAILED} order by started_at, seq"""
# The parts of the page of `report`: totals of tools and sessions, errors, a timeline, the last 10,000 operations.
ERRORS = f"select server_name, tool_name, error_type, count(*), max(timestamp) from CALLS where {FAILED} group by all"
TIMELINE = f"""
  select server_name, time_bucket(interval 1 hour, started_at), count(*), count(*) filter ({FAILED})
  from CALLS group by all"""


def ask(question, folder):
    """Answers with DuckDB. Prints the times, the memory and the answer as JSON."""
    import duckdb

    files = [str(path) for path in sorted(pathlib.Path(folder).glob("*.jsonl"))]
    query, _, session = question.partition(" ")

    def calls(text):
        """Returns a table of the calls that has the columns of `text`."""
        columns = {name: kind for name, kind in TYPES.items() if re.search(rf"\b{name}\b", text)}
        columns |= {"event": "VARCHAR", "continues_seq": "UBIGINT"}
        return (f"(from read_json({files}, format = 'newline_delimited', ignore_errors = true, columns = {columns})"
                " where event = 'mcp_tool_call' and continues_seq is null)")

    began, cpu = time.perf_counter(), used(resource.RUSAGE_SELF)
    database = duckdb.connect()

    # Without parameters: the first one makes the module import others, which takes half a second.
    def rows(text):
        return database.execute(text.replace("CALLS", calls(text))).fetchall()

    if query == "stats":
        answer = pairs(rows(PAIRS))
    elif query == "sessions":
        answer = totals(rows(SESSIONS))
    elif query == "tail":
        answer = sorted(f"{row[0]}/{row[1]}" for row in rows(LAST.format(20)))
    elif query == "show":
        needed = calls(LAST + " session_id started_at turn_id")
        database.execute(f"create temp table calls as from {needed} where session_id = '{session}'")
        database.execute(SHOWN).fetchall()
        answer = list(database.execute(f"select count(*), count(*) filter ({FAILED}) from calls").fetchone())
    else:
        parts = [PAIRS, SESSIONS, ERRORS, TIMELINE, LAST.format(10_000)]
        database.execute(f"create temp table calls as {calls(' '.join(parts))}")
        results = [database.execute(part.replace("CALLS", "calls")).fetchall() for part in parts]
        answer = [pairs(results[0]), totals(results[1])]
    figures = [time.perf_counter() - began, used(resource.RUSAGE_SELF) - cpu, peak(resource.RUSAGE_SELF)]
    print(json.dumps([figures, answer]))


def used(who):
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def peak(who):
    return resource.getrusage(who).ru_maxrss / 1024


def pairs(rows):
    return {f"{row[0]}/{row[1]}": [row[2], row[3], int(row[4]), *row[5]] for row in rows}


def totals(rows):
    return {row[0]: [row[1], row[2], int(row[3])] for row in rows}


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def read_stats(text):
    fields = ["calls", "errors", "tokens_est", "p50_ms", "p95_ms", "p99_ms"]
    return {f"{row['server_name']}/{row['tool_name']}": [row[field] for field in fields] for row in lines(text)}


def read_sessions(text):
    return {row["session_id"]: [row["calls"], row["errors"], row["tokens_est"]] for row in lines(text)}


def read_tail(text):
    return sorted(f"{row['connection_id']}/{row['seq']}" for row in lines(text))


def read_show(text):
    return [int(number) for number in re.search(r"^(\d+) calls, (\d+) errors", text, re.MULTILINE).groups()]


def read_report(text):
    data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)[1])
    fields = ["calls", "errors", "tokens"]
    tools = {
        f"{row['server']}/{row['tool']}": [*(row[field] for field in fields), *row["ms"][:3]] for row in data["pairs"]}
    return [tools, {row["id"]: [row[field] for field in fields] for row in data["sessions"]}]


def same(ours, theirs):
    """Returns true if both have the same shape and numbers; a percentile may differ by one part in a billion."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(value, theirs[key]) for key, value in ours.items())
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, float) or isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-9)
    return ours == theirs


def spantap(command):
    """Runs a command of spantap. Returns its times, its memory and what it prints."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        began = time.perf_counter()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        elapsed = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            sys.exit(f"{command} ended with {child.returncode}")
        out.seek(0)
        return [elapsed, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024], out.read()


def duckdb(question, folder):
    """Returns the same of DuckDB."""
    command = [sys.executable, __file__, "--ask", question, folder]
    child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(child.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spantap", help="the program; with --ask a folder of logs")
    parser.add_argument("--logs", type=pathlib.Path, help="a folder of logs instead of a million calls")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        ask(options.ask, options.spantap)
        return
    with tempfile.TemporaryDirectory() as folder:
        logs = options.logs or pathlib.Path(folder, "logs")
        if not options.logs:
            maker = pathlib.Path(__file__).parents[1] / "report/make_logs.py"
            subprocess.run([sys.executable, maker, logs, "--calls", "1000000"], check=True)
        compare(os.path.abspath(options.spantap), logs, options.rounds)


def compare(program, logs, rounds):
    session = json.loads(next(iter(sorted(logs.glob("*.jsonl")))).open().readline())["session_id"]
    commands = {
        "stats": (["stats", "--json"], read_stats),
        "sessions": (["sessions", "--json", "-n", "1000000"], read_sessions),
        "tail": (["tail", "--json"], read_tail),
        f"show {session}": (["show", session, "--color", "never"], read_show),
        "report": (["report", "-o", "-"], read_report),
    }
    figures = {question: {"spantap": [], "duckdb": []} for question in commands}
    for number in range(rounds + 1):
        for question in random.sample(list(commands), len(commands)):
            words, reader = commands[question]
            runs = {
                "spantap": lambda: spantap([program, *words, str(logs)]),
                "duckdb": lambda: duckdb(question, str(logs)),
            }
            answers = {}
            for who in random.sample(list(runs), len(runs)):
                taken, answers[who] = runs[who]()
                # The first round only brings the files into memory.
                if number > 0:
                    figures[question][who].append(taken)
            answer = reader(answers["spantap"])
            if not same(answer, answers["duckdb"]):
                sys.exit(f"{question}: the answers differ:\n{answer}\n{answers['duckdb']}")
        print(f"round {number} of {rounds}: all answers are the same", file=sys.stderr)
    print("| command | elapsed, spantap / DuckDB | CPU, spantap / DuckDB | CPU | peak memory |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for question, both in figures.items():
        rounds = list(zip(both["spantap"], both["duckdb"]))
        elapsed, cpu = (statistics.median(ours[at] / theirs[at] for ours, theirs in rounds) for at in (0, 1))
        own = [[statistics.median(taken[at] for taken in both[who]) for who in both] for at in (1, 2)]
        print(f"| `{question.split()[0]}` | {elapsed:.2f} | {cpu:.2f} | {own[0][0]:.2f} s; {own[0][1]:.2f} s"
              f" | {own[1][0]:.0f} MiB; {own[1][1]:.0f} MiB |")


main()
