//! Whoever carries messages, calls and mail. What is sent to them is worth money and holds codes, so an address in clear text
//! is refused unless it is this very machine.

use super::Findings;
use super::written::{host_and_port, is_host, is_loopback, is_mail_address, is_mailbox, placeholders, web_address};
use crate::PhoneNumber;
use crate::settings::{Adapter, Channel, HttpMethod, HttpPreset, Provider, SecretSource, Settings, SmtpTls};

/// What a template of an HTTP provider may ask for.
const PLACEHOLDERS: [&str; 9] = ["phone", "digits", "text", "id", "account", "sender", "secret", "basic", "callback"];
/// The secret itself, and account and secret as RFC 7617 wants them.
const SECRET_PLACEHOLDERS: [&str; 2] = ["secret", "basic"];
/// The number, with its plus and without.
const PHONE_PLACEHOLDERS: [&str; 2] = ["phone", "digits"];
/// RFC 7230 section 3.2.6: a header's name is a token.
const TOKEN_SIGNS: &[u8] = b"!#$%&'*+-.^_`|~";

type Key<'a> = &'a dyn Fn(&str) -> String;

pub(super) fn problems(findings: &mut Findings, settings: &Settings, provider: &Provider) {
    let key = |field: &str| format!("provider.{}.{field}", provider.name);
    findings.range(key("timeout_seconds"), provider.timeout_seconds, 1..=30);
    let carries = provider.adapter.channel();
    if provider.channel != carries {
        findings.error(
            key("channel"),
            format!("found {:?}; this kind of adapter carries {:?}", provider.channel.code(), carries.code()),
        );
    }
    if provider.secret == Some(SecretSource::Generate) {
        findings.error(key("secret"), "is \"generate\", but it is the provider who gives it; write \"file:PATH\"");
    }
    let in_adapter = |field: &str| format!("provider.{}.adapter.{field}", provider.name);
    match &provider.adapter {
        Adapter::Http { .. } => http(findings, provider, &in_adapter),
        Adapter::Smpp { .. } => smpp(findings, provider, &in_adapter),
        Adapter::MailGateway { .. } => mail_gateway(findings, settings, provider, &in_adapter),
        Adapter::Script { .. } => script(findings, provider, &in_adapter),
        Adapter::Twiml { .. } | Adapter::Ari { .. } => voice(findings, provider, &in_adapter),
        Adapter::Smtp { .. } => smtp(findings, provider, &in_adapter),
    }
    let needed = match &provider.adapter {
        Adapter::Http { preset: None | Some(HttpPreset::Gammu), .. } => asks_for_secret(&provider.adapter),
        Adapter::MailGateway { .. } | Adapter::Script { .. } => false,
        Adapter::Smtp { user, .. } => !user.is_empty(),
        Adapter::Http { .. } | Adapter::Smpp { .. } | Adapter::Twiml { .. } | Adapter::Ari { .. } => true,
    };
    if needed && provider.secret.is_none() {
        findings.error(key("secret"), "is missing; write \"file:PATH\" or, for one already stored, \"keep\"");
    }
    let calls_us = matches!(provider.adapter, Adapter::Http { .. } | Adapter::Twiml { .. });
    if provider.webhook_secret.is_some() && !calls_us {
        findings.error(key("webhook_secret"), "is for providers that call Twinlock: kinds \"http\" and \"twiml\"");
    }
}

fn http(findings: &mut Findings, provider: &Provider, key: Key<'_>) {
    let Adapter::Http {
        preset,
        account,
        url,
        method,
        headers,
        form,
        json,
        success,
        success_pointer,
        id_pointer,
        ca,
        ..
    } = &provider.adapter
    else {
        return;
    };
    let own_box = matches!(preset, Some(HttpPreset::Smseagle | HttpPreset::Gammu));
    if !url.is_empty() {
        web(findings, key("url"), url);
    } else if preset.is_none() || own_box {
        findings.error(key("url"), "is empty; write where texts are sent to, such as \"https://sms.example.com/send\"");
    }
    if matches!(preset, Some(HttpPreset::Twilio | HttpPreset::Vonage)) && account.is_empty() {
        findings.error(key("account"), "is empty; this preset needs the account's id");
    }
    if !form.is_empty() && !json.is_empty() {
        findings.error(key("json"), "and form are both set; a request has one body");
    }
    if *method == Some(HttpMethod::Get) && (!form.is_empty() || !json.is_empty()) {
        findings.error(key("method"), "is \"GET\", which has no body; write \"POST\", or put the fields in the url");
    }
    for (name, value) in headers {
        let token = |sign: u8| sign.is_ascii_alphanumeric() || TOKEN_SIGNS.contains(&sign);
        if name.is_empty() || !name.bytes().all(token) || value.chars().any(char::is_control) {
            findings.error(key("headers"), format!("{name:?} is no header, or its value holds control characters"));
        }
    }
    let written: Vec<&str> = templates(&provider.adapter).map(|(_, text)| text).collect();
    let asked: Vec<&str> = written.iter().flat_map(|text| placeholders(text)).collect();
    if let Some(bad) = asked.iter().find(|word| !PLACEHOLDERS.contains(word)) {
        let known = PLACEHOLDERS.map(|word| format!("{{{word}}}")).join(", ");
        findings.error(key("url"), format!("found {{{bad}}} in url, headers, form or json; known are {known}"));
    }
    let lacking = [&PHONE_PLACEHOLDERS[..], &["text"]].into_iter().find(|any| !any.iter().any(|it| asked.contains(it)));
    if let Some([word, ..]) = lacking.filter(|_| preset.is_none() && !url.is_empty()) {
        findings.error(key("form"), format!("{{{word}}} stands nowhere in url, headers, form or json"));
    }
    if let Some(bad) = success.iter().find(|code| !(100..=599).contains(*code)) {
        findings.error(key("success"), format!("found {bad}; an answer is 100 to 599"));
    }
    let pointers =
        [("id_pointer", Some(id_pointer)), ("success_pointer", success_pointer.as_ref().map(|it| &it.pointer))];
    for (field, pointer) in pointers.into_iter().filter_map(|(field, pointer)| Some((field, pointer?))) {
        if !pointer.is_empty() && !pointer.starts_with('/') {
            findings.error(key(field), format!("found {pointer:?}; a JSON pointer begins with / (RFC 6901)"));
        }
    }
    certificate(findings, key("ca"), ca);
}

