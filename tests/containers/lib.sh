# What the container tests share: where things lie, buildah and podman with storage of their own, and the counting of checks.
# To be sourced. Nothing outside of target/containers and the caller's temporary folder is written.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
state=$root/target/containers
venv=$root/target/lab-venv
parts="user-store verification ldap-gateway radius-gateway directory-sync portal"
images="twinlock $parts"
nofile=$(ulimit -Hn)
nproc=$(ulimit -Hu)
pid_max=$(cat /proc/sys/kernel/pid_max)
[ "$nproc" != unlimited ] && [ "$nproc" -lt "$pid_max" ] || nproc=$pid_max

mkdir -p "$state"

# runc, because crun refuses hybrid cgroups; no limit above the hard one, because raising those may be forbidden.
cat >"$state/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=$nofile:$nofile", "nproc=$nproc:$nproc"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "$state/tmp"
infra_image = "localhost/twinlock-test/pause:latest"
[network]
network_backend = "cni"
network_config_dir = "$state/networks"
CONF
export CONTAINERS_CONF=$state/containers.conf BUILDAH_ISOLATION=chroot

storage() { printf -- '--root %s --runroot %s --storage-driver overlay' "$state/storage" "$state/runroot"; }
bud() { buildah $(storage) bud --quiet --isolation chroot --network host --layers "$@" >/dev/null; }
pod() { podman $(storage) "$@"; }

# check NAME COMMAND...: one line for each; the output of what failed.
check() {
    local name=$1 output code
    shift
    output=$("$@" 2>&1)
    code=$?
    note "$name" "$code" "$output"
}

# refused NAME COMMAND...: must end with an error.
refused() {
    local name=$1 output code
    shift
    output=$("$@" 2>&1)
    code=$?
    note "$name" "$((code == 0))" "$output"
}

# The results of every script of a run are counted in one file.
note() {
    if [ "$2" = 0 ]; then
        printf 'ok    %s\n' "$1" | tee -a "$results"
    else
        printf 'FAIL  %s\n' "$1" | tee -a "$results"
        [ -z "$3" ] || printf '%s\n' "$3" | tail -n 12 | sed 's/^/      | /'
    fi
}

# until SECONDS COMMAND...: tries until it succeeds.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.3
    done
}
