"""Receivers for the tests: rotel and VictoriaMetrics as processes, a sink to which rotel forwards, and a recorder of
requests as they came.

Each listens on free ports of 127.0.0.1 and ends with its `with` block.
"""

import base64
import collections
import contextlib
import gzip
import http.server
import itertools
import json
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PATIENCE = 60.0
JSON, PROTOBUF = "application/json", "application/x-protobuf"
REPOSITORY = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
RELABEL = os.path.join(REPOSITORY, "docs", "dashboards", "victoriametrics-relabel.yml")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(what: str, condition, seconds: float = PATIENCE):
    """Returns the first true value of `condition()`; fails after the deadline, naming `what`."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.05)


def value(any_value):
    """A protobuf AnyValue as the Python value it holds."""
    kind = any_value.WhichOneof("value")
    if kind == "array_value":
        return [value(item) for item in any_value.array_value.values]
    if kind == "kvlist_value":
        return attributes(any_value.kvlist_value.values)
    return getattr(any_value, kind) if kind else None


def attributes(pairs) -> dict:
    return {pair.key: value(pair.value) for pair in pairs}


class Sink:
    """Items that the collector forwarded: a flat list of (resource attributes, item) for each signal."""

    REQUESTS = {
        "/v1/traces": (ExportTraceServiceRequest, "resource_spans", "scope_spans", "spans"),
        "/v1/metrics": (ExportMetricsServiceRequest, "resource_metrics", "scope_metrics", "metrics"),
        "/v1/logs": (ExportLogsServiceRequest, "resource_logs", "scope_logs", "log_records"),
    }

    def __init__(self):
        self.lock = threading.Lock()
        self.spans, self.metrics, self.logs = [], [], []
        self.bytes = 0
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                size = len(body)
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                sink.take(urllib.parse.urlparse(self.path).path, body, size)
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, path: str, body: bytes, size: int) -> None:
        kind, resources, scopes, items = self.REQUESTS[path]
        request = kind.FromString(body)
        target = {"spans": self.spans, "metrics": self.metrics, "log_records": self.logs}[items]
        with self.lock:
            self.bytes += size
            for resource in getattr(request, resources):
                labels = attributes(resource.resource.attributes)
                for scope in getattr(resource, scopes):
                    target.extend((labels, item) for item in getattr(scope, items))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def post(address: str, path: str, kind: str, encoding: str, body: bytes) -> int:
    """Sends a request, and returns the status of the answer."""
    headers = {"content-type": kind} | ({"content-encoding": encoding} if encoding else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(address + path, body, headers), timeout=PATIENCE) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


class Recorder:
    """Keeps each request as it came: path, content type, content encoding, body. With `pass_on` it sends each request for
    which `is_passed_on` is true to that address; `answers` is true if its answer is that of this recorder, too.
    """

    def __init__(self, port: int = 0, pass_on: str = "", is_passed_on=lambda *_: True, answers: bool = False):
        self.requests, self.lock = collections.Counter(), threading.Lock()
        recorder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                request = (self.path, self.headers["content-type"], self.headers["content-encoding"], self.body())
                status = 200
                if pass_on and is_passed_on(*request):
                    passed_on = post(pass_on, *request)
                    status = passed_on if answers else status
                if status == 200:
                    with recorder.lock:
                        recorder.requests[request] += 1
                self.send_response(status)
                self.send_header("content-type", request[1])
                answer = b"{}" if request[1] == JSON else b""
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def body(self) -> bytes:
                if "chunked" not in self.headers.get("transfer-encoding", ""):
                    return self.rfile.read(int(self.headers["content-length"]))
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                # A client may reset a connection between two requests.
                if not isinstance(sys.exc_info()[1], ConnectionError):
                    super().handle_error(request, client_address)

        self.server = Server(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def all(self) -> collections.Counter:
        with self.lock:
            return self.requests.copy()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


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


def same_requests(wanted: collections.Counter, recorder: Recorder) -> None:
    """Fails if the requests that the recorder has are not the wanted ones, byte for byte."""
    arrived = recorder.all()
    missing, extra = wanted - arrived, arrived - wanted
    assert not missing and not extra, f"missing {[it[:3] for it in missing]}, not sent {[it[:3] for it in extra]}"


def plain(encoding: str, body: bytes) -> bytes:
    return gzip.decompress(body) if encoding else body


def is_taken_by_rotel(path: str, kind: str, encoding: str, body: bytes) -> bool:
    """rotel 0.0.1a15 refuses an attribute without a value in JSON, which Gemini CLI sends. It takes it in protobuf."""
    return kind == PROTOBUF or b'"value":{}' not in plain(encoding, body)


def same_items(kind: str, requests, sink: Sink) -> int:
    """Waits until the sink has as many spans or log records as the requests. Returns their number; fails if they differ."""
    def rounded(item):
        # rotel 0.0.1a15 changes the last digit of some numbers that come as JSON.
        for attribute in itertools.chain(item.attributes, *(event.attributes for event in getattr(item, "events", ()))):
            if attribute.value.HasField("double_value"):
                attribute.value.double_value = float(f"{attribute.value.double_value:.12g}")
        return item

    def items(sink: Sink) -> collections.Counter:
        with sink.lock:
            return collections.Counter((json.dumps(resource, sort_keys=True), rounded(item).SerializeToString(deterministic=True))
                                       for resource, item in getattr(sink, kind))
    with Sink() as wanted:
        for path, form, encoding, body in requests:
            body = plain(encoding, body)
            wanted.take(path, encoded(path, body) if form == JSON else body, len(body))
        expected = items(wanted)
    wait_until(f"{kind} in the sink", lambda: len(getattr(sink, kind)) >= expected.total())
    arrived = items(sink)
    assert arrived == expected, f"{kind}: {(expected - arrived).total()} missing, {(arrived - expected).total()} others"
    return expected.total()


@contextlib.contextmanager
def process(command: list, log: str, env=None):
    """Runs a program until the block ends; its output goes to `log`."""
    with open(log, "ab") as output:
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Rotel:
    def __init__(self, http: int, grpc: int, running):
        self.http, self.grpc, self.pid = f"http://127.0.0.1:{http}", f"http://127.0.0.1:{grpc}", running.pid


@contextlib.contextmanager
def rotel(forward_to: str):
    """The rotel collector, forwarding every signal to an OTLP/HTTP address."""
    agent = os.path.join(os.environ["REAL_SDK2"], "lib", f"python{sysconfig.get_python_version()}",
                         "site-packages", "rotel", "rotel-agent")
    http_port, grpc_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="spantap-rotel-") as folder:
        env = {"PATH": os.environ["PATH"], "HOME": folder, "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR")}
        # When rotel 0.0.1a15 splits a batch, the second part loses its resource. This limit prevents splits.
        command = [agent, "start", "--batch-max-size", "1000000", "--otlp-http-endpoint", f"127.0.0.1:{http_port}",
                   "--otlp-grpc-endpoint", f"127.0.0.1:{grpc_port}", "--exporter", "otlp",
                   "--otlp-exporter-endpoint", forward_to, "--otlp-exporter-protocol", "http",
                   "--pid-file", f"{folder}/pid", "--log-file", f"{folder}/log"]
        with process(command, f"{folder}/out", env) as running:
            def ready():
                if running.poll() is not None:
                    raise AssertionError("rotel ended: " + open(f"{folder}/out").read()[-2000:])
                return listening(http_port) and listening(grpc_port)
            wait_until("rotel listens", ready)
            yield Rotel(http_port, grpc_port, running)


class Victoria:
    """A VictoriaMetrics that gives OTLP metrics Prometheus' names."""

    def __init__(self, port: int, pid: int):
        self.base, self.pid = f"http://127.0.0.1:{port}", pid
        self.otlp_metrics = f"{self.base}/opentelemetry/v1/metrics"

    def query(self, expr: str, at: float | None = None) -> list:
        """Runs an instant query; returns a list of (labels, number). An error of VictoriaMetrics fails the test."""
        form = {"query": expr, "nocache": "1"} | ({"time": f"{at:.3f}"} if at else {})
        return [(item["metric"], float(item["value"][1])) for item in self._get("/api/v1/query", form)]

    def query_range(self, expr: str, start: float, end: float, step: str) -> list:
        form = {"query": expr, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": step, "nocache": "1"}
        return [(item["metric"], [(at, float(number)) for at, number in item["values"]])
                for item in self._get("/api/v1/query_range", form)]

    def _get(self, path: str, form: dict) -> list:
        body = urllib.parse.urlencode(form).encode()
        try:
            with urllib.request.urlopen(self.base + path, body, timeout=30) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{form['query']}\n{error.read().decode(errors='replace')[:500]}") from None

    def flush(self) -> None:
        urllib.request.urlopen(f"{self.base}/internal/force_flush", timeout=30).close()


@contextlib.contextmanager
def victoria():
    binary = os.path.join(os.environ["REAL_DEBIAN"], "usr", "bin", "victoria-metrics")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="spantap-victoria-") as folder:
        command = [binary, f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={folder}/data",
                   "-opentelemetry.usePrometheusNaming", f"-relabelConfig={RELABEL}", "-search.latencyOffset=0s", "-retentionPeriod=1y",
                   "-memory.allowedPercent=10"]
        with process(command, f"{folder}/out") as running:
            def ready():
                if running.poll() is not None:
                    raise AssertionError("VictoriaMetrics ended: " + open(f"{folder}/out").read()[-2000:])
                return listening(port)
            wait_until("VictoriaMetrics listens", ready)
            yield Victoria(port, running.pid)
