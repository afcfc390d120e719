#!/bin/bash
# Builds what takes the place of third-party images (Containerfile.standins), and the sample directory from its own Containerfile.
# The Debian they stand on is made once, by debootstrap, and kept in target/containers.
set -eu
cd "$(dirname "$0")/../.."
. tests/containers/lib.sh

debian=localhost/twinlock-test/debian:bookworm
if [ ! -f "$state/bookworm.tar" ]; then
    echo "== a Debian to stand on"
    rootfs=$(mktemp -d "$state/rootfs.XXXXXX")
    trap 'rm -rf "$rootfs"' EXIT
    debootstrap --variant=minbase --include=ca-certificates bookworm "$rootfs" http://deb.debian.org/debian >"$state/debootstrap.log" 2>&1 ||
        { tail -n 5 "$state/debootstrap.log" >&2; exit 1; }
    rm -rf "$rootfs"/var/cache/apt/archives/*.deb "$rootfs"/var/lib/apt/lists/*
    tar -C "$rootfs" -cf "$state/bookworm.tar.new" .
    mv "$state/bookworm.tar.new" "$state/bookworm.tar"
fi
pod image exists "$debian" || pod import --quiet -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' "$state/bookworm.tar" "$debian" >/dev/null

"$venv/bin/pip" show -q rotel 2>/dev/null || "$venv/bin/pip" install -q --disable-pip-version-check rotel
context=$state/standins
rm -rf "$context"
mkdir -p "$context"
cp tests/containers/*-entrypoint.sh "$context/"
cp "$venv/bin/nats-server" "$context/"
cp "$venv"/lib/python3*/site-packages/rotel/rotel-agent "$context/"

echo "== stand-ins, under the names that compose and k8s use"
while read -r target name; do
    bud --file tests/containers/Containerfile.standins --target "$target" --tag "$name" "$context"
    echo "$name"
done <<'LIST'
postgres docker.io/library/postgres:15-bookworm
nats docker.io/library/nats:2.12-alpine
collector docker.io/otel/opentelemetry-collector:0.115.0
pause localhost/twinlock-test/pause:latest
LIST
bud --file compose/sample/Containerfile --build-arg "BASE=$debian" --tag docker.io/twinlock/sample-directory:latest compose/sample
echo docker.io/twinlock/sample-directory:latest
