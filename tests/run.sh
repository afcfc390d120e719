#!/bin/bash
# Installs what is missing and runs every test. Called by `make test`.
set -eu
cd "$(dirname "$0")/.."
# what incremental builds keep takes more room than everything else that is built
export CARGO_INCREMENTAL=0
tests/lab/install.sh test

echo "== format and lints"
cargo fmt --all --check
cargo clippy --workspace --all-targets --quiet -- -D warnings
if command -v cargo-deny >/dev/null; then cargo deny --offline check licenses bans sources; fi

echo "== fuzz targets, ${FUZZ_SECONDS:-60} s each"
tests/fuzz/run.sh "${FUZZ_SECONDS:-60}"

echo "== tests"
# All targets at once: the programs the stories start, and the tests, with one set of features.
cargo build --workspace --all-targets --quiet
if command -v cargo-nextest >/dev/null; then
    cargo nextest run --workspace
else
    cargo test --workspace -- --test-threads=1
fi
