# What an application does with ldap3; prints what it was told, a line a step.
# usage: with_ldap3.py URL CA session BASE CLASS        name and password of the account on two lines of standard input
#        with_ldap3.py URL CA login BASE FILTER         and of the person two more: only the password is used
import ssl
import sys

import ldap3
from ldap3.core.exceptions import LDAPException

url, ca, what, base, argument = sys.argv[1:]
name, password, *person = sys.stdin.read().splitlines()
tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=ca)
server = ldap3.Server(url, tls=tls, get_info=ldap3.ALL, connect_timeout=20)


def connect(user, secret):
    connection = ldap3.Connection(server, user, secret, receive_timeout=20)
    connection.open()
    if url.startswith("ldap://"):
        connection.start_tls()
    return connection


def step(title, work):
    try:
        work()
    except LDAPException as error:
        print(title, type(error).__name__)


def told(title, connection):
    result = connection.result
    print(title, result["result"], result["dn"], result["type"])


def entries(connection):
    found = [entry for entry in connection.response or [] if entry["type"] == "searchResEntry"]
    return sorted(str((entry["dn"], sorted(entry["raw_attributes"].items()))) for entry in found)


def login():
    service = connect(name, password)
    assert service.bind(), service.result
    service.search(base, argument, attributes=[ldap3.NO_ATTRIBUTES])
    found = [entry["dn"] for entry in service.response if entry["type"] == "searchResEntry"]
    assert len(found) == 1, found
    who = connect(found[0], person[1])
    who.bind()
    told("login", who)
    # As many do it: on the very connection that searched.
    assert service.bind(), service.result
    service.rebind(found[0], person[1])
    told("login again", service)


def session():
    wrong = connect(name, "nonsense")
    wrong.bind()
    told("wrong password", wrong)
    connection = connect(name, password)
    connection.bind()
    told("bind", connection)
    print("naming contexts", sorted(server.info.naming_contexts), "schema", len(server.schema.object_classes))
    step("who am I", lambda: print(connection.extend.standard.who_am_i()))
    for title, where, scope, filter in [
        ("base", base, ldap3.BASE, "(objectClass=*)"),
        ("people", base, ldap3.SUBTREE, "(sn=Archer)"),
        ("one level", "ou=people," + base, ldap3.LEVEL, "(objectClass=*)"),
        ("nowhere", "cn=nobody," + base, ldap3.BASE, "(objectClass=*)"),
    ]:
        connection.search(where, filter, scope, attributes=["cn", "sn"])
        told(title, connection)
        print(*entries(connection), sep="\n")
    paged = connection.extend.standard.paged_search(base, "(mail=bulk0004*)", attributes=["cn"], paged_size=4, generator=False)
    print("pages", sorted(entry["dn"] for entry in paged if entry["type"] == "searchResEntry"))
    connection.search(base, "(mail=bulk*)", size_limit=5)
    told("size limit", connection)
    unit = "ou=tried with ldap3," + base
    entry = "cn=one," + unit
    connection.add(unit, "organizationalUnit")
    told("unit", connection)
    connection.add(entry, argument, {"sn": "Probe", "description": "a"})
    told("add", connection)
    connection.add(entry, argument, {"sn": "Probe"})
    told("add again", connection)
    connection.modify(entry, {"description": [(ldap3.MODIFY_REPLACE, ["b"])], "title": [(ldap3.MODIFY_ADD, ["Präsidentin"])]})
    told("modify", connection)
    for value in ["b", "c"]:
        connection.compare(entry, "description", value)
        told("compare " + value, connection)
    connection.search(entry, "(objectClass=*)", ldap3.BASE, attributes=["cn", "description", "title"])
    told("read", connection)
    print(*entries(connection), sep="\n")
    if argument == "user":
        connection.extend.microsoft.modify_password(entry, "Sesame-one")
    else:
        connection.extend.standard.modify_password(entry, None, "Sesame-one")
    told("password", connection)
    connection.modify_dn(entry, "cn=two")
    told("rename", connection)
    connection.delete(entry)
    told("delete, missing", connection)
    connection.delete("cn=two," + unit)
    told("delete", connection)
    connection.delete(unit)
    told("delete the unit", connection)
    connection.unbind()


{"session": session, "login": login}[what]()
