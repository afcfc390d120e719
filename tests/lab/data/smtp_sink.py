"""smtp_sink.py DIR PORT CERTIFICATE KEY USER PASSWORD: a mail server by the PyPI package aiosmtpd.

STARTTLS and a login are demanded. Each mail is a line of JSON in DIR/mails. DIR/mood says how it behaves: accept, delay MS, drop,
refuse, later, lie. Some addresses choose for themselves: refused@, later@."""
import asyncio
import json
import pathlib
import ssl
import sys
from email import policy
from email.parser import BytesParser

from aiosmtpd.smtp import SMTP, AuthResult

DIR, PORT, CERTIFICATE, KEY, USER, PASSWORD = sys.argv[1:7]
DIR = pathlib.Path(DIR)


def mood():
    try:
        return (DIR / "mood").read_text().split()
    except FileNotFoundError:
        return ["accept"]


class Sink:
    async def handle_RCPT(self, server, session, envelope, address, options):
        local = address.split("@")[0]
        if local == "refused" or mood()[0] == "refuse":
            return f"550 5.1.1 <{address}> is nobody here"
        if local == "later" or mood()[0] == "later":
            return f"451 4.3.0 <{address}> not now"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        now = mood()
        if now[0] == "delay":
            await asyncio.sleep(int(now[1]) / 1000)
        if now[0] == "drop":
            server.transport.abort()
            return "421 gone"
        mail = BytesParser(policy=policy.default).parsebytes(envelope.content)
        parts = {part.get_content_type(): part.get_content() for part in mail.walk() if not part.is_multipart()}
        seen = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "subject": str(mail["subject"]),
            "message_id": str(mail["message-id"]),
            "auto_submitted": str(mail["auto-submitted"]),
            "reply_to": str(mail["reply-to"] or ""),
            "text": parts.get("text/plain", ""),
            "html": parts.get("text/html", ""),
            "tls": session.ssl is not None,
            "authenticated": bool(session.authenticated),
        }
        with open(DIR / "mails", "a") as log:
            log.write(json.dumps(seen) + "\n")
        return "451 4.3.0 it was taken all the same" if now[0] == "lie" else "250 OK"


def login(server, session, envelope, mechanism, data):
    good = mechanism in ("PLAIN", "LOGIN") and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=good, handled=False)


async def main():
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(CERTIFICATE, KEY)
    make = lambda: SMTP(
        Sink(),
        hostname="localhost",
        tls_context=tls,
        require_starttls=True,
        auth_required=True,
        auth_require_tls=True,
        authenticator=login,
    )
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", int(PORT))
    await server.serve_forever()


asyncio.run(main())
