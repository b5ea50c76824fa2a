"""Tests wrapped config files: third-party clients start real servers from them.

    wrapped.py SPANTAP_BINARY [PART OF A CASE'S NAME ...]

- `spantap wrap` edits a file of each format. The client starts every server through the proxy and gets the
  same tools and results as with the original file. The log has the calls under the names in the file, and
  `spantap unwrap` restores the same bytes.
- `spantap check` passes for real servers of either era, also through the proxy.
- If the disk is full, a config file stays unchanged.

Needs the REAL_* variables that install.sh prints, and root for the small disk. The last line is
`N passed, N failed`.
"""

import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
NODE, SDK2 = os.environ["REAL_NODE"], os.environ["REAL_SDK2"]
BIN = os.path.join(NODE, "node_modules", ".bin")
PYTHON2 = os.path.join(SDK2, "bin", "python")
SPANTAP = os.path.abspath(sys.argv[1])

EVERYTHING = [os.path.join(BIN, "mcp-server-everything")]
TIME = [os.path.join(SDK2, "bin", "mcp-server-time"), "--local-timezone=UTC"]
CALLS = {
    "everything": [{"tool": "echo", "arguments": {"message": "grüße"}}, {"tool": "get-sum", "arguments": {"a": 2, "b": 40}}],
    "zeit": [{"tool": "convert_time", "arguments": {
        "source_timezone": "Europe/Warsaw", "time": "16:30", "target_timezone": "Asia/Tokyo"}}],
}


