#!/usr/bin/env bash
# Four real agents that call a tool in a loop and then ask `spantap mcp` about it. Needs what agents.sh needs.
exec "$(dirname "${BASH_SOURCE[0]}")/agents/offline.sh" ask.py "$@"
