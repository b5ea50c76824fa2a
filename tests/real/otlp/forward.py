"""What real agents sent, through `spantap collect --forward`.

    forward.py SPANTAP_BINARY

The bodies of fixtures/agents go to a recorder, which must get each of them byte for byte with its head, and to rotel,
which must hold the same spans and log records.
"""

import collections
import contextlib
import glob
import gzip
import os
import signal
import subprocess
import sys
import tempfile

from collectors import (
    JSON, PATIENCE, PROTOBUF, REPOSITORY, Recorder, Sink, encoded, is_taken_by_rotel, post, rotel, same_items, same_requests, wait_until,
)

AGENTS = ("claude", "codex", "gemini", "opencode")


def sent() -> list:
    """Each body in each form: path, content type, content encoding, bytes."""
    requests = []
    for agent in AGENTS:
        found = sorted(glob.glob(f"{REPOSITORY}/fixtures/agents/{agent}/*.json"))
        assert found, f"no bodies of {agent}"
        for name in found:
            path = "/v1/traces" if name.endswith("-traces.json") else "/v1/logs"
            with open(name, "rb") as file:
                text = file.read()
            binary = encoded(path, text)
            requests += [(path, JSON, None, text), (path, JSON, "gzip", gzip.compress(text, 9)),
                         (path, PROTOBUF, None, binary), (path, PROTOBUF, "gzip", gzip.compress(binary, 1))]
    return requests


@contextlib.contextmanager
def collect(spantap: str, target: str, count: int):
    """Runs the collector, and checks at the end that it has passed everything on."""
    with tempfile.TemporaryDirectory(prefix="spantap-forward-") as home:
        running = subprocess.Popen(
            [spantap, "collect", "--listen", "127.0.0.1:0", "--forward", target], env={"HOME": home},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            words = running.stdout.readline().split()
            assert words[:2] == ["listening", "on"], running.communicate(timeout=PATIENCE)
            yield "http://" + words[2].rstrip(",")
            running.send_signal(signal.SIGTERM)
            printed, said = running.communicate(timeout=PATIENCE)
            assert f"passed on: {count} requests\n" in printed and "lost" not in printed, printed + said
        finally:
            running.kill()
            running.wait()


def bytes_arrive(spantap: str) -> str:
    requests = sent()
    with Recorder() as recorder, collect(spantap, recorder.url, len(requests)) as address:
        assert all(post(address, *request) == 200 for request in requests)
        wait_until("every request", lambda: recorder.requests.total() >= len(requests))
    same_requests(collections.Counter(requests), recorder)
    return f"{len(requests)} bodies, {sum(len(body) for *_, body in requests) >> 10} KiB, byte for byte"


def items_arrive(spantap: str) -> str:
    requests = [request for request in sent() if is_taken_by_rotel(*request)]
    with (Sink() as sink, rotel(sink.url) as collector,
          collect(spantap, collector.http, len(requests)) as address):
        assert all(post(address, *request) == 200 for request in requests)
        counts = {kind: same_items(kind, requests, sink) for kind in ("spans", "logs")}
    return f"{counts['spans']} spans and {counts['logs']} log records in rotel"


def main() -> int:
    failed = 0
    for check in (bytes_arrive, items_arrive):
        try:
            print(f"ok   forward: {check(os.path.abspath(sys.argv[1]))}", flush=True)
        except AssertionError as error:
            failed += 1
            print(f"FAIL forward: {check.__name__}: {error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
