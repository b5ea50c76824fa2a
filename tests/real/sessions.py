"""Runs real clients with real servers, with spantap between them and without it.

    sessions.py SPANTAP_BINARY [CLIENT/SERVER ...]

Runs each pair directly, with spantap between two recorders, and with spantap alone (on the client's own
descriptors). Asserts that

- the client gets the same tools and results and ends the same way;
- the server ends the same way;
- each of the three streams has the same bytes on both sides of spantap;
- the log has exactly one `mcp_tool_call` for each `tools/call` on the wire, and no record is missing.

Needs the REAL_* variables that install.sh prints. The last line is `N passed, N failed`.
"""

import concurrent.futures
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
NODE, SDK1, SDK2 = (os.environ[name] for name in ("REAL_NODE", "REAL_SDK1", "REAL_SDK2"))
BIN = os.path.join(NODE, "node_modules", ".bin")
PYTHON1, PYTHON2 = (os.path.join(sdk, "bin", "python") for sdk in (SDK1, SDK2))
RECORDER = [sys.executable, os.path.join(HERE, "recorder.py")]


def call(tool: str, **arguments) -> dict:
    return {"tool": tool, "arguments": arguments}


def git_repository(folder: str) -> None:
    env = dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_SYSTEM="/dev/null",
               GIT_AUTHOR_DATE="2026-01-01T00:00:00Z", GIT_COMMITTER_DATE="2026-01-01T00:00:00Z")
    git = ["git", "-C", folder, "-c", "user.name=A", "-c", "user.email=a@example.com"]
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True, env=env)
    with open(os.path.join(folder, "file.txt"), "w") as file:
        file.write("one\n")
    subprocess.run([*git, "add", "."], check=True, env=env)
    subprocess.run([*git, "commit", "-q", "-m", "first"], check=True, env=env)
    with open(os.path.join(folder, "file.txt"), "a") as file:
        file.write("two\n")


def servers(work: str) -> dict:
    """Command, environment and calls of each server. At least one call fails."""
    return {
        "everything": {
            "command": [os.path.join(BIN, "mcp-server-everything")],
            "calls": [
                call("echo", message="grüße \U0001f980 </script>"),
                call("get-sum", a=2, b=40),
                call("get-tiny-image"),
                call("get-structured-content", location="Chicago"),
                call("trigger-long-running-operation", duration=0.3, steps=3),
                call("get-sum", a="x", b=40),
                call("no-such-tool"),
            ],
        },
        "filesystem": {
            "command": [os.path.join(BIN, "mcp-server-filesystem"), work],
            "calls": [
                call("write_file", path=f"{work}/a.txt", content="line one\nline two — ü\n" * 3000),
                call("read_text_file", path=f"{work}/a.txt"),
                call("list_directory", path=work),
                call("read_text_file", path=f"{work}/missing.txt"),
                call("read_text_file", path="/etc/hostname"),
            ],
        },
        "memory": {
            "command": [os.path.join(BIN, "mcp-server-memory")],
            "env": {"MEMORY_FILE_PATH": f"{work}/memory.jsonl"},
            "calls": [
                call("create_entities", entities=[{"name": "spantap", "entityType": "proxy", "observations": ["looks"]}]),
                call("search_nodes", query="spantap"),
                call("read_graph"),
                call("add_observations", observations=[{"entityName": "nobody", "contents": ["x"]}]),
            ],
        },
        "time": {
            "command": [os.path.join(SDK2, "bin", "mcp-server-time"), "--local-timezone=UTC"],
            "calls": [
                call("convert_time", source_timezone="Europe/Warsaw", time="16:30", target_timezone="Asia/Tokyo"),
                call("convert_time", source_timezone="Mars/Base", time="16:30", target_timezone="Asia/Tokyo"),
            ],
        },
        "git": {
            "command": [os.path.join(SDK2, "bin", "mcp-server-git"), "--repository", work],
            "prepare": git_repository,
            "calls": [
                call("git_status", repo_path=work),
                call("git_log", repo_path=work, max_count=3),
                call("git_diff_unstaged", repo_path=work),
                call("git_show", repo_path=work, revision="no-such-revision"),
            ],
        },
    }


def inspector(scenario_path: str) -> list:
    """Commands of the Inspector, which starts a server for each: one for the list, one for the first call."""
    with open(scenario_path) as file:
        scenario = json.load(file)
    config = scenario_path + ".inspector.json"
    with open(config, "w") as file:
        json.dump({"mcpServers": {"it": {"type": "stdio", **scenario["server"]}}}, file)
    base = [os.path.join(BIN, "mcp-inspector"), "--cli", "--config", config, "--server", "it", "--method"]
    first = scenario["calls"][0]
    arguments = [f"{key}={value if isinstance(value, str) else json.dumps(value)}"
                 for key, value in first["arguments"].items()]
    return [[*base, "tools/list"],
            [*base, "tools/call", "--tool-name", first["tool"], *(["--tool-arg", *arguments] if arguments else [])]]


CLIENTS = {
    "ts1": lambda path: [["node", f"{HERE}/clients/ts1.mjs", path]],
    "ts2-legacy": lambda path: [["node", f"{HERE}/clients/ts2.mjs", path, "legacy"]],
    "ts2-auto": lambda path: [["node", f"{HERE}/clients/ts2.mjs", path, "auto"]],
    "py1": lambda path: [[PYTHON1, f"{HERE}/clients/py1.py", path]],
    "py2-legacy": lambda path: [[PYTHON2, f"{HERE}/clients/py2.py", path, "legacy"]],
    "py2-auto": lambda path: [[PYTHON2, f"{HERE}/clients/py2.py", path, "auto"]],
    "inspector": inspector,
}


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def recordings(folder: str, name: str) -> list:
    """Metadata of all recorders with this name, with the path of their streams."""
    found = []
    for path in sorted(glob.glob(f"{folder}/{name}-*.json")):
        found.append({**json.loads(read(path)), "base": path.removesuffix(".json")})
    return found


