"""A thousand exporters with one real collector and one real store: measures loss and cost.

    scale.py SPANTAP_BINARY [INSTANCES]

Records the requests of spantap's exporter in one real session. Replays them as INSTANCES connections (default
1,000), each with its own `service.instance.id`, trace ids and span ids, through rotel to a sink that counts:
every span must arrive once, and every metric of every connection. Sends the metrics again to VictoriaMetrics,
which must accept every request. Prints bytes, CPU time and memory, from which docs/operations.md computes the
needs of a fleet.
"""

import concurrent.futures
import gzip
import hashlib
import http.client
import http.server
import os
import shutil
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path[:0] = [f"{ROOT}/tests/real", f"{ROOT}/tests/real/otlp"]

import sessions
from collectors import Sink, rotel, victoria, wait_until

SENDERS = 4
CALLS = 40


class Recorded(Sink):
    """Keeps each request: (path, decoded request, bytes on the wire)."""

    def __init__(self):
        self.requests = []
        super().__init__()

    def take(self, path: str, body: bytes, size: int) -> None:
        with self.lock:
            self.requests.append((path, self.REQUESTS[path][0].FromString(body), size))


def one_session(spantap: str, folder: str) -> tuple:
    """The requests of one session's exporter, its log's bytes and its number of calls."""
    with Recorded() as sink:
        server = dict(sessions.servers(f"{folder}/work")["everything"])
        server["calls"] = [sessions.call("get-sum", a=1, b=number) for number in range(CALLS - 4)] + server["calls"][:4]
        command = [spantap, "--server", "everything", "--log-dir", f"{folder}/log", "--otlp", sink.url, "--", *server["command"]]
        assert sessions.drive("ts1", server, command, folder, f"{folder}/work")[0][0] == 0
        wait_until("the last requests", lambda: {path for path, _, _ in sink.requests} >= {"/v1/traces", "/v1/metrics"})
        logged = sum(os.path.getsize(os.path.join(f"{folder}/log", name)) for name in os.listdir(f"{folder}/log"))
        return list(sink.requests), logged


def as_instance(path: str, request, number: int) -> bytes:
    """The same request with the ids of another connection."""
    copy = type(request)()
    copy.CopyFrom(request)
    identity = str(uuid.UUID(int=number + 1))
    salt = number.to_bytes(8, "big")
    fresh = lambda old: hashlib.sha256(salt + old).digest()[:len(old)] if old else b""
    for resource in copy.resource_spans if path == "/v1/traces" else copy.resource_metrics:
        for pair in resource.resource.attributes:
            if pair.key == "service.instance.id":
                pair.value.string_value = identity
        if path == "/v1/traces":
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                span.trace_id, span.span_id, span.parent_span_id = map(fresh, (span.trace_id, span.span_id, span.parent_span_id))
                for link in span.links:
                    link.trace_id, link.span_id = fresh(link.trace_id), fresh(link.span_id)
    return copy.SerializeToString()


def cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))


def replay(requests: list, instances: int, url: str) -> tuple:
    """Sends every request of every instance; (requests refused, bytes sent, seconds)."""
    address = urllib.parse.urlparse(url)
    local = threading.local()

    def send(number: int) -> tuple:
        refused = sent = 0
        connection = getattr(local, "connection", None) or http.client.HTTPConnection(address.hostname, address.port, timeout=60)
        local.connection = connection
        for path, request, _ in requests:
            body = gzip.compress(as_instance(path, request, number), 1)
            connection.request("POST", address.path + path, body, {"content-type": "application/x-protobuf", "content-encoding": "gzip"})
            answer = connection.getresponse()
            answer.read()
            refused += answer.status not in (200, 204)
            sent += len(body)
        return refused, sent

    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(max_workers=SENDERS) as pool:
        outcomes = list(pool.map(send, range(instances)))
    return sum(r for r, _ in outcomes), sum(s for _, s in outcomes), time.monotonic() - start


