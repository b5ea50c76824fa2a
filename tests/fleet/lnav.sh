#!/usr/bin/env bash
# Tests the lnav format that `spantap dashboards` writes: lnav accepts it, recognises session logs by their
# names and reads each record, so that its SQL counts what `spantap stats` counts.
set -euo pipefail
spantap=$(realpath "$1")
logs=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../../fixtures/logs")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME=$work/home TZ=UTC

"$spantap" dashboards --out "$work/written" > /dev/null
mkdir -p "$HOME" "$work/config/formats/spantap"
cp "$work/written/lnav/spantap_log.json" "$work/config/formats/spantap"
lnav -I "$work/config" -C

lnav -n -I "$work/config" \
    -c ";select server_name, count(*) as calls, sum(status not in ('ok', 'unknown', 'denied')) as errors, round(max(duration_ms), 3) as longest
        from spantap_log where event = 'mcp_tool_call' group by server_name order by server_name" \
    -c ":write-csv-to -" "$logs"/*.jsonl | tail -n +2 > "$work/lnav"
"$spantap" stats --by server --json "$logs" |
    jq -r '[.server_name, .calls, .errors, .max_ms] | join(",")' | sort > "$work/stats"
[[ $(wc -l < "$work/stats") -ge 4 ]]
diff "$work/lnav" "$work/stats"

# What agents reported is in the same table.
agents=$(dirname "$logs")/agents/session
lnav -n -I "$work/config" \
    -c ";select agent_name, model, count(*) as calls, sum(input_tokens), sum(output_tokens) from spantap_log
        where event = 'model_call' and amends is null group by agent_name, model order by model" \
    -c ":write-csv-to -" "$agents"/*.jsonl | tail -n +2 > "$work/lnav-agents"
"$spantap" stats --by model --json "$agents" |
    jq -r '[.agent_name, .model, .model_calls, .input_tokens, .output_tokens] | join(",")' | sort > "$work/stats-agents"
[[ -s $work/lnav-agents ]]
diff "$work/lnav-agents" "$work/stats-agents"

# So are the spans of servers. The query is that of docs/operations.md.
root=$(dirname "$(dirname "$logs")")
query=$(sed -n '/^```sql lnav$/,/^```$/p' "$root/docs/operations.md" | sed '1d;$d' | tr '\n' ' ')
lnav -n -I "$work/config" -c ";${query%;*}" -c ":write-csv-to -" "$(dirname "$agents")"/joins/trace/*.jsonl |
    tail -n +2 | cut -d, -f2-5 > "$work/lnav-spans"
echo "get-sum,math,tools/call get-sum,1" | diff "$work/lnav-spans" -

# A line shows the record's time, server, event and message.
lnav -n -I "$work/config" "$logs"/git-*.jsonl > "$work/lines"
grep -Eq '^[0-9T:.-]+ +git +mcp_tool_call +tools/call git_status: ok  [0-9.]+$' "$work/lines"
echo "lnav: 5 passed, 0 failed"