/// The texts of an HTTP provider that placeholders may stand in, by name.
fn templates(adapter: &Adapter) -> impl Iterator<Item = (String, &str)> {
    let mut found = Vec::new();
    if let Adapter::Http { url, headers, form, json, .. } = adapter {
        found.push(("url".to_owned(), url.as_str()));
        found.extend(headers.iter().map(|(name, value)| (format!("headers.{name}"), value.as_str())));
        found.extend(form.iter().map(|(name, value)| (format!("form.{name}"), value.as_str())));
        found.push(("json".to_owned(), json.as_str()));
    }
    found.into_iter()
}

fn asks_for_secret(adapter: &Adapter) -> bool {
    templates(adapter).any(|(_, text)| holds_secret(text))
}

fn holds_secret(template: &str) -> bool {
    placeholders(template).any(|word| SECRET_PLACEHOLDERS.contains(&word))
}

impl Provider {
    /// Would a secret that is kept go where it did not go before: to another host or process, past another CA, without TLS,
    /// or in another place of the request, such as the text itself? Who may change the settings may not know it (V-83).
    pub fn sends_secret_elsewhere_than(&self, before: &Self) -> bool {
        self.way_of_secret() != before.way_of_secret()
    }

    fn way_of_secret(&self) -> Vec<String> {
        match &self.adapter {
            Adapter::Http { preset, url, method, ca, .. } => {
                let mut way = vec![format!("http {preset:?} {method:?}"), url.clone(), ca.clone()];
                let holding = templates(&self.adapter)
                    .filter(|(_, text)| holds_secret(text))
                    .map(|(name, text)| format!("{name} = {text}"));
                way.extend(holding);
                way
            }
            Adapter::Smpp { address, tls, ca, .. } => vec![format!("smpp {tls}"), address.clone(), ca.clone()],
            Adapter::MailGateway { .. } => vec!["mail_gateway".to_owned()],
            Adapter::Script { program, .. } => vec!["script".to_owned(), program.clone()],
            Adapter::Twiml { base_url, ca, .. } => vec!["twiml".to_owned(), base_url.clone(), ca.clone()],
            Adapter::Ari { base_url, ca, .. } => vec!["ari".to_owned(), base_url.clone(), ca.clone()],
            Adapter::Smtp { host, port, tls, ca, .. } => vec![format!("smtp {tls:?} {port}"), host.clone(), ca.clone()],
        }
    }
}

fn smpp(findings: &mut Findings, provider: &Provider, key: Key<'_>) {
    let Adapter::Smpp { address, tls, system_id, window, enquire_seconds, ca, .. } = &provider.adapter else { return };
    match host_and_port(address) {
        None => {
            findings.error(key("address"), format!("found {address:?}; write HOST:PORT, such as smsc.example.com:3550"))
        }
        Some((host, _)) if !tls && !is_loopback(host) => {
            findings.warning(key("tls"), "is false: the password and every code cross the network in clear text");
        }
        Some(_) => {}
    }
    // SMPP 3.4 section 4.1.1: at most 16 octets with the NUL
    if !(1..=15).contains(&system_id.len()) || !system_id.is_ascii() {
        findings.error(key("system_id"), "allowed are 1 to 15 ASCII characters");
    }
    findings.range(key("window"), *window, 1..=100);
    findings.range(key("enquire_seconds"), *enquire_seconds, 5..=3600);
    if !ca.is_empty() && !tls {
        findings.error(key("ca"), "is set, but tls is false");
    }
    certificate(findings, key("ca"), ca);
}

