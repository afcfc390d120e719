//! The process configuration of each part, as compose and Kubernetes mount it: secrets in one folder, ports above 1024.

use proto::permissions::part;
use std::fmt::Write;

/// Where each part finds its own folder of secrets.
pub const SECRETS: &str = "/run/secrets/twinlock";
/// A volume of each gateway's own (V-40).
const SPOOL: &str = "/var/lib/twinlock";
const GRPC_PORT: u16 = 7000;

/// What differs between installations.
pub struct Hosts<'a> {
    pub domain: Option<&'a str>,
    pub public: &'a str,
}

impl Hosts<'_> {
    /// Where a part, or NATS, or PostgreSQL is found.
    pub fn of(&self, name: &str) -> String {
        self.domain.map_or_else(|| name.to_owned(), |domain| format!("{name}.{domain}"))
    }

    fn endpoint(&self, part: &str) -> String {
        format!("https://{}:{GRPC_PORT}", self.of(part))
    }
}

/// The file of a part.
pub fn of(name: &str, hosts: &Hosts) -> String {
    let mut text = format!(
        "# {name}: made by `twinlock init --distributed`. Every key is explained in docs/reference/configuration.md;
# TWINLOCK_<SECTION>__<KEY> in the environment has precedence.
version = 1

[management]
listen = \"0.0.0.0:9090\"

[grpc]
listen = \"0.0.0.0:{GRPC_PORT}\"
{identity}
[bus]
url = \"tls://{nats}:4222\"
credentials_file = \"{SECRETS}/bus.nk\"
{identity}",
        identity = identity(),
        nats = hosts.of("nats"),
    );
    let calls: &[(&str, &str)] = match name {
        part::VERIFICATION | part::DIRECTORY_SYNC => &[("user_store", part::USER_STORE)],
        part::LDAP_GATEWAY | part::RADIUS_GATEWAY => {
            &[("user_store", part::USER_STORE), ("verification", part::VERIFICATION)]
        }
        part::PORTAL => {
            &[("user_store", part::USER_STORE), ("verification", part::VERIFICATION), ("directory", part::LDAP_GATEWAY)]
        }
        _ => &[],
    };
    if !calls.is_empty() {
        text += "\n[endpoints]\n";
    }
    for (key, callee) in calls {
        writeln!(text, "{key} = \"{}\"", hosts.endpoint(callee)).expect("writing to a string");
    }
    text + &own(name, hosts)
}

/// The section that only this part has.
fn own(name: &str, hosts: &Hosts) -> String {
    match name {
        part::USER_STORE => format!(
            "
[store]
url = \"postgres://twinlock@{}:5432/twinlock\"
password_file = \"{SECRETS}/database.password\"
ca_file = \"{SECRETS}/database-ca.crt\"
master_key_file = \"{SECRETS}/master.key\"
",
            hosts.of("postgres")
        ),
        part::RADIUS_GATEWAY => {
            format!(
                "
[radius]
listen = [\"0.0.0.0:11812\"]
accounting_listen = [\"0.0.0.0:11813\"]
spool_dir = \"{SPOOL}\"
"
            )
        }
        part::LDAP_GATEWAY => format!(
            "
[ldap]
listen = [\"0.0.0.0:1389\"]
tls_listen = [\"0.0.0.0:1636\"]
certificate_file = \"{SECRETS}/ldap.crt\"
key_file = \"{SECRETS}/ldap.key\"
spool_dir = \"{SPOOL}\"
"
        ),
        part::PORTAL => format!(
            "
[portal]
listen = [\"0.0.0.0:8443\"]
public_url = \"https://{}:8443\"
certificate_file = \"{SECRETS}/portal.crt\"
key_file = \"{SECRETS}/portal.key\"
",
            hosts.public
        ),
        _ => String::new(),
    }
}

/// The command line's.
pub fn admin(hosts: &Hosts) -> String {
    format!(
        "# The command line of a distributed Twinlock: twinlock --config THIS ...
version = 1

[admin.remote]
user_store = \"{}\"
verification = \"{}\"
directory = \"{}\"

[admin.remote.grpc]
{}",
        hosts.endpoint(part::USER_STORE),
        hosts.endpoint(part::VERIFICATION),
        hosts.endpoint(part::LDAP_GATEWAY),
        identity(),
    )
}

fn identity() -> String {
    format!(
        "certificate_file = \"{SECRETS}/tls.crt\"\nkey_file = \"{SECRETS}/tls.key\"\nca_file = \"{SECRETS}/ca.crt\"\n"
    )
}
