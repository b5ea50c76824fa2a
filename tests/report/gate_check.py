#!/usr/bin/env python3
"""Runs the step of the CI job in docs/operations.md on a good and on a bad day, and reads its JUnit file.

  gate_check.py SPANTAP FOLDER

Log, status and counts must be those of the page. Needs the module junitparser (pinned in tests/real/setup/tools.txt).
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from junitparser import Error, Failure, JUnitXml


def block(page, head):
    return re.search(rf"```{head}\n(.*?)```", page, re.S).group(1)


def step(work, spantap, command):
    """Runs a command of the job, with this spantap first in PATH."""
    environment = {**os.environ, "PATH": f"{spantap.parent}:{os.environ['PATH']}", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    return subprocess.run(["bash", "-e", "-c", command], cwd=work, env=environment, capture_output=True, text=True)


def counts(path):
    """Returns the numbers of cases, failures and errors, counted case by case and as the file says."""
    xml = JUnitXml.fromfile(str(path))
    results = [type(result) for suite in xml for case in suite for result in case.result]
    cases = sum(1 for suite in xml for _ in suite)
    assert (xml.tests, xml.failures, xml.errors) == (cases, results.count(Failure), results.count(Error)), path
    return cases, results.count(Failure), results.count(Error)


def main():
    spantap, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    page = (pathlib.Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    command = re.search(r"- run: (spantap gate .*)", page).group(1)
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(temporary)
        (work / "gate.toml").write_text(block(page, "toml\n# gate.toml"), encoding="utf-8")
        for day, head, status, expected in [("2026-11-26", "passed", 0, (5, 0, 0)), ("2026-11-27", "failed", 1, (5, 3, 0))]:
            shutil.rmtree(work / "mcp-logs", ignore_errors=True)
            (work / "mcp-logs").mkdir()
            for log in folder.glob(f"*-{day}-*.jsonl"):
                shutil.copy(log, work / "mcp-logs")
            done = step(work, spantap, command)
            assert (done.returncode, done.stdout) == (status, block(page, f"text {head}")), done
            assert counts(work / "gate.xml") == expected, counts(work / "gate.xml")
        shutil.rmtree(work / "mcp-logs")
        (work / "mcp-logs").mkdir()
        done = step(work, spantap, command)
        assert done.returncode == 3 and counts(work / "gate.xml") == (5, 0, 4), done
        hostile = folder.parent / "hostile"
        rules = "--max-errors 0 --no-deaths --forbid-tool '*' --max-result '*=1' --p95 '*=1ms'"
        done = step(work, spantap, f"spantap gate {rules} --format junit '{hostile.resolve()}' > hostile.xml")
        assert done.returncode == 1 and counts(work / "hostile.xml") == (6, 5, 0), done
    print("the job of docs/operations.md passed, failed and had nothing to judge as it says")


main()
