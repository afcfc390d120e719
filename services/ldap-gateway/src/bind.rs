//! One bind, from the name to the decision: two futures, one for each lock, because the gate between them is the connection's.
//!
//! ```text
//! first_lock   who is it? ── service account? ── where does the password end? ── one bind with the resolved DN ──> Passed | Refused
//!                                                        └─ optional: is the code right? (spent before the bind, L-53)
//! second_lock  verification: Begin, or Complete where the code was first ──> Allow | Refusal
//!                 └─ down, and the client lets people in: the event is written ──> Allow (V-40)
//! ```
//!
//! The upstream sees at most one bind, and none where we refuse before (L-34, L-52). Either future may be dropped at any moment:
//! the client is gone then, and the attempt records that itself.

use crate::attempt::{Attempt, First};
use crate::forward::{Answered, BindLost, BindableUpstream, GatedUpstream};
use crate::pace::{Said, random};
use crate::reply::Refusal;
use crate::verify::{Allow, MARGIN, Unavailable, Verdict};
use directory::{Directory, Entry, NameError, ResolveError, TypedName, Verdict as DirectoryVerdict};
use domain::settings::Appended;
use domain::{DirectoryRef, Method, NameForm, Protocol, Reason, Secret};
use fail_open::{Admission, Login, NoPass};
use ldap_wire::connection::PendingBind;
use ldap_wire::{Authentication, BindResponse, Control, ResultCode};
use lockout_guard::Turn;
use policy::appended::{Forms, Rule, Split, split};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::Instrument;

/// What the first lock says.
pub enum FirstLock {
    Passed(Box<Passed>),
    Refused(Box<Refused>),
}

/// The directory accepted the password.
pub struct Passed {
    pub bind: PendingBind,
    pub response: BindResponse,
    pub controls: Vec<Control>,
    pub upstream: GatedUpstream,
    pub second: SecondLock,
}

/// It did not, or was not asked.
pub struct Refused {
    pub bind: PendingBind,
    pub attempt: Attempt,
    pub refusal: Refusal,
}

/// What the second lock needs.
pub struct SecondLock {
    pub attempt: Attempt,
    asks: Asks,
}

/// What stood behind the password, and what may stand in for the second lock.
struct Asks {
    code: Option<Secret>,
    wanted: Option<Method>,
    /// The code was right, and was spent before the bind.
    spent: bool,
    /// Verification is down, and the client lets people in (V-40).
    admission: Option<Admission>,
    /// When the name had been typed, and when the directory had said yes.
    asked: Instant,
    accepted: Instant,
}

/// Checks name and password. `reuse` is the client's own upstream connection, if it can take another bind.
pub async fn first_lock(mut attempt: Attempt, bind: PendingBind, reuse: Option<BindableUpstream>) -> FirstLock {
    let (span, deadline) = (attempt.span.clone(), attempt.deadline());
    let check = check_password(&mut attempt, &bind, reuse).instrument(span);
    let refusal = match tokio::time::timeout_at(deadline, check).await {
        Ok(Ok(opened)) => {
            let Opened { response, controls, upstream, asks } = opened;
            let second = SecondLock { attempt, asks };
            return FirstLock::Passed(Box::new(Passed { bind, response, controls, upstream, second }));
        }
        Ok(Err(refusal)) => refusal,
        Err(_) => Refusal::No(Reason::NoAnswer),
    };
    FirstLock::Refused(Box::new(Refused { bind, attempt, refusal }))
}

/// Asks for the decision.
pub async fn second_lock(lock: SecondLock) -> (Attempt, Result<Allow, Refusal>) {
    let SecondLock { mut attempt, asks } = lock;
    let (span, deadline) = (attempt.span.clone(), attempt.deadline());
    let decision = decide(&mut attempt, asks).instrument(span);
    let decided = tokio::time::timeout_at(deadline, decision).await.unwrap_or(Err(Refusal::No(Reason::NoAnswer)));
    (attempt, decided)
}

