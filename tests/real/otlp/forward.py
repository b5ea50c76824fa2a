"""What real agents sent, through `spantap collect --forward`.

    forward.py SPANTAP_BINARY

The bodies of fixtures/agents go to a recorder, which must get each of them byte for byte with its head, and to rotel,
which must hold the same spans and log records.
"""

import base64
import collections
import contextlib
import glob
import gzip
import http.server
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request

from google.protobuf import json_format

from collectors import PATIENCE, REPOSITORY, Sink, rotel, wait_until

AGENTS = ("claude", "codex", "gemini", "opencode")
JSON, PROTOBUF = "application/json", "application/x-protobuf"


def encoded(path: str, text: bytes) -> bytes:
    """The same request in protobuf. OTLP writes ids in hex where the JSON of protobuf has base64."""
    def with_base64(key, value):
        if isinstance(value, dict):
            return {name: with_base64(name, member) for name, member in value.items()}
        if isinstance(value, list):
            return [with_base64(key, item) for item in value]
        if key in ("traceId", "spanId", "parentSpanId"):
            return base64.b64encode(bytes.fromhex(value)).decode()
        return value
    request = json_format.ParseDict(with_base64("", json.loads(text)), Sink.REQUESTS[path][0]())
    return request.SerializeToString(deterministic=True)


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


class Recorder:
    """Keeps each request as it came."""

    def __init__(self):
        self.requests = collections.Counter()
        recorder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                recorder.requests[self.path, self.headers["content-type"], self.headers["content-encoding"], body] += 1
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


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


def post(address: str, requests: list) -> None:
    for path, kind, encoding, body in requests:
        headers = {"content-type": kind} | ({"content-encoding": encoding} if encoding else {})
        with urllib.request.urlopen(urllib.request.Request(address + path, body, headers), timeout=PATIENCE) as answer:
            assert answer.status == 200


def bytes_arrive(spantap: str) -> str:
    recorder, requests = Recorder(), sent()
    with collect(spantap, recorder.url, len(requests)) as address:
        post(address, requests)
        wait_until("every request", lambda: recorder.requests.total() >= len(requests))
    wanted = collections.Counter(requests)
    missing, extra = wanted - recorder.requests, recorder.requests - wanted
    assert not missing and not extra, f"missing {[it[:3] for it in missing]}, not sent {[it[:3] for it in extra]}"
    return f"{len(requests)} bodies, {sum(len(body) for *_, body in requests) >> 10} KiB, byte for byte"


def items_arrive(spantap: str) -> str:
    # rotel 0.0.1a15 refuses an attribute without a value in JSON, which Gemini CLI sends. It takes it in protobuf.
    def is_taken(kind: str, encoding: str, body: bytes) -> bool:
        return kind == PROTOBUF or b'"value":{}' not in (gzip.decompress(body) if encoding else body)
    requests = [request for request in sent() if is_taken(*request[1:])]
    wanted = Sink()
    for path, kind, encoding, body in requests:
        body = gzip.decompress(body) if encoding else body
        wanted.take(path, encoded(path, body) if kind == JSON else body, len(body))
    def items(sink: Sink, kind: str) -> collections.Counter:
        with sink.lock:
            return collections.Counter((json.dumps(resource, sort_keys=True), item.SerializeToString(deterministic=True))
                                       for resource, item in getattr(sink, kind))
    with (Sink() as sink, rotel(sink.url) as collector,
          collect(spantap, collector.http, len(requests)) as address):
        post(address, requests)
        counts = {}
        for kind in ("spans", "logs"):
            expected = items(wanted, kind)
            counts[kind] = expected.total()
            wait_until(f"{kind} in rotel", lambda: len(getattr(sink, kind)) >= expected.total())
            arrived = items(sink, kind)
            assert arrived == expected, f"{kind}: {(expected - arrived).total()} missing, {(arrived - expected).total()} others"
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
