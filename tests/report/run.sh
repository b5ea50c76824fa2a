#!/bin/sh
# Checks the page of `spantap report` in Chromium, the figures against DuckDB, and the recipes of docs/looking.md.
#
#   tests/report/run.sh SPANTAP
#
# Needs chromium, node, jq, python3 and its modules duckdb and junitparser. fixtures/made-logs must equal the output of
# its generator; fixtures/logs was recorded from real servers. Also checks `diff` against a script, and the CI job of
# docs/operations.md.
set -eu
spantap=$1
here=$(dirname "$0")
fixtures=$here/../../fixtures
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 "$here/make_logs.py" "$work/logs"
diff -r --exclude README.md "$work/logs" "$fixtures/made-logs"
python3 "$here/make_why_logs.py" "$work/why"
diff -r --exclude README.md "$work/why" "$fixtures/why"
python3 "$here/make_day_logs.py" "$work/days"
diff -r --exclude README.md --exclude gate.toml "$work/days" "$fixtures/days"
python3 "$here/diff_check.py" "$spantap" 2026-11-26 2026-11-27 "$fixtures/days/ordinary"
python3 "$here/diff_check.py" "$spantap" 2026-11-26 2026-11-27 "$fixtures/days/hostile"
python3 "$here/diff_check.py" "$spantap" 2026-11-22 2026-11-23 "$fixtures/made-logs"
mkdir "$work/context"
python3 "$here/make_context_logs.py" "$work/context"
diff -r --exclude README.md "$work/context" "$fixtures/context"
python3 "$here/gate_check.py" "$spantap" "$fixtures/days/ordinary"
python3 "$here/recipes.py" "$fixtures/logs"
"$spantap" report "$fixtures/filter/rows.jsonl" -o "$work/filter.html"
node "$here/check_filter.mjs" "$work/filter.html"
"$spantap" report "$fixtures/context" "$fixtures/days/hostile" -o "$work/context.html"
"$spantap" report "$fixtures/agents/session" "$fixtures/agents/joins/trace" -o "$work/agents.html"
for logs in logs made-logs; do
    python3 "$here/duckdb_check.py" "$spantap" "$fixtures/$logs"
    SPANTAP_LINKS_TRACE='https://tempo.example/t/{trace_id}?s={span_id}' \
        "$spantap" report "$fixtures/$logs" -o "$work/$logs.html"
    node "$here/check_page.mjs" "$work/$logs.html" --context "$work/context.html" --agents "$work/agents.html"
done