async fn decide(attempt: &mut Attempt, asks: Asks) -> Result<Allow, Refusal> {
    let (asked, accepted) = (asks.asked, asks.accepted);
    let decided = decision(attempt, asks).await;
    let (pace, now) = (attempt.pace(), Instant::now());
    let due = match &decided {
        Err(Refusal::No(_)) => pace.after_yes(asked, accepted, now, random()),
        Err(Refusal::Unavailable(_)) if attempt.hides_unavailability() => {
            pace.undecided(asked, accepted, now, random())
        }
        _ => return decided,
    };
    tokio::time::sleep_until(in_time(attempt, due)).await;
    decided
}

async fn decision(attempt: &mut Attempt, asks: Asks) -> Result<Allow, Refusal> {
    let Asks { code, wanted, spent, admission, accepted, .. } = asks;
    attempt.verification_is_asked(wanted.or(code.is_some().then_some(Method::Code)));
    let verifier = attempt.verifier();
    let deadline = attempt.deadline();
    let verdict = match spent {
        true => verifier.complete(&attempt.subject, deadline).await,
        false => verifier.begin(&attempt.subject, code, wanted, deadline).await,
    };
    let verdict = match (verdict, admission) {
        (Err(Unavailable { nobody_there: true, .. }), Some(admission)) => {
            return let_in_while_down(attempt, admission).await;
        }
        (verdict, _) => verdict.map_err(no_decision)?,
    };
    match verdict {
        Verdict::Allow(allow) => {
            attempt.verification_decided();
            learn_decision(attempt, allow.method(), accepted, Said::Yes);
            Ok(allow)
        }
        Verdict::Deny { reason, method } => {
            attempt.note_method(method);
            attempt.verification_decided();
            learn_decision(attempt, method, accepted, Said::No);
            if reason == Reason::MethodImpossible {
                tracing::warn!(
                    client = attempt.client.name(),
                    request_id = %attempt.subject.transaction,
                    "the person has no method left that an LDAP bind can carry; let the client take codes after the password"
                );
            }
            Err(Refusal::No(reason))
        }
        // Only asked for with the password pending; verify refuses it here.
        Verdict::CodeAccepted => Err(Refusal::Unavailable(Reason::InternalError)),
    }
}

/// What a decision takes that waits for nobody: no phone rang, and a code is there or it is not.
fn learn_decision(attempt: &Attempt, method: Option<Method>, accepted: Instant, said: Said) {
    if method.is_none_or(|method| method == Method::Code) {
        attempt.pace().learn_decision(accepted.elapsed(), Instant::now(), said);
    }
}

/// V-40: the password was right, and nobody is there to decide.
async fn let_in_while_down(attempt: &mut Attempt, admission: Admission) -> Result<Allow, Refusal> {
    let subject = &attempt.subject;
    let login = Login {
        transaction: subject.transaction,
        protocol: Protocol::Ldap,
        username: &subject.username,
        client_ip: subject.client_ip.to_string(),
        calling_station: "",
    };
    let passed = attempt.fail_open().record(admission, &login, attempt.deadline() - MARGIN).await.map_err(|why| {
        tracing::warn!(request_id = %subject.transaction, %why, "nobody is let in while verification is down");
        Refusal::Unavailable(Reason::VerificationUnavailable)
    })?;
    let allow = Allow::while_down(&passed, subject).ok_or(Refusal::Unavailable(Reason::InternalError))?;
    attempt.let_in_while_down();
    Ok(allow)
}

/// `None` while verification is not down, and everything goes its way.
fn unless_it_passes<T>(passes: Result<T, NoPass>) -> Result<Option<T>, NoPass> {
    match passes {
        Ok(passes) => Ok(Some(passes)),
        Err(NoPass::NotDown) => Ok(None),
        Err(why) => {
            tracing::debug!(%why, "verification is down, and nobody is let in");
            Err(why)
        }
    }
}

