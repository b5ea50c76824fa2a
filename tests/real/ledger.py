"""Compares what `spantap context` says with an independent tally of the bytes on the wire, for ten real servers.

    ledger.py SPANTAP

A small client lists the tools of each server and calls some of them, in two sessions. The tally reads the server's
lines as they came out of spantap, which leaves them unchanged, and cuts the JSON texts out of them by itself. Then
texts are counted by a real tokenizer, and compared with bytes divided by four. Needs REAL_NODE and REAL_SDK2
(setup/install.sh); the servers get no network.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

SPANTAP = os.path.abspath(sys.argv[1])
NODE = pathlib.Path(os.environ["REAL_NODE"]) / "node_modules"
PYTHON = pathlib.Path(os.environ["REAL_SDK2"]) / "bin"
DECODER = json.JSONDecoder()
# Greatest errors of bytes divided by four that docs/looking.md states, in per cent, for definitions and results.
STATED = {"definitions": (-25, 25), "results": (-50, 60)}


def servers(folder):
    """Returns the command of each server, and the calls of its two sessions."""
    note = {"path": f"{folder}/note.txt"}
    repository = {"repo_path": str(folder)}
    npm = lambda name, *arguments: [str(NODE / ".bin" / name), *arguments]
    return {
        "everything": (npm("mcp-server-everything"), [[("echo", {"message": "héllo"})], [("get-sum", {"a": 1, "b": 2})]]),
        "filesystem": (npm("mcp-server-filesystem", str(folder)),
                       [[("read_text_file", note), ("list_directory", {"path": str(folder)})], [("read_text_file", note)]]),
        "memory": (npm("mcp-server-memory"), [[("read_graph", {})], []]),
        "thinking": (npm("mcp-server-sequential-thinking"), [[], []]),
        "github": (npm("mcp-server-github"), [[], [("create_issue", {})]]),
        "context7": (npm("context7-mcp"), [[], []]),
        "playwright": (npm("playwright-mcp", "--headless", "--isolated"), [[("browser_close", {})], []]),
        "devtools": (npm("chrome-devtools-mcp", "--headless", "--isolated"), [[], []]),
        "git": ([str(PYTHON / "mcp-server-git")], [[("git_status", repository), ("git_log", repository)], [("git_show", {})]]),
        "time": ([str(PYTHON / "mcp-server-time"), "--local-timezone", "UTC"],
                 [[("get_current_time", {"timezone": "UTC"})], []]),
    }


def members(text, start):
    """Yields the members of the object at `start` of `text`: key, and the JSON text of the value."""
    at = text.index("{", start) + 1
    while True:
        while text[at] in " \t\r\n,":
            at += 1
        if text[at] == "}":
            return
        key, at = DECODER.raw_decode(text, at)
        while text[at] in " \t\r\n:":
            at += 1
        _, end = DECODER.raw_decode(text, at)
        yield key, text[at:end]
        at = end


def elements(text):
    """Yields the JSON texts of the elements of an array."""
    at = 1
    while True:
        while text[at] in " \t\r\n,":
            at += 1
        if text[at] == "]":
            return
        _, end = DECODER.raw_decode(text, at)
        yield text[at:end]
        at = end


def size(text):
    return len(text.encode())


class Client:
    """Speaks to one server through spantap."""

    def __init__(self, name, command, logs):
        words = ["unshare", "-n", SPANTAP, "--server", name, "--log-dir", str(logs), "--", *command]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.last = 0
        self.request("initialize", {"protocolVersion": "2025-06-18", "capabilities": {},
                                    "clientInfo": {"name": "ledger", "version": "1"}})
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def send(self, message):
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def request(self, method, params):
        """Returns the JSON text of the result or error."""
        self.last += 1
        self.send({"jsonrpc": "2.0", "id": self.last, "method": method, "params": params})
        for line in self.process.stdout:
            text = line.decode().rstrip("\n")
            message = json.loads(text)
            if message.get("id") == self.last and "method" not in message:
                answer = dict(members(text, 0))
                return answer.get("result", answer.get("error"))
        sys.exit(f"the server ended after {method}")

    def tools(self):
        """Returns the JSON text of each definition, of all pages."""
        found, cursor = [], None
        while True:
            result = dict(members(self.request("tools/list", {"cursor": cursor} if cursor else {}), 0))
            found += elements(result["tools"])
            cursor = json.loads(result.get("nextCursor", "null"))
            if not cursor:
                return found

    def end(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)


def tally(definitions, results):
    """Returns what the command should say about one server."""
    tools = {}
    for text in definitions:
        parts = dict(members(text, 0))
        tools[json.loads(parts["name"])] = {
            "definition_bytes": size(text),
            "description_tokens_est": -(-size(parts.get("description", "")) // 4),
            "schema_tokens_est": -(-(size(parts.get("inputSchema", "")) + size(parts.get("outputSchema", ""))) // 4),
            "calls": 0, "results": [],
        }
    for name, result in results:
        tools[name]["calls"] += 1
        tools[name]["results"].append(-(-size(result) // 4))
    return tools


def compare(name, expected, row):
    assert row["tools_total"] == len(expected) and row["is_complete"] is True, (name, row["tools_total"], len(expected))
    assert row["definition_bytes"] == sum(tool["definition_bytes"] for tool in expected.values()), name
    unused = {tool for tool in expected if expected[tool]["calls"] == 0}
    assert {tool["tool_name"] for tool in row["tools"] if tool["never_called"]} == unused, name
    assert row["never_called"] == len(unused), name
    assert row["never_called_tokens_est"] == -(-sum(expected[tool]["definition_bytes"] for tool in unused) // 4), name
    for tool in row["tools"]:
        known = expected[tool["tool_name"]]
        for field in ("definition_bytes", "description_tokens_est", "schema_tokens_est", "calls"):
            assert tool[field] == known[field], (name, tool["tool_name"], field, tool[field], known[field])
        largest = max(known["results"], default=None)
        assert tool.get("result_max_tokens_est") == largest, (name, tool["tool_name"], largest)


def counted(texts):
    """Returns the number of tokens of each text, by a real tokenizer (o200k_base)."""
    script = ("import {encode} from 'gpt-tokenizer/encoding/o200k_base';"
              "const texts = JSON.parse(require('fs').readFileSync(0, 'utf8'));").replace("require('fs')", "fs")
    script = "import fs from 'fs';" + script + "console.log(JSON.stringify(texts.map((text) => encode(text).length)));"
    words = ["node", "--input-type=module", "-e", script]
    done = subprocess.run(words, input=json.dumps(texts), capture_output=True, text=True, check=True, cwd=NODE.parent)
    return json.loads(done.stdout)


def error(texts):
    """Returns by how much bytes divided by four differs from the real number of tokens, in per cent."""
    real = sum(counted(texts))
    return 100 * (sum(-(-size(text) // 4) for text in texts) / real - 1)


def main():
    with tempfile.TemporaryDirectory() as place:
        logs, folder = pathlib.Path(place, "logs"), pathlib.Path(place, "files")
        folder.mkdir()
        (folder / "note.txt").write_text("The quick brown fox jumps over the lazy dog.\n" * 40)
        commit = "git init -q . && git add . && git -c user.name=a -c user.email=a@b commit -q -m one"
        subprocess.run(commit, shell=True, check=True, cwd=folder)
        os.environ.update(HOME=place, MEMORY_FILE_PATH=f"{place}/memory.json", GITHUB_PERSONAL_ACCESS_TOKEN="none")
        expected, errors, kinds = {}, {}, {"definitions": [], "results": []}
        for name, (command, sessions) in servers(folder).items():
            results = []
            for calls in sessions:
                client = Client(name, command, logs)
                definitions = client.tools()
                results += [(tool, client.request("tools/call", {"name": tool, "arguments": arguments}))
                            for tool, arguments in calls]
                client.end()
            expected[name] = tally(definitions, results)
            errors[name] = error(definitions)
            kinds["definitions"] += definitions
            kinds["results"] += [result for _, result in results]
        words = [SPANTAP, "context", "--json", "--log-dir", str(logs)]
        answer = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        rows = {row["server_name"]: row for row in map(json.loads, answer.splitlines())}
        assert rows.keys() == expected.keys(), rows.keys()
        for name in expected:
            compare(name, expected[name], rows[name])
        for name in sorted(errors, key=errors.get):
            print(f"{name:<12} {len(expected[name]):>3} tools  bytes / 4: {errors[name]:+.0f} %")
        for kind, texts in kinds.items():
            low, high = STATED[kind]
            each = [100 * (-(-size(text) // 4) / real - 1) for text, real in zip(texts, counted(texts))]
            print(f"{kind}: {error(texts):+.0f} % in all, {min(each):+.0f} % to {max(each):+.0f} % for one of {len(texts)}")
            assert low <= error(texts) <= high, (kind, error(texts))
    print(f"ledger: {len(expected)} real servers, {sum(map(len, expected.values()))} tools as on the wire")


main()
