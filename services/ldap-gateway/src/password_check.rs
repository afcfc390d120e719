//! Names and passwords for the portal and the command line: this part owns the directory connections.
//!
//! Says whose password it is, and nothing about a second factor: whoever asks has that decided by verification.

use crate::settings::SettingsCopy;
use directory::{Directory, Entry, TypedName};
use domain::{Reason, Secret};
use lockout_guard::LockoutGuard;
use proto::directory::password_check_server::PasswordCheck;
use proto::directory::{
    CheckReply, CheckRequest, Person, ProbeReply, ProbeRequest, ProbedServer, ResolveReply, ResolveRequest,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Request, Response, Status, async_trait};

/// How long a try may wait for others of the same person.
const ASKED_LIMIT: Duration = Duration::from_secs(5);

pub struct PasswordChecks {
    settings: Arc<SettingsCopy>,
    lockout_guard: LockoutGuard,
}

impl PasswordChecks {
    pub(crate) fn new(settings: Arc<SettingsCopy>, lockout_guard: LockoutGuard) -> Self {
        Self { settings, lockout_guard }
    }

    fn directory(&self, name: &str) -> Result<Arc<Directory>, Status> {
        let missing = || Status::not_found("the settings have no such directory, or it cannot be used");
        self.settings.directory(name).ok_or_else(missing)
    }

    /// One try of those that the gateways have as well (L-56, V-86).
    async fn authenticate(&self, directory: &Directory, entry: &Entry, password: &Secret) -> Result<(), Reason> {
        let limits = directory.settings().lockout_guard.filter(|_| !password.is_empty());
        let turn = self.lockout_guard.reserve(limits, &entry.subject, Instant::now() + ASKED_LIMIT).await?;
        let refused = directory.authenticate(entry, password).await.err().map(|error| {
            tracing::debug!(error = %service_kit::chain(&error), "a password was not accepted");
            error.reason()
        });
        turn.ended(refused);
        refused.map_or(Ok(()), Err)
    }

    async fn who(&self, directory: &Arc<Directory>, name: &str) -> Result<(Arc<Directory>, Entry), Reason> {
        let name = TypedName::parse(name, directory.settings()).map_err(|_| Reason::UnknownUser)?;
        self.settings.resolve(directory, &name).await.map_err(|error| {
            if error.is_unavailable() {
                tracing::warn!(error = %service_kit::chain(&error), "a name could not be looked up");
            }
            error.reason()
        })
    }
}

#[async_trait]
impl PasswordCheck for PasswordChecks {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckReply>, Status> {
        let CheckRequest { directory, name, password } = request.into_inner();
        let directory = self.directory(&directory)?;
        let password = password.map(Secret::from).unwrap_or_default();
        let refused = |reason: Reason, person| CheckReply { reason: reason.code().to_owned(), person };
        let reply = match self.who(&directory, &name).await {
            Err(reason) => refused(reason, None),
            // Said before anything is sent, too (L-10); who is meant is known by then.
            Ok((directory, entry)) => match self.authenticate(&directory, &entry, &password).await {
                Ok(()) => CheckReply { reason: String::new(), person: Some(person(&entry)) },
                Err(reason) => refused(reason, Some(person(&entry))),
            },
        };
        Ok(Response::new(reply))
    }

    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<ResolveReply>, Status> {
        let ResolveRequest { directory, name } = request.into_inner();
        let directory = self.directory(&directory)?;
        Ok(Response::new(match self.who(&directory, &name).await {
            Ok((_, entry)) => ResolveReply { reason: String::new(), person: Some(person(&entry)) },
            Err(reason) => ResolveReply { reason: reason.code().to_owned(), person: None },
        }))
    }

    async fn probe(&self, request: Request<ProbeRequest>) -> Result<Response<ProbeReply>, Status> {
        let directory = self.directory(&request.into_inner().directory)?;
        let servers = directory.probe().await.into_iter().map(probed).collect();
        Ok(Response::new(ProbeReply { servers }))
    }
}

pub(crate) fn person(entry: &Entry) -> Person {
    Person {
        subject: Some((&entry.subject).into()),
        username: entry.username.clone(),
        distinguished_name: entry.dn.clone(),
        name_form: entry.form.code().to_owned(),
        password_stamp: entry.password_stamp.clone().unwrap_or_default(),
    }
}

fn probed(server: directory::Probed) -> ProbedServer {
    let (ok, text) = match server.outcome {
        Ok(found) => (true, found.to_string()),
        Err(problem) => (false, problem.to_string()),
    };
    let milliseconds = server.elapsed.as_millis().try_into().unwrap_or(u32::MAX);
    ProbedServer { url: server.server.to_string(), ok, text, milliseconds }
}
