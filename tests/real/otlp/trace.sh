#!/usr/bin/env bash
# Follows one trace from an agent to its servers; see trace_test.py.
exec "$REAL_TOOLS/bin/python" "$(dirname "${BASH_SOURCE[0]}")/trace_test.py" "$1"
