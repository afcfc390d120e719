#!/bin/bash
# Measures both gateways of a release build and writes the figures into docs/performance.md. Called by `make bench`.
set -eu
cd "$(dirname "$0")/../.."
cargo build --release --quiet -p twinlock -p bench
target/release/twinlock-bench all --page docs/performance.md "$@"
sed -n '/figures: begin/,/figures: end/p' docs/performance.md
