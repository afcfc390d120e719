//! One attempt, from what the packet brings to the verdict: the order of the two locks (R-63, L-50 to L-54).
//!
//! ```text
//! password, no code            bind ─yes─> Begin                        one bind
//! password and code, required  bind the head ─yes─> Begin with the code one bind, none without a code
//! password and code, optional  code right: bind the head ─> Complete    one bind: the code is spent before it
//!                              code wrong: bind the whole ─> Begin
//! State                        Answer                                   no bind
//! CHAP, MS-CHAP, EAP           the home server ─Accept─> Begin          none: it checks (R-53)
//! ```
//!
//! Where the target is a home server, "bind" is an Access-Request to it.
//!
//! While verification is down (V-40) the password is tried only where the client lets people in on it alone.

use crate::affinity::{Parked, Whose};
use crate::attempt::{Attempt, escaped};
use crate::credentials::{self, Presented, Refusal};
use crate::home::HomeTarget;
use crate::listener::Request;
use crate::metrics::InFlight;
use crate::relay::{self, Identity, Said};
use crate::reply::{Added, No};
use crate::reply_rules::{Rules, Values};
use crate::target::{Checked, Target, Unresolved, let_in_somebody_else};
use crate::verify::{Allow, Ask, Changed, Decision, MARGIN, Named, NoDecision, Question, Unknown, still_remembered};
use crate::windows::WindowsTarget;
use crate::{Gateway, Nodes, attributes, question};
use directory::Entry;
use domain::settings::{Appended, RefuseOrPass};
use domain::{DirectoryRef, Method, NameForm, Protocol, Reason, ResultClass, Secret, TransactionId};
use fail_open::{Admission, Login, NoPass};
use lockout_guard::Turn;
use policy::appended::{Forms, Rule, Split, split};
use proto::verification::{Outcome, Primary};
use radius_wire::ms_chap::{FailureCode, MsChap};
use radius_wire::{AccessRequest, AttributeType, Credentials, DropReason, Lesson, Relayed, State, Verified};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How a request is to be answered.
#[derive(Debug)]
pub(crate) enum Verdict {
    Accept(Granted),
    Challenge(Ask),
    /// A home server asks on: its question, in the client's terms.
    Relayed(Relayed),
    Reject(Reason),
    /// Not at all.
    Silence(DropReason),
}

/// Both locks are open, and this is what the device is told.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) allow: Allow,
    /// The home server's Accept, where one checked the password.
    pub(crate) relayed: Option<Relayed>,
    /// What the user's groups bring, and the Windows domain.
    pub(crate) added: Added,
}

/// How far a request gets by itself.
pub(crate) enum Opened {
    /// To its end.
    Decided(Box<Verdict>),
    /// The first lock is open, or was before: verification decides, and may ask a person first.
    Asks(Box<Second>),
}

/// The second lock: what verification is asked, and what is done with its answer. Held as long as it waits for a person.
pub(crate) struct Second {
    pub(crate) question: Question,
    begun: Instant,
    /// Whose conversation it is; none in the first round.
    user: Option<Uuid>,
    /// Only while verification is down: what lets people in all the same.
    admission: Option<Admission>,
}

/// Opens the first lock. May be dropped at any await: what is then open at verification is closed by whoever dropped it.
pub(crate) async fn open(
    gateway: &Arc<Gateway>,
    request: &Request,
    attempt: &mut Attempt,
    in_flight: &mut InFlight<'_>,
) -> Opened {
    let verified = request.verified();
    let now_unix_seconds = gateway.now_unix_seconds();
    gateway.learn(&request.client, verified.lesson(), false);
    let decided = |verdict: Verdict| Opened::Decided(Box::new(verdict));
    if gateway.has_sent(verified.packet()) {
        // B-33
        tracing::warn!(
            service = crate::NAME,
            client = request.client.name(),
            "a request that was sent from here has come back: the target leads to Twinlock again"
        );
        return decided(Verdict::Reject(Reason::TargetError));
    }
    let terms = credentials::Terms::of(&request.client, gateway.settings.takes(&request.client.settings.target));
    let presented = credentials::read(&verified, terms, &gateway.keys.state(), now_unix_seconds);
    if attempt.known_to_verification {
        Box::pin(relay::go_on(gateway, attempt)).await;
    }
    let mut work = Work::of(gateway, request, &verified, attempt, in_flight);
    let first = match presented {
        Ok(Presented::Password { name, password }) => Box::pin(work.first_round(&name, &password)).await,
        Ok(Presented::Foreign { name, state, change }) => Box::pin(work.foreign(&name, state.as_deref(), change)).await,
        Ok(Presented::Answer { state, answer }) => {
            let second = Box::pin(work.next_round(&state, answer)).await;
            return second.map_or_else(|reason| decided(Verdict::Reject(reason)), |second| Opened::Asks(second.into()));
        }
        Err(Refusal::Silence(reason)) => return decided(Verdict::Silence(reason)),
        Err(Refusal::Reject { reason, conversation }) => {
            if let Some(state) = conversation {
                gateway.resume(work.attempt, &state);
                gateway.verifier.cancel(work.attempt.transaction, reason);
                work.attempt.recorded = true;
            }
            hint(terms, reason, &verified);
            Err(reason)
        }
    };
    match first {
        Ok(FirstLock::Open { factors, admission }) => {
            Opened::Asks(Box::pin(work.second(factors, admission)).await.into())
        }
        Ok(FirstLock::Asked(challenge)) => decided(Verdict::Relayed(challenge)),
        Err(reason) => decided(Verdict::Reject(reason)),
    }
}

