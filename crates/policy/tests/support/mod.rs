//! An attempt of somebody with a phone at a client that shows nothing, to be changed by a test.
#![allow(dead_code, reason = "each test file uses its part")]

use domain::settings::{PolicyRule, ServiceAccount, Then, VerificationRules, When};
use domain::{DirectoryRef, Method};
use policy::{ClientRules, Decision, Facts, Plan, Request, Shows, User, UserState, Would, decide};
use std::net::IpAddr;

/// A Monday in September 2026.
pub const NOW: i64 = 1_790_000_000_000;

pub struct World {
    pub client: ClientRules,
    pub company: VerificationRules,
    pub policies: Vec<PolicyRule>,
    pub user: Option<User<'static>>,
    pub shows: Shows,
    pub client_ip: Option<IpAddr>,
    pub person_ip: Option<IpAddr>,
    pub as_service_account: bool,
    pub code_given: bool,
    pub wanted: Option<Method>,
}

impl World {
    pub fn new() -> Self {
        let client = ClientRules {
            name: "vpn".into(),
            target: Some(subject().directory),
            fallback_code: false,
            methods: vec![Method::Push, Method::Call, Method::Sms, Method::Code, Method::Recovery],
            ..ClientRules::portal()
        };
        Self {
            client,
            company: VerificationRules::default(),
            policies: Vec::new(),
            user: Some(User { methods: vec![Method::Push], ..User::new(UserState::Enabled) }),
            shows: Shows::Nothing,
            client_ip: None,
            person_ip: "198.51.100.7".parse().ok(),
            as_service_account: false,
            code_given: false,
            wanted: None,
        }
    }

    pub fn user(&mut self) -> &mut User<'static> {
        self.user.as_mut().expect("somebody")
    }

    pub fn decide(&self) -> Decision {
        let subject = subject();
        let request = Request {
            client: &self.client,
            company: &self.company,
            policies: &self.policies,
            subject: Some(&subject),
            client_ip: self.client_ip,
            person_ip: self.person_ip,
            as_service_account: self.as_service_account,
            code_given: self.code_given,
            wanted: self.wanted,
            shows: self.shows,
        };
        decide(&request, &Facts { user: self.user.clone() }, NOW)
    }

    /// The decision, short: `plan push# code?`; `!` waits for the phone, `#` shows a number, `?` asks for something.
    pub fn decided(&self) -> String {
        match self.decide() {
            Decision::Allow(grant) => format!("allow {}", grant.reason().code()),
            Decision::Deny(reason) => format!("deny {}", reason.code()),
            Decision::Bypass(_) => "bypass".into(),
            Decision::Plan(plan) => planned(&plan),
            Decision::Observed(observed) => {
                let would = match &observed.would {
                    Would::Refuse(reason) => format!("deny {}", reason.code()),
                    Would::Bypass => "bypass".into(),
                    Would::Ask(plan) => planned(plan),
                };
                format!("allow {}, {would}", observed.grant.reason().code())
            }
        }
    }
}

fn planned(plan: &Plan) -> String {
    plan.ways.iter().fold("plan".to_owned(), |said, way| {
        let how = match way.method.is_out_of_band() {
            true if way.number => '#',
            true => '!',
            false => '?',
        };
        format!("{said} {}{how}", way.method.code())
    })
}

pub fn subject() -> DirectoryRef {
    DirectoryRef {
        directory: "corp".parse().expect("valid"),
        id: "entryUUID:00000000-0000-0000-0000-000000000001".parse().expect("valid"),
    }
}

pub fn account(sources: &[&str]) -> ServiceAccount {
    ServiceAccount {
        name: "cn=app".into(),
        id: Some(subject().id),
        sources: sources.iter().map(|network| network.parse().expect("a network")).collect(),
        certificates: Vec::new(),
        password: None,
    }
}

pub fn rule(when: When, then: Then) -> PolicyRule {
    PolicyRule { name: "rule".parse().expect("a name"), when, then }
}

pub fn all_clients() -> &'static [String] {
    Box::leak(vec!["*".to_owned()].into_boxed_slice())
}
