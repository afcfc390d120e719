//! The gateway that checks passwords, faked.

use super::{FakeStore, PASSWORD};
use domain::Secret;
use proto::common::DirectoryRef;
use proto::directory::directories_server::Directories;
use proto::directory::password_check_server::PasswordCheck;
use proto::directory::{
    CheckReply, CheckRequest, FindAttributesReply, FindAttributesRequest, FindPlacesReply, FindPlacesRequest,
    FindUsersReply, FindUsersRequest, FoundUser, HoldersReply, HoldersRequest, Holding, InspectReply, InspectRequest,
    Inspected, NoUser, Person, Place, ProbeReply, ProbeRequest, ResolveReply, ResolveRequest, find_places_request,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Barrier;
use tonic::{Request, Response, Status};

pub fn object_id(number: u8) -> String {
    format!("entryUUID:00000000-0000-0000-0000-0000000000{number:02}")
}

/// Another domain is silent for whoever looks for this.
fn unread(search: &str) -> Vec<String> {
    let why = (search == "partial").then(|| "the domain child.corp.example could not be read".to_owned());
    why.into_iter().collect()
}

/// When everybody changed their password.
pub const STAMP: &str = "20261120120000Z";

pub struct FakeDirectory {
    store: Arc<FakeStore>,
    /// How often a password was checked: each is a bind.
    pub checks: AtomicUsize,
    /// The code that the next call fails with.
    pub fail_next: Mutex<Option<tonic::Code>>,
    /// What was to be tried.
    pub inspected: Mutex<Vec<InspectRequest>>,
    /// The reason that right passwords are refused with.
    pub refuse_with: Mutex<Option<&'static str>>,
    /// So many directories have to be tried at the same time before one is found good.
    pub tried_together: Mutex<Option<Arc<Barrier>>>,
    /// What is wrong with the one user as mapped.
    pub bad_user: Mutex<Option<String>>,
}

impl FakeDirectory {
    pub fn new(store: Arc<FakeStore>) -> Self {
        let (fail_next, inspected, refuse_with) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (tried_together, bad_user) = (Mutex::default(), Mutex::default());
        Self { store, checks: AtomicUsize::new(0), fail_next, inspected, refuse_with, tried_together, bad_user }
    }

    pub fn checks(&self) -> usize {
        self.checks.load(Ordering::SeqCst)
    }
}

#[tonic::async_trait]
impl PasswordCheck for FakeDirectory {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckReply>, Status> {
        self.checks.fetch_add(1, Ordering::SeqCst);
        if let Some(code) = self.fail_next.lock().expect("a lock").take() {
            return Err(Status::new(code, "10.0.0.7 said no"));
        }
        let request = request.into_inner();
        let refused = |reason: &str, person| Ok(Response::new(CheckReply { reason: reason.to_owned(), person }));
        // "stranger" is in the directory and not in the store.
        let subject = match self.store.user(&request.name) {
            Some(user) => user.subject(),
            None if request.name == "stranger" => super::store::subject_of("stranger"),
            None => return refused("unknown_user", None),
        };
        let person = Some(Person {
            subject: Some(subject),
            username: request.name.clone(),
            distinguished_name: format!("uid={},ou=people,dc=example", request.name),
            name_form: "bare".into(),
            password_stamp: STAMP.into(),
        });
        let password = Secret::from(request.password.unwrap_or_default());
        if password.expose() != PASSWORD.as_bytes() {
            return refused("bad_password", person);
        }
        match *self.refuse_with.lock().expect("a lock") {
            Some(reason) => refused(reason, person),
            None => Ok(Response::new(CheckReply { reason: String::new(), person })),
        }
    }

    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<ResolveReply>, Status> {
        let request = request.into_inner();
        assert_eq!(request.directory, "corp", "the application's own directory");
        let person = self.store.user(&request.name).map(|user| Person {
            subject: Some(user.subject()),
            username: request.name.clone(),
            password_stamp: STAMP.into(),
            ..Person::default()
        });
        let reason = if person.is_some() { String::new() } else { "unknown_user".into() };
        Ok(Response::new(ResolveReply { reason, person }))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeReply>, Status> {
        Err(Status::permission_denied("the portal has no use for it"))
    }
}

#[tonic::async_trait]
impl Directories for FakeDirectory {
    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectReply>, Status> {
        if let Some(code) = self.fail_next.lock().expect("a lock").take() {
            return Err(Status::new(code, "query_bind.password: give it again"));
        }
        self.inspected.lock().expect("a lock").push(request.into_inner());
        let together = self.tried_together.lock().expect("a lock").clone();
        if let Some(together) = together {
            together.wait().await;
        }
        let line =
            |about: &str, verdict: &str, text: String| Inspected { about: about.into(), verdict: verdict.into(), text };
        let bad = self.bad_user.lock().expect("a lock").clone().map(|text| line("user", "bad", text));
        let good = bad.is_none();
        let lines = [line("users", "good", "412 users found.".into())].into_iter().chain(bad);
        Ok(Response::new(InspectReply { good, lines: lines.collect() }))
    }

    /// "ann", who is known, and "new", who is not; a page has one of them.
    async fn find_users(&self, request: Request<FindUsersRequest>) -> Result<Response<FindUsersReply>, Status> {
        let request = request.into_inner();
        let searched = [&request.search, &request.filter, &request.below].into_iter().any(|text| !text.is_empty());
        if !request.group.is_empty() && (searched || !request.names.is_empty()) {
            return Err(Status::invalid_argument("members of a group are listed, or users are searched, not both"));
        }
        self.store.note(format!("find {:?} of group {:?}", request.search, request.group));
        let user = |number, username: &str| FoundUser {
            object_id: object_id(number),
            username: username.into(),
            distinguished_name: format!("uid={username},dc=corp"),
            ..FoundUser::default()
        };
        let (ann, new) = (user(1, "ann"), user(2, "new"));
        let mut reply = FindUsersReply { total: 2, more: request.filter == "(many=*)", ..FindUsersReply::default() };
        reply.unread = unread(&request.search);
        match (request.names.as_slice(), request.after.as_str()) {
            ([], "") => (reply.users, reply.next) = (vec![ann], "ann".into()),
            ([], _) => reply.users = vec![new],
            (names, _) => {
                for name in names {
                    match name.as_str() {
                        "ann" => reply.users.push(ann.clone()),
                        "new" => reply.users.push(new.clone()),
                        _ => reply.no_users.push(NoUser { name: name.clone(), reason: "unknown_user".into() }),
                    }
                }
            }
        }
        Ok(Response::new(reply))
    }

    /// One container, one group.
    async fn find_places(&self, request: Request<FindPlacesRequest>) -> Result<Response<FindPlacesReply>, Status> {
        if let Some(code) = self.fail_next.lock().expect("a lock").take() {
            return Err(Status::new(code, "dc1 said no"));
        }
        let request = request.into_inner();
        let name = match request.kind() {
            find_places_request::Kind::Groups => "vpn",
            _ => "people",
        };
        let place =
            Place { object_id: object_id(9), name: name.into(), distinguished_name: format!("ou={name},dc=corp") };
        Ok(Response::new(FindPlacesReply {
            places: vec![place],
            more: false,
            name_attribute: "ou, cn".into(),
            base: "o=corp,c=se".into(),
            unread: unread(&request.search),
        }))
    }

    /// A schema of two attributes.
    async fn find_attributes(
        &self,
        request: Request<FindAttributesRequest>,
    ) -> Result<Response<FindAttributesReply>, Status> {
        if let Some(code) = self.fail_next.lock().expect("a lock").take() {
            return Err(Status::new(code, "10.0.0.7 said no"));
        }
        let names = ["mail", "uid"].map(str::to_owned).to_vec();
        let unknown = request.into_inner().attributes.into_iter().filter(|it| !names.contains(it)).collect();
        Ok(Response::new(FindAttributesReply { names, unknown }))
    }

    /// "ann" is in the second directory, and of all its items but those of groups.
    async fn holders(&self, request: Request<HoldersRequest>) -> Result<Response<HoldersReply>, Status> {
        let request = request.into_inner();
        if request.directory != "second" || request.name != "ann" {
            return Ok(Response::new(HoldersReply { reason: "unknown_user".into(), ..HoldersReply::default() }));
        }
        let items = request.items_json.iter().map(|item| Holding {
            sync_item: serde_json::from_str::<serde_json::Value>(item).expect("JSON")["name"]
                .as_str()
                .unwrap_or_default()
                .into(),
            holds: !item.contains("group"),
            why: "as told".into(),
        });
        let subject = DirectoryRef { directory: "second".into(), object_id: object_id(1) };
        let person = Person { subject: Some(subject), username: "ann".into(), ..Person::default() };
        Ok(Response::new(HoldersReply { items: items.collect(), person: Some(person), ..HoldersReply::default() }))
    }
}
