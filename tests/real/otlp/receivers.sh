#!/usr/bin/env bash
# Compares items that a third-party collector receives with the log; see receivers.py.
exec "$REAL_TOOLS/bin/python" "$(dirname "${BASH_SOURCE[0]}")/receivers.py" "$1"
