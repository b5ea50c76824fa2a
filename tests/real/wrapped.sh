#!/usr/bin/env bash
# Starts wrapped config files with real clients, probes real servers, fills a real disk; see wrapped.py.
exec python3 "$(dirname "${BASH_SOURCE[0]}")/wrapped.py" "$1"
