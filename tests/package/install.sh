#!/usr/bin/env bash
# Makes the packages of a program, installs each without a network, and uses and removes it; see install.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
# The packages for Windows get a stand-in: only what a package manager makes of them is tested.
echo stand-in > "$packages/spantap.exe"
.ci/package/build --out "$packages/out" "x86_64-unknown-linux-gnu=$1" "x86_64-pc-windows-msvc=$packages/spantap.exe"
unshare --net bash -c 'ip link set lo up && exec python3 tests/package/install.py "$@"' - "$1" "$packages/out"
