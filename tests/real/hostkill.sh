#!/usr/bin/env bash
# Stops real servers in the ways of real hosts; see hostkill.py.
exec python3 "$(dirname "${BASH_SOURCE[0]}")/hostkill.py" "$1"
