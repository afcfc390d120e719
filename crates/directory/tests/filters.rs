//! Filters evaluated here against the servers that would evaluate them (S-14, FD-14): wherever something is said here, the server's own
//! search agrees. The filters are drawn by a seed; `FILTERS_SEED` draws others.

mod support;

use anyhow::{Context, Result, ensure};
use directory::{Directory, Options, Query};
use domain::Secret;
use domain::settings::{BindKind, Preset, QueryBind};
use lab::{COMPANY_BASE, Pki, Samba, Slapd, SlapdOptions};
use ldap_wire::{Filter, Fit, Rules, Scope, SearchResultEntry, Seen};
use std::collections::{BTreeMap, BTreeSet};

/// Filters that are drawn.
const DRAWN: usize = 400;

/// A directory with everything that its account may read of some attributes.
struct Subject {
    directory: Directory,
    rules: Rules,
    asked: Vec<&'static str>,
    entries: Vec<SearchResultEntry>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    yes: usize,
    no: usize,
    unknown: usize,
}

impl Subject {
    async fn of(directory: Directory, rules: Rules, asked: &[&'static str]) -> Result<Self> {
        let all = Query::new(&directory.settings().base, Scope::Subtree, Filter::present("objectClass"), asked);
        let entries = directory.reader().read(all).collect().await?;
        Ok(Self { directory, rules, asked: asked.to_vec(), entries })
    }

    /// Whom the server finds.
    async fn found(&self, filter: &Filter) -> Result<BTreeSet<Vec<u8>>> {
        let query = Query::new(&self.directory.settings().base, Scope::Subtree, filter.clone(), &["1.1"]);
        let found = self.directory.reader().read(query).collect().await.with_context(|| filter.to_string())?;
        Ok(found.into_iter().map(|entry| entry.dn.to_vec()).collect())
    }

    /// What is said of these entries, in which the server agrees.
    async fn said(&self, filter: &Filter, of: impl Fn(&SearchResultEntry) -> bool) -> Result<Said> {
        let found = self.found(filter).await?;
        let mut said = Said::default();
        for entry in &self.entries {
            let fit = filter.fit(entry, &Seen { rules: self.rules, asked: &self.asked });
            let fits = found.contains(&entry.dn.to_vec());
            ensure!(
                fit == Fit::Unknown || fits == (fit == Fit::Yes),
                "{fit:?} was said of {filter}, the server says {fits} of {entry:?}"
            );
            if of(entry) {
                match fit {
                    Fit::Yes => said.yes += 1,
                    Fit::No => said.no += 1,
                    Fit::Unknown => said.unknown += 1,
                }
            }
        }
        Ok(said)
    }

    /// Of these filters everything is said, and some fit and some do not.
    async fn all_is_said(&self, filters: &[&str], of: impl Fn(&SearchResultEntry) -> bool) -> Result<()> {
        for text in filters {
            let said = self.said(&text.parse()?, &of).await?;
            ensure!(said.unknown == 0 && said.yes > 0 && said.no > 0, "{text}: {said:?}");
        }
        Ok(())
    }

    /// Draws filters, and counts what is said of them all.
    async fn drawn(&self) -> Result<Said> {
        let seed = std::env::var("FILTERS_SEED").ok().map_or(Ok(0x5eed), |seed| seed.parse())?;
        let mut grammar = Grammar { random: Random(seed), values: self.values() };
        let mut all = Said::default();
        for _ in 0..DRAWN {
            let filter = grammar.filter(0);
            let said = self.said(&filter, |_| true).await.with_context(|| format!("FILTERS_SEED={seed}"))?;
            (all.yes, all.no, all.unknown) = (all.yes + said.yes, all.no + said.no, all.unknown + said.unknown);
        }
        eprintln!("{:?}: {all:?} of {} entries", self.rules, self.entries.len());
        Ok(all)
    }

    fn values(&self) -> Vec<(String, Vec<String>)> {
        let mut values: BTreeMap<&str, BTreeSet<String>> =
            self.asked.iter().map(|name| (*name, BTreeSet::new())).collect();
        for (name, values) in &mut values {
            for value in self.entries.iter().flat_map(|entry| entry.values(name)) {
                values.extend(std::str::from_utf8(value).map(str::to_owned));
            }
        }
        let pool = |(name, values): (&str, BTreeSet<String>)| (name.to_owned(), values.into_iter().collect());
        values.into_iter().map(pool).collect()
    }
}

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(drawn).unwrap_or_default() % bound
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// Filters about what the entries have, changed a little.
struct Grammar {
    random: Random,
    values: Vec<(String, Vec<String>)>,
}

const STRANGE: &[&str] =
    &["x", "0", "-1", "2147483648", "TRUE", "ann archer", "Ann  Archer", "groß", "*", "a-b", "person"];

impl Grammar {
    fn filter(&mut self, depth: usize) -> Filter {
        match self.random.below(if depth > 2 { 5 } else { 8 }) {
            5 => Filter::And(self.filters(depth)),
            6 => Filter::Or(self.filters(depth)),
            7 => Filter::not(self.filter(depth + 1)),
            _ => self.item(),
        }
    }

