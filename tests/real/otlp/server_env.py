"""A server that ignores `_meta` and reads its trace from the environment."""

import json
import os
import sys

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tracing import export_to

export_to(sys.argv[1], "server_env")
parent = TraceContextTextMapPropagator().extract({"traceparent": os.environ["TRACEPARENT"]})
TOOLS = [{"name": "work", "inputSchema": {"type": "object"}}]
RESULTS = {
    "initialize": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "env", "version": "1"}},
    "tools/list": {"tools": TOOLS},
    "tools/call": {"content": [{"type": "text", "text": "done"}]},
}
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    if (result := RESULTS.get(message["method"])) is None:
        answer["error"] = {"code": -32601, "message": "method not found"}
    else:
        with trace.get_tracer("server_env").start_as_current_span(f"env {message['method']}", context=parent):
            answer["result"] = result
    print(json.dumps(answer), flush=True)
