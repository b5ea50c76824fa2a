#!/bin/sh
# The command `spantap` of the npm package on Linux and macOS. The program that fits this machine replaces this
# shell: no process stays between the host and spantap.
file=$0
while [ -L "$file" ]; do
    link=$(readlink "$file")
    case $link in
        /*) file=$link ;;
        *) file=${file%/*}/$link ;;
    esac
done
package=${file%/*}/..

# A folder of packages can be shared by machines and then has the programs of several.
machine=$(uname -sm)
case $machine in
    "Linux x86_64") fitting=linux-x64 ;;
    "Linux aarch64") fitting=linux-arm64 ;;
    "Darwin arm64") fitting="darwin-arm64 darwin-x64" ;;
    "Darwin x86_64")
        # This shell may itself run by Rosetta.
        case $(sysctl -n hw.optional.arm64 2> /dev/null) in
            1) fitting="darwin-x64 darwin-arm64" ;;
            *) fitting=darwin-x64 ;;
        esac
        ;;
    *) fitting= ;;
esac
for name in $fitting; do
    # Installed below this package, or beside it.
    for program in "$package/node_modules/@spantap/$name/bin/spantap" "$package/../@spantap/$name/bin/spantap"; do
        [ -x "$program" ] && exec "$program" "$@"
    done
done
if [ -z "$fitting" ]; then
    echo "error: spantap has no program for this system ($machine)" >&2
    echo "hint: spantap builds from its source code: cargo install --locked spantap" >&2
else
    echo "error: npm has not installed the program of spantap for this system ($machine): @spantap/${fitting%% *}" >&2
    echo "hint: npm install [--global] --include=optional spantap; if a lock file of another system leaves the program out, delete it and node_modules first" >&2
fi
exit 125
