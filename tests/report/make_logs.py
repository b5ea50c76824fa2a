#!/usr/bin/env python3
"""Writes generated session logs in spantap's format: the same bytes on every run.

  make_logs.py DIR             the fixtures of the reading commands (fixtures/made-logs)
  make_logs.py DIR --calls N   N tool calls of an ordinary month, for measuring

Names from the wire are deliberately hostile. Needs only the standard library.
"""

import argparse
import hashlib
import json
import pathlib
import random
from datetime import datetime, timedelta, timezone

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    "\u001b[31mred\u001b[0m",
    "two\nlines",
    "abc\u202egnp.exe",
    "\u6771\u4eac\u90fd\u5e81",
    "__proto__",
    "constructor",
]


def stamp(at):
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z"


def hexes(rng, digits):
    return "".join(rng.choice("0123456789abcdef") for _ in range(digits))


class Ms:
    """Milliseconds, written with three decimals."""

    def __init__(self, value):
        self.micros = max(0, round(value * 1000))

    def __str__(self):
        return f"{self.micros // 1000}.{self.micros % 1000:03d}"


def line(record):
    parts = []
    for key, value in record.items():
        if value is None:
            continue
        text = str(value) if isinstance(value, Ms) else json.dumps(value, ensure_ascii=False)
        parts.append(f'"{key}":{text}')
    return "{" + ",".join(parts) + "}\n"


class Connection:
    """One connection: a server process wrapped by spantap, with one log file."""

    def __init__(self, rng, start, server, session, host, user=None):
        self.rng, self.server, self.session, self.host, self.user = rng, server, session, host, user
        self.connection = f"0193{hexes(rng, 4)}-{hexes(rng, 4)}-7{hexes(rng, 3)}-a{hexes(rng, 3)}-{hexes(rng, 12)}"
        self.start, self.seq, self.lines, self.trace = start, 0, [], hexes(rng, 32)
        self.seen, self.calls, self.errors, self.ids = {}, 0, 0, 0
        self.event(start, "session_started", "info", f"watching {server}", pid=4100, child_pid=4101,
                   version="0.1.0", command=["npx", "-y", server], session_source="host", trace_id=self.trace,
                   span_id=hexes(rng, 16), hash_key_id=hexes(rng, 8))

    def event(self, at, event, level, message, conversation=None, turn=None, **fields):
        record = dict(schema="spantap/1", timestamp=stamp(at), level=level, event=event, message=message,
                      seq=self.seq, session_id=self.session, connection_id=self.connection,
                      server_name=self.server, host_name=self.host, user_id=self.user,
                      conversation_id=conversation, turn_id=turn)
        record.update(fields)
        self.lines.append(line(record))
        self.seq += 1

    def call(self, at, tool, ms, args="", turn=None, conversation=None, status="ok", error_type=None,
             error_message=None, error_code=None, size=None, method="tools/call", direction="client_to_server",
             **extra):
        rng = self.rng
        self.ids += 1
        result = size if size is not None else rng.randrange(80, 9000)
        arguments = rng.randrange(20, 400)
        hash_of = lambda text: hashlib.sha256(f"fixture {text}".encode()).hexdigest()
        args_hash = "hmac-sha256:" + hash_of(f"{tool} {args or self.ids}")
        repeats = self.seen[(conversation, tool, args_hash)] = self.seen.get((conversation, tool, args_hash), 0) + 1
        is_call = method == "tools/call"
        self.calls += is_call
        self.errors += status not in ("ok", "unknown")
        fields = dict(request_id=str(self.ids), direction=direction, method=method,
                      tool_name=tool if is_call else None,
                      resource_uri=tool if method == "resources/read" else None,
                      protocol_version="2025-11-25",
                      args_hash=args_hash if is_call else None,
                      result_hash=None if status != "ok" else "hmac-sha256-raw:" + hash_of(f"result {tool} {args or self.ids}"),
                      text_hash="hmac-sha256-raw:" + hash_of(f"text {tool} {args or self.ids}") if is_call and status == "ok" else None,
                      started_at=stamp(at), ended_at=stamp(at + timedelta(milliseconds=round(ms * 1000) / 1000)),
                      duration_ms=Ms(ms), status=status, error_code=error_code, error_type=error_type,
                      error_message=error_message, request_size_bytes=arguments + 90,
                      result_size_bytes=None if status in ("unknown", "timeout") else result,
                      args_tokens_est=arguments // 4, result_tokens_est=result // 4,
                      repeat_count=repeats if is_call and repeats > 1 else None,
                      thrashing=True if is_call and repeats > 5 else None,
                      call_id=f"toolu_EXAMPLE{self.ids:04d}" if is_call and self.host == "claude-code" else None,
                      trace_id=self.trace, span_id=hexes(rng, 16), parent_span_id=hexes(rng, 16),
                      trace_flags="01")
        fields.update(extra)
        self.event(at + timedelta(milliseconds=ms), "mcp_tool_call" if is_call else "mcp_request",
                   "info" if status == "ok" else "warn", f"{method} {tool or ''}: {status}".replace("  ", " "),
                   conversation, turn, **fields)
        if is_call and repeats in (6, 12):
            self.event(at + timedelta(milliseconds=ms), "agent_thrashing", "warn",
                       f"{tool} was called {repeats} times with the same arguments", conversation, turn,
                       tool_name=tool, args_hash=args_hash, count=repeats, no_progress=True,
                       trace_id=self.trace, span_id=hexes(rng, 16))
        return self.seq - 1

    def end(self, at, reason="server_exited", exit_code=0, signal=None, stderr=None):
        self.event(at, "session_ended", "info" if reason == "server_exited" else "error",
                   f"{self.server} ended: {reason}" + (f", signal {signal}" if signal else ""),
                   reason=reason, exit_code=None if signal else exit_code, signal=signal,
                   totals=dict(tool_calls=self.calls, errors=self.errors, turns=0), stderr_tail=stderr)

    def write(self, folder, keep=None):
        name = f"{''.join(c if c.isalnum() or c == '-' else '_' for c in self.server)}-{self.start:%Y-%m-%d}-{self.connection[-12:]}.jsonl"
        text = "".join(self.lines)
        (folder / name).write_text(text if keep is None else text[:keep], encoding="utf-8")


