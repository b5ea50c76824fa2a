#!/bin/sh
# Checks the page of `spantap report` in Chromium, and the figures and recipes against DuckDB and jq.
#
#   tests/report/run.sh SPANTAP
#
# Needs chromium, node, jq, python3 and `pip install duckdb==2.0.1`. The logs in fixtures/logs must be
# what their generator writes.
set -eu
spantap=$1
here=$(dirname "$0")
logs=$here/../../fixtures/logs
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 "$here/make_logs.py" "$work/logs"
diff -r "$work/logs" "$logs"
python3 "$here/duckdb_check.py" "$spantap" "$logs"
python3 "$here/recipes.py" "$logs"
"$spantap" report "$logs" -o "$work/report.html"
node "$here/check_page.mjs" "$work/report.html"
