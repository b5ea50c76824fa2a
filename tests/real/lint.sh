#!/usr/bin/env bash
# Lints the tool definitions of ten real servers, and compares the findings with the list in lint.py and with a tally
# that shares no code with spantap. Needs REAL_NODE, REAL_SDK1 and REAL_SDK2 (setup/install.sh).
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
exec "$REAL_SDK2/bin/python" "$here/lint.py" "$1"
