#!/bin/bash
# The compose stack for real: a private dockerd, `docker-compose up`, the sample company, logins through both nodes of both gateways.
# Called by run.sh inside of private.sh, usage: compose.sh WORK RESULTS IMAGES CGROUP
set -u
work=$1 results=$2 archive=$3 cgroup=$4
cd "$(dirname "$0")/../.."
. tests/containers/lib.sh
. tests/containers/login.sh

mkdir -p "$work"
echo '{}' >"$work/daemon.json"
dockerd --config-file "$work/daemon.json" --data-root "$work/docker" --exec-root "$work/exec" --pidfile "$work/dockerd.pid" \
    --host "unix://$work/docker.sock" --storage-driver overlay2 --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "$cgroup" \
    --default-ulimit "nofile=$nofile:$nofile" --bip 172.30.76.1/24 >"$work/dockerd.log" 2>&1 &
dockerd=$!
export DOCKER_HOST=unix://$work/docker.sock COMPOSE_PROJECT_NAME=twinlock TWINLOCK_SECRETS=$work/secrets
if ! until_true 30 docker version; then
    note "dockerd starts" 1 "$(tail -n 5 "$work/dockerd.log")"
    exit 1
fi
docker load --quiet --input "$archive" >/dev/null || note "the images are loaded" 1 ""

stack() { docker-compose --file compose/compose.yaml "$@"; }
cli() { stack run --rm -T cli "$@" 2> >(grep -v -e '^Creating ' -e '^Starting ' >&2); }
container() { printf 'twinlock_%s_1' "$1"; }
every="user-store-1 user-store-2 verification-1 verification-2 ldap-gateway-1 ldap-gateway-2 radius-gateway-1 radius-gateway-2 directory-sync-1 directory-sync-2 portal-1 portal-2"
healthy() { [ "$(docker inspect --format '{{.State.Health.Status}}' "$(container "$1")")" = healthy ]; }

check "docker-compose up: every condition is met in its order" stack up --detach
if grep -q ^FAIL "$results"; then
    for container in $(docker ps --all --format '{{.Names}}'); do printf -- '--- %s\n%s\n' "$container" "$(docker logs --tail 5 "$container" 2>&1)"; done
    exit 1
fi
for service in $every nats postgres openldap; do
    check "$service is healthy" until_true 60 healthy "$service"
done
check "init made the secrets and ended with 0" test "$(docker inspect --format '{{.State.ExitCode}}' "$(container init)")" = 0
before=$(find "$work/secrets" -type f -exec sha256sum {} + | sort)
check "init again changes nothing" stack run --rm -T init
check "not one file" test "$before" = "$(find "$work/secrets" -type f -exec sha256sum {} + | sort)"
check "the configurations are those of k8s/base/config" diff -r --exclude admin.toml "$work/secrets/config" k8s/base/config
hardened() {
    docker inspect --format '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}' "$(container "$1")"
}
for service in $every nats postgres collector openldap; do
    check "$service: not root, nothing to write, no capabilities" test "$(hardened "$service")" = '10001:10001 true [ALL] [no-new-privileges:true]'
done

applied=$(cli settings apply /sample/settings.toml -o json)
check "settings apply" jq -e '.revision > 0' <<<"$applied"
secret=$(jq -r '.generated["client.vpn.secret"]' <<<"$applied")
check "the directory answers" cli check --connect
check "sync now" cli sync now -o table
check "120 people are in the store" test "$(cli user list --limit 1000 -o json | jq '.items | length')" -ge 120

both_gateways 127.0.0.1:1812 127.0.0.1:2812 ldap://127.0.0.1:1389 ldap://127.0.0.1:2389 ldaps://127.0.0.1:1636 "$secret"

# As a device on the same network, by the command line that plays one.
address=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$(container radius-gateway-2)")
printf '%s\n' "$secret" >"$work/vpn.secret"
played() { printf '%s\nSesame-clara.osborn,%s\n' "$secret" "$(code clara.osborn 1)" |
    cli test radius --server "$address:11812" --user clara.osborn --secret-file - --password-file -; }
check "RADIUS from another container" played

for port in 8443 9443; do
    check "the portal answers at $port" curl --silent --show-error --fail --location --output /dev/null --cacert "$work/secrets/ca/ca.crt" "https://localhost:$port/"
done

check "one node of each is killed" docker kill "$(container user-store-1)" "$(container verification-1)" "$(container ldap-gateway-1)"
check "and logins go on" ldap ldap://127.0.0.1:2389 greta.cole "Sesame-greta.cole,$(code greta.cole 1)"
check "the audit is whole" cli audit verify

docker logs "$(container collector)" >"$work/collector.log" 2>&1
check "the collector received the spans of a RADIUS login" grep -q 'radius.request' "$work/collector.log"
check "and those of the decision" grep -q 'policy.decide' "$work/collector.log"
docker logs "$(container nats)" >"$work/nats.log" 2>&1
refused "NATS refused no part anything" grep -i 'violation\|authorization error' "$work/nats.log"
for service in $every; do docker logs "$(container "$service")"; done >"$work/parts.log" 2>&1
refused "no secret in a log" grep -F -e "$secret" -e Sesame- -e Service-twinlock -e "$(cat "$work/seed.ann.archer")" "$work/parts.log" "$work/collector.log" "$work/nats.log"

check "docker-compose stop" stack stop --timeout 75
for service in user-store-2 verification-2 ldap-gateway-2 radius-gateway-1 directory-sync-1 portal-1; do
    check "$service ended with 0" test "$(docker inspect --format '{{.State.ExitCode}}' "$(container "$service")")" = 0
done
mkdir -p "$state/logs"
cp "$work"/*.log "$state/logs/"
for service in $every init postgres openldap; do docker logs "$(container "$service")" >"$state/logs/$service.log" 2>&1; done
stack down --volumes --timeout 5 >/dev/null 2>&1
kill "$dockerd"
wait "$dockerd"
