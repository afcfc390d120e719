//! What the store knows about a user, made into what the decision and the methods work with.

use crate::budget::{Budget, not_understood};
use crate::settings::Known;
use domain::settings::Channel;
use domain::{CodeAlgorithm, CodeForm, DirectoryRef, Language, Method, Secret};
use policy::UserState;
use proto::user_store::{
    CodeFactor, LoginFactsReply, LoginFactsRequest, LoginUser, NamedRequest, Passkey, PushDevice, facts_server::Facts,
    login_facts_request::Who,
};
use std::sync::Arc;
use tonic::Status;

/// The facts of the store.
#[derive(Clone)]
pub struct Store {
    facts: Arc<dyn Facts>,
}

/// A user of the store, with everything a login may need.
pub struct KnownUser {
    pub id: String,
    pub username: String,
    pub state: UserState,
    pub tokens: Vec<Token>,
    pub devices: Vec<PushDevice>,
    pub passkeys: Vec<Passkey>,
    /// The rest, as the store says it.
    pub record: LoginUser,
}

/// A token that shows codes.
pub struct Token {
    pub factor_id: String,
    pub kind: TokenKind,
    pub seed: Secret,
    /// Not proven yet: it counts for nothing but its own confirmation.
    pub pending: bool,
    /// Of a hardware token; empty for an app.
    pub serial: String,
}

/// How its codes follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// By the clock (RFC 6238).
    Timed { form: CodeForm, last_step: u64, drift: i32 },
    /// By a counter (RFC 4226).
    Counted { algorithm: CodeAlgorithm, digits: u8, next: u64 },
}

impl TokenKind {
    pub fn digits(self) -> u8 {
        match self {
            Self::Timed { form, .. } => form.digits(),
            Self::Counted { digits, .. } => digits,
        }
    }
}

/// What a language is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    Call,
    Text,
    App,
    Code,
}

impl Store {
    pub fn new(facts: Arc<dyn Facts>) -> Self {
        Self { facts }
    }

    /// `None`: proven to be unknown.
    pub async fn user(&self, subject: &DirectoryRef, budget: Budget) -> Result<Option<KnownUser>, Status> {
        self.login(Who::Subject(subject.into()), budget).await
    }

    /// The same of somebody who signs in. One who was made by hand under this name, as the directory has it, is theirs (FS-17).
    pub async fn user_named(
        &self,
        subject: &DirectoryRef,
        username: &str,
        budget: Budget,
    ) -> Result<Option<KnownUser>, Status> {
        let request = LoginFactsRequest { who: Some(Who::Subject(subject.into())), username: username.to_owned() };
        let reply = self.login_facts(request, budget).await?;
        known_user(reply).ok_or_else(|| not_understood("facts"))
    }

    /// The same by Twinlock's own id.
    pub async fn user_by_id(&self, user_id: &str, budget: Budget) -> Result<Option<KnownUser>, Status> {
        self.login(Who::UserId(user_id.to_owned()), budget).await
    }

    /// Whether nobody, in whatever state, has this name or another name of the same account.
    pub async fn has_nobody_named(&self, name: &str, budget: Budget) -> Result<bool, Status> {
        let request = service_kit::grpc::idempotent(NamedRequest { name: name.to_owned() });
        Ok(budget.ask("names", request, |request| self.facts.named(request)).await?.nobody)
    }

    /// Everything the store says of a user, as it says it.
    pub async fn login_facts(&self, request: LoginFactsRequest, budget: Budget) -> Result<LoginFactsReply, Status> {
        budget.ask("facts", service_kit::grpc::idempotent(request), |request| self.facts.login(request)).await
    }

    async fn login(&self, who: Who, budget: Budget) -> Result<Option<KnownUser>, Status> {
        let request = service_kit::grpc::idempotent(LoginFactsRequest { who: Some(who), ..Default::default() });
        let reply = budget.ask("facts", request, |request| self.facts.login(request)).await?;
        known_user(reply).ok_or_else(|| not_understood("facts"))
    }
}

const DAY_MS: i64 = 86_400_000;

