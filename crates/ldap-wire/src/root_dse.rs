//! The root DSE as a client may see it (L-16): only what we forward is advertised, and nothing lures a client to the directory
//! server itself, where there is no second factor.

use crate::connection::Policy;
use crate::filter::Filter;
use crate::oid;
use crate::sasl;
use crate::search::{Attribute, SearchRequest, SearchResultEntry};
use bytes::Bytes;

/// What a search of it asks the directory for. `None`: no entry. A filter is about the object class, or it is none for us: Active
/// Directory takes it for a question about a user and answers it in `netlogon` (MS-ADTS section 6.3.3), and others would tell by it what
/// `rewrite` takes out.
pub(crate) fn asked_for(search: &SearchRequest) -> Option<SearchRequest> {
    if !Filter::from_ber(&search.filter).is_ok_and(|filter| is_about_the_class(&filter)) {
        return None;
    }
    let mut asked = search.clone();
    asked.attributes.retain(|attribute| !is(attribute, NETLOGON));
    if asked.attributes.is_empty() && !search.attributes.is_empty() {
        // An empty list would ask for everything (RFC 4511 section 4.5.1.8).
        asked.attributes.push("1.1".to_owned());
    }
    Some(asked)
}

fn is_about_the_class(filter: &Filter) -> bool {
    match filter {
        Filter::And(filters) | Filter::Or(filters) => filters.iter().all(is_about_the_class),
        Filter::Not(filter) => is_about_the_class(filter),
        Filter::Present(attribute) | Filter::Equal { attribute, .. } => is(attribute, "objectClass"),
        _ => false,
    }
}

/// Rewrites an entry that was read with `requested` attributes, with or without TLS.
pub fn rewrite(
    mut entry: SearchResultEntry,
    requested: &[String],
    types_only: bool,
    policy: &Policy,
    tls: bool,
) -> SearchResultEntry {
    entry.attributes.retain(|attribute| {
        let dropped = |names: &[&str]| names.iter().any(|name| is(&attribute.description, name));
        !dropped(&NEVER) && (policy.keep_server_names || !dropped(&SERVER_NAMES))
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

/// Of Active Directory: the answer to a ping, which names a server and says whether there is a user of some name.
const NETLOGON: &str = "netlogon";

/// Other servers, and people or their entries: what is being propagated, and who owns most.
const NEVER: [&str; 4] = ["altServer", NETLOGON, "pendingPropagations", "msDS-TopQuotaUsage"];

/// Names of real servers: of RFC 4512 and Active Directory, then its replication (MS-ADTS section 3.1.1.3.2), then those of 389 Directory
/// Server, eDirectory and IBM.
const SERVER_NAMES: [&str; 12] = [
    "dnsHostName",
    "ldapServiceName",
    "serverName",
    "dsServiceName",
    "msDS-ReplAllInboundNeighbors",
    "msDS-ReplAllOutboundNeighbors",
    "msDS-ReplConnectionFailures",
    "msDS-ReplLinkFailures",
    "msDS-ReplPendingOps",
    "netscapeMdSuffix",
    "dsaName",
    "ibm-ldapServiceName",
];

/// What servers that answer by numbers may call these (RFC 4512 section 5.1, MS-ADA1, MS-ADA3).
const NUMBERS: [(&str, &str); 7] = [
    ("objectClass", "2.5.4.0"),
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
