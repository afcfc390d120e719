//! The settings document of the sample company.

use crate::{COMPANY_BASE, Slapd};
use anyhow::Result;
use std::fs;

pub const RADIUS_SECRET: &str = "lab-shared-secret-of-the-vpn-0417";
pub const RADIUS_SECRET_FILE: &str = "radius.secret";
pub const QUERY_SECRET_FILE: &str = "query.password";

/// One directory, everybody synchronised, an LDAP client `intranet` that wants a code after the password, and a RADIUS
/// client `vpn` that takes it there or asks for it. `more` is appended.
pub fn company_settings(slapd: &Slapd, more: &str) -> Result<String> {
    Ok(format!(
        "[sync]
enabled = true

[portal]
first_enrolment = \"open\"
company = \"Acme\"

[[directory]]
name = \"acme\"
preset = \"openldap\"
urls = [\"{url}\"]
base = \"{COMPANY_BASE}\"
query_bind = {{ kind = \"tls\", name = \"{query}\", password = \"file:{QUERY_SECRET_FILE}\" }}
ca = '''
{ca}'''

[[client]]
name = \"intranet\"
protocol = \"ldap\"
sources = [\"127.0.0.1/32\"]
target = \"acme\"
appended = \"required\"

[[client]]
name = \"vpn\"
protocol = \"radius\"
sources = [\"127.0.0.1/32\"]
target = \"acme\"
secret = \"file:{RADIUS_SECRET_FILE}\"
appended = \"optional\"

[[sync_item]]
name = \"everybody\"
directory = \"acme\"
source = {{ kind = \"domain\" }}
{more}",
        url = slapd.ldap_url(),
        query = Slapd::QUERY_DN,
        ca = fs::read_to_string(slapd.ca_file())?,
    ))
}
