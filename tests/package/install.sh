#!/usr/bin/env bash
# Makes the packages of a program, installs each without a network, and uses and removes it; see install.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
# The packages for other systems get stand-ins of a few bytes: only what a package manager makes of them is tested.
printf 'MZ' > "$packages/spantap.exe"
printf '\xcf\xfa\xed\xfe\x0c\x00\x00\x01' > "$packages/mach-o"
printf '\x7fELF\x02\x01%012d\xb7\x00%044d' 0 0 | tr 0 '\0' > "$packages/elf"
# The modes of the packages do not depend on this.
umask 077
.ci/package/build --out "$packages/out" "x86_64-unknown-linux-gnu=$1" "x86_64-pc-windows-msvc=$packages/spantap.exe" \
    "aarch64-apple-darwin=$packages/mach-o" "aarch64-unknown-linux-musl=$packages/elf"
unshare --net bash -c 'ip link set lo up && exec python3 tests/package/install.py "$@"' - "$1" "$packages/out"
