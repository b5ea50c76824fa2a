#!/usr/bin/env bash
# offline.sh SCRIPT ARGUMENT...: runs a script of this folder in a network namespace that has loopback only.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
exec unshare --net --map-root-user sh -c 'ip link set lo up && exec "$@"' sh "$REAL_TOOLS/bin/python" "$here/$1" "${@:2}"
