#!/usr/bin/env bash
# Runs real clients and servers with spantap between them; see sessions.py.
exec python3 "$(dirname "${BASH_SOURCE[0]}")/sessions.py" "$1"
