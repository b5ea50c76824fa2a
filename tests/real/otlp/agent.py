"""An agent with OpenTelemetry: one span, with a tool call on each of two servers below it.

    agent.py SPANTAP_BINARY COLLECTOR_URL LOG_DIR

The Python SDK's client makes a span for each request and puts it into `params._meta.traceparent`. The first
server uses the SDK and reads it from there. The second ignores `_meta` and reads TRACEPARENT from its
environment. Prints the agent's trace and span id.
"""

import asyncio
import os
import sys

from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.stdio import stdio_client
from opentelemetry import trace

from tracing import export_to

HERE = os.path.dirname(os.path.abspath(__file__))


async def main(spantap: str, collector: str, log_dir: str) -> None:
    export_to(collector, "agent")
    with trace.get_tracer("agent").start_as_current_span("agent") as span:
        context = span.get_span_context()
        traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
        for server in ("server_meta", "server_env"):
            command = [spantap, "--server", server, "--log-dir", log_dir, "--otlp", collector, "--",
                       sys.executable, os.path.join(HERE, f"{server}.py"), collector]
            transport = stdio_client(StdioServerParameters(command=command[0], args=command[1:], env={"TRACEPARENT": traceparent}))
            async with Client(transport) as client:
                result = await client.call_tool("work", {})
                assert result.content[0].text == "done", result
    print(f"{context.trace_id:032x} {context.span_id:016x}")


asyncio.run(main(*sys.argv[1:]))