fn no_decision(unavailable: Unavailable) -> Refusal {
    match unavailable.reason {
        // The client's wait is over (FL-09).
        Reason::NoAnswer => Refusal::No(Reason::NoAnswer),
        reason => Refusal::Unavailable(reason),
    }
}

/// Both halves of what the first lock leaves to the second.
struct Opened {
    response: BindResponse,
    controls: Vec<Control>,
    upstream: GatedUpstream,
    asks: Asks,
}

/// Who it is, and whether the directory says yes. Where "nobody can say" is told as a No, it takes the time of one (L-40, L-41).
async fn check_password(
    attempt: &mut Attempt,
    bind: &PendingBind,
    reuse: Option<BindableUpstream>,
) -> Result<Opened, Refusal> {
    let begun = Instant::now();
    let opened = open_first_lock(attempt, bind, reuse).await;
    if matches!(opened, Err(Refusal::Unavailable(_))) && attempt.hides_unavailability() {
        let due = attempt.pace().without_bind(begun, random());
        tokio::time::sleep_until(in_time(attempt, due)).await;
    }
    opened
}

async fn open_first_lock(
    attempt: &mut Attempt,
    bind: &PendingBind,
    reuse: Option<BindableUpstream>,
) -> Result<Opened, Refusal> {
    let home = attempt.client.directory.clone().ok_or(Refusal::Unavailable(Reason::DirectoryError))?;
    // While nobody can decide, a password is tried only where it may be enough: the answer would tell whether it was right (B5).
    unless_it_passes(attempt.fail_open().applies_to(&attempt.client.settings))
        .map_err(|_| Refusal::Unavailable(Reason::VerificationUnavailable))?;
    knows_all(&home, &bind.insists_on).await?;
    if reuse.as_ref().is_some_and(|upstream| upstream.leads_to(&home)) {
        attempt.binds_again();
    }
    let asked = Instant::now();
    let (meant, password) = match &bind.request.authentication {
        Authentication::Simple(password) => {
            let typed = std::str::from_utf8(&bind.request.name).map_err(|_| Refusal::BadName)?;
            attempt.note_tail(Factors::may_have_tail(attempt, password.expose()));
            (who(attempt, &home, typed, asked).await?, Secret::new(password.expose()))
        }
        // EXTERNAL: nothing else comes here.
        Authentication::Sasl { .. } | Authentication::Other { .. } => whose(attempt, &home, asked).await?,
    };
    let Meant { directory, entry, .. } = &meant;
    let until = attempt.deadline() - MARGIN;
    let admitted = Box::pin(attempt.fail_open().admit(&attempt.client.settings, directory, entry, until)).await;
    let admission = match unless_it_passes(admitted) {
        Ok(admission) => admission,
        // Not in the group: answered as if there were nobody of this name.
        Err(_) => return Err(without_bind(attempt, asked, Reason::VerificationUnavailable).await),
    };
    let Factors { password, code, wanted, spent } =
        Factors::of(attempt, password.expose(), admission.is_some(), asked).await?;
    may_be_tried(attempt, entry, &password, asked).await?;
    let turn = turn(attempt, directory, entry, admission.is_some(), asked).await?;
    let answered = bind_upstream(attempt, &meant, &password, &bind.controls, reuse, asked).await;
    turn.ended(attempt.first.as_ref().and_then(|first| first.refused));
    let answered = match answered {
        Err(Refusal::No(reason)) => return Err(after_bind(attempt, &meant, asked, reason).await),
        answered => answered?,
    };
    let accepted = Instant::now();
    let Answered { response, controls, upstream, .. } = answered;
    attempt.note_password(password.expose());
    let upstream = upstream.gate(attempt.subject.transaction);
    Ok(Opened { response, controls, upstream, asks: Asks { code, wanted, spent, admission, asked, accepted } })
}

