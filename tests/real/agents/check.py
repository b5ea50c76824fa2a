"""Runs four real agents with two real servers behind spantap, with their telemetry sent to `spantap collect`, and
compares what spantap tells of each turn with what the scripted model and the agent say.

    check.py SPANTAP [AGENT...]

The telemetry passes a recorder, `spantap collect --forward` and a second recorder, and arrives in rotel: every body must
come as the agent sent it, and rotel must hold the same spans and log records.

It needs a network namespace of its own (agents.sh) and REAL_NODE, REAL_SDK2, REAL_TOOLS and REAL_AGENTS
(../setup/install.sh).
"""

import base64
import json
import subprocess
import sys
import time
from pathlib import Path

from agent import INSTRUCTION, PROMPT, Agent, collecting, real_servers, run_each

sys.path.append(str(Path(__file__).resolve().parent.parent / "otlp"))
from collectors import Recorder, Sink, is_taken_by_rotel, plain, rotel, same_items, same_requests

# Where the agents send their telemetry, and where the collector listens behind the recorder.
AGENTS_PORT, COLLECTOR = 4318, "127.0.0.1:14318"
CANARY = "ARGUMENT-CANARY-93c2"
# The settings of each agent refuse this tool, without a person.
REFUSED = "create_directory"
# Name of that tool in the agent, and the maker of the decision in its telemetry.
REFUSALS = {
    "claude-code": (REFUSED, "config"), "codex": (REFUSED, "user"), "gemini-cli": (REFUSED, "config"),
    "opencode": (f"files_{REFUSED}", None),
}
# What joins a call on the wire to the agent's tool, and the tool to its model call. docs/agents.md has these.
JOINED = {
    "claude-code": ("call_id", "call_id"), "codex": ("call_id", "conversation"), "gemini-cli": ("host", "conversation"),
    "opencode": ("host", "call_id"),
}


def script(folder):
    """Returns the calls of the model in two turns: one fails, one is slow, one is refused."""
    return [
        ["echo", {"message": CANARY}],
        ["read_text_file", {"path": f"{folder}/no-such-file"}],
        ["trigger-long-running-operation", {"duration": 1, "steps": 1}],
        [REFUSED, {"path": f"{folder}/{CANARY}"}],
        ["directory_tree", {"path": str(folder)}],
        ["get-sum", {"a": 20, "b": 22}],
        None,
        ["list_directory_with_sizes", {"path": str(folder)}],
        ["list_allowed_directories", {}],
    ]


def spellings(text):
    """Returns the text plain, as JSON escapes, percent-encoded, in hex, and in base64 at each of the three offsets."""
    text = text.encode()
    yield text
    for form in ("\\u%04x", "\\u%04X", "%%%02x", "%%%02X", "%02x", "%02X"):
        yield "".join(form % letter for letter in text).encode()
    for offset in range(3):
        coded = base64.b64encode(b"\0" * offset + text)
        # The first and the last group depend on the neighbours.
        yield coded[4 if offset else 0 : -4]


def read(spantap, command, logs, *arguments):
    """Returns the objects that a command of spantap prints."""
    command = [spantap, command, *arguments, "--json", "--log-dir", logs]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def expect(what, found, expected):
    if found != expected:
        raise AssertionError(f"{what}\n  expected: {expected}\n  found:    {found}")


def run(spantap, name, work):
    # A host that has roots gives its working folder to the file server.
    logs, data = work / "logs", work / "agent/cwd"
    wrapped = {
        server: [spantap, "--server", server, "--log-dir", str(logs), "--", *command] for server, command in real_servers(data).items()
    }
    secrets = [PROMPT.split()[0], CANARY, INSTRUCTION, "FINAL:"]
    agent = Agent(spantap, name, work / "agent", wrapped, script(data), REFUSED, secrets)
    begin = time.monotonic()
    with (Sink() as sink, rotel(sink.url) as receiver,
          Recorder(pass_on=receiver.http, is_passed_on=is_taken_by_rotel) as target,
          Recorder(AGENTS_PORT, pass_on=f"http://{COLLECTOR}", answers=True) as sent):
        with collecting(spantap, logs, work / "state", "--listen", COLLECTOR, "--forward", target.url):
            printed = agent.run()
        same_requests(sent.all(), target)
        taken = [request for request in target.all().elements() if is_taken_by_rotel(*request)]
        items = [same_items(kind, taken, sink) for kind in ("spans", "logs")]
    check(spantap, name, agent, logs, printed)
    nothing_is_there(secrets, agent, sent.all(), [logs, work / "state", agent.home / ".local/state/spantap"])
    print(f"{name}: {len(agent.script) - 1} tools and {len(agent.answers())} model calls in two turns, {sent.all().total()} bodies, "
          f"{items[0]} spans and {items[1]} log records passed on, {time.monotonic() - begin:.0f} s")


