#!/usr/bin/env python3
"""Compares spantap, without and with --otlp, with two plain copies and other recorders of stdio servers in one run.

    tests/bench/rivals.py SPANTAP [--short]
    tests/bench/rivals.py SPANTAP --build PROGRAM     another build of spantap instead of the recorders

Installs the rivals (pinned in RIVALS) from PyPI, each in a folder of its own below ~/.cache/spantap-ci, and compiles
rivals.c, which is the client, the server and the two copies. All candidates take turns in random order, so that other
load on the machine affects them alike. Client and server compare every byte. A candidate that fails gets its reason as
its cells. Prints a table in Markdown: the fastest tenth of round trips and transfers, which other load disturbs least,
the mean of CPU times, and medians of the rest. Started by root, it makes starts and ends with real-time priority, so
that other load does not disturb them at all.
"""
import argparse
import http.server
import multiprocessing
import os
import pathlib
import random
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

# Name on PyPI, version, and how it wraps a server (its --help and its README).
RIVALS = [
    ("greenlight-mcp", "0.7.0", ["greenlight", "run", "--"]),
    ("mcphawk", "1.0.0", ["mcphawk", "wrap", "--"]),
    ("mcpscope-cli", "0.1.0", ["mcpscope", "run", "--quiet", "--"]),
]
# The same messages as in rivals.c.
CALL = '{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"e","arguments":{"pad":"', '"}}}\n'
ANSWER = '{"jsonrpc":"2.0","id":%d,"result":{"isError":false,"content":[{"type":"text","text":"', '"}]}}\n'
NOTE = '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"', '"}}\n'
FAST = ["direct", "two copies", "spantap", "spantap --otlp"]
FIRST, LETTERS = 10_000_000, 26
REQUEST, RESPONSE = 200, 1024

ROUNDS, BLOCKS, CALLS = 5, 12, 500
# A rival takes part in one of RARELY starts and transfers, because these take it seconds.
STARTS, TRANSFERS, RARELY = 120, 20, 5
# Calls without a pause while no log can be written, and one after the other without a collector.
FLOOD, UNSENT = 300_000, 40_000
FRAMES = [("1 KiB", 1 << 10), ("64 KiB", 1 << 16)]
TRANSFER = 96 << 20
# A transfer that takes longer than this is cut, and its rate is that of the bytes until then.
LONGEST_TRANSFER = 4.0
# A recorder that still works after this time after a block of calls is not waited for.
SETTLE = 0.3
# After this time the first spans are sent, so the export has made what it needs.
IDLE = 1.5
PATIENCE = 20.0
# Each process of a candidate has this variable, so it is found although its parent may be another one.
MARK = "SPANTAP_BENCH_CANDIDATE"


def message(parts, size, number):
    head = parts[0] % (FIRST + number) if "%d" in parts[0] else parts[0]
    letter = "abcdefghijklmnopqrstuvwxyz"[(FIRST * ("%d" in parts[0]) + number) % LETTERS]
    return (head + letter * (size + 1 - len(head) - len(parts[1])) + parts[1]).encode()