/// Whether a critical control is a reason to refuse is asked before anybody is looked for, so that it is the same for all names (L-41).
async fn knows_all(home: &Directory, insisted_on: &[&str]) -> Result<(), Refusal> {
    if insisted_on.is_empty() {
        return Ok(());
    }
    match home.knows_controls(insisted_on).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Refusal::UnknownControl),
        Err(error) => {
            tracing::warn!(error = %service_kit::chain(&error), "the directory was not heard on the controls it knows");
            Err(Refusal::Unavailable(error.reason()))
        }
    }
}

/// The one entry that is meant (L-20), and the directory that has it.
struct Meant {
    directory: Arc<Directory>,
    entry: Entry,
    /// The name that was looked up, where it was found before it had been looked for in every way.
    found_early: Option<TypedName>,
}

impl Meant {
    /// Looks for the name in whatever way is left: whose answers take longer must not tell that there is somebody (L-41).
    async fn ask_on(&self, attempt: &Attempt) {
        let (Some(home), Some(name)) = (&attempt.client.directory, &self.found_early) else { return };
        attempt.settings().ask_on(home, name, (&self.directory, &self.entry)).await;
        if !attempt.client.settings.service_accounts.is_empty() {
            drop(home.resolve_any(name).await);
        }
    }
}

/// Who is meant, and whether it is a service account of this client.
async fn who(attempt: &mut Attempt, home: &Arc<Directory>, typed: &str, asked: Instant) -> Result<Meant, Refusal> {
    attempt.subject.username = typed.to_owned();
    let name = match TypedName::parse(typed, home.settings()) {
        Ok(name) => name,
        Err(NameError::BadDn(_)) => return Err(Refusal::BadName),
        Err(_) => return Err(without_bind(attempt, asked, Reason::UnknownUser).await),
    };
    attempt.note_form(name.form());
    let listed = listed_by_dn(attempt, home, &name).await;
    let found = match listed {
        Some(listed) => listed.map(|entry| (Arc::clone(home), entry)),
        None => attempt.settings().resolve(home, &name).await,
    };
    attempt.note_domain(attempt.settings().other_domain(home, &name));
    let found = match found {
        Err(ResolveError::Absent | ResolveError::Name(_)) => {
            service_account(attempt, home, &name).await.map(|entry| (Arc::clone(home), entry, None))
        }
        found => found.map(|(directory, entry)| (directory, entry, Some(name))),
    };
    let (directory, entry, found_early) = match found {
        Ok(found) => found,
        Err(error) if error.is_unavailable() => {
            tracing::warn!(error = %service_kit::chain(&error), "a name could not be looked up");
            return Err(Refusal::Unavailable(error.reason()));
        }
        Err(error) => return Err(without_bind(attempt, asked, error.reason()).await),
    };
    attempt.subject.service_account = Arc::ptr_eq(&directory, home) && is_listed(attempt, &entry).await;
    attempt.note_entry(&directory, &entry);
    // Service accounts are listed by what they are.
    if !attempt.subject.service_account && !attempt.client.settings.takes_form(entry.form) {
        // R-60
        tracing::warn!(
            client = attempt.client.name(),
            request_id = %attempt.subject.transaction,
            name_form = entry.form.code(),
            "a name came in a form that name_forms does not list"
        );
        return Err(without_bind(attempt, asked, Reason::ProtocolUnsupported).await);
    }
    Ok(Meant { directory, entry, found_early })
}

