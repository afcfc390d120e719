#!/bin/sh
# Loads the sample people into an empty database and serves them.
set -eu
if [ ! -e /data/data.mdb ]; then
    slapadd -q -f /opt/sample/slapd.conf -l /company.ldif
fi
exec slapd -f /opt/sample/slapd.conf -h "ldap://0.0.0.0:1389 ldaps://0.0.0.0:1636" -d stats
