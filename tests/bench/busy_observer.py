#!/usr/bin/env python3
"""Measures round trips right after a burst, while the observer still processes it.

    cargo build --release && tests/bench/busy_observer.py target/release/spantap

Sends a burst of calls through `cat`, reads it back, and times the single calls that follow at once. Runs with
and without spantap alternate. Prints the ratio and both times in microseconds.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS, BURST, SINGLE = 40, 2_000, 50


def call(number):
    params = {"name": "read_file", "arguments": {"path": f"/data/{number}", "pad": "x" * 200}}
    return (json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}) + "\n").encode()


def read_exactly(fd, count):
    while count:
        count -= len(os.read(fd, min(count, 1 << 16)))


def times(wrapper):
    """Nanoseconds of each single round trip after a burst."""
    server = subprocess.Popen([*wrapper, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    to, back = server.stdin.fileno(), server.stdout.fileno()
    taken = []
    for number in range(ROUNDS):
        # In pieces that fit into the pipes, so that one thread can write and read.
        for first in range(0, BURST, 100):
            piece = b"".join(call(number * BURST + first + n) for n in range(100))
            os.write(to, piece)
            read_exactly(back, len(piece))
        for n in range(SINGLE):
            line = call(10_000_000 + number * SINGLE + n)
            begun = time.perf_counter_ns()
            os.write(to, line)
            read_exactly(back, len(line))
            taken.append(time.perf_counter_ns() - begun)
    server.stdin.close()
    server.wait()
    return taken


def main():
    with tempfile.TemporaryDirectory() as folder:
        ways = {"direct": [], "spantap": [sys.argv[1], "--log-dir", folder, "--server", "cat", "--"]}
        taken = {way: [] for way in ways}
        for _ in range(5):
            for way, wrapper in ways.items():
                taken[way] += times(wrapper)
    p50, p99 = ({way: statistics.quantiles(all_, n=100)[q] / 1000 for way, all_ in taken.items()} for q in (49, 98))
    for name, figure in (("p50", p50), ("p99", p99)):
        ratio = figure["spantap"] / figure["direct"]
        print(f"{name}: {ratio:.2f} times ({figure['spantap']:.0f} us, {figure['direct']:.0f} us direct)")


main()
