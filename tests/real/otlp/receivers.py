"""A real client, a real server and a real collector: items that arrive must match the log.

    receivers.py SPANTAP_BINARY

The Python SDK's client drives the everything server through spantap, which exports to rotel over
http/protobuf and over gRPC; rotel forwards to a sink that keeps every item. Each operation of the log must
arrive as one span with its ids, times and outcome, and each record as one OTLP log. The last points of the
duration histogram must add up to the log's calls, by tool and by error.
"""

import collections
import datetime
import os
import shutil
import sys
import tempfile

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import sessions
from collectors import Sink, attributes, rotel, wait_until

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def nanoseconds(timestamp: str) -> int:
    """RFC 3339 to nanoseconds since 1970, exactly."""
    passed = datetime.datetime.fromisoformat(timestamp) - EPOCH
    return (passed.days * 86_400 + passed.seconds) * 10**9 + passed.microseconds * 1_000


def operations(records: list) -> list:
    return [record for record in records if record["event"] in ("mcp_tool_call", "mcp_request")]


def check_spans(records: list, sink: Sink) -> None:
    expected = {record["span_id"]: record for record in operations(records)}
    wait_until(f"{len(expected)} spans", lambda: {span.span_id.hex() for _, span in sink.spans} >= expected.keys())
    seen = collections.Counter(span.span_id.hex() for _, span in sink.spans)
    assert max(seen.values()) == 1, f"spans that arrived twice: {[i for i, n in seen.items() if n > 1]}"
    extra = [span.name for _, span in sink.spans if span.span_id.hex() not in expected]
    assert extra == ["mcp.connect"], f"spans without an operation: {extra}"
    for resource, span in sink.spans:
        if span.name == "mcp.connect":
            continue
        record = expected[span.span_id.hex()]
        labels = attributes(span.attributes)
        target = record.get("tool_name") or record.get("prompt_name")
        wanted = {
            "trace": record["trace_id"],
            "parent": record.get("parent_span_id", ""),
            "name": f"{record['method']} {target}" if target else record["method"],
            "start": nanoseconds(record["started_at"]),
            "end": nanoseconds(record["ended_at"]),
            "method": record["method"],
            "tool": record.get("tool_name"),
            "error": record.get("error_type") or None,
            "server": "everything",
            "connection": record["connection_id"],
        }
        actual = {
            "trace": span.trace_id.hex(),
            "parent": span.parent_span_id.hex(),
            "name": span.name,
            "start": span.start_time_unix_nano,
            "end": span.end_time_unix_nano,
            "method": labels.get("mcp.method.name"),
            "tool": labels.get("gen_ai.tool.name"),
            "error": labels.get("error.type"),
            "server": resource.get("service.name"),
            "connection": resource.get("service.instance.id"),
        }
        assert wanted == actual, f"span and record differ:\n{wanted}\n{actual}"


def check_logs(records: list, sink: Sink) -> None:
    expected = collections.Counter((record["event"], record["seq"]) for record in records)

    def arrived() -> collections.Counter:
        return collections.Counter((log.event_name, attributes(log.attributes).get("seq")) for _, log in sink.logs)

    wait_until(f"{len(records)} logs", lambda: sum(arrived().values()) >= len(records))
    missing, extra = expected - arrived(), arrived() - expected
    assert not missing and not extra, f"logs missing {missing}, too many {extra}"
    traces = {record["seq"]: (record["trace_id"], record["span_id"]) for record in operations(records)}
    for _, log in sink.logs:
        if log.event_name in ("mcp_tool_call", "mcp_request"):
            seq = attributes(log.attributes)["seq"]
            assert (log.trace_id.hex(), log.span_id.hex()) == traces[seq], f"log {seq} has other ids"


def check_metrics(records: list, sink: Sink) -> None:
    calls = [record for record in operations(records) if record["event"] == "mcp_tool_call"]
    expected = collections.Counter(record.get("error_type", "") for record in calls)

    def last_points(name: str) -> dict:
        """Newest point of each series, by attributes."""
        points = {}
        for resource, metric in sink.metrics:
            if metric.name == name:
                for point in getattr(metric, metric.WhichOneof("data")).data_points:
                    key = (resource["service.instance.id"], *sorted(attributes(point.attributes).items()))
                    if key not in points or point.time_unix_nano >= points[key].time_unix_nano:
                        points[key] = point
        return points

    def counted() -> collections.Counter:
        found = collections.Counter()
        for point in last_points("mcp.server.operation.duration").values():
            labels = attributes(point.attributes)
            if labels["mcp.method.name"] == "tools/call" and point.count:
                found[labels.get("error.type", "")] += point.count
        return found

    wait_until(f"a histogram of {expected}", lambda: counted() == expected, 15)
    total = sum(point.sum for point in last_points("mcp.server.operation.duration").values()
                if attributes(point.attributes)["mcp.method.name"] == "tools/call")
    logged = sum(record["duration_ms"] for record in calls) / 1_000
    assert abs(total - logged) < 0.001 * len(calls), f"{total} s measured, {logged} s in the log"
    names = {metric.name for _, metric in sink.metrics}
    for name in ("spantap.server.up", "spantap.session.tool_calls", "spantap.telemetry.dropped"):
        assert name in names, f"{name} did not arrive"
    for point in last_points("spantap.telemetry.dropped").values():
        assert point.as_int == 0, f"{point.as_int} records lost"


def check(spantap: str, protocol: str) -> None:
    folder = tempfile.mkdtemp(prefix="spantap-receivers-")
    server = dict(sessions.servers(f"{folder}/work")["everything"])
    with Sink() as sink, rotel(sink.url) as collector:
        endpoint = collector.grpc if protocol == "grpc" else collector.http
        server["env"] = {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_LOGS_EXPORTER": "otlp",
                         "OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "otlp"}
        command = [spantap, "--server", "everything", "--log-dir", f"{folder}/log", "--otlp", endpoint, "--", *server["command"]]
        outcomes = sessions.drive("py2-legacy", server, command, folder, f"{folder}/work")
        assert outcomes[0][0] == 0
        records = sessions.records(f"{folder}/log")
        assert sum(record["event"] == "mcp_tool_call" for record in records) == len(server["calls"])
        check_spans(records, sink)
        check_metrics(records, sink)
        check_logs(records, sink)
    shutil.rmtree(folder)


def main() -> int:
    passed = failed = 0
    for protocol in ("http/protobuf", "grpc"):
        try:
            check(os.path.abspath(sys.argv[1]), protocol)
            passed += 1
            print(f"ok   rotel over {protocol}: spans, metrics, logs", flush=True)
        except AssertionError as error:
            failed += 1
            print(f"FAIL rotel over {protocol}: {error}", flush=True)
    print(f"receivers: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
