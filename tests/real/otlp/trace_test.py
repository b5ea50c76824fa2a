"""One trace from the agent's span to the servers', through spantap and a real collector.

    trace_test.py SPANTAP_BINARY

spantap changes no byte. The span of a server that reads `_meta` is therefore a child of the client's span, like
spantap's own span. The span of a server that reads its environment is a child of spantap's connection span,
which is a child of the agent's span.
"""

import os
import subprocess
import sys
import tempfile

from collectors import Sink, attributes, rotel, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))


def main() -> int:
    spantap = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder, Sink() as sink, rotel(sink.url) as collector:
        agent = subprocess.run([f"{os.environ['REAL_SDK2']}/bin/python", f"{HERE}/agent.py", spantap, collector.http, folder],
                               check=True, stdout=subprocess.PIPE, text=True, timeout=120)
        trace_id, agent_id = agent.stdout.split()

        def all_spans() -> list:
            return [{"service": resource["service.name"], "name": span.name, "id": span.span_id.hex(), "kind": span.kind,
                     "trace": span.trace_id.hex(), "parent": span.parent_span_id.hex(), "scope": resource.get("service.namespace"),
                     "method": attributes(span.attributes).get("mcp.method.name"),
                     "links": [link.span_id.hex() for link in span.links]} for resource, span in sink.spans]

        def only(**wanted) -> dict | None:
            """The only span with these values; None if it has not arrived."""
            found = [span for span in all_spans() if all(span[key] == want for key, want in wanted.items())]
            assert len(found) <= 1, f"{wanted}: {found}"
            return found[0] if found else None

        def arrived(**wanted) -> dict:
            try:
                return wait_until(str(wanted), lambda: only(**wanted), 20)
            except AssertionError as error:
                raise AssertionError(f"{error}\n" + "\n".join(map(str, all_spans()))) from None

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
    print("traces: 2 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
