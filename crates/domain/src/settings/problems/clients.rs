//! Clients: what each says by itself, and whose network and whose certificate is whose.

mod asks;
mod reply;

use super::providers::certificate as authority;
use super::written::is_host_name;
use super::{Findings, PORTAL};
use crate::settings::client::{all_methods, every_attribute};
use crate::settings::{
    Accounting, Appended, AppendedForm, Challenge, Charset, Client, ClientCertificate, ClientProtocol, ClientTls,
    MessageAuthenticator, PersonAddress, Referrals, RefuseOrPass, RememberKind, ReplyMode, SecretSource, Settings,
    TargetKind, Transport,
};
use crate::{Assurance, Method};
use std::collections::BTreeMap;
use std::net::IpAddr;

type Key<'a> = &'a dyn Fn(&str) -> String;

pub(super) fn problems(findings: &mut Findings, settings: &Settings, client: &Client) {
    let key = |field: &str| format!("client.{}.{field}", client.name);
    let (directory, target) = (settings.directory(client.target.as_str()), settings.target(client.target.as_str()));
    match (directory, target) {
        (Some(_), _) => {}
        (None, None) => findings.error(key("target"), settings.no_such_target(client.target.as_str())),
        (None, Some(_)) if client.protocol != ClientProtocol::Radius => findings.error(
            key("target"),
            format!("found {:?}, a target of RADIUS clients; this client needs a directory", client.target.as_str()),
        ),
        (None, Some(_)) => {}
    }
    if client.name.as_str() == PORTAL {
        findings.error(key("name"), "\"portal\" is the name of Twinlock's own portal; choose another");
    }
    findings.range(key("wait_seconds"), client.wait_seconds, 10..=110);
    if client.sources.is_empty() {
        findings.error(key("sources"), "is empty; list the networks this client asks from, such as [\"10.0.4.3/32\"]");
    }
    // Packets of such an address arrive as IPv4, so the source would never match.
    if client.sources.iter().any(|net| matches!(net.network(), IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())) {
        findings.error(key("sources"), "holds an IPv4 address in IPv6 form (::ffff:a.b.c.d); write it as IPv4");
    }
    methods(findings, settings, client, &key);
    if let Some(application) = &client.application {
        findings.text(key("application"), application);
    }
    if !matches!(client.unavailable_code, 49 | 52) {
        findings.error(key("unavailable_code"), format!("found {}; allowed are 52 and 49", client.unavailable_code));
    }
    if let AppendedForm::Separator { sign } = client.appended_form
        && (!sign.is_ascii_graphic() || sign.is_ascii_alphanumeric())
    {
        findings.error(key("appended_form.sign"), "a separator is one printable sign, no letter and no digit");
    }
    if client.groups.iter().chain(&client.when_unavailable_groups).any(String::is_empty) {
        findings.error(key("groups"), "holds an empty text; a group is written as its DN or objectGUID:...");
    }
    asks::name_forms(findings, client, &key);
    without_factor(findings, client, &key);
    remember(findings, client, &key);
    match client.protocol {
        ClientProtocol::Radius => radius_problems(findings, settings, client, &key),
        ClientProtocol::Ldap => ldap_problems(findings, client, &key),
        ClientProtocol::Api => api_problems(findings, client, &key),
    }
    if client.protocol != ClientProtocol::Radius {
        keys_of_radius(findings, client, &key);
    }
    if client.protocol != ClientProtocol::Api && !client.api_keys.is_empty() {
        findings.error(key("api_keys"), "is a key of API clients");
    }
}

