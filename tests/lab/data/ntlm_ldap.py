"""An LDAP server that knows one account and binds it by NTLM inside TLS, with pyspnego at its end: it looks at the channel binding,
as Active Directory does where LdapEnforceChannelBinding is 2, and answers in its words.

usage: ntlm_ldap.py PORT CERTIFICATE KEY (the account stands in the file that NTLM_USER_FILE names: DOMAIN:USER:PASSWORD)
"""

import socket
import ssl
import sys
import threading

import spnego
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from ldap3.protocol.rfc4511 import LDAPMessage
from pyasn1.codec.ber import decoder, encoder
from spnego._ntlm_raw.messages import Authenticate, AvId, NTClientChallengeV2
from spnego.exceptions import BadBindingsError, SpnegoError

SUCCESS, IN_PROGRESS, INVALID_CREDENTIALS = 0, 14, 49
WORDS = "LdapErr: DSID-0C090597, comment: AcceptSecurityContext error, data %s, v4563"


def end_point(certificate):
    """RFC 5929 section 4.1"""
    algorithm = certificate.signature_hash_algorithm
    if algorithm.name in ("md5", "sha1"):
        algorithm = hashes.SHA256()
    return b"tls-server-end-point:" + certificate.fingerprint(algorithm)


def response(message_id, code, text="", token=None):
    def element(tag, content):
        length = len(content)
        size = bytes([length]) if length < 128 else b"\x82" + length.to_bytes(2, "big")
        return bytes([tag]) + size + content

    body = element(0x0A, bytes([code])) + element(4, b"") + element(4, text.encode())
    if token is not None:
        body += element(0x87, token)
    return element(0x30, element(2, message_id.to_bytes(4, "big")) + element(0x61, body))


def receive(stream):
    octets = b""
    while True:
        more = stream.recv(4096)
        if not more:
            return None
        octets += more
        try:
            message, rest = decoder.decode(octets, asn1Spec=LDAPMessage())
        except Exception:
            continue
        assert not rest
        return message


def is_unbound(token):
    """A client that does not know what a channel binding is sends zeros, and pyspnego accepts them."""
    start = token.find(b"NTLMSSP\0\x03")
    response = Authenticate.unpack(token[start:]).nt_challenge_response
    pairs = NTClientChallengeV2.unpack(response[16:]).av_pairs
    return pairs.get(AvId.channel_bindings) in (None, bytes(16))


def serve(stream, bindings):
    context = None
    while (message := receive(stream)) is not None:
        number = int(message["messageID"])
        bind = message["protocolOp"]["bindRequest"]
        token = bytes(bind["authentication"]["sasl"]["credentials"])
        first = context is None
        if first:
            context = spnego.server(protocol="negotiate", channel_bindings=bindings,
                                    options=spnego.NegotiateOptions.use_negotiate)
        try:
            if not first and is_unbound(token):
                raise BadBindingsError(context_msg="unbound")
            answer = context.step(token)
        except BadBindingsError:
            stream.sendall(response(number, INVALID_CREDENTIALS, WORDS % "80090346"))
            context = None
        except SpnegoError as error:
            print(error, flush=True)
            stream.sendall(response(number, INVALID_CREDENTIALS, WORDS % "52e"))
            context = None
        else:
            stream.sendall(response(number, SUCCESS if context.complete else IN_PROGRESS, token=answer))
            if context.complete:
                context = None


def main():
    port, certificate, key = sys.argv[1:]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with open(certificate, "rb") as file:
        bindings = spnego.channel_bindings.GssChannelBindings(
            application_data=end_point(x509.load_pem_x509_certificate(file.read())))
    listener = socket.create_server(("127.0.0.1", int(port)))
    while True:
        near, _ = listener.accept()
        try:
            stream = tls.wrap_socket(near, server_side=True)
        except OSError:
            continue
        threading.Thread(target=serve, args=(stream, bindings), daemon=True).start()


main()