/// The service account that the connection's certificate stands for, and what it binds with at the directory (L-36). It is the
/// account itself that binds there, so that it may there what it always may.
async fn whose(attempt: &mut Attempt, directory: &Arc<Directory>, asked: Instant) -> Result<(Meant, Secret), Refusal> {
    let (client, source) = (Arc::clone(&attempt.client), attempt.subject.client_ip);
    let shown = attempt.certificate.clone();
    attempt.subject.username = shown.as_ref().map_or(String::new(), |shown| shown.mark().to_owned());
    let Some((account, password)) = shown.as_ref().and_then(|shown| client.account_of(source, shown)) else {
        return Err(without_bind(attempt, asked, Reason::UnknownUser).await);
    };
    let Some(id) = &account.id else { return Err(without_bind(attempt, asked, Reason::UnknownUser).await) };
    let mut found = directory.resolve_any(&TypedName::of_id(id)).await;
    if let (Err(ResolveError::Absent), Ok(name)) = (&found, TypedName::parse(&account.name, directory.settings())) {
        // Outside of the base, where ids are not looked for.
        found = directory.resolve_any(&name).await;
    }
    match found {
        Ok(entry) if entry.subject.id == *id => {
            attempt.subject.service_account = true;
            attempt.note_entry(directory, &entry);
            Ok((Meant { directory: Arc::clone(directory), entry, found_early: None }, password.clone()))
        }
        Err(error) if error.is_unavailable() => {
            tracing::warn!(error = %service_kit::chain(&error), "a service account could not be looked up");
            Err(Refusal::Unavailable(error.reason()))
        }
        Ok(_) | Err(_) => Err(without_bind(attempt, asked, Reason::UnknownUser).await),
    }
}

/// The service account that is listed by this very DN. Most do not look like users: it is not looked for among them first, where no
/// other domain could have the DN.
async fn listed_by_dn(
    attempt: &Attempt,
    home: &Arc<Directory>,
    name: &TypedName,
) -> Option<Result<Entry, ResolveError>> {
    let (client, source) = (&attempt.client, attempt.subject.client_ip);
    let shown = attempt.certificate.as_deref();
    let is_named = name.form() == NameForm::DistinguishedName && client.names(name.as_str(), source, shown);
    if !is_named || home.settings().includes_trusted_domains() {
        return None;
    }
    match home.resolve_any(name).await {
        Ok(entry) => client.lists(&entry.subject.id, source, shown).then_some(Ok(entry)),
        Err(error) => error.is_unavailable().then_some(Err(error)),
    }
}

/// Service accounts need not look like users: whatever has the name counts, but only if its id is listed here.
async fn service_account(
    attempt: &Attempt,
    directory: &Arc<Directory>,
    name: &TypedName,
) -> Result<Entry, ResolveError> {
    if attempt.client.settings.service_accounts.is_empty() {
        return Err(ResolveError::Absent);
    }
    match directory.resolve_any(name).await {
        Ok(entry) if is_listed(attempt, &entry).await => Ok(entry),
        Ok(_) => Err(ResolveError::Absent),
        Err(error) => Err(error),
    }
}

/// By immutable id and source (L-22). An account that is listed by name only is looked up now.
async fn is_listed(attempt: &Attempt, entry: &Entry) -> bool {
    let (client, source) = (&attempt.client, attempt.subject.client_ip);
    let shown = attempt.certificate.as_deref();
    if client.lists(&entry.subject.id, source, shown) {
        return true;
    }
    let settings = attempt.settings();
    client.has_unpinned()
        && settings.pin_at_bind(client).await
        && settings.current().client(source).is_some_and(|now| {
            now.name() == client.name()
                && now.settings.target == client.settings.target
                && now.lists(&entry.subject.id, source, shown)
        })
}

/// The password to bind with, and what becomes of the code behind it (L-50 to L-55).
struct Factors {
    password: Secret,
    code: Option<Secret>,
    wanted: Option<Method>,
    spent: bool,
}

impl Factors {
    /// Whether verification is asked about a code before the bind, for whoever has one that looks like it.
    fn may_have_tail(attempt: &Attempt, typed: &[u8]) -> bool {
        let rule = Rule::from(&attempt.client.settings);
        rule.appended == Appended::Optional && matches!(split(rule, &Forms::any(), typed), Split::Code { .. })
    }

