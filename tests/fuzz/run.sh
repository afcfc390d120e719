#!/usr/bin/env bash
# Fuzzes every target for some seconds (60), side by side: ./run.sh [seconds]; ./run.sh build makes them only.
# Ends with 1 when a target crashed, hung or found nothing to cover. The input that did it is left in artifacts/<target>.
# Runs on the stable compiler: the flags are those cargo-fuzz gives, without its address sanitizer, which needs a nightly
# (and finds little where `unsafe` is forbidden).
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:-60}
host=$(rustc -vV | sed -n 's/^host: //p')
binaries=${CARGO_TARGET_DIR:-target}/$host/release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Given with --target, so that build scripts and macros are not instrumented.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cdebug-assertions -Copt-level=3"
cargo build --locked --quiet --release --target "$host"
[ "$seconds" != build ] || exit 0

declare -A running
for source in fuzz_targets/*.rs; do
    target=$(basename "$source" .rs)
    # The run adds what it finds to a copy: the committed corpus grows only by hand.
    # Room for one more than a bound allows: RADIUS packets have 4,096 octets, LDAP filters and lists as many elements of three and more.
    case $target in ldap_*) octets=16384 ;; *) octets=4352 ;; esac
    mkdir -p "$work/$target" "artifacts/$target" "corpus/$target"
    cp -r "corpus/$target/." "$work/$target/"
    "$binaries/$target" "$work/$target" -max_total_time="$seconds" -max_len="$octets" -timeout=10 -rss_limit_mb=1024 \
        -artifact_prefix="artifacts/$target/" -print_final_stats=1 >"$work/$target.log" 2>&1 &
    running[$target]=$!
done

failed=0
for target in "${!running[@]}"; do
    log=$work/$target.log
    if ! wait "${running[$target]}"; then
        echo "$target: FAILED"
        tail -n 40 "$log"
        failed=1
        continue
    fi
    cover=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    if [ "${cover:-0}" -lt 100 ]; then
        echo "$target: FAILED: coverage ${cover:-none}: the instrumentation does not work"
        failed=1
        continue
    fi
    echo "$target: $runs runs in $seconds s, coverage $cover, no failure"
done
exit $failed
