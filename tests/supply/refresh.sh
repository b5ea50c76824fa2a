#!/usr/bin/env bash
# refresh.sh CHECKOUT: replaces fixtures/advisories by the advisories for the crates of Cargo.lock in CHECKOUT, a
# checkout of https://github.com/rustsec/advisory-db. Then correct the date in fixtures/advisories/README.md.
set -euo pipefail
checkout=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/../../fixtures/advisories"
rm -rf crates
mkdir crates
sed -n 's/^name = "\(.*\)"/\1/p' ../../Cargo.lock | LC_ALL=C sort -u > covered
while read -r name; do
    [[ ! -d $checkout/crates/$name ]] || cp -r "$checkout/crates/$name" crates/
done < covered
