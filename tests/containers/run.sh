#!/bin/bash
# `make test-containers`: builds the images, runs the compose stack and the Kubernetes manifests for real, with logins through both
# gateways, and checks every manifest against the schemas of several Kubernetes versions. Needs root; no registry.
# usage: run.sh [images] [manifests] [compose] [kubernetes]     default: all of them
# Daemons, bridges and mounts live in namespaces of their own (private.sh): nothing is left behind. The logs are in
# target/containers/logs.
set -u
cd "$(dirname "$0")/../.."
if [ "$(id -u)" != 0 ]; then
    echo "run.sh: needs root: namespaces, bridges and a container daemon" >&2
    exit 2
fi
work=$(mktemp -d /tmp/twinlock-containers.XXXXXX)
cgroup=/${work##*/}
results=$work/results
: >"$results"
. tests/containers/lib.sh
private=
# SIGKILL, as unshare waits through the others; everything inside ends with it.
in_private() {
    tests/containers/private.sh "$@" &
    private=$!
    wait "$private"
    private=
}
cleanup() {
    local folder
    [ -z "$private" ] || kill -KILL "$private"
    # The kernel keeps a group of processes until it is removed.
    for folder in $(find /sys/fs/cgroup -depth -type d -path "*$cgroup*" 2>/dev/null); do rmdir "$folder" 2>/dev/null; done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
for needed in buildah podman runc dockerd docker-compose debootstrap kubectl jq curl ip oathtool ldapwhoami radclient; do
    command -v "$needed" >/dev/null || { echo "run.sh: $needed is missing; tests/lab/install.sh containers demo" >&2; exit 3; }
done
[ $# -gt 0 ] || set -- images manifests compose kubernetes
rm -rf "$state/logs"

images() {
    check "the images are built" tests/containers/build.sh
    check "stand-ins for third-party images are built" tests/containers/standins.sh
}

# Strict: a field that the version does not know is an error.
manifests() {
    local folder version
    for folder in k8s/base k8s/overlays/*; do
        check "kubectl kustomize $folder" eval "kubectl kustomize $folder >$work/rendered.yaml"
        for version in 1.28 1.31 1.34 1.37; do
            check "$folder is right for Kubernetes $version" "$venv/bin/kubernetes-validate" --strict --quiet -k "$version" "$work/rendered.yaml"
        done
    done
    for version in 1.28 1.31 1.34 1.37; do
        check "k8s/cli.yaml is right for Kubernetes $version" "$venv/bin/kubernetes-validate" --strict --quiet -k "$version" k8s/cli.yaml
    done
    sed 's/readOnlyRootFilesystem/readOnlyRootFilesytem/' "$work/rendered.yaml" >"$work/misspelt.yaml"
    refused "a misspelt field is noticed" "$venv/bin/kubernetes-validate" --strict --quiet -k 1.34 "$work/misspelt.yaml"
    check "docker-compose reads compose.yaml" docker-compose --file compose/compose.yaml config --quiet
}

for stage in "$@"; do
    echo "== $stage"
    case $stage in
    images | manifests) "$stage" ;;
    compose)
        names=$(for part in $images; do echo "docker.io/twinlock/$part:latest"; done)
        pod save --quiet --multi-image-archive --format docker-archive --output "$work/images.tar" $names docker.io/twinlock/sample-directory:latest \
            docker.io/library/postgres:15-bookworm docker.io/library/nats:2.12-alpine docker.io/otel/opentelemetry-collector:0.115.0
        in_private tests/containers/compose.sh "$work/compose" "$results" "$work/images.tar" "$cgroup"
        ;;
    kubernetes)
        mkdir -p "$work/kubernetes"
        in_private tests/containers/kubernetes.sh "$work/kubernetes" "$results"
        ;;
    *)
        echo "run.sh: no stage \"$stage\"" >&2
        exit 2
        ;;
    esac
done

failed=$(grep -c ^FAIL "$results")
echo "$(grep -c '^ok' "$results") passed, $failed failed"
[ "$failed" = 0 ] && [ -s "$results" ]
