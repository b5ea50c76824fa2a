"""Compares the boards with `spantap stats`.

    boards.py SPANTAP_BINARY

Real clients call real servers through spantap, which exports to VictoriaMetrics (with Prometheus' names) and
writes its files. Then each query of the five boards runs in VictoriaMetrics as Grafana would run it. Calls,
errors, error shares, tokens and repeats must equal `spantap stats --json` for the same sessions; a quantile must
be in the bucket of the exact one. Grafana's own Foundation SDK loads the boards. CI has no Grafana server.
"""

import bisect
import collections
import glob
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import warnings

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path[:0] = [f"{ROOT}/tests/real", f"{ROOT}/tests/real/otlp"]

import sessions
from collectors import free_port, listening, process, victoria, wait_until

BOUNDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, math.inf]
RANGE = "1h"
# These panels are empty: no price is set, no server dies, no resource is requested.
EMPTY = {"Other requests that fail", "Estimated cost", "Cost by server", "Connection failures by cause"}


def traffic(spantap: str, store, folder: str) -> None:
    """Runs the sessions in sequence."""
    echo = sessions.call("echo", message="again")
    jobs = [
        ("py2-legacy", "everything", None),
        ("ts1", "everything", None),
        ("py2-auto", "filesystem", None),
        ("py2-auto", "time", None),
        ("ts1", "everything", [echo] * 7 + [sessions.call("get-sum", a=1, b=number) for number in range(5)]),
    ]
    for number, (client, name, calls) in enumerate(jobs):
        work, scratch = f"{folder}/work", f"{folder}/{number}"
        os.makedirs(scratch)
        server = dict(sessions.servers(work)[name])
        server["env"] = {"OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "otlp",
                         "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": store.otlp_metrics}
        server["calls"] = calls or server["calls"]
        command = [spantap, "--server", name, "--log-dir", f"{folder}/log", "--", *server["command"]]
        assert sessions.drive(client, server, command, scratch, work)[0][0] == 0


def model_calls(spantap: str, store, folder: str) -> None:
    """Lets `spantap collect` receive what a real agent sent, and send metrics of it."""
    port = free_port()
    command = [spantap, "collect", "--listen", str(port), "--log-dir", f"{folder}/agents", "--otlp", f"{store.base}/opentelemetry"]
    with process(command, f"{folder}/collect.out") as running:
        wait_until("collect listens", lambda: running.poll() is None and listening(port))
        for path in sorted(glob.glob(f"{ROOT}/fixtures/agents/claude/*.json")):
            signal = os.path.basename(path).split("-")[1].removesuffix(".json")
            with open(path, "rb") as body:
                request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/{signal}", body.read(),
                                                 {"content-type": "application/json"})
            urllib.request.urlopen(request, timeout=30).close()
        running.terminate()
        assert running.wait(timeout=60) == 0


def boards() -> list:
    found = []
    for path in sorted(glob.glob(f"{ROOT}/docs/dashboards/grafana/*.json")):
        with open(path) as file:
            found.append(json.load(file))
    assert len(found) == 5
    return found


def load_with_foundation_sdk(board: dict) -> None:
    """Checks that Grafana's model of a dashboard keeps the board's panels and queries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from grafana_foundation_sdk.cog.encoder import JSONEncoder
        from grafana_foundation_sdk.cog.plugins import register_default_plugins
        from grafana_foundation_sdk.models.dashboard import Dashboard
        register_default_plugins()
        loaded = Dashboard.from_json(board)
    back = json.loads(JSONEncoder(sort_keys=True).encode(loaded))
    outline = lambda board: [(panel["type"], panel["title"], [target["expr"] for target in panel.get("targets", [])])
                             for panel in board["panels"]]
    assert (back["uid"], outline(back)) == (board["uid"], outline(board)), f"{board['uid']} differs after loading"


def expanded(expr: str) -> str:
    for name in ("$job", "$instance", "$server", "$tool"):
        expr = expr.replace(f'"{name}"', '".*"')
    expr = expr.replace("$__interval_ms", "60000").replace("$__interval", "1m").replace("$__range", RANGE)
    assert "$" not in expr, expr
    return expr


class Answers:
    """Results of all queries: by board and panel, a list of the targets' rows."""

    def __init__(self, store, at: float):
        self.by_panel = {}
        for board in boards():
            for panel in board["panels"]:
                rows = []
                for target in panel["targets"]:
                    query = expanded(target["expr"])
                    if target["instant"]:
                        rows.append(store.query(query, at))
                    else:
                        ranged = store.query_range(query, at - 1800, at, "1m")
                        rows.append([(labels, points[-1][1]) for labels, points in ranged])
                self.by_panel[board["uid"], panel["title"]] = rows
                if panel["targets"] and panel["title"] not in EMPTY:
                    assert all(rows), f"{board['uid']} / {panel['title']}: no data\n{[t['expr'] for t in panel['targets']]}"

    def one(self, board: str, title: str) -> float:
        [[(_, value)]] = self.by_panel[board, title]
        return value

    def by_tool(self, board: str, title: str, target: int = 0) -> dict:
        summed = collections.defaultdict(float)
        for labels, value in self.by_panel[board, title][target]:
            summed[labels["mcp_server_name"], labels["gen_ai_tool_name"]] += value
        return dict(summed)


def bucket(seconds: float) -> int:
    """Index of the first bucket whose bound is not below the duration."""
    return bisect.bisect_left(BOUNDS, seconds)


