#!/bin/bash
# Installs what is missing and runs every test. Called by `make test`.
set -eu
cd "$(dirname "$0")/.."
# what incremental builds keep takes more room than everything else that is built
export CARGO_INCREMENTAL=0
mkdir -p target

echo "== format, build"
cargo fmt --all --check
# The programs that the stories start come over the network while ours are built.
tests/lab/install.sh test &
installing=$!
# On a machine without a compiler the linker comes that way, too.
command -v cc >/dev/null || { wait "$installing"; installing=""; }
# All targets at once: the programs the stories start, and the tests, with one set of features.
cargo build --workspace --all-targets --quiet || { wait; exit 1; }
[ -z "$installing" ] || wait "$installing"

if command -v cargo-nextest >/dev/null; then
    # What is to be run: while the lints hold the folder nobody can look whether something has to be built.
    cargo metadata --format-version 1 --locked >target/metadata.json
    cargo nextest list --workspace --list-type binaries-only --message-format json --cargo-quiet >target/binaries.json
fi

# Most of a test is waiting: what need not be known before takes what the tests leave of the processors.
meanwhile() {
    echo "== lints"
    cargo clippy --workspace --all-targets --quiet -- -D warnings
    if command -v cargo-deny >/dev/null; then cargo deny --offline check licenses bans sources; fi
    echo "== fuzz targets are built"
    tests/fuzz/run.sh build
}
set -m # a group of its own, which ends as one
(set -e; renice -n 19 -p "$BASHPID" >/dev/null; meanwhile) >target/meanwhile.log 2>&1 &
others=$!
set +m
trap 'kill -- -"$others" 2>/dev/null || true' EXIT

echo "== tests"
tested=0
if command -v cargo-nextest >/dev/null; then
    cargo nextest run --cargo-metadata target/metadata.json --binaries-metadata target/binaries.json || tested=$?
else
    cargo test --workspace -- --test-threads=1 || tested=$?
fi
looked=0
wait "$others" || looked=$?
trap - EXIT
cat target/meanwhile.log
[ "$tested$looked" = 00 ] || exit 1

echo "== fuzz targets, ${FUZZ_SECONDS:-60} s each"
tests/fuzz/run.sh "${FUZZ_SECONDS:-60}"