fn mail_gateway(findings: &mut Findings, settings: &Settings, provider: &Provider, key: Key<'_>) {
    let Adapter::MailGateway { to, subject, body } = &provider.adapter else { return };
    if !to.contains("{phone}") || !is_mail_address(&to.replace("{phone}", "4930901820")) {
        findings.error(key("to"), format!("found {to:?}; write {{phone}}@sms.example.com"));
    }
    if !body.contains("{text}") && !subject.contains("{text}") {
        findings.error(key("body"), "lacks {text}, which stands for the words of the message");
    }
    if provider.secret.is_some() {
        findings.error(
            format!("provider.{}.secret", provider.name),
            "has no use here: the mail goes out by the providers with channel = \"mail\"",
        );
    }
    if provider.enabled && !settings.carries(Channel::Mail) {
        findings.warning(
            format!("provider.{}", provider.name),
            "sends by mail, but there is no enabled [[provider]] with channel = \"mail\"",
        );
    }
}

fn script(findings: &mut Findings, provider: &Provider, key: Key<'_>) {
    let Adapter::Script { program, arguments } = &provider.adapter else { return };
    let sign = |sign: u8| sign.is_ascii_alphanumeric() || b"._-".contains(&sign);
    if program.is_empty() || program.starts_with(['.', '-']) || !program.bytes().all(sign) {
        let wanted = "write the name of a file in /usr/local/lib/twinlock/sms, of letters, digits and . _ -";
        findings.error(key("program"), format!("found {program:?}; {wanted}"));
    }
    let asked: Vec<&str> = arguments.iter().flat_map(|argument| placeholders(argument)).collect();
    if let Some(bad) = asked.iter().find(|word| !["phone", "id"].contains(*word)) {
        let why = "known are {phone} and {id}; the text comes on standard input, for everybody on the host can read arguments";
        findings.error(key("arguments"), format!("found {{{bad}}}; {why}"));
    }
    if !asked.contains(&"phone") {
        findings.error(key("arguments"), "{phone} stands nowhere");
    }
    if arguments.iter().any(|argument| argument.chars().any(char::is_control)) {
        findings.error(key("arguments"), "hold control characters");
    }
    if provider.secret.is_some() {
        findings.error(
            format!("provider.{}.secret", provider.name),
            "has no use here: what the program needs to know, it reads from a file of its own",
        );
    }
}

fn voice(findings: &mut Findings, provider: &Provider, key: Key<'_>) {
    let not_empty = |findings: &mut Findings, field: &str, text: &str| {
        if text.is_empty() {
            findings.error(key(field), "is empty");
        }
    };
    match &provider.adapter {
        Adapter::Twiml { base_url, account, caller, ca } => {
            web(findings, key("base_url"), base_url);
            not_empty(findings, "account", account);
            if let Err(error) = PhoneNumber::new(caller) {
                findings.error(key("caller"), error.to_string());
            }
            certificate(findings, key("ca"), ca);
        }
        Adapter::Ari { base_url, user, application, endpoint, sounds, ca, .. } => {
            web(findings, key("base_url"), base_url);
            not_empty(findings, "user", user);
            not_empty(findings, "application", application);
            not_empty(findings, "sounds", sounds);
            if !endpoint.contains("{phone}") {
                findings.error(key("endpoint"), format!("found {endpoint:?}; write PJSIP/{{phone}}@TRUNK"));
            }
            certificate(findings, key("ca"), ca);
        }
        _ => {}
    }
}

fn smtp(findings: &mut Findings, provider: &Provider, key: Key<'_>) {
    let Adapter::Smtp { host, port, tls, sender, reply_to, ca, .. } = &provider.adapter else { return };
    if !is_host(host) {
        findings.error(key("host"), format!("found {host:?}; write a host name or an address, without a port"));
    }
    if *port == 0 {
        findings.error(key("port"), "found 0; usual are 587 with \"starttls\" and 465 with \"tls\"");
    }
    if *tls == SmtpTls::DangerNone {
        match is_loopback(host) {
            true => findings.warning(key("tls"), "mail leaves in clear text, to a relay on this host"),
            false => findings.error(
                key("tls"),
                "\"danger_none\" is for a relay on this host (localhost, 127.0.0.1, ::1); write \"starttls\" or \"tls\"",
            ),
        }
    }
    if !is_mailbox(sender) {
        findings.error(key("sender"), format!("found {sender:?}; write name@example.com or Words <name@example.com>"));
    }
    if !reply_to.is_empty() && !is_mailbox(reply_to) {
        findings.error(key("reply_to"), format!("found {reply_to:?}; write name@example.com"));
    }
    certificate(findings, key("ca"), ca);
}

/// Codes and passwords go there: over TLS, or to this machine.
fn web(findings: &mut Findings, key: String, url: &str) {
    match web_address(url) {
        None => findings.error(key, format!("found {url:?}; write https://HOST[:PORT]/...")),
        Some(web) if !web.secure && !is_loopback(web.host) => {
            findings
                .error(key, format!("found {url:?}; http is for this host alone (localhost, 127.0.0.1); write https"));
        }
        Some(_) => {}
    }
}

pub(super) fn certificate(findings: &mut Findings, key: String, ca: &str) {
    if !ca.is_empty() && !ca.contains("-----BEGIN CERTIFICATE-----") {
        findings.error(key, "is no certificate as PEM text (-----BEGIN CERTIFICATE-----)");
    }
}
