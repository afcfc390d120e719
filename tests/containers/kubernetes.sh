#!/bin/bash
# The Kubernetes manifests for real, as far as that goes without a cluster: every pod of the rendered overlay `single` runs under
# `podman play kube` with its security context, volumes, config map and secret, the probes are asked as a kubelet would, and people
# log in through both gateways. Services and network policies need a cluster. Called by run.sh inside of private.sh.
# usage: kubernetes.sh WORK RESULTS
set -u
work=$1 results=$2
cd "$(dirname "$0")/../.."
. tests/containers/lib.sh
. tests/containers/login.sh

rm -rf "$state/tmp" "$state/networks" # as after a restart of the machine: nothing of before runs
nothing_left() {
    pod pod rm --all --force --time 10
    pod rm --all --force --time 3
    pod volume rm --all --force
    pod secret rm --all
    pod network rm twinlock
} >/dev/null 2>&1
nothing_left
pod network create --subnet 10.77.0.0/24 twinlock >/dev/null || { note "a network" 1 ""; exit 1; }
declare -A address=([openldap-1]=10.77.0.10 [nats-1]=10.77.0.11 [postgres-1]=10.77.0.12 [user-store-1]=10.77.0.13
    [verification-1]=10.77.0.14 [directory-sync-1]=10.77.0.15 [portal-1]=10.77.0.16 [ldap-gateway-1]=10.77.0.17
    [radius-gateway-1]=10.77.0.18 [ldap-gateway-2]=10.77.0.19 [radius-gateway-2]=10.77.0.20)
for name in openldap nats postgres user-store verification ldap-gateway; do echo "$name ${address[$name-1]}"; done >"$work/addresses"
kubectl kustomize k8s/overlays/single >"$work/single.yaml"

# As docs/operating/kubernetes.md says: init makes the secrets, each folder becomes the secret of a part.
mkdir -p "$work/secrets"
check "init in a container" pod run --rm --network none --user 0:0 --volume "$work/secrets:/secrets" docker.io/twinlock/twinlock:latest \
    init --distributed /secrets --owner 10001 --certificate openldap --host mfa.example.test
check "pods from the rendered manifests" "$venv/bin/python" tests/containers/pods.py pods "$work/single.yaml" "$work/secrets" "$work/addresses" "$work/pods"

pod run --detach --name openldap-1 --network "twinlock:ip=${address[openldap-1]}" --user 10001:10001 --read-only --cap-drop ALL \
    --tmpfs /data:mode=1777 --tmpfs /tmp --volume "$work/secrets/openldap:/run/secrets/twinlock:ro" \
    --volume "$PWD/tests/lab/data/company.ldif:/company.ldif:ro" docker.io/twinlock/sample-directory:latest >/dev/null

# What a kubelet does and podman 4.3 does not: a secret's files are its octets and not their base64, belong to the pod's group and have
# mode 0440 (defaultMode); folders that may be written belong to the group too (fsGroup). Before a volume's first use; podman
# writes those of a secret again for every pod.
ready_volumes() { # SECRET
    local volume folder
    mkdir -p "$work/volumes"
    for volume in $(pod volume ls --quiet); do
        mkdir "$work/volumes/$volume" 2>/dev/null || [ "$volume" = "$1" ] || continue
        folder=$(pod volume inspect --format '{{.Mountpoint}}' "$volume")
        [[ $volume != twinlock-* ]] || cp "$work/secrets/${volume#twinlock-}"/* "$folder/"
        chown -R 0:10001 "$folder"
        chmod -R g+rwX "$folder"
        [[ $volume != twinlock-* ]] || chmod 0440 "$folder"/*
    done
}
play() {
    local name=$1
    pod play kube --network "twinlock:ip=${address[$name]}" --start=false "$work/pods/$name.yaml" || return 1
    ready_volumes "twinlock-${name%-*}"
    pod pod start "$name"
}
answers() { curl --silent --fail --max-time 3 --output /dev/null "http://${address[$1]}:$2"; }
# What is missing now would make everything after it wait in vain.
stop_if_failed() { if grep -q ^FAIL "$results"; then keep_logs; exit 1; fi; }
keep_logs() {
    local container
    mkdir -p "$state/logs"
    for container in $(pod ps --all --format '{{.Names}}'); do pod logs "$container" >"$state/logs/pod-$container.log" 2>&1; done
}
part_runs() {
    local part=${1%-*} probe
    check "podman play kube: $1" play "$1"
    stop_if_failed
    for probe in $("$venv/bin/python" tests/containers/pods.py probes "$work/single.yaml" "$part"); do
        check "$1 answers its probe :$probe" until_true 60 answers "$1" "$probe"
    done
}

check "podman play kube: nats" play nats-1
check "podman play kube: postgres" play postgres-1
stop_if_failed
listens() { pod exec postgres-1-postgres pg_isready -q -h 127.0.0.1 -U twinlock -d twinlock; }
check "postgres answers its probe" until_true 60 listens
check "nats answers its probe" until_true 30 pod exec nats-1-nats wget -q -O /dev/null http://127.0.0.1:8222/healthz
for name in user-store-1 verification-1 directory-sync-1 ldap-gateway-1 ldap-gateway-2 radius-gateway-1 radius-gateway-2 portal-1; do
    part_runs "$name"
done

hosts=()
while read -r name ip; do hosts+=(--add-host "$name:$ip"); done <"$work/addresses"
sed 's#172.30.77.0/24#10.77.0.0/24#' compose/sample/settings.toml >"$work/secrets/settings.toml"
cp compose/sample/directory.password "$work/secrets/"
cli() {
    pod run --rm --interactive --network twinlock "${hosts[@]}" --user 10001:10001 --read-only --cap-drop ALL \
        --env TWINLOCK_CONFIG=/etc/twinlock/admin.toml --volume "$work/secrets/config/admin.toml:/etc/twinlock/admin.toml:ro" \
        --volume "$work/secrets/admin:/run/secrets/twinlock:ro" --volume "$work/secrets/settings.toml:/sample/settings.toml:ro" \
        --volume "$work/secrets/directory.password:/sample/directory.password:ro" docker.io/twinlock/twinlock:latest "$@"
}
applied=$(cli settings apply /sample/settings.toml -o json </dev/null)
check "settings apply" jq -e '.revision > 0' <<<"$applied"
secret=$(jq -r '.generated["client.vpn.secret"]' <<<"$applied")
check "sync now" cli sync now -o table </dev/null

# Two names of the certificate, for two nodes. /etc is private.sh's own.
mountpoint -q /etc && printf '%s ldap-gateway\n%s mfa.example.test\n' "${address[ldap-gateway-1]}" "${address[ldap-gateway-2]}" >>/etc/hosts
both_gateways "${address[radius-gateway-1]}:11812" "${address[radius-gateway-2]}:11812" \
    ldap://ldap-gateway:1389 ldap://mfa.example.test:1389 ldaps://ldap-gateway:1636 "$secret"
check "the portal answers" curl --silent --show-error --fail --location --output /dev/null --cacert "$work/secrets/ca/ca.crt" \
    --connect-to "localhost:443:${address[portal-1]}:8443" https://localhost/

pod logs nats-1-nats >"$work/nats.log" 2>&1
refused "NATS refused no part anything" grep -i 'violation\|authorization error' "$work/nats.log"
keep_logs
nothing_left
