#!/usr/bin/env bash
# Unpacks packages of Debian's rolling suite into a folder without installing them: promtool, VictoriaMetrics
# and vmalert are newer there, or only available there.
#
#   debian.sh DIR PACKAGE...      afterwards DIR/usr/bin holds the programs
#
# A private apt configuration leaves the system's lists and packages unchanged.
set -euo pipefail

target=$1
shift
packages=("$@")

private=$target.apt
rm -rf "$target.new" "$private"
mkdir -p "$target.new" "$private"/{lists/partial,archives/partial,parts,trusted}
: > "$private/status"

# Uses the mirror that the machine is configured for.
mirror=$(find /etc/apt/sources.list /etc/apt/sources.list.d -type f -exec \
    sed -nE 's/^(URIs:|deb( \[[^]]*\])?) +([a-z+]+:[^ ]*\/debian)\/?( .*)?$/\3/p' {} + 2>/dev/null | sed -n 1p || true)
[[ -n $mirror ]] || { echo "error: no Debian mirror is configured; add one to /etc/apt/sources.list" >&2; exit 1; }
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" > "$private/sources.list"

cat > "$private/apt.conf" <<CONF
Dir::State "$private";
Dir::State::status "$private/status";
Dir::Cache "$private";
Dir::Etc::sourcelist "$private/sources.list";
Dir::Etc::sourceparts "$private/parts";
Dir::Etc::preferencesparts "$private/parts";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Architecture "$(dpkg --print-architecture)";
APT::Sandbox::User "root";
CONF
export APT_CONFIG=$private/apt.conf

apt-get -qq update
(cd "$private/archives" && apt-get -qq download "${packages[@]}")
for package in "$private"/archives/*.deb; do
    dpkg-deb -x "$package" "$target.new"
done
rm -rf "$target" "$private"
mv "$target.new" "$target"