fn methods(findings: &mut Findings, settings: &Settings, client: &Client, key: Key<'_>) {
    let methods = &client.methods;
    if methods.is_empty() {
        findings.error(key("methods"), "is empty; list at least one, such as [\"code\"]");
        return;
    }
    let (mut usable, usual) = (Vec::new(), *methods == all_methods());
    for (place, method) in methods.iter().enumerate() {
        if methods[..place].contains(method) {
            findings.error(key("methods"), format!("{:?} stands twice", method.code()));
        } else if matches!(method, Method::Passkey | Method::Questions) {
            // FV-08, FV-10
            findings.error(key("methods"), format!("{:?} works at the portal only", method.code()));
        } else {
            // Whoever lists nothing gets what there is, without a word about what is not.
            if let Some(why) = settings.nobody_carries(*method).filter(|_| !usual) {
                findings.warning(key("methods"), why);
            }
            usable.push(*method);
        }
    }
    let strongest = usable.iter().map(|method| best(*method)).max();
    if strongest.is_some_and(|strongest| strongest < client.least_assurance) {
        let wanted = client.least_assurance.code();
        findings.error(key("least_assurance"), format!("found {wanted:?}; no method of this client reaches it"));
    }
    let takes_pin = |method: &Method| matches!(method, Method::Push | Method::Call | Method::Sms | Method::SmsReply);
    if client.pin && !usable.iter().any(takes_pin) {
        findings.warning(key("pin"), "has no effect: none of the methods asks for a PIN");
    }
    if client.appended_keywords && client.appended == Appended::Off {
        findings.error(key("appended_keywords"), "needs appended = \"optional\" or \"required\"");
    }
    let asks = match client.protocol {
        ClientProtocol::Radius => client.challenge == Challenge::Yes,
        ClientProtocol::Ldap => false,
        ClientProtocol::Api => true,
    };
    if client.fallback_code && !asks {
        // FR-06
        findings.warning(key("fallback_code"), "has no effect: this client can show no question");
    }
}

/// The most a success by a method can prove.
fn best(method: Method) -> Assurance {
    match method {
        // With the number that the client shows.
        Method::Push => Assurance::NumberMatched,
        other => other.assurance(),
    }
}

/// What lets people in on the password alone: trusted networks, fail open.
fn without_factor(findings: &mut Findings, client: &Client, key: Key<'_>) {
    for net in &client.trusted_networks {
        if net.prefix_len() == 0 {
            findings.error(key("trusted_networks"), format!("found {net}, which is every address; list the networks"));
        }
        if matches!(net.network(), IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
            findings.error(
                key("trusted_networks"),
                "holds an IPv4 address in IPv6 form (::ffff:a.b.c.d); write it as IPv4",
            );
        }
    }
    let from_packet = client.person_address != PersonAddress::Peer;
    if from_packet && client.protocol != ClientProtocol::Radius {
        findings.error(key("person_address"), "names an attribute of RADIUS; other clients have \"peer\" alone");
    }
    if !from_packet && client.protocol == ClientProtocol::Radius && !client.trusted_networks.is_empty() {
        let device = |net: &ipnet::IpNet| client.sources.iter().any(|it| it.contains(net) || net.contains(it));
        let text = match client.trusted_networks.iter().any(device) {
            true => {
                "hold the device's own address: with person_address = \"peer\" every login there needs no second factor"
            }
            false => {
                "never match: with person_address = \"peer\" the address is the device's; name where the person's stands"
            }
        };
        findings.warning(key("trusted_networks"), text);
    }
    let server = |net: &ipnet::IpNet| client.sources.iter().any(|it| it.contains(net) || net.contains(it));
    if client.protocol == ClientProtocol::Ldap && client.trusted_networks.iter().any(server) {
        findings.warning(
            key("trusted_networks"),
            "hold the application's own address, from which everybody comes: every login there needs no second factor",
        );
    }
    if let Some(until) = &client.observe_until {
        findings.warning(
            key("observe_until"),
            format!("until {until} the password alone lets people in: the second factor is computed and logged, nobody is asked"),
        );
    }
    let fail_open = client.when_unavailable == RefuseOrPass::Pass;
    for (field, set) in [
        ("when_unavailable_groups", !client.when_unavailable_groups.is_empty()),
        ("when_unavailable_until", client.when_unavailable_until.is_some()),
    ] {
        if set && !fail_open {
            findings.warning(key(field), "has no effect unless when_unavailable is \"pass\"");
        }
    }
}

fn remember(findings: &mut Findings, client: &Client, key: Key<'_>) {
    let Some(remember) = &client.remember else { return };
    findings.range(key("remember.idle_seconds"), remember.idle_seconds, 30..=86_400);
    findings.range(key("remember.life_seconds"), remember.life_seconds, 60..=86_400);
    if remember.idle_seconds > remember.life_seconds {
        findings.error(
            key("remember.idle_seconds"),
            format!("found {}, which is more than life_seconds ({})", remember.idle_seconds, remember.life_seconds),
        );
    }
    if client.protocol == ClientProtocol::Ldap && remember.kind != RememberKind::User {
        // V-50
        findings.warning(
            key("remember.kind"),
            "binds to the source, which for an LDAP application is the application's server and the same for everybody",
        );
    }
}

