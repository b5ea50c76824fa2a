#!/usr/bin/env python3
"""Runs the jq and DuckDB recipes of docs/looking.md.

  recipes.py FOLDER

Every recipe must succeed and print something. Needs jq and the module duckdb, which runs the queries that the
page passes to the duckdb command.
"""

import pathlib
import re
import subprocess
import sys

import duckdb


def main():
    folder = pathlib.Path(sys.argv[1])
    text = (pathlib.Path(__file__).parents[2] / "docs" / "looking.md").read_text(encoding="utf-8")
    recipes = re.findall(r"```sh recipe\n(.*?)```", text, re.S)
    failed = 0
    for recipe in recipes:
        if recipe.startswith("duckdb -c"):
            query = recipe[recipe.index('"') + 1 : recipe.rindex('"')].replace("'*.jsonl'", f"'{folder}/*.jsonl'")
            printed = str(duckdb.sql(query).fetchall() or "")
        else:
            done = subprocess.run(recipe, shell=True, cwd=folder, capture_output=True, text=True)
            printed = done.stdout if done.returncode == 0 else ""
            sys.stderr.write(done.stderr)
        failed += printed == ""
        print(f"{'ok' if printed else 'failed'}: {recipe.splitlines()[0][:70]}")
    print(f"{len(recipes)} recipes, {failed} failed")
    sys.exit(1 if failed or len(recipes) < 4 else 0)


main()
