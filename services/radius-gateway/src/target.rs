//! The first lock: whoever checks a client's passwords. A name in any form becomes one entry of a directory, then the password is
//! checked once: by a bind with its DN, by a home server, or by the Windows domain. Whatever does not end in a plain
//! yes is a refusal with its reason.

use crate::Gateway;
use crate::affinity::Parked;
use crate::attempt::{Attempt, First, Person};
use crate::home::{self, About, Answered, Envelope, HomeTarget};
use crate::relay::{self, Said};
use crate::reply_rules::Values;
use crate::settings::{Client, CurrentSettings};
use crate::verify::MARGIN;
use crate::winbind::WinbindError;
use crate::windows::WindowsTarget;
use directory::{Attempted, Directory, Entry, Query, ResolveError, TypedName};
use domain::{DirectoryRef, NameForm, Reason, Secret};
use ldap_wire::{Filter, Scope};
use lockout_guard::Turn;
use radius_wire::{Forward, Relayed, Verified};
use service_kit::chain;
use sha2::{Digest, Sha256};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub(crate) struct Target {
    settings: Arc<CurrentSettings>,
    /// Where names are looked up first.
    home: Arc<Directory>,
    /// Where the person is whose name was looked up: elsewhere, where it was their alternate name (FD-19) or of another
    /// domain (FD-02).
    directory: Arc<Directory>,
    checker: Checker,
    /// Spent on it so far.
    took: Duration,
    /// Verification is down, and the person is let in if the password is right.
    pub(crate) passes: bool,
}

/// Who says whether a password is right.
enum Checker {
    Directory,
    Home(Arc<HomeTarget>),
    Windows(Arc<WindowsTarget>),
}

/// Why a name leads to nobody.
#[derive(Clone, Copy)]
pub(crate) enum Unresolved {
    /// Proven: the directory was asked, and has nobody of this name.
    Absent,
    Because(Reason),
}

impl From<Reason> for Unresolved {
    fn from(reason: Reason) -> Self {
        Self::Because(reason)
    }
}

impl From<Unresolved> for Reason {
    fn from(why: Unresolved) -> Self {
        match why {
            Unresolved::Absent => Self::UnknownUser,
            Unresolved::Because(reason) => reason,
        }
    }
}

/// What came of a password that was not wrong.
pub(crate) enum Checked {
    Right,
    /// The home server asks a question of its own first: it goes on to the device.
    Asked(Relayed),
}

