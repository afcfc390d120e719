//! Rules that go before a client's own values.

use super::written::is_time_of_day;
use super::{Findings, PORTAL};
use crate::Method;
use crate::settings::{PolicyRule, Settings, Then};

pub(super) fn problems(findings: &mut Findings, settings: &Settings, rule: &PolicyRule) {
    let key = |field: &str| format!("policy.{}.{field}", rule.name);
    for client in &rule.when.clients {
        if client.as_str() != PORTAL && settings.client(client.as_str()).is_none() {
            findings.error(key("when.clients"), format!("found {:?}; no [[client]] has this name", client.as_str()));
        }
    }
    if rule.when.groups.iter().any(String::is_empty) {
        findings.error(key("when.groups"), "holds an empty text; a group is written as its DN or objectGUID:...");
    }
    if let Some(time) = &rule.when.time {
        if let Some(bad) = time.days.iter().find(|day| !(1..=7).contains(*day)) {
            findings.error(key("when.time.days"), format!("found {bad}; allowed are 1 (Monday) to 7 (Sunday)"));
        }
        for (field, text) in [("when.time.from", &time.from), ("when.time.to", &time.to)] {
            if !is_time_of_day(text) {
                findings.error(key(field), format!("found {text:?}; a time is written 08:00"));
            }
        }
        if !(-840..=840).contains(&time.utc_offset_minutes) {
            let found = time.utc_offset_minutes;
            findings.error(key("when.time.utc_offset_minutes"), format!("found {found}; allowed are -840 to 840"));
        }
    }
    then(findings, settings, rule, &key);
}

fn then(findings: &mut Findings, settings: &Settings, rule: &PolicyRule, key: &dyn Fn(&str) -> String) {
    let then = &rule.then;
    if *then == Then::default() {
        findings.error(key("then"), "says nothing; write refuse, exempt, methods, pin or least_assurance");
    }
    let asks = !then.methods.is_empty() || then.pin.is_some() || then.least_assurance.is_some();
    if then.refuse && (then.exempt || asks) {
        findings.error(key("then"), "refuses and says something else too; a rule that refuses says nothing more");
    } else if then.exempt && asks {
        findings.error(key("then"), "exempts and asks for something; a rule that exempts says nothing more");
    }
    let portal = rule.when.clients.is_empty() || rule.when.clients.iter().any(|client| client.as_str() == PORTAL);
    for method in &then.methods {
        if matches!(method, Method::Passkey | Method::Questions) && !portal {
            let method = method.code();
            findings.error(
                key("then.methods"),
                format!("\"{method}\" works at the portal only, which the rule leaves out"),
            );
        } else if let Some(why) = settings.nobody_carries(*method) {
            findings.warning(key("then.methods"), why);
        }
    }
}
