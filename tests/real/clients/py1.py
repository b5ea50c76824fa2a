"""The Python SDK 1.x as a client: `py1.py SCENARIO`, results as JSON on stdout."""

import asyncio
import json
import os
import sys

from mcp import ClientSession, McpError, StdioServerParameters
from mcp.client.stdio import stdio_client


async def main(scenario: dict) -> None:
    results = []
    async with stdio_client(StdioServerParameters(**scenario["server"]), errlog=open(os.devnull, "w")) as streams:
        async with ClientSession(*streams) as session:
            await session.initialize()
            tools = [tool.name for tool in (await session.list_tools()).tools]
            for call in scenario["calls"]:
                try:
                    result = await session.call_tool(call["tool"], call["arguments"])
                    results.append(result.model_dump(mode="json", by_alias=True, exclude_none=True))
                except McpError as error:
                    results.append({"error": {"code": error.error.code, "message": error.error.message}})
    print(json.dumps({"tools": tools, "results": results}))


asyncio.run(main(json.load(open(sys.argv[1]))))
