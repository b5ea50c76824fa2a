"""Runs real agents that call one tool again and again, and one that fails, and then ask `spantap mcp` about it.

    ask.py SPANTAP [AGENT...]

The agents have the servers that `spantap wrap --with-self` leaves in their files: one real server, `spantap mcp` of the
user behind spantap, and the `spantap mcp` that was added. Needs what check.py needs.
"""

import json
import os
import subprocess

from agent import Agent, collecting, real_servers, run_each

LOGS = ".local/state/spantap/sessions"
ROUNDS = 6
FAILING = ["get-resource-reference", {"resourceType": "Text", "resourceId": -1}]
CALLS = ROUNDS + 1
ASKED = [
    "spantap/why", "spantap/calls", "spantap/errors", "spantap/context", "spantap/sessions", "watched/stats", "watched/calls",
    "watched/why", "watched/errors",
]
# What the answer to a question names.
NAMED = {"errors": FAILING[0], "context": "everything", "sessions": "everything"}


def run(spantap, name, work):
    home = work / "agent/home"
    servers = {"everything": real_servers(work)["everything"], "watched": [spantap, "--server", "watched", "--", spantap, "mcp"]}
    script = [["echo", {"message": "again"}]] * ROUNDS + [FAILING] + [[question, {}] for question in ASKED]
    agent = Agent(spantap, name, work / "agent", servers, script, "no_tool")
    file = home / agent.FILES[name]
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    logs = home / LOGS
    edit = lambda *words: subprocess.run([spantap, *words, "--host", name, "--yes"], env=environment, stdout=subprocess.DEVNULL, check=True)

    def wrap():
        before = file.read_bytes()
        edit("wrap", "--with-self")
        assert b"--wrapped" in file.read_bytes() and b"self" in file.read_bytes()
        edit("unwrap")
        assert file.read_bytes() == before, "unwrap gives the file back"
        edit("wrap", "--with-self")

    with collecting(spantap, logs, home / ".local/state"):
        agent.run(wrap)
    edit("unwrap")
    assert b"--wrapped" not in file.read_bytes(), file.read_text()
    check(name, agent, logs)


def check(name, agent, logs):
    # The answer with K results in the conversation has the K-th.
    answers = {entry["input_tokens"] // 1000 - 1: entry["result"] for entry in agent.answers()}
    results = dict(zip(ASKED, (answers[CALLS + number] for number in range(1, len(ASKED) + 1))))
    for question, result in results.items():
        answer = result[result.index("{") : result.rindex("}") + 1]
        results[question] = json.loads(answer)
    recorded = [json.loads(line) for log in logs.glob("*.jsonl") for line in log.read_text().splitlines()]
    of_watched = [record for record in recorded if record.get("server_name") == "watched" and record["event"] == "mcp_tool_call"]
    behind = sum(question.startswith("watched/") for question in ASKED)
    assert len(of_watched) == behind, f"the log has {len(of_watched)} calls to the server behind spantap"
    for question, answer in results.items():
        text = json.dumps(answer)
        assert NAMED.get(question.split("/")[1], "echo") in text, f"{question}: {text}"
        if question.startswith("watched/"):
            assert "watched" not in text and '"why"' not in text, f"{question} has a call to itself: {text}"
    for question in ("spantap/why", "watched/why"):
        assert f"{ROUNDS} times" in json.dumps(results[question]), f"{question} does not name the loop: {results[question]}"
    for question in ("spantap/calls", "watched/calls"):
        rows = results[question]["rows"]
        assert max(row.get("repeat_count", 0) for row in rows) == ROUNDS, f"{question} does not count the loop: {rows}"
    for question in ("spantap/errors", "watched/errors"):
        # A host of the modern era also asks for what older servers refuse.
        rows = [row for row in results[question]["rows"] if row["tool_name"]["quoted"] == FAILING[0]]
        assert [row["count"] for row in rows] == [1] and "Invalid resourceId" in json.dumps(rows), f"{question}: {rows}"
    print(f"{name}: its answers name the loop of {ROUNDS} calls, and the call that failed")


run_each(run, logs=f"agent/home/{LOGS}")