impl KnownUser {
    /// Proven tokens, the one used last first.
    pub fn tokens_in_force(&self) -> Vec<&Token> {
        let mut tokens: Vec<&Token> = self.tokens.iter().filter(|token| !token.pending).collect();
        let used = |token: &Token| match token.kind {
            TokenKind::Timed { form, last_step, .. } => last_step.saturating_mul(form.period_seconds()),
            // A counter says nothing about the time.
            TokenKind::Counted { .. } => 0,
        };
        tokens.sort_by(|a, b| used(b).cmp(&used(a)).then_with(|| a.factor_id.cmp(&b.factor_id)));
        tokens
    }

    /// Phones that can be asked: proven, of a kind the settings allow, and seen of late.
    pub fn devices_to_ask(&self, known: &Known, now_unix_ms: i64) -> Vec<PushDevice> {
        let push = &known.settings.push;
        let allowed = |device: &&PushDevice| match device.kind.as_str() {
            "web" => push.web,
            "pi" => push.pi,
            _ => false,
        };
        let unseen_ms = i64::from(push.unseen_days) * DAY_MS;
        let seen =
            |device: &&PushDevice| unseen_ms == 0 || device.last_seen_unix_ms > now_unix_ms.saturating_sub(unseen_ms);
        self.devices.iter().filter(|device| device.state == "active").filter(allowed).filter(seen).cloned().collect()
    }

    /// Methods in force that somebody can carry.
    pub fn methods(&self, known: &Known, now_unix_ms: i64) -> Vec<Method> {
        let has = |method: &Method| match method {
            Method::Push => !self.devices_to_ask(known, now_unix_ms).is_empty(),
            Method::Call | Method::Sms | Method::SmsReply => !self.record.phone.trim().is_empty(),
            Method::Code => self.tokens.iter().any(|token| !token.pending),
            Method::Recovery => self.record.recovery_left > 0,
            Method::Passkey => !self.passkeys.is_empty(),
            Method::Questions => !self.record.questions.is_empty(),
        };
        Method::ALL.iter().copied().filter(|method| known.carries(*method) && has(method)).collect()
    }

    /// Something is proven, whether or not somebody can carry it now. A number of the directory is a method where there is a provider,
    /// and stays one while the provider is off.
    fn is_enrolled(&self, known: &Known) -> bool {
        let provider = |channel| known.settings.providers.iter().any(|provider| provider.channel == channel);
        let rings = !self.record.phone.trim().is_empty() && (provider(Channel::Sms) || provider(Channel::Voice));
        let device = self.devices.iter().any(|device| device.state == "active");
        let token = self.tokens.iter().any(|token| !token.pending);
        rings || device || token || !self.passkeys.is_empty() || self.record.recovery_left > 0
    }

    /// The language the user is spoken to in, by channel; the company's where none is set or none is readable.
    pub fn language(&self, spoken: Spoken, known: &Known) -> Language {
        let tag = match spoken {
            Spoken::Call => &self.record.language_call,
            Spoken::Text => &self.record.language_text,
            Spoken::App => &self.record.language_app,
            Spoken::Code => &self.record.language_code,
        };
        Language::new(tag).unwrap_or_else(|_| known.settings.verification.language.clone())
    }

    /// May some application ask for the PIN beside an approval?
    pub fn may_be_asked_pin(&self, known: &Known, now_unix_ms: i64) -> bool {
        let settings = &known.settings;
        policy::may_ask_pin(&settings.clients, &settings.policies, &self.for_policy(known, now_unix_ms))
    }

