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
        !dropped.iter().any(|name| attribute.description.eq_ignore_ascii_case(name))
    });
    let mechanisms = [(sasl::PLAIN, policy.sasl_plain), (sasl::EXTERNAL, policy.sasl_external)];
    let allowed = mechanisms.into_iter().filter(|(_, allowed)| tls && *allowed);
    let mechanisms = allowed.map(|(name, _)| Bytes::from_static(name.as_bytes())).collect();
    replace(&mut entry, "supportedSASLMechanisms", requested, types_only, mechanisms);
    let mut extensions =
        keep(&entry, "supportedExtension", |oid| oid != oid::START_TLS && policy.forwards_extended_operation(oid));
    if policy.start_tls {
        extensions.push(Bytes::from_static(oid::START_TLS.as_bytes()));
    }
    replace(&mut entry, "supportedExtension", requested, types_only, extensions);
    let controls =
        keep(&entry, "supportedControl", |oid| !policy.refused_controls.iter().any(|refused| refused == oid));
    replace(&mut entry, "supportedControl", requested, types_only, controls);
    let unkept = [oid::CAPABILITY_SIGNING, oid::CAPABILITY_DIGEST];
    let capabilities = keep(&entry, "supportedCapabilities", |oid| !unkept.contains(&oid));
    replace(&mut entry, "supportedCapabilities", requested, types_only, capabilities);
    entry
}

/// Names of real servers.
const LURES: [&str; 4] = ["altServer", "dnsHostName", "ldapServiceName", "serverName"];

fn keep(entry: &SearchResultEntry, name: &str, wanted: impl Fn(&str) -> bool) -> Vec<Bytes> {
    let wanted = |value: &&Bytes| std::str::from_utf8(value).is_ok_and(&wanted);
    entry.values(name).iter().filter(wanted).cloned().collect()
}

/// Sets the values where the attribute is there or was asked for; an attribute without values does not exist.
fn replace(entry: &mut SearchResultEntry, name: &str, requested: &[String], types_only: bool, values: Vec<Bytes>) {
    let asked = requested.iter().any(|wanted| wanted == "+" || wanted.eq_ignore_ascii_case(name));
    let place = entry.attributes.iter().position(|attribute| attribute.description.eq_ignore_ascii_case(name));
    match place {
        Some(_) if types_only => {}
        Some(place) if values.is_empty() => drop(entry.attributes.remove(place)),
        Some(place) => {
            entry.attributes.iter_mut().skip(place).take(1).for_each(|attribute| attribute.values.clone_from(&values))
        }
        None if asked && !types_only && !values.is_empty() => entry.attributes.push(Attribute::new(name, values)),
        None => {}
    }
}
