"""A server on the Python SDK, which makes a span for each request below the span in `_meta`."""

import sys

from mcp.server.mcpserver import MCPServer

from tracing import export_to

export_to(sys.argv[1], "server_meta")
server = MCPServer("server_meta")


@server.tool()
def work() -> str:
    return "done"


server.run("stdio")
