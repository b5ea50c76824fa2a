"""Stops real servers in the ways of real hosts, with spantap and without it.

    hostkill.py SPANTAP_BINARY

Each pattern was observed in a real host: its signals, their receivers and the pauses between them. The host
stops the server after one answered call, and then ends itself, which closes its ends of the pipes. The servers are
started directly, and by npx and uvx, which stay as the server's parents. The script asserts that the process that
the host started ends with the same status as without spantap, that no process remains that would not have remained
without spantap, and that the answered call is in the log, even if the host ends with SIGKILL.

Needs the REAL_* variables that install.sh prints, and UVX. The last line is `N passed, N failed`.
"""

import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter

NODE, SDK2, UVX = (os.environ[name] for name in ("REAL_NODE", "REAL_SDK2", "UVX"))
TIME = "mcp-server-time==2026.10.19"
ECHO, NOW = ("echo", {"message": "hello"}), ("get_current_time", {"timezone": "UTC"})
SERVERS = {
    "everything": ([f"{NODE}/node_modules/.bin/mcp-server-everything"], *ECHO),
    "time": ([f"{SDK2}/bin/mcp-server-time", "--local-timezone=UTC"], *NOW),
    # Both find the server without a network: npx in the folder in which it is started, uvx in its cache.
    "npx everything": (["npx", "-y", "@modelcontextprotocol/server-everything"], *ECHO),
    "uvx time": ([UVX, "--offline", "-q", "--from", TIME, "mcp-server-time", "--local-timezone=UTC"], *NOW),
}
LAUNCHED = ("npx everything", "uvx time")
PATIENCE = 20.0
# Seconds in which a process without a host ends, if it ends by itself.
GRACE = 5.0