/// Equal networks are an error: nobody could tell the clients apart. One inside another is usual, and said. Clients of the
/// API are told apart by what they ask for, those over TLS by their certificates.
pub(super) fn overlaps(findings: &mut Findings, settings: &Settings) {
    let mut seen: BTreeMap<(bool, ipnet::IpNet), &Client> = BTreeMap::new();
    let by_source = |client: &&Client| client.protocol != ClientProtocol::Api && client.transport == Transport::Udp;
    for client in settings.clients.iter().filter(by_source) {
        for source in &client.sources {
            let net = source.trunc();
            let key = format!("client.{}.sources", client.name);
            let radius = client.protocol == ClientProtocol::Radius;
            if let Some(other) = seen.insert((radius, net), client) {
                findings.error(
                    key,
                    format!(
                        "{net} is also a source of client {}; a network belongs to one client of a protocol",
                        other.name
                    ),
                );
                continue;
            }
            let wider = seen.iter().find(|((same, other_net), other)| {
                *same == radius
                    && other.name != client.name
                    && *other_net != net
                    && (other_net.contains(&net) || net.contains(other_net))
            });
            if let Some(((_, other_net), other)) = wider {
                findings.warning(
                    key,
                    format!("{net} overlaps {other_net} of client {}; the longer prefix wins", other.name),
                );
            }
        }
    }
}

fn radius_problems(findings: &mut Findings, settings: &Settings, client: &Client, key: Key<'_>) {
    match client.transport {
        Transport::Udp => over_udp(findings, client, key),
        Transport::Tls => over_tls(findings, client, key),
    }
    findings.range(key("challenge_seconds"), client.challenge_seconds, 30..=300);
    findings.range(key("answers_max"), client.answers_max, 1..=5);
    let phone = client.methods.iter().any(|method| method.is_out_of_band());
    if client.challenge == Challenge::No && client.appended == Appended::Off && !phone {
        findings.error(
            key("challenge"),
            "is \"no\", appended is \"off\" and no method asks on the phone: nobody could log in; allow one of them",
        );
    }
    asks::password_protocols(findings, settings, client, key);
    at_target(findings, settings, client, key);
    reply::problems(findings, client, key);
    keys_of_ldap(findings, client, key);
}

fn over_udp(findings: &mut Findings, client: &Client, key: Key<'_>) {
    if client.secret.is_none() {
        findings
            .error(key("secret"), "is missing; write \"generate\", \"file:PATH\" or, for one already stored, \"keep\"");
    }
    if !client.certificates.is_empty() {
        findings.error(key("certificates"), "is a key of clients with transport = \"tls\"");
    }
    if client.ca.is_some() {
        findings.error(key("ca"), "is a key of clients with transport = \"tls\"");
    }
    // "auto" protects nothing as long as it has not learned, and may learn "no".
    let unprotected = client.message_authenticator != MessageAuthenticator::Yes
        && client.limit_proxy_state == MessageAuthenticator::No;
    if unprotected && !client.danger_accept_blastradius {
        findings.error(
            key("message_authenticator"),
            "does not demand it, and limit_proxy_state is \"no\": forged answers would be accepted (CVE-2024-3596); set \
             message_authenticator = \"yes\" or limit_proxy_state = \"auto\", or danger_accept_blastradius = true",
        );
    } else if unprotected {
        findings.warning(key("danger_accept_blastradius"), "forged answers are accepted (CVE-2024-3596)");
    }
    let wide = client.sources.iter().any(|net| net.prefix_len() != net.max_prefix_len());
    if client.message_authenticator == MessageAuthenticator::Auto && wide {
        // what one device sends says nothing about its neighbours
        findings.error(
            key("message_authenticator"),
            "\"auto\" needs single addresses in sources (/32 or /128); write \"yes\" or \"no\" for a network",
        );
    }
}

