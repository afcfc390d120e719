//! The parts of the session: all operations, filters, controls, big and many entries. Each leaves the directory as it found it.

use crate::{
    requests::{
        BASE, CHILDREN, Change, ONE, Request, SUBTREE, Search, abandon, add, assertion, bind, cancel, compare, control,
        control_of, delete, extended, modify, password_modify, read, rename, sasl_bind, search, sort, sync, unbind,
        values, window,
    },
    session::Session,
};
use anyhow::{Context, Result, ensure};
use e2e::{BULK, Make};
use ldap_wire::{LdapResult, Message, Op, PagedResults, ber, oid};
use std::time::Duration;

/// Attributes that tell something and are the same whenever one asks.
const SOME: &[&str] = &["cn", "sn", "mail", "description", "objectClass"];
const NONE: &[&str] = &["1.1"];

pub async fn binds(s: &mut Session<'_>) -> Result<()> {
    let (name, password) = s.upstream.manager;
    s.ask(
        "root entry before a bind",
        &search("", BASE, "(objectClass=*)", &["supportedLDAPVersion", "namingContexts"])?,
    )
    .await?;
    s.ask("search before a bind", &search(s.upstream.base, BASE, "(objectClass=*)", NONE)?).await?;
    s.ask("who am I before a bind", &extended(oid::WHO_AM_I, None)).await?;
    s.ask("bind as nobody", &bind(3, "", "")).await?;
    s.ask("bind with a wrong password", &bind(3, name, "nonsense")).await?;
    s.ask("bind without a password", &bind(3, name, "")).await?;
    s.ask("bind of nobody's name", &bind(3, &s.below("cn=nobody"), password)).await?;
    s.ask("bind with a password and no name", &bind(3, "", password)).await?;
    s.ask("bind with what is no DN", &bind(3, "cn=x,,dc=", password)).await?;
    s.ask("SASL bind, PLAIN", &sasl_bind("PLAIN", b"\0x\0y")).await?;
    s.ask("SASL bind, EXTERNAL", &sasl_bind("EXTERNAL", b"")).await?;
    s.ask("SASL bind, unknown", &sasl_bind("NONSENSE", b"")).await?;
    s.ask("bind, password policy asked for", &bind(3, name, password).with(control(oid::PASSWORD_POLICY, false)))
        .await?;
    s.ask("bind, identity asked for", &bind(3, name, password).with(control("2.16.840.1.113730.3.4.16", false)))
        .await?;
    s.ask("bind with an unknown control", &bind(3, name, password).with(control("1.2.3.4.5", false))).await?;
    s.ask("bind with an unknown critical control", &bind(3, name, password).with(control("1.2.3.4.5", true))).await?;
    s.ask("search after it", &search(s.upstream.base, BASE, "(objectClass=*)", NONE)?).await?;
    s.ask("bind", &bind(3, name, password)).await?;
    s.ask("search once bound", &search(s.upstream.base, BASE, "(objectClass=*)", NONE)?).await?;
    s.ask("bind as nobody afterwards", &bind(3, "", "")).await?;
    s.ask("search as nobody", &search(s.upstream.base, BASE, "(objectClass=*)", NONE)?).await?;
    Ok(())
}

pub async fn root_and_schema(s: &mut Session<'_>) -> Result<()> {
    s.bind().await?;
    const ROOT: &[&str] = &[
        "objectClass",
        "namingContexts",
        "defaultNamingContext",
        "rootDomainNamingContext",
        "subschemaSubentry",
        "supportedLDAPVersion",
        "supportedControl",
        "supportedExtension",
        "supportedFeatures",
        "supportedCapabilities",
        "supportedSASLMechanisms",
        "vendorName",
        "dnsHostName",
        "ldapServiceName",
        "serverName",
        "altServer",
        "ref",
    ];
    s.ask("root entry", &search("", BASE, "(objectClass=*)", ROOT)?).await?;
    let types = Search { types_only: true, ..Search::new("", BASE, "(objectClass=*)", ROOT) };
    s.ask("root entry, types only", &types.request()?).await?;
    s.ask("root entry, mechanisms", &search("", BASE, "(objectClass=*)", &["supportedSASLMechanisms"])?).await?;
    s.ask("root entry, extensions", &search("", BASE, "(objectClass=*)", &["supportedExtension"])?).await?;
    s.ask("root entry, nothing of it", &search("", BASE, "(objectClass=*)", NONE)?).await?;
    s.ask("root entry that does not match", &search("", BASE, "(cn=nobody)", ROOT)?).await?;
    let schema = match s.make() {
        Make::Slapd => "cn=subschema".to_owned(),
        Make::Ds389 => "cn=schema".to_owned(),
        Make::Samba => s.below("CN=Aggregate,CN=Schema,CN=Configuration"),
    };
    let all = &["objectClasses", "attributeTypes", "matchingRules", "ldapSyntaxes"];
    s.ask("schema", &search(&schema, BASE, "(objectClass=*)", all)?).await?;
    Ok(())
}

