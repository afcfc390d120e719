#!/bin/bash
# The images of the Containerfile without a registry and without a compiler in a container: the programs are built here, statically,
# and put into the same image stages. usage: build.sh [--programs-only | --as-built]
# Result: docker.io/twinlock/{twinlock,user-store,...}:latest in target/containers/storage.
set -eu
cd "$(dirname "$0")/../.."
. tests/containers/lib.sh

# --target, or procedural macros would be linked statically too and could not be loaded.
triple=$(rustc -vV | sed -n 's/^host: //p')
echo "== the programs, static ($triple, profile image)"
selected=()
for part in $images; do selected+=(-p "$part"); done
[ "${1:-}" = --as-built ] ||
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --locked --profile image --target "$triple" --bins "${selected[@]}"
[ "${1:-}" != --programs-only ] || exit 0

context=$state/context
rm -rf "$context"
mkdir -p "$context/state"
for part in $images; do
    program=twinlock-$part
    [ "$part" != twinlock ] || program=twinlock
    cp "target/$triple/image/$program" "$context/"
    if readelf --program-headers "$context/$program" | grep -q INTERP; then
        echo "build.sh: $program is not static" >&2
        exit 1
    fi
done
cp /etc/ssl/certs/ca-certificates.crt "$context/" 2>/dev/null || : >"$context/ca-certificates.crt"

# The build stage is replaced by what was built; every line of the images themselves is the one that customers get.
{
    printf 'FROM scratch AS build\nCOPY . /out/\n'
    sed '1,/^# --- the images/d' Containerfile
} >"$state/Containerfile"
grep -q '^FROM base AS twinlock' "$state/Containerfile"

echo "== the images"
for part in $images; do
    bud --file "$state/Containerfile" --target "$part" --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
        --tag "docker.io/twinlock/$part:latest" "$context"
    echo "docker.io/twinlock/$part:latest"
done
