# What an application does with python-ldap; prints what it was told, a line a step.
# usage: with_python_ldap.py URL CA session BASE CLASS        name and password of the account on two lines of standard input
#        with_python_ldap.py URL CA login BASE FILTER         and of the person two more: only the password is used
import sys

import ldap
import ldap.modlist
from ldap.controls import SimplePagedResultsControl
from ldap.controls.sss import SSSRequestControl

url, ca, what, base, argument = sys.argv[1:]
name, password, *person = sys.stdin.read().splitlines()


def connect():
    connection = ldap.initialize(url)
    connection.set_option(ldap.OPT_NETWORK_TIMEOUT, 20)
    connection.set_option(ldap.OPT_X_TLS_CACERTFILE, ca)
    connection.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
    if url.startswith("ldap://"):
        connection.start_tls_s()
    return connection


def step(title, work):
    try:
        told = work()
    except ldap.LDAPError as error:
        told = (type(error).__name__, error.args[0].get("result"), error.args[0].get("matched"))
    print(title, told)
    return told


def login():
    service = connect()
    service.simple_bind_s(name, password)
    found = [entry for entry in service.search_s(base, ldap.SCOPE_SUBTREE, argument, ["1.1"]) if entry[0]]
    assert len(found) == 1, found
    step("login", lambda: connect().simple_bind_s(found[0][0], person[1])[0])
    # As many do it: on the very connection that searched.
    service.simple_bind_s(name, password)
    step("login again", lambda: service.simple_bind_s(found[0][0], person[1])[0])


def session():
    connection = connect()
    step("wrong password", lambda: connection.simple_bind_s(name, "nonsense"))
    step("bind", lambda: connection.simple_bind_s(name, password)[0])
    step("who am I", connection.whoami_s)
    step("base", lambda: connection.search_s(base, ldap.SCOPE_BASE, attrlist=["objectClass"]))
    # Without the references, which the gateway leaves out.
    people = lambda: connection.search_s(base, ldap.SCOPE_SUBTREE, "(sn=Archer)", ["cn", "sn"])
    step("people", lambda: sorted(str(entry) for entry in people() if entry[0]))
    step("nowhere", lambda: connection.search_s("cn=nobody," + base, ldap.SCOPE_BASE))
    pages = SimplePagedResultsControl(True, size=4, cookie="")
    while True:
        sent = connection.search_ext(base, ldap.SCOPE_SUBTREE, "(mail=bulk0004*)", ["cn"], serverctrls=[pages])
        _, entries, _, controls = connection.result3(sent)
        print("page", sorted(str(entry) for entry in entries if entry[0]))
        pages.cookie = controls[0].cookie
        if not pages.cookie:
            break
    order = SSSRequestControl(ordering_rules=["cn"])
    sent = connection.search_ext(base, ldap.SCOPE_SUBTREE, "(sn=B*)", ["cn"], serverctrls=[order])
    step("sorted", lambda: [entry[0] for entry in connection.result3(sent)[1] if entry[0]])
    few = lambda: connection.search_ext_s(base, ldap.SCOPE_SUBTREE, "(mail=bulk*)", ["1.1"], sizelimit=5)
    step("size limit", lambda: [entry[0] for entry in few() if entry[0]])
    unit = "ou=tried with python-ldap," + base
    entry = "cn=one," + unit
    step("unit", lambda: connection.add_s(unit, [("objectClass", b"organizationalUnit")])[0])
    attributes = {"objectClass": [argument.encode()], "cn": [b"one"], "sn": [b"Probe"], "description": [b"a"]}
    step("add", lambda: connection.add_s(entry, ldap.modlist.addModlist(attributes))[0])
    step("add again", lambda: connection.add_s(entry, ldap.modlist.addModlist(attributes))[0])
    changes = [(ldap.MOD_REPLACE, "description", [b"b"]), (ldap.MOD_ADD, "title", ["Präsidentin".encode()])]
    step("modify", lambda: connection.modify_s(entry, changes)[0])
    step("compare", lambda: connection.compare_s(entry, "description", b"b"))
    step("compare, no", lambda: connection.compare_s(entry, "description", b"c"))
    step("read", lambda: connection.search_s(entry, ldap.SCOPE_BASE, attrlist=["cn", "description", "title"]))
    step("password", lambda: connection.passwd_s(entry, None, "Sesame-one"))
    step("rename", lambda: connection.rename_s(entry, "cn=two")[0])
    step("delete, missing", lambda: connection.delete_s(entry)[0])
    step("delete", lambda: connection.delete_s("cn=two," + unit)[0])
    step("delete the unit", lambda: connection.delete_s(unit)[0])
    sent = connection.search(base, ldap.SCOPE_SUBTREE, "(mail=bulk*)", ["cn"])
    connection.abandon(sent)
    step("after an abandon", lambda: connection.search_s(base, ldap.SCOPE_BASE, attrlist=["1.1"]))
    step("unbind", connection.unbind_s)


{"session": session, "login": login}[what]()
