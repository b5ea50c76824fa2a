#!/usr/bin/env bash
# The boards' queries in VictoriaMetrics against `spantap stats`; see boards.py.
exec "$REAL_TOOLS/bin/python" "$(dirname "${BASH_SOURCE[0]}")/boards.py" "$1"