def nothing_is_there(secrets, agent, sent, folders):
    """Fails if one of the secrets is in a file of the folders, in any spelling, or if the model did not get them all."""
    for secret in secrets:
        assert any(secret in answer["found"] for answer in agent.answers()), f"{secret} is in no request to the model"
    bodies = b"".join(plain(encoding, body) for _, _, encoding, body in sent)
    # So much an agent sends that is asked for it. Prompts it sends in any case here.
    assert secrets[0].encode() in bodies, f"{secrets[0]} is not in the agent's telemetry"
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert any(file.name == "collect.json" for file in files) and any(file.suffix == ".jsonl" for file in files), files
    for file in files:
        content = file.read_bytes()
        for secret in secrets:
            for spelling in spellings(secret):
                assert spelling not in content, f"{secret} is in {file} as {spelling}"


def turns_of(script):
    """Returns the turns: for each the numbers and names of its tools. A final text has a number, too."""
    turns = [[]]
    for number, asked in enumerate(script):
        if asked is None:
            turns.append([])
        else:
            turns[-1].append((number, asked[0]))
    return turns


def input_tokens(name, number):
    """Returns the tokens of the model's answer of this number: for Claude Code with those of the cache, which are apart."""
    told = 1000 * (number + 1)
    return told + told // 10 + number + 7 if name == "claude-code" else told


def check(spantap, name, agent, logs, printed):
    sessions = read(spantap, "sessions", logs)
    shown = [record for session in sessions for record in read(spantap, "show", logs, session["session_id"])]
    of = lambda event: [record for record in shown if record["event"] == event]
    calls, models, tools, turns = of("mcp_tool_call"), of("model_call"), of("agent_tool"), of("agent_turn")
    scripted = turns_of(agent.script)
    number_of = {tool: number for turn in scripted for number, tool in turn}
    expect("calls on the wire", sorted(call["tool_name"] for call in calls), sorted(set(number_of) - {REFUSED}))
    by_tool = {call["tool_name"]: call for call in calls}
    expect("the call that fails", by_tool["read_text_file"]["status"], "error")
    assert by_tool["trigger-long-running-operation"]["duration_ms"] >= 1000, "the call that is slow"

    numbers = [answer["input_tokens"] // 1000 - 1 for answer in agent.answers()]
    told = lambda key: sorted(model[key] for model in models)
    expect("input_tokens of all model calls", told("input_tokens"), sorted(input_tokens(name, number) for number in numbers))
    expect("output_tokens of all model calls", told("output_tokens"), sorted(10 * (number + 1) for number in numbers))
    expect("cached_tokens of all model calls", told("cached_tokens"), sorted(100 * (number + 1) for number in numbers))
    refusals = [(tool["tool_name"], tool.get("decided_by")) for tool in tools if tool.get("decision") == "refused"]
    expect("refused tools", refusals, [REFUSALS[name]])
    shown_as_text = "".join(
        subprocess.run([spantap, "show", session["session_id"], "--log-dir", logs], stdout=subprocess.PIPE, text=True, check=True).stdout
        for session in sessions
    )
    assert f"refused before a server was asked: {refusals[0][0]}" in shown_as_text, shown_as_text
    expect("refusals that are calls", [call["status"] for call in calls].count("denied"), 0)
    if name == "claude-code":
        results = [json.loads(line) for text in printed for line in text.splitlines() if line.startswith("{")]
        cost = sum(model["cost_usd"] for model in models)
        # Its last total is that of the whole conversation.
        expect("cost in USD", round(cost, 9), round(results[-1]["total_cost_usd"], 9))

    by_handle = {record["chain"]["handle"]: record for record in shown if "handle" in record["chain"]}
    parent = lambda record: by_handle.get(record["chain"].get("parent"), {"event": None, "chain": {}})
    turn_of = {}
    for call in calls:
        what = call["tool_name"]
        tool = parent(call)
        model = parent(tool) if tool["event"] == "agent_tool" else tool
        expect(f"what {what} is below", (tool["event"], model["event"]), ("agent_tool", "model_call"))
        expect(f"what joined {what}", (call["chain"]["joined_by"], tool["chain"]["joined_by"]), JOINED[name])
        number = number_of[what]
        expect(f"input tokens of the model call of {what}", model["input_tokens"], input_tokens(name, number))
        if JOINED[name][0] == "call_id":
            expect(f"the model's id of {what}", call["call_id"].rsplit("_")[-1], str(number + 1))
        expect(f"the turn of {what}", parent(model)["event"], "agent_turn")
        turn_of[what] = parent(model)["chain"]["handle"]

    turns.sort(key=lambda turn: turn.get("started_at") or turn["timestamp"])
    found = [sorted(tool for tool, handle in turn_of.items() if handle == turn["chain"]["handle"]) for turn in turns]
    expect("the calls of each turn", found, [sorted(tool for _, tool in turn if tool != REFUSED) for turn in scripted])
    rows = sorted(read(spantap, "stats", logs, "--by", "turn"), key=lambda row: row["started_at"])
    figures = [(row["tools"], row["refused"], row["model_calls"] - (name == "opencode" and at == 0)) for at, row in enumerate(rows)]
    # Each turn ends with an answer without a tool. opencode also asks for a title.
    expected = [(len(turn), sum(tool == REFUSED for _, tool in turn), len(turn) + 1) for turn in scripted]
    expect("tools, refusals and model calls of each turn in `stats`", figures, expected)


run_each(run, logs="logs")
