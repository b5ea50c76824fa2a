"""Records fixtures/logs: agents on the official SDKs use real servers, with spantap between them.

    record_logs.py SPANTAP_BINARY FOLDER

Run it with $REAL_SDK1/bin/python; it needs the REAL_* variables that tests/real/setup/install.sh prints.
Times, ids and pids differ in each run, so CI does not run this script. The fixtures are a reviewed recording;
after a new recording, refresh and review the outputs (`UPDATE_FIXTURES=1 cargo test look`).

The hash key below is public, so that anyone can check a hash of the recording.
"""

import asyncio
import glob
import json
import os
import random
import shutil
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
NODE, SDK1, SDK2 = (os.environ[name] for name in ("REAL_NODE", "REAL_SDK1", "REAL_SDK2"))
KEY = "5a" * 32
WORK = "/tmp/garden"
PATH = ":".join([f"{NODE}/node_modules/.bin", f"{SDK2}/bin", os.environ["PATH"]])
# The text that this tool returned is kept next to the logs, so that a test can hash it.
KEPT = "git_status"


def project() -> None:
    """Makes a small repository for the servers."""
    shutil.rmtree(WORK, ignore_errors=True)
    os.makedirs(f"{WORK}/beds")
    files = {
        "README.md": "# Garden\n\nWhat grows where, and when to water it.\n",
        "beds/north.md": "Ferns, hostas, moss.\n" * 40,
        "beds/south.md": "Tomatoes, basil, thyme.\n" * 400,
        "plan.md": "1. Mulch\n2. Prune\n3. Plant garlic\n",
    }
    for name, text in files.items():
        with open(f"{WORK}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    env = dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_SYSTEM="/dev/null",
               GIT_AUTHOR_DATE="2026-03-01T08:00:00Z", GIT_COMMITTER_DATE="2026-03-01T08:00:00Z")
    git = ["git", "-C", WORK, "-c", "user.name=Robin", "-c", "user.email=robin@example.com"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "plant the garden"]):
        subprocess.run([*git, *arguments], check=True, env=env)
    with open(f"{WORK}/plan.md", "a", encoding="utf-8") as file:
        file.write("4. Compost\n")


