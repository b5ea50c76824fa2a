"""Compares the SQL of docs/operations.md with `spantap stats`.

    sql.py SPANTAP_BINARY

Runs over recorded sessions, made sessions (hostile names, broken lines, foreign files) and ten thousand
generated calls, and over sessions whose agents reported their model calls and whose server sent spans. DuckDB runs all
blocks except ClickHouse's, which ClickHouse's engine (chdb) runs, and lnav's (lnav.sh).
"""

import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile

import chdb.session
import duckdb

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
FIELDS_OF_TURNS = ["model_calls", "errors", "tools", "refused", "input_tokens", "cached_tokens", "output_tokens", "cost_usd"]
FIELDS = ["calls", "errors", "p50_ms", "p95_ms", "p99_ms", "most_repeats", "tokens_est"]
# Tool, service, span and number of the spans in fixtures/agents/joins/trace.
SPANS_OF_SERVER = ("get-sum", "math", "tools/call get-sum", 1)


def blocks() -> list:
    """(name, text) of each SQL block of the page."""
    with open(f"{ROOT}/docs/operations.md") as file:
        found = re.findall(r"^```sql ?([\w-]*)\n(.*?)^```$", file.read(), re.M | re.S)
    assert len(found) >= 8, f"{len(found)} blocks"
    return found


def stats(spantap: str, folder: str, by: str) -> dict:
    done = subprocess.run([spantap, "stats", "--json", "--by", by, folder], check=True, capture_output=True, text=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    keys = {"session": ["session_id"], "turn": ["agent_name", "session_id", "turn_id"]}.get(by, ["server_name", "tool_name"])
    return {tuple(row.get(key, "") for key in keys): row for row in rows}


def compare(what: str, rows: list, names: list, ours: dict, keys: int, fields: list) -> None:
    theirs = {row[:keys]: dict(zip(names, row)) for row in rows}
    assert theirs.keys() == ours.keys() and ours, f"{what}: groups {theirs.keys() ^ ours.keys()}"
    for key, row in theirs.items():
        for field in fields:
            a, b = row[field], ours[key].get(field)
            absent = lambda x: x is None or (isinstance(x, float) and math.isnan(x))
            same = absent(a) and absent(b) or not (absent(a) or absent(b)) and math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-6)
            assert same, f"{what} {key} {field}: {a}, stats {b}"


def run_duckdb(spantap: str, folder: str) -> int:
    connection = duckdb.connect()
    ran = 0
    for name, text in blocks():
        if name.startswith("clickhouse") or name == "lnav":
            continue
        cursor = connection.execute(text.replace("~/.local/state/spantap/sessions", folder))
        rows, names = cursor.fetchall(), [column[0] for column in cursor.description]
        if name == "by-tool":
            compare("DuckDB", rows, names, stats(spantap, folder, "server,tool"), 2, FIELDS)
        elif name == "by-session":
            compare("DuckDB", rows, names, stats(spantap, folder, "session"), 1, ["calls", "turns", "denied", "errors"])
        elif name == "by-turn" and (rows or "agents" in folder):
            compare("DuckDB", rows, names, stats(spantap, folder, "turn"), 3, FIELDS_OF_TURNS)
        elif name == "server-spans" and folder.endswith("joins/trace"):
            assert [row[1:5] for row in rows] == [SPANS_OF_SERVER], f"spans of a server: {rows}"
        elif name == "refused" and folder.endswith("agents/session"):
            assert [row[2:] for row in rows] == [("files", "write_file", "user", 1)], f"refused: {rows}"
        elif name == "" and "agents" not in folder and folder.startswith(ROOT):
            assert rows, f"no rows: {text}"
        ran += 1
    return ran


def run_clickhouse(spantap: str, folder: str) -> int:
    ran = 0
    with tempfile.TemporaryDirectory() as home:
        session = chdb.session.Session(f"{home}/db")
        for name, text in blocks():
            if not name.startswith("clickhouse"):
                continue
            text = text.replace("sessions/*.jsonl", f"{folder}/*.jsonl").rstrip().rstrip(";")
            answer = session.query(text, "JSONCompact") if name != "clickhouse" else session.query(text)
            if name == "clickhouse-by-tool":
                parsed = json.loads(str(answer))
                names = [column["name"] for column in parsed["meta"]]
                rows = [tuple(row[:2]) + tuple(None if cell is None else float(cell) for cell in row[2:]) for row in parsed["data"]]
                compare("ClickHouse", rows, names, stats(spantap, folder, "server,tool"), 2, FIELDS)
            elif name == "clickhouse-by-turn":
                parsed = json.loads(str(answer))
                names = [column["name"] for column in parsed["meta"]]
                rows = [tuple(row[:3]) + tuple(None if cell is None else float(cell) for cell in row[3:]) for row in parsed["data"]]
                if rows or "agents" in folder:
                    compare("ClickHouse", rows, names, stats(spantap, folder, "turn"), 3, FIELDS_OF_TURNS)
            elif name == "clickhouse-server-spans" and folder.endswith("joins/trace"):
                rows = [(*row[1:4], int(row[4])) for row in json.loads(str(answer))["data"]]
                assert rows == [SPANS_OF_SERVER], f"spans of a server: {rows}"
            ran += 1
        session.close()
    return ran


def main() -> int:
    spantap = os.path.abspath(sys.argv[1])
    work = tempfile.mkdtemp(prefix="spantap-sql-")
    subprocess.run([sys.executable, f"{ROOT}/tests/report/make_logs.py", f"{work}/many", "--calls", "10000"], check=True)
    passed = failed = 0
    for folder in (f"{ROOT}/fixtures/logs", f"{ROOT}/fixtures/made-logs", f"{ROOT}/fixtures/agents/session", f"{ROOT}/fixtures/agents/joins/trace", f"{work}/many"):
        for engine in (run_duckdb, run_clickhouse):
            name = f"{engine.__name__} over {os.path.basename(folder)}"
            try:
                print(f"ok   {name}: {engine(spantap, folder)} blocks", flush=True)
                passed += 1
            except Exception as error:
                print(f"FAIL {name}: {error}", flush=True)
                failed += 1
    shutil.rmtree(work)
    print(f"sql: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
