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


def stats(spantap: str, folder: str, by: str) -> list:
    """(key, row) of each row."""
    done = subprocess.run([spantap, "stats", "--json", "--by", by, folder], check=True, capture_output=True, text=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    keys = {"session": ["session_id"], "turn": ["agent_name", "agent_session_id", "turn_id"]}.get(by, ["server_name", "tool_name"])
    found = [(tuple(row.get(key, "") for key in keys), row) for row in rows]
    return of_agent_sessions(found) if by == "turn" else found


def of_agent_sessions(rows: list) -> list:
    """Adds up the turns that are in several sessions of spantap: the queries know only the agent's sessions."""
    sums = {}
    for key, row in rows:
        known = sums.setdefault(key, {"sessions": set()})
        assert row["session_id"] not in known["sessions"], f"two rows of turn {key} in one session"
        known["sessions"].add(row["session_id"])
        for field in FIELDS_OF_TURNS:
            if row.get(field) is not None:
                known[field] = known.get(field, 0) + row[field]
    return list(sums.items())


def by_key(what: str, rows: list) -> dict:
    found = dict(rows)
    assert len(found) == len(rows), f"{what}: {len(rows)} rows have {len(found)} keys"
    return found


def compare(what: str, rows: list, names: list, stats_rows: list, keys: int, fields: list) -> None:
    theirs = by_key(what, [(row[:keys], dict(zip(names, row))) for row in rows])
    ours = by_key(f"stats, {what}", stats_rows)
    assert theirs.keys() == ours.keys() and ours, f"{what}: groups {theirs.keys() ^ ours.keys()}"
    for key, row in theirs.items():
        for field in fields:
            a, b = row[field], ours[key].get(field)
            absent = lambda x: x is None or (isinstance(x, float) and math.isnan(x))
            same = absent(a) and absent(b) or not (absent(a) or absent(b)) and math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-6)
            assert same, f"{what} {key} {field}: {a}, stats {b}"


def make_parts(folder: str) -> None:
    """Facts whose parts are in two files and in no order, and a turn that goes on in two sessions."""
    os.makedirs(folder)
    at = lambda minute, second=0: f"2026-11-29T10:{minute:02}:{second:02}.000000Z"
    wire = [
        {"schema": "spantap/1", "event": "mcp_tool_call", "method": "tools/call", "seq": 1, "session_id": f"s{number}", "connection_id": f"01a2027b-0000-7000-8000-00000000000{number}",
         "server_name": "files", "host_name": "codex-mcp-client", "conversation_id": "c", "tool_name": "read", "status": "ok", "duration_ms": 1000.0, "started_at": at(minute), "timestamp": at(minute, 1)}
        for number, minute in [(1, 1), (2, 40)]
    ]

    def part(event, seq, minute, **more):
        usual = {"schema": "spantap/1", "event": event, "seq": seq, "agent_name": "codex", "session_id": "c", "turn_id": "t", "connection_id": "01a2027b-0000-7000-8000-900000000000",
                 "status": "ok", "timestamp": at(minute), "started_at": at(minute), "fact_id": f"f{minute}"}
        return usual | more

    call = lambda *place, **more: part("model_call", *place, model="m", **more)
    first = [
        # Of two first parts the earlier one counts; the cost that the agent reported replaces the calculated one.
        call(7, 2, input_tokens=99, output_tokens=9, timestamp=at(3), cost_usd=0.5, cost_source="agent"),
        call(9, 4, amends=True, input_tokens=77, cached_tokens=7, status="error", timestamp=at(1)),
        part("agent_tool", 10, 5, tool_name="read", tool_server="files", decision="allowed"),
        # The agent uses one id for two kinds of reports.
        part("agent_tool", 12, 6, tool_name="read", timestamp=at(7)),
    ]
    second = [
        call(3, 2, input_tokens=10, cost_usd=1.0, cost_source="config"),
        call(4, 4, input_tokens=20, output_tokens=2, timestamp=at(5)),
        part("agent_tool", 11, 5, tool_name="read", tool_server="files", decision="refused", decided_by="user", amends=True),
        call(5, 6, input_tokens=30, output_tokens=3),
        call(6, 41, input_tokens=40, output_tokens=4),
    ]
    for name, lines in [("collect-2026-11-29-900000000000", first), ("collect-2026-11-29-900000000001", second), ("files-2026-11-29-000000000001", wire[:1]), ("files-2026-11-29-000000000002", wire[1:])]:
        with open(f"{folder}/{name}.jsonl", "w") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)


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
            # Turns of calls. Where an agent reported its turns, `stats` has those.
            fields = ["calls", "denied", "errors"] + ["turns"] * ("agents" not in folder)
            compare("DuckDB", rows, names, stats(spantap, folder, "session"), 1, fields)
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
    make_parts(f"{work}/agents-parts")
    passed = failed = 0
    for folder in (f"{ROOT}/fixtures/logs", f"{ROOT}/fixtures/made-logs", f"{ROOT}/fixtures/agents/session", f"{ROOT}/fixtures/agents/joins/trace", f"{work}/agents-parts", f"{work}/many"):
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
