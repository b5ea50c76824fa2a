#!/usr/bin/env bash
# Compares the boards' queries in VictoriaMetrics with `spantap stats`; see boards.py.
exec "$REAL_TOOLS/bin/python" "$(dirname "${BASH_SOURCE[0]}")/boards.py" "$1"
