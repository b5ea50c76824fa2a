#!/usr/bin/env bash
# Asks `spantap mcp` with real clients of both eras of the protocol; see mcp.py.
exec python3 "$(dirname "${BASH_SOURCE[0]}")/mcp.py" "$1"