/// Goes by what verification said of the second lock. May be dropped at any await, like [`open`].
pub(crate) async fn decide(
    gateway: &Arc<Gateway>,
    request: &Request,
    attempt: &mut Attempt,
    in_flight: &mut InFlight<'_>,
    second: Box<Second>,
    said: Result<Outcome, NoDecision>,
) -> Box<Verdict> {
    let verified = request.verified();
    let mut work = Work::of(gateway, request, &verified, attempt, in_flight);
    let decided = work.decided(*second, said).await;
    Box::new(decided.unwrap_or_else(Verdict::Reject))
}

/// What came of the password, or of what stands for it.
enum FirstLock {
    Open {
        factors: Factors,
        /// See [`Second`].
        admission: Option<Admission>,
    },
    /// The home server asks a question of its own first.
    Asked(Relayed),
}

/// What a home server said to what only it can check.
enum ByHome {
    /// Whose password it seemed to be still has a turn open.
    Accepted(Option<(Turn, DirectoryRef)>),
    Asked(Relayed),
}

/// One request that is worked on.
struct Work<'w, 'm> {
    gateway: &'w Arc<Gateway>,
    verified: &'w Verified<'w>,
    lesson: Lesson,
    attempt: &'w mut Attempt,
    deadline: Instant,
    in_flight: &'w mut InFlight<'m>,
}

impl<'w, 'm> Work<'w, 'm> {
    fn of(
        gateway: &'w Arc<Gateway>,
        request: &Request,
        verified: &'w Verified<'w>,
        attempt: &'w mut Attempt,
        in_flight: &'w mut InFlight<'m>,
    ) -> Self {
        Self { gateway, verified, lesson: verified.lesson(), attempt, deadline: request.deadline(), in_flight }
    }

    async fn first_round(&mut self, name: &str, typed: &Secret) -> Result<FirstLock, Reason> {
        let Self { gateway, deadline, .. } = *self;
        let mut target = Target::of(gateway, &self.attempt.client)?;
        let client = self.attempt.client.clone();
        // While nobody can decide, a password is tried only where it may be enough: the answer would tell whether it was right (B5).
        unless_it_passes(gateway.fail_open.applies_to(&client.settings))?;
        let Some(entry) = self.whom(&mut target, name).await? else {
            return Box::pin(self.absent_by_password(target, name, typed)).await;
        };
        let admission = self.admission(&mut target, &entry).await?;
        let factors = Factors::of(gateway, self.attempt, &entry, typed, admission.is_some(), deadline).await?;
        if self.attempt.parked.is_none() {
            let password = &factors.password;
            let checked = target.check(gateway, self.verified, &entry, password, self.attempt, deadline).await?;
            if let Checked::Asked(challenge) = checked {
                return Ok(FirstLock::Asked(challenge));
            }
        }
        self.attempt.password_digest =
            gateway.keys.password_digest(&client, &entry.subject, factors.password.expose()).into();
        Ok(FirstLock::Open { factors, admission })
    }

    /// Who is meant; `None`: nobody whom the directory knows, where such people may be let in.
    async fn whom(&mut self, target: &mut Target, name: &str) -> Result<Option<Entry>, Reason> {
        self.may_be_typed(target, name)?;
        match target.resolve(name, self.attempt, self.deadline).await {
            Ok(entry) if self.attempt.client.settings.takes_form(entry.form) => Ok(Some(entry)),
            Ok(entry) => Err(self.another_form(entry.form)),
            Err(Unresolved::Absent) => self.prove_absent(target, name).await.map(|()| None),
            Err(Unresolved::Because(reason)) => Err(reason),
        }
    }

