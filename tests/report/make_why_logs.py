#!/usr/bin/env python3
"""Writes sessions with a known cause for `spantap why`: the same bytes on every run.

  make_why_logs.py DIR         one folder for each cause (fixtures/why)

Needs only the standard library.
"""

import pathlib
import random
import sys
from datetime import datetime, timedelta, timezone

from make_logs import HOSTILE, Connection

DAY = datetime(2026, 11, 24, 9, 0, 0, tzinfo=timezone.utc)


def ms(number):
    return timedelta(milliseconds=number)


class Case:
    """The logs of one session."""

    def __init__(self, folder, name, seed):
        self.folder, self.name, self.rng, self.connections = folder / name, name, random.Random(seed), []

    def server(self, name, at=0, start=200, greeting=True, session=None, day=DAY):
        """Starts a server `at` milliseconds after the beginning; it answers `initialize` after `start` milliseconds."""
        begin = day + ms(at)
        connection = Connection(self.rng, begin, name, session or self.name, "example-agent")
        if greeting:
            connection.call(begin + ms(2), None, start, method="initialize", turn="1")
            connection.call(begin + ms(start + 4), None, 3, method="tools/list", turn="1")
        self.connections.append(connection)
        return connection

    def write(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.glob("*.jsonl"):
            old.unlink()
        for connection in self.connections:
            connection.server = connection.server[:40]  # for the file's name
            connection.write(self.folder)


def alarm(connection, at, tool, count, **fields):
    level = "info" if fields.get("no_progress") is False else "warn"
    connection.event(at, "agent_thrashing", level, f"{tool} called {count} times", None, "1", tool_name=tool,
                     args_hash="hmac-sha256:" + "0" * 64, count=count, trace_id=connection.trace, span_id="0" * 16,
                     **fields)


def starts(case, step):
    for number, (name, start) in enumerate([("files", 600), ("git", 1560), ("memory", 700), ("time", 500), ("db", 440)]):
        begin = [0, 700, 2300, 3100, 3700][number] if step else 0
        server = case.server(name, begin, start)
        if name == "files":
            files = server
    files.call(DAY + ms(4300), "read_text_file", 40, turn="1")


def history(case, calls):
    """Earlier calls of `search` on other days, of 250 to 349 ms; and one of two months ago that took a minute."""
    old = case.server("files", session="earlier-0", day=DAY - timedelta(days=60))
    old.call(old.start + ms(900), "search", 60_000, turn="1")
    old.end(old.start + ms(70_000))
    day = case.server("files", session="earlier-1", day=DAY - timedelta(days=3))
    for number in range(calls):
        day.call(day.start + ms(1000 + 500 * number), "search", 250 + number * 5 % 100, turn="1")
    day.end(day.start + ms(60_000))


def slow_tool(case, calls):
    history(case, calls)
    files = case.server("files")
    files.call(DAY + ms(500), "search", 280, turn="1")
    files.call(DAY + ms(1000), "search", 4100, turn="1")
    files.end(DAY + ms(6000))


def person(case):
    db = case.server("db")
    db.call(DAY + ms(1100), None, 8000, method="elicitation/create", direction="server_to_client")
    db.call(DAY + ms(1000), "drop_table", 8300, turn="1", user_wait_ms=8000.0)
    db.end(DAY + ms(10_000))


def silence(case):
    files = case.server("files")
    files.call(DAY + ms(1000), "read_text_file", 30, turn="turn-a")
    files.call(DAY + ms(41_000), "read_text_file", 30, turn="turn-a")
    files.end(DAY + ms(42_000))


def turns(case):
    """Two turns with half an hour between them; the log has no end."""
    files = case.server("files")
    files.call(DAY + ms(1000), "read_text_file", 30, turn="turn-a")
    files.call(DAY + ms(1_801_000), "read_text_file", 30, turn="turn-b")


def arguments(case):
    files = case.server("files")
    for number in range(5):
        files.call(DAY + ms(1000 + 200 * number), "read_text_file", 4, turn="1", status="error",
                   error_type="tool_error",
                   error_message=f"ENOENT: no such file or directory, open '/garden/nope{number}.txt'")
    files.call(DAY + ms(3000), "read_text_file", 4, turn="1")
    files.end(DAY + ms(4000))


def server_fault(case):
    db = case.server("db")
    for number in range(3):
        db.call(DAY + ms(1000 + 200 * number), "query", 4, turn="1", status="error", error_type="-32000",
                error_code=-32000, error_message="connect ECONNREFUSED 127.0.0.1:5432")
    db.end(DAY + ms(4000))


def refused(case):
    db = case.server("db")
    db.call(DAY + ms(1100), None, 2000, method="elicitation/create", direction="server_to_client", status="denied",
            error_type="declined")
    db.call(DAY + ms(1000), "drop_table", 2200, turn="1", status="denied", error_type="tool_error",
            error_message="the user declined", user_wait_ms=2000.0)
    db.end(DAY + ms(4000))


def loop(case, no_progress):
    files = case.server("files")
    for number in range(12):
        at = DAY + ms(1000 + 100 * number)
        files.seen.clear()
        files.call(at, "list_directory", 2, args="/garden", turn="1",
                   repeat_count=number + 1 if number else None, thrashing=True if number > 4 else None)
        if number == 5:
            alarm(files, at + ms(2), "list_directory", 6, no_progress=no_progress)
    files.end(DAY + ms(4000))


def cycle(case):
    files = case.server("files")
    for number in range(12):
        at = DAY + ms(1000 + 100 * number)
        files.call(at, ["read_text_file", "write_file", "run_tests"][number % 3], 2, turn="1")
        if number == 11:
            alarm(files, at + ms(3), "run_tests", 4, no_progress=True, cycle_length=3)
    files.end(DAY + ms(4000))


def died(case):
    db = case.server("db")
    db.call(DAY + ms(1000), "query", 500, turn="1", status="error", error_type="server_exited")
    db.end(DAY + ms(1500), "server_died", 1, stderr=[
        "listening", "Error: connect ECONNREFUSED 127.0.0.1:5432", "    at TCPConnectWrap.afterConnect", "",
        "Node.js v22.11.0"])


def died_in_start(case):
    db = case.server("db", greeting=False)
    db.call(DAY + ms(2), None, 300, method="initialize", status="error", error_type="server_exited")
    db.end(DAY + ms(302), "server_died", 1, stderr=[
        "Traceback (most recent call last):", '  File "/srv/db.py", line 3, in <module>',
        "KeyError: 'DATABASE_URL'"])


def not_started(case):
    ghost = case.server("ghost", greeting=False)
    ghost.event(DAY + ms(3), "session_ended", "error", "ghost could not be started", reason="spawn_failed",
                exit_code=127, totals=dict(tool_calls=0, errors=0, turns=0),
                error_message="`ghost-mcp` was not found in PATH")
    files = case.server("files", 10)
    files.call(DAY + ms(1000), "read_text_file", 30, turn="1")
    files.end(DAY + ms(2000))


def timed_out(case):
    db = case.server("db")
    db.call(DAY + ms(1000), "query", 30_000, turn="1", status="timeout", error_type="timeout",
            error_message="request timed out")
    db.end(DAY + ms(32_000))


def cancelled(case):
    db = case.server("db")
    db.call(DAY + ms(1000), "query", 2000, turn="1", status="cancelled", error_type="cancelled",
            error_message="user pressed Esc")
    db.end(DAY + ms(4000))


def overlapping(case):
    """Ten calls of two seconds at the same time."""
    files = case.server("files")
    for number in range(10):
        files.call(DAY + ms(1000 + number), "search", 2000, turn="1")
    files.end(DAY + ms(4000))


def task_open(case):
    """A task whose connection ended first: no failure, and its time is not the tool's."""
    db = case.server("db")
    db.call(DAY + ms(1000), "export", 20_000, turn="1", status="unknown", error_type="task_open", task_handle_ms=5.0)
    db.call(DAY + ms(22_000), "query", 450, turn="1")
    db.end(DAY + ms(23_000))


def task_done(case):
    """A task whose polls are requests beside it."""
    db = case.server("db")
    for poll in range(4):
        db.call(DAY + ms(3000 + 2000 * poll), None, 2, method="tasks/get", turn="1")
    db.call(DAY + ms(1000), "export", 10_000, turn="1", task_handle_ms=5.0)
    db.end(DAY + ms(12_000))


def task_failed(case):
    """A task that fails: its call and the `tasks/result` that brought the failure are one failure."""
    db = case.server("db")
    failure = {"status": "error", "error_type": "tool_error", "error_message": "disk full", "task_id_hash": "hmac-sha256:" + "0" * 64}
    db.call(DAY + ms(4000), None, 2, method="tasks/result", turn="1", **failure)
    db.call(DAY + ms(1000), "export", 3002, turn="1", task_handle_ms=5.0, **failure)
    db.end(DAY + ms(5000))


def nested(case):
    """A wrapped server whose command is a wrapped server: each call is in both logs."""
    outer = Connection(case.rng, DAY, "files", case.name, "example-agent")
    inner = Connection(case.rng, DAY + ms(1), "files", case.name, "example-agent")
    span = "00f067aa0ba902b7"
    for connection in (outer, inner):
        connection.lines.clear()
        connection.seq, connection.trace = 0, "4bf92f3577b34da6a3ce929d0e0e4736"
    outer.event(DAY, "session_started", "info", "watching files", pid=4100, child_pid=4101, version="0.1.0",
                command=["spantap", "--", "files"], session_source="host", trace_id=outer.trace, span_id=span,
                hash_key_id="00000000")
    inner.event(DAY, "session_started", "info", "watching files", pid=4101, child_pid=4102, version="0.1.0",
                command=["files"], session_source="host", trace_id=outer.trace, span_id="00f067aa0ba902b8",
                parent_span_id=span, hash_key_id="00000000")
    for connection in (outer, inner):
        connection.call(DAY + ms(1000), "read_text_file", 900, turn="1", status="error", error_type="tool_error",
                        error_message="EISDIR: illegal operation on a directory")
        connection.end(DAY + ms(3000))
    case.connections = [outer, inner]


def healthy(case):
    history(case, 30)
    files = case.server("files")
    for number in range(6):
        files.call(DAY + ms(500 + 600 * number), "search", 300, turn="1")
    files.end(DAY + ms(6000))


def hostile(case):
    """Everything has gone wrong, on a server and with tools whose names attack a terminal."""
    name = "".join(HOSTILE) + "x" * 2_000
    history_of = case.server(name, session="earlier-1", day=DAY - timedelta(days=3))
    for number in range(25):
        history_of.call(history_of.start + ms(1000 + 500 * number), HOSTILE[2], 200, turn="1")
    server = case.server(name)
    server.call(DAY + ms(1000), HOSTILE[2], 9000, turn="1")
    server.call(DAY + ms(11_000), HOSTILE[4], 2, turn="1", status="denied", error_type="declined")
    for number in range(2):
        server.call(DAY + ms(12_000 + number), HOSTILE[3], 2, turn="1", status="error", error_type="tool_error",
                    error_message="\u001b]0;title\u0007 must be \u202e red")
    alarm(server, DAY + ms(13_000), HOSTILE[2], 9, no_progress=True)
    server.call(DAY + ms(14_000), HOSTILE[2], 20, turn="1", status="error", error_type="server_exited")
    server.end(DAY + ms(14_020), "server_died", 1, stderr=["fatal \u001b[2J\u009b2J"])


def questions(case):
    """Two questions to a person, of which the second was declined and its call succeeded; a request to a model; and a
    call that was refused."""
    db = case.server("db")
    asked = dict(direction="server_to_client")
    db.call(DAY + ms(1050), None, 3000, method="elicitation/create", **asked)
    db.call(DAY + ms(1000), "ask", 3100, turn="1", user_wait_ms=3000.0)
    db.call(DAY + ms(5010), None, 980, method="sampling/createMessage", **asked)
    db.call(DAY + ms(5000), "draft", 1000, turn="1", user_wait_ms=980.0)
    db.call(DAY + ms(7010), None, 80, method="elicitation/create", status="denied", error_type="declined", **asked)
    db.call(DAY + ms(7000), "ask", 100, turn="1", user_wait_ms=80.0)
    db.call(DAY + ms(8000), "drop_table", 2, turn="1", status="denied", error_type="tool_error",
            error_message="not allowed")
    db.end(DAY + ms(9000))


def model_silent(case):
    """A call that timed out while the host's model was asked."""
    db = case.server("db")
    db.call(DAY + ms(1010), None, 9000, method="sampling/createMessage", direction="server_to_client", status="error",
            error_type="unanswered")
    db.call(DAY + ms(1000), "draft", 9000, turn="1", status="timeout", error_type="timeout", user_wait_ms=8990.0)
    db.end(DAY + ms(12_000))


def many_messages(case):
    """A tool that fails each time, with three messages; other failures; and a server that ended with 0 unasked."""
    db = case.server("db")
    failed = dict(turn="1", status="error", error_type="tool_error")
    for number in range(6):
        word = ["alpha", "beta", "gamma"][number % 3]
        db.call(DAY + ms(1000 + 200 * number), "query", 4, error_message=f"boom {word}", **failed)
    for number, message in enumerate(["ENOENT: no such file or directory"] * 2 + ["rate limit reached"]):
        db.call(DAY + ms(3000 + 200 * number), "load", 4, error_message=message, **failed)
    db.call(DAY + ms(4000), "load", 4, turn="1")
    db.call(DAY + ms(5000), "query_all", 3, turn="1", status="error", error_type="server_exited")
    db.end(DAY + ms(5003), "server_died", 0, stderr=["bye"])


def died_often(case):
    """Five connections of a server, each of which crashed."""
    for number in range(5):
        db = case.server("db", at=5000 * number)
        db.call(db.start + ms(1000), "query", 500, turn="1", status="error", error_type="server_exited")
        db.end(db.start + ms(1500), "server_died", 3, stderr=[f"worker {4100 + number}: fatal error"])


CASES = {
    "sequential-starts": lambda case: starts(case, True),
    "parallel-starts": lambda case: starts(case, False),
    "slow-tool": lambda case: slow_tool(case, 20),
    "slow-tool-too-few": lambda case: slow_tool(case, 18),
    "person": person,
    "silence": silence,
    "turns": turns,
    "arguments": arguments,
    "server-fault": server_fault,
    "refused": refused,
    "loop": lambda case: loop(case, True),
    "loop-with-progress": lambda case: loop(case, False),
    "cycle": cycle,
    "died": died,
    "died-in-start": died_in_start,
    "not-started": not_started,
    "timed-out": timed_out,
    "cancelled": cancelled,
    "overlapping": overlapping,
    "task-open": task_open,
    "task-done": task_done,
    "nested": nested,
    "healthy": healthy,
    "hostile": hostile,
    "task-failed": task_failed,
    "questions": questions,
    "model-silent": model_silent,
    "many-messages": many_messages,
    "died-often": died_often,
}


def main():
    folder = pathlib.Path(sys.argv[1])
    for seed, (name, make) in enumerate(CASES.items()):
        case = Case(folder, name, seed)
        make(case)
        case.write()


main()