pub async fn searches(s: &mut Session<'_>) -> Result<()> {
    s.bind().await?;
    let (base, people) = (s.upstream.base, s.below("ou=people"));
    for (what, scope) in [("the base", BASE), ("one level", ONE), ("a subtree", SUBTREE), ("the children", CHILDREN)] {
        s.ask(&format!("search of {what}"), &search(&people, scope, "(objectClass=*)", NONE)?).await?;
    }
    s.ask("search in an unknown scope", &search(&people, 7, "(objectClass=*)", NONE)?).await?;
    for dereference in 0..=3 {
        let request = Search { dereference, ..Search::new(&people, ONE, "(objectClass=*)", SOME) };
        s.ask(&format!("search, dereference {dereference}"), &request.request()?).await?;
    }
    let nowhere = s.below("cn=nobody,ou=people");
    s.ask("search below what is not there", &search(&nowhere, SUBTREE, "(objectClass=*)", NONE)?).await?;
    s.ask("search in another tree", &search("dc=nowhere", SUBTREE, "(objectClass=*)", NONE)?).await?;
    s.ask("search at what is no DN", &search("cn=x,,dc=", BASE, "(objectClass=*)", NONE)?).await?;
    s.ask("search of a spelling", &search(&base.to_uppercase().replace(',', " , "), BASE, "(objectClass=*)", NONE)?)
        .await?;
    Ok(())
}

pub async fn filters(s: &mut Session<'_>) -> Result<()> {
    s.bind().await?;
    let group = match s.make() {
        Make::Samba => "CN=staff,OU=groups,DC=lab,DC=test",
        _ => "cn=vpn-users,ou=groups,dc=acme,dc=example",
    };
    let member = format!("(memberOf={group})");
    // Not the many: nobody has everything indexed.
    let team = match s.make() {
        Make::Samba => s.below("OU=people"),
        _ => s.below("ou=engineering,ou=people"),
    };
    let texts = [
        "(cn=Ann Archer)",
        "(cn=ann*)",
        "(cn=*arch*)",
        "(cn=*er)",
        "(cn=a*n*r*r)",
        "(cn=*)",
        "(cn~=ann archer)",
        "(sn>=w)",
        "(sn<=b)",
        "(&)",
        "(|)",
        "(!(objectClass=*))",
        "(&(objectClass=organizationalUnit)(!(ou=people)))",
        "(|(cn=ann archer)(cn=nobody)(&(sn=baker)(cn=b*)))",
        "(noSuchAttribute=x)",
        "(!(noSuchAttribute=x))",
        "(cn:=ann archer)",
        "(cn:2.5.13.2:=ANN ARCHER)",
        "(cn:caseExactMatch:=Ann Archer)",
        "(ou:dn:=people)",
        "(:2.5.13.2:=ann archer)",
        "(cn:1.2.3.4.5:=x)",
        "(userAccountControl:1.2.840.113556.1.4.803:=2)",
        "(memberOf:1.2.840.113556.1.4.1941:=CN=staff,OU=groups,DC=lab,DC=test)",
        r"(cn=\00\ff\2a)",
        "(cn=gro\u{df})",
        &member,
    ];
    for filter in texts {
        s.ask(&format!("filter {filter}"), &search(&team, SUBTREE, filter, NONE)?).await?;
    }
    // RFC 4511 section 4.5.1.7 leaves room for more kinds.
    let unknown = Search { raw_filter: Some(vec![0xaf, 0x00]), ..Search::new(&team, SUBTREE, "", NONE) };
    s.ask("filter of an unknown kind", &unknown.request()?).await?;
    Ok(())
}