class Host:
    """One started server (or proxy) with a socket pair each for stdin and stdout, as in Node hosts."""

    def __init__(self, command: list):
        self.mark = uuid.uuid4().hex
        self.stdin, theirs_in = socket.socketpair()
        stdout, theirs_out = socket.socketpair()
        self.stdout = stdout.makefile("rb")
        self.process = subprocess.Popen(command, stdin=theirs_in, stdout=theirs_out, stderr=subprocess.DEVNULL,
                                        cwd=NODE, start_new_session=True, env=dict(os.environ, REAL_MARK=self.mark))
        theirs_in.close()
        theirs_out.close()
        stdout.settimeout(None)

    def send(self, **message) -> None:
        self.stdin.sendall(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def answer(self, number: int) -> dict:
        while line := self.stdout.readline():
            message = json.loads(line)
            if message.get("id") == number and "method" not in message:
                return message
        raise AssertionError(f"no answer to {number}")

    def one_call(self, tool: str, arguments: dict) -> None:
        self.send(id=1, method="initialize", params={
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "hostkill", "version": "1"}})
        self.answer(1)
        self.send(method="notifications/initialized")
        self.send(id=2, method="tools/call", params={"name": tool, "arguments": arguments})
        assert "result" in self.answer(2)

    def family(self) -> list:
        """Processes with our mark in their environment: the proxy, the server and its children."""
        found = []
        for path in glob.glob("/proc/[0-9]*/environ"):
            try:
                with open(path, "rb") as file:
                    if self.mark.encode() in file.read():
                        found.append(int(path.split("/")[2]))
            except OSError:
                pass  # The process has just ended.
        return found

    def descendants(self) -> list:
        """The processes below the one that the host started."""
        return [pid for pid in self.family() if pid != self.process.pid]

    def wait(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            return False

    def kill_after(self, *steps) -> None:
        """Sends each (signal, seconds to wait after it) until the process has ended."""
        for number, seconds in steps:
            if self.process.poll() is None:
                self.process.send_signal(number)
            if self.wait(seconds):
                return


    def end(self) -> None:
        """Ends the host: closes its ends of the pipes."""
        self.stdin.close()
        self.stdout.close()


def program(pid: int) -> str:
    """The name of a process; empty if it has ended."""
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return ""


def claude_code(host: Host) -> None:
    host.kill_after((signal.SIGINT, 0.1), (signal.SIGTERM, 0.4), (signal.SIGKILL, PATIENCE))


def codex(host: Host) -> None:
    host.process.send_signal(signal.SIGTERM)
    host.stdin.close()
    if not host.wait(2.0):
        host.kill_after((signal.SIGKILL, PATIENCE))


def gemini_cli(host: Host) -> None:
    host.process.send_signal(signal.SIGTERM)
    host.wait(0.1)
    host.stdin.close()
    host.wait(PATIENCE)


def opencode(host: Host) -> None:
    for pid in host.descendants() or [host.process.pid]:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
    host.wait(0.5)
    host.stdin.close()
    if not host.wait(2.0):
        host.kill_after((signal.SIGTERM, 2.0), (signal.SIGKILL, PATIENCE))


def sdk(host: Host) -> None:
    host.stdin.shutdown(socket.SHUT_WR)
    if not host.wait(2.0):
        host.kill_after((signal.SIGTERM, 2.0), (signal.SIGKILL, PATIENCE))


def python_sdk(host: Host) -> None:
    host.stdin.shutdown(socket.SHUT_WR)
    for number in (signal.SIGTERM, signal.SIGKILL):
        if host.wait(2.0):
            return
        os.killpg(host.process.pid, number)
    host.wait(PATIENCE)


def killed(host: Host) -> None:
    host.process.kill()
    host.wait(PATIENCE)


PATTERNS = [claude_code, codex, gemini_cli, opencode, sdk, python_sdk, killed]


def stop(pattern, command: list, tool: str, arguments: dict) -> tuple:
    """Returns the status of the started process, and the programs that remain after the host's end."""
    host = Host(command)
    try:
        host.one_call(tool, arguments)
        pattern(host)
        assert host.process.returncode is not None, "still running after the host's last step"
        host.end()
        deadline = time.monotonic() + GRACE
        while host.family() and time.monotonic() < deadline:
            time.sleep(0.02)
        return host.process.returncode, sorted(filter(None, map(program, host.family())))
    finally:
        for pid in host.family():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        host.process.wait()


def logged_calls(folder: str) -> int:
    count = 0
    for path in glob.glob(f"{folder}/*.jsonl"):
        with open(path, "rb") as file:
            # A line cut by SIGKILL has no newline and is not a record.
            count += sum(json.loads(line)["event"] == "mcp_tool_call" for line in file if line.endswith(b"\n"))
    return count


def main() -> int:
    spantap = os.path.abspath(sys.argv[1])
    # Fills the cache of uvx, which is offline afterwards.
    subprocess.run([UVX, "-q", "--from", TIME, "mcp-server-time", "--help"], check=True, stdout=subprocess.DEVNULL)
    passed = failed = 0
    for name, (command, tool, arguments) in SERVERS.items():
        for pattern in PATTERNS:
            folder = tempfile.mkdtemp(prefix="spantap-hostkill-")
            try:
                direct, left_direct = stop(pattern, command, tool, arguments)
                wrapped = [spantap, "--log-dir", folder, "--", *command]
                through, left_through = stop(pattern, wrapped, tool, arguments)
                # opencode also sends its signal to the launcher, which is below spantap, so that it ends in another way.
                if not (pattern is opencode and name in LAUNCHED):
                    assert direct == through, f"status {through} with spantap, {direct} without"
                more = Counter(left_through) - Counter(left_direct)
                assert not more, f"{dict(more)} remain with spantap; without it {left_direct}"
                # Only a SIGKILL right after the answer may lose the records of the last second.
                if pattern is not killed:
                    assert logged_calls(folder) == 1, f"{logged_calls(folder)} calls in the log"
                passed += 1
                print(f"ok   {pattern.__name__} x {name}", flush=True)
            except AssertionError as error:
                failed += 1
                print(f"FAIL {pattern.__name__} x {name}: {error}", flush=True)
            finally:
                shutil.rmtree(folder)
    print(f"hostkill: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
