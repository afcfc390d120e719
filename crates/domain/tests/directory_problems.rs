//! What is wrong with the settings of a directory's connections, one test a rule (FD-03, FD-06 to FD-08, B-96).

use domain::settings::{Settings, Severity, WindowsAccount, WindowsMechanism, each_attribute};

const GOOD: &str = r#"
[[directory]]
name = "corp"
urls = ["ldaps://dc1.corp.example", "ldap://dc2.corp.example"]
base = "DC=corp,DC=example"
query_bind = { kind = "windows", name = "CORP\\twinlock", password = "keep" }
authentication_bind = { kind = "windows" }
"#;

/// The errors of the good document with one thing put for another.
fn errors(old: &str, new: &str) -> Vec<String> {
    assert!(GOOD.contains(old), "the good document has no {old:?}");
    let settings: Settings = toml::from_str(&GOOD.replacen(old, new, 1)).expect("a document of the right form");
    let errors = settings.problems().into_iter().filter(|problem| problem.severity == Severity::Error);
    errors.map(|problem| problem.to_string()).collect()
}

#[test]
fn a_windows_bind_has_an_account_and_active_directory_behind_it() {
    assert_eq!(errors("corp", "corp"), [""; 0]);
    assert_eq!(errors("CORP\\\\twinlock", "twinlock@corp.example"), [""; 0]);
    let preset = |preset: &str| format!("name = \"corp\"\npreset = \"{preset}\"");
    for (old, new, key, says) in [
        ("name = \"CORP\\\\twinlock\", ", "", "query_bind.password", "belongs to no account"),
        ("CORP\\\\twinlock", "CN=twinlock,DC=corp", "query_bind.name", "an account is written"),
        ("CORP\\\\twinlock", "twinlock", "query_bind.name", "an account is written"),
        (", password = \"keep\"", "", "query_bind.password", "is missing"),
        ("name = \"corp\"", &preset("openldap"), "query_bind.kind", "understood by Active Directory"),
        ("name = \"corp\"", &preset("ad_lds"), "authentication_bind.kind", "Active Directory's own accounts"),
    ] {
        let found = errors(old, new);
        let expected = format!("directory.corp.{key}: ");
        assert!(found.iter().any(|it| it.starts_with(&expected) && it.contains(says)), "{old} -> {new}: {found:?}");
    }
    let by_keytab = |mechanism: &str| {
        let text = GOOD.replace(", name = \"CORP\\\\twinlock\", password = \"keep\"", "");
        let settings: Settings = toml::from_str(&(text + mechanism)).expect("a document of the right form");
        settings.problems().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(by_keytab("windows_mechanism = \"kerberos\""), by_keytab(""), "FD-08: the keytab of the host");
    assert!(by_keytab("").iter().all(|it| !it.contains("query_bind")), "{:?}", by_keytab(""));
    let ntlm = by_keytab("windows_mechanism = \"ntlm\"");
    assert!(ntlm.iter().any(|it| it.starts_with("directory.corp.query_bind.name: ") && it.contains("NTLM has none")));
    let lds = errors("name = \"corp\"", &preset("ad_lds"));
    assert_eq!(lds.len(), 1, "our own account may be a Windows one there: {lds:?}");
}

#[test]
fn an_account_is_a_domain_and_a_user_and_nothing_else() {
    // FD-08
    let of = |user: &str, domain: &str| Some(WindowsAccount { user: user.into(), domain: domain.into() });
    assert_eq!(WindowsAccount::parse(r"CORP\svc ldap"), of("svc ldap", "CORP"));
    assert_eq!(WindowsAccount::parse("svc@corp.example"), of("svc@corp.example", ""));
    for none in ["", "svc", r"\svc", r"CORP\", "@corp", "svc@", r"A\B\C", "CN=svc,DC=corp", "CORP/svc", "a\nb@corp"] {
        assert_eq!(WindowsAccount::parse(none), None, "{none:?}");
    }
}

#[test]
fn an_id_that_somebody_writes_is_warned_about() {
    // FD-31
    let warned = |id: &str| {
        let text = GOOD.to_owned() + &format!("attributes = {{ id = \"{id}\" }}");
        let problems = toml::from_str::<Settings>(&text).expect("a document").problems();
        problems
            .iter()
            .any(|it| it.severity == Severity::Warning && it.to_string().contains("which tell of no deletion"))
    };
    assert!(warned("employeeID") && warned("mS-DS-ConsistencyGuid"));
    assert!(!warned("objectGUID") && !warned("ENTRYUUID"), "servers hand these out");
}

#[test]
fn a_kept_password_is_asked_for_again_where_it_would_be_less_protected() {
    // V-83
    let directory = |kind: &str| {
        let text = GOOD.replace("query_bind = { kind = \"windows\"", &format!("query_bind = {{ kind = \"{kind}\""));
        toml::from_str::<Settings>(&text).expect("a document").directories.remove(0)
    };
    for (before, after, elsewhere) in [
        ("tls", "windows", true), // what others can record of it can be tried against
        ("windows", "simple", true),
        ("simple", "windows", true),
        ("windows", "tls", false),
        ("windows", "windows", false),
    ] {
        assert_eq!(
            directory(after).sends_password_elsewhere_than(&directory(before)),
            elsewhere,
            "{before} -> {after}"
        );
    }
    // What goes to port 88 is not inside TLS.
    let mut insists = directory("windows");
    insists.windows_mechanism = WindowsMechanism::Ntlm;
    assert!(directory("windows").sends_password_elsewhere_than(&insists));
    let mut unused = directory("tls");
    unused.windows_mechanism = WindowsMechanism::Ntlm;
    assert!(!unused.sends_password_elsewhere_than(&directory("tls")));
}

#[test]
fn servers_are_named_one_by_one_in_one_text_or_by_the_dns() {
    // FD-03
    let urls = |written: &str| {
        let text = GOOD.replace("[\"ldaps://dc1.corp.example\", \"ldap://dc2.corp.example\"]", written);
        toml::from_str::<Settings>(&text).expect("a document").directories.remove(0).urls
    };
    assert_eq!(
        urls(r#"["ldaps://one:3636; two ;ldap://three;"]"#),
        ["ldaps://one:3636", "ldaps://two", "ldap://three"]
    );
    assert_eq!(urls(r#"["one;two"]"#), ["one", "two"], "and each is refused");
    let many = format!("ldaps://{}", ["x"; 17].join(";"));
    let one = "\"ldaps://dc1.corp.example\", \"ldap://dc2.corp.example\"";
    assert!(errors(one, &format!("\"{many}\""))[0].contains("found 17; allowed are 1 to 16"));
    assert_eq!(errors(one, "\"ldaps+srv://corp.example\", \"ldap://dc9.corp.example\""), [""; 0]);
    for (written, says) in [
        ("\"ldaps+srv://\"", "a server is written"),
        ("\"ldap+srv://corp.example:389\"", "stands a domain and nothing else"),
        ("\"srv://corp.example\"", "a server is written"),
    ] {
        let found = errors(one, written);
        assert!(found.len() == 1 && found[0].contains(says), "{written}: {found:?}");
    }
    let other =
        GOOD.replace("name = \"corp\"", "name = \"corp\"\npreset = \"openldap\"").replace(one, "\"ldaps+srv://corp\"");
    let other = toml::from_str::<Settings>(&other).expect("a document").problems();
    assert!(other.iter().any(|problem| problem.to_string().contains("only a domain of Active Directory")), "{other:?}");
}

#[test]
fn an_attribute_ends_at_a_semicolon_unless_an_option_follows() {
    // FD-30 to FD-41
    for (written, expected) in [
        ("mail", &["mail"][..]),
        ("mail;otherMailbox", &["mail", "otherMailbox"]),
        ("mail; otherMailbox ;proxyAddresses", &["mail", "otherMailbox", "proxyAddresses"]),
        ("l;lang-de;l", &["l;lang-de", "l"]),
        ("sn;LANG-de;x-foo;givenName;binary", &["sn;LANG-de", "x-foo", "givenName;binary"]),
        ("lang-de", &["lang-de"]),
        ("sn;language", &["sn", "language"]),
        ("sn;", &["sn", ""]),
        (";", &["", ""]),
        ("", &[""]),
        ("m\u{e4}il;\u{e4}\u{e4}\u{e4}", &["m\u{e4}il", "\u{e4}\u{e4}\u{e4}"]),
    ] {
        assert_eq!(each_attribute(written).collect::<Vec<_>>(), expected, "{written}");
    }
}

#[test]
fn a_global_catalogue_is_no_server_of_a_directory() {
    // S-53
    let server = "ldap://dc2.corp.example";
    for port in ["3268", "3269"] {
        for url in [format!("ldap://dc2.corp.example:{port}"), format!("ldaps://[2001:db8::1]:{port}/")] {
            let found = errors(server, &url);
            let expected = format!("directory.corp.urls: found {url:?}, the port of a global catalogue");
            assert!(found.len() == 1 && found[0].starts_with(&expected), "{url}: {found:?}");
        }
    }
    for url in ["ldap://dc2.corp.example:389", "ldap://dc2.corp.example:32680", "ldaps://[2001:db8::3268]"] {
        assert_eq!(errors(server, url), [""; 0], "{url}");
    }
    let trusted = "base = \"DC=corp,DC=example\"\ntrusted_domains = true\ntrusted = { \"x.test\" = { urls = [\"ldaps://gc:3269\"] } }";
    let found = errors("base = \"DC=corp,DC=example\"", trusted);
    assert!(found.len() == 1 && found[0].starts_with("directory.corp.trusted.x.test.urls: "), "{found:?}");
    let other =
        GOOD.replace("name = \"corp\"", "name = \"corp\"\npreset = \"openldap\"").replace(server, "ldap://x:3268");
    let other = toml::from_str::<Settings>(&other).expect("a document").problems();
    assert!(other.iter().all(|problem| !problem.to_string().contains("catalogue")), "{other:?}");
}

#[test]
fn other_domains_are_included_only_where_names_and_account_can_lead_there() {
    // FD-02
    const ON: &str = "base = \"DC=corp,DC=example\"\ntrusted_domains = true";
    const UNSAID: &str = "base = \"DC=corp,DC=example\"";
    let base = UNSAID;
    assert_eq!(errors(base, ON), [""; 0]);
    for more in ["strip_domain = true", "attributes = { id = \"employeeID\" }"] {
        assert_eq!(errors(base, &format!("{UNSAID}\n{more}")), [""; 0], "{more}: off by itself");
    }
    for (more, key, says) in [
        ("strip_domain = true", "trusted_domains", "any domain counts as this directory's own"),
        ("preset = \"ad_lds\"", "trusted_domains", "only a domain of Active Directory lists others"),
        ("windows_mechanism = \"kerberos\"", "trusted_domains", "Kerberos ticket"),
        // FD-31: two domains may each have written it.
        ("attributes = { id = \"employeeID\" }", "trusted_domains", "would be the same person"),
        ("trusted = { \"a b\" = { urls = [\"ldaps://dc1\"] } }", "trusted", "a domain is written"),
        ("trusted = { \"x.test\" = { urls = [\"http://dc1\"] } }", "trusted.x.test.urls", "a server is written"),
        ("trusted = { \"x.test\" = { urls = [] } }", "trusted.x.test.urls", "allowed are 1 to 16"),
    ] {
        let found = errors(base, &format!("{ON}\n{more}"));
        let expected = format!("directory.corp.{key}: ");
        assert!(found.iter().any(|it| it.starts_with(&expected) && it.contains(says)), "{more}: {found:?}");
    }
    assert_eq!(errors(base, &format!("{ON}\nattributes = {{ id = \"objectguid\" }}")), [""; 0]);
    let unused = |more: &str| {
        let servers = format!("{base}\ntrusted = {{ \"x.test\" = {{ urls = [\"ldaps://dc1\"] }} }}\n{more}");
        let found = toml::from_str::<Settings>(&GOOD.replace(base, &servers)).expect("a document").problems();
        found.iter().map(ToString::to_string).find(|it| it.contains("trusted_domains is off"))
    };
    assert!(unused("trusted_domains = false").is_some_and(|it| !it.contains("since")));
    assert!(unused("strip_domain = true").is_some_and(|it| it.contains("is off, since with strip_domain")));
    assert_eq!(unused(""), None, "it is on");
    let alone = |sync_bind: &str| {
        let document = GOOD.replace(base, &format!("{ON}\nsync_bind = {{ {sync_bind} }}"));
        let problems = toml::from_str::<Settings>(&document).expect("a document").problems();
        problems.iter().any(|it| it.to_string().contains("synchronisation reads this domain alone"))
    };
    assert!(alone("kind = \"anonymous\"") && alone("kind = \"windows\", name = \"\""));
    assert!(!alone("kind = \"windows\", name = 'CORP\\sync', password = \"keep\""));
}

#[test]
fn a_kept_password_is_asked_for_again_before_servers_of_other_domains_get_it() {
    // FD-02, V-83
    let with = |more: &str| {
        let text = GOOD.replace("base =", &format!("{more}\nbase ="));
        toml::from_str::<Settings>(&text).expect("a document").directories.remove(0)
    };
    let named =
        |url: &str| with(&format!("trusted_domains = true\ntrusted = {{ \"x.test\" = {{ urls = [\"{url}\"] }} }}"));
    let (off, on) = (with("trusted_domains = false"), with(""));
    for (after, before, elsewhere) in [
        (&on, &off, true),
        (&off, &on, false),
        (&on, &on, false),
        (&named("ldaps://dc1"), &on, true),
        (&named("ldaps://dc1"), &named("ldaps://dc1"), false),
        (&named("ldaps://evil"), &named("ldaps://dc1"), true),
        (&on, &named("ldaps://dc1"), false),
    ] {
        assert_eq!(after.sends_password_elsewhere_than(before), elsewhere, "{:?} {:?}", after.trusted, before.trusted);
    }
}