    /// `passing`: verification is down, and the person is let in if the password is right. Nobody can say then what they could have
    /// appended, so that whatever looks like it is taken off.
    async fn of(attempt: &mut Attempt, typed: &[u8], passing: bool, asked: Instant) -> Result<Self, Refusal> {
        let rule = Rule::from(&attempt.client.settings);
        let alone = |password: &[u8]| Self { password: Secret::new(password), code: None, wanted: None, spent: false };
        if rule.appended == Appended::Off || attempt.subject.service_account {
            return Ok(alone(typed));
        }
        let verifier = attempt.verifier();
        let deadline = attempt.deadline();
        let forms = match verifier.appended_forms(&attempt.subject, deadline).await {
            Err(Unavailable { nobody_there: true, .. }) if passing => Forms::any(),
            forms => forms.map_err(no_decision)?,
        };
        match split(rule, &forms, typed) {
            Split::Whole => Ok(alone(typed)),
            Split::Method { head, wanted } => Ok(Self { wanted, ..alone(head) }),
            Split::NoMatch => Err(without_bind(attempt, asked, Reason::WrongCode).await),
            Split::EmptyPassword => Err(without_bind(attempt, asked, Reason::EmptyPassword).await),
            Split::Code { head, code } if rule.appended == Appended::Required => {
                Ok(Self { code: Some(Secret::new(code)), ..alone(head) })
            }
            Split::Code { head, code } => {
                attempt.verification_is_asked(Some(Method::Code));
                let verdict = match verifier.begin_with_code(&attempt.subject, Secret::new(code), deadline).await {
                    Err(Unavailable { nobody_there: true, .. }) if passing => return Ok(alone(head)),
                    verdict => verdict.map_err(no_decision)?,
                };
                match verdict {
                    Verdict::CodeAccepted => Ok(Self { spent: true, ..alone(head) }),
                    Verdict::Deny { reason, .. } if is_about_the_code(reason) => Ok(alone(typed)),
                    Verdict::Deny { reason, method } => {
                        attempt.note_method(method);
                        attempt.verification_decided();
                        Err(without_bind(attempt, asked, reason).await)
                    }
                    // Not before the password: verify refuses it, and so does this.
                    Verdict::Allow(_) => Err(Refusal::Unavailable(Reason::InternalError)),
                }
            }
        }
    }
}

/// The digits were no code that counts, so that they may belong to the password (L-52 b, L-54).
fn is_about_the_code(reason: Reason) -> bool {
    matches!(reason, Reason::WrongCode | Reason::ReusedCode | Reason::LockedOut | Reason::RateLimited)
}

/// A No goes out when it is due, or while it can still be told: what the client does not wait for would be another answer.
fn in_time(attempt: &Attempt, due: Instant) -> Instant {
    due.min(attempt.deadline() - MARGIN)
}

/// A No that no bind stands behind, after as long as one takes (L-41).
async fn without_bind(attempt: &Attempt, since: Instant, reason: Reason) -> Refusal {
    let due = attempt.pace().without_bind(since, random());
    tokio::time::sleep_until(in_time(attempt, due)).await;
    Refusal::No(reason)
}

/// A No of the directory, after as long as an unknown name and a No of verification take (L-40, L-41). Nobody else's try waits for that (L-56), and it is the same No
/// where the time of the client does not suffice.
async fn after_bind(attempt: &Attempt, meant: &Meant, asked: Instant, reason: Reason) -> Refusal {
    let until = attempt.deadline() - MARGIN;
    if tokio::time::timeout_at(until, meant.ask_on(attempt)).await.is_ok() {
        attempt.pace().learn(asked.elapsed(), Instant::now(), Said::No);
    }
    let due = attempt.pace().after_no(asked, Instant::now(), random());
    tokio::time::sleep_until(in_time(attempt, due)).await;
    Refusal::No(reason)
}

