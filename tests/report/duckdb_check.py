#!/usr/bin/env python3
"""Compares `spantap stats --json` with DuckDB over the same files.

  duckdb_check.py SPANTAP FOLDER

Needs the module duckdb (pinned in tests/real/setup/tools.txt). Counts must be equal; percentiles may differ by one
part in a billion.
"""

import json
import math
import pathlib
import subprocess
import sys

import duckdb

QUERY = """
  select server_name, tool_name,
         count(*) filter (continues_seq is null) as calls,
         count(*) filter (status not in ('ok', 'unknown', 'denied')) as errors,
         count(*) filter (status = 'denied') as denied,
         count(*) filter (status = 'unknown') as unknown,
         count(*) filter (repeat_count > 1) as repeats,
         sum(coalesce(args_tokens_est, 0) + coalesce(result_tokens_est, 0)) as tokens_est,
         quantile_cont(duration_ms, [0.5, 0.95, 0.99]) filter (status <> 'unknown') as ms
  from read_json($files, format = 'newline_delimited', ignore_errors = true, columns = {
         event: 'VARCHAR', server_name: 'VARCHAR', tool_name: 'VARCHAR', status: 'VARCHAR', duration_ms: 'DOUBLE',
         continues_seq: 'UBIGINT', repeat_count: 'UBIGINT', args_tokens_est: 'UBIGINT', result_tokens_est: 'UBIGINT'})
  where event = 'mcp_tool_call'
  group by all
"""


def main():
    spantap, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    files = sorted(str(path) for path in folder.glob("*.jsonl"))
    lines = subprocess.run([spantap, "stats", "--json", folder], check=True, capture_output=True, text=True).stdout
    ours = {(row["server_name"], row["tool_name"]): row for row in map(json.loads, lines.splitlines())}
    cursor = duckdb.execute(QUERY, {"files": files})
    names = [column[0] for column in cursor.description]
    theirs = [dict(zip(names, row)) for row in cursor.fetchall()]
    problems = []
    if len(theirs) != len(ours) or not theirs:
        problems.append(f"{len(ours)} groups for {len(theirs)}")
    for row in theirs:
        mine = ours.get((row["server_name"], row["tool_name"]), {})
        for field in ["calls", "errors", "denied", "unknown", "repeats", "tokens_est"]:
            if mine.get(field) != row[field]:
                problems.append(f"{row['server_name']}/{row['tool_name']} {field}: {mine.get(field)} for {row[field]}")
        for name, value in zip(["p50_ms", "p95_ms", "p99_ms"], row["ms"] or []):
            if name not in mine or not math.isclose(mine[name], value, rel_tol=1e-9, abs_tol=1e-9):
                problems.append(f"{row['server_name']}/{row['tool_name']} {name}: {mine.get(name)} for {value}")
    for problem in problems:
        print(f"not equal: {problem}", file=sys.stderr)
    print(f"{len(theirs)} groups compared, {len(problems)} differences")
    sys.exit(1 if problems else 0)


main()