/// the certificate says who it is.
fn over_tls(findings: &mut Findings, client: &Client, key: Key<'_>) {
    if client.secret.is_some() {
        findings.error(key("secret"), "is a key of clients over UDP; over TLS it is fixed");
    }
    if client.certificates.is_empty() {
        findings.error(
            key("certificates"),
            "is empty; write \"sha256:\" and the fingerprint of its certificate, or \"dns:\" and a name in it",
        );
    }
    well_written(findings, key("certificates"), &client.certificates);
    match client.ca.as_deref() {
        Some("") => findings.error(key("ca"), "is empty; write who signs its certificate as PEM text, or leave it out"),
        Some(ca) => authority(findings, key("ca"), ca),
        None => {}
    }
}

/// A certificate's mark as it is compared.
fn certificate(text: &str) -> Option<String> {
    let hex = |digits: &str| digits.len() == 64 && digits.bytes().all(|sign| sign.is_ascii_hexdigit());
    let good = match text.split_once(':')? {
        ("sha256", digits) => hex(digits),
        ("dns", name) => is_host_name(name),
        _ => false,
    };
    good.then(|| text.to_ascii_lowercase())
}

/// One certificate is one client.
pub(super) fn certificates(findings: &mut Findings, settings: &Settings) {
    let mut seen: BTreeMap<String, &Client> = BTreeMap::new();
    for client in settings.clients.iter().filter(|client| client.transport == Transport::Tls) {
        for mark in client.certificates.iter().filter_map(|text| certificate(text)) {
            if let Some(other) = seen.get(&mark) {
                findings.error(
                    format!("client.{}.certificates", client.name),
                    format!("{mark} is also a certificate of client {}; one certificate is one client", other.name),
                );
            }
            seen.insert(mark, client);
        }
    }
}

/// What the client and who checks its passwords say together.
fn at_target(findings: &mut Findings, settings: &Settings, client: &Client, key: Key<'_>) {
    let target = settings.target(client.target.as_str());
    if let Some(target) = target.filter(|_| client.unknown_user == RefuseOrPass::Pass) {
        // an account of the target's own has no second factor, whoever may use it.
        findings.warning(
            key("unknown_user"),
            format!(
                "is \"pass\": besides people of directory {} whom Twinlock does not know, that lets in on the password alone \
                 whoever target {} lets in under a name that the directory does not have",
                target.directory, target.name
            ),
        );
    }
    let target = target.filter(|target| target.kind == TargetKind::Radius);
    if client.accounting == Some(Accounting::Forward) && target.is_none() {
        findings.error(key("accounting"), "is \"forward\", but the target is no RADIUS target; write \"store\"");
    }
    if client.without_credentials == RefuseOrPass::Pass {
        match target {
            None => findings.error(
                key("without_credentials"),
                "is \"pass\", but the target is no RADIUS target; only that one can be asked about a person without a proof",
            ),
            Some(_) => findings.warning(
                key("without_credentials"),
                "is \"pass\": whoever has this client's secret can have anybody asked on the phone; for devices that check \
                 passwords themselves, such as RD Gateway",
            ),
        }
    }
    if client.target_attributes.iter().any(String::is_empty) {
        findings.error(key("target_attributes"), "holds an empty name; list attributes, or [\"*\"] for all");
    }
    let Some(target) = target else {
        if client.target_attributes != every_attribute() {
            findings.warning(key("target_attributes"), "has no effect: only a RADIUS target has attributes to pass on");
        }
        return;
    };
    if client.wait_seconds <= target.response_window_seconds {
        findings.warning(
            key("wait_seconds"),
            format!(
                "found {}; target {} waits {} s for a server (response_window_seconds), which leaves no time for another \
                 one or for the second factor",
                client.wait_seconds, target.name, target.response_window_seconds
            ),
        );
    }
}

