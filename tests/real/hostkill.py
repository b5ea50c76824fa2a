"""Stops real servers in the ways of real hosts, with spantap and without it.

    hostkill.py SPANTAP_BINARY

Each pattern was observed in a real host: its signals, their receivers and the pauses between them. The host
stops the server after one answered call. The script asserts that the process that the host started ends with
the same status as without spantap, that no process remains, and that the answered call is in the log, even if
the host ends with SIGKILL.

Needs the REAL_* variables that install.sh prints. The last line is `N passed, N failed`.
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

NODE, SDK2 = os.environ["REAL_NODE"], os.environ["REAL_SDK2"]
SERVERS = {
    "everything": ([f"{NODE}/node_modules/.bin/mcp-server-everything"], "echo", {"message": "hello"}),
    "time": ([f"{SDK2}/bin/mcp-server-time", "--local-timezone=UTC"], "get_current_time", {"timezone": "UTC"}),
}
PATIENCE = 20.0


class Host:
    """One started server (or proxy) with a socket pair each for stdin and stdout, as in Node hosts."""

    def __init__(self, command: list):
        self.mark = uuid.uuid4().hex
        self.stdin, theirs_in = socket.socketpair()
        stdout, theirs_out = socket.socketpair()
        self.stdout = stdout.makefile("rb")
        self.process = subprocess.Popen(command, stdin=theirs_in, stdout=theirs_out, stderr=subprocess.DEVNULL,
                                        env=dict(os.environ, REAL_MARK=self.mark))
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

    def server(self) -> int:
        """The proxy's oldest child, which is the server; without a proxy the started process itself."""
        children = [pid for pid in self.family() if parent(pid) == self.process.pid]
        return min(children) if children else self.process.pid

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


def parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


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
    os.kill(host.server(), signal.SIGTERM)
    host.wait(0.5)
    host.stdin.close()
    if not host.wait(2.0):
        host.kill_after((signal.SIGTERM, 2.0), (signal.SIGKILL, PATIENCE))


def sdk(host: Host) -> None:
    host.stdin.shutdown(socket.SHUT_WR)
    if not host.wait(2.0):
        host.kill_after((signal.SIGTERM, 2.0), (signal.SIGKILL, PATIENCE))


def killed(host: Host) -> None:
    host.process.kill()
    host.wait(PATIENCE)


PATTERNS = [claude_code, codex, gemini_cli, opencode, sdk, killed]


def stop(pattern, command: list, tool: str, arguments: dict) -> int:
    host = Host(command)
    try:
        host.one_call(tool, arguments)
        pattern(host)
        assert host.process.returncode is not None, "still running after the host's last step"
        deadline = time.monotonic() + PATIENCE
        while left := host.family():
            assert time.monotonic() < deadline, f"remaining processes: {left}"
            time.sleep(0.02)
        return host.process.returncode
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
    passed = failed = 0
    for name, (command, tool, arguments) in SERVERS.items():
        for pattern in PATTERNS:
            folder = tempfile.mkdtemp(prefix="spantap-hostkill-")
            try:
                direct = stop(pattern, command, tool, arguments)
                through = stop(pattern, [spantap, "--log-dir", folder, "--", *command], tool, arguments)
                assert direct == through, f"status {through} with spantap, {direct} without"
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