    /// R-60: in the forms that its settings allow. A name in another one is nobody's, which is no proof that there is nobody.
    fn may_be_typed(&self, target: &Target, name: &str) -> Result<(), Reason> {
        match target.form_of(name).filter(|form| !self.attempt.client.settings.takes_typed(*form)) {
            Some(form) => Err(self.another_form(form)),
            None => Ok(()),
        }
    }

    /// The same of whoever it leads to, before a server is asked that may change the password with its yes.
    async fn is_of_a_form(&mut self, target: &mut Target, name: &str) -> Result<(), Reason> {
        if self.attempt.client.settings.name_forms.is_empty() {
            return Ok(());
        }
        match target.resolve(name, self.attempt, self.deadline).await {
            Ok(entry) if !self.attempt.client.settings.takes_form(entry.form) => Err(self.another_form(entry.form)),
            // Whose login it is the server says, and what keeps the directory from answering is told then.
            _ => Ok(()),
        }
    }

    fn another_form(&self, form: NameForm) -> Reason {
        tracing::warn!(
            service = crate::NAME,
            client = self.attempt.client.name(),
            name_form = form.code(),
            "a name came in a form that name_forms does not list"
        );
        Reason::ProtocolUnsupported
    }

    /// R-62: whoever the target lets in may enter on that alone, if the client says so, there is proof that the directory has nobody of
    /// the name, and verification knows nobody either.
    async fn prove_absent(&mut self, target: &mut Target, name: &str) -> Result<(), Reason> {
        let Self { gateway, deadline, .. } = *self;
        let client = self.attempt.client.clone();
        // A name that might have led to somebody by a form that is listed is not itself of that form.
        if !self.verified.packet().has(AttributeType::EAP_MESSAGE)
            && let Some(form) = target.form_of(name).filter(|form| !client.settings.takes_form(*form))
        {
            return Err(self.another_form(form));
        }
        let rules = policy::ClientRules::from(&client.settings);
        let may_pass = rules.unknown_user == RefuseOrPass::Pass || rules.is_observed(gateway.clock.now_ms());
        if !may_pass || !target.has_people_of_its_own() {
            return Err(Reason::UnknownUser);
        }
        if unless_it_passes(gateway.fail_open.applies_to(&client.settings))?.is_some() {
            // Nobody is there who could say that they are unknown.
            return Err(Reason::VerificationUnavailable);
        }
        if !target.has_nobody(name, deadline).await? {
            return Err(Reason::UnknownUser);
        }
        let attempt = &mut *self.attempt;
        attempt.absent = Some(escaped(name.as_bytes()).into());
        // What was found so far is no refusal.
        if let Some(first) = &mut attempt.first {
            first.refused = None;
        }
        Ok(())
    }

    /// The password of somebody whom no directory knows: the target alone says whether it is right. Nothing can stand behind it.
    async fn absent_by_password(&mut self, target: Target, name: &str, typed: &Secret) -> Result<FirstLock, Reason> {
        let Self { gateway, deadline, .. } = *self;
        let home = target.home().cloned();
        if self.attempt.parked.is_none() {
            let checked = target.check_absent(gateway, self.verified, name, typed, self.attempt, deadline).await?;
            if let Checked::Asked(challenge) = checked {
                return Ok(FirstLock::Asked(challenge));
            }
        }
        if let Some(home) = home {
            self.is_about(&home, name)?;
        }
        Ok(FirstLock::Open { factors: Factors::none(), admission: None })
    }

    /// The yes of a home server has to be about the very name that is nobody's, as far as it names anybody: it may know whose that is by
    /// another one.
    fn is_about(&self, home: &HomeTarget, name: &str) -> Result<(), Reason> {
        let parked = self.attempt.parked.as_ref().ok_or(Reason::InternalError)?;
        let dictionary = self.gateway.settings.dictionary();
        let said = attributes::values(&dictionary, &parked.reply, &home.settings.identity_attribute);
        let same = |named: &[u8]| named.eq_ignore_ascii_case(name.as_bytes());
        match said.iter().map(Vec::as_slice).chain(parked.reply.packet().all(AttributeType::USER_NAME)).all(same) {
            true => Ok(()),
            false => Err(let_in_somebody_else(self.attempt)),
        }
    }