fn keys_of_radius(findings: &mut Findings, client: &Client, key: Key<'_>) {
    for (field, set) in [
        ("transport", client.transport != Transport::default()),
        ("certificates", !client.certificates.is_empty() && client.protocol != ClientProtocol::Ldap),
        ("ca", client.ca.is_some()),
        ("charset", client.charset != Charset::default()),
        ("password_protocols", !client.password_protocols.is_empty()),
        ("without_credentials", client.without_credentials != RefuseOrPass::default()),
        ("challenge_seconds", client.challenge_seconds != 120),
        ("answers_max", client.answers_max != 3),
        ("accounting", client.accounting.is_some()),
        ("target_attributes", client.target_attributes != every_attribute()),
        ("reply", !client.reply.is_empty()),
        ("reply_mode", client.reply_mode != ReplyMode::default()),
        ("status_reflects_health", !client.status_reflects_health),
    ] {
        if set {
            findings.error(key(field), "is a key of RADIUS clients");
        }
    }
}

fn keys_of_ldap(findings: &mut Findings, client: &Client, key: Key<'_>) {
    for (field, set) in [
        ("service_accounts", !client.service_accounts.is_empty()),
        ("tls", client.tls != Default::default()),
        ("client_certificate", client.client_certificate != Default::default()),
        ("sasl_plain", client.sasl_plain),
        ("extended_operations", !client.extended_operations.is_empty()),
        ("trusted_controls", !client.trusted_controls.is_empty()),
        ("keep_server_names", client.keep_server_names),
        ("anonymous", client.anonymous != Default::default()),
        ("operations", client.operations != Default::default()),
        ("referrals", client.referrals != Default::default()),
        ("referral_url", !client.referral_url.is_empty()),
        ("size_limit", client.size_limit != 0),
        ("time_limit_seconds", client.time_limit_seconds != 0),
    ] {
        if set {
            findings.error(key(field), "is a key of LDAP clients");
        }
    }
}

fn ldap_problems(findings: &mut Findings, client: &Client, key: Key<'_>) {
    if client.tls == ClientTls::DangerOptional {
        findings.warning(key("tls"), "passwords may cross the network in clear text");
    }
    if client.secret.is_some() {
        findings.error(key("secret"), "is a key of RADIUS clients");
    }
    if client.appended == Appended::Off {
        findings.warning(
            key("appended"),
            "is \"off\": an LDAP client can show no question, so people with a code cannot log in here",
        );
    }
    match (client.referrals, client.referral_url.is_empty()) {
        (Referrals::Rewrite, true) => findings.error(
            key("referral_url"),
            "is missing; with referrals = \"rewrite\" write where clients ask instead, such as ldaps://login.example.org",
        ),
        (Referrals::Rewrite, false) if !is_server_url(&client.referral_url) => findings.error(
            key("referral_url"),
            "is no URL of a server; write ldap:// or ldaps://, the host, and its port if it is an unusual one",
        ),
        (Referrals::Drop | Referrals::Pass, false) => {
            findings.error(key("referral_url"), "is only read with referrals = \"rewrite\"");
        }
        _ => {}
    }
    object_identifiers(findings, client, key);
    if client.keep_server_names {
        findings.warning(
            key("keep_server_names"),
            "tells the names of the real servers: who connects to them directly is asked for no second factor",
        );
    }
    by_certificate(findings, client, key);
    for account in &client.service_accounts {
        if account.name.is_empty() {
            findings.error(key("service_accounts"), "an account has an empty name; write its DN");
        }
    }
}

/// FL-22, L-22, L-36
fn by_certificate(findings: &mut Findings, client: &Client, key: Key<'_>) {
    let required = client.client_certificate == ClientCertificate::Required;
    if !required && !client.certificates.is_empty() {
        findings.error(key("certificates"), "is only read with client_certificate = \"required\"");
    }
    if required && client.tls == ClientTls::DangerOptional {
        findings
            .error(key("tls"), "is \"danger_optional\", but a certificate is required, and without TLS there is none");
    }
    well_written(findings, key("certificates"), &client.certificates);
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    let mut names = Vec::new();
    for account in &client.service_accounts {
        well_written(findings, key("service_accounts"), &account.certificates);
        let Some(password) = &account.password else { continue };
        if account.certificates.is_empty() {
            findings.error(
                key("service_accounts"),
                format!("{:?} has a password and no certificates; the password is for SASL EXTERNAL", account.name),
            );
        }
        if *password == SecretSource::Generate {
            findings.error(key("service_accounts"), "a password is the directory's; write \"file:PATH\" or \"keep\"");
        }
        // The secret is called after it.
        let attribute = account.name.split_once('=').map_or("", |(attribute, _)| attribute);
        let is_dn = !attribute.is_empty() && attribute.bytes().all(|sign| sign.is_ascii_alphanumeric() || sign == b'-');
        if !is_dn || names.contains(&&account.name) {
            findings.error(
                key("service_accounts"),
                format!("{:?} has a password and is no DN, or stands twice", account.name),
            );
        }
        names.push(&account.name);
        for mark in account.certificates.iter().filter_map(|text| certificate(text)) {
            if let Some(other) = seen.insert(mark, &account.name) {
                findings.error(
                    key("service_accounts"),
                    format!(
                        "a certificate of {:?} is also one of {other:?}; one certificate is one account",
                        account.name
                    ),
                );
            }
        }
    }
}

