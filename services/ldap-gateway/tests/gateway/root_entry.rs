//! The root entries of real directories, which name servers and answer questions about people to whoever asks.

use crate::makes::Make;
use crate::support::{Running, Wanted, Wire, client, comparable, trusting};
use anyhow::{Context, Result};
use bytes::Bytes;
use ldap_wire::{Filter, Message, Op, Scope, SearchRequest, SearchResultEntry};
use tokio::net::TcpStream;

async fn directly(make: &Make) -> Result<Wire> {
    let url = make.directory.urls.first().context("a server")?;
    let host = url.strip_prefix("ldap://").context("without TLS")?;
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:389") };
    Ok(Wire::plain(TcpStream::connect(address).await?))
}

async fn behind(make: &Make) -> Result<Running> {
    let wanted = Wanted { client: client("root"), ..Wanted::default() };
    Running::start(make.directory.clone(), wanted, &make.pki).await
}

async fn ask(wire: &mut Wire, filter: &Filter, attributes: &[&str]) -> Result<Vec<Message>> {
    wire.search(&SearchRequest::new("", Scope::Base, filter, attributes), &[]).await
}

fn entry(answer: &[Message]) -> Result<SearchResultEntry> {
    let found = answer.iter().find(|message| message.op() == Op::SearchResultEntry);
    Ok(SearchResultEntry::decode(found.context("an entry")?)?)
}

fn class() -> Filter {
    Filter::present("objectClass")
}

/// MS-ADTS section 6.3.3: is there a normal user of this name?
fn ping(user: &str) -> Filter {
    Filter::and([
        Filter::equal("DnsDomain", "lab.test"),
        Filter::equal("User", user),
        Filter::equal("AAC", [0x10, 0, 0, 0]),
        Filter::equal("NtVer", [0x06, 0, 0, 0]),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_tells_nobody_which_server_there_is_and_who() -> Result<()> {
    // L-16, L-41: before any bind, and without an event that anybody could see
    let make = Make::samba()?;
    let mut direct = directly(&make).await?;
    let mut opcodes = Vec::new();
    for user in ["ann.archer", "nobody.here"] {
        let found = entry(&ask(&mut direct, &ping(user), &["netlogon"]).await?)?;
        let answer = found.first("netlogon").context("the server answers pings")?;
        opcodes.push(answer.first().copied());
    }
    // LOGON_SAM_LOGON_RESPONSE_EX and LOGON_SAM_USER_UNKNOWN_EX.
    assert_eq!(opcodes, [Some(23), Some(25)], "the server tells them apart");

    let gateway = behind(&make).await?;
    let tls = trusting(&make.pki.ca_file())?;
    let mut answers = Vec::new();
    for user in ["ann.archer", "nobody.here"] {
        let mut wire = gateway.connect_tls(&tls).await?;
        let answer = ask(&mut wire, &ping(user), &["netlogon"]).await?;
        assert!(answer.iter().all(|message| message.op() == Op::SearchResultDone), "{user}");
        answers.push(answer.iter().map(comparable).collect::<Vec<Bytes>>());
        for attributes in [&["netlogon"][..], &["*", "+", "NETLOGON;x"]] {
            let found = entry(&ask(&mut wire, &class(), attributes).await?)?;
            assert!(found.attribute("netlogon").is_none(), "{attributes:?}");
            assert_eq!(found.attributes.is_empty(), attributes == ["netlogon"], "{attributes:?}");
        }
    }
    assert_eq!(answers[0], answers[1]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_root_entry_names_the_server_behind_it() -> Result<()> {
    // L-16: whatever is asked for, all that the server has among it
    const ASKED: &[&str] =
        &["*", "+", "dnsHostName", "ldapServiceName", "serverName", "dsServiceName", "netscapeMdSuffix", "vendorName"];
    for make in [Make::samba()?, Make::ds389()?] {
        let what = make.directory.preset;
        let real =
            entry(&ask(&mut directly(&make).await?, &class(), ASKED).await?).context(format!("{what:?} itself"))?;
        let named = |name: &str| real.first_text(name).map(str::to_lowercase);
        // In the words of the one and of the other.
        let hosts = [named("dnsHostName"), named("netscapeMdSuffix")];
        let hosts: Vec<String> = hosts.into_iter().flatten().map(|name| host_of(&name)).collect();
        assert_eq!(hosts.len(), 1, "{:?}", real.attributes);
        let gateway = behind(&make).await?;
        let mut wire = gateway.connect_tls(&trusting(&make.pki.ca_file())?).await?;
        let seen = entry(&ask(&mut wire, &class(), ASKED).await?).context(format!("{what:?} through the gateway"))?;
        for attribute in &seen.attributes {
            let text = |value: &Bytes| String::from_utf8_lossy(value).to_lowercase();
            let names = attribute.values.iter().map(text).find(|value| value.contains(&hosts[0]));
            assert_eq!(names, None, "{}", attribute.description);
        }
        assert!(seen.attribute("namingContexts").is_some() && seen.attribute("vendorName").is_some());
    }
    Ok(())
}

/// The first label of `dc1.lab.test`, or of `cn=ldap://dc=dc1,dc=lab,dc=test:389`.
fn host_of(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name).trim_start_matches("dc=");
    name.split(['.', ',', ':']).next().unwrap_or(name).to_owned()
}
