//! What administrators ask of a directory: this part owns the connections.
//!
//! ```text
//! inspect     does it serve as the settings want it, saved or not (FD-11)   inspect
//! find_users  who is in it, known here or not (FS-16)                       find
//! find_places its containers and groups by their names (FS-16, FD-33)       places
//! find_attributes  those of its schema (FD-17)                              attributes
//! holders     which sync items hold somebody (FS-08)                        hold
//! ```
//!
//! Nothing is written, and no secret leaves by it (V-83). Who may ask is decided where people and keys are known: the portal, the socket.

mod attributes;
mod domains;
mod find;
mod hold;
mod inspect;
mod places;

use crate::settings::SettingsCopy;
use directory::inspect::Trial;
use directory::{Directory, Incomplete, TypedName};
use domain::Secret;
use domain::settings::SyncItem;
use domains::Domains;
use lockout_guard::LockoutGuard;
use proto::directory::directories_server::Directories;
use proto::directory::{
    FindAttributesReply, FindAttributesRequest, FindPlacesReply, FindPlacesRequest, FindUsersReply, FindUsersRequest,
    HoldersReply, HoldersRequest, InspectReply, InspectRequest,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::{Request, Response, Status, async_trait};

/// Questions at the same time: each reads for seconds, on connections of its own.
const QUESTIONS_MAX: usize = 4;
const QUESTION_LIMIT: Duration = Duration::from_secs(60);

pub struct DirectoryQuestions {
    settings: Arc<SettingsCopy>,
    lockout_guard: LockoutGuard,
    at_once: Semaphore,
}

impl DirectoryQuestions {
    pub(crate) fn new(settings: Arc<SettingsCopy>, lockout_guard: LockoutGuard) -> Self {
        Self { settings, lockout_guard, at_once: Semaphore::new(QUESTIONS_MAX) }
    }

    fn turn(&self) -> Result<SemaphorePermit<'_>, Status> {
        self.at_once.try_acquire().map_err(|_| Status::resource_exhausted("others ask of directories; try again"))
    }

    fn saved(&self, name: &str) -> Result<Arc<Directory>, Status> {
        let missing = || Status::not_found("the settings have no such directory, or it cannot be used");
        self.settings.directory(name).ok_or_else(missing)
    }
}

#[async_trait]
impl Directories for DirectoryQuestions {
    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectReply>, Status> {
        let _turn = self.turn()?;
        let InspectRequest { directory, draft_json, query_password, name, password, sync_password } =
            request.into_inner();
        let directory = match draft_json.as_str() {
            "" => self.saved(&directory)?,
            draft => Arc::new(inspect::draft(draft, query_password.map(Secret::from), |name| self.saved(name).ok())?),
        };
        let trial = Trial {
            name: (!name.is_empty()).then_some(name),
            password: password.map(Secret::from).filter(|password| !password.is_empty()),
            synchronisation: inspect::synchronisation(directory.settings(), sync_password.map(Secret::from))?,
        };
        let saved = self.saved(directory.settings().name.as_str()).ok();
        let tries = inspect::Tries::of(directory.settings(), saved.as_ref().map(|it| it.settings()));
        // Asked for by hand: a place of its own for all that it asks.
        in_time(Box::pin(async { Ok(inspect::directory(&directory, &tries, &self.lockout_guard, trial).await) })).await
    }

    async fn find_users(&self, request: Request<FindUsersRequest>) -> Result<Response<FindUsersReply>, Status> {
        let _turn = self.turn()?;
        let request = request.into_inner();
        let directory = self.saved(&request.directory)?;
        in_time(async {
            directory.ready().await.map_err(|error| Status::unavailable(service_kit::chain(&error)))?;
            find::users(&self.settings, directory, request).await
        })
        .await
    }

    async fn find_places(&self, request: Request<FindPlacesRequest>) -> Result<Response<FindPlacesReply>, Status> {
        let _turn = self.turn()?;
        let request = request.into_inner();
        let directory = self.saved(&request.directory)?;
        in_time(async {
            directory.ready().await.map_err(|error| Status::unavailable(service_kit::chain(&error)))?;
            places::places(&Domains::of(&self.settings, directory).await, request).await
        })
        .await
    }

    async fn find_attributes(
        &self,
        request: Request<FindAttributesRequest>,
    ) -> Result<Response<FindAttributesReply>, Status> {
        let _turn = self.turn()?;
        let request = request.into_inner();
        let directory = self.saved(&request.directory)?;
        in_time(async {
            directory.ready().await.map_err(|error| Status::unavailable(service_kit::chain(&error)))?;
            attributes::attributes(&directory, request).await
        })
        .await
    }

    async fn holders(&self, request: Request<HoldersRequest>) -> Result<Response<HoldersReply>, Status> {
        let _turn = self.turn()?;
        let HoldersRequest { directory, name, items_json } = request.into_inner();
        let items = items_json.iter().map(|item| serde_json::from_str(item)).collect::<Result<Vec<SyncItem>, _>>();
        let items = items.map_err(|error| Status::invalid_argument(format!("sync_item: {error}")))?;
        let directory = self.saved(&directory)?;
        let name = match TypedName::parse(&name, directory.settings()) {
            Ok(name) => name,
            Err(_) => return Ok(Response::new(unknown(domain::Reason::UnknownUser))),
        };
        in_time(async {
            let (at, entry) = match find::who(&self.settings, &directory, &name).await {
                Ok(found) => found,
                Err(error) => return Ok(unknown(error.reason())),
            };
            let domains = Domains::of(&self.settings, directory).await;
            let items = hold::items(&domains, domains.with(&at), &entry, &items).await?;
            let person = Some(crate::password_check::person(&entry));
            Ok(HoldersReply { items, person, reason: String::new() })
        })
        .await
    }
}

fn unknown(reason: domain::Reason) -> HoldersReply {
    HoldersReply { reason: reason.code().to_owned(), ..HoldersReply::default() }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<Response<T>, Status> {
    match tokio::time::timeout(QUESTION_LIMIT, answer).await {
        Ok(answer) => answer.map(Response::new),
        Err(_) => Err(Status::deadline_exceeded("the directory did not answer in time")),
    }
}

/// A reading that has no answer. An administrator reads it.
fn unread(error: &Incomplete) -> Status {
    Status::unavailable(service_kit::chain(error))
}