pub async fn selections(s: &mut Session<'_>) -> Result<()> {
    s.bind().await?;
    let ann = s.upstream.dn_of("ann.archer", "engineering");
    let lists: [&[&str]; 13] = [
        &[],
        &["*"],
        &["+"],
        &["*", "+"],
        &["1.1"],
        &["1.1", "cn"],
        &["cn", "CN", "cn"],
        &["2.5.4.3"],
        &["cn;lang-de"],
        &["userCertificate;binary"],
        &["@inetOrgPerson"],
        &["noSuchAttribute", "sn"],
        &["objectGUID", "objectSid", "entryUUID", "nsUniqueId", "member;range=0-0"],
    ];
    for list in lists {
        let request = search(&ann, BASE, "(objectClass=*)", list)?;
        s.ask(&format!("attributes {}", list.join(" ")), &request).await?;
        let types = Search { types_only: true, ..Search::new(&ann, BASE, "(objectClass=*)", list) };
        s.ask(&format!("types of {}", list.join(" ")), &types.request()?).await?;
    }
    Ok(())
}

pub async fn pages(s: &mut Session<'_>) -> Result<()> {
    // RFC 2696
    s.bind().await?;
    let bulk = s.upstream.bulk();
    let request =
        |page: PagedResults| -> Result<Request> { Ok(search(&bulk, ONE, "(cn=*)", SOME)?.with(page.to_control(true))) };
    let mut page = PagedResults { size: 2500, cookie: Default::default() };
    let mut found = 0;
    for number in 1.. {
        let messages = s.ask(&format!("page {number}"), &request(page.clone())?).await?;
        found += messages.iter().filter(|message| message.op() == Op::SearchResultEntry).count();
        let controls = messages.last().context("no end")?.controls()?;
        page.cookie = PagedResults::find(&controls)?.context("no word on pages")?.cookie;
        if page.cookie.is_empty() {
            break;
        }
    }
    ensure!(found == BULK, "{found} entries in all pages");
    let first = s.ask("page to be given up", &request(PagedResults { size: 10, cookie: Default::default() })?).await?;
    let controls = first.last().context("no end")?.controls()?;
    let cookie = PagedResults::find(&controls)?.context("no word on pages")?.cookie;
    s.ask("page given up", &request(PagedResults { size: 0, cookie })?).await?;
    s.ask("page of a cookie that is none", &request(PagedResults { size: 10, cookie: "no cookie at all".into() })?)
        .await?;
    Ok(())
}

pub async fn order(s: &mut Session<'_>) -> Result<()> {
    // RFC 2891, and windows of it
    s.bind().await?;
    let (people, bulk) = (s.below("ou=people"), s.upstream.bulk());
    let sorted = |key: &str, reverse, critical| -> Result<Request> {
        Ok(search(&people, SUBTREE, "(sn=*)", SOME)?.with(sort(key, reverse, critical)))
    };
    // Within the same key the order is nobody's.
    s.ask("sorted", &sorted("cn", false, true)?).await?;
    s.ask("sorted, the last first", &sorted("cn", true, true)?).await?;
    s.ask("sorted by what is unknown", &sorted("noSuchAttribute", false, false)?).await?;
    s.ask("sorted by what is unknown, critical", &sorted("noSuchAttribute", false, true)?).await?;
    let all = search(&bulk, ONE, "(cn=*)", NONE)?.with(sort("cn", false, true));
    s.ask("window", &all.clone().with(window(2, 5, 5_000))).await?;
    s.ask("window beyond the end", &all.clone().with(window(0, 9, 20_000))).await?;
    s.ask("window without an order", &search(&bulk, ONE, "(cn=*)", NONE)?.with(window(0, 9, 1))).await?;
    let page = PagedResults { size: 500, cookie: Default::default() };
    s.ask("sorted page", &all.with(page.to_control(true))).await?;
    Ok(())
}