class Collector(http.server.BaseHTTPRequestHandler):
    """Accepts everything."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def install(package, version):
    """Returns the folder of the programs of `package`, which is installed if it is not there."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    kept = pathlib.Path(os.environ.get("SPANTAP_CI_CACHE") or f"{caches}/spantap-ci", f"rival-{package}-{version}")
    if not (kept / ".complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", kept], check=True)
        pip = [kept / "bin/pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, f"{package}=={version}"], check=True, stdout=sys.stderr)
        (kept / ".complete").touch()
    return kept / "bin"


class Running:
    """A candidate with its server."""

    def __init__(self, wrapper, server, home):
        self.mark = f"{os.getpid()}-{random.getrandbits(64):x}"
        names = {"HOME": home, "XDG_STATE_HOME": f"{home}/state", "XDG_CONFIG_HOME": f"{home}/config", MARK: self.mark}
        self.server = server
        self.began = time.perf_counter_ns()
        self.child = subprocess.Popen(
            [*wrapper, *server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
            env={**os.environ, **names})
        self.to, self.back = self.child.stdin.fileno(), self.child.stdout.fileno()
        self.calls = 0
        self.ahead = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        try:
            self.child.wait(2)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.child.stdout.close()
        for pid in self.processes(with_server=True):
            os.kill(pid, signal.SIGKILL)

    def read(self, count):
        if not select.select([self.back], [], [], PATIENCE)[0]:
            raise OSError(f"no answer in {PATIENCE:.0f} s")
        if not (got := os.read(self.back, count)):
            raise OSError("the stream ended")
        return got

    def call(self):
        """Makes one call."""
        os.write(self.to, message(CALL, REQUEST, self.calls))
        expected = message(ANSWER, RESPONSE, self.calls)
        self.calls += 1
        got = self.read(len(expected))
        while len(got) < len(expected):
            got += self.read(len(expected) - len(got))
        if got != expected:
            raise OSError("an answer was changed")

    def wait(self):
        """Waits for the candidate's exit. With a timeout, `Popen.wait` would look only every few milliseconds."""
        watchdog = threading.Timer(PATIENCE, self.child.kill)
        watchdog.start()
        self.child.wait()
        watchdog.cancel()

    def stamp(self):
        """Returns the time that the server `hello` reports, in nanoseconds."""
        line = b""
        while not line.endswith(b"\n"):
            line += self.read(1 << 10)
        return int(line.split(b'"')[-2])

    def exchange(self, count):
        """Makes calls, one after the other. Returns the median of their times, in microseconds."""
        command = [self.server[0], "call", self.calls, count, REQUEST, RESPONSE]
        self.calls += count
        try:
            client = subprocess.run([str(word) for word in command], stdin=self.back, stdout=self.to,
                                    stderr=subprocess.PIPE, timeout=PATIENCE + count / 1e3 * 5)
        except subprocess.TimeoutExpired as error:
            raise OSError("no answer in time") from error
        if client.returncode:
            raise OSError("an answer was changed, or the stream ended")
        return int(client.stderr) / 1e3

    def flood(self, count):
        """Makes calls without waiting for the answers in between."""
        def write():
            for first in range(0, count, 100):
                os.write(self.to, b"".join(message(CALL, REQUEST, first + n) for n in range(100)))

        writer = threading.Thread(target=write)
        writer.start()
        for number in range(count):
            answer = message(ANSWER, RESPONSE, number)
            while len(self.ahead) < len(answer):
                self.ahead += self.read(1 << 16)
            if not self.ahead.startswith(answer):
                raise OSError("an answer was changed")
            del self.ahead[: len(answer)]
        writer.join()

    def receive(self, size, total):
        """Reads frames of the server. Returns bytes per second."""
        frames = b"".join(message(NOTE, size, n) for n in range(LETTERS))
        period = len(frames)
        frames *= 1 + -(-(1 << 16) // period)
        received = 0
        begun = time.perf_counter()
        os.write(self.to, b"\n")
        while received < total and time.perf_counter() < begun + LONGEST_TRANSFER:
            got = self.read(1 << 16)
            if not frames.startswith(got, received % period):
                raise OSError("a frame was changed or lost")
            received += len(got)
        return received / (time.perf_counter() - begun)

    def processes(self, with_server=False):
        """Returns the candidate's processes; without the server, which does not belong to it."""
        found = []
        mark = f"{MARK}={self.mark}".encode()
        words = b"\0".join(str(word).encode() for word in self.server) + b"\0"
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    if with_server or (folder / "cmdline").read_bytes() != words:
                        found.append(int(folder.name))
            except OSError:
                pass  # It has ended, or belongs to another user.
        return found

    def cpu(self):
        """Returns the CPU time of all its threads so far, in seconds."""
        # The kernel's number for the clock of another process: see clock_getcpuclockid(3).
        return sum(time.clock_gettime(~pid << 3 | 2) for pid in self.pids)

    def memory(self, field="VmRSS"):
        """Returns its resident memory, in MiB; the peak with `VmHWM`."""
        kib = 0
        for pid in self.pids:
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            kib += next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field))
        return kib / 1024


class Bench:
    def __init__(self, candidates, program, home):
        self.candidates, self.program, self.home = candidates, program, home
        self.failed = {}
        self.samples = {}

    def start(self, name, *role):
        return Running(self.candidates[name], [self.program, *map(str, role)], self.home)

    def turns(self, part):
        """Returns the candidates in random order, without those that have failed in this part."""
        names = [name for name in self.candidates if (name, part) not in self.failed]
        return random.sample(names, len(names))

    def attempt(self, name, part, action):
        try:
            return action()
        except OSError as error:
            self.failed[name, part] = str(error)
            print(f"{name}, {part}: {error}", file=sys.stderr)
            return None

    def add(self, name, figure, value):
        self.samples.setdefault((name, figure), []).append(value)

    def starts(self):
        def one(name):
            with self.start(name, "answer", REQUEST, RESPONSE) as running:
                running.call()
                answered = time.perf_counter_ns()
                self.add(name, "first answer", (answered - running.began) / 1e6)
            with self.start(name, "hello") as running:
                self.add(name, "start", (running.stamp() - running.began) / 1e6)
                running.child.stdin.close()
                left = running.stamp()
                running.wait()
                self.add(name, "end", (time.perf_counter_ns() - left) / 1e6)

        if os.geteuid() == 0:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        for number in range(STARTS):
            for name in self.turns("start"):
                if number % RARELY == 0 or name in FAST:
                    self.attempt(name, "start", lambda: one(name))
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))

    def calls(self):
        def begin(name):
            running = self.start(name, "answer", REQUEST, RESPONSE)
            running.exchange(20)
            time.sleep(IDLE)
            running.pids = running.processes()
            self.add(name, "memory", running.memory())
            return running

        def block(name, running):
            before = running.cpu()
            taken = running.exchange(CALLS)
            time.sleep(SETTLE)
            self.add(name, "cpu", (running.cpu() - before) / CALLS * 1e4 * 1e3)
            self.add(name, "call", taken)

        for _ in range(ROUNDS):
            alive = {name: self.attempt(name, "call", lambda: begin(name)) for name in self.turns("call")}
            for _ in range(BLOCKS):
                for name in self.turns("call"):
                    self.attempt(name, "call", lambda: block(name, alive[name]))
            for running in filter(None, alive.values()):
                running.__exit__()

    def transfers(self):
        def one(name, size):
            with self.start(name, "source", TRANSFER // size, size) as running:
                return running.receive(size, TRANSFER // size * (size + 1)) / 1e6

        for number in range(TRANSFERS):
            for label, size in FRAMES:
                for name in self.turns(label):
                    if number % RARELY == 0 or name in FAST:
                        self.attempt(name, label, lambda: self.add(name, label, one(name, size)))

    def queues(self, spantap):
        """Returns spantap's peak memory with a full queue of the log, and with full queues of the export."""
        nowhere = ["--otlp", "http://127.0.0.1:9", "--otlp-set", "logs=true", "--"]

        def unsent(running):
            # With pauses, so that only the queues fill, and not the rings.
            for _ in range(UNSENT // CALLS):
                running.exchange(CALLS)
                time.sleep(SETTLE)

        commands = [
            (["--log-dir", "/proc/nowhere", "--"], lambda running: running.flood(FLOOD)),
            (["--log-dir", f"{self.home}/logs", *nowhere], unsent),
        ]
        for options, calls in commands:
            server = [self.program, "answer", str(REQUEST), str(RESPONSE)]
            with Running([spantap, "--server", "bench", *options], server, self.home) as running:
                running.pids = [running.child.pid]
                calls(running)
                yield running.memory("VmHWM")

    def typical(self, name, figure):
        values = sorted(self.samples[name, figure])
        if figure in dict(FRAMES):
            return values[-1 - len(values) // 10]
        if figure == "call":
            return values[len(values) // 10]
        # An observer that other load delays works in a later block, so no block is left out.
        return statistics.mean(values) if figure == "cpu" else statistics.median(values)

    def less(self, figure):
        """Returns what is taken off a figure, because the server alone needs it."""
        return self.typical("direct", figure) if figure in ("start", "first answer", "call") else 0

    def cell(self, name, part, figure, form):
        if (name, part) in self.failed:
            return f"failed: {self.failed[name, part]}"
        value = self.typical(name, figure) - self.less(figure)
        if name == "two copies" or ("two copies", part) in self.failed:
            return form.format(value)
        return f"{form.format(value)} ({value / (self.typical('two copies', figure) - self.less(figure)):.3g} x)"

    def table(self):
        columns = [
            ("start of the server, added", "start", "start", "{:.2f} ms"),
            ("first answer, added", "start", "first answer", "{:.2f} ms"),
            ("server's end to the exit", "start", "end", "{:.2f} ms"),
            ("round trip, added", "call", "call", "{:.1f} us"),
            ("CPU of 10,000 calls", "call", "cpu", "{:.0f} ms"), ("memory, idle", "call", "memory", "{:.1f} MiB"),
            *((f"{label} frames", label, label, "{:.0f} MB/s") for label, _ in FRAMES),
        ]
        print("| |", " | ".join(column[0] for column in columns), "|\n| ---" + " | ---:" * len(columns), "|")
        for name in list(self.candidates)[1:]:
            print("|", " | ".join([name, *(self.cell(name, *column[1:]) for column in columns)]), "|")


def main():
    global ROUNDS, STARTS, TRANSFERS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spantap")
    parser.add_argument("--short", action="store_true", help="fewer rounds")
    parser.add_argument("--build", action="append", default=[], help="another build; can be repeated")
    options = parser.parse_args()
    if options.short:
        ROUNDS, STARTS, TRANSFERS = 1, 15, 3
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/rivals"
        source = pathlib.Path(__file__).with_name("rivals.c")
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-pthread", source, "-o", program], check=True)

        def wrapper(build):
            return [os.path.abspath(build), "--log-dir", f"{folder}/logs", "--server", "bench", "--"]

        spantap = wrapper(options.spantap)
        collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
        # In a process of its own, so that it does not take this script's turns.
        multiprocessing.Process(target=collector.serve_forever, daemon=True).start()
        otlp = [*spantap[:-1], "--otlp", f"http://127.0.0.1:{collector.server_port}", "--"]
        candidates = dict(zip(FAST, [[], [program, "copies"], spantap, otlp]))
        candidates |= {build: wrapper(build) for build in options.build}
        FAST.extend(options.build)
        for package, version, command in [] if options.build else RIVALS:
            candidates[f"{package} {version}"] = [install(package, version) / command[0], *command[1:]]
        bench = Bench(candidates, program, folder)
        bench.starts()
        bench.calls()
        bench.transfers()
        bench.table()
        log, export = bench.queues(spantap[0])
        print(f"\nPeak memory of spantap: {log:.1f} MiB with {FLOOD:,} calls and no place for the log;"
              f" {export:.1f} MiB with {UNSENT:,} calls, spans and logs, and no collector.")


main()
