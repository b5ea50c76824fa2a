#!/usr/bin/env python3
"""Compares `spantap diff A B --json` with figures that this script computes from the raw lines.

  diff_check.py SPANTAP A B FOLDER

A and B are days, in UTC. Probabilities are computed exactly, as fractions. Needs only the standard library.
"""

import json
import math
import os
import pathlib
import re
import subprocess
import sys
from collections import defaultdict
from fractions import Fraction

LEVEL = Fraction(1, 20)
ERRORS = ("error", "timeout", "cancelled")


def records(folder):
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if record.get("schema") == "spantap/1":
                yield record


def quantile(values, point):
    values = sorted(values)
    rank = point * (len(values) - 1)
    below, above = values[math.floor(rank)], values[math.ceil(rank)]
    return below + (above - below) * (rank - math.floor(rank))


def exact_test(marked, sizes):
    """Returns p of Fisher's exact test, and the least p that these sums allow."""
    total, chosen = sum(sizes), sum(marked)
    ways = {x: math.comb(sizes[0], x) * math.comb(sizes[1], chosen - x)
            for x in range(max(0, chosen - sizes[1]), min(chosen, sizes[0]) + 1)}
    p = lambda x: Fraction(sum(way for way in ways.values() if way <= ways[x]), math.comb(total, chosen))
    return p(marked[0]), min(p(min(ways)), p(max(ways)))


def masked(text):
    """Masks a message as docs/looking.md says: paths, then ids and numbers."""
    text = next((line.strip() for line in text.splitlines() if line.strip()), "")[:300]
    return re.sub(r"\d+", "#", re.sub(r"[^\s'\"]*/[^\s'\"]*", "…", text))


class Side:
    def __init__(self, folder, day):
        self.calls, self.lists, self.versions = defaultdict(list), {}, {}
        self.messages, self.servers = defaultdict(int), set()
        for record in records(folder):
            if not record["timestamp"].startswith(day):
                continue
            server = record["server_name"]
            self.servers.add(server)
            if record["event"] == "mcp_tool_call":
                self.calls[server, record["tool_name"]].append(record)
            if record["event"] in ("mcp_tool_call", "mcp_request") and record["status"] in ERRORS:
                name = record.get("tool_name") or record.get("resource_uri") or record["method"]
                self.messages[server, name, masked(record.get("error_message") or record.get("error_type") or "")] += 1
            if record["event"] == "peer_identified":
                self.versions[server] = record["server_version"]
            if record["event"] == "tools_listed":
                self.lists[server] = {tool["name"]: tool for tool in record["tools"]}


def figures(calls):
    known = [call for call in calls if call["status"] != "unknown"]
    times = [max(0, call["duration_ms"] - call.get("user_wait_ms", 0)) for call in known if "duration_ms" in call]
    first = sum("continues_seq" not in call for call in calls)
    errors = sum(call["status"] in ERRORS for call in known)
    unknown = len(calls) - len(known)
    return dict(calls=first, known=max(first - unknown, errors), errors=errors), times


def main():
    spantap, days, folder = sys.argv[1], sys.argv[2:4], pathlib.Path(sys.argv[4])
    done = subprocess.run([spantap, "diff", *days, "--json", folder], check=True, capture_output=True, text=True,
                          env={**os.environ, "TZ": "UTC"})
    ours = json.loads(done.stdout)
    a, b = (Side(folder, day) for day in days)
    problems = []

    def same(what, mine, theirs):
        close = math.isclose(mine, theirs, rel_tol=1e-7, abs_tol=1e-9) if isinstance(mine, float) else mine == theirs
        if not close:
            problems.append(f"{what}: {mine!r} for {theirs!r}")

    tests, rows = {}, {(row["server_name"], row["tool_name"]): row for row in ours["tools"]}
    shared = a.calls.keys() & b.calls.keys()
    same("tools", set(rows), shared)
    for tool in shared & rows.keys():
        row = rows[tool]
        (fa, ta), (fb, tb) = figures(a.calls[tool]), figures(b.calls[tool])
        for letter, found, times in (("a", fa, ta), ("b", fb, tb)):
            for field, value in found.items():
                same(f"{tool} {letter} {field}", row[letter][field], value)
            for field, point in (("p50_ms", 0.5), ("p95_ms", 0.95)):
                if times:
                    same(f"{tool} {letter} {field}", float(row[letter][field]), quantile(times, point))
        tests[tool, "error_rate"] = exact_test((fa["errors"], fb["errors"]), (fa["known"], fb["known"]))
        for name, point in (("p50", 0.5), ("p95", 0.95)):
            if ta or tb:
                limit = quantile(ta + tb, point)
                above = [sum(time > limit for time in times) for times in (ta, tb)]
                tests[tool, name] = exact_test(above, (len(ta), len(tb)))
        for name in ("error_rate", "p50", "p95"):
            if (tool, name) in tests:
                same(f"{tool} {name} p", float(row[f"{name}_p"]), float(tests[tool, name][0]))
    able = sorted((p, key) for key, (p, least) in tests.items() if least <= LEVEL)
    same("comparisons", ours["comparisons"], len(able))
    differ = set()
    for number, (p, key) in enumerate(able):
        if p > LEVEL / (len(able) - number):
            break
        differ.add(key)
    same("differences", {(tool, name) for tool, row in rows.items() for name in row["differs"]}, differ)

    facts = defaultdict(list)
    for fact in ours["facts"]:
        facts[fact["fact"]].append(fact)
    both = a.servers & b.servers
    pairs = [(server, a.lists[server], b.lists[server]) for server in both & a.lists.keys() & b.lists.keys()]
    names = lambda kind: {(fact["server_name"], tool) for fact in facts[kind] for tool in fact["tools"]}
    same("new tools", names("tools_new"), {(s, tool) for s, old, new in pairs for tool in new.keys() - old.keys()})
    same("gone tools", names("tools_gone"), {(s, tool) for s, old, new in pairs for tool in old.keys() - new.keys()})
    changed = {(s, tool) for s, old, new in pairs for tool in new.keys() & old.keys()
               if new[tool]["definition_hash"] != old[tool]["definition_hash"]}
    same("changed tools", {(fact["server_name"], fact["tool_name"]) for fact in facts["tool_changed"]}, changed)
    tokens = lambda tools: -(-sum(tool["definition_bytes"] for tool in tools.values()) // 4)
    same("definitions", {fact["server_name"]: tuple(fact["tokens_est"]) for fact in facts["definitions"]},
         {s: (tokens(old), tokens(new)) for s, old, new in pairs if tokens(old) != tokens(new)})
    same("versions", {fact["server_name"]: tuple(fact["versions"]) for fact in facts["server_version"]},
         {s: (a.versions[s], b.versions[s]) for s in both & a.versions.keys() & b.versions.keys()
          if a.versions[s] != b.versions[s]})
    new = {key: count for key, count in b.messages.items() if key not in a.messages}
    same("new errors", {(fact["server_name"], fact["tool_name"], fact["message"]): fact["count"]
                        for fact in facts["new_error"]}, new)
    same("only in A", {name for fact in facts["servers_gone"] for name in fact["servers"]}, a.servers - b.servers)
    same("only in B", {name for fact in facts["servers_new"] for name in fact["servers"]}, b.servers - a.servers)
    for problem in problems:
        print(f"not equal: {problem}", file=sys.stderr)
    print(f"{folder.name}: {len(rows)} tools, {len(ours['facts'])} facts compared, {len(problems)} differences")
    sys.exit(1 if problems else 0)


main()