pub async fn controls(s: &mut Session<'_>) -> Result<()> {
    s.bind().await?;
    let ann = s.upstream.dn_of("ann.archer", "engineering");
    let base = s.upstream.base.to_owned();
    let entry = || search(&ann, BASE, "(objectClass=*)", SOME);
    let flag = |oid: &str, critical| -> Result<Request> { Ok(entry()?.with(control(oid, critical))) };
    s.ask("control unknown", &flag("1.2.3.4.5", false)?).await?;
    s.ask("control unknown, critical", &flag("1.2.3.4.5", true)?).await?;
    s.ask("control unknown, critical, of a compare", &compare(&ann, "sn", b"Archer").with(control("1.2.3.4.5", true)))
        .await?;
    let some = entry()?.with(control("1.2.3.4.5", false)).with(control("1.2.3.4.6", false));
    s.ask("controls, several", &some.with(control(oid::PASSWORD_POLICY, false))).await?;
    for critical in [true, false] {
        let proxied = Some(b"dn:".as_slice().into());
        let of = |oid: &str| ldap_wire::Control::new(oid, critical, proxied.clone());
        s.ask(&format!("proxied authorization, critical {critical}"), &entry()?.with(of(oid::PROXIED_AUTHORIZATION)))
            .await?;
        let draft = entry()?.with(of(oid::PROXIED_AUTHORIZATION_V1));
        s.ask(&format!("proxied authorization of the draft, critical {critical}"), &draft).await?;
    }
    s.ask("assertion that holds", &entry()?.with(assertion("(sn=Archer)")?)).await?;
    s.ask("assertion that does not", &entry()?.with(assertion("(sn=Baker)")?)).await?;
    let classes = search(&ann, BASE, "(objectClass=*)", &["objectClass"])?;
    s.ask("matched values", &classes.with(values("(objectClass=person)")?)).await?;
    s.ask(
        "subentries",
        &search(&base, SUBTREE, "(cn=subschema)", NONE)?
            .with(control_of("1.3.6.1.4.1.4203.1.10.1", true, |w| w.boolean(ber::BOOLEAN, true))),
    )
    .await?;
    s.ask("do not use a copy", &flag("1.3.6.1.1.22", true)?).await?;
    s.ask("manage DIT content", &flag("1.3.6.1.4.1.4203.666.5.12", false)?).await?;
    // Of Active Directory.
    let extended_dn = control_of("1.2.840.113556.1.4.529", true, |w| {
        w.nested(ber::SEQUENCE, |w| w.integer(ber::INTEGER, 1));
    });
    s.ask("extended DN", &entry()?.with(extended_dn)).await?;
    s.ask("deleted ones too", &flag("1.2.840.113556.1.4.417", true)?).await?;
    s.ask("domain scope", &search(&base, SUBTREE, "(sn=Archer)", NONE)?.with(control("1.2.840.113556.1.4.1339", true)))
        .await?;
    let owner = control_of("1.2.840.113556.1.4.801", true, |w| {
        w.nested(ber::SEQUENCE, |w| w.integer(ber::INTEGER, 7));
    });
    s.ask("security descriptor", &search(&ann, BASE, "(objectClass=*)", &["nTSecurityDescriptor"])?.with(owner))
        .await?;
    let members = control_of("1.2.840.113556.1.4.1504", true, |w| {
        w.nested(ber::SEQUENCE, |w| w.octet_string(b"member"));
    });
    let group = if s.make() == Make::Samba { "CN=vpn-users,OU=groups" } else { "cn=vpn-users,ou=groups" };
    s.ask("attribute scoped query", &search(&s.below(group), BASE, "(objectClass=*)", &["cn"])?.with(members)).await?;
    Ok(())
}

pub async fn referrals(s: &mut Session<'_>) -> Result<()> {
    // L-17
    s.bind().await?;
    let base = s.upstream.base.to_owned();
    let elsewhere = s.below("ou=elsewhere");
    let manage = || control("2.16.840.1.113730.3.4.2", true);
    if s.make() != Make::Samba {
        let entry = add(
            &elsewhere,
            &[
                ("objectClass", &[b"referral", b"extensibleObject"]),
                ("ou", &[b"elsewhere"]),
                ("ref", &[b"ldap://other.example.org/ou=elsewhere,dc=acme,dc=example"]),
            ],
        );
        s.ask("referral added", &entry.with(manage())).await?;
    }
    s.ask("search over a referral", &search(&base, SUBTREE, "(|(sn=archer)(ou=elsewhere))", NONE)?).await?;
    s.ask("one level over a referral", &search(&base, ONE, "(objectClass=*)", NONE)?).await?;
    let managed = search(&base, SUBTREE, "(|(sn=archer)(ou=elsewhere))", &["ref", "sn"])?.with(manage());
    s.ask("search with the referral as an entry", &managed).await?;
    s.ask("search at a referral", &search(&elsewhere, BASE, "(objectClass=*)", NONE)?).await?;
    s.ask("search below a referral", &search(&format!("cn=x,{elsewhere}"), SUBTREE, "(objectClass=*)", NONE)?).await?;
    s.ask("compare at a referral", &compare(&elsewhere, "ou", b"elsewhere")).await?;
    // 389 Directory Server would do all of these to the entry itself.
    if s.make() != Make::Ds389 {
        s.ask("modify at a referral", &modify(&elsewhere, &[(Change::Replace, "description", &[b"x"])])).await?;
        s.ask(
            "add below a referral",
            &add(&format!("cn=x,{elsewhere}"), &[("objectClass", &[b"device"]), ("cn", &[b"x"])]),
        )
        .await?;
        s.ask("rename at a referral", &rename(&elsewhere, "ou=nowhere", true, None)).await?;
        s.ask("delete at a referral", &delete(&elsewhere)).await?;
    }
    s.ask("read the referral", &search(&elsewhere, BASE, "(objectClass=*)", &["ref"])?.with(manage())).await?;
    s.ask("referral deleted", &delete(&elsewhere).with(manage())).await?;
    Ok(())
}