/// None where the answer is known beforehand.
async fn may_be_tried(attempt: &mut Attempt, entry: &Entry, password: &Secret, asked: Instant) -> Result<(), Refusal> {
    if password.is_empty() || entry.dn.is_empty() {
        // A directory would take it for an anonymous bind and say yes (L-10).
        return Err(without_bind(attempt, asked, Reason::EmptyPassword).await);
    }
    if attempt.was_refused(password) {
        // The answer is the same, and the directory counts no try for it (FB-02).
        attempt.first = Some(First { refused: Some(Reason::BadPassword), via: None, elapsed: Duration::ZERO });
        return Err(without_bind(attempt, asked, Reason::BadPassword).await);
    }
    Ok(())
}

/// None where one more might lock the account (L-56). `passing`: verification is down, and the person is let in if the password is
/// right.
async fn turn(
    attempt: &mut Attempt,
    directory: &Directory,
    entry: &Entry,
    passing: bool,
    asked: Instant,
) -> Result<Turn, Refusal> {
    let (guard, limits) = (attempt.lockout_guard(), directory.settings().lockout_guard);
    let until = attempt.deadline() - MARGIN;
    let turn = match passing {
        false => guard.reserve(limits, &entry.subject, until).await,
        true => guard.reserve_if_known(limits, &entry.subject, until).await,
    };
    match turn {
        Ok(turn) => Ok(turn),
        Err(reason) => {
            attempt.first = Some(First { refused: Some(reason), via: None, elapsed: Duration::ZERO });
            match reason {
                Reason::RateLimited => Err(without_bind(attempt, asked, reason).await),
                reason => Err(Refusal::Unavailable(reason)),
            }
        }
    }
}

/// The one bind. A second server is asked only where the first said that it cannot serve (L-34).
async fn bind_upstream(
    attempt: &mut Attempt,
    meant: &Meant,
    password: &Secret,
    controls: &[Control],
    mut reuse: Option<BindableUpstream>,
    asked: Instant,
) -> Result<Answered, Refusal> {
    let Meant { directory, entry, .. } = meant;
    let started = Instant::now();
    for last_try in [false, true] {
        let upstream = match reuse.take().filter(|upstream| upstream.leads_to(directory)) {
            Some(upstream) => upstream,
            None => connect(attempt, directory, started).await?,
        };
        let server = upstream.server().clone();
        let span = tracing::info_span!(
            "directory.bind",
            otel.kind = "client",
            server.address = server.host(),
            twinlock.directory = directory.name().as_str(),
            twinlock.outcome = tracing::field::Empty,
        );
        let limit = Duration::from_secs(directory.settings().timeout_seconds.into());
        let sent = Instant::now();
        let answer = upstream.bind(entry, password, controls, limit).instrument(span.clone()).await;
        if !matches!(answer, Ok(None)) {
            let answered = answer.as_ref().ok().and_then(Option::as_ref);
            attempt.note_upstream_bind(directory, answered.map(|it| it.response.result.code), sent.elapsed());
        }
        let first = |refused| Some(First { refused, via: Some(server.host().to_owned()), elapsed: started.elapsed() });
        let answered = match answer {
            Ok(Some(answered)) => answered,
            Ok(None) => {
                span.record("twinlock.outcome", "undecided");
                tracing::warn!(entry = %entry.subject, "an entry has no sAMAccountName to log on with, or the query account may not read it");
                attempt.first = first(Some(Reason::DirectoryError));
                return Err(Refusal::Unavailable(Reason::DirectoryError));
            }
            Err(lost) => {
                span.record("twinlock.outcome", "lost");
                tracing::warn!(%server, error = %service_kit::chain(&lost), "a bind has no answer");
                directory.failed(&server, &lost);
                let reason = match lost {
                    BindLost::Io(_) | BindLost::Timeout => Reason::DirectoryTimeout,
                    BindLost::Frame(_) | BindLost::Protocol | BindLost::Logon(_) => Reason::DirectoryError,
                };
                attempt.first = first(Some(reason));
                return Err(Refusal::Unavailable(reason));
            }
        };
        let result = &answered.response.result;
        if result.is_success() {
            // Also where the password has to be changed first: the control that says so goes out with the answer.
            span.record("twinlock.outcome", "ok");
            attempt.first = first(None);
            attempt.pace().learn(asked.elapsed(), Instant::now(), Said::Yes);
            return Ok(answered);
        }
        let reason = match answered.verdict {
            DirectoryVerdict::Refused(reason) => reason,
            DirectoryVerdict::TryNext => {
                directory.failed(&server, &format_args!("answered a bind with code {}", result.code));
                if !last_try && directory.has_alternative(&server) {
                    continue;
                }
                attempt.first = first(Some(Reason::DirectoryError));
                return Err(Refusal::Unavailable(Reason::DirectoryError));
            }
            DirectoryVerdict::Undecided | DirectoryVerdict::Accepted => {
                span.record("twinlock.outcome", "undecided");
                tracing::warn!(%server, code = result.code.0, "a bind was answered with neither yes nor no");
                attempt.first = first(Some(Reason::DirectoryError));
                return Err(Refusal::Unavailable(Reason::DirectoryError));
            }
        };
        span.record("twinlock.outcome", "refused");
        attempt.first = first(Some(reason));
        return Err(match reason {
            Reason::BadPassword | Reason::UnknownUser => {
                if reason == Reason::BadPassword {
                    attempt.note_refused(password);
                }
                Refusal::No(reason)
            }
            reason => {
                attempt.pace().learn(asked.elapsed(), Instant::now(), Said::Yes);
                let Answered { response, controls, .. } = answered;
                Refusal::Primary { reason, result: response.result, controls }
            }
        });
    }
    Err(Refusal::Unavailable(Reason::DirectoryError))
}