    /// What a home server checks, and we only carry: the first lock is open when it says Accept (R-53).
    async fn foreign(&mut self, typed: &str, state: Option<&[u8]>, change: bool) -> Result<FirstLock, Reason> {
        let Self { gateway, deadline, .. } = *self;
        let mut target = Target::of(gateway, &self.attempt.client)?;
        if let Some(windows) = target.windows().cloned() {
            return self.by_domain(target, &windows, typed).await;
        }
        let home = target.home().cloned().ok_or(Reason::ProtocolUnsupported)?;
        // The outer name of EAP need not be anybody's: whose login it is the server says (R-50).
        if !self.verified.packet().has(AttributeType::EAP_MESSAGE) {
            self.may_be_typed(&target, typed)?;
            self.is_of_a_form(&mut target, typed).await?;
        }
        self.attempt.change_untold = change;
        let client = self.attempt.client.clone();
        target.passes = unless_it_passes(gateway.fail_open.applies_to(&client.settings))?.is_some();
        let turn = match self.attempt.parked.is_some() {
            true => None,
            false => match self.by_home(&mut target, typed, state, change).await? {
                ByHome::Accepted(turn) => turn,
                ByHome::Asked(challenge) => return Ok(FirstLock::Asked(challenge)),
            },
        };
        if let No::MsChap { code, .. } = &mut self.attempt.no {
            // The password is another one now; what may still fail is the second factor.
            *code = FailureCode::AuthenticationFailure;
        }
        let parked = self.attempt.parked.as_ref().ok_or(Reason::InternalError)?;
        let identity = relay::identity(gateway, &home, parked, self.verified.packet(), typed);
        let entry = match &identity {
            Ok(identity) => target.resolve(&identity.name, self.attempt, deadline).await,
            Err(reason) => Err(Unresolved::Because(*reason)),
        };
        match (turn, &entry) {
            // Only now it is known whose password was right. Another's says nothing about theirs whose name was typed (R-50).
            (Some((turn, guarded)), Ok(entry)) if entry.subject == guarded => turn.ended(None),
            (turn, _) => turn.into_iter().for_each(|(turn, _)| turn.undecided()),
        }
        self.attempt.change_untold = false;
        let Identity { name, outer } = identity?;
        if change {
            match &entry {
                Ok(entry) => {
                    gateway.verifier.password_changed(self.attempt.transaction, client.name(), &entry.subject);
                }
                Err(Unresolved::Because(reason)) if reason.class() == ResultClass::Error => {
                    tell_whose_password_changed(gateway, self.attempt, name.clone());
                }
                Err(Unresolved::Because(Reason::AmbiguousUser)) => {
                    still_remembered(self.attempt.transaction, client.name(), Unknown::Several);
                }
                // Nobody's, so nothing is remembered of them.
                Err(_) => {}
            }
        }
        let admission = match entry {
            Ok(entry) => self.admission(&mut target, &entry).await?,
            Err(Unresolved::Because(reason)) => return Err(reason),
            // Whoever was let in under it may have any name.
            Err(Unresolved::Absent) if outer => return Err(Reason::UnknownUser),
            Err(Unresolved::Absent) => {
                self.prove_absent(&mut target, &name).await?;
                if !self.verified.packet().has(AttributeType::EAP_MESSAGE) {
                    self.is_about(&home, typed)?;
                }
                None
            }
        };
        Ok(FirstLock::Open { factors: Factors::none(), admission })
    }

    /// Asks the home server what only it can check.
    async fn by_home(
        &mut self,
        target: &mut Target,
        typed: &str,
        state: Option<&[u8]>,
        change: bool,
    ) -> Result<ByHome, Reason> {
        let Self { gateway, deadline, .. } = *self;
        let client = self.attempt.client.clone();
        if change && !gateway.affinity.may_change_password(&client.settings.name, typed).await {
            // R-58
            return Err(Reason::ProtocolUnsupported);
        }
        let only = match state {
            Some(state) => Some(relay::bound_to(gateway, &client.settings.name, state, typed).await?),
            None => None,
        };
        let turn = self.turn(target, typed).await?;
        match (target.ask(gateway, self.verified, None, only.as_deref(), self.attempt, deadline).await, turn) {
            // Whoever asks on may look at the password later.
            (Ok(Said::Asked(challenge)), turn) => {
                turn.into_iter().for_each(|(turn, _)| turn.undecided());
                Ok(ByHome::Asked(challenge))
            }
            (Err(reason), turn) => {
                turn.into_iter().for_each(|(turn, _)| turn.ended(Some(reason)));
                Err(reason)
            }
            (Ok(Said::Accepted), turn) => Ok(ByHome::Accepted(turn)),
        }
    }

