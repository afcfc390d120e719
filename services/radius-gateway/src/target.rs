//! The first lock: the directory that checks a client's passwords. A name in any form becomes one entry, then one bind with its
//! DN. Whatever does not end in the directory's plain yes is a refusal with its reason.

use crate::Gateway;
use crate::attempt::{Attempt, First, Person};
use crate::verify::MARGIN;
use directory::{Directory, Entry, TypedName};
use domain::{Reason, Secret};
use service_kit::chain;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub(crate) struct Target {
    directory: Arc<Directory>,
    /// Spent on the directory so far.
    took: Duration,
}

impl Target {
    pub(crate) fn of(gateway: &Gateway, attempt: &Attempt) -> Result<Self, Reason> {
        let directory = gateway.settings.directory(&attempt.client.settings.target).ok_or(Reason::DirectoryError)?;
        Ok(Self { directory, took: Duration::ZERO })
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Who is meant. An error is an error: nobody is unknown because the directory could not be asked.
    pub(crate) async fn resolve(
        &mut self,
        name: &str,
        attempt: &mut Attempt,
        deadline: Instant,
    ) -> Result<Entry, Reason> {
        let directory = self.directory.clone();
        let resolved = async {
            let name = TypedName::parse(name, directory.settings()).map_err(|_| Reason::UnknownUser)?;
            directory.resolve(&name).await.map_err(|error| {
                if error.is_unavailable() {
                    tracing::warn!(service = crate::NAME, directory = %directory.name(), error = %chain(&error), "a name could not be looked up");
                }
                error.reason()
            })
        };
        let resolved = self.timed(resolved, deadline).await;
        match &resolved {
            Ok(entry) => {
                let (subject, username) = (entry.subject.clone(), entry.username.clone());
                attempt.person = Some(Person { subject, username, name_form: entry.form });
            }
            Err(reason) => attempt.first = Some(First { via: None, refused: Some(*reason), took: self.took }),
        }
        resolved
    }

    /// The one bind of an attempt (R-64, L-52): consumed by it, so there is no second.
    pub(crate) async fn bind(
        mut self,
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
                Ok(accepted) => Some(accepted.server().to_string()),
                Err(error) => error.server().map(ToString::to_string),
            };
            accepted.map_err(|error| {
                let reason = error.reason();
                if reason.class() == domain::ResultClass::Error {
                    tracing::warn!(service = crate::NAME, directory = %directory.name(), error = %chain(&error), "a password could not be checked");
                }
                reason
            })
        };
        let bound = self.timed(bound, deadline).await;
        attempt.first = Some(First { via, refused: bound.as_ref().err().copied(), took: self.took });
        // The yes has to be about the entry that was asked for.
        bound
            .and_then(|accepted| if *accepted.subject() == entry.subject { Ok(()) } else { Err(Reason::InternalError) })
    }

    async fn timed<T>(
        &mut self,
        work: impl Future<Output = Result<T, Reason>>,
        deadline: Instant,
    ) -> Result<T, Reason> {
        let begun = Instant::now();
        let ended = tokio::time::timeout_at(deadline - MARGIN, work).await;
        self.took += begun.elapsed();
        ended.unwrap_or(Err(Reason::DirectoryTimeout))
    }
}
