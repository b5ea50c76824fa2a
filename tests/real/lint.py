"""Compares `spantap check --lint` of real servers with the findings that were checked by hand (docs/hosts.md)."""

import json
import os
import re
import subprocess
import sys
import tempfile

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

spantap = os.path.abspath(sys.argv[1])
node, old, new = (os.environ[name] for name in ("REAL_NODE", "REAL_SDK1", "REAL_SDK2"))
home = tempfile.mkdtemp()
SERVER = """
from {module} import {kind}
server = {kind}("small")
@server.tool()
def add(a: int, b: list[int], c: dict | None = None) -> int:
    "Adds numbers."
    return a
server.run("stdio")
"""


def package(name, *arguments):
    return [f"{node}/node_modules/.bin/{name}", *arguments]


SERVERS = {
    "everything": package("mcp-server-everything"),
    "filesystem": package("mcp-server-filesystem", home),
    "memory": package("mcp-server-memory"),
    "thinking": package("mcp-server-sequential-thinking"),
    "budget": package("mcp-budget-allocator-server", "--stdio"),
    "playwright": package("playwright-mcp", "--headless", "--no-sandbox", "--isolated"),
    "git": [f"{new}/bin/mcp-server-git"],
    "time": [f"{new}/bin/mcp-server-time"],
    "sdk1": [f"{old}/bin/python", "-c", SERVER.format(module="mcp.server.fastmcp", kind="FastMCP")],
    "sdk2": [f"{new}/bin/python", "-c", SERVER.format(module="mcp.server.mcpserver", kind="MCPServer")],
}
# Findings by server and rule: the tools, or "all".
EXPECTED = {
    "everything": {"output-schema-old-dialect": ["get-structured-content"]},
    "filesystem": {"output-schema-old-dialect": "all"},
    "memory": {"output-schema-old-dialect": "all"},
    "thinking": {"output-schema-old-dialect": "all", "description-length": "all"},
}


def definitions(command):
    """Lists the tools as a client of revision 2025-11-25."""
    client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "tally", "version": "1"}}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:

        def send(message):
            server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
            server.stdin.flush()

        def answer(number):
            return next(message["result"] for message in map(json.loads, server.stdout) if message.get("id") == number and "result" in message)

        send({"id": 1, "method": "initialize", "params": client})
        answer(1)
        send({"method": "notifications/initialized"})
        send({"id": 2, "method": "tools/list", "params": {}})
        tools = answer(2)["tools"]
        server.kill()
    return tools


def arrays_without_items(schema):
    if isinstance(schema, list):
        return any(map(arrays_without_items, schema))
    if not isinstance(schema, dict):
        return False
    return schema.get("type") == "array" and "items" not in schema or any(map(arrays_without_items, schema.values()))


def tally(tool):
    """Returns the rules that a definition breaks, in code of its own."""
    schema, output = tool["inputSchema"], tool.get("outputSchema", {})
    try:
        Draft202012Validator.check_schema(schema)
        is_valid = True
    except SchemaError:
        is_valid = False
    rules = {
        "invalid-schema": not is_valid,
        "input-schema-type": schema.get("type") != "object",
        "input-schema-union": bool({"anyOf", "oneOf", "allOf"} & set(schema)),
        "property-name": not all(re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", name) for name in schema.get("properties", {})),
        "required-unknown": not set(schema.get("required", [])) <= set(schema.get("properties", {})),
        "array-items": arrays_without_items(schema),
        "output-schema-old-dialect": "draft-07" in output.get("$schema", ""),
        "tool-name": not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool["name"]),
        "no-description": not tool.get("description", "").strip(),
        "description-length": len(tool.get("description", "")) > 2048,
    }
    return {(tool["name"], rule) for rule, is_broken in rules.items() if is_broken}


for name, command in SERVERS.items():
    words = [spantap, "check", "--lint", "--json", "--timeout", "60s", "--server", name, "--", *command]
    done = subprocess.run(words, stdout=subprocess.PIPE, env={"HOME": home, "PATH": os.environ["PATH"]})
    report = json.loads(done.stdout)
    found = {(finding["tool"], finding["rule"]) for finding in report["lint"]}
    tools = definitions(command)
    every = [tool["name"] for tool in tools]
    of_server = EXPECTED.get(name, {}).items()
    expected = {(tool, rule) for rule, named in of_server for tool in (every if named == "all" else named)}
    assert done.returncode == 0 and report["tools"] == len(tools), (name, report)
    assert found == expected, (name, found ^ expected)
    assert found == set().union(*map(tally, tools)), name
print(f"lint: {len(SERVERS)} servers have the findings that are expected, and no other")