    /// The leave to have a home server check a password that we do not see (L-56): of whom it says it is, in EAP the outer name. None
    /// is needed where no password comes with it, and nobody's where the directory has nobody of that name.
    async fn turn(&mut self, target: &mut Target, typed: &str) -> Result<Option<(Turn, DirectoryRef)>, Reason> {
        let Self { gateway, deadline, .. } = *self;
        let credentials = AccessRequest::read(self.verified).map(|access| access.credentials);
        if !target.guards_accounts() || matches!(credentials, Ok(Credentials::Absent)) {
            return Ok(None);
        }
        let resolved = target.resolve(typed, self.attempt, deadline).await;
        if matches!(credentials, Ok(Credentials::Eap)) {
            // Whose login it is the server says.
            self.attempt.person = None;
        }
        match resolved {
            Ok(entry) => {
                let turn = target.turn(gateway, &entry, self.attempt, deadline).await?;
                Ok(Some((turn, entry.subject)))
            }
            Err(Unresolved::Because(reason)) if reason.class() == ResultClass::Error => Err(reason),
            Err(_) => Ok(None),
        }
    }

    /// Whether the person would be let in while verification is down; `None` while it is not.
    async fn admission(&self, target: &mut Target, entry: &Entry) -> Result<Option<Admission>, Reason> {
        let settings = &self.attempt.client.settings;
        let limit = self.deadline - MARGIN;
        let admitted = Box::pin(self.gateway.fail_open.admit(settings, target.directory(), entry, limit)).await;
        let admission = unless_it_passes(admitted)?;
        target.passes = admission.is_some();
        Ok(admission)
    }

    /// MS-CHAPv2 toward the Windows domain: it says whether the response is right, we compute what proves it (R-56, R-57).
    async fn by_domain(
        &mut self,
        mut target: Target,
        windows: &WindowsTarget,
        typed: &str,
    ) -> Result<FirstLock, Reason> {
        let Self { gateway, deadline, .. } = *self;
        let client = self.attempt.client.clone();
        unless_it_passes(gateway.fail_open.applies_to(&client.settings))?;
        let entry = self.whom(&mut target, typed).await?;
        let admission = match &entry {
            Some(entry) => self.admission(&mut target, entry).await?,
            None => None,
        };
        let Ok(MsChap::V2(response)) = MsChap::read(self.verified.packet()) else {
            return Err(Reason::ProtocolUnsupported);
        };
        let (account, turn) = match &entry {
            Some(entry) => (target.account(entry)?, Some(target.turn(gateway, entry, self.attempt, deadline).await?)),
            None => (target.account_named(typed)?, None),
        };
        let asked = windows.ms_chap2(typed, &account, &response, deadline - MARGIN);
        let said = target.by_domain(windows, asked, self.attempt, deadline).await;
        if let Some(turn) = turn {
            turn.ended(said.as_ref().err().copied());
        }
        if let (Err(reason), No::MsChap { code, .. }) = (&said, &mut self.attempt.no) {
            *code = failure_code(*reason);
        }
        self.attempt.proven = Some(said?);
        Ok(FirstLock::Open { factors: Factors::none(), admission })
    }

    /// The password was right: now the second lock.
    async fn second(&mut self, factors: Factors, admission: Option<Admission>) -> Second {
        let Self { gateway, .. } = *self;
        // The password is not needed any more, and a person may take their time.
        let Factors { code, wanted, spent, password: _ } = factors;
        // R-10: only a hidden password proves the shared secret; CHAP and its kin are readable without it.
        let proves_secret = self.verified.packet().has(AttributeType::USER_PASSWORD);
        gateway.learn(&self.attempt.client.clone(), self.lesson, proves_secret);
        let code_given = code.is_some() || spent;
        self.attempt.method = self.attempt.method.or(wanted).or(code_given.then_some(Method::Code));
        self.in_flight.waits_for(self.attempt.method);
        if gateway.nodes == Nodes::Many {
            // For whoever goes on if this node dies while the person is asked (R-30).
            self.park().await;
        }
        let question = match spent {
            true => Question::Complete,
            false => Question::Begin { primary: Primary::Passed, code, wanted },
        };
        self.attempt.known_to_verification = true;
        Second { question, begun: Instant::now(), user: None, admission }
    }

    /// The password of this packet is an answer: it goes to verification and nowhere else (R-42).
    async fn next_round(&mut self, state: &State, answer: Secret) -> Result<Second, Reason> {
        let Self { gateway, .. } = *self;
        gateway.resume(self.attempt, state);
        self.in_flight.waits_for(self.attempt.method);
        if let Some(home) = gateway.settings.home_target(&self.attempt.client.settings.target) {
            // R-45, R-65: what the target granted was kept for whichever node goes on. Without it the device would lack it.
            let whose = Whose { request: None, ..self.attempt.whose() };
            let parked = gateway.affinity.parked(self.attempt.transaction, &whose, &home).await;
            if parked.is_none() {
                gateway.verifier.cancel(self.attempt.transaction, Reason::ChallengeGone);
                return Err(Reason::ChallengeGone);
            }
            self.attempt.parked = parked.map(Box::new);
        }
        self.attempt.known_to_verification = true;
        let mark = Sha256::digest(self.verified.packet().octets()).to_vec();
        let question = Question::Answer { step: state.step, answer, mark };
        Ok(Second { question, begun: Instant::now(), user: Some(Uuid::from_bytes(state.user)), admission: None })
    }