/// Something to write to, and an entry in it.
async fn begin(s: &mut Session<'_>) -> Result<(String, String)> {
    s.bind().await?;
    let unit = s.below("ou=probe");
    s.ask("unit added", &add(&unit, &[("objectClass", &[b"organizationalUnit"]), ("ou", &[b"probe"])])).await?;
    let alpha = format!("cn=alpha,{unit}");
    s.ask("entry added", &person(s.make(), &alpha, "alpha")).await?;
    Ok((unit, alpha))
}

fn person(make: Make, dn: &str, name: &str) -> Request {
    let class: &[u8] = if make == Make::Samba { b"user" } else { b"inetOrgPerson" };
    add(dn, &[("objectClass", &[class]), ("cn", &[name.as_bytes()]), ("sn", &[b"Probe"]), ("description", &[b"one"])])
}

pub async fn writes(s: &mut Session<'_>) -> Result<()> {
    let (unit, alpha) = begin(s).await?;
    let entry = || search(&alpha, BASE, "(objectClass=*)", &["cn", "sn", "description", "telephoneNumber", "title"]);
    s.ask("entry added again", &person(s.make(), &alpha, "alpha")).await?;
    s.ask(
        "entry of an unknown class",
        &add(&format!("cn=beta,{unit}"), &[("objectClass", &[b"noSuchClass"]), ("cn", &[b"beta"])]),
    )
    .await?;
    s.ask("entry below what is not there", &person(s.make(), &format!("cn=x,ou=nowhere,{unit}"), "x")).await?;
    s.ask("value added", &modify(&alpha, &[(Change::Add, "telephoneNumber", &[b"+49 1"])])).await?;
    s.ask("value added again", &modify(&alpha, &[(Change::Add, "telephoneNumber", &[b"+49 1"])])).await?;
    s.ask("value replaced", &modify(&alpha, &[(Change::Replace, "telephoneNumber", &[b"+49 2"])])).await?;
    let several: &[(Change, &str, &[&[u8]])] = &[
        (Change::Delete, "telephoneNumber", &[b"+49 2"]),
        (Change::Add, "title", &["Präsidentin".as_bytes()]),
        (Change::Replace, "description", &[b"two"]),
    ];
    s.ask("several changes", &modify(&alpha, several)).await?;
    s.ask("entry read", &entry()?).await?;
    s.ask("missing value deleted", &modify(&alpha, &[(Change::Delete, "description", &[b"nine"])])).await?;
    s.ask("missing attribute deleted", &modify(&alpha, &[(Change::Delete, "street", &[])])).await?;
    s.ask("unknown attribute added", &modify(&alpha, &[(Change::Add, "noSuchAttribute", &[b"x"])])).await?;
    s.ask("class taken away", &modify(&alpha, &[(Change::Delete, "objectClass", &[])])).await?;
    s.ask("text incremented", &modify(&alpha, &[(Change::Increment, "sn", &[b"1"])])).await?;
    let numbered: &[(Change, &str, &[&[u8]])] = if s.make() == Make::Samba {
        &[(Change::Replace, "uidNumber", &[b"41"])]
    } else {
        &[
            (Change::Add, "objectClass", &[b"posixAccount"]),
            (Change::Add, "uidNumber", &[b"41"]),
            (Change::Add, "gidNumber", &[b"7"]),
            (Change::Add, "uid", &[b"alpha"]),
            (Change::Add, "homeDirectory", &[b"/"]),
        ]
    };
    s.ask("number added", &modify(&alpha, numbered)).await?;
    s.ask("number incremented", &modify(&alpha, &[(Change::Increment, "uidNumber", &[b"1"])])).await?;
    s.ask("number read", &search(&alpha, BASE, "(uidNumber=42)", &["uidNumber"])?).await?;
    s.ask("option added", &modify(&alpha, &[(Change::Add, "description;lang-de", &[b"zwei"])])).await?;
    s.ask("option read", &search(&alpha, BASE, "(objectClass=*)", &["description;lang-de", "description"])?).await?;
    s.ask("compare, equal", &compare(&alpha, "description", b"TWO")).await?;
    s.ask("compare, not equal", &compare(&alpha, "description", b"three")).await?;
    s.ask("compare of a missing attribute", &compare(&alpha, "street", b"x")).await?;
    s.ask("compare of what is not there", &compare(&format!("cn=nobody,{unit}"), "cn", b"x")).await?;
    let change: &[(Change, &str, &[&[u8]])] = &[(Change::Replace, "description", &[b"three"])];
    s.ask("modify, asserted in vain", &modify(&alpha, change).with(assertion("(sn=Nobody)")?)).await?;
    s.ask("modify, asserted", &modify(&alpha, change).with(assertion("(sn=Probe)")?)).await?;
    let back: &[(Change, &str, &[&[u8]])] = &[(Change::Replace, "description", &[b"four"])];
    s.ask("modify, read before", &modify(&alpha, back).with(read(false, &["description"]))).await?;
    s.ask("modify, read after", &modify(&alpha, change).with(read(true, &["description", "sn"]))).await?;
    s.ask("second entry added", &person(s.make(), &format!("cn=beta,{unit}"), "beta")).await?;
    s.ask("renamed to a name that is taken", &rename(&alpha, "cn=beta", true, None)).await?;
    s.ask("renamed", &rename(&alpha, "cn=gamma", true, None)).await?;
    let inner = format!("ou=inner,{unit}");
    s.ask("inner unit added", &add(&inner, &[("objectClass", &[b"organizationalUnit"]), ("ou", &[b"inner"])])).await?;
    s.ask("moved", &rename(&format!("cn=gamma,{unit}"), "cn=delta", s.make() == Make::Samba, Some(&inner))).await?;
    s.ask("moved entry found", &search(&unit, SUBTREE, "(sn=probe)", &["cn"])?.with(sort("cn", false, false))).await?;
    s.ask(
        "moved below what is not there",
        &rename(&format!("cn=delta,{inner}"), "cn=delta", false, Some("ou=nowhere")),
    )
    .await?;
    s.ask("unit with children deleted", &delete(&inner)).await?;
    let tree = || control("1.2.840.113556.1.4.805", true);
    s.ask("subtree deleted", &delete(&inner).with(tree())).await?;
    s.ask("moved entry deleted", &delete(&format!("cn=delta,{inner}"))).await?;
    s.ask("inner unit deleted", &delete(&inner)).await?;
    s.ask("deleted, read before", &delete(&format!("cn=beta,{unit}")).with(read(false, &["cn", "sn"]))).await?;
    s.ask("second entry deleted", &delete(&format!("cn=beta,{unit}"))).await?;
    s.ask("deleted again", &delete(&format!("cn=beta,{unit}"))).await?;
    s.ask("unit deleted", &delete(&unit)).await?;
    Ok(())
}

