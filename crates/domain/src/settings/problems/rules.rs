//! The company-wide sections of the second factor, and the administrators' own words.

use super::written::{is_country, is_host_name, is_mail_address, web_address};
use super::{Findings, PORTAL};
use crate::Method;
use crate::settings::{Channel, Settings, SyncState};
use std::collections::BTreeSet;

/// Events administrators can hear of (FV-27, FN-05). A misspelt one would be an alarm that never sounds.
const EVENTS: [&str; 10] = [
    "fraud",
    "blocked",
    "locked",
    "password_known",
    "fail_open",
    "sync_approval",
    "sync_failed",
    "sync_phone_back",
    "sync_enabled_again",
    "sync_name_doubled",
];
const ADDRESSES_MAX: usize = 50;
const HOSTS_MAX: usize = 64;
const TEXT_CHARACTERS_MAX: usize = 4096;
const NODES_MAX: usize = 16;

pub(super) fn problems(findings: &mut Findings, settings: &Settings) {
    verification(findings, settings);
    pin(findings, settings);
    messages(findings, settings);
    mail(findings, settings);
    push(findings, settings);
    sync(findings, settings);
    texts(findings, settings);
}

fn verification(findings: &mut Findings, settings: &Settings) {
    let rules = &settings.verification;
    match rules.default_method {
        Method::Recovery | Method::Passkey | Method::Questions => findings.error(
            "verification.default_method",
            format!("found {:?}; allowed are push, call, sms, sms_reply, code", rules.default_method.code()),
        ),
        method => {
            if let Some(why) = settings.nobody_carries(method) {
                findings.warning("verification.default_method", why);
            }
        }
    }
    if !rules.country.is_empty() && !is_country(&rules.country) {
        findings.error("verification.country", country(&rules.country));
    }
    findings.range("verification.cool_down_seconds", rules.cool_down_seconds, 0..=900);
    findings.range("verification.prompts_per_day", rules.prompts_per_day, 5..=500);
    findings.range("verification.calls_per_hour", rules.calls_per_hour, 1..=60);
    findings.range("verification.block_days", rules.block_days, 0..=365);
    findings.range("verification.bypass_max_seconds", rules.bypass_max_seconds, 1..=86_400);
}

fn pin(findings: &mut Findings, settings: &Settings) {
    let rules = &settings.pin;
    findings.range("pin.length_min", rules.length_min, 4..=10);
    findings.range("pin.history", rules.history, 0..=24);
    findings.range("pin.life_days", rules.life_days, 0..=365);
    findings.range("pin.initial_days", rules.initial_days, 1..=90);
    findings.range("pin.lock_tries", rules.lock_tries, 1..=20);
    findings.range("pin.lock_window_minutes", rules.lock_window_minutes, 1..=1440);
    findings.range("pin.lock_minutes", rules.lock_minutes, 0..=1440);
    if rules.danger_mail_initial_pin {
        findings
            .warning("pin.danger_mail_initial_pin", "initial PINs are sent by mail, where whoever reads it has them");
    }
}

fn messages(findings: &mut Findings, settings: &Settings) {
    let (sms, voice) = (&settings.sms, &settings.voice);
    findings.range("sms.digits", sms.digits, 6..=8);
    findings.range("sms.life_seconds", sms.life_seconds, 60..=300);
    findings.range("sms.per_prefix_and_hour", sms.per_prefix_and_hour, 1..=1000);
    findings.range("sms.per_day", sms.per_day, 1..=100_000);
    if let Some(bad) = sms.countries.iter().find(|code| !is_country(code)) {
        findings.error("sms.countries", country(bad));
    }
    let carried = settings.carries(Channel::Sms) || settings.carries(Channel::Voice);
    if carried && sms.countries.is_empty() && settings.verification.country.is_empty() {
        findings.warning(
            "sms.countries",
            "is empty, and so is verification.country: no text and no call goes anywhere; name the countries, such as [\"DE\"]",
        );
    }
    findings.range("voice.ring_seconds", voice.ring_seconds, 10..=60);
    let digits = voice.fraud_code.len();
    if !(1..=4).contains(&digits) || !voice.fraud_code.bytes().all(|sign| sign.is_ascii_digit()) {
        findings.error("voice.fraud_code", format!("found {:?}; allowed are 1 to 4 digits", voice.fraud_code));
    } else if digits >= settings.pin.length_min as usize {
        findings.warning(
            "voice.fraud_code",
            "is as long as a PIN may be: whoever has these digits as their PIN reports a fraud; use fewer digits than \
             pin.length_min",
        );
    }
}

