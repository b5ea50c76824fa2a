#!/usr/bin/env bash
# Real servers stopped the way real hosts stop them; see hostkill.py.
exec python3 "$(dirname "${BASH_SOURCE[0]}")/hostkill.py" "$1"