def compare(answers: Answers, spantap: str, folder: str) -> int:
    logs = sorted(glob.glob(f"{folder}/log/*.jsonl"))
    printed = subprocess.run([spantap, "stats", "--json", *logs], check=True, capture_output=True, text=True).stdout
    stats = {(row["server_name"], row["tool_name"]): row for row in map(json.loads, printed.splitlines())}
    records = sessions.records(f"{folder}/log")
    checks = 0

    def same(what: str, board: float, log: float) -> None:
        nonlocal checks
        checks += 1
        assert math.isclose(board, log, rel_tol=1e-6, abs_tol=1e-9), f"{what}: board {board}, log {log}"

    # Metrics count a tool that the server does not list as _OTHER, so that a client cannot flood labels.
    def on_metrics(key: tuple) -> tuple:
        return key if key[1] != "no-such-tool" else (key[0], "_OTHER")

    definitions = answers.by_tool("mcp-5-cost", "Definitions by tool")
    for record in records:
        for tool in record["tools"] if record["event"] == "tools_listed" else []:
            tokens = -(-tool["definition_bytes"] // 4)
            same(f"{tool['name']} definition", definitions[record["server_name"], tool["name"]], tokens)

    for key, row in stats.items():
        at = on_metrics(key)
        same(f"{key} calls", answers.by_tool("mcp-3-latency", "Latency by tool", 3).get(at, 0), row["calls"])
        # The conventions give a denied call an error type. The log's statistics count it apart.
        failed = row["errors"] + row["denied"]
        same(f"{key} errors", answers.by_tool("mcp-2-errors", "Most errors").get(at, 0), failed)
        if failed:
            same(f"{key} share", answers.by_tool("mcp-2-errors", "Error share by tool")[at], failed / row["calls"])
        if row["most_repeats"] > 1:
            same(f"{key} repeats", answers.by_tool("mcp-4-sessions", "Repeats")[at], row["most_repeats"])
        durations = sorted(record["duration_ms"] / 1e3 for record in records if record["event"] == "mcp_tool_call"
                           and (record["server_name"], record["tool_name"]) == key)
        for target, (point, name) in enumerate([(0.5, "p50_ms"), (0.95, "p95_ms"), (0.99, "p99_ms")]):
            board = answers.by_tool("mcp-3-latency", "Latency by tool", target)[at]
            # The sample of the histogram's quantile, and the two samples around the exact quantile.
            rank = max(math.ceil(point * len(durations)) - 1, 0)
            low, high = (durations[round_(point * (len(durations) - 1))] for round_ in (math.floor, math.ceil))
            assert bucket(low) <= bucket(row[name] / 1e3) <= bucket(high)
            # Records have whole microseconds: 1.0 ms is in the bucket above its bound if it was 1.0004 ms.
            samples = {bucket(durations[rank]), bucket(durations[rank] + 1e-6)}
            assert bucket(board) in samples or math.isclose(board, BOUNDS[bucket(durations[rank]) - 1]), \
                f"{key} {name}: board {board} s, log {row[name]} ms of {durations}"
            checks += 1

    asked = [record for record in records if record["event"] in ("mcp_tool_call", "mcp_request")]
    from_client = [record for record in asked if record["direction"] == "client_to_server"]
    connections = len({record["connection_id"] for record in records})
    calls = sum(row["calls"] for row in stats.values())
    same("operations", answers.one("mcp-1-health", "Operations"), len(from_client))
    # By the conventions these codes are errors of the client, not of the server.
    failed = sum(record["status"] != "ok" and record.get("error_code") not in (-32601, -32602) for record in from_client)
    same("error share", answers.one("mcp-1-health", "Error share"), failed / len(from_client))
    same("records lost", answers.one("mcp-1-health", "Records lost"), 0)
    same("sessions", answers.one("mcp-4-sessions", "Sessions"), connections)
    same("calls in a session", answers.one("mcp-4-sessions", "Calls in a session"), calls / connections)
    turns = {(record["connection_id"], record.get("conversation_id"), record["turn_id"]) for record in records
             if record["event"] == "mcp_tool_call" and "turn_id" in record}
    same("iterations", answers.one("mcp-4-sessions", "Iterations for a request"), calls / len(turns))
    [kinds] = answers.by_panel["mcp-5-cost", "Tokens by server and kind"]
    used = sum(value for labels, value in kinds if labels["spantap_token_kind"] in ("arguments", "results"))
    same("tokens", used, sum(row["tokens_est"] for row in stats.values()))

    told = [record for record in sessions.records(f"{folder}/agents") if record["event"] == "model_call"]
    [sent] = answers.by_panel["mcp-5-cost", "Tokens of model calls"]
    for kind in ("input", "output"):
        of_kind = sum(value for labels, value in sent if labels["gen_ai_token_type"] == kind)
        same(f"{kind} tokens of model calls", of_kind, sum(record.get(f"{kind}_tokens", 0) for record in told))
    return checks


def main() -> int:
    spantap = os.path.abspath(sys.argv[1])
    folder = tempfile.mkdtemp(prefix="spantap-boards-")
    for board in boards():
        load_with_foundation_sdk(board)
    with victoria() as store:
        traffic(spantap, store, folder)
        model_calls(spantap, store, folder)
        # Each spantap has ended, so the store has accepted its last export.
        store.flush()
        checks = compare(Answers(store, time.time()), spantap, folder)
    shutil.rmtree(folder)
    print(f"boards: {checks} passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