pub async fn passwords(s: &mut Session<'_>) -> Result<()> {
    // L-14: TLS on both sides
    let (unit, alpha) = begin(s).await?;
    if s.make() == Make::Samba {
        let quoted = |password: &str| -> Vec<u8> {
            format!("\"{password}\"").encode_utf16().flat_map(u16::to_le_bytes).collect()
        };
        s.ask("password set", &modify(&alpha, &[(Change::Replace, "unicodePwd", &[&quoted("Sesame-1")])])).await?;
        let unquoted: &[(Change, &str, &[&[u8]])] = &[(Change::Replace, "unicodePwd", &[b"Sesame-2"])];
        s.ask("password that is written wrong", &modify(&alpha, unquoted)).await?;
    } else {
        s.ask("password set", &modify(&alpha, &[(Change::Replace, "userPassword", &[b"Sesame-1"])])).await?;
        s.ask("password compared", &compare(&alpha, "userPassword", b"Sesame-9")).await?;
    }
    s.ask("password changed", &password_modify(&alpha, None, "Sesame-2")).await?;
    s.ask("password changed by a wrong one", &password_modify(&alpha, Some("nonsense"), "Sesame-3")).await?;
    s.ask("password of nobody changed", &password_modify(&format!("cn=nobody,{unit}"), None, "Sesame-3")).await?;
    s.ask("who am I", &extended(oid::WHO_AM_I, None)).await?;
    s.ask("entry deleted", &delete(&alpha)).await?;
    s.ask("unit deleted", &delete(&unit)).await?;
    Ok(())
}

