"""Asks `spantap mcp` with real clients of both eras of the protocol, alone and behind spantap.

    mcp.py SPANTAP_BINARY

Needs the REAL_* variables that install.sh prints. Asserts that each client lists the same tools and gets the same
answers, that a wrong argument is an error of the tool, and that no answer has the calls to the server itself.
"""

import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SPANTAP = os.path.abspath(sys.argv[1])
PYTHON1, PYTHON2 = (os.path.join(os.environ[name], "bin", "python") for name in ("REAL_SDK1", "REAL_SDK2"))
CLIENTS = {
    "ts1": ["node", f"{HERE}/clients/ts1.mjs"],
    "ts2-legacy": ["node", f"{HERE}/clients/ts2.mjs", "legacy"],
    "ts2-auto": ["node", f"{HERE}/clients/ts2.mjs", "auto"],
    "py1": [PYTHON1, f"{HERE}/clients/py1.py"],
    "py2-legacy": [PYTHON2, f"{HERE}/clients/py2.py", "legacy"],
    "py2-auto": [PYTHON2, f"{HERE}/clients/py2.py", "auto"],
}
TOOLS = ["why", "calls", "call", "errors", "stats", "context", "sessions", "health"]
CALLS = [
    {"tool": "why", "arguments": {}},
    {"tool": "calls", "arguments": {"tool": "read_file", "max_tokens": 500}},
    {"tool": "call", "arguments": {"handle": "-1"}},
    {"tool": "errors", "arguments": {}},
    {"tool": "stats", "arguments": {"by": "server"}},
    {"tool": "calls", "arguments": {"colour": "red"}},
]

with tempfile.TemporaryDirectory() as home:
    logs = os.path.join(home, "logs")
    env = {"HOME": home, "PATH": os.environ["PATH"]}
    subprocess.run([SPANTAP, "demo", "--log-dir", logs], check=True, env=env, stdout=subprocess.DEVNULL)
    ask = ["mcp", "--all", "--log-dir", logs]
    behind = ["--server", "spy", "--log-dir", logs, "--", SPANTAP, *ask]
    answers = {}
    for place, arguments in (("alone", ask), ("behind spantap", behind)):
        for client, (program, script, *mode) in CLIENTS.items():
            scenario = os.path.join(home, "scenario.json")
            with open(scenario, "w") as file:
                json.dump({"server": {"command": SPANTAP, "args": arguments, "env": env}, "calls": CALLS}, file)
            run = subprocess.run([program, script, scenario, *mode], stdout=subprocess.PIPE, timeout=120)
            assert run.returncode == 0, (place, client)
            result = json.loads(run.stdout)
            assert result["tools"] == TOOLS, (place, client, result["tools"])
            *good, wrong = result["results"]
            assert wrong.get("isError") and "`colour` is not a parameter" in wrong["content"][0]["text"], wrong
            assert all(not answer.get("isError") for answer in good), good
            texts = [answer["content"][0]["text"] for answer in good]
            assert all(len(text) <= 8_000 and "spy" not in text for text in texts), (place, client, texts)
            answers[place, client] = texts
    first = next(iter(answers.values()))
    assert all(texts == first for texts in answers.values()), answers
    loop = json.loads(first[1])
    assert loop["rows"][0]["repeat_count"] >= 5, loop
print(f"mcp: {len(answers)} clients list the same tools and get the same answers")
