#!/usr/bin/env bash
# Runs the SQL of docs/operations.md in DuckDB and ClickHouse's engine; see sql.py.
exec "$REAL_TOOLS/bin/python" "$(dirname "${BASH_SOURCE[0]}")/sql.py" "$1"
