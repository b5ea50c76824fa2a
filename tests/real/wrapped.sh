#!/usr/bin/env bash
# Wrapped config files started by real clients, real servers probed, a real disk filled; see wrapped.py.
exec python3 "$(dirname "${BASH_SOURCE[0]}")/wrapped.py" "$1"
