"""Runs four real agents with two real servers behind spantap, with their telemetry sent to `spantap collect`, and
compares what spantap tells of each session with what the scripted model and the agent say.

    check.py SPANTAP [AGENT...]

It needs a network namespace of its own (agents.sh) and REAL_NODE and REAL_AGENTS (../setup/install.sh).
"""

import base64
import json
import subprocess
import time

from agent import PROMPT, Agent, collecting, real_servers, run_each

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
    """Returns the calls of the model: one fails, one is slow, one is refused."""
    return [
        ["echo", {"message": CANARY}],
        ["read_text_file", {"path": f"{folder}/no-such-file"}],
        ["trigger-long-running-operation", {"duration": 1, "steps": 1}],
        [REFUSED, {"path": f"{folder}/{CANARY}"}],
        ["directory_tree", {"path": str(folder)}],
        ["get-sum", {"a": 20, "b": 22}],
    ]


def spellings(text):
    """Returns the text plain, as JSON escapes, and in base64 at each of the three offsets."""
    plain = text.encode()
    yield plain
    yield "".join(f"\\u{ord(letter):04x}" for letter in text).encode()
    for offset in range(3):
        coded = base64.b64encode(b"\0" * offset + plain)
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
    agent = Agent(spantap, name, work / "agent", wrapped, script(data), REFUSED)
    begin = time.monotonic()
    with collecting(spantap, logs, work / "state"):
        printed = agent.run()
    check(spantap, name, agent, logs, printed)
    print(f"{name}: {len(agent.script)} tools and {len(agent.answers())} model calls in {time.monotonic() - begin:.0f} s")


def check(spantap, name, agent, logs, printed):
    shown = read(spantap, "show", logs, "last")
    of = lambda event: [record for record in shown if record["event"] == event]
    calls, models, tools, turns = of("mcp_tool_call"), of("model_call"), of("agent_tool"), of("agent_turn")
    wire = [tool for tool, _ in agent.script if tool != REFUSED]
    expect("calls on the wire", sorted(call["tool_name"] for call in calls), sorted(wire))
    by_tool = {call["tool_name"]: call for call in calls}
    expect("the call that fails", by_tool["read_text_file"]["status"], "error")
    assert by_tool["trigger-long-running-operation"]["duration_ms"] >= 1000, "the call that is slow"

    answers = agent.answers()
    told = lambda key, values: sorted(value[key] for value in values)
    for key in ("input_tokens", "output_tokens"):
        expect(f"{key} of all model calls", told(key, models), told(key, answers))
    expect("cached_tokens of all model calls", told("cached_tokens", models), sorted(answer["input_tokens"] // 10 for answer in answers))
    expect("turns", len(turns), 1)
    refusals = [(tool["tool_name"], tool.get("decided_by")) for tool in tools if tool.get("decision") == "refused"]
    expect("refused tools", refusals, [REFUSALS[name]])
    shown_as_text = subprocess.run([spantap, "show", "last", "--log-dir", logs], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert f"refused before a server was asked: {refusals[0][0]}" in shown_as_text, shown_as_text
    expect("refusals that are calls", [call["status"] for call in calls].count("denied"), 0)
    if name == "claude-code":
        [result] = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
        cost = sum(model["cost_usd"] for model in models)
        expect("cost in USD", round(cost, 9), round(result["total_cost_usd"], 9))

    by_handle = {record["chain"]["handle"]: record for record in shown if "handle" in record["chain"]}
    parent = lambda record: by_handle.get(record["chain"].get("parent"), {"event": None})
    for call in calls:
        what = call["tool_name"]
        tool = parent(call)
        model = parent(tool) if tool["event"] == "agent_tool" else tool
        expect(f"what {what} is below", (tool["event"], model["event"]), ("agent_tool", "model_call"))
        expect(f"what joined {what}", (call["chain"]["joined_by"], tool["chain"]["joined_by"]), JOINED[name])
        turn = next(number for number, (asked, _) in enumerate(agent.script, 1) if asked == what)
        expect(f"input tokens of the model call of {what}", model["input_tokens"], 1000 * turn)
        if JOINED[name][0] == "call_id":
            expect(f"the model's id of {what}", call["call_id"].rsplit("_")[-1], str(turn))
        expect(f"the turn of {what}", parent(model)["event"], "agent_turn")

    secrets = [PROMPT.split()[0], CANARY, "FINAL:"]
    for file in logs.iterdir():
        content = file.read_bytes()
        for secret in secrets:
            for spelling in spellings(secret):
                assert spelling not in content, f"{secret} is in {file.name} as {spelling}"


run_each(run, logs="logs")
