#!/usr/bin/env bash
# Checks and tests the alert and recording rules of `spantap dashboards` with promtool, for the default threshold
# and another. promtool also parses every query of the boards.
set -euo pipefail
spantap=$(realpath "$1")
promtool=$REAL_DEBIAN/usr/bin/promtool
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

passed=0
for threshold in 5 40; do
    "$spantap" dashboards --out "$work/$threshold" --thrash-threshold "$threshold" > /dev/null
    cd "$work/$threshold/prometheus"
    "$promtool" check rules rules.yml rules-optional.yml recording.yml
    "$promtool" test rules rules_test.yml
    ((passed += 3))
done

while IFS= read -r query; do
    "$promtool" --experimental promql format "$query" > /dev/null || { echo "error: promtool cannot read $query" >&2; exit 1; }
    ((passed += 1))
done < <(node -e '
    const { readdirSync, readFileSync } = require("fs");
    for (const name of readdirSync(process.argv[1]).filter((name) => name.endsWith(".json")))
        for (const panel of JSON.parse(readFileSync(`${process.argv[1]}/${name}`)).panels)
            for (const { expr } of panel.targets)
                console.log(expr.replaceAll("$__interval_ms", "60000").replaceAll("$__interval", "1m").replaceAll("$__range", "6h"));
' "$work/5/grafana")
((passed > 40)) || { echo "error: only $passed checks ran" >&2; exit 1; }
echo "rules: $passed passed, 0 failed"
