"""The Python SDK 2.x as a client: `py2.py SCENARIO legacy|auto`, results as JSON on stdout."""

import asyncio
import json
import os
import sys

from mcp import MCPError, StdioServerParameters
from mcp.client import Client
from mcp.client.stdio import stdio_client


async def main(scenario: dict, mode: str) -> None:
    results = []
    transport = stdio_client(StdioServerParameters(**scenario["server"]), errlog=open(os.devnull, "w"))
    async with Client(transport, mode=mode) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        for call in scenario["calls"]:
            try:
                result = await client.call_tool(call["tool"], call["arguments"])
                results.append(result.model_dump(mode="json", by_alias=True, exclude_none=True))
            except MCPError as error:
                results.append({"error": {"code": error.error.code, "message": error.error.message}})
    print(json.dumps({"tools": tools, "results": results}))


asyncio.run(main(json.load(open(sys.argv[1])), sys.argv[2]))
