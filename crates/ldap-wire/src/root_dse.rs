//! The root DSE as a client may see it (L-16): only what we forward is advertised, and nothing lures a client to the directory
//! server itself, where there is no second factor.

use crate::connection::Policy;
use crate::oid;
use crate::sasl;
use crate::search::{Attribute, SearchResultEntry};
use bytes::Bytes;

/// Rewrites an entry that was read with `requested` attributes, with or without TLS.
pub fn rewrite(
    mut entry: SearchResultEntry,
    requested: &[String],
    types_only: bool,
    policy: &Policy,
    tls: bool,
) -> SearchResultEntry {
    entry.attributes.retain(|attribute| {
        let dropped: &[&str] = if policy.keep_server_names { &["altServer"] } else { &LURES };
        !dropped.iter().any(|name| is(&attribute.description, name))
    });
    let mechanisms = [(sasl::PLAIN, policy.sasl_plain), (sasl::EXTERNAL, policy.sasl_external)];
    let allowed = mechanisms.into_iter().filter(|(_, allowed)| tls && *allowed);
    let mechanisms: Vec<Bytes> = allowed.map(|(name, _)| Bytes::from_static(name.as_bytes())).collect();
    let start_tls = policy.start_tls.then_some(Bytes::from_static(oid::START_TLS.as_bytes()));
    let mut offer = |name: &str, ours: &[Bytes], wanted: &dyn Fn(&str) -> bool| {
        let mut found = false;
        entry.attributes.retain_mut(|attribute| {
            if !is(&attribute.description, name) {
                return true;
            }
            found = true;
            attribute.values.retain(|value| std::str::from_utf8(value).is_ok_and(wanted));
            attribute.values.extend_from_slice(if types_only { &[] } else { ours });
            // An attribute without values does not exist.
            types_only || !attribute.values.is_empty()
        });
        let asked = requested.iter().any(|wanted| wanted == "+" || is(wanted, name));
        if !found && asked && !types_only && !ours.is_empty() {
            entry.attributes.push(Attribute::new(name, ours.to_vec()));
        }
    };
    offer("supportedSASLMechanisms", &mechanisms, &|_| false);
    offer("supportedExtension", start_tls.as_slice(), &|oid| {
        oid != oid::START_TLS && policy.forwards_extended_operation(oid)
    });
    offer("supportedControl", &[], &|oid| !policy.refused_controls.iter().any(|refused| refused == oid));
    offer("supportedCapabilities", &[], &|oid| ![oid::CAPABILITY_SIGNING, oid::CAPABILITY_DIGEST].contains(&oid));
    entry
}

/// Names of real servers.
const LURES: [&str; 4] = ["altServer", "dnsHostName", "ldapServiceName", "serverName"];

/// What servers that answer by numbers may call these (RFC 4512 section 5.1, MS-ADA1, MS-ADA3).
const NUMBERS: [(&str, &str); 6] = [
    ("altServer", "1.3.6.1.4.1.1466.101.120.6"),
    ("supportedExtension", "1.3.6.1.4.1.1466.101.120.7"),
    ("supportedControl", "1.3.6.1.4.1.1466.101.120.13"),
    ("supportedSASLMechanisms", "1.3.6.1.4.1.1466.101.120.14"),
    ("serverName", "1.2.840.113556.1.4.223"),
    ("dnsHostName", "1.2.840.113556.1.4.619"),
];

/// Whether a description, in any case, by number or with options such as `;range=0-*`, is of this attribute: a client gets it as it asks.
fn is(description: &str, name: &str) -> bool {
    let described = description.split(';').next().unwrap_or_default();
    described.eq_ignore_ascii_case(name) || NUMBERS.contains(&(name, described))
}
