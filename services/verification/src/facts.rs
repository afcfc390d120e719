//! What the store knows about a user, made into what the decision and the methods work with.

use crate::budget::{Budget, not_understood};
use domain::{CodeAlgorithm, CodeForm, DirectoryRef, Method, Secret};
use policy::UserState;
use proto::user_store::{
    CodeFactor, LoginFactsReply, LoginFactsRequest, facts_server::Facts, login_facts_request::Who,
};
use std::sync::Arc;
use tonic::Status;

/// The facts of the store.
#[derive(Clone)]
pub struct Store {
    facts: Arc<dyn Facts>,
}

/// A user of the store, with every token.
pub struct KnownUser {
    pub id: String,
    pub username: String,
    pub state: UserState,
    pub tokens: Vec<Token>,
}

/// A token that shows codes.
pub struct Token {
    pub factor_id: String,
    pub form: CodeForm,
    pub seed: Secret,
    pub last_step: u64,
    /// Not proven yet: it counts for nothing but its own confirmation.
    pub pending: bool,
}

impl Store {
    pub fn new(facts: Arc<dyn Facts>) -> Self {
        Self { facts }
    }

    /// `None`: proven to be unknown.
    pub async fn user(&self, subject: &DirectoryRef, budget: Budget) -> Result<Option<KnownUser>, Status> {
        self.login(Who::Subject(subject.into()), budget).await
    }

    /// The same by Twinlock's own id.
    pub async fn user_by_id(&self, user_id: &str, budget: Budget) -> Result<Option<KnownUser>, Status> {
        self.login(Who::UserId(user_id.to_owned()), budget).await
    }

    /// Everything the store says of a user, as it says it.
    pub async fn login_facts(&self, request: LoginFactsRequest, budget: Budget) -> Result<LoginFactsReply, Status> {
        budget.ask("facts", service_kit::grpc::idempotent(request), |request| self.facts.login(request)).await
    }

    async fn login(&self, who: Who, budget: Budget) -> Result<Option<KnownUser>, Status> {
        let request = service_kit::grpc::idempotent(LoginFactsRequest { who: Some(who) });
        let reply = budget.ask("facts", request, |request| self.facts.login(request)).await?;
        known_user(reply).ok_or_else(|| not_understood("facts"))
    }
}

impl KnownUser {
    /// Proven tokens, the one used last first.
    pub fn tokens_in_force(&self) -> Vec<&Token> {
        let mut tokens: Vec<&Token> = self.tokens.iter().filter(|token| !token.pending).collect();
        let used = |token: &Token| token.last_step.saturating_mul(token.form.period_seconds());
        tokens.sort_by(|a, b| used(b).cmp(&used(a)).then_with(|| a.factor_id.cmp(&b.factor_id)));
        tokens
    }

    pub fn methods(&self) -> Vec<Method> {
        if self.tokens.iter().any(|token| !token.pending) { vec![Method::Code] } else { Vec::new() }
    }
}

pub fn for_policy(user: Option<&KnownUser>) -> policy::Facts {
    policy::Facts { user: user.map(|user| policy::User { state: user.state, methods: user.methods() }) }
}

/// `None`: the reply contradicts itself. A factor that cannot be read must not make its owner look like one without any,
/// whom some clients let pass (V-75).
fn known_user(reply: LoginFactsReply) -> Option<Option<KnownUser>> {
    let Some(user) = reply.user else { return reply.code_factors.is_empty().then_some(None) };
    if user.user_id.is_empty() {
        return None;
    }
    let tokens = reply.code_factors.into_iter().map(token).collect::<Option<Vec<_>>>()?;
    let state = UserState::from_code(&user.state);
    Some(Some(KnownUser { id: user.user_id, username: user.username, state, tokens }))
}

fn token(factor: CodeFactor) -> Option<Token> {
    let algorithm = CodeAlgorithm::from_code(&factor.algorithm)?;
    let seed: Secret = factor.seed?.into();
    let form = CodeForm::new(algorithm, factor.digits, factor.period_seconds).ok()?;
    let readable = !factor.factor_id.is_empty() && !seed.is_empty();
    readable.then_some(Token {
        factor_id: factor.factor_id,
        form,
        seed,
        last_step: factor.last_step,
        pending: factor.pending,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::user_store::LoginUser;

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
        ];
        for factor in broken {
            assert!(
                known_user(LoginFactsReply { user: user(), code_factors: vec![factor], ..LoginFactsReply::default() })
                    .is_none()
            );
        }
        assert!(
            known_user(LoginFactsReply { user: None, code_factors: vec![factor()], ..LoginFactsReply::default() })
                .is_none()
        );
        let nameless = Some(LoginUser { user_id: String::new(), ..user().expect("some") });
        assert!(
            known_user(LoginFactsReply { user: nameless, code_factors: vec![], ..LoginFactsReply::default() })
                .is_none()
        );
        let good =
            known_user(LoginFactsReply { user: user(), code_factors: vec![factor()], ..LoginFactsReply::default() });
        assert_eq!(good.flatten().expect("readable").methods(), [Method::Code]);
    }

    #[test]
    fn a_pending_token_is_no_method() {
        let pending = CodeFactor { pending: true, ..factor() };
        let user =
            known_user(LoginFactsReply { user: user(), code_factors: vec![pending], ..LoginFactsReply::default() })
                .flatten()
                .expect("readable");
        assert!(user.methods().is_empty() && user.tokens_in_force().is_empty());
    }

    #[test]
    fn the_token_used_last_comes_first() {
        let older = CodeFactor { factor_id: "a".into(), last_step: 10, ..factor() };
        // 60 s steps: the smaller number is the later time
        let newer = CodeFactor { factor_id: "b".into(), last_step: 6, period_seconds: 60, ..factor() };
        let user = known_user(LoginFactsReply {
            user: user(),
            code_factors: vec![older, newer],
            ..LoginFactsReply::default()
        })
        .flatten()
        .expect("ok");
        let order: Vec<_> = user.tokens_in_force().iter().map(|token| token.factor_id.as_str()).collect();
        assert_eq!(order, ["b", "a"]);
    }
}
