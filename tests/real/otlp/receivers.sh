#!/usr/bin/env bash
# What spantap exports, received by a collector that others wrote; see receivers.py.
exec "$REAL_TOOLS/bin/python" "$(dirname "${BASH_SOURCE[0]}")/receivers.py" "$1"