def records(folder: str) -> list:
    """Every record of the session logs in a folder, in file order."""
    return [json.loads(line) for path in sorted(glob.glob(f"{folder}/*.jsonl")) for line in read(path).splitlines()]


def methods(process: dict) -> list:
    """Methods that a recorded process received, in order."""
    return [json.loads(line).get("method") for line in read(f"{process['base']}.stdin").splitlines() if line.strip()]


def drive(client: str, server: dict, command: list, scratch: str, work: str) -> list:
    """Runs one session; returns (exit status, stdout as JSON) of each command of the client."""
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    server.get("prepare", lambda _: None)(work)
    scenario = {
        "server": {"command": command[0], "args": command[1:], "env": {"PATH": os.environ["PATH"], **server.get("env", {})}},
        "calls": server["calls"],
    }
    path = os.path.join(scratch, "scenario.json")
    with open(path, "w") as file:
        json.dump(scenario, file)
    outcomes = []
    for argv in CLIENTS[client](path):
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        try:
            outcomes.append((done.returncode, json.loads(done.stdout)))
        except ValueError:
            raise AssertionError(f"{argv[:2]} ended with {done.returncode} and no JSON:\n"
                                 f"{done.stdout[-500:]!r}\n{done.stderr.decode(errors='replace')[-2000:]}") from None
    return outcomes


def check(spantap: str, client: str, name: str, root: str) -> None:
    """Runs one pair of client and server in the three ways."""
    base = f"{root}/{client}-{name}"
    work = f"{base}/work"
    server = servers(work)[name]
    scratch = {way: f"{base}/{way}" for way in ("direct", "recorded", "plain")}
    for folder in scratch.values():
        os.makedirs(folder)

    def recorder(way: str, label: str) -> list:
        return [*RECORDER, scratch[way], label, "--"]

    def proxy(way: str) -> list:
        return [spantap, "--server", name, "--log-dir", f"{scratch[way]}/log", "--"]

    command = server["command"]
    direct = drive(client, server, [*recorder("direct", "outer"), *command], scratch["direct"], work)
    recorded = drive(client, server, [*recorder("recorded", "outer"), *proxy("recorded"),
                                      *recorder("recorded", "inner"), *command], scratch["recorded"], work)
    plain = drive(client, server, [*proxy("plain"), *command], scratch["plain"], work)

    assert any(status == 0 for status, _ in direct), f"the client failed without spantap: {direct}"
    assert recorded == direct, f"results differ:\n{direct}\n{recorded}"
    assert plain == direct, f"results differ without recorders:\n{direct}\n{plain}"

    outer, inner = recordings(scratch["recorded"], "outer"), recordings(scratch["recorded"], "inner")
    assert len(inner) == len(outer) > 0

    calls = 0
    for process in inner:
        around = [other for other in outer if other["child"] == process["parent"]]
        assert len(around) == 1, f"no recorder around {process}"
        assert around[0]["status"] == process["status"], f"server status {process['status']}, spantap status {around[0]['status']}"
        for stream in ("stdin", "stdout", "stderr"):
            a, b = read(f"{around[0]['base']}.{stream}"), read(f"{process['base']}.{stream}")
            assert a == b, f"{stream} differs: {len(a)} bytes on the client's side, {len(b)} on the server's side"
        calls += methods(process).count("tools/call")
    assert calls > 0

    # A client stops a server that it started only as a probe at any moment of its start, so the exit status
    # of a probe varies. Compare only processes that were asked for their tools.
    expected, actual = (sorted(process["status"] for process in processes if "tools/list" in methods(process))
                        for processes in (recordings(scratch["direct"], "outer"), outer))
    assert expected == actual != [], f"exit statuses direct and with spantap: {expected}, {actual}"

    for way in ("recorded", "plain"):
        found = records(f"{scratch[way]}/log")
        logged = sum(1 for record in found if record["event"] == "mcp_tool_call")
        assert logged == calls, f"{way}: {calls} calls on the wire, {logged} mcp_tool_call records"
        for record in found:
            assert record["event"] not in ("gap", "malformed"), record
        for connection in {record["connection_id"] for record in found}:
            numbers = [record["seq"] for record in found if record["connection_id"] == connection]
            assert sorted(numbers) == list(range(min(numbers), min(numbers) + len(numbers))), f"{way}: seq {numbers}"


def main() -> int:
    spantap, wanted = os.path.abspath(sys.argv[1]), sys.argv[2:]
    pairs = [(client, server) for server in servers("") for client in CLIENTS]
    if wanted:
        pairs = [pair for pair in pairs if "/".join(pair) in wanted]
    root = tempfile.mkdtemp(prefix="spantap-real-")
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        running = {pool.submit(check, spantap, client, server, root): (client, server) for client, server in pairs}
        for future in concurrent.futures.as_completed(running):
            client, server = running[future]
            if error := future.exception():
                failed += 1
                text = str(error) if isinstance(error, AssertionError) else "".join(traceback.format_exception(error))
                print(f"FAIL {client} x {server}: {text}", flush=True)
            else:
                passed += 1
                print(f"ok   {client} x {server}", flush=True)
    if failed:
        print(f"files kept in {root}")
    else:
        shutil.rmtree(root)
    print(f"sessions: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
