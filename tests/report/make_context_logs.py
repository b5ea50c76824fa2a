#!/usr/bin/env python3
"""Makes the logs in fixtures/context: python3 tests/report/make_context_logs.py fixtures/context

Two days, three servers. Two of them have a tool of the same name; one lists its tools in two pages and changes them;
the log of the third has no list of tools, as logs of older versions.
"""

import hashlib
import json
import pathlib
import sys

OUT = pathlib.Path(sys.argv[1])


def tool(name, description, schema):
    size = description + schema + len(name) + 44
    digest = hashlib.sha256(f"{name} {description} {schema}".encode()).hexdigest()[:16]
    return {"name": name, "definition_bytes": size, "description_bytes": description, "schema_bytes": schema,
            "definition_hash": digest}


def listed(tools, page=None, complete=True):
    fields = {"tools": tools, "tools_total": len(tools), "is_complete": complete,
              "definition_bytes": sum(tool["definition_bytes"] for tool in tools)}
    return fields | ({"page": page} if page else {})


def call(name, tokens, **more):
    return {"request_id": "1", "direction": "client_to_server", "method": "tools/call", "tool_name": name,
            "duration_ms": 3.0, "status": "ok", "args_tokens_est": 12, "result_tokens_est": tokens} | more


def log(server, connection, day, host, session, events):
    lines = []
    for seq, (clock, event, fields) in enumerate(events):
        record = {"schema": "spantap/1", "timestamp": f"{day}T{clock}.000000Z", "level": "info", "event": event,
                  "message": event, "seq": seq, "session_id": session, "connection_id": connection,
                  "server_name": server, "host_name": host}
        lines.append(json.dumps(record | fields, separators=(",", ":")) + "\n")
    (OUT / f"{server}-{day}-{connection[-12:]}.jsonl").write_text("".join(lines))


FILES = [("create_directory", 196, 214), ("directory_tree", 351, 248), ("edit_file", 172, 531),
         ("get_file_info", 244, 190), ("list_allowed_directories", 198, 96), ("list_directory", 238, 190),
         ("list_directory_with_sizes", 252, 318), ("move_file", 287, 270), ("read_file", 87, 330),
         ("read_media_file", 117, 190), ("read_multiple_files", 316, 288), ("read_text_file", 489, 412),
         ("search_files", 298, 342), ("write_file", 203, 262)]
FILES = [tool(*sizes) for sizes in FILES]
GIT = [tool("git_log", 90, 412), tool("git_show", 60, 240), tool("git_status", 64, 170)]
LATER = [tool("git_diff", 96, 330), tool("list_directory", 120, 180)]

log("files", "019ac5a0-c884-73b3-be6f-d76ae2440001", "2026-11-27", "claude-code", "6f0c2a11", [
    ("09:00:01", "tools_listed", listed(FILES)),
    ("09:00:20", "mcp_tool_call", call("read_text_file", 420)),
    ("09:01:20", "mcp_tool_call", call("list_directory", 88)),
])
log("git", "019ac5a0-c884-73b3-be6f-d76ae2440002", "2026-11-27", "claude-code", "6f0c2a11", [
    ("09:00:02", "tools_listed", listed(GIT, complete=False)),
    ("09:00:02", "tools_listed", listed(LATER, page=2)),
    ("09:00:40", "mcp_tool_call", call("git_status", 61)),
])
log("files", "019acac6-c884-73b3-be6f-d76ae2440003", "2026-11-28", "claude-code", "b81e7d40", [
    ("10:00:01", "tools_listed", listed(FILES)),
    ("10:00:20", "mcp_tool_call", call("read_text_file", 380)),
    ("10:01:20", "mcp_tool_call", call("read_text_file", 31_250, result_over_limit=25_000)),
    ("10:02:20", "mcp_tool_call", call("search_files", 210)),
])
CHANGED = [GIT[0], GIT[1], tool("git_status", 140, 170), tool("git_push", 80, 200)]
log("git", "019acac6-c884-73b3-be6f-d76ae2440004", "2026-11-28", "claude-code", "b81e7d40", [
    ("10:00:02", "tools_listed", listed(CHANGED, complete=False)),
    ("10:00:02", "tools_listed", listed(LATER[:1], page=2)),
    ("10:00:02", "tools_changed", {"added": ["git_push"], "removed": ["list_directory"], "changed": ["git_status"],
                                   "changes": [{"tool": "git_status", "change": "changed", "parts": ["description"]},
                                               {"tool": "git_push", "change": "added", "parts": []},
                                               {"tool": "list_directory", "change": "removed", "parts": []}]}),
    ("10:00:40", "mcp_tool_call", call("git_log", 840)),
    ("10:00:50", "mcp_tool_call", call("git_log", 1200)),
])
log("search", "019acac6-c884-73b3-be6f-d76ae2440005", "2026-11-28", "cursor", "0c6d11e9", [
    ("12:00:00", "mcp_tool_call", call("web", 5100)),
])