    fn filters(&mut self, depth: usize) -> Vec<Filter> {
        (0..=self.random.below(3)).map(|_| self.filter(depth + 1)).collect()
    }

    fn item(&mut self) -> Filter {
        let (attribute, values) = self.random.one(&self.values).clone();
        let value = match values.is_empty() || self.random.below(6) == 0 {
            true => (*self.random.one(STRANGE)).to_owned(),
            false => self.random.one(&values).clone(),
        };
        let value = match self.random.below(6) {
            0 => value.to_uppercase(),
            1 => value.to_lowercase(),
            2 => value.replace(' ', "  "),
            3 => value.replace(['-', ' '], ""),
            _ => value,
        };
        let value = if value.is_empty() { "x".to_owned() } else { value };
        match self.random.below(10) {
            0 => Filter::present(attribute),
            1..=3 => self.substrings(attribute, &value),
            4 => Filter::GreaterOrEqual { attribute, value: value.into() },
            5 => Filter::LessOrEqual { attribute, value: value.into() },
            6 => self.bits(attribute),
            _ => Filter::equal(attribute, value),
        }
    }

    fn substrings(&mut self, attribute: String, value: &str) -> Filter {
        let signs: Vec<char> = value.chars().collect();
        let cut = |from: usize, to: usize| -> Option<Vec<u8>> {
            let part: String = signs.get(from.min(to)..to)?.iter().collect();
            (!part.is_empty()).then(|| part.into_bytes())
        };
        let (one, two) = (self.random.below(signs.len() + 1), self.random.below(signs.len() + 1));
        let (first, last) = (one.min(two), one.max(two));
        let initial = if self.random.below(2) == 0 { cut(0, first) } else { None };
        let any: Vec<Vec<u8>> = cut(first, last).into_iter().filter(|_| first > 0 || initial.is_none()).collect();
        let end = if self.random.below(2) == 0 { cut(last, signs.len()) } else { None };
        match initial.is_none() && any.is_empty() && end.is_none() {
            true => Filter::present(attribute),
            false => Filter::Substrings { attribute, initial, any, last: end },
        }
    }

