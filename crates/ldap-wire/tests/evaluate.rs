//! Filters evaluated without a server (S-14, FD-14): what is said is right at every server, and what servers differ in is not said.

use bytes::Bytes;
use ldap_wire::{Attribute, Filter, Fit, Rules, SearchResultEntry, Seen};
use proptest::prelude::*;

use Fit::{No, Unknown, Yes};
use Rules::{Ds389, Microsoft, Other, Standard};

fn entry(attributes: &[(&str, &[&str])]) -> SearchResultEntry {
    let values = |values: &[&str]| values.iter().map(|value| Bytes::copy_from_slice(value.as_bytes())).collect();
    let attribute = |(name, of): &(&str, &[&str])| Attribute::new(*name, values(of));
    SearchResultEntry { dn: Bytes::from_static(b"cn=somebody"), attributes: attributes.iter().map(attribute).collect() }
}

fn filter(text: &str) -> Filter {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// As if everything had been asked for that the filter names and can be told.
fn fit(text: &str, entry: &SearchResultEntry, rules: Rules) -> Fit {
    let filter = filter(text);
    let mut asked = filter.attributes_to_evaluate(rules);
    asked.extend(entry.attributes.iter().filter_map(|attribute| attribute.description.split(';').next()));
    filter.fit(entry, &Seen { rules, asked: &asked })
}

fn table(entry: &SearchResultEntry, rules: Rules, cases: &[(&str, Fit)]) {
    for (text, expected) in cases {
        assert_eq!(fit(text, entry, rules), *expected, "{text} by {rules:?}");
    }
}

fn user() -> SearchResultEntry {
    entry(&[
        ("objectClass", &["top", "person", "organizationalPerson", "user"]),
        ("objectCategory", &["CN=Person,CN=Schema,CN=Configuration,DC=lab,DC=test"]),
        ("cn", &["Ann Archer"]),
        ("sAMAccountName", &["ann.archer"]),
        ("department", &["Sales & Service"]),
        ("l", &["Köln"]),
        ("userAccountControl", &["66050"]),
        ("accountExpires", &["9223372036854775807"]),
        ("pwdLastSet", &["0"]),
        ("whenCreated", &["20240229235959.0Z"]),
        ("msExchHideFromAddressLists", &["TRUE"]),
        ("memberOf", &["CN=VPN,OU=Groups,DC=lab,DC=test", "<GUID=00>;<SID=S-1-5>;CN=Wi-Fi,OU=Groups,DC=lab,DC=test"]),
        ("telephoneNumber", &["+49 30 1234-5"]),
    ])
}

fn group() -> SearchResultEntry {
    entry(&[
        ("objectClass", &["top", "group"]),
        ("objectCategory", &["CN=Group,CN=Schema,CN=Configuration,DC=lab,DC=test"]),
        ("groupType", &["-2147483646"]),
    ])
}

#[test]
fn the_default_filters_are_told_for_users_groups_and_the_rest() {
    // FD-12 to FD-14, and whatever a DirSync feed tells of beside them
    let users = "(&(objectCategory=person)(objectClass=user))";
    let groups = "(&(objectCategory=group)(groupType:1.2.840.113556.1.4.804:=2147483648))";
    let containers = "(|(objectClass=organizationalUnit)(objectClass=container))";
    let computer = entry(&[
        ("objectClass", &["top", "person", "organizationalPerson", "user", "computer"]),
        ("objectCategory", &["CN=Computer,CN=Schema,CN=Configuration,DC=lab,DC=test"]),
    ]);
    let unit = entry(&[
        ("objectClass", &["top", "organizationalUnit"]),
        ("objectCategory", &["CN=Organizational-Unit,CN=Schema,CN=Configuration,DC=lab,DC=test"]),
    ]);
    let mut distribution = group();
    distribution.attributes[2].values = vec!["2".into()];
    for (entry, expected) in [
        (&user(), [Yes, No, No]),
        (&group(), [No, Yes, No]),
        (&distribution, [No, No, No]),
        (&computer, [No, No, No]),
        (&unit, [No, No, Yes]),
    ] {
        assert_eq!([users, groups, containers].map(|text| fit(text, entry, Microsoft)), expected, "{entry:?}");
    }
    let (people, groups) = (
        "(objectClass=inetOrgPerson)",
        "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=posixGroup))",
    );
    for rules in [Standard, Ds389] {
        for (classes, expected) in [
            (&["inetOrgPerson", "posixAccount"][..], [Yes, No, No]),
            (&["groupOfNames"], [No, Yes, No]),
            (&["top", "posixGroup"], [No, Yes, No]),
            (&["organizationalUnit"], [No, No, Yes]),
            (&["device", "top"], [No, No, No]),
            (&["acmePerson"], [Unknown; 3]),
        ] {
            let entry = entry(&[("objectClass", classes)]);
            assert_eq!([people, groups, containers].map(|text| fit(text, &entry, rules)), expected, "{classes:?}");
        }
    }
}

#[test]
fn and_or_and_not_say_what_follows_whatever_an_unknown_item_is() {
    // RFC 4511 section 4.5.1.7: `sn~=x` is of the kind that only a server can tell
    table(
        &entry(&[("cn", &["ann"])]),
        Standard,
        &[
            ("(cn=ann)", Yes),
            ("(cn=bob)", No),
            ("(sn~=x)", Unknown),
            ("(!(sn~=x))", Unknown),
            ("(&(cn=bob)(sn~=x))", No),
            ("(&(cn=ann)(sn~=x))", Unknown),
            ("(|(cn=ann)(sn~=x))", Yes),
            ("(|(cn=bob)(sn~=x))", Unknown),
            ("(!(&(cn=bob)(sn~=x)))", Yes),
            ("(!(|(cn=ann)(sn~=x)))", No),
            ("(&)", Unknown),
            ("(|)", Unknown),
        ],
    );
}

#[test]
fn what_is_absent_is_told_only_where_one_right_is_for_reading_and_for_searching() {
    // Where it may be false or Undefined, its negation is nobody's to tell.
    let nobody = entry(&[("objectClass", &["user"])]);
    table(
        &nobody,
        Microsoft,
        &[
            ("(mobile=*)", No),
            ("(mobile=1)", No),
            ("(mobile=*1*)", No),
            ("(userAccountControl:1.2.840.113556.1.4.803:=2)", No),
            ("(pwdLastSet>=0)", No),
            ("(uSNChanged>=0)", Unknown),
            ("(objectCategory=person)", Unknown),
            ("(!(mobile=*))", Unknown),
            ("(!(mobile=1))", Unknown),
            ("(&(objectClass=user)(mobile=1))", No),
        ],
    );
    for rules in [Standard, Ds389, Other] {
        table(&nobody, rules, &[("(mobile=*)", Unknown), ("(mobile=1)", Unknown), ("(!(mobile=1))", Unknown)]);
    }
    // What does not show its classes is hidden, and found all the same: by Samba, for one.
    table(&entry(&[("cn", &["x"])]), Microsoft, &[("(mobile=1)", Unknown), ("(cn=y)", No)]);
    // Nobody asked for it.
    let seen = Seen { rules: Microsoft, asked: &["objectClass"] };
    assert_eq!(filter("(mobile=1)").fit(&nobody, &seen), Unknown);
    assert_eq!(filter("(objectClass=user)").fit(&nobody, &Seen { asked: &[], ..seen }), Yes, "it is there");
}

#[test]
fn texts_are_the_same_or_different_only_where_no_rule_says_otherwise() {
    table(
        &user(),
        Microsoft,
        &[
            ("(department=sales & service)", Yes),
            ("(department=Sales  & Service)", Unknown),
            ("(department=Sales&Service)", Unknown),
            ("(department=Sales & Service )", Unknown),
            ("(department=Sales & Services)", No),
            ("(department=Sales)", No),
            ("(!(department=Sales))", Yes),
            ("(department=)", Unknown),
            ("(department=--)", Unknown),
            ("(department=\\ff)", Unknown),
            ("(l=Köln)", Yes),
            ("(l=köln)", Unknown),
            ("(l=Koln)", Unknown),
            ("(l=Bonn)", No),
            ("(l=K)", Unknown),
            ("(department=*service)", Yes),
            ("(department=sales*)", Yes),
            ("(department=*s & s*)", Yes),
            ("(department=s*s*e)", Yes),
            ("(department=*x*)", No),
            ("(department=service*sales)", No),
            ("(department=Sales *)", Unknown),
            ("(department=*&*)", Unknown),
            ("(department=Sales*Sales)", No),
            ("(department=Sales & Ser*r*vice)", No),
            ("(l=K*)", Unknown),
            ("(l=Kx*)", Unknown),
            ("(l=B*)", No),
            ("(l=*m)", No),
            ("(l=*xn)", No),
            ("(l=*xln)", Unknown),
            ("(l=*x*)", Unknown),
            ("(cn>=A)", Unknown),
            ("(telephoneNumber=+49 30 1234-5)", Yes),
            ("(telephoneNumber=+49 30 12345)", Unknown),
            ("(telephoneNumber=+49 30 99999)", No),
            ("(!(telephoneNumber=+49 30 99999))", Unknown),
            ("(telephoneNumber=+49 30*)", Yes),
            ("(telephoneNumber=*1234*)", Yes),
            ("(telephoneNumber=*12345)", Unknown),
        ],
    );
}

#[test]
fn bits_and_numbers_are_those_of_the_size_the_server_keeps() {
    table(
        &user(),
        Microsoft,
        &[
            ("(userAccountControl:1.2.840.113556.1.4.803:=2)", Yes),
            ("(!(userAccountControl:1.2.840.113556.1.4.803:=2))", No),
            ("(userAccountControl:1.2.840.113556.1.4.803:=514)", Yes),
            ("(userAccountControl:1.2.840.113556.1.4.803:=18)", No),
            ("(userAccountControl:1.2.840.113556.1.4.804:=18)", Yes),
            ("(userAccountControl:1.2.840.113556.1.4.804:=16)", No),
            ("(userAccountControl:1.2.840.113556.1.4.803:=0)", Yes),
            ("(userAccountControl:1.2.840.113556.1.4.804:=0)", No),
            ("(userAccountControl:1.2.840.113556.1.4.803:=4294967296)", Unknown),
            ("(userAccountControl:1.2.840.113556.1.4.803:=0x2)", Unknown),
            ("(userAccountControl:1.2.840.113556.1.4.803:=two)", Unknown),
            ("(userAccountControl:1.2.840.113556.1.4.1941:=2)", Unknown),
            ("(userAccountControl:dn:1.2.840.113556.1.4.803:=2)", Unknown),
            ("(:1.2.840.113556.1.4.803:=2)", Unknown),
            ("(accountExpires:1.2.840.113556.1.4.803:=4611686018427387904)", Yes),
            ("(accountExpires:1.2.840.113556.1.4.803:=-9223372036854775808)", No),
            ("(userAccountControl=66050)", Yes),
            ("(userAccountControl=066050)", Unknown),
            ("(userAccountControl=512)", No),
            ("(userAccountControl>=66050)", Yes),
            ("(userAccountControl<=66049)", No),
            ("(userAccountControl=99999999999)", Unknown),
            ("(accountExpires>=9223372036854775807)", Yes),
            ("(pwdLastSet<=0)", Yes),
            ("(pwdLastSet=0)", Yes),
            ("(whenCreated>=20240101000000Z)", Yes),
            ("(whenCreated<=20240101000000.0Z)", No),
            ("(whenCreated>=20240101)", Unknown),
            ("(whenCreated>=20241301000000Z)", Unknown),
            ("(whenCreated>=20230229000000Z)", Unknown),
            ("(msExchHideFromAddressLists=TRUE)", Yes),
            ("(!(msExchHideFromAddressLists=FALSE))", Yes),
            ("(msExchHideFromAddressLists=true)", Unknown),
        ],
    );
    table(
        &group(),
        Microsoft,
        &[
            ("(groupType:1.2.840.113556.1.4.803:=2147483648)", Yes),
            ("(groupType:1.2.840.113556.1.4.803:=-2147483648)", Yes),
            ("(groupType:1.2.840.113556.1.4.804:=-2147483648)", Yes),
            ("(groupType:1.2.840.113556.1.4.803:=2147483650)", Yes),
            ("(groupType:1.2.840.113556.1.4.804:=8)", No),
            ("(groupType=-2147483646)", Yes),
            ("(groupType=2147483650)", Unknown),
            ("(groupType<=0)", Yes),
        ],
    );
    let posix = entry(&[("uidNumber", &["1000"])]);
    for rules in [Standard, Ds389] {
        table(
            &posix,
            rules,
            &[
                ("(uidNumber=1000)", Yes),
                ("(uidNumber=1001)", No),
                ("(uidNumber>=1)", Unknown),
                ("(uidNumber:1.2.840.113556.1.4.803:=8)", Unknown),
            ],
        );
    }
}

#[test]
fn names_are_compared_as_names() {
    table(
        &user(),
        Microsoft,
        &[
            ("(memberOf=cn=vpn, ou=groups,dc=lab,dc=test)", Yes),
            ("(memberOf=CN=Wi-Fi,OU=Groups,DC=lab,DC=test)", Yes),
            ("(memberOf=CN=WiFi,OU=Groups,DC=lab,DC=test)", Unknown),
            ("(memberOf=CN=Other,OU=Groups,DC=lab,DC=test)", No),
            ("(memberOf=CN=VPN,DC=lab,DC=test)", No),
            ("(!(memberOf=CN=VPN,OU=Groups,DC=lab,DC=test))", No),
            ("(!(memberOf=CN=Other,OU=Groups,DC=lab,DC=test))", Unknown),
            ("(memberOf=<GUID=00>)", Unknown),
            ("(memberOf=acme=VPN,DC=lab,DC=test)", Unknown),
            ("(memberOf=VPN)", Unknown),
            ("(memberOf=CN=V*)", Unknown),
            ("(memberOf:1.2.840.113556.1.4.1941:=CN=VPN,OU=Groups,DC=lab,DC=test)", Unknown),
            ("(objectCategory=user)", Yes),
            ("(objectCategory=computer)", No),
            ("(objectCategory=acmeThing)", Unknown),
            ("(objectCategory=CN=Person,CN=Schema,CN=Configuration,DC=lab,DC=test)", Yes),
            ("(objectCategory=CN=Group,CN=Schema,CN=Configuration,DC=lab,DC=test)", Unknown),
        ],
    );
    let person = entry(&[("memberOf", &["cn=vpn,dc=acme"]), ("manager", &["uid=bob,dc=acme"])]);
    table(&person, Ds389, &[("(memberOf=cn=VPN,dc=acme)", Yes), ("(manager=uid=bob,dc=acme)", Yes)]);
    // An overlay may compute it as it sends it.
    table(&person, Standard, &[("(memberOf=cn=vpn,dc=acme)", Unknown), ("(manager=uid=bob,dc=acme)", Yes)]);
}

#[test]
fn a_class_that_is_not_listed_is_told_only_of_classes_that_are_known() {
    let person = entry(&[("objectClass", &["inetOrgPerson"])]);
    for rules in [Standard, Ds389] {
        table(
            &person,
            rules,
            &[
                // OpenLDAP says yes, others no.
                ("(objectClass=person)", Unknown),
                ("(objectClass=top)", Unknown),
                ("(objectClass=posixAccount)", No),
                // The server need not know the class.
                ("(!(objectClass=posixAccount))", Unknown),
                ("(objectClass=acmePerson)", Unknown),
                ("(objectClass=2.16.840.1.113730.3.2.2)", Unknown),
                ("(objectClass=INETORGPERSON)", Yes),
                ("(objectClass=*)", Yes),
            ],
        );
    }
    table(&person, Other, &[("(objectClass=groupOfNames)", Unknown), ("(objectClass=inetOrgPerson)", Yes)]);
    table(
        &user(),
        Microsoft,
        &[("(objectClass=computer)", No), ("(!(objectClass=computer))", Yes), ("(objectClass=acme)", Unknown)],
    );
    assert_eq!(fit("(objectClass=person)", &entry(&[]), Microsoft), Unknown, "everybody has one: it is hidden");
}

#[test]
fn options_ranges_and_what_nobody_asked_for_leave_a_no_open() {
    let optioned = entry(&[("cn", &["ann"]), ("cn;lang-de", &["Änne"]), ("sn;lang-de", &["Bogen"])]);
    let part = entry(&[("proxyAddresses;range=0-1499", &["smtp:a@b"]), ("cn", &[])]);
    for rules in [Standard, Microsoft] {
        table(
            &optioned,
            rules,
            &[
                ("(cn=ann)", Yes),
                ("(cn=Änne)", Unknown),
                ("(cn=bob)", Unknown),
                ("(cn;lang-de=ann)", Unknown),
                ("(sn=*)", Unknown),
            ],
        );
    }
    table(&part, Microsoft, &[("(proxyAddresses=smtp:x@y)", Unknown), ("(cn=*)", Unknown), ("(cn=a)", Unknown)]);
    // `acmeName` may be a kind of `cn`: it came because `cn` was asked for.
    let subtype = entry(&[("cn", &["ann"]), ("acmeName", &["bob"])]);
    let seen = Seen { rules: Standard, asked: &["cn"] };
    assert_eq!(filter("(cn=bob)").fit(&subtype, &seen), Unknown);
    assert_eq!(filter("(cn=ann)").fit(&subtype, &seen), Yes);
    assert_eq!(filter("(cn=bob)").fit(&subtype, &Seen { asked: &["cn", "acmename"], ..seen }), No);
}

#[test]
fn no_secret_and_nothing_that_cannot_be_told_is_asked_for() {
    let everything = filter(
        "(&(cn=a)(CN=b)(userPassword=*)(unicodePwd=*)(ms-Mcs-AdmPwd=*)(krbPrincipalKey=*)(sambaNTPassword=*)(acme=1)(jpegPhoto=*)\
         (cn;lang-de=x)(2.5.4.3=x)(|(department=x)(extensionAttribute15=1)(extensionAttribute16=1)(extensionAttribute01=1)))",
    );
    assert_eq!(everything.attributes_to_evaluate(Microsoft), ["cn", "department", "extensionAttribute15"]);
    assert_eq!(everything.attributes_to_evaluate(Standard), ["cn"]);
    table(&user(), Microsoft, &[("(userPassword=*)", Unknown), ("(unicodePwd=x)", Unknown)]);
}

/// How a server might do it: all of these are lawful.
#[derive(Clone, Copy, Debug)]
struct Server {
    absent_is_undefined: bool,
    folds_spaces: bool,
    folds_hyphens: bool,
    folds_accents: bool,
}

impl Server {
    fn normal(self, value: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(value).to_lowercase();
        if self.folds_accents {
            text = text.replace('ö', "o");
        }
        if self.folds_hyphens {
            text = text.replace('-', "");
        }
        if self.folds_spaces { text.split_whitespace().collect::<Vec<_>>().join(" ") } else { text }
    }

    /// `None` = Undefined.
    fn truth(self, filter: &Filter, entry: &SearchResultEntry) -> Option<bool> {
        let values = |attribute: &str| -> Option<Vec<String>> {
            let found = entry.attribute(attribute)?;
            Some(found.values.iter().map(|value| self.normal(value)).collect())
        };
        let absent = if self.absent_is_undefined { None } else { Some(false) };
        match filter {
            Filter::And(all) => {
                let truths: Vec<_> = all.iter().map(|filter| self.truth(filter, entry)).collect();
                if truths.contains(&Some(false)) {
                    Some(false)
                } else {
                    truths.into_iter().collect::<Option<Vec<_>>>().map(|_| true)
                }
            }
            Filter::Or(all) => {
                let truths: Vec<_> = all.iter().map(|filter| self.truth(filter, entry)).collect();
                if truths.contains(&Some(true)) {
                    Some(true)
                } else {
                    truths.into_iter().collect::<Option<Vec<_>>>().map(|_| false)
                }
            }
            Filter::Not(filter) => self.truth(filter, entry).map(|truth| !truth),
            Filter::Present(attribute) => Some(values(attribute).is_some()),
            Filter::Equal { attribute, value } => match values(attribute) {
                Some(values) => Some(values.contains(&self.normal(value))),
                None => absent,
            },
            Filter::Substrings { attribute, initial, any, last } => {
                let Some(values) = values(attribute) else { return absent };
                let part = |part: &Option<Vec<u8>>| part.as_ref().map_or(String::new(), |part| self.normal(part));
                let holds = |value: &String| {
                    let mut rest = value.strip_prefix(&part(initial))?;
                    for wanted in any {
                        rest = rest.split_once(&self.normal(wanted))?.1;
                    }
                    rest.ends_with(&part(last)).then_some(())
                };
                Some(values.iter().any(|value| holds(value).is_some()))
            }
            other => panic!("not made here: {other}"),
        }
    }
}

fn word() -> impl Strategy<Value = String> {
    "[ab]?[ -]{0,2}[ABö]?"
        .prop_filter("a value is not empty", |text| !text.trim().is_empty())
        .prop_map(|text| text.trim().to_owned())
        .prop_filter("nor nothing but a sign", |text| text != "-" && text != "--")
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let name = prop_oneof![Just("cn"), Just("sn"), Just("department")];
    let octets = || word().prop_map(String::into_bytes);
    let leaf = prop_oneof![
        (name.clone(), word()).prop_map(|(name, value)| Filter::equal(name, value)),
        name.clone().prop_map(Filter::present),
        (name, prop::option::of(octets()), prop::collection::vec(octets(), 1..3), prop::option::of(octets())).prop_map(
            |(attribute, initial, any, last)| Filter::Substrings { attribute: attribute.into(), initial, any, last }
        ),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(Filter::And),
            prop::collection::vec(inner.clone(), 1..3).prop_map(Filter::Or),
            inner.prop_map(Filter::not),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_said_is_said_by_every_server(
        filter in any_filter(),
        cn in prop::collection::vec(word(), 1..3),
        sn in prop::option::of(word()),
    ) {
        let values = |values: &[String]| values.iter().map(|value| Bytes::from(value.clone())).collect::<Vec<_>>();
        let mut attributes = vec![Attribute::new("objectClass", vec!["user".into()]), Attribute::new("cn", values(&cn))];
        attributes.extend(sn.map(|sn| Attribute::new("sn", values(&[sn]))));
        let entry = SearchResultEntry { dn: Bytes::new(), attributes };
        let said = filter.fit(&entry, &Seen { rules: Microsoft, asked: &["objectClass", "cn", "sn", "department"] });
        for number in 0..16_u8 {
            let bit = |place: u8| number & (1 << place) != 0;
            let server =
                Server { absent_is_undefined: bit(0), folds_spaces: bit(1), folds_hyphens: bit(2), folds_accents: bit(3) };
            let answer = server.truth(&filter, &entry) == Some(true);
            prop_assert!(said == Unknown || answer == (said == Yes), "{said:?} of {filter}, and {server:?} says {answer}");
        }
    }

    #[test]
    fn no_filter_and_no_entry_make_it_panic(
        octets in prop::collection::vec(any::<u8>(), 0..60),
        name in prop_oneof![Just("cn"), Just("memberOf"), Just("groupType"), Just("whenCreated"), Just("objectCategory"), Just("objectClass"), Just("mobile")],
    ) {
        let entry = SearchResultEntry { dn: Bytes::new(), attributes: vec![Attribute::new(name, vec![octets.clone().into()])] };
        let seen = Seen { rules: Microsoft, asked: &[name] };
        let equal = Filter::equal(name, octets.clone());
        let part = Filter::Substrings { attribute: name.into(), initial: Some(octets.clone()), any: Vec::new(), last: None };
        let bits = Filter::Extensible { rule: Some("1.2.840.113556.1.4.803".into()), attribute: Some(name.into()), value: octets, dn_attributes: false };
        for filter in [equal, part, bits] {
            // The value itself: whatever the server makes of it, it is never said that it is not there.
            prop_assert_ne!(filter.fit(&entry, &seen), No);
            prop_assert_ne!(Filter::not(filter).fit(&entry, &seen), Yes);
        }
    }
}
