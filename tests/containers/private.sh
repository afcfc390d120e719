#!/bin/bash
# Runs a command that may start daemons, bridges and mounts: in network, mount and process namespaces of its own, with an empty /run.
# When the command ends everything it started ends, and nothing is left. usage: private.sh COMMAND... (root)
set -eu
if [ "${1:-}" != --inside ]; then
    exec unshare --net --mount --propagation private --pid --fork --kill-child=KILL "$0" --inside "$@"
fi
shift
mount -t proc proc /proc
ip link set lo up
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock
# A new network namespace wants a new /sys, and that the old cgroups under it.
mkdir /run/cgroup
mount --rbind /sys/fs/cgroup /run/cgroup
mount -t sysfs sysfs /sys
mount --rbind /run/cgroup /sys/fs/cgroup
# What daemons write beside their own folders goes away with them.
for folder in /etc /opt /var/lib; do
    mkdir -p "/run/above$folder" "/run/beside$folder"
    mount -t overlay -o "lowerdir=$folder,upperdir=/run/above$folder,workdir=/run/beside$folder" overlay "$folder"
done
"$@"