def fixtures(folder):
    rng = random.Random(20261122)
    day = datetime(2026, 11, 22, 9, 13, 58, tzinfo=timezone.utc)
    ms = lambda number: timedelta(milliseconds=number)

    # 1. A coding agent with three servers: errors, a denial, a loop, a slow call, a crash.
    session = "01a2027b-6c1f-8d3e-9a54-3b7c1d2e4f50"
    github = Connection(rng, day, "github", session, "claude-code", "dana")
    files = Connection(rng, day + ms(120), "filesystem", session, "claude-code", "dana")
    search = Connection(rng, day + ms(180), "search", session, "claude-code", "dana")
    for connection in (github, files, search):
        connection.event(connection.start + ms(300), "peer_identified", "info", "claude-code 2.1.0 meets a server",
                         client_name="claude-code", client_version="2.1.0", server_self_name=connection.server,
                         server_version="1.4.2", protocol_version="2025-11-25")
        connection.call(connection.start + ms(10), "", 210.4, method="initialize", size=900)
        connection.call(connection.start + ms(320), "", 12.25, method="tools/list", size=15200)
    at = day + ms(5000)
    for turn in range(1, 7):
        place = dict(turn=f"turn-{turn}", conversation="conv-7f3a")
        github.call(at, "search_issues", 70 + rng.random() * 40, **place)
        at += ms(220)
        if turn == 3:
            for attempt in range(2):
                github.call(at, "create_issue", 412.118 - attempt * 22, status="error", error_type="tool_error",
                            error_message="title is missing", args="same", **place)
                at += ms(600)
            github.call(at, "create_issue", 390.5, **place)
        if turn == 4:
            for _ in range(7):
                files.call(at, "read_file", 2 + rng.random() * 3, args="loop", size=18400, **place)
                at += ms(900)
        if turn == 5:
            asked = github.call(at, "create_pull_request", 61.5, **place)
            github.call(at + ms(90), "", 8200.75, method="elicitation/create", direction="server_to_client",
                        status="denied", error_type="declined", **place)
            github.call(at + ms(8400), "create_pull_request", 35.2, status="denied", error_type="declined",
                        error_message="the user declined", continues_seq=asked, user_wait_ms=Ms(8200.75), **place)
            at += ms(9000)
        for _ in range(2):
            files.call(at, "read_file", 2 + rng.random() * 4, **place)
            search.call(at + ms(5), "web", 300 + rng.random() * 900, **place)
            at += ms(1500)
        if turn == 6:
            started = at
            search.event(at + ms(30000), "call_pending", "warn", "web has been open for 30 s", turn="turn-6",
                         conversation="conv-7f3a", request_id="99", direction="client_to_server",
                         method="tools/call", tool_name="web", started_at=stamp(started), open_ms=Ms(30000),
                         in_flight=1)
            search.call(started, "web", 41250.007, status="timeout", error_type="timeout",
                        error_message="request timed out", pending_at=stamp(started + ms(30000)), **place)
            files.call(at + ms(100), "write_file", 6.5, status="cancelled", error_type="cancelled",
                       cancelled_at=stamp(at + ms(104)), **place)
            at += ms(42000)
        at += ms(20000)
    search.event(at, "malformed", "warn", "2 lines on stdout are no JSON-RPC, the last of 47 bytes",
                 stream="stdout", size_bytes=47, count=2, reason="not_json")
    search.call(at, "web", 12.5, status="error", error_type="server_exited", turn="turn-6",
                conversation="conv-7f3a", error_message="the server ended before it answered")
    search.end(at + ms(40), "server_died", signal=11, stderr=["panic: example"])
    github.end(at + ms(60000))
    files.end(at + ms(60010))
    for connection in (github, files, search):
        connection.write(folder)

    # 2. Another host, over midnight, without conversations; the answer to one call was not observed.
    late = datetime(2026, 11, 22, 23, 58, 0, tzinfo=timezone.utc)
    night = Connection(rng, late, "github", "01a2027b-aaaa-8bbb-8ccc-000000000002", "vscode")
    at = late + ms(2000)
    for number in range(40):
        kind = rng.random()
        night.call(at, rng.choice(["search_issues", "get_file", "list_commits"]), 20 + kind * kind * 400,
                   turn=f"{number // 5}", status="error" if kind > 0.9 else "ok",
                   error_type="-32603" if kind > 0.9 else None, error_code=-32603 if kind > 0.9 else None,
                   error_message="upstream returned 502" if kind > 0.9 else None)
        at += ms(int(3000 + kind * 4000))
    night.call(at, "get_file", 3000.0, turn="8", status="unknown", error_type="gap")
    night.event(at + ms(1), "gap", "error", "4096 bytes of stdout were not observed", place="tap",
                stream="stdout", bytes_lost=4096, frames_lost=2, reason="overload")
    night.end(at + ms(100))
    night.write(folder)

    # 3. Names from a hostile server.
    evil = Connection(rng, day + timedelta(hours=3), "<img src=x onerror=alert(3)>", "sess<b>\u001b[2J",
                      "host\u202eevil")
    at = evil.start + ms(1000)
    for number, name in enumerate(HOSTILE):
        evil.call(at, name, 5 + number, turn="</script>", conversation="'\"&", status="error" if number % 2 else "ok",
                  error_type="tool_error" if number % 2 else None,
                  error_message=f"bad {name}" if number % 2 else None)
        at += ms(400)
    evil.call(at, "file:///\u2028etc", 3.25, method="resources/read", turn="</script>")
    evil.end(at)
    evil.write(folder)

    # 4. A server that does not start, and a session that still runs: its last line is incomplete.
    failed = Connection(rng, day + timedelta(hours=4), "broken", "01b3-failed", "cursor")
    failed.end(failed.start + ms(3), "spawn_failed", exit_code=127)
    failed.write(folder)
    running = Connection(rng, datetime(2026, 11, 23, 8, 0, 0, tzinfo=timezone.utc), "filesystem", "01c4-running", "cursor")
    for number in range(25):
        running.call(running.start + ms(1000 + 700 * number), "list_directory", 4 + number % 3 if number != 20 else 95,
                     turn=f"t{number // 8}")
    running.write(folder, keep=len("".join(running.lines)) - 200)

    # 5. A file of another tool.
    (folder / "other-tool.jsonl").write_text('{"level":30,"time":1,"msg":"not ours"}\n', encoding="utf-8")


def many(folder, calls):
    rng = random.Random(1)
    tools = [(f"server{number % 9}", f"tool_{number}") for number in range(60)]
    start = datetime(2026, 10, 25, tzinfo=timezone.utc)
    per_file = 20_000
    for part in range(0, calls, per_file):
        server = tools[(part // per_file) % len(tools)][0]
        connection = Connection(rng, start + timedelta(minutes=37 * (part // per_file)), server,
                                f"01d5{part // per_file // 4:04x}-0000-8000-8000-000000000000", "claude-code")
        own = [tool for name, tool in tools if name == server]
        at = connection.start
        for number in range(min(per_file, calls - part)):
            failed = rng.random() < 0.04
            connection.call(at, rng.choice(own), rng.lognormvariate(4, 1.3), turn=f"{part}-{number // 6}",
                            conversation=f"conv-{part // per_file}", status="error" if failed else "ok",
                            error_type="tool_error" if failed else None)
            connection.seen.clear()
            at += timedelta(milliseconds=90)
        connection.end(at)
        connection.write(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--calls", type=int)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.calls:
        many(arguments.folder, arguments.calls)
    else:
        fixtures(arguments.folder)


if __name__ == "__main__":
    main()
