#!/usr/bin/env bash
# Installs the real counterparts for tests/real, each kind in its own folder below ~/.cache/spantap-ci. The
# folder's name ends in a digest of the pinned versions, so a second run reuses it and a changed version makes a
# new one. Prints shell assignments for eval: REAL_NODE, REAL_SDK1, REAL_SDK2, REAL_TOOLS, REAL_AGENTS,
# REAL_DEBIAN, REAL_WINDOWS_NODE.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SPANTAP_CI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spantap-ci}
mkdir -p "$cache"

digest() { cat "$@" | sha256sum | cut -c1-12; }

# provide NAME VARIABLE DIGEST COMMAND...: runs COMMAND FOLDER unless FOLDER is complete.
provide() {
    local name=$1 variable=$2 folder=$cache/$1-$3
    shift 3
    if [[ ! -e $folder/.complete ]]; then
        echo "installing $name" >&2
        local start=$SECONDS
        rm -rf "$folder"
        "$@" "$folder" >&2
        touch "$folder/.complete"
        echo "installed $name in $((SECONDS - start)) s" >&2
    fi
    printf '%s=%q\n' "$variable" "$folder"
}

node_modules() {
    mkdir -p "$1"
    cp "$here"/package.json "$here"/package-lock.json "$1"
    # Inspector requires a newer Node than Debian's, but its command line works on 20.
    (cd "$1" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
}

python_environment() {
    python3 -m venv "$2"
    "$2/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$here/$1.txt"
}

# Agents need their install scripts, and a newer Node than Debian's. They bundle what they need, so the versions in
# package.json pin nearly all. A lock file would also list packages of other systems, which not every registry has.
agents() {
    mkdir -p "$1"
    cp "$here"/agents/package.json "$1"
    (cd "$1" && npm install --no-package-lock --no-audit --no-fund --loglevel=error)
    python3 -m venv "$1/node"
    "$1/node/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$here/agents/node.txt"
}

# Node for Windows, which tests/wine runs under wine.
windows_node() {
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --platform win_amd64 --only-binary=:all: \
        --requirement "$here/windows.txt" --dest "$1"
    python3 -m zipfile -e "$1"/*.whl "$1"
    rm "$1"/*.whl
}

debian_packages() { "$here/debian.sh" "$1" promtool victoria-metrics; }

provide node REAL_NODE "$(digest "$here"/package-lock.json)" node_modules
provide sdk1 REAL_SDK1 "$(digest "$here"/sdk1.txt)" python_environment sdk1
provide sdk2 REAL_SDK2 "$(digest "$here"/sdk2.txt)" python_environment sdk2
provide tools REAL_TOOLS "$(digest "$here"/tools.txt)" python_environment tools
provide agents REAL_AGENTS "$(digest "$here"/agents/package.json "$here"/agents/node.txt)" agents
provide windows-node REAL_WINDOWS_NODE "$(digest "$here"/windows.txt)" windows_node
provide debian REAL_DEBIAN "$(digest "$here"/debian.sh)" debian_packages
