#!/bin/bash
# Measures a decision, both gateways, RADIUS and LDAP against their peers, idle connections, many who wait, an overload and the synchronisation, built as the images are, and writes the figures into docs/performance.md. Called by `make bench`.
set -eu
cd "$(dirname "$0")/../.."
target=x86_64-unknown-linux-gnu
RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --profile image --target "$target" -p twinlock -p radius-gateway -p bench
"target/$target/image/twinlock-login-cost" --page docs/performance.md
"target/$target/image/twinlock-bench" all --tls --page docs/performance.md "$@"
"target/$target/image/twinlock-bench" overload --page docs/performance.md
"target/$target/image/twinlock-bench" sync-peer --page docs/performance.md
sed -n '/login: begin/,/login: end/p; /gateways: begin/,/gateways: end/p; /radius-peer: begin/,/radius-peer: end/p; /ldap-peer: begin/,/ldap-peer: end/p; /ldap-idle: begin/,/ldap-idle: end/p; /waiting: begin/,/waiting: end/p; /overload: begin/,/overload: end/p; /sync: begin/,/sync: end/p' docs/performance.md
