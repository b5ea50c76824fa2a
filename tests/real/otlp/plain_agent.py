"""An agent without OpenTelemetry: one tool call on a server that has it. The SDK's client sends no trace context.

    plain_agent.py SPANTAP_BINARY COLLECTOR_URL LOG_DIR
"""

import asyncio
import os
import sys

from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.stdio import stdio_client

HERE = os.path.dirname(os.path.abspath(__file__))


async def main(spantap: str, collector: str, log_dir: str) -> None:
    command = [spantap, "--propagate", "meta", "--server", "server_meta", "--log-dir", log_dir, "--otlp", collector, "--",
               sys.executable, os.path.join(HERE, "server_meta.py"), collector]
    async with Client(stdio_client(StdioServerParameters(command=command[0], args=command[1:]))) as client:
        result = await client.call_tool("work", {})
        assert result.content[0].text == "done", result


asyncio.run(main(*sys.argv[1:]))
