"""One trace from the agent's span to the servers', through spantap and a real collector.

    trace_test.py SPANTAP_BINARY

By default spantap changes no byte. The span of a server that reads `_meta` is therefore a child of the client's span,
like spantap's own span. The span of a server that reads its environment is a child of spantap's connection span,
which is a child of the agent's span.

With `--propagate meta` and an agent that sends no trace context, the span of a server that reads `_meta` is a child of
spantap's span of that request.
"""

import glob
import json
import os
import subprocess
import sys
import tempfile

from collectors import Sink, attributes, rotel, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))


class Spans:
    """The spans that have arrived at a sink."""

    def __init__(self, sink: Sink):
        self.sink = sink

    def all(self) -> list:
        return [{"service": resource["service.name"], "name": span.name, "id": span.span_id.hex(), "kind": span.kind,
                 "trace": span.trace_id.hex(), "parent": span.parent_span_id.hex(), "scope": resource.get("service.namespace"),
                 "method": attributes(span.attributes).get("mcp.method.name"),
                 "links": [link.span_id.hex() for link in span.links]} for resource, span in self.sink.spans]

    def only(self, **wanted) -> dict | None:
        """The only span with these values; None if it has not arrived."""
        found = [span for span in self.all() if all(span[key] == want for key, want in wanted.items())]
        assert len(found) <= 1, f"{wanted}: {found}"
        return found[0] if found else None

    def arrived(self, **wanted) -> dict:
        try:
            return wait_until(str(wanted), lambda: self.only(**wanted), 20)
        except AssertionError as error:
            raise AssertionError(f"{error}\n" + "\n".join(map(str, self.all()))) from None


def run(agent: str, *arguments: str) -> str:
    """Runs an agent and returns its output."""
    command = [f"{os.environ['REAL_SDK2']}/bin/python", f"{HERE}/{agent}", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout


def agent_with_context(spantap: str) -> None:
    with tempfile.TemporaryDirectory() as folder, Sink() as sink, rotel(sink.url) as collector:
        trace_id, agent_id = run("agent.py", spantap, collector.http, folder).split()
        arrived = Spans(sink).arrived
        for server in ("server_meta", "server_env"):
            spantap_call = arrived(service=server, scope="mcp", name="tools/call work")
            client = arrived(id=spantap_call["parent"])
            connect = arrived(service=server, name="mcp.connect")
            assert client["service"] == "agent" and client["method"] == "tools/call", client
            assert spantap_call["kind"] == 2, "a SERVER span"
            assert spantap_call["links"] == [connect["id"]], spantap_call
            assert connect["parent"] == agent_id, connect
            if server == "server_meta":
                own = arrived(service=server, scope=None, method="tools/call")
                assert own["parent"] == client["id"], own
            else:
                own = arrived(service=server, name="env tools/call")
                assert own["parent"] == connect["id"], own
            above = client
            while above["id"] != agent_id:
                above = arrived(id=above["parent"])
            for span in (spantap_call, client, connect, own, above):
                assert span["trace"] == trace_id, f"{span} is not in trace {trace_id}"
            print(f"ok   {server}: agent > client > spantap, and the server's own span, in one trace", flush=True)


def agent_without_context(spantap: str) -> None:
    with tempfile.TemporaryDirectory() as folder, Sink() as sink, rotel(sink.url) as collector:
        run("plain_agent.py", spantap, collector.http, folder)
        arrived = Spans(sink).arrived
        call = arrived(service="server_meta", scope="mcp", name="tools/call work")
        connect = arrived(service="server_meta", name="mcp.connect")
        own = arrived(service="server_meta", scope=None, method="tools/call")
        assert call["parent"] == connect["id"] and own["parent"] == call["id"], (connect, call, own)
        assert connect["trace"] == call["trace"] == own["trace"], (connect, call, own)
        [log] = glob.glob(f"{folder}/*.jsonl")
        records = [json.loads(line) for line in open(log)]
        [record] = [record for record in records if record["event"] == "mcp_tool_call"]
        assert (record["trace_id"], record["span_id"]) == (call["trace"], own["parent"]), record
        counts = records[-1]["totals"]["trace_context"]
        assert counts["inserted"] >= 2 and counts["has_context"] == counts["invalid"] == counts["duplicate"] == 0, counts
        print("ok   server_meta: spantap with --propagate meta > the server's own span, in one trace", flush=True)


def main() -> int:
    spantap = os.path.abspath(sys.argv[1])
    agent_with_context(spantap)
    agent_without_context(spantap)
    print("traces: 3 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
