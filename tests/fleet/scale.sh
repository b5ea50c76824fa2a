#!/usr/bin/env bash
# Runs a thousand exporters against a real collector; see scale.py.
exec "$REAL_TOOLS/bin/python" "$(dirname "${BASH_SOURCE[0]}")/scale.py" "$1"