fn well_written(findings: &mut Findings, key: String, certificates: &[String]) {
    for found in certificates.iter().filter(|text| certificate(text).is_none()) {
        findings.error(
            key.clone(),
            format!("found {found:?}; a certificate is written sha256:<64 hexadecimal digits> or dns:<host name>"),
        );
    }
}

/// L-14, L-15
fn object_identifiers(findings: &mut Findings, client: &Client, key: Key<'_>) {
    /// StartTLS is ours; fast bind and batch would authenticate and operate beside the second factor.
    const NEVER: [&str; 3] = ["1.3.6.1.4.1.1466.20037", "1.2.840.113556.1.4.1781", "1.2.840.113556.1.4.2212"];
    for (field, listed) in
        [("extended_operations", &client.extended_operations), ("trusted_controls", &client.trusted_controls)]
    {
        for found in listed.iter().filter(|text| !is_object_identifier(text)) {
            findings
                .error(key(field), format!("found {found:?}; an OID is written as numbers with dots, 1.3.6.1.1.21.3"));
        }
    }
    for found in client.extended_operations.iter().filter(|oid| NEVER.contains(&oid.as_str())) {
        findings.error(
            key("extended_operations"),
            format!("holds {found}, which is never forwarded: it would bind or operate beside the second factor"),
        );
    }
    if !client.trusted_controls.is_empty() {
        findings.warning(
            key("trusted_controls"),
            "with them whoever is bound may act as somebody who was asked for no second factor, as far as the directory lets it",
        );
    }
}

/// Numbers with dots between, at least two of them (RFC 4512 section 1.4).
fn is_object_identifier(text: &str) -> bool {
    let number = |arc: &str| {
        !arc.is_empty() && arc.bytes().all(|digit| digit.is_ascii_digit()) && (arc == "0" || !arc.starts_with('0'))
    };
    text.len() <= 128 && text.contains('.') && text.split('.').all(number)
}

/// Scheme, host and perhaps a port, and nothing behind them.
fn is_server_url(url: &str) -> bool {
    let Some(rest) = ["ldaps://", "ldap://"].iter().find_map(|scheme| url.strip_prefix(scheme)) else { return false };
    let host_and_port = |sign: char| sign.is_ascii_alphanumeric() || ".-:[]".contains(sign);
    !rest.is_empty() && !rest.starts_with(':') && rest.chars().all(host_and_port)
}

/// FC-05
fn api_problems(findings: &mut Findings, client: &Client, key: Key<'_>) {
    if client.api_keys.is_empty() {
        findings.error(
            key("api_keys"),
            "is empty; name the keys that may ask, as `twinlock api-key create NAME --role application` made them",
        );
    }
    if client.api_keys.iter().any(String::is_empty) {
        findings.error(key("api_keys"), "holds an empty name");
    }
    if client.secret.is_some() {
        findings.error(key("secret"), "is a key of RADIUS clients");
    }
    if client.appended != Appended::Off {
        findings.error(key("appended"), "is a key of RADIUS and LDAP clients: the API has a field for each");
    }
    if client.when_unavailable == RefuseOrPass::Pass {
        findings.error(key("when_unavailable"), "found \"pass\"; the API lets nobody in while verification is down");
    }
    if client.remember.as_ref().is_some_and(|remember| remember.kind == RememberKind::UserSourcePassword) {
        findings.error(
            key("remember.kind"),
            "needs a password that Twinlock checks, and an application may check it itself; write \"user\" or \"user_source\"",
        );
    }
    keys_of_ldap(findings, client, key);
}