def home(root: str, name: str) -> tuple[str, dict]:
    """Makes a home folder and an environment without other configuration."""
    folder = os.path.join(root, name)
    os.makedirs(folder)
    return folder, {"HOME": folder, "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}


def run(argv: list, env: dict, expect: int = 0) -> str:
    done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert done.returncode == expect, f"{argv} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def entry(server: dict) -> dict:
    """Command, arguments and environment of a server's entry in any shape."""
    command, args = server["command"], server.get("args", [])
    if isinstance(command, list):
        command, args = command[0], command[1:]
    extra = server.get("env", server.get("environment", {}))
    return {"command": command, "args": args, "env": {"PATH": os.environ["PATH"], **extra}}


def by_sdk(argv: list):
    """Returns a client of an SDK that starts each server of the parsed file and makes the calls."""
    def drive(path: str, servers: dict, env: dict, scratch: str) -> dict:
        results = {}
        for name, server in servers.items():
            scenario = os.path.join(scratch, "scenario.json")
            with open(scenario, "w") as file:
                json.dump({"server": entry(server), "calls": CALLS[name]}, file)
            results[name] = json.loads(run([word.replace("SCENARIO", scenario) for word in argv], {**env, **real()}))
        return results
    return drive


def by_inspector(path: str, servers: dict, env: dict, scratch: str) -> dict:
    """Runs the Inspector, whose command line reads the file."""
    results = {}
    for name in servers:
        base = [os.path.join(BIN, "mcp-inspector"), "--cli", "--config", path, "--server", name, "--method"]
        first = CALLS[name][0]
        arguments = [f"{key}={value}" for key, value in first["arguments"].items()]
        results[name] = [
            json.loads(run([*base, "tools/list"], env)),
            json.loads(run([*base, "tools/call", "--tool-name", first["tool"], "--tool-arg", *arguments], env)),
        ]
    return results


def real() -> dict:
    return {name: value for name, value in os.environ.items() if name.startswith("REAL_")}


def as_json(indent: int | None, newline: str, bom: bool = False):
    def text(servers: dict) -> bytes:
        text = json.dumps({"theme": "dark", "mcpServers": servers}, indent=indent, ensure_ascii=False)
        return (b"\xef\xbb\xbf" if bom else b"") + text.replace("\n", newline).encode()
    return text


def as_toml(servers: dict) -> bytes:
    lines = ["# Codex", "model = 'gpt-5'", ""]
    for name, server in servers.items():
        lines += [f"[mcp_servers.{name}] # started by hand", f"command = {json.dumps(server['command'])}"]
        lines += [f"args = {json.dumps(server['args'])}"] if "args" in server else []
        lines += ["env = { LEVEL = 'info' }", ""]
    return "\r\n".join(lines).encode()


def as_opencode(servers: dict) -> bytes:
    lists = {name: {"type": "local", "command": [server["command"], *server.get("args", [])]} for name, server in servers.items()}
    return json.dumps({"mcp": lists}, indent=2).encode()


def of_json(text: bytes, key: str = "mcpServers") -> dict:
    return json.loads(text.decode("utf-8-sig"))[key]


FILES = {
    # name: (path below the home folder or None, options for wrap, writer, reader, client)
    "Inspector from an mcpServers file": (
        "servers.json", ["--file"], as_json(2, "\n"), of_json, by_inspector),
    "TypeScript SDK 1.x from Cursor's file, one line": (
        ".cursor/mcp.json", [], as_json(None, "\n"), of_json, by_sdk(["node", f"{HERE}/clients/ts1.mjs", "SCENARIO"])),
    "TypeScript SDK 2.x from Claude Code's file, CRLF and BOM": (
        ".claude.json", [], as_json(4, "\r\n", bom=True), of_json, by_sdk(["node", f"{HERE}/clients/ts2.mjs", "SCENARIO", "auto"])),
    "Python SDK 2.x from Codex's file": (
        ".codex/config.toml", [], as_toml, lambda text: tomllib.loads(text.decode())["mcp_servers"],
        by_sdk([PYTHON2, f"{HERE}/clients/py2.py", "SCENARIO", "auto"])),
    "Python SDK 2.x from opencode's file": (
        ".config/opencode/opencode.json", [], as_opencode, lambda text: of_json(text, "mcp"),
        by_sdk([PYTHON2, f"{HERE}/clients/py2.py", "SCENARIO", "legacy"])),
}


def wrapped(root: str, name: str) -> None:
    path, options, write, parse, drive = FILES[name]
    folder, env = home(root, "".join(filter(str.isalnum, name)))
    path = os.path.join(folder, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    servers = {"everything": {"command": EVERYTHING[0]}, "zeit": {"command": TIME[0], "args": TIME[1:]}}
    before = write(servers)
    with open(path, "wb") as file:
        file.write(before)
    which = [*options, path] if options else []

    direct = drive(path, parse(before), env, folder)
    run([SPANTAP, "wrap", *which, "-y"], env)
    during = read(path)
    assert during != before
    assert set(parse(during)) == set(servers)
    through = drive(path, parse(during), env, folder)
    assert through == direct, f"results differ:\n{direct}\n{through}"
    run([SPANTAP, "wrap", *which, "-y"], env)
    assert read(path) == during, "wrapping twice changed the file"

    logs = glob.glob(f"{folder}/.local/state/spantap/sessions/*.jsonl")
    records = [json.loads(line) for log in logs for line in read(log).splitlines()]
    for server, calls in CALLS.items():
        made = [record for record in records if record["event"] == "mcp_tool_call" and record["server_name"] == server]
        expected = 1 if drive is by_inspector else len(calls)
        assert len(made) == expected and all(record["status"] == "ok" for record in made), f"{server}: {made}"
    status = [json.loads(line) for line in run([SPANTAP, "status", *which, "--json"], env).splitlines()]
    assert [row["watched"] for row in status] == ["yes", "yes"], status
    assert all(row["last_seen"] for row in status), status

    run([SPANTAP, "unwrap", *which, "-y"], env)
    assert read(path) == before, "unwrap did not restore the file"


def checked(root: str, name: str, command: list, era: str, expected: str) -> None:
    _, env = home(root, "".join(filter(str.isalnum, f"check{name}{era}")))
    through = [SPANTAP, "--", *command]
    for argv in (command, through):
        said = run([SPANTAP, "check", "--timeout", "60s", "--era", era, "--json", "--", *argv], env)
        report = json.loads(said)
        assert report["ok"] and report["era"] == expected, report
        assert report["tools"] > 0 and report["banner_lines"] == 0, report
        assert report["server"] != "?" and report["protocol"] != "?", report


def full_disk(root: str) -> None:
    folder, env = home(root, "disk")
    config = os.path.join(folder, ".cursor")
    os.makedirs(config)
    text = json.dumps({"mcpServers": {"a": {"command": "cat"}}, "padding": "x" * 40_000})
    # In a mount namespace of its own, so that the small disk disappears when the script ends.
    script = f"""set -e
        mount -t tmpfs -o size=64k none {config}
        printf %s "$TEXT" > {config}/mcp.json
        if {SPANTAP} wrap -y > {folder}/said; then exit 9; fi
        [ "$(cat {config}/mcp.json)" = "$TEXT" ]
        [ "$(ls -A {config})" = mcp.json ]"""
    run(["unshare", "--mount", "sh", "-c", script], {**env, "TEXT": text})
    said = read(f"{folder}/said").decode()
    assert "left alone: No space left on device" in said, said


def main() -> int:
    root = tempfile.mkdtemp(prefix="spantap-wrapped-")
    cases = [(f"wrapped: {name}", lambda name=name: wrapped(root, name)) for name in FILES]
    filesystem = [os.path.join(BIN, "mcp-server-filesystem"), root]
    for name, command, era, expected in [
        ("everything", EVERYTHING, "auto", "legacy"),
        ("everything", EVERYTHING, "legacy", "legacy"),
        ("filesystem", filesystem, "auto", "legacy"),
        ("time", TIME, "auto", "modern"),
        ("time", TIME, "modern", "modern"),
        ("time", TIME, "legacy", "legacy"),
    ]:
        cases.append((f"check: {name}, --era {era}",
                      lambda name=name, command=command, era=era, expected=expected:
                      checked(root, name, command, era, expected)))
    cases.append(("a full disk", lambda: full_disk(root)))
    wanted = sys.argv[2:]
    passed = failed = 0
    for name, case in cases:
        if wanted and not any(part in name for part in wanted):
            continue
        try:
            case()
            passed += 1
            print(f"ok   {name}", flush=True)
        except Exception as error:
            failed += 1
            text = str(error) if isinstance(error, AssertionError) else traceback.format_exc()
            print(f"FAIL {name}: {text}", flush=True)
    if failed:
        print(f"files kept in {root}")
    else:
        shutil.rmtree(root)
    print(f"wrapped: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
