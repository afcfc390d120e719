"""What GitLab does at a sign-in, step for step: bind as its own account, search, bind as what was found.

Settings come as JSON on stdin; what happened at each step goes to stdout as JSON.
"""

import json
import ssl
import sys

import ldap3
from ldap3.utils.conv import escape_filter_chars

given = json.load(sys.stdin)
tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=given["ca"], version=ssl.PROTOCOL_TLS_CLIENT)
server = ldap3.Server("127.0.0.1", port=given["port"], use_ssl=True, tls=tls, get_info=ldap3.NONE)
steps = []


def bind(connection, who, password):
    """Another one on the same connection."""
    connection.rebind(user=who, password=password)
    steps.append(connection.result["result"])
    return connection.result["result"] == 0


def connect(who, password):
    fresh = ldap3.Connection(server, user=who, password=password, auto_referrals=False, receive_timeout=60)
    fresh.bind()
    steps.append(fresh.result["result"])
    return fresh


def search(connection, attributes):
    name = escape_filter_chars(given["uid"])
    connection.search(given["base"], f"(&(objectClass=person)(uid={name}))", attributes=attributes, size_limit=2)
    steps.append(connection.result["result"])
    return [entry["dn"] for entry in connection.response or [] if entry["type"] == "searchResEntry"]


def gitlab():
    """One connection looks the person up, another searches again and becomes that person; later the account is looked at."""
    lookup = connect(given["account"], given["account_password"])
    found = search(lookup, ["mail", "cn"])
    attempt = connect(given["account"], given["account_password"])
    assert search(attempt, ["1.1"]) == found
    right = bind(attempt, found[0], given["password"])
    attempt.unbind()
    return right and search(lookup, ["mail"]) == found


print(json.dumps({"in": gitlab(), "steps": steps}))
