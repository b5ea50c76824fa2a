#!/usr/bin/env bash
# Checks real servers of a host's file in one call: two over pipes, and one over Streamable HTTP.
# Needs REAL_NODE (setup/install.sh).
set -euo pipefail

spantap=$1
home=$(mktemp -d)
servers=$REAL_NODE/node_modules/.bin
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
PORT=$port "$servers/mcp-server-everything" streamableHttp >"$home/remote.log" 2>&1 &
remote=$!
trap 'kill $remote; rm -rf "$home"' EXIT
for _ in $(seq 600); do
    ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    sleep 0.1
done

mkdir "$home/.cursor"
cat >"$home/.cursor/mcp.json" <<JSON
{"mcpServers": {
  "everything": {"command": "$servers/mcp-server-everything"},
  "files": {"command": "$servers/mcp-server-filesystem", "args": ["$home"]},
  "remote": {"url": "http://127.0.0.1:$port/mcp"}
}}
JSON

check() { env -i HOME="$home" PATH="$PATH" "$spantap" check --all --timeout 60s --json; }
check >"$home/first.json"
check >"$home/second.json"
python3 - "$home" <<'PYTHON'
import json, sys

first, second = (json.load(open(f"{sys.argv[1]}/{name}.json")) for name in ("first", "second"))
assert first["ok"] == second["ok"] == 3, first
for before, now in zip(first["servers"], second["servers"]):
    assert before["tools"] > 5 and before["definitions_tokens_est"] > 100, before
    assert before["changes"] is None and now["changes"]["tools"] == [], now
ended = {server["name"]: server["ended_by"] for server in first["servers"]}
assert ended["remote"] == "session_deleted", ended
print("check: three real servers work, and their tools stay the same")
PYTHON