    fn bits(&mut self, attribute: String) -> Filter {
        let numbers: Vec<&(String, Vec<String>)> = self
            .values
            .iter()
            .filter(|(_, values)| values.first().is_some_and(|it| it.parse::<i64>().is_ok()))
            .collect();
        let attribute = match numbers.is_empty() {
            true => attribute,
            false => self.random.one(&numbers).0.clone(),
        };
        let rule = *self.random.one(&["1.2.840.113556.1.4.803", "1.2.840.113556.1.4.804"]);
        let value = *self.random.one(&[
            "0",
            "1",
            "2",
            "8",
            "512",
            "514",
            "66048",
            "2147483648",
            "-2147483648",
            "2147483650",
            "-2147483646",
            "4294967295",
            "9223372036854775807",
        ]);
        Filter::Extensible {
            rule: Some(rule.into()),
            attribute: Some(attribute),
            value: value.into(),
            dn_attributes: false,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openldap_agrees_with_what_is_said_here_of_its_entries() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let slapd = Slapd::start(dir.path(), &pki, &SlapdOptions::default())?;
    slapd.modify(&format!(
        "dn: uid=zoe.zuse,ou=people,{COMPANY_BASE}\nchangetype: add\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\n\
         uid: zoe.zuse\nmail: Zoe@acme.example\ncn: Zoe Zuse\ncn: Zoë Zuse\nsn: Zuse\ntitle;lang-de: Leiterin\ntitle: Head of  R & D\nl: Köln\n\
         employeeType: staff\ndepartmentNumber: 10-20\nuidNumber: 1000\ngidNumber: 100\nhomeDirectory: /home/zoe\n\
         telephoneNumber: +49 30 1234-5\nmanager: uid=ann.archer,ou=engineering,ou=people,{COMPANY_BASE}\n\n\
         dn: cn=posix,ou=groups,{COMPANY_BASE}\nchangetype: add\nobjectClass: posixGroup\ncn: posix\ngidNumber: 100\n"
    ))?;
    let mut settings = support::settings(&[&slapd.ldap_url()]);
    settings.base = COMPANY_BASE.into();
    settings.query_bind = QueryBind { kind: BindKind::Simple, name: Slapd::QUERY_DN.into(), password: None };
    let directory = Directory::new(settings, Some(Secret::from(Slapd::QUERY_PASSWORD)), Options::default())?;
    let asked = [
        "objectClass",
        "cn",
        "sn",
        "uid",
        "mail",
        "title",
        "l",
        "employeeType",
        "employeeNumber",
        "departmentNumber",
        "uidNumber",
        "gidNumber",
        "homeDirectory",
        "telephoneNumber",
        "mobile",
        "manager",
        "description",
        "ou",
        "givenName",
    ];
    let subject = Subject::of(directory, Rules::Standard, &asked).await?;
    ensure!(subject.entries.len() > 130, "{}", subject.entries.len());

    let settings = subject.directory.settings();
    let unit = "(objectClass=organizationalUnit)";
    subject
        .all_is_said(&[settings.user_filter(), settings.group_filter(), settings.container_filter(), unit], |_| true)
        .await?;
    let is_person =
        |entry: &SearchResultEntry| entry.values("objectClass").iter().any(|class| class == "inetOrgPerson");
    let typical = [
        "(&(objectClass=inetOrgPerson)(uid=ann.*))",
        "(|(mail=ann*@acme.example)(uid=ben.hale))",
        "(&(objectClass=inetOrgPerson)(!(uid=ann.archer)))",
        "(uid=*archer*)",
        "(cn=Ann Archer)",
        "(objectClass=posixAccount)",
    ];
    subject.all_is_said(&typical, is_person).await?;

    let said = subject.drawn().await?;
    ensure!(said.yes > 1_000 && said.no > 5_000, "{said:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_controller_agrees_with_what_is_said_here_of_its_entries() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let samba = Samba::start(dir.path(), &pki)?;
    samba.modify(&format!(
        "dn: {ann}\nchangetype: modify\nadd: department\ndepartment: Sales & Service\n-\nadd: l\nl: Köln\n-\nadd: employeeType\n\
         employeeType: staff\n-\nadd: manager\nmanager: {ben}\n-\nadd: proxyAddresses\nproxyAddresses: SMTP:ann@lab.test\n\
         proxyAddresses: smtp:a.archer@lab.test\n\n\
         dn: {ben}\nchangetype: modify\nadd: department\ndepartment: R&D\n-\nadd: employeeType\nemployeeType: External-1\n",
        ann = Samba::dn_of("ann.archer"),
        ben = Samba::dn_of("ben.baker"),
    ))?;
    let mut settings = support::settings(&[&samba.ldaps_url()]);
    (settings.preset, settings.base) = (Preset::ActiveDirectory, Samba::BASE.into());
    (settings.page_size, settings.timeout_seconds, settings.connect_timeout_seconds) = (1000, 30, 20);
    settings.danger_clear_text = false;
    settings.ca = Some(std::fs::read_to_string(samba.ca_file())?);
    settings.query_bind = QueryBind { kind: BindKind::Tls, name: Samba::QUERY_DN.into(), password: None };
    let directory = Directory::new(settings, Some(Secret::from(Samba::QUERY_PASSWORD)), Options::default())?;
    let asked = [
        "objectClass",
        "objectCategory",
        "cn",
        "name",
        "sn",
        "givenName",
        "sAMAccountName",
        "userPrincipalName",
        "mail",
        "displayName",
        "description",
        "department",
        "l",
        "employeeType",
        "manager",
        "memberOf",
        "proxyAddresses",
        "mobile",
        "userAccountControl",
        "groupType",
        "sAMAccountType",
        "primaryGroupID",
        "adminCount",
        "systemFlags",
        "instanceType",
        "pwdLastSet",
        "accountExpires",
        "whenCreated",
        "whenChanged",
        "uSNChanged",
        "isCriticalSystemObject",
        "showInAdvancedViewOnly",
        "objectSid",
        "dNSHostName",
    ];
    let subject = Subject::of(directory, Rules::Microsoft, &asked).await?;
    ensure!(subject.entries.len() > 150, "{}", subject.entries.len());

    let settings = subject.directory.settings();
    let security = "(&(objectCategory=group)(groupType:1.2.840.113556.1.4.803:=-2147483648))";
    let everything = [
        settings.user_filter(),
        settings.group_filter(),
        settings.container_filter(),
        security,
        "(&(objectCategory=person)(objectClass=user)(!(userAccountControl:1.2.840.113556.1.4.803:=2)))",
        "(&(objectCategory=person)(objectClass=user)(!(objectClass=computer)))",
        "(&(sAMAccountName=*)(!(sAMAccountName=ann.*))(objectCategory=person))",
        "(&(objectCategory=user)(|(department=Sales & Service)(employeeType=staff)))",
        "(&(objectClass=user)(mail=*@lab.test))",
        "(&(objectClass=user)(userPrincipalName=*))",
        "(objectCategory=computer)",
    ];
    // Of some entries this account may read no attribute: then it is asked.
    let is_shown = |entry: &SearchResultEntry| !entry.attributes.is_empty();
    subject.all_is_said(&everything, is_shown).await?;
    let member = format!("(&(objectClass=user)(memberOf=CN=vpn-users,OU=groups,{}))", Samba::BASE);
    subject.all_is_said(&[&member], is_shown).await?;

    let said = subject.drawn().await?;
    ensure!(said.yes > 1_000 && said.no > 10_000, "{said:?}");
    Ok(())
}
