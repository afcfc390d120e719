//! People who are logged on to a real domain by NTLM (FD-07), where the client has sent a simple bind.

use crate::support::{Call, Running, Wanted, Wire, client, comparable, directory_at, trusting, until};
use anyhow::{Context, Result};
use bytes::Bytes;
use domain::settings::{BindKind, Preset, TrustedServers};
use lab::{OtherForest, Pki, Samba, Slapd, password_of};
use ldap_wire::ber::{self, Writer};
use ldap_wire::{Filter, LdapResult, MessageId, Op, Scope, SearchRequest, SearchResultEntry};

const ANN: &str = "ann.archer";
const BEN: &str = "ben.baker";

fn with_code(name: &str, code: &str) -> String {
    format!("{},{code}", password_of(name))
}

/// The first value of an attribute of one entry.
async fn value(wire: &mut Wire, dn: &str, attribute: &str) -> Result<Bytes> {
    let search = SearchRequest::new(dn.to_owned(), Scope::Base, &Filter::present("objectClass"), &[attribute]);
    let found = wire.search(&search, &[]).await?;
    let entry = SearchResultEntry::decode(found.first().context("an entry")?)?;
    entry.values(attribute).first().cloned().with_context(|| format!("{dn} has no {attribute}"))
}

/// As Active Directory takes it of the owner: the old one is deleted, the new one is added (MS-ADTS section 3.1.1.3.1.5.1).
fn new_password(id: MessageId, dn: &str, old: &str, new: &str) -> Vec<u8> {
    let mut writer = Writer::new();
    let change = |w: &mut Writer, operation: i64, password: &str| {
        let quoted: Vec<u8> = format!("\"{password}\"").encode_utf16().flat_map(u16::to_le_bytes).collect();
        w.nested(ber::SEQUENCE, |w| {
            w.integer(ber::ENUMERATED, operation);
            w.nested(ber::SEQUENCE, |w| {
                w.octet_string(b"unicodePwd");
                w.nested(0x31, |w| w.octet_string(&quoted));
            });
        });
    };
    writer.nested(ber::SEQUENCE, |w| {
        w.integer(ber::INTEGER, id.get().into());
        w.nested(Op::ModifyRequest.tag(), |w| {
            w.octet_string(dn.as_bytes());
            w.nested(ber::SEQUENCE, |w| {
                change(w, 1, old);
                change(w, 0, new);
            });
        });
    });
    writer.into_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simple_bind_becomes_one_logon_and_the_connection_is_the_persons() -> Result<()> {
    // FD-07, L-20, L-32, L-33, L-34, L-41
    service_kit::tls::install_provider();
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let mut samba = Samba::start(dir.path(), &pki)?;
    samba.restart_with(&["--option=ldap server require strong auth=allow_sasl_over_tls"])?;
    samba.add("query", Slapd::QUERY_PASSWORD)?;
    let mut directory = directory_at(&samba.ldap_url(), Samba::BASE, BindKind::Windows);
    (directory.preset, directory.query_bind.name) = (Preset::ActiveDirectory, r"LAB\query".into());
    (directory.netbios_domain, directory.lockout_guard) = (Samba::DOMAIN.into(), None);
    directory.ca = Some(std::fs::read_to_string(samba.ca_file())?);
    let gateway = Running::start(directory, Wanted { client: client("wiki"), ..Wanted::default() }, &pki).await?;
    let codes = ["111111", "222222", "333333", "444444", "555555"];
    for name in [ANN, BEN, "max.mustchange"] {
        gateway.verification.enrol(&format!("{name}@lab.test"), &codes);
    }
    let tls = trusting(&pki.ca_file())?;
    let connect = async || -> Result<Wire> { gateway.connect_tls(&tls).await };

    let mut wire = connect().await?;
    let logins = [(r"LAB\ann.archer", ANN, "111111"), (BEN, BEN, "111111"), ("ann.archer@lab.test", ANN, "222222")];
    for (name, person, code) in logins {
        let before = samba.logons_of(person);
        let answer = wire.bind_answer(name, &with_code(person, code)).await?;
        assert_eq!(LdapResult::decode(&answer)?.code.0, 0, "{name}");
        assert!(!comparable(&answer).windows(7).any(|octets| octets == b"NTLMSSP"), "nothing of the logon goes out");
        assert_eq!(samba.logons_of(person), before + 1, "{name}");
        // Whose token it is: its first SID is the person's own (MS-ADTS section 3.1.1.4.5.19).
        let token = value(&mut wire, "", "tokenGroups").await?;
        let sid = value(&mut wire, &Samba::dn_of(person), "objectSid").await?;
        assert_eq!(token, sid, "the next bind of a connection is the next person's");
    }

    let wrong = connect().await?.bind_answer(ANN, "wrong,444444").await?;
    let denied = connect().await?.bind_answer(ANN, &with_code(ANN, "999999")).await?;
    let unknown = connect().await?.bind_answer("nobody", "wrong,444444").await?;
    assert_eq!(LdapResult::decode(&wrong)?.code.0, 49);
    assert!(comparable(&wrong) == comparable(&denied) && comparable(&wrong) == comparable(&unknown));
    let must_change = connect().await?.bind_answer("max.mustchange", &with_code("max.mustchange", "111111")).await?;
    let must_change = LdapResult::decode(&must_change)?;
    assert!(must_change.code.0 == 49 && must_change.diagnostic_text().contains("data 773"), "{must_change:?}");

    // What the domain will not do says nothing about a password.
    samba.restart()?;
    let mut wire = connect().await?;
    assert_eq!(wire.bind(ANN, &with_code(ANN, "555555")).await?, 52);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn people_of_a_trusted_forest_sign_in_there_and_their_code_is_asked_for() -> Result<()> {
    // FD-02, L-20: two forests of Samba that trust each other
    service_kit::tls::install_provider();
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let mut samba = Samba::start(dir.path(), &pki)?;
    samba.add("query", Slapd::QUERY_PASSWORD)?;
    let mut other = OtherForest::trusted_by(&mut samba, dir.path(), &pki)?;
    let mut directory = directory_at(&samba.ldap_url(), Samba::BASE, BindKind::Windows);
    (directory.preset, directory.query_bind.name) = (Preset::ActiveDirectory, r"LAB\query".into());
    (directory.netbios_domain, directory.lockout_guard) = (Samba::DOMAIN.into(), None);
    directory.authentication_bind.kind = BindKind::Tls;
    directory.ca = Some(std::fs::read_to_string(samba.ca_file())?);
    directory.trusted_domains = Some(true);
    directory.trusted.insert(OtherForest::DNS_NAME.into(), TrustedServers { urls: vec![other.ldap_url()] });
    let gateway = Running::start(directory, Wanted { client: client("wiki"), ..Wanted::default() }, &pki).await?;
    for name in ["olga.other@other.test", "ann.archer@other.test", "ann.archer@lab.test"] {
        gateway.verification.enrol(name, &["111111", "222222", "333333"]);
    }
    let tls = trusting(&pki.ca_file())?;
    let connect = async || -> Result<Wire> { gateway.connect_tls(&tls).await };
    let there = |name: &str, code: &str| format!("{},{code}", OtherForest::password_of(name));

    let mut wire = connect().await?;
    for (name, code) in [(r"OTHER\olga.other", "111111"), ("olga.other@other.test", "222222")] {
        assert_eq!(wire.bind(name, &there("olga.other", code)).await?, 0, "{name}");
        let olga = "CN=olga.other,CN=Users,DC=other,DC=test";
        let token = value(&mut wire, "", "tokenGroups").await?;
        assert_eq!(token, value(&mut wire, olga, "objectSid").await?, "the connection is hers, in her domain");
    }
    assert_eq!(connect().await?.bind(r"OTHER\olga.other", &there("olga.other", "999999")).await?, 49, "a wrong code");
    assert_eq!(connect().await?.bind(r"OTHER\olga.other", "wrong,333333").await?, 49, "a wrong password");
    // A bare name, and one of the own domain, mean the Ann of the own domain: the other one's password is wrong for them.
    for name in [ANN, r"LAB\ann.archer", "ann.archer@lab.test"] {
        assert_eq!(connect().await?.bind(name, &there(ANN, "333333")).await?, 49, "{name}");
    }
    assert_eq!(connect().await?.bind(ANN, &with_code(ANN, "111111")).await?, 0);
    assert_eq!(connect().await?.bind(r"OTHER\ann.archer", &there(ANN, "111111")).await?, 0);
    // What is remembered of her ends with her password, which she changes by her DN in that domain (L-14, V-52).
    let mut wire = connect().await?;
    assert_eq!(wire.bind(r"OTHER\olga.other", &there("olga.other", "333333")).await?, 0);
    let id = wire.next_id();
    let olga = "CN=olga.other,CN=Users,DC=other,DC=test";
    wire.send(&new_password(id, olga, &OtherForest::password_of("olga.other"), "Another-Password-1")).await?;
    assert_eq!(LdapResult::decode(&wire.receive().await?)?.code.0, 0);
    let told = || gateway.verification.calls().iter().filter(|call| matches!(call, Call::PasswordChanged(_))).count();
    until("it is told", || told() == 1).await?;
    // It is gone: that is said of its people, and of nobody else's.
    other.stop();
    assert_eq!(connect().await?.bind(r"OTHER\olga.other", &there("olga.other", "333333")).await?, 52);
    assert_eq!(connect().await?.bind(ANN, &with_code(ANN, "222222")).await?, 0);
    Ok(())
}