    /// What verification said, or that nobody was there to say anything.
    async fn decided(&mut self, second: Second, said: Result<Outcome, NoDecision>) -> Result<Verdict, Reason> {
        let Self { gateway, deadline, .. } = *self;
        let Second { question, begun, user, admission } = second;
        let decided = said.and_then(|outcome| gateway.verifier.decision(self.attempt, outcome, question.primary()));
        match (decided, admission, user) {
            (Err(NoDecision { nobody_there: true, .. }), Some(admission), _) => {
                self.attempt.method = None;
                let allow = Box::pin(let_in_while_down(gateway, self.attempt, admission, deadline)).await?;
                self.granted(allow).await
            }
            (decided, _, None) => {
                let decision = decided?;
                if self.attempt.second.is_none() && self.attempt.method.is_some() {
                    self.attempt.second = Some(begun.elapsed());
                }
                self.verdict(decision).await
            }
            (decided, _, Some(user)) => {
                self.attempt.second = Some(begun.elapsed());
                let decision = decided?;
                // The conversation was with this user; an Allow for somebody else is none.
                let of = match &decision {
                    Decision::Allow(allow) => Some(allow.user),
                    Decision::Ask(ask) => Some(ask.user),
                    Decision::Deny(_) | Decision::CodeAccepted => None,
                };
                match of.is_some_and(|of| of != user) {
                    true => Err(Reason::InternalError),
                    false => self.verdict(decision).await,
                }
            }
        }
    }

    async fn verdict(&mut self, decision: Decision) -> Result<Verdict, Reason> {
        self.attempt.recorded = matches!(decision, Decision::Allow(_) | Decision::Deny(_));
        let attempt = &self.attempt;
        Ok(match decision {
            Decision::Allow(allow) => return self.granted(allow).await,
            Decision::Deny(reason) => {
                if reason == Reason::MethodImpossible {
                    // R-48, R-49: the reason alone would leave the administrator guessing.
                    tracing::warn!(
                        service = crate::NAME,
                        client = attempt.client.name(),
                        request_id = %attempt.transaction,
                        can_challenge = attempt.asks,
                        "the person has no method left that this device can carry; let it send PAP and show challenges, or take codes after the password"
                    );
                }
                Verdict::Reject(reason)
            }
            // Verification was told what the device can show.
            Decision::Ask(ask) if attempt.asks && question::can_be_shown(ask.kind) => {
                self.park().await;
                Verdict::Challenge(ask)
            }
            Decision::Ask(ask) => {
                tracing::warn!(
                    service = crate::NAME,
                    client = attempt.client.name(),
                    method = ask.method.map(Method::code),
                    "verification asks what this device cannot show"
                );
                Verdict::Reject(Reason::MethodImpossible)
            }
            Decision::CodeAccepted => return Err(Reason::InternalError),
        })
    }

    /// Keeps what a home server granted until the person has proven the second factor, for whichever node goes on.
    async fn park(&mut self) {
        let Some(parked) = &self.attempt.parked else { return };
        let stored = self.gateway.affinity.park(self.attempt.transaction, &self.attempt.whose(), parked).await;
        if let Some(parked) = &mut self.attempt.parked {
            parked.stored = stored;
        }
    }

    /// Both locks are open: what the device is told besides.
    async fn granted(&mut self, allow: Allow) -> Result<Verdict, Reason> {
        let mut added = self.of_groups(&allow).await?;
        if let Some(proven) = &self.attempt.proven {
            added.always.extend(proven.attributes(self.verified.hiding_key()).map_err(|_| Reason::InternalError)?);
        }
        let relayed = self.attempt.parked.as_ref().map(|parked| self.of_home(parked)).transpose()?;
        Ok(Verdict::Accept(Granted { allow, relayed, added }))
    }

    /// What the home server granted, in the client's terms.
    fn of_home(&self, parked: &Parked) -> Result<Relayed, Reason> {
        let client = &self.attempt.client;
        let home = self.gateway.settings.home_target(&client.settings.target).ok_or(Reason::TargetError)?;
        let server = home.server(&parked.place).ok_or(Reason::TargetError)?;
        let dictionary = self.gateway.settings.dictionary();
        attributes::relayed(&dictionary, &parked.reply, server, client, self.verified).map_err(|error| {
            tracing::error!(service = crate::NAME, client = client.name(), server = parked.place, error = %error, "what a home server grants cannot be passed on");
            Reason::TargetError
        })
    }

