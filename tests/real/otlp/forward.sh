#!/usr/bin/env bash
# Compares what `collect --forward` passes on with what agents sent; see forward.py.
exec "$REAL_TOOLS/bin/python" "$(dirname "${BASH_SOURCE[0]}")/forward.py" "$1"