impl Target {
    pub(crate) fn of(gateway: &Gateway, client: &Client) -> Result<Self, Reason> {
        let name = &client.settings.target;
        let settings = gateway.settings.clone();
        let (directory, checker) = if let Some(home) = settings.home_target(name) {
            (settings.directory(&home.settings.directory).ok_or(Reason::TargetError)?, Checker::Home(home))
        } else if let Some(windows) = settings.windows_target(name) {
            (settings.directory(&windows.settings.directory).ok_or(Reason::TargetError)?, Checker::Windows(windows))
        } else {
            (settings.directory(name).ok_or(Reason::DirectoryError)?, Checker::Directory)
        };
        Ok(Self { settings, home: directory.clone(), directory, checker, took: Duration::ZERO, passes: false })
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Home servers check what no directory can: it goes on to them as it came.
    pub(crate) fn home(&self) -> Option<&Arc<HomeTarget>> {
        match &self.checker {
            Checker::Home(home) => Some(home),
            Checker::Directory | Checker::Windows(_) => None,
        }
    }

    /// The domain checks MS-CHAPv2, too, and we compute the answer.
    pub(crate) fn windows(&self) -> Option<&Arc<WindowsTarget>> {
        match &self.checker {
            Checker::Windows(windows) => Some(windows),
            Checker::Directory | Checker::Home(_) => None,
        }
    }

    /// Who is meant. An error is an error: nobody is unknown because the directory could not be asked.
    pub(crate) async fn resolve(
        &mut self,
        name: &str,
        attempt: &mut Attempt,
        deadline: Instant,
    ) -> Result<Entry, Unresolved> {
        let resolved = self.look_up(name);
        match self.timed(Box::pin(resolved), Reason::DirectoryTimeout, deadline).await {
            Ok((directory, entry)) => {
                self.directory = directory;
                let (subject, username) = (entry.subject.clone(), entry.username.as_str().into());
                let password_stamp = entry.password_stamp.as_deref().and_then(in_short);
                attempt.person = Some(Person { subject, username, name_form: entry.form, password_stamp });
                Ok(entry)
            }
            Err(why) => {
                let via = attempt.first.take().and_then(|first| first.via);
                attempt.first = Some(First { via, refused: Some(why.into()), took: self.took });
                Err(why)
            }
        }
    }

    /// How a name is written; `None` where it is none.
    pub(crate) fn form_of(&self, name: &str) -> Option<NameForm> {
        TypedName::parse(name, self.home.settings()).ok().map(|name| name.form())
    }

    /// The same for who needs no more of them than who they are.
    pub(crate) async fn subject(mut self, name: &str, deadline: Instant) -> Result<DirectoryRef, Reason> {
        let resolved = self.look_up(name);
        let (_, entry) = self.timed(Box::pin(resolved), Reason::DirectoryTimeout, deadline).await?;
        Ok(entry.subject)
    }

    /// Whether nobody can be meant by a name that the directory could not resolve, so that the target is asked who it is that has it.
    pub(crate) async fn has_nobody(&mut self, name: &str, deadline: Instant) -> Result<bool, Reason> {
        let (settings, home) = (self.settings.clone(), self.home.clone());
        let looked = async move {
            let typed = TypedName::parse(name, home.settings()).map_err(|_| Reason::UnknownUser)?;
            // As it goes on to the target.
            if typed.as_str() != name || !typed.is_plain() {
                return Ok(false);
            }
            settings.has_nobody(&home, &typed).await.map_err(|error| not_looked_up(&home, &error))
        };
        self.timed(Box::pin(looked), Reason::DirectoryTimeout, deadline).await
    }

    fn look_up<'n>(
        &self,
        name: &'n str,
    ) -> impl Future<Output = Result<(Arc<Directory>, Entry), Unresolved>> + use<'n> {
        let (settings, home) = (self.settings.clone(), self.home.clone());
        let of_home_alone = self.windows().is_some();
        async move {
            let name = TypedName::parse(name, home.settings()).map_err(|_| Reason::UnknownUser)?;
            let found = match of_home_alone {
                // The domain checks the passwords of its own people only.
                true => home.resolve(&name).await.map(|entry| (home.clone(), entry)),
                false => settings.resolve(&home, &name).await,
            };
            found.map_err(|error| match error {
                ResolveError::Absent => Unresolved::Absent,
                error if error.is_unavailable() => not_looked_up(&home, &error).into(),
                error => error.reason().into(),
            })
        }
    }

    /// Whom the domain is asked about: the account that was found, by the name that is its own there. What was typed may lead
    /// the domain to another one, which need not even be a user here: one that has it as its principal name.
    pub(crate) fn account(&self, entry: &Entry) -> Result<String, Reason> {
        entry.account_in_domain(self.home.settings()).map_err(|why| {
            tracing::error!(
                service = crate::NAME,
                directory = %self.home.name(),
                error = %why,
                "the Windows domain cannot be asked about a person"
            );
            Reason::DirectoryError
        })
    }

    /// Whom the domain is asked about by a name that nobody of the directory has.
    pub(crate) fn account_named(&self, name: &str) -> Result<String, Reason> {
        let names = self.home.settings();
        let account = TypedName::parse(name, names).ok().and_then(|name| name.account_in_domain(names));
        account.ok_or(Reason::UnknownUser)
    }

    /// The one check of an attempt (R-64, L-52): consumed by it, so there is no second. What was refused a moment ago is refused
    /// again without asking (FB-02).
    pub(crate) async fn check(
        mut self,
        gateway: &Gateway,
        request: &Verified<'_>,
        entry: &Entry,
        password: &Secret,
        attempt: &mut Attempt,
        deadline: Instant,
    ) -> Result<Checked, Reason> {
        let (client, peer) = (attempt.client.clone(), attempt.client_ip.to_string());
        let station = attempt.calling_station.as_deref().unwrap_or_default().to_owned();
        let person_ip = attempt.person_ip.map(|address| address.to_string()).unwrap_or_default();
        let source = [client.name(), &peer, &station, &person_ip];
        let attempted = Attempted { source: &source, subject: &entry.subject, password };
        if gateway.wrong_passwords.was_refused(attempted, Instant::now()) {
            attempt.first = Some(First { via: None, refused: Some(Reason::BadPassword), took: self.took });
            return Err(Reason::BadPassword);
        }
        let turn = self.turn(gateway, entry, attempt, deadline).await?;
        let checked = async {
            match &self.checker {
                Checker::Directory => self.bind(entry, password, attempt, deadline).await.map(|()| Checked::Right),
                Checker::Windows(windows) => {
                    let windows = windows.clone();
                    let account = self.account(entry)?;
                    let checked = windows.password(&account, password, deadline - MARGIN);
                    self.by_domain(&windows, checked, attempt, deadline).await.map(|()| Checked::Right)
                }
                Checker::Home(_) => {
                    let said = self.ask(gateway, request, Some(password), None, attempt, deadline).await?;
                    match said {
                        Said::Accepted => {
                            // The yes has to be about the person whose password it was.
                            let named = attempt.parked.as_ref().and_then(|parked| parked.reply.user_name());
                            if let Some(named) = named {
                                self.must_be(&named, entry, attempt, deadline).await?;
                            }
                            Ok(Checked::Right)
                        }
                        Said::Asked(challenge) => Ok(Checked::Asked(challenge)),
                    }
                }
            }
        };
        let checked = checked.await;
        match &checked {
            // Whoever asks first may look at the password later.
            Ok(Checked::Asked(_)) => turn.undecided(),
            checked => turn.ended(checked.as_ref().err().copied()),
        }
        if matches!(checked, Err(Reason::BadPassword)) {
            gateway.wrong_passwords.refused(attempted, Instant::now());
        }
        checked
    }

    /// The same for a name that nobody of the directory has: there is no account of it whose tries could be counted.
    pub(crate) async fn check_absent(
        mut self,
        gateway: &Gateway,
        request: &Verified<'_>,
        name: &str,
        password: &Secret,
        attempt: &mut Attempt,
        deadline: Instant,
    ) -> Result<Checked, Reason> {
        match &self.checker {
            Checker::Directory => Err(Reason::UnknownUser),
            Checker::Windows(windows) => {
                let windows = windows.clone();
                let account = self.account_named(name)?;
                let checked = windows.password(&account, password, deadline - MARGIN);
                self.by_domain(&windows, checked, attempt, deadline).await.map(|()| Checked::Right)
            }
            Checker::Home(_) => {
                let said = self.ask(gateway, request, Some(password), None, attempt, deadline).await?;
                Ok(match said {
                    Said::Accepted => Checked::Right,
                    Said::Asked(challenge) => Checked::Asked(challenge),
                })
            }
        }
    }

    /// Whether whoever it lets in need not be of its directory.
    pub(crate) fn has_people_of_its_own(&self) -> bool {
        !matches!(self.checker, Checker::Directory)
    }

    /// Whether wrong passwords are counted before its directory does (L-56).
    pub(crate) fn guards_accounts(&self) -> bool {
        self.directory.settings().lockout_guard.is_some()
    }

    /// The leave to have a password checked: whoever checks it asks a directory that may lock accounts (L-56).
    pub(crate) async fn turn(
        &self,
        gateway: &Gateway,
        entry: &Entry,
        attempt: &mut Attempt,
        deadline: Instant,
    ) -> Result<Turn, Reason> {
        let limits = self.directory.settings().lockout_guard;
        let (guard, until) = (&gateway.lockout_guard, deadline - MARGIN);
        let turn = match self.passes {
            false => guard.reserve(limits, &entry.subject, until).await,
            true => guard.reserve_if_known(limits, &entry.subject, until).await,
        };
        if let Err(reason) = &turn {
            attempt.first = Some(First { via: None, refused: Some(*reason), took: self.took });
        }
        turn
    }

    async fn bind(
        &mut self,
        entry: &Entry,
        password: &Secret,
        attempt: &mut Attempt,
        deadline: Instant,
    ) -> Result<(), Reason> {
        let directory = self.directory.clone();
        let mut via = None;
        let bound = async {
            let accepted = directory.authenticate(entry, password).await;
            via = match &accepted {
                Ok(accepted) => Some(accepted.server().to_string().into()),
                Err(error) => error.server().map(|server| server.to_string().into()),
            };
            accepted.map_err(|error| {
                let reason = error.reason();
                if reason.class() == domain::ResultClass::Error {
                    tracing::warn!(service = crate::NAME, directory = %directory.name(), error = %chain(&error), "a password could not be checked");
                }
                reason
            })
        };
        let bound = self.timed(Box::pin(bound), Reason::DirectoryTimeout, deadline).await;
        attempt.first = Some(First { via, refused: bound.as_ref().err().copied(), took: self.took });
        // The yes has to be about the entry that was asked for.
        bound
            .and_then(|accepted| if *accepted.subject() == entry.subject { Ok(()) } else { Err(Reason::InternalError) })
    }

    /// Sends the request on, and reads what its server says. `only`: the place of the server whose State it carries.
    pub(crate) async fn ask(
        &mut self,
        gateway: &Gateway,
        request: &Verified<'_>,
        password: Option<&Secret>,
        only: Option<&str>,
        attempt: &mut Attempt,
        deadline: Instant,
    ) -> Result<Said, Reason> {
        let home = self.home().cloned().ok_or(Reason::InternalError)?;
        let mark = gateway.loop_mark();
        let dictionary = gateway.settings.dictionary();
        let write = |envelope: &Envelope<'_>| {
            let forward = Forward {
                request,
                identifier: envelope.identifier,
                authenticator: envelope.authenticator,
                secret: envelope.secret,
                proxy_state: &mark,
                password: password.map(Secret::expose),
            };
            forward.write(&mut relay::hidden_anew(&dictionary, request, envelope))
        };
        let begun = Instant::now();
        let station = home::station(request.packet());
        let asked = home.ask(About::Authentication, &write, only, station, deadline - MARGIN);
        let answered = self.timed(Box::pin(asked), Reason::TargetTimeout, deadline).await;
        let error = answered.as_ref().err().map(|reason| reason.code());
        gateway.metrics.upstream("target", home.settings.name.as_str(), begun.elapsed(), error);
        let via = answered.as_ref().ok().map(|answered| answered.server.place.as_str().into());
        let said = match answered {
            Ok(Answered { server, reply }) => {
                relay::read(gateway, Parked::new(server.place.clone(), reply), &server, request, attempt).await
            }
            Err(reason) => Err(reason),
        };
        attempt.first = Some(First { via, refused: said.as_ref().err().copied(), took: self.took });
        said
    }

    /// Waits for what the Windows domain says.
    pub(crate) async fn by_domain<T>(
        &mut self,
        windows: &WindowsTarget,
        asked: impl Future<Output = Result<T, WinbindError>>,
        attempt: &mut Attempt,
        deadline: Instant,
    ) -> Result<T, Reason> {
        let name = windows.settings.name.as_str();
        let asked = async {
            asked.await.map_err(|error| {
                let reason = error.reason();
                if reason.class() == domain::ResultClass::Error {
                    tracing::warn!(service = crate::NAME, target = name, error = %chain(&error), "the Windows domain could not be asked");
                }
                reason
            })
        };
        let said = self.timed(Box::pin(asked), Reason::TargetTimeout, deadline).await;
        attempt.first = Some(First { via: Some(name.into()), refused: said.as_ref().err().copied(), took: self.took });
        said
    }

    /// Whoever a home server let in is the one whose name was typed, or nobody is let in.
    async fn must_be(
        &mut self,
        named: &str,
        entry: &Entry,
        attempt: &mut Attempt,
        deadline: Instant,
    ) -> Result<(), Reason> {
        let (person, first) = (attempt.person.clone(), attempt.first.clone());
        let other = self.resolve(named, attempt, deadline).await?;
        (attempt.person, attempt.first) = (person, first);
        if other.subject == entry.subject {
            return Ok(());
        }
        Err(let_in_somebody_else(attempt))
    }

    /// What the directory says of a person, for the reply rules that quote it.
    pub(crate) async fn attributes_of(
        self,
        subject: &DirectoryRef,
        wanted: &[String],
        deadline: Instant,
    ) -> Result<Values, Reason> {
        let directory = self.settings.directory(&subject.directory).ok_or(Reason::DirectoryError)?;
        let read = async {
            let found = self.settings.holder(&directory, &subject.id).await;
            let (directory, entry) = found.map_err(|error| error.reason())?;
            let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
            let query =
                Query { entries_max: 1, ..Query::new(entry.dn, Scope::Base, Filter::present("objectClass"), &wanted) };
            let found = directory.read(query).collect().await.map_err(|error| {
                tracing::warn!(service = crate::NAME, directory = %directory.name(), error = %chain(&error), "a person's attributes could not be read");
                Reason::DirectoryError
            })?;
            Ok(Values::of(&found))
        };
        tokio::time::timeout_at(deadline - MARGIN, Box::pin(read)).await.unwrap_or(Err(Reason::DirectoryTimeout))
    }

    /// `work` has its room while it is worked on, and not in everything that comes after.
    async fn timed<T, E: From<Reason>>(
        &mut self,
        work: Pin<Box<impl Future<Output = Result<T, E>>>>,
        late: Reason,
        deadline: Instant,
    ) -> Result<T, E> {
        let begun = Instant::now();
        let ended = tokio::time::timeout_at(deadline - MARGIN, work).await;
        self.took += begun.elapsed();
        ended.unwrap_or(Err(late.into()))
    }
}

/// A stamp is only compared, with what the same directory says later: of changes, one in sixteen million is not seen.
fn in_short(stamp: &str) -> Option<[u8; 3]> {
    Sha256::digest(stamp).first_chunk().copied()
}

fn not_looked_up(directory: &Directory, error: &ResolveError) -> Reason {
    tracing::warn!(service = crate::NAME, directory = %directory.name(), error = %chain(error), "a name could not be looked up");
    error.reason()
}

pub(crate) fn let_in_somebody_else(attempt: &Attempt) -> Reason {
    tracing::warn!(service = crate::NAME, request_id = %attempt.transaction, "the home server let in somebody else than was typed");
    Reason::TargetError
}