pub async fn a_large_photo(s: &mut Session<'_>) -> Result<()> {
    let (unit, alpha) = begin(s).await?;
    // All octets there are, and no two stretches alike.
    let mut state = 0x2545_f491_u32;
    let photo: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    })
    .take(5 << 20)
    .collect();
    s.ask("photo set", &modify(&alpha, &[(Change::Replace, "jpegPhoto", &[&photo])])).await?;
    let read = s.ask("photo read", &search(&alpha, BASE, "(objectClass=*)", &["jpegPhoto"])?).await?;
    let entry = ldap_wire::SearchResultEntry::decode(read.first().context("no entry")?)?;
    ensure!(entry.first("jpegPhoto").is_some_and(|value| value[..] == photo[..]), "another photo");
    s.ask("photo read by an option", &search(&alpha, BASE, "(objectClass=*)", &["jpegPhoto;binary"])?).await?;
    s.ask(
        "photo added with the entry",
        &add(
            &format!("cn=beta,{unit}"),
            &[
                ("objectClass", &[if s.make() == Make::Samba { b"user".as_slice() } else { b"inetOrgPerson" }]),
                ("cn", &[b"beta"]),
                ("sn", &[b"Probe"]),
                ("jpegPhoto", &[&photo[..100], &photo[100..1 << 20]]),
            ],
        ),
    )
    .await?;
    s.ask("all with photos", &search(&unit, ONE, "(sn=Probe)", &["cn", "jpegPhoto"])?.with(sort("cn", false, false)))
        .await?;
    s.ask("photo deleted", &modify(&alpha, &[(Change::Delete, "jpegPhoto", &[])])).await?;
    s.ask("second entry deleted", &delete(&format!("cn=beta,{unit}"))).await?;
    s.ask("entry deleted", &delete(&alpha)).await?;
    s.ask("unit deleted", &delete(&unit)).await?;
    Ok(())
}

pub async fn extended_operations(s: &mut Session<'_>) -> Result<()> {
    s.bind().await?;
    s.ask("who am I", &extended(oid::WHO_AM_I, None)).await?;
    s.ask("extended, unknown", &extended("1.2.3.4.5", Some(b"x"))).await?;
    s.ask("StartTLS within TLS", &extended(oid::START_TLS, None)).await?;
    s.ask("cancel of what is not there", &cancel(4711)).await?;
    s.ask("cancel without a value", &extended(oid::CANCEL, None)).await?;
    s.ask("transaction begun", &extended("1.3.6.1.1.21.1", None)).await?;
    s.ask("fast bind", &extended(oid::FAST_BIND, None)).await?;
    Ok(())
}

pub async fn limits(s: &mut Session<'_>) -> Result<()> {
    // L-18
    s.bind().await?;
    let bulk = s.upstream.bulk();
    let sized = |size_limit| Search { size_limit, ..Search::new(&bulk, ONE, "(cn=*)", SOME) };
    s.ask("size limit 1", &sized(1).request()?).await?;
    s.ask("size limit 123", &sized(123).request()?).await?;
    s.ask("size limit that is not reached", &sized(20_000).request()?).await?;
    s.ask(
        "size limit of a page",
        &sized(5).request()?.with(PagedResults { size: 3, cookie: Default::default() }.to_control(true)),
    )
    .await?;
    // Not indexed so, nobody is found, and it takes far longer than a second.
    let name = if s.make() == Make::Slapd { "mail" } else { "description" };
    let names: Vec<String> = (0..3_000).map(|number| format!("({name}=*x{number}*y*z)")).collect();
    let slow = format!("(|{})", names.concat());
    let request = Search { time_limit_seconds: 1, ..Search::new(&bulk, ONE, &slow, NONE) };
    s.ask("time limit", &request.request()?).await?;
    Ok(())
}

