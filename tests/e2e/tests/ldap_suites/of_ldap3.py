# Runs what ldap3's own tests ask of a server against one that is there already; prints a line a test: its name, and what became of it.
# usage: of_ldap3.py TESTS LDAPS LDAP CA DIRECT SUFFIX     name and password of whoever may write on two lines of standard input
import importlib
import io
import itertools
import ssl
import sys
import types
import unittest
from urllib.parse import urlsplit

import ldap3
from told import Told

tests, ldaps, plain, ca, direct, suffix = sys.argv[1:]
name, password = sys.stdin.read().splitlines()
ports = [str(urlsplit(url).port) for url in (ldaps, plain)]
# Those that need no server, another make of it, or one at the usual ports, are left out.
MODULES = [
    "testAbandonOperation", "testAbstractionAuxiliaryClass", "testAbstractionDefs", "testAbstractionDefsFromSchema",
    "testAbstractionSearch", "testAbstractionWrite", "testAddMembersToGroups", "testAddOperation", "testBindOperation",
    "testBytesOperation", "testCheckGroupMembership", "testCheckNamesFalse", "testCheckNamesTrue", "testCheckedAttributes",
    "testCompareOperation", "testConnection", "testControls", "testDeleteOperation", "testExtendedOperations",
    "testExtensions", "testLDIF-change", "testLDIF-content", "testModifyDNOperation", "testModifyOperation",
    "testRebindOperation", "testRemoveMembersFromGroups", "testSchema", "testSearchAndModifyEntries",
    "testSearchOperation", "testSearchOperationEntries", "testSearchOperationJSON", "testTls", "testWriterCursor",
]
BASE, MOVED = "ou=fixtures," + suffix, "ou=moved," + suffix


