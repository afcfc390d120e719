//! `make demo`: a company with a real directory gets its second factor, shown with the clients everybody has.
//!
//! Starts slapd with 120 people, starts `twinlock serve` in front of it, synchronises, enrols people, and logs in with
//! `ldapwhoami`, `ldapsearch` and `radclient`: right, wrong, reused and missing codes. Every line says what was expected.
//! Stays up until Ctrl-C; with DEMO_ONCE=1 it ends, with an error if any login had another result than expected.

mod checks;
mod product;

use anyhow::Result;
use checks::{Checks, Expected};
use lab::{COMPANY_BASE, Person, Pki, Slapd, SlapdOptions, password_of};
use product::Product;
use std::{io::Write, process::ExitCode};

fn main() -> Result<ExitCode> {
    let once = std::env::var("DEMO_ONCE").is_ok_and(|value| value == "1");
    let dir = tempfile::Builder::new().prefix("twinlock-demo-").tempdir()?;

    title("A company's directory: OpenLDAP with 120 people");
    let pki = Pki::new(&dir.path().join("pki"))?;
    // 1,000 more in a folder of their own, so that there is something big to read.
    let slapd = Slapd::start(dir.path(), &pki, &SlapdOptions { bulk_people: 1000, ..Default::default() })?;
    say(&format!("slapd listens on {} (base {COMPANY_BASE})", slapd.ldap_url()));

    title("Twinlock in front of it, in one process on SQLite");
    let mut checks = Checks::default();
    let mut product = Product::start(dir.path(), &slapd)?;
    checks.truth("the first synchronisation brings the company's people", product.synchronised()? >= 120);

    title("People enrol an authenticator app");
    let ann = product.enrol(&mut checks, "ann.archer")?;
    let clara = product.enrol(&mut checks, "clara.osborn")?;
    let emma = product.enrol(&mut checks, "emma.irwin")?;
    let greta = product.enrol(&mut checks, "greta.cole")?;

    title("LDAP: the application's host name changes, nothing else");
    ldap(&mut checks, &product, &slapd, &ann, &clara)?;

    title("RADIUS: a VPN asks");
    radius(&mut checks, &product, &slapd, &emma, &greta)?;

    title("What the administrator sees");
    product.show(&["audit", "tail", "-n", "12"])?;
    checks.truth("the audit chain is whole", product.audit_is_whole());

    if !once {
        title("It stays up until Ctrl-C");
        say(&format!(
            "portal        {}   (sign in as hugo.jones, password {})",
            product.portal_url(),
            password_of("hugo.jones")
        ));
        say(&format!("command line  {}", product.command_line()));
        checks.finish();
        product.wait();
    }
    drop(product);
    let good = checks.finish();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ldap(checks: &mut Checks, product: &Product, slapd: &Slapd, ann: &Person, clara: &Person) -> Result<()> {
    let (ann_dn, clara_dn) = (ann.dn("engineering"), clara.dn("finance"));
    let with_code = ann.appended(0)?;
    checks.command("by DN, with the right code", product.ldapwhoami(&ann_dn, &with_code)?, Expected::Yes)?;
    let reused = checks.command("the same code again", product.ldapwhoami(&ann_dn, &with_code)?, Expected::No)?;
    let with_next = ann.appended(1)?;
    checks.command("by bare name, with the next code", product.ldapwhoami(&ann.uid, &with_next)?, Expected::Yes)?;
    let wrong = format!("{},{}", ann.password, ann.wrong_code()?);
    let wrong = checks.command("a wrong code", product.ldapwhoami(&ann_dn, &wrong)?, Expected::No)?;
    let missing = checks.command("no code", product.ldapwhoami(&ann_dn, &ann.password)?, Expected::No)?;
    let password = format!("Nonsense,{}", clara.code(0)?);
    let password = checks.command("a wrong password", product.ldapwhoami(&clara_dn, &password)?, Expected::No)?;
    let nobody = format!("uid=nobody,ou=people,{COMPANY_BASE}");
    let unknown = checks.command("an unknown user", product.ldapwhoami(&nobody, "x,123456")?, Expected::No)?;
    checks.command("an empty password", product.ldapwhoami(&ann_dn, "")?, Expected::No)?;
    let same = [&wrong, &missing, &password, &unknown].iter().all(|answer| **answer == reused);
    checks.truth("the refusals but the last read the same", same);

    let with_code = clara.appended(0)?;
    let through = checks.command(
        "a search after the bind: 1,000 entries",
        product.ldapsearch(&product.ldap_url(), &clara_dn, &with_code)?,
        Expected::Yes,
    )?;
    let direct = product.ldapsearch(&slapd.ldap_url(), &clara_dn, &clara.password)?.output()?;
    let same = through.as_bytes() == direct.stdout && through.matches("dn: ").count() == 1000;
    checks.truth("slapd itself answers exactly the same", same);
    Ok(())
}

fn radius(checks: &mut Checks, product: &Product, slapd: &Slapd, emma: &Person, greta: &Person) -> Result<()> {
    let with_code = emma.appended(0)?;
    checks.radius("password and code in one field", product, &emma.uid, &with_code, "", Expected::Accept)?;
    checks.radius("the same code again", product, &emma.uid, &with_code, "", Expected::Reject)?;
    let binds = slapd.binds(&emma.uid);
    let question = "the password alone: a question comes back";
    let challenge = checks.radius(question, product, &emma.uid, &emma.password, "", Expected::Challenge)?;
    let state = product::state_of(&challenge).unwrap_or_default();
    let code = emma.code(1)?;
    checks.radius("the answer to it", product, &emma.uid, &code, &state, Expected::Accept)?;
    checks.radius("the same State again", product, &emma.uid, &code, &state, Expected::Reject)?;
    checks.truth("slapd saw one bind for those three", slapd.binds(&emma.uid) == binds + 1);

    checks.radius("a wrong password", product, &greta.uid, "Nonsense", "", Expected::Reject)?;
    let binds = slapd.binds(&greta.uid);
    checks.radius("an empty password", product, &greta.uid, "", "", Expected::Reject)?;
    checks.radius_unsigned("no Message-Authenticator: silence", product, &greta.uid, &greta.password)?;
    checks.radius_wrong_secret("a wrong shared secret: silence", product, &greta.uid, &greta.password)?;
    checks.truth("slapd saw none of those three", slapd.binds(&greta.uid) == binds);
    Ok(())
}

fn title(text: &str) {
    say(&format!("\n== {text}"));
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