pub async fn synchronisation(s: &mut Session<'_>) -> Result<()> {
    // RFC 4533: entries with a state, intermediate responses, a cookie
    s.bind().await?;
    let people = s.below("ou=people");
    let request = |cookie: Option<&[u8]>| -> Result<Request> {
        Ok(search(&people, ONE, "(objectClass=*)", SOME)?.with(sync(false, cookie)))
    };
    let all = s.ask("refresh of all", &request(None)?).await?;
    let end = all.last().context("no end")?;
    let done = end.controls()?.into_iter().find(|control| control.oid == "1.3.6.1.4.1.4203.1.9.1.3");
    if let Some(value) = done.and_then(|done| done.value) {
        let mut reader = ber::Reader::new(&value);
        let cookie = reader.expect(ber::SEQUENCE)?.reader().octet_string()?.to_vec();
        s.ask("refresh of what is new", &request(Some(&cookie))?).await?;
    }
    s.ask("refresh from a cookie that is none", &request(Some(b"no cookie at all"))?).await?;
    Ok(())
}

/// A search that does not end by itself, in the words of each make.
async fn listen(s: &mut Session<'_>, base: &str) -> Result<u32> {
    let request = search(base, ONE, "(objectClass=*)", NONE)?;
    let listening = match s.make() {
        Make::Slapd | Make::Ds389 => sync(true, None),
        Make::Samba => control("1.2.840.113556.1.4.528", true),
    };
    s.send(&request.with(listening)).await
}

pub async fn abandoned(s: &mut Session<'_>) -> Result<()> {
    s.bind().await?;
    let unit = s.below("ou=probe");
    s.ask("unit added", &add(&unit, &[("objectClass", &[b"organizationalUnit"]), ("ou", &[b"probe"])])).await?;
    let listening = listen(s, &unit).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    s.send(&abandon(listening)).await?;
    let alpha = format!("cn=alpha,{unit}");
    let id = s.send(&person(s.make(), &alpha, "alpha")).await?;
    s.hear_behind("entry added after the listener was abandoned", listening, id).await?;
    s.send(&abandon(4711)).await?;
    // From here on nothing may come of the listener.
    s.ask("entry deleted", &delete(&alpha)).await?;
    let long = s.send(&search(&s.upstream.bulk(), ONE, "(cn=*)", SOME)?).await?;
    s.send(&abandon(long)).await?;
    let id = s.send(&search(&unit, BASE, "(objectClass=*)", NONE)?.with(control("1.2.3.4.5", true))).await?;
    s.hear_behind("search after another was abandoned", long, id).await?;
    s.ask("unit deleted", &delete(&unit)).await?;
    Ok(())
}

pub async fn cancelled(s: &mut Session<'_>) -> Result<()> {
    // RFC 3909. Where nobody offers it, it is refused and the listener listens on.
    s.bind().await?;
    let people = s.below("ou=people");
    let listening = listen(s, &people).await?;
    if s.make() == Make::Slapd {
        let refreshed = |message: &Message| message.op() == Op::IntermediateResponse;
        s.hear_until("all that there is", listening, refreshed).await?;
        let id = s.send(&cancel(listening)).await?;
        return s.hear_all("listener cancelled", &[listening, id]).await;
    }
    let id = s.send(&cancel(listening)).await?;
    s.hear_behind("listener cancelled", listening, id).await
}

pub async fn everybody(s: &mut Session<'_>) -> Result<()> {
    s.bind().await?;
    let all: &[&str] = if s.make() == Make::Samba { &["*"] } else { &["*", "+"] };
    let found = s.ask("ten thousand entries", &search(&s.upstream.bulk(), ONE, "(cn=*)", all)?).await?;
    ensure!(found.len() == BULK + 1, "{} messages", found.len());
    ensure!(found.last().is_some_and(|end| LdapResult::decode(end).is_ok_and(|result| result.is_success())));
    Ok(())
}

pub async fn many_at_once(s: &mut Session<'_>) -> Result<()> {
    // In one segment. Among them two of which nobody says which comes first.
    s.bind().await?;
    let bulk = s.upstream.bulk();
    let requests = (1..=50)
        .map(|number| match number % 5 {
            0 => Ok(compare(&bulk, "ou", b"bulk")),
            1 => search(&bulk, BASE, "(objectClass=*)", &["ou", "objectClass"]),
            _ => search(&bulk, ONE, &format!("(cn=*{number:03})"), SOME),
        })
        .collect::<Result<Vec<_>>>()?;
    let ids = s.send_all(&requests).await?;
    s.hear_all("fifty operations at once", &ids).await
}

pub async fn farewell(s: &mut Session<'_>) -> Result<()> {
    s.bind().await?;
    s.send(&unbind()).await?;
    s.hear_close("unbind").await
}