async fn connect(
    attempt: &mut Attempt,
    directory: &Arc<Directory>,
    started: Instant,
) -> Result<BindableUpstream, Refusal> {
    BindableUpstream::connect(directory).await.map_err(|error| {
        tracing::warn!(error = %service_kit::chain(&error), "no server of the directory can be reached");
        let reason = match error.outcome() {
            directory::Outcome::Unreachable | directory::Outcome::Timeout => Reason::DirectoryTimeout,
            _ => Reason::DirectoryError,
        };
        let via = Some(error.server().host().to_owned());
        attempt.first = Some(First { refused: Some(reason), via, elapsed: started.elapsed() });
        Refusal::Unavailable(reason)
    })
}

/// The reason of a bind that was decided without asking anybody, by its answer (L-07, L-09, L-10, L-36). `None`: no attempt to
/// log in, but a wish to be anonymous.
pub fn local_reason(code: ResultCode) -> Option<Reason> {
    match code {
        ResultCode::SUCCESS | ResultCode::INAPPROPRIATE_AUTHENTICATION => None,
        ResultCode::UNWILLING_TO_PERFORM => Some(Reason::EmptyPassword),
        ResultCode::INVALID_CREDENTIALS | ResultCode::INVALID_DN_SYNTAX => Some(Reason::UnknownUser),
        _ => Some(Reason::ProtocolUnsupported),
    }
}

/// Who is meant by a name in an operation: a DN, as a rule. `None`: nobody is found. A name that we cannot read is an error: the
/// directory may know whose it is.
pub async fn named(directory: &Directory, name: &str) -> Result<Option<DirectoryRef>, ResolveError> {
    let name = TypedName::parse(name, directory.settings())?;
    match directory.resolve_any(&name).await {
        Ok(entry) => Ok(Some(entry.subject)),
        Err(ResolveError::Absent) => Ok(None),
        Err(error) => Err(error),
    }
}