    /// As policy sees the user.
    fn for_policy(&self, known: &Known, now_unix_ms: i64) -> policy::User<'_> {
        let record = &self.record;
        let pin = record.pin.unwrap_or_default();
        policy::User {
            state: self.state,
            blocked_until_unix_ms: record.blocked_until_unix_ms,
            exempt_clients: &record.exempt_clients,
            exempt_until_unix_ms: record.exempt_until_unix_ms,
            groups: &record.groups,
            enrolled: self.is_enrolled(known),
            must_enrol: record.must_enrol,
            methods: self.methods(known, now_unix_ms),
            default_method: Method::from_code(&record.default_method),
            // A code that this version does not know stays a restriction: it is not dropped to "everything" (V-75).
            allowed_methods: (!record.allowed_methods.is_empty())
                .then(|| record.allowed_methods.iter().filter_map(|code| Method::from_code(code)).collect()),
            pin: policy::Pin {
                required: pin.required,
                set: pin.set,
                must_change: pin.must_change,
                expired: pin.expired,
                locked_until_unix_ms: pin.locked_until_unix_ms,
            },
            temporary_code: record.temporary_code,
            bypass: record
                .bypass
                .as_ref()
                .map(|bypass| policy::Bypass { client: &bypass.client, expires_unix_ms: bypass.expires_unix_ms }),
        }
    }
}

pub fn for_policy<'a>(user: Option<&'a KnownUser>, known: &Known, now_unix_ms: i64) -> policy::Facts<'a> {
    policy::Facts { user: user.map(|user| user.for_policy(known, now_unix_ms)) }
}

/// `None`: the reply contradicts itself. A factor that cannot be read must not make its owner look like one without any,
/// whom some clients let pass (V-75).
pub(crate) fn known_user(reply: LoginFactsReply) -> Option<Option<KnownUser>> {
    let Some(user) = reply.user else {
        let nobody = reply.code_factors.is_empty() && reply.devices.is_empty() && reply.passkeys.is_empty();
        return nobody.then_some(None);
    };
    if user.user_id.is_empty() {
        return None;
    }
    let tokens = reply.code_factors.into_iter().map(token).collect::<Option<Vec<_>>>()?;
    Some(Some(KnownUser {
        id: user.user_id.clone(),
        username: user.username.clone(),
        state: UserState::from_code(&user.state),
        tokens,
        devices: reply.devices,
        passkeys: reply.passkeys,
        record: user,
    }))
}

