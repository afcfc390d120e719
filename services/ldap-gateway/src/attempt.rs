//! One attempt to bind, from its request to its answer, whatever happens in between: one log line, one count, one report.
//!
//! An attempt that is dropped before it was ended is one whose client went away, or that a stopping node gave up: it is
//! withdrawn at verification and recorded as such (L-13).

use crate::Shared;
use crate::certificate::Certificate;
use crate::metrics::{Ended, InFlight};
use crate::pace::{Pace, Way};
use crate::settings::{Client, SettingsCopy};
use crate::verify::{Allow, Subject, Verifier};
use directory::{Attempted, Directory, Entry};
use domain::{Method, NameForm, Reason, Secret, TransactionId};
use fail_open::FailOpen;
use ldap_wire::ResultCode;
use lockout_guard::LockoutGuard;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{Instrument, Span};

pub struct Attempt {
    shared: Arc<Shared>,
    pub client: Arc<Client>,
    pub subject: Subject,
    /// What the connection has shown.
    pub certificate: Option<Arc<Certificate>>,
    pub span: Span,
    /// Where whoever is meant was found.
    pub directory: Option<Arc<Directory>>,
    way: Way,
    started: Instant,
    /// What is known about the first lock, once it was tried.
    pub first: Option<First>,
    second: Second,
    /// What the second step is or was, as far as is known.
    method: Option<Method>,
    in_flight: InFlight,
    ended: bool,
}

/// The directory's part.
pub struct First {
    /// Why not; `None` is a password that was right.
    pub refused: Option<Reason>,
    /// The server that was asked; `None` if none could be.
    pub via: Option<String>,
    pub elapsed: Duration,
}

/// Verification's part.
enum Second {
    NotAsked,
    /// Asked, and nobody knows what it said.
    Asked(Instant),
    /// It decided, and recorded what it decided.
    Decided(Duration),
    /// It could not be asked, and there is an event that says so.
    LetIn,
}

impl Attempt {
    pub fn begin(
        shared: &Arc<Shared>,
        client: &Arc<Client>,
        source: IpAddr,
        certificate: Option<Arc<Certificate>>,
    ) -> Self {
        let transaction = TransactionId(uuid::Uuid::now_v7());
        let span = tracing::info_span!(
            "ldap.bind",
            otel.kind = "server",
            twinlock.client = client.name(),
            twinlock.request_id = %transaction,
            twinlock.reason = tracing::field::Empty,
        );
        Self {
            shared: Arc::clone(shared),
            client: Arc::clone(client),
            subject: Subject {
                transaction,
                client: client.name().to_owned(),
                client_ip: source,
                person_ip: client.person_address(source),
                password_digest: Vec::new(),
                password_stamp: None,
                entry: None,
                username: String::new(),
                name_form: None,
                service_account: false,
            },
            certificate,
            span,
            directory: None,
            way: Way::default(),
            started: Instant::now(),
            first: None,
            second: Second::NotAsked,
            method: None,
            in_flight: shared.metrics.in_flight(),
            ended: false,
        }
    }

    pub fn verifier(&self) -> Verifier {
        self.shared.verifier.clone()
    }

    /// How long binds of this client take that go the same way.
    pub fn pace(&self) -> Arc<Pace> {
        self.shared.paces.of(self.client.name(), self.way.clone())
    }

    /// The bind goes to the directory on the connection that the client is bound on already.
    pub fn binds_again(&mut self) {
        self.way.again = true;
    }

    /// What was typed is a name of this form.
    pub fn note_form(&mut self, form: NameForm) {
        self.subject.name_form = Some(form);
        self.way.form = Some(form);
    }

    /// What was typed ends in what may be a code that is asked about before the bind.
    pub fn note_tail(&mut self, tail: bool) {
        self.way.tail = tail;
    }

    /// What was typed belongs to this other domain, if to any.
    pub fn note_domain(&mut self, domain: Option<String>) {
        self.way.domain = domain;
    }

    /// Whoever is meant was found, there.
    pub fn note_entry(&mut self, directory: &Arc<Directory>, entry: &Entry) {
        self.subject.name_form = Some(entry.form);
        self.subject.entry = Some(entry.subject.clone());
        self.subject.username.clone_from(&entry.username);
        self.subject.password_stamp.clone_from(&entry.password_stamp);
        self.directory = Some(Arc::clone(directory));
    }

    /// Whether this very password was refused to this person a moment ago, from the same address (FB-02).
    pub fn was_refused(&self, password: &Secret) -> bool {
        self.attempted(password, |attempted| self.shared.wrong.was_refused(attempted, Instant::now())).unwrap_or(false)
    }

    pub fn note_refused(&self, password: &Secret) {
        self.attempted(password, |attempted| self.shared.wrong.refused(attempted, Instant::now()));
    }