    /// What the client's rules add for this user. A rule that fails fails the login: nothing is lost in silence (FR-17).
    async fn of_groups(&self, allow: &Allow) -> Result<Added, Reason> {
        let client = &self.attempt.client;
        let rules = Rules::for_user(&client.settings, allow.groups.as_deref());
        let failed = |what: &dyn std::fmt::Display| {
            tracing::error!(service = crate::NAME, client = client.name(), request_id = %self.attempt.transaction, error = %what, "a reply rule of the client fails, and with it the login");
            Reason::InternalError
        };
        let rules = rules.map_err(|error| failed(&error))?;
        let wanted = rules.directory_attributes();
        let values = match (wanted.is_empty(), &allow.subject) {
            (true, _) => Values::default(),
            (false, None) => return Err(failed(&"nobody knows who the user is in the directory")),
            (false, Some(subject)) => {
                let target = Target::of(self.gateway, &self.attempt.client)?;
                Box::pin(target.attributes_of(subject, &wanted, self.deadline)).await?
            }
        };
        let dictionary = self.gateway.settings.dictionary();
        rules.attributes(&values, &dictionary, self.verified.hiding_key()).map_err(|error| failed(&error))
    }
}

/// Of a login that was dropped: a home server has taken another password all the same (V-52).
pub(crate) fn tell_of_change(gateway: &Arc<Gateway>, request: &Request, attempt: &mut Attempt) {
    let untold = std::mem::take(&mut attempt.change_untold);
    let (true, Some(parked)) = (untold, &attempt.parked) else { return };
    let Some(home) = gateway.settings.home_target(&attempt.client.settings.target) else { return };
    let verified = request.verified();
    let typed = String::from_utf8_lossy(credentials::typed_name(&verified));
    if let Ok(identity) = relay::identity(gateway, &home, parked, verified.packet(), &typed) {
        tell_whose_password_changed(gateway, attempt, identity.name);
    }
}

/// V-52: the password is another one now, also where the directory cannot say at the moment whose it was, and the login fails by that.
fn tell_whose_password_changed(gateway: &Arc<Gateway>, attempt: &Attempt, name: String) {
    let changed = Changed { transaction: attempt.transaction, client: attempt.client.name().to_owned(), name };
    let (gateway_of_task, client, name) = (gateway.clone(), attempt.client.clone(), changed.name.clone());
    gateway.verifier.password_changed_of(changed, move || {
        let (gateway, client, name) = (gateway_of_task.clone(), client.clone(), name.clone());
        async move {
            const PATIENCE: Duration = Duration::from_secs(30);
            let target = Target::of(&gateway, &client).ok()?;
            match target.subject(&name, Instant::now() + PATIENCE).await {
                Ok(subject) => Some(Named::As(subject)),
                Err(Reason::AmbiguousUser) => Some(Named::Several),
                Err(reason) if reason.class() == ResultClass::Error => None,
                Err(_) => Some(Named::Nobody),
            }
        }
    });
}

/// RFC 2759 section 6. What a device may do about an expired password it can do at a home server only, so that is no offer to change
/// it (R-58).
fn failure_code(reason: Reason) -> FailureCode {
    match reason {
        Reason::AccountDisabled | Reason::AccountExpired | Reason::AccountLocked => FailureCode::AccountDisabled,
        Reason::LogonRestricted => FailureCode::RestrictedLogonHours,
        Reason::PasswordExpired | Reason::MustChangePassword => FailureCode::PasswordExpired,
        _ => FailureCode::AuthenticationFailure,
    }
}

/// What was typed, taken apart: the password to bind with, and what stood behind it (L-50 to L-55).
struct Factors {
    password: Secret,
    code: Option<Secret>,
    wanted: Option<Method>,
    /// The code was right, and was spent before the bind.
    spent: bool,
}

impl Factors {
    /// Of a proof that is no password: nothing stands behind it.
    fn none() -> Self {
        Self { password: Secret::default(), code: None, wanted: None, spent: false }
    }

