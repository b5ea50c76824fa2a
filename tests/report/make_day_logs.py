#!/usr/bin/env python3
"""Writes the sessions of two days for `spantap diff` and `spantap gate`: the same bytes on every run.

  make_day_logs.py DIR         the logs of 2026-11-26 and 2026-11-27 (fixtures/days)

On the second day a server has other tools and another version, one tool is slower, one fails more, one fails with a
new message, and a server dies. Needs only the standard library.
"""

import hashlib
import pathlib
import random
import sys
from datetime import datetime, timedelta, timezone

from make_logs import HOSTILE, Connection

MESSAGES = ["upstream returned 502", "ENOENT: no such file or directory, open '/srv/notes/a.txt'"]


def ms(number):
    return timedelta(milliseconds=number)


def listed(name, description, schema, text):
    return dict(name=name, definition_bytes=description + schema + 64, description_bytes=description,
                schema_bytes=schema, definition_hash=hashlib.sha256(text.encode()).hexdigest()[:16])


def list_tools(connection, at, tools):
    size = sum(tool["definition_bytes"] for tool in tools)
    connection.event(at, "tools_listed", "info", f"{len(tools)} tools, {size} bytes", tools=tools,
                     tools_total=len(tools), is_complete=True, definition_bytes=size)


def greet(connection, at, version):
    connection.event(at, "peer_identified", "info", f"example-agent meets {connection.server}",
                     client_name="example-agent", client_version="2.1.0", server_self_name=connection.server,
                     server_version=version, protocol_version="2025-11-25")


class Day:
    def __init__(self, folder, rng, start, is_second):
        self.folder, self.rng, self.start, self.is_second = folder, rng, start, is_second
        self.session = "01d10000-0000-8000-8000-00000000000" + ("2" if is_second else "1")

    def server(self, name, version, tools, at=0):
        connection = Connection(self.rng, self.start + ms(at), name, self.session, "example-agent", "robin")
        greet(connection, connection.start + ms(200), version)
        list_tools(connection, connection.start + ms(260), tools)
        return connection

    def github(self):
        second = self.is_second
        tools = [listed("search_issues", 180, 420, "search"),
                 listed("get_file", 260 if second else 120, 310, "get" + str(second)),
                 listed("list_commits", 140, 280, "commits")]
        tools.append(listed("merge_pull_request", 300, 640, "merge") if second else listed("old_search", 90, 200, "old"))
        github = self.server("github", "1.5.0" if second else "1.4.2", tools)
        if second:
            github.event(github.start + ms(261), "tools_changed", "warn", "tool definitions: 1 added, 1 removed, 1 changed",
                         added=["merge_pull_request"], removed=["old_search"], changed=["get_file"],
                         changes=[dict(tool="merge_pull_request", change="added"),
                                  dict(tool="old_search", change="removed"),
                                  dict(tool="get_file", change="changed", parts=["description", "annotations"])])
        at = github.start + ms(2000)
        for number in range(40 if second else 48):
            github.call(at, "search_issues", self.rng.lognormvariate(5.2 if second else 4.4, 0.3), turn=str(number // 5))
            if number % 2 == 0:
                fails = second and number % 4 == 0
                github.call(at + ms(900), "get_file", self.rng.lognormvariate(3.2, 0.4), turn=str(number // 5),
                            status="error" if fails else "ok", error_type="tool_error" if fails else None,
                            error_message=MESSAGES[0] if fails else None)
            if number % 8 == 0:
                github.call(at + ms(1200), "list_commits", self.rng.lognormvariate(3, 0.4), turn=str(number // 5))
            at += ms(4000)
        if not second:
            github.call(at, "get_file", 31.5, turn="10", status="error", error_type="tool_error", error_message=MESSAGES[0])
            github.call(at + ms(500), "get_file", 30.25, turn="10", status="unknown", error_type="client_left")
        github.end(at + ms(2000))
        github.write(self.folder)

    def files(self):
        tools = [listed("read_file", 160, 220, "read"), listed("write_file", 150, 260, "write")]
        files = self.server("filesystem", "0.6.2", tools, 90)
        at = files.start + ms(3000)
        for number in range(30):
            fails = self.is_second and number in (7, 19)
            files.call(at, "read_file", self.rng.lognormvariate(1.2, 0.4), turn=str(number // 4), size=1200 + 300 * number,
                       status="error" if fails else "ok", error_type="tool_error" if fails else None,
                       error_message=MESSAGES[1].replace("a.txt", f"{number}.txt") if fails else None)
            at += ms(3000)
        files.call(at, "write_file", 6200.5, turn="8", user_wait_ms=6195.25, size=90)
        files.end(at + ms(9000))
        files.write(self.folder)

    def search(self):
        search = self.server("search", "3.0.1", [listed("web", 200, 300, "web")], 140)
        at = search.start + ms(4000)
        for number in range(12):
            search.call(at, "web", self.rng.lognormvariate(6, 0.3), turn=str(number // 3))
            at += ms(5000)
        if self.is_second:
            search.call(at, "web", 41.5, turn="4", status="error", error_type="server_exited",
                        error_message="the server ended before it answered")
            search.end(at + ms(50), "server_died", signal=11, stderr=["panic: example"])
        else:
            search.end(at + ms(50))
        search.write(self.folder)


def hostile(folder, rng, start, is_second):
    """A server whose texts attack a terminal, a page, XML and a CI log."""
    name = "<img src=x onerror=alert(3)>"
    attack = "\n::error file=a,line=1::injected%0A]]>&\u001b[31m\u202e\u0000<failure/>"
    evil = Connection(rng, start, name, "sess<b>\u001b[2J" + str(is_second), "host\u202eevil")
    greet(evil, start + ms(50), f"1.{int(is_second)}\u001b[2J")
    names = HOSTILE[is_second:] + [attack]
    list_tools(evil, start + ms(60), [listed(text, 90, 90, text + str(is_second)) for text in names])
    at = start + ms(1000)
    for number, tool in enumerate(names):
        evil.call(at, tool, 5 + number, turn="</script>", status="error", error_type="tool_error",
                  error_message=f"bad{'!' * is_second} {attack}")
        at += ms(400)
    evil.end(at, "server_died", exit_code=3, stderr=[attack])
    evil.server = "hostile"  # for the file's name
    evil.write(folder)


def main():
    folder = pathlib.Path(sys.argv[1])
    for part in ("ordinary", "hostile"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for old in (folder / part).glob("*.jsonl"):
            old.unlink()
    rng = random.Random(20261126)
    for number in (0, 1):
        start = datetime(2026, 11, 26 + number, 9, 30, 0, tzinfo=timezone.utc)
        day = Day(folder / "ordinary", rng, start, number == 1)
        day.github()
        day.files()
        day.search()
        hostile(folder / "hostile", rng, start, number)


main()