def environment(home: str) -> dict:
    os.makedirs(f"{home}/.config/spantap", exist_ok=True)
    key = f"{home}/hash-key"
    with open(key, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(KEY)
    with open(f"{home}/.config/spantap/config.toml", "w", encoding="utf-8") as file:
        file.write(f'hash_key_file = "{key}"\nuser_id = "robin"\n')
    return {"HOME": home, "PATH": PATH, "LANG": "C.UTF-8"}


def watched(spantap: str, logs: str, name: str, options: list, command: list) -> list:
    return [spantap, "--server", name, "--log-dir", logs, *options, "--", *command]


class Agent:
    """One agent run: its servers and the state of its conversation."""

    def __init__(self, spantap: str, logs: str, home: str):
        self.spantap, self.logs, self.env = spantap, logs, environment(home)
        self.sessions, self.turn, self.calls, self.trace = {}, 0, 0, ""
        self.random = random.Random(7)

    async def start(self, stack, name: str, command: list, options: list = ()) -> None:
        from mcp import ClientSession, StdioServerParameters, types
        from mcp.client.stdio import stdio_client

        async def decline(_context, _parameters):
            await asyncio.sleep(1.2)
            return types.ElicitResult(action="decline")

        argv = watched(self.spantap, self.logs, name, list(options), command)
        parameters = StdioServerParameters(command=argv[0], args=argv[1:], env=self.env)
        streams = await stack.enter_async_context(stdio_client(parameters, errlog=open(os.devnull, "w")))
        session = ClientSession(*streams, elicitation_callback=decline,
                                client_info=types.Implementation(name="example-agent", version="2.1.0"))
        self.sessions[name] = await stack.enter_async_context(session)
        await session.initialize()
        await session.list_tools()

    async def think(self) -> None:
        """Starts a new turn and waits, as if the model were thinking."""
        self.turn += 1
        self.trace = f"{self.random.getrandbits(128):032x}"
        await asyncio.sleep(0.3 + self.random.random())

    async def call(self, server: str, tool: str, seconds: float = 0, **arguments):
        import datetime
        from mcp import McpError

        await asyncio.sleep(0.02 + self.random.random() / 10)
        self.calls += 1
        meta = {"vscode.conversationId": "conv-7f3a", "turnId": f"turn-{self.turn}",
                "toolCallId": f"toolu_EXAMPLE{self.calls:04d}",
                "traceparent": f"00-{self.trace}-{self.random.getrandbits(64):016x}-01"}
        limit = datetime.timedelta(seconds=seconds) if seconds else None
        try:
            result = await self.sessions[server].call_tool(tool, arguments, limit, meta=meta)
        except McpError:
            return
        if tool == KEPT:
            with open(f"{self.logs}/{tool}.txt", "w", encoding="utf-8") as file:
                file.write(result.content[0].text)

    async def run(self) -> None:
        from contextlib import AsyncExitStack

        async with AsyncExitStack() as stack:
            await self.start(stack, "filesystem", ["mcp-server-filesystem", WORK])
            await self.start(stack, "git", ["mcp-server-git", "--repository", WORK], ["--log-level", "debug"])
            await self.start(stack, "everything", ["mcp-server-everything"], ["--slow", "2s"])

            await self.think()
            await self.call("filesystem", "list_directory", path=WORK)
            await self.call("filesystem", "read_text_file", path=f"{WORK}/README.md")
            await self.call("git", "git_status", repo_path=WORK)
            await self.think()
            for name in ("north", "south", "west"):
                await self.call("filesystem", "read_text_file", path=f"{WORK}/beds/{name}.md")
            await self.call("filesystem", "read_text_file", path=f"{WORK}/beds/west.md")
            await self.think()
            for number in range(4):
                await self.call("git", "git_log", repo_path=WORK, max_count=number + 1)
            await self.call("git", "git_diff_unstaged", repo_path=WORK)
            await self.call("git", "git_show", repo_path=WORK, revision="no-such-revision")
            await self.think()
            for _ in range(7):
                await self.call("filesystem", "search_files", path=WORK, pattern="*.txt")
            await self.think()
            await self.call("filesystem", "write_file", path=f"{WORK}/beds/west.md", content="Lavender.\n" * 30)
            await asyncio.gather(*(self.call("filesystem", "read_text_file", path=f"{WORK}/beds/{name}.md")
                                   for name in ("north", "south", "west")))
            await self.call("git", "git_diff_unstaged", repo_path=WORK)
            await self.call("git", "git_status", repo_path=WORK)
            await self.think()
            for number in range(6):
                await self.call("everything", "get-sum", a=number, b=40)
            await self.call("everything", "get-sum", a="many", b=40)
            await self.call("everything", "trigger-long-running-operation", duration=3, steps=6)
            await self.think()
            await self.call("everything", "trigger-elicitation-request")
            await self.call("everything", "echo", message="the person said no")
            await self.think()
            for _ in range(5):
                await self.call("filesystem", "get_file_info", path=f"{WORK}/plan.md")
            await self.call("filesystem", "read_text_file", path="/etc/shadow")
            await self.call("filesystem", "directory_tree", path=WORK)
            await self.think()
            # The server dies in the middle of a call.
            doomed = asyncio.create_task(self.call("everything", "trigger-long-running-operation", 4, duration=60, steps=2))
            await asyncio.sleep(1.5)
            kill_server("everything")
            await doomed


def kill_server(name: str) -> None:
    """Crashes the server of this name, a grandchild of this process below spantap."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                parent = int(file.read().rsplit(")", 1)[1].split()[1])
            with open(f"/proc/{parent}/cmdline", "rb") as file:
                line = file.read().split(b"\0")
            with open(f"/proc/{parent}/stat") as file:
                above = int(file.read().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            continue
        if above == os.getpid() and b"--server" in line and line[line.index(b"--server") + 1] == name.encode():
            os.kill(int(pid), signal.SIGSEGV)
            return
    raise AssertionError(f"server {name} is not running")


def main() -> None:
    spantap, folder = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    if sys.argv[3:]:
        asyncio.run(Agent(spantap, folder, sys.argv[3]).run())
        return
    os.makedirs(folder, exist_ok=True)
    for old in glob.glob(f"{folder}/*.jsonl"):
        os.remove(old)
    project()
    # A short path, because the command line is part of a record.
    program = "/tmp/spantap"
    shutil.copy(spantap, program)
    home = "/tmp/robin"
    env = environment(home)
    # Each agent is a separate process, and so a separate session.
    subprocess.run([sys.executable, __file__, program, folder, home], check=True)
    editors = [
        {"memory": (["sh", "-c", "echo Knowledge graph ready; exec mcp-server-memory"], [])},
        {"time": (["mcp-server-time", "--local-timezone=UTC"], []), "everything": (["mcp-server-everything"], [])},
        {"broken": (["mcp-server-that-is-not-installed"], [])},
    ]
    for number, servers in enumerate(editors):
        started = {name: watched(program, folder, name, options, command) for name, (command, options) in servers.items()}
        subprocess.run(["node", f"{HERE}/record_agent.mjs", str(number), json.dumps(started)],
                       env={**env, "REAL_NODE": NODE, "MEMORY_FILE_PATH": f"{home}/memory.jsonl"}, check=True)
    for log in glob.glob(f"{folder}/*.jsonl"):
        os.chmod(log, 0o644)
    shutil.rmtree(home)
    shutil.rmtree(WORK)
    os.remove(program)


main()
