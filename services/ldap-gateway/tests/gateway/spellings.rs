//! One entry is one policy, however its DN is written (L-21, B-61): whoever is exempt is so in every spelling, and their neighbour is
//! asked in every one. Directories of every make.

use crate::makes::Make;
use crate::support::{Misbehaviour, Running, Wanted, client, service_account, trusting, until};
use anyhow::{Context, Result, ensure};
use domain::settings::Client;
use lab::password_of;
use std::collections::BTreeSet;

const ANN: &str = "ann.archer";

#[tokio::test(flavor = "multi_thread")]
async fn a_spelling_exempts_nobody_from_openldap() -> Result<()> {
    one_policy_each(&Make::slapd("")?, 56).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spelling_exempts_nobody_from_a_389_directory() -> Result<()> {
    one_policy_each(&Make::ds389()?, 49).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spelling_exempts_nobody_from_a_windows_domain() -> Result<()> {
    one_policy_each(&Make::samba()?, 56).await
}

/// Each type in every spelling with each value in every spelling, with one separator after the other.
fn spellings(dn: &str) -> Vec<String> {
    type Spelling = fn(&str) -> String;
    let types: [Spelling; 7] = [
        str::to_owned,
        str::to_uppercase,
        str::to_lowercase,
        |of| names_of(of)[0].to_owned(),
        |of| format!("OID.{}", names_of(of)[0]),
        |of| format!("oid.{}", names_of(of)[0]),
        |of| names_of(of)[1].to_owned(),
    ];
    let values: [Spelling; 8] = [
        str::to_owned,
        str::to_uppercase,
        |of| format!("\\{:02x}{}", of.as_bytes()[0], &of[1..]),
        |of| of.bytes().map(|octet| format!("\\{octet:02X}")).collect(),
        |of| format!("#04{:02x}{}", of.len(), hex(of)),
        |of| format!("#0C{:02X}{}", of.len(), hex(of).to_uppercase()),
        |of| format!("  {of} "),
        |of| format!("{of}\\20"),
    ];
    let separators = [",", ", ", " , ", ";"];
    let mut spellings = Vec::new();
    for kind in types {
        for value in values {
            let parts = dn.split(',').filter_map(|part| part.split_once('='));
            let parts: Vec<_> = parts.map(|(of, what)| format!("{}={}", kind(of), value(what))).collect();
            spellings.push(parts.join(separators[spellings.len() % separators.len()]));
        }
    }
    spellings
}

/// RFC 4519: the number and the long name of an attribute type.
fn names_of(kind: &str) -> [&'static str; 2] {
    match kind.to_lowercase().as_str() {
        "uid" => ["0.9.2342.19200300.100.1.1", "userId"],
        "dc" => ["0.9.2342.19200300.100.1.25", "domainComponent"],
        "ou" => ["2.5.4.11", "organizationalUnitName"],
        "cn" => ["2.5.4.3", "commonName"],
        other => panic!("{other} is in no DN of these directories"),
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|octet| format!("{octet:02x}")).collect()
}

async fn one_policy_each(make: &Make, understood_min: usize) -> Result<()> {
    let (ann, neighbour) = (make.dn_of(ANN), make.neighbour());
    let listing = Client { service_accounts: vec![service_account(&ann)], ..client("spelt") };
    let wanted = Wanted { client: listing, ..Wanted::default() };
    let gateway = Running::start(make.directory.clone(), wanted, &make.pki).await?;
    until("the id to be kept", || !gateway.settings.pinned().is_empty()).await?;
    gateway.verification.misbehave(Misbehaviour::ByCode);
    let mut wire = gateway.connect_tls(&trusting(&make.pki.ca_file())?).await?;
    let (exempt, asked) = (spellings(&ann), spellings(&make.dn_of(neighbour)));
    ensure!(exempt.len() >= 30, "{} spellings", exempt.len());
    let mut understood = 0;
    for (number, (exempt, asked)) in exempt.iter().zip(&asked).enumerate() {
        // Not every make reads every spelling. One that is not read is nobody's, and that of both.
        let exempts = wire.bind(exempt, &password_of(ANN)).await?;
        ensure!([0, 49].contains(&exempts), "{exempts} for the exempt {exempt}");
        understood += usize::from(exempts == 0);
        let code = wire.bind(asked, &password_of(neighbour)).await?;
        ensure!(code == 49, "{code} without a code for {asked}");
        let code = wire.bind(asked, &format!("{},{}", password_of(neighbour), 100_000 + number)).await?;
        ensure!(code == exempts, "{code} with a code for {asked}, {exempts} for {exempt}");
    }
    ensure!(understood >= understood_min, "{understood} spellings are understood");
    let mut ids = [BTreeSet::new(), BTreeSet::new()];
    for (attempt, _) in gateway.verification.attempts() {
        let id = attempt.subject.context("whose it is")?.object_id;
        ids[usize::from(attempt.service_account)].insert(id);
    }
    ensure!(ids.iter().all(|ids| ids.len() == 1) && ids[0] != ids[1], "{ids:?}");
    Ok(())
}
