//! Answers to security questions: the portal's sign-in alone, off unless switched on (FV-10).

use crate::Service;
use crate::challenges::Round;
use crate::commit::{Ending, PresentedSecret, Proven, Secreted};
use crate::login::{Answered, Login, Step};
use crate::outcome::Previous;
use domain::{Method, Reason, Secret};
use policy::{Plan, Proof};
use proto::user_store::{SecretKind, TryKind};
use tonic::Status;

/// Asked at once, at most.
const QUESTIONS_MAX: usize = 5;

impl Service {
    pub(crate) async fn ask_questions(&self, login: &mut Login) -> Result<Step, Status> {
        let questions = login.user.record.questions.iter().take(QUESTIONS_MAX).cloned().collect();
        self.ask(login, Round::Questions { questions }, login.rules.limits.round_ms, Previous::default()).await
    }

    /// An answer a line, in the order of the questions.
    pub(crate) async fn hear_answers(
        &self,
        login: &Login,
        plan: &Plan,
        questions: Vec<String>,
        answer: &Secret,
    ) -> Result<Answered, Status> {
        let over = |ending| Ok(Answered::Step(Step::Over(ending)));
        let Some(Proof::Answers(check)) = plan.way(Method::Questions).map(|way| way.proof.clone()) else {
            return over(Ending::of(Reason::NoUsableMethod, Method::Questions));
        };
        let answers: Vec<Secret> = answer
            .expose_str()
            .unwrap_or_default()
            .lines()
            .take(questions.len() + 1)
            .map(|line| Secret::from(line.trim()))
            .collect();
        if answers.len() != questions.len() || answers.iter().any(Secret::is_empty) {
            return Ok(Answered::Again(Round::Questions { questions }, Reason::WrongCode));
        }
        let presented = PresentedSecret {
            kind: SecretKind::Answers,
            secret: &Secret::default(),
            questions: &questions,
            answers: &answers,
            try_kind: TryKind::AfterPassword,
        };
        match self.committer.check_secret(login.origin(), &login.user.id, presented, login.budget).await? {
            Secreted::Right { handle } => {
                let proven = Proven { secret_handle: handle, ..Proven::default() };
                self.let_in(login, check.right(self.clock.now_ms()), proven).await.map(Answered::Step)
            }
            Secreted::Wrong | Secreted::None => Ok(Answered::Again(Round::Questions { questions }, Reason::WrongCode)),
            Secreted::Locked { until_unix_ms } => {
                over(Ending::of(Reason::LockedOut, Method::Questions).until(until_unix_ms))
            }
        }
    }
}
