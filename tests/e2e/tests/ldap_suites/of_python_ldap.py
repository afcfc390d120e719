# Runs what python-ldap's own tests ask of a server against one that is there already; prints a line a test: its name, and what became of it.
# usage: of_python_ldap.py TESTS LDAPS LDAP CA DIRECT SUFFIX     name and password of whoever may write on two lines of standard input
import io
import sys
import unittest

import ldap
import ldif
import slapdtest

from told import Told

tests, url, _, ca, direct, suffix = sys.argv[1:]
name, password = sys.stdin.read().splitlines()
ldap.set_option(ldap.OPT_X_TLS_CACERTFILE, ca)
ldap.set_option(ldap.OPT_NETWORK_TIMEOUT, 20)
# Who is listed as a service account is so by the id: they stay from test to test.
KEPT = {suffix, "cn=Manager," + suffix, "cn=user1," + suffix}
# Those that need no server, or one of their own, are skipped by what they ask of it.
MODULES = ["t_bind", "t_cext", "t_edit", "t_ldapobject", "t_ldap_schema_subentry", "t_ldap_syncrepl"]


class There:
    """The server, as far as tests may know it."""

    suffix = suffix
    root_cn = "Manager"
    root_dn = "cn=Manager," + suffix
    root_pw = "password"
    ldap_uri = url

    def __getattr__(self, asked):
        raise unittest.SkipTest(asked)

    def _admin(self):
        connection = ldap.initialize(direct)
        connection.simple_bind_s(name, password)
        return connection

    def start(self):
        pass

    def stop(self):
        connection = self._admin()
        found = connection.search_s(suffix, ldap.SCOPE_SUBTREE, attrlist=["1.1"])
        for dn, _ in reversed(found):
            if dn not in KEPT:
                connection.delete_s(dn)

    def ldapadd(self, text, extra_args=None):
        entries = ldif.LDIFRecordList(io.StringIO(text))
        entries.parse()
        for dn, attributes in entries.all_records:
            try:
                self._admin().add_s(dn, list(attributes.items()))
            except ldap.ALREADY_EXISTS:
                assert dn in KEPT, dn


slapdtest.SlapdTestCase.server_class = There
slapdtest._slapdtest.SlapdTestCase.server_class = There
sys.path.insert(0, tests)
unittest.defaultTestLoader.loadTestsFromNames(MODULES).run(Told())