/// `None`: it cannot be read.
pub fn token(factor: CodeFactor) -> Option<Token> {
    let algorithm = CodeAlgorithm::from_code(&factor.algorithm)?;
    let seed: Secret = factor.seed?.into();
    let kind = match factor.kind.as_str() {
        "" | "totp" => TokenKind::Timed {
            form: CodeForm::new(algorithm, factor.digits, factor.period_seconds).ok()?,
            last_step: factor.last_step,
            drift: factor.drift,
        },
        "hotp" => TokenKind::Counted {
            algorithm,
            digits: u8::try_from(factor.digits).ok().filter(|digits| (6..=8).contains(digits))?,
            next: factor.next_counter,
        },
        _ => return None,
    };
    let readable = !factor.factor_id.is_empty() && !seed.is_empty();
    readable.then_some(Token {
        factor_id: factor.factor_id,
        kind,
        seed,
        pending: factor.pending,
        serial: factor.serial,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::settings::Settings;
    use std::collections::HashMap;

    fn factor() -> CodeFactor {
        CodeFactor {
            factor_id: "f".into(),
            algorithm: "SHA1".into(),
            digits: 6,
            period_seconds: 30,
            seed: Some(Secret::from("12345678901234567890").into()),
            last_step: 0,
            pending: false,
            ..CodeFactor::default()
        }
    }

    fn user() -> Option<LoginUser> {
        Some(LoginUser { user_id: "u".into(), username: "ann".into(), state: "enabled".into(), ..LoginUser::default() })
    }

    fn read(code_factors: Vec<CodeFactor>) -> Option<Option<KnownUser>> {
        known_user(LoginFactsReply { user: user(), code_factors, ..LoginFactsReply::default() })
    }

    fn known() -> Known {
        let settings: Settings = serde_json::from_value(serde_json::json!({ "provider": [
            { "name": "sms", "channel": "sms", "adapter": { "kind": "http", "preset": "twilio" } },
        ]}))
        .expect("valid settings");
        Known { revision: 1, settings, secrets: HashMap::new(), portal_url: String::new() }
    }

    #[test]
    fn a_factor_that_cannot_be_read_is_no_missing_factor() {
        // V-75, B-89: with not_enrolled = pass that would be a bypass
        let broken = [
            CodeFactor { algorithm: "MD5".into(), ..factor() },
            CodeFactor { digits: 5, ..factor() },
            CodeFactor { period_seconds: 0, ..factor() },
            CodeFactor { seed: None, ..factor() },
            CodeFactor { seed: Some(Secret::default().into()), ..factor() },
            CodeFactor { factor_id: String::new(), ..factor() },
            CodeFactor { kind: "sundial".into(), ..factor() },
            CodeFactor { kind: "hotp".into(), digits: 9, ..factor() },
        ];
        for factor in broken {
            assert!(read(vec![factor]).is_none());
        }
        let nobody = |reply: LoginFactsReply| known_user(LoginFactsReply { user: None, ..reply });
        assert!(nobody(LoginFactsReply { code_factors: vec![factor()], ..LoginFactsReply::default() }).is_none());
        let devices = vec![PushDevice::default()];
        assert!(nobody(LoginFactsReply { devices, ..LoginFactsReply::default() }).is_none());
        let nameless = Some(LoginUser { user_id: String::new(), ..user().expect("some") });
        assert!(known_user(LoginFactsReply { user: nameless, ..LoginFactsReply::default() }).is_none());
        let good = read(vec![factor(), CodeFactor { kind: "hotp".into(), period_seconds: 0, ..factor() }]);
        assert_eq!(good.flatten().expect("readable").methods(&known(), 0), [Method::Code]);
    }

    #[test]
    fn a_pending_token_is_no_method() {
        let user = read(vec![CodeFactor { pending: true, ..factor() }]).flatten().expect("readable");
        assert!(user.methods(&known(), 0).is_empty() && user.tokens_in_force().is_empty());
    }

    #[test]
    fn the_token_used_last_comes_first() {
        let older = CodeFactor { factor_id: "a".into(), last_step: 10, ..factor() };
        // 60 s steps: the smaller number is the later time
        let newer = CodeFactor { factor_id: "b".into(), last_step: 6, period_seconds: 60, ..factor() };
        let user = read(vec![older, newer]).flatten().expect("ok");
        let order: Vec<_> = user.tokens_in_force().iter().map(|token| token.factor_id.as_str()).collect();
        assert_eq!(order, ["b", "a"]);
    }

    #[test]
    fn a_phone_counts_while_it_is_proven_allowed_and_seen_of_late() {
        // FM-04: what is not asked is no method either
        let now = 200 * DAY_MS;
        let device = |kind: &str, state: &str, last_seen_unix_ms| PushDevice {
            kind: kind.into(),
            state: state.into(),
            last_seen_unix_ms,
            ..PushDevice::default()
        };
        let mut known = known();
        known.settings.push.pi = false;
        for (device, asked) in [
            (device("web", "active", now), true),
            (device("web", "active", now - 89 * DAY_MS), true),
            (device("web", "active", now - 90 * DAY_MS), false),
            (device("web", "pending", now), false),
            (device("pi", "active", now), false),
            (device("watch", "active", now), false),
        ] {
            let mut user = read(vec![]).flatten().expect("readable");
            user.devices = vec![device];
            assert_eq!(user.methods(&known, now).contains(&Method::Push), asked, "{:?}", user.devices);
        }
    }

    #[test]
    fn a_number_is_a_method_where_somebody_can_reach_it() {
        // FV-01: call and sms are off until a provider is set
        let mut user = read(vec![]).flatten().expect("readable");
        user.record.phone = "+4930901820".into();
        assert_eq!(user.methods(&known(), 0), [Method::Sms]);
        let mut off = known();
        off.settings.providers[0].enabled = false;
        assert!(user.methods(&off, 0).is_empty());
    }

    #[test]
    fn a_restriction_to_what_nobody_knows_stays_a_restriction() {
        // V-75
        let mut user = read(vec![]).flatten().expect("readable");
        user.record.allowed_methods = vec!["telepathy".into()];
        assert_eq!(user.for_policy(&known(), 0).allowed_methods, Some(vec![]));
    }
}
