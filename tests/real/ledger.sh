#!/usr/bin/env bash
# Compares the sizes and calls of ten real servers with those on the wire; see ledger.py.
exec python3 "$(dirname "${BASH_SOURCE[0]}")/ledger.py" "$1"