    /// `passing`: verification is down, and the person is let in if the password is right. Nobody can say then what they could have
    /// appended, so that whatever looks like it is taken off.
    async fn of(
        gateway: &Gateway,
        attempt: &mut Attempt,
        entry: &Entry,
        typed: &Secret,
        passing: bool,
        deadline: Instant,
    ) -> Result<Self, Reason> {
        let rule = Rule::from(&attempt.client.settings);
        let forms = match rule.appended {
            Appended::Off => Forms::default(),
            Appended::Optional | Appended::Required => {
                match gateway.verifier.appended_forms(attempt, &entry.subject, deadline).await {
                    Err(NoDecision { nobody_there: true, .. }) if passing => Forms::any(),
                    forms => forms?,
                }
            }
        };
        let alone = |password: &[u8]| Self { password: Secret::new(password), code: None, wanted: None, spent: false };
        match split(rule, &forms, typed.expose()) {
            Split::Whole => Ok(alone(typed.expose())),
            Split::NoMatch => Err(Reason::WrongCode),
            Split::EmptyPassword => Err(Reason::EmptyPassword),
            Split::Method { head, wanted } => Ok(Self { wanted, ..alone(head) }),
            Split::Code { head, code } if rule.appended == Appended::Required => {
                Ok(Self { code: Some(Secret::new(code)), ..alone(head) })
            }
            Split::Code { head, code } => {
                let begun = Instant::now();
                let spent = gateway.verifier.begin_with_code(attempt, Secret::new(code), deadline).await;
                attempt.second = Some(begun.elapsed());
                attempt.method = attempt.method.or(Some(Method::Code));
                match spent {
                    Ok(Decision::CodeAccepted) => Ok(Self { spent: true, ..alone(head) }),
                    // Not a code of the user after all, or there were too many guesses: it is part of the password (L-52, L-54).
                    Ok(Decision::Deny(
                        Reason::WrongCode | Reason::ReusedCode | Reason::RateLimited | Reason::LockedOut,
                    )) => Ok(alone(typed.expose())),
                    Ok(Decision::Deny(reason)) => {
                        attempt.recorded = true;
                        Err(reason)
                    }
                    // Not before the password: `verify` refuses both, and so does this.
                    Ok(Decision::Allow(_) | Decision::Ask(_)) => Err(Reason::InternalError),
                    Err(NoDecision { nobody_there: true, .. }) if passing => {
                        attempt.second = None;
                        Ok(alone(head))
                    }
                    Err(error) => Err(error.reason),
                }
            }
        }
    }
}

/// `None` while verification is not down, and everything goes its way.
fn unless_it_passes<T>(passes: Result<T, NoPass>) -> Result<Option<T>, Reason> {
    match passes {
        Ok(passes) => Ok(Some(passes)),
        Err(NoPass::NotDown) => Ok(None),
        Err(why) => {
            tracing::debug!(service = crate::NAME, why = %why, "verification is down, and nobody is let in");
            Err(Reason::VerificationUnavailable)
        }
    }
}

/// V-40: the password was right, and nobody is there to decide.
async fn let_in_while_down(
    gateway: &Gateway,
    attempt: &mut Attempt,
    admission: Admission,
    deadline: Instant,
) -> Result<Allow, Reason> {
    let login = Login {
        transaction: attempt.transaction,
        protocol: Protocol::Radius,
        username: attempt.person.as_ref().map_or("", |person| &*person.username),
        client_ip: attempt.client_ip.to_string(),
        calling_station: attempt.calling_station.as_deref().unwrap_or_default(),
    };
    let passed = gateway.fail_open.record(admission, &login, deadline - MARGIN).await.map_err(|why| {
        tracing::warn!(service = crate::NAME, request_id = %attempt.transaction, why = %why, "nobody is let in while verification is down");
        Reason::VerificationUnavailable
    })?;
    attempt.recorded = true;
    gateway.metrics.fail_open(attempt.client.name());
    Allow::while_down(&passed, attempt).ok_or(Reason::InternalError)
}

impl Gateway {
    /// Puts the attempt into the place of the conversation it goes on with.
    fn resume(&self, attempt: &mut Attempt, state: &State) {
        attempt.transaction = TransactionId(Uuid::from_bytes(state.transaction));
        attempt.rounds = u32::from(state.step) + 1;
        if let Some(opened) = self.challenges.opened(attempt.transaction) {
            attempt.begun = opened.begun;
            attempt.person = opened.person;
            attempt.first = opened.first;
            attempt.method = opened.method;
        }
    }
}

impl From<NoDecision> for Reason {
    fn from(error: NoDecision) -> Self {
        error.reason
    }
}

/// Says what the administrator of the device has to change; the reason alone would leave him guessing.
fn hint(terms: credentials::Terms<'_>, reason: Reason, verified: &radius_wire::Verified<'_>) {
    let client = terms.client;
    match reason {
        Reason::ProtocolUnsupported => match credentials::unsupported_kind(verified, terms) {
            Some((kind, advice)) => tracing::warn!(service = crate::NAME, client, sent = kind, "{advice}"),
            None => tracing::warn!(
                service = crate::NAME,
                client,
                "the device sends a request without one readable name and password"
            ),
        },
        Reason::SecretMismatch => tracing::warn!(
            service = crate::NAME,
            client,
            "a password could not be read; the shared secret of the device is probably another one"
        ),
        _ => {}
    }
}