    fn attempted<T>(&self, password: &Secret, then: impl FnOnce(Attempted<'_>) -> T) -> Option<T> {
        let address = self.subject.client_ip.to_string();
        let source: &[&str] = &[self.client.name(), &address];
        let subject = self.subject.entry.as_ref()?;
        Some(then(Attempted { source, subject, password }))
    }

    pub fn settings(&self) -> Arc<SettingsCopy> {
        Arc::clone(&self.shared.settings)
    }

    /// A bind was sent; `code` is the directory's answer, if there was one.
    pub fn note_upstream_bind(&self, directory: &Directory, code: Option<ResultCode>, length: Duration) {
        self.shared.metrics.upstream_bind(self.client.name(), code);
        match code {
            Some(_) => self.shared.metrics.upstream_answered(directory.name().as_str(), length),
            None => self.shared.metrics.upstream_failed(directory.name().as_str(), "bind_lost"),
        }
    }

    /// That nobody can decide is told as a wrong password is (B5).
    pub fn hides_unavailability(&self) -> bool {
        self.client.settings.unavailable_code == 49
    }

    /// All of it has to be over by then (FL-09).
    pub fn deadline(&self) -> Instant {
        self.started + Duration::from_secs(self.client.settings.wait_seconds.into())
    }

    pub fn lockout_guard(&self) -> &LockoutGuard {
        &self.shared.lockout_guard
    }

    pub fn fail_open(&self) -> &FailOpen {
        &self.shared.fail_open
    }

    /// The password was right: what stands for it goes along, where the client remembers logins by it (V-32).
    pub fn note_password(&mut self, password: &[u8]) {
        if let Some(entry) = &self.subject.entry {
            self.subject.password_digest = self.shared.passwords.digest(&self.client, entry, password);
        }
    }

    /// Verification is asked for a decision, by this method as far as is known.
    pub fn verification_is_asked(&mut self, method: Option<Method>) {
        self.method = method.or(self.method);
        self.in_flight.waits_for(self.method);
        self.second = Second::Asked(Instant::now());
    }

    /// What verification says that was asked of the person.
    pub fn note_method(&mut self, method: Option<Method>) {
        self.method = method.or(self.method);
    }

    /// Verification could not be asked, and the password was enough. Its event is written (V-40).
    pub fn let_in_while_down(&mut self) {
        self.shared.metrics.fail_open(self.client.name());
        (self.method, self.second) = (None, Second::LetIn);
    }

    /// It gave a decision that ends the attempt, and has recorded it.
    pub fn verification_decided(&mut self) {
        if let Second::Asked(since) = self.second {
            self.second = Second::Decided(since.elapsed());
        }
    }

    /// The answer is sent.
    pub fn end_allowed(self, allow: &Allow) {
        let decision = Decision {
            method: allow.method(),
            assurance: Some(allow.assurance().to_owned()),
            source: allow.source().map(domain::Source::code),
        };
        self.end(allow.reason(), decision, ResultCode::SUCCESS);
    }

    /// The answer, with this code, is sent.
    pub fn end_refused(self, reason: Reason, reply: ResultCode) {
        self.end(reason, Decision::default(), reply);
    }

    fn end(mut self, reason: Reason, decision: Decision, reply: ResultCode) {
        self.record(reason, &decision, Some(reply));
        if !matches!(self.second, Second::Decided(_) | Second::LetIn) {
            self.report(reason, false);
        }
        self.ended = true;
    }

    fn record(&self, reason: Reason, decision: &Decision, reply: Option<ResultCode>) {
        let total = self.started.elapsed();
        let second = match self.second {
            Second::NotAsked | Second::LetIn => None,
            Second::Asked(since) => Some(since.elapsed()),
            Second::Decided(length) => Some(length),
        };
        let known = self.subject.entry.is_some();
        let method = decision.method.or(self.method);
        self.shared.metrics.attempt_ends(&Ended {
            client: self.client.name(),
            reason,
            method,
            password_was_right: self.first.as_ref().is_some_and(|first| first.refused.is_none()),
            first: self.first.as_ref().map(|first| first.elapsed),
            second,
            total,
        });
        self.span.record("twinlock.reason", reason.code());
        let _entered = self.span.enter();
        tracing::info!(
            event = "authentication",
            service = "ldap-gateway",
            request_id = %self.subject.transaction,
            "ref" = self.subject.transaction.short(),
            protocol = "ldap",
            client = self.client.name(),
            client_ip = %self.subject.client_ip,
            user = known.then_some(self.subject.username.as_str()),
            name_form = self.subject.name_form.map(NameForm::code),
            result = reason.class().code(),
            reason = reason.code(),
            first.result = self.first.as_ref().map(|first| first.refused.map_or("ok", Reason::code)),
            first.via = self.first.as_ref().and_then(|first| first.via.as_deref()),
            first.ms = self.first.as_ref().map(|first| first.elapsed.as_millis() as u64),
            second.method = method.map(Method::code),
            second.ms = second.filter(|_| method.is_some()).map(|length| length.as_millis() as u64),
            assurance = decision.assurance.as_deref(),
            source = decision.source,
            reply = reply.map(|code| code.0),
            ms = total.as_millis() as u64,
        );
        if !known && !self.subject.username.is_empty() {
            tracing::debug!(
                request_id = %self.subject.transaction,
                typed = %self.subject.username.escape_debug(),
                "the name as it was typed"
            );
        }
    }

    /// For the audit, by a task of its own: nobody waits for it, a drain does.
    fn report(&self, reason: Reason, cancel: bool) {
        let Some(permit) = self.shared.reports.clone().try_acquire_owned().ok() else {
            tracing::warn!(
                event = "report_lost",
                request_id = %self.subject.transaction,
                reason = reason.code(),
                "too many attempts wait to be reported for the audit"
            );
            return;
        };
        let (verifier, subject) = (self.shared.verifier.clone(), self.subject.clone());
        let reporting = async move {
            if cancel {
                verifier.cancel(&subject, reason).await;
            }
            verifier.report(&subject, reason).await;
            drop(permit);
        };
        drop(self.shared.shutdown.spawn(reporting.instrument(self.span.clone())));
    }
}

#[derive(Default)]
struct Decision {
    method: Option<Method>,
    assurance: Option<String>,
    source: Option<&'static str>,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let stopping = self.shared.shutdown.is_stopping();
        let reason = if stopping { Reason::ShuttingDown } else { Reason::UserCancelled };
        self.record(reason, &Decision::default(), None);
        // The report is the attempt's last event: an Allow that is being committed right now is void, or was first.
        self.report(reason, matches!(self.second, Second::Asked(_)));
    }
}
