#!/bin/bash
# Builds the programs of another commit and tells the story of an upgrade with them (T-11). Called by `make test-upgrade BUILD=REF`.
set -eu
cd "$(dirname "$0")/.."
build=${1:?which commit: make test-upgrade BUILD=REF}
source=$(mktemp -d)
trap 'git worktree remove --force "$source"' EXIT
git worktree add --quiet --detach "$source" "$build"
CARGO_TARGET_DIR=$PWD/target/other cargo build --quiet --manifest-path "$source/Cargo.toml" --workspace --bins
cargo build --quiet --workspace --bins
TWINLOCK_TEST_OTHER_BUILD=$PWD/target/other/debug cargo test --workspace --test upgrade -- --nocapture