fn mail(findings: &mut Findings, settings: &Settings) {
    let rules = &settings.mail;
    for (event, addresses) in &rules.notify {
        let key = format!("mail.notify.{event}");
        if !EVENTS.contains(&event.as_str()) {
            findings.error(&key, format!("no such event; the events are {}", EVENTS.join(", ")));
        }
        if addresses.len() > ADDRESSES_MAX {
            findings.error(&key, format!("found {} addresses; allowed are {ADDRESSES_MAX}", addresses.len()));
        }
        if let Some(bad) = addresses.iter().find(|address| !is_mail_address(address)) {
            findings.error(&key, format!("found {bad:?}; an address is written name@example.com"));
        }
    }
    let wanted = rules.to_users || rules.notify.values().any(|addresses| !addresses.is_empty());
    if wanted && !settings.carries(Channel::Mail) {
        findings.warning("mail", "no mail goes out: there is no enabled [[provider]] with channel = \"mail\"");
    }
}

fn push(findings: &mut Findings, settings: &Settings) {
    let rules = &settings.push;
    findings.range("push.devices_max", rules.devices_max, 1..=10);
    findings.range("push.activation_minutes", rules.activation_minutes, 1..=10);
    findings.range("push.unseen_days", rules.unseen_days, 0..=365);
    if rules.hosts.len() > HOSTS_MAX {
        findings.error("push.hosts", format!("found {} hosts; allowed are {HOSTS_MAX}", rules.hosts.len()));
    }
    let whole = |host: &str| {
        let name = host.strip_prefix("*.").unwrap_or(host);
        // Below a single label is everything of a top-level domain.
        is_host_name(name) && (name.contains('.') || name == host)
    };
    if let Some(bad) = rules.hosts.iter().find(|host| !whole(host)) {
        findings
            .error("push.hosts", format!("found {bad:?}; a host is written push.example.com or *.push.example.com"));
    }
    let contact = match rules.contact.strip_prefix("mailto:") {
        Some(address) => is_mail_address(address),
        None => web_address(&rules.contact).is_some_and(|web| web.secure),
    };
    if !contact {
        findings.error(
            "push.contact",
            format!("found {:?}; allowed are mailto:name@example.com and https://example.com/...", rules.contact),
        );
    }
}

/// FS-01 to FS-11
fn sync(findings: &mut Findings, settings: &Settings) {
    let rules = &settings.sync;
    findings.range("sync.interval_minutes", rules.interval_minutes, 1..=1440);
    findings.range("sync.approval_over_users", rules.approval_over_users, 1..=999);
    findings.range("sync.approval_over_percent", rules.approval_over_percent, 0..=100);
    findings.range("sync.approval_days", rules.approval_days, 1..=30);
    findings.range("sync.grace_days", rules.grace_days, 0..=365);
    findings.range("sync.phone_hold_hours", rules.phone_hold_hours, 0..=168);
    findings.range("sync.phone_back_minutes", rules.phone_back_minutes, 0..=1440);
    let nodes = &rules.preferred_nodes;
    if nodes.len() > NODES_MAX {
        findings.error("sync.preferred_nodes", format!("found {} hosts; allowed are {NODES_MAX}", nodes.len()));
    }
    if let Some(bad) = nodes.iter().find(|node| !is_host_name(node)) {
        findings
            .error("sync.preferred_nodes", format!("found {bad:?}; a node is named by its host, such as sync-1.corp"));
    }
    let nothing_on = settings.sync_items.iter().all(|item| item.state != SyncState::On);
    if rules.enabled && nothing_on {
        findings.warning("sync.enabled", "is true, but no [[sync_item]] is on: there is nothing to read");
    }
}

/// What the words say is checked where the catalogue is; here only their form.
fn texts(findings: &mut Findings, settings: &Settings) {
    let mut seen = BTreeSet::new();
    for text in &settings.texts {
        let key = format!("text.{}.{}", text.key, text.language);
        let name = |sign: u8| sign.is_ascii_alphanumeric() || sign == b'-' || sign == b'.';
        if !(1..=64).contains(&text.key.len()) || !text.key.bytes().all(name) {
            findings.error(format!("{key}.key"), "allowed are 1 to 64 letters, digits, hyphens and dots");
        }
        if let Some(application) = &text.application {
            findings.text(format!("{key}.application"), application);
            let known = application == PORTAL || settings.clients.iter().any(|it| it.application() == application);
            if !known {
                findings.warning(format!("{key}.application"), format!("found {application:?}; no client has it"));
            }
        }
        if !(1..=TEXT_CHARACTERS_MAX).contains(&text.text.chars().count()) {
            findings.error(format!("{key}.text"), format!("allowed are 1 to {TEXT_CHARACTERS_MAX} characters"));
        }
        if !seen.insert((&text.key, &text.language, &text.application)) {
            findings.error(key, "this text stands twice for one language and application");
        }
    }
}

pub(super) fn country(found: &str) -> String {
    format!("found {found:?}; a country is written as two capital letters (ISO 3166), such as DE")
}