def main() -> int:
    spantap = os.path.abspath(sys.argv[1])
    instances = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000
    folder = tempfile.mkdtemp(prefix="spantap-scale-")
    requests, logged = one_session(spantap, folder)
    requests = [request for request in requests if request[0] != "/v1/logs"]
    spans = sum(len(scope.spans) for path, request, _ in requests if path == "/v1/traces"
                for resource in request.resource_spans for scope in resource.scope_spans)

    exports = [[point for resource in request.resource_metrics for scope in resource.scope_metrics
                for metric in scope.metrics for point in getattr(metric, metric.WhichOneof("data")).data_points]
               for path, request, _ in requests if path == "/v1/metrics"]
    points = [len(export) for export in exports]
    # A histogram has a series for each bucket, its count and its sum. A later export has more points of the same series.
    size = lambda point: len(point.bucket_counts) + 2 if hasattr(point, "bucket_counts") else 1
    exported = {(metric.name, *sorted((pair.key, str(pair.value)) for pair in point.attributes)): size(point)
                for path, request, _ in requests if path == "/v1/metrics"
                for resource in request.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics
                for point in getattr(metric, metric.WhichOneof("data")).data_points}
    series = sum(exported.values())
    samples = sum(size(point) for export in exports for point in export)

    def phase(path: str, url: str, pid: int, arrived=lambda: True) -> dict:
        before = cpu_seconds(pid)
        refused, sent, seconds = replay([request for request in requests if request[0] == path], instances, url)
        wait_until(f"all items of {path}", arrived, 120)
        return {"refused": refused, "sent": sent, "seconds": seconds, "cpu": cpu_seconds(pid) - before}

    with Sink() as sink, rotel(sink.url) as collector:
        traces = phase("/v1/traces", collector.http, collector.pid, lambda: len(sink.spans) >= spans * instances)
        wanted = {metric.name for path, request, _ in requests if path == "/v1/metrics"
                  for resource in request.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics}
        seen = lambda: {(resource["service.instance.id"], metric.name) for resource, metric in list(sink.metrics)}
        metrics = phase("/v1/metrics", collector.http, collector.pid, lambda: len(seen()) == len(wanted) * instances)
        ids = {span.span_id for _, span in sink.spans}
        memory = [resident_mib(collector.pid)]
    # The store alone: it answers a request after it has accepted all of it.
    with victoria() as store:
        stored = phase("/v1/metrics", f"{store.base}/opentelemetry", store.pid)
        memory.append(resident_mib(store.pid))

    shutil.rmtree(folder)
    problems = []
    if refused := sum(phase["refused"] for phase in (traces, metrics, stored)):
        problems.append(f"{refused} requests refused")
    if len(ids) != spans * instances or len(sink.spans) != len(ids):
        problems.append(f"{spans * instances} spans sent, {len(sink.spans)} received, {len(ids)} of them different")
    for problem in problems:
        print(f"FAIL {problem}")

    wire = lambda wanted: sum(size for path, _, size in requests if path == wanted)
    print(f"one session of {CALLS} calls: {logged / CALLS:.0f} B of log and {wire('/v1/traces') / CALLS:.0f} B of spans for a call, "
          f"{wire('/v1/metrics') / len(points):.0f} B and {max(points)} points for an export of metrics, {series} series")
    print(f"{instances} connections: {len(ids)} spans in {traces['seconds']:.1f} s, {samples * instances} samples in {metrics['seconds']:.1f} s, none lost"
          if not problems else "items were lost")
    print(f"collector: {traces['cpu'] * 1e6 / len(ids):.1f} us of CPU for a span, "
          f"{metrics['cpu'] * 1e6 / instances / len(points):.0f} us for an export of metrics, at most {memory[0]:.0f} MiB resident")
    print(f"store: {stored['cpu'] * 1e6 / series / instances:.1f} us of CPU for a new series, at most {memory[1]:.0f} MiB resident")
    print(f"compressed on the wire: {traces['sent'] / len(ids):.0f} B for a span, {metrics['sent'] / instances / len(points):.0f} B for an export of metrics")
    print(f"scale: {1 - bool(problems)} passed, {int(bool(problems))} failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