class Config(types.ModuleType):
    """What the tests know of their server: the module `test.config`, which its author keeps to himself."""

    test_strategy = ldap3.SYNC

    def __init__(self):
        super().__init__("test.config")
        self.batches = itertools.count(10_000)
        self.test_server_type, self.test_server = "SLAPD", "127.0.0.1"
        self.test_port_ssl, self.test_port = map(int, ports)
        self.test_base, self.test_moved = BASE, MOVED
        self.test_name_attr, self.test_int_attr = "cn", "gidNumber"
        self.test_multivalued_attribute, self.test_singlevalued_attribute = "givenname", "employeeNumber"
        self.test_user, self.test_password = "cn=Manager," + suffix, "password"
        self.test_secondary_user, self.test_secondary_password = "cn=user1," + suffix, "user1_pw"
        self.test_user_password = "Sesame-ldap3"
        self.test_authentication, self.test_get_info, self.test_server_mode = ldap3.SIMPLE, ldap3.ALL, ldap3.IP_SYSTEM_DEFAULT
        self.test_check_names = self.test_auto_escape = self.test_auto_encode = True
        self.test_lazy_connection = False
        self.test_validator = {}
        self.test_ca_cert_file = ca
        # Of other makes, and of binds that neither a directory here nor the gateway offers.
        for other in ["sasl_user", "sasl_password", "sasl_user_dn", "sasl_realm", "sasl_secondary_user", "sasl_secondary_user_dn",
                      "sasl_secondary_password", "ntlm_user", "ntlm_password", "server_context", "server_edir_name", "root_partition",
                      "valid_names", "user_cert_file", "user_key_file", "pooling_strategy", "pooling_active", "pooling_exhaust"]:
            setattr(self, "test_" + other, "")

    def random_id(self):
        """The same in each run, so that what is said about it is."""
        return "%d" % next(self.batches)

    def generate_dn(self, base, batch, name):
        return "%s=%s%s,%s" % (self.test_name_attr, batch, name, base)

    def get_connection(self, bind=True, use_ssl=True, check_names=True, lazy_connection=False, authentication=ldap3.SIMPLE, get_info=ldap3.ALL,
                       simple_credentials=(None, None), receive_timeout=20, auto_escape=True, auto_encode=True, usage=True,
                       internal_decoder=True, **of_other_binds):
        if any(of_other_binds.values()):
            raise unittest.SkipTest("SASL")
        tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=ca, version=ssl.PROTOCOL_TLS_CLIENT)
        port = self.test_port_ssl if use_ssl else self.test_port
        server = ldap3.Server(self.test_server, port=port, use_ssl=use_ssl, tls=tls, get_info=get_info, mode=self.test_server_mode)
        who = (None, None) if authentication == ldap3.ANONYMOUS else (self.test_user, self.test_password)
        return ldap3.Connection(
            server, auto_bind=bind, client_strategy=self.test_strategy, authentication=authentication, lazy=lazy_connection,
            user=simple_credentials[0] or who[0], password=simple_credentials[1] or who[1], pool_name="one", pool_size=2,
            check_names=check_names, collect_usage=usage, fast_decoder=internal_decoder, receive_timeout=receive_timeout,
            auto_escape=auto_escape, auto_encode=auto_encode,
        )

    def get_response_values(self, told, connection):
        """What an operation brought, whatever the way of the connection: whether it went well, its result, response and request."""
        if isinstance(told, tuple):
            return told
        if connection.strategy.sync:
            return told, connection.result, connection.response, connection.request
        response, result, request = connection.get_response(told, get_request=True)
        return result["description"] == "success", result, response, request

    def get_operation_result(self, connection, told):
        return self.get_response_values(told, connection)[1]

    def drop_connection(self, connection, entries=()):
        for dn, _ in entries or ():
            self.get_operation_result(connection, connection.delete(dn))
        connection.unbind()
        if connection.strategy.pooled:
            connection.strategy.terminate()

    def get_add_user_attributes(self, batch, name, password=None, attributes=None):
        given = {"objectClass": ["inetOrgPerson", "posixAccount", "top"], "sn": name, "uid": batch + name, "uidNumber": 0,
                 "gidNumber": 0, "homeDirectory": "/"}
        return {**given, **(attributes or {})}

    def add_user(self, connection, batch, name, password=None, attributes=None, test_bytes=False):
        attributes = self.get_add_user_attributes(batch, name, password, attributes)
        return self.added(connection, self.generate_dn(BASE, batch, name), attributes, test_bytes)

    def add_group(self, connection, batch, name, members=(), test_bytes=False):
        attributes = {"objectClass": "groupOfNames", "member": [dn for dn, _ in members or ()]}
        return self.added(connection, self.generate_dn(BASE, batch, name), attributes, test_bytes)

    def added(self, connection, dn, attributes, as_octets):
        if as_octets:
            octets = lambda value: value.encode() if isinstance(value, str) else value
            attributes = {name: list(map(octets, value)) if isinstance(value, list) else octets(value) for name, value in attributes.items()}
        result = self.get_operation_result(connection, connection.add(dn, None, attributes))
        assert result["description"] == "success", "%s: %s" % (dn, result)
        return dn, result


def clear(directory):
    for base in (BASE, MOVED):
        if directory.search(base, "(objectClass=*)", attributes=["1.1"]):
            for entry in reversed(directory.response):
                directory.delete(entry["dn"])


def same(said):
    """Without what is another each time."""
    for port in ports:
        said = said.replace(port, "PORT")
    return said


directory = ldap3.Connection(ldap3.Server(direct, get_info=ldap3.NONE), name, password, auto_bind=True)
clear(directory)
for base in (BASE, MOVED):
    assert directory.add(base, "organizationalUnit"), directory.result
sys.path.insert(0, tests)
sys.modules["test"], sys.modules["test.config"] = types.ModuleType("test"), Config()
# Some tests print.
sys.stdout = io.StringIO()
for module in MODULES:
    # They wait for servers that are told of changes by others.
    importlib.import_module(module).sleep = lambda seconds: None
unittest.defaultTestLoader.loadTestsFromNames(MODULES).run(Told(same))
clear(directory)
